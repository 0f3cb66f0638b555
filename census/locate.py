"""Address -> Place, and autonomous system -> kind of network. Reads MMDB files and `data/networks/`; asks no network.

Records are read by their shape, since `database_type` is free text: the shapes of MaxMind (also DB-IP's own files and
IP2Location's), of IPinfo old and new, and the flat one of ip-location-db.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import socket
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import chain, islice
from pathlib import Path
from typing import Any

import maxminddb

from census import hostile, resources
from census.choices import GEO_VARIABLE
from census.errors import DataError, GeoError
from census.model import Place

PLACES_CACHED = 4096
"""Addresses whose places are remembered: several ports of one host are asked close together."""

NETWORKS_CACHED = 16_384
"""(AS, name) pairs whose class is remembered: a scan of the world meets some ten thousand."""

RECORDS_SAMPLED = 1000
"""Records read when a database is opened, to see whether its shape is known."""

LOOKS = 20 * RECORDS_SAMPLED
"""Addresses looked up for them at most: most of a small database says nothing of an address."""

MAX_ASN = 2**32 - 1
"""The largest AS number (RFC 6793); 0 is reserved (RFC 7607)."""

AS_THE_PUBLISHER_STATES = "as its publisher states"
"""The licence of a database that `data/networks/databases.toml` does not know."""

NOWHERE = Place()

_Said = tuple[str | None, str | None, str | None, int | None, str | None]
_NOTHING_SAID: _Said = (None, None, None, None, None)

_SIMULATED = tuple(
    ip_network(text)
    for text in ("240.0.0.0/4", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
)
"""Where simulated hosts live: reserved (RFC 1112) and documentation networks (RFC 5737, 3849, 9637)."""

_SPECIAL = {
    4: "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29 "
    "192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/31 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 "
    "192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 "
    "240.0.0.0/4 255.255.255.255/32",
    6: "::/128 ::1/128 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 "
    "2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 "
    "2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8",
}
"""Special-purpose networks (IANA's registries, RFC 6890): where an answer of `ipaddress` may change to another one. The
answer itself is asked of `ipaddress`, of which each version knows some more of them. ::ffff:0:0/96 is read as IPv4."""

_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins that is written as an IPv6 one."""

_NO_COUNTRY = frozenset({"ZZ", "XX", "AA", "AP", "EU"})
"""Codes in use for an unknown country, a region of addresses or a continent: none is a country."""

_NOTHING = frozenset({"", "-"})
"""How databases write that they do not know; the dash is IP2Location's."""

_NAME_HAS_BRACKETS = re.compile(r"\((?:Oder|Saale|Spree|Havel|Main|Elbe|Ems|Aller|Lahn|Inn|Eder|Hessen)\)$")
"""Towns officially named with a river or land in brackets, such as Frankfurt (Oder): that is no district."""

_DISTRICT = re.compile(r"\s+\((?:[^()]|\([^()]*\))*\)$")
"""A district behind the city, as DB-IP writes it, with one level of brackets inside."""

_AS_NUMBER = re.compile(r"(?:AS)?(\d{1,10})", re.IGNORECASE)


# ---------------------------------------------------------------------------------------------------- records


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    found = value.strip()[: hostile.MAX_TEXT]
    return None if found in _NOTHING else found


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str | None:
    """A name that is text, or MaxMind's `names`: English first, else the first language, else the code."""
    if not isinstance(value, dict):
        return _text(value)
    names = _mapping(value.get("names"))
    return (
        _text(names.get("en")) or next(filter(None, map(_text, names.values())), None) or _text(value.get("iso_code"))
    )


def _code(value: object) -> str | None:
    if not isinstance(value, str) or len(value) != 2 or not (value.isascii() and value.isalpha()):
        return None
    code = value.upper()
    return None if code in _NO_COUNTRY else code


def _city(value: object) -> str | None:
    name = _name(value)
    if name is None or not name.endswith(")") or _NAME_HAS_BRACKETS.search(name):
        return name
    return _DISTRICT.sub("", name) or name


def _region(record: Mapping[Any, Any]) -> str | None:
    parts = record.get("subdivisions")
    first = parts[0] if isinstance(parts, list) and parts else None
    return _name(first) or _text(record.get("state1")) or _text(record.get("region"))


def _country(record: Mapping[Any, Any]) -> str | None:
    """Where the address is; never MaxMind's `registered_country`, which is where its holder is registered.

    IPinfo's `country` is a code in its older files and a name in its newer ones, which have `country_code` too.
    """
    country = record.get("country")
    if isinstance(country, dict):
        return _code(country.get("iso_code"))
    return _code(record.get("country_code")) or _code(country)


def _asn(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        match = _AS_NUMBER.fullmatch(value.strip())
        value = int(match[1]) if match else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= MAX_ASN else None


def _network(record: Mapping[Any, Any]) -> tuple[int | None, str | None]:
    """AS number and name; DB-IP's ISP files keep them below `traits`. The name may be absent."""
    asn = _asn(record.get("autonomous_system_number") or record.get("asn"))
    if asn is not None:
        return asn, _text(record.get("autonomous_system_organization")) or _text(record.get("as_name"))
    traits = record.get("traits")
    return _network(traits) if isinstance(traits, dict) and "traits" not in traits else (None, None)


def _said(record: object) -> _Said:
    """Country, region, city, AS number and AS name of a record: what `normalise` makes a Place of."""
    if not isinstance(record, dict):
        return _NOTHING_SAID
    country = _country(record)
    if country is None:
        return None, None, None, *_network(record)
    return country, _region(record), _city(record.get("city")), *_network(record)


def normalise(record: object) -> Place:
    """What one record of an MMDB file says, read by its shape. Anything it does not say is None; never raises."""
    return Place(*_said(record))


# -------------------------------------------------------------------------------------------------- databases


@dataclass(frozen=True, slots=True)
class Source:
    """One opened database, as recorded in `runs.geo`.

    Attributes:
        file: base name, without the folder. database_type: as its metadata say.
        built_at: when its publisher built it, UTC. sha256: of the whole file, 64 hex digits.
        licence: from `data/networks/databases.toml`, or "as its publisher states".
        attribution: the words that the licence wants beside results; "" where it asks for none.
    """

    file: str
    database_type: str
    built_at: datetime
    sha256: str
    licence: str
    attribution: str


@dataclass(frozen=True, slots=True)
class _Database:
    source: Source
    reader: maxminddb.Reader
    versions: tuple[int, ...]
    """IP versions that may be looked up: the C extension raises for an IPv6 address in an IPv4-only file."""


def default_folder() -> Path:
    """Where `census geo install` puts databases and a scan looks by default.

    `$CENSUS_GEO`, else `census/geo` below `$XDG_DATA_HOME`, else below `~/.local/share`. It need not exist.
    """
    if chosen := os.environ.get(GEO_VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "census" / "geo"


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    """Hash of a file; size and time are there to make a changed file another entry of the cache."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _licence(file: str, database_type: str) -> tuple[str, str]:
    for known in _toml("databases.toml", "database"):
        subjects = {"file": file, "type": database_type}
        if all(re.search(known[key], subjects[key], re.IGNORECASE) for key in subjects if key in known):
            return known["licence"], known["attribution"]
    return AS_THE_PUBLISHER_STATES, ""


def _knows_something(path: Path) -> bool:
    with maxminddb.open_database(path, maxminddb.MODE_MMAP) as careful:
        sample = [_said(_sound(record)) for record in islice(_records(careful), RECORDS_SAMPLED)]
    return not sample or any(said != _NOTHING_SAID for said in sample)


def _sound(value: Any) -> Any:
    """A record whose names are texts, as the C code that looks up supposes. Raises ValueError."""
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("a record has names that are no texts")
        value = {name: _sound(each) for name, each in value.items()}
    return [_sound(each) for each in value] if isinstance(value, list) else value


def _records(reader: maxminddb.Reader) -> Iterator[Any]:
    """Records by address, from the lowest on, in so many looks at most.

    In Python, and not by the library's own iteration, which knows no entry wider than all of IPv4: of a damaged file
    its C code reads, and where the tree has a loop writes, beyond its memory.
    """
    bits, kind = (32, IPv4Address) if reader.metadata().ip_version == 4 else (128, IPv6Address)
    ip = 0
    for _ in range(LOOKS):
        if ip >> bits:
            return
        record, length = reader.get_with_prefix_len(kind(ip))
        if record is not None:
            yield record
        ip = (ip | (1 << (bits - length)) - 1) + 1


def _describe(path: Path, reader: maxminddb.Reader) -> Source:
    metadata, status = reader.metadata(), path.stat()
    built_at = datetime.fromtimestamp(metadata.build_epoch, UTC).replace(tzinfo=None)
    kind = hostile.text(metadata.database_type) or ""
    digest = _sha256(path, status.st_size, status.st_mtime_ns)
    return Source(path.name, kind, built_at, digest, *_licence(path.name, kind))


def _read(path: Path, reader: maxminddb.Reader) -> _Database:
    if not _knows_something(path):
        raise GeoError(
            f"{path}: its records name neither countries nor networks in any shape we know;"
            " give a country, city or AS database"
        )
    return _Database(_describe(path, reader), reader, (4,) if reader.metadata().ip_version == 4 else (4, 6))


_UNUSABLE = (maxminddb.InvalidDatabaseError, OSError, ValueError, OverflowError, TypeError, LookupError, RecursionError)


def _open(path: Path) -> _Database:
    try:
        reader = maxminddb.open_database(path)
    except _UNUSABLE as problem:
        raise GeoError(f"{path}: not a readable MMDB file ({problem}); get it again or leave it out") from None
    try:
        return _read(path, reader)
    except _UNUSABLE as problem:
        reader.close()
        raise GeoError(f"{path}: damaged ({problem}); get it again or leave it out") from None
    except BaseException:
        reader.close()
        raise


def _files(path: Path) -> list[Path]:
    """A file itself, or the *.mmdb files of a folder by name, case aside."""
    if path.is_dir():
        found = sorted(path.glob("*.mmdb"), key=lambda file: (file.name.lower(), file.name))
        if not found:
            raise GeoError(f"{path}: no *.mmdb file in this folder; census geo install gets free ones")
        return found
    if not path.exists():
        raise GeoError(f"{path}: no such file or folder; census geo status shows what is installed")
    return [path]


# --------------------------------------------------------------------------------------------------- addresses


def _is_simulated(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in _SIMULATED)


def _parse(ip: str) -> bytes | None:
    """The address meant, as its 4 or 16 bytes: 4 for an IPv4-mapped IPv6 one; None for any other text."""
    try:
        if "%" in ip:
            packed = ip_address(ip).packed
        else:
            packed = socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    except (OSError, ValueError):
        return None
    return packed[12:] if len(packed) == 16 and packed.startswith(_MAPPED) else packed


@cache
def _ranges(version: int, simulated: bool) -> tuple[list[int], list[bool]]:
    """First addresses of ranges, ascending from 0, and whether those of each may be looked up.

    To ask `ipaddress` for each host would cost as much as to look it up.
    """
    kind = IPv4Address if version == 4 else IPv6Address
    networks = [*map(ip_network, _SPECIAL[version].split()), *_SIMULATED]
    ends = [(int(each[0]), int(each[-1]) + 1) for each in networks if each.version == version]
    firsts = sorted({0, *chain.from_iterable(ends)} - {2 ** kind(0).max_prefixlen})
    return firsts, [_may_look_up(kind(first), simulated) for first in firsts]


def _may_look_up(address: IPv4Address | IPv6Address, simulated: bool) -> bool:
    return (address.is_global and not address.is_multicast) or (simulated and _is_simulated(address))


class Locator:
    """Databases opened together. Where several answer, the first in the order given wins, field by field.

    Country, region and city are one answer and come from one database, the first that knows the country: a city of
    one beside the country of another would be a place that no database names. So a city database goes before a
    country one. An AS name is taken from the first database that names the number that won.
    """

    def __init__(self, databases: Sequence[_Database] = (), *, simulated: bool = False) -> None:
        self._databases = tuple(databases)
        self._by_version = {v: [each for each in databases if v in each.versions] for v in (4, 6)}
        self._simulated = simulated
        self.sources: tuple[Source, ...] = tuple(database.source for database in self._databases)
        self._remembered: Callable[[str], Place] = lru_cache(PLACES_CACHED)(self._find)

    @classmethod
    def open(cls, paths: Sequence[Path] = (), *, simulated: bool = False) -> Locator:
        """Open files, or folders of *.mmdb files, in this order; none at all gives a locator that knows no place.

        simulated: also look up 240.0.0.0/4 and documentation networks, where the simulated internet lives.
        Raises GeoError with path and reason for anything that is not a database of a known shape.
        """
        opened: list[_Database] = []
        try:
            for file in dict.fromkeys(file for path in paths for file in _files(path)):
                opened.append(_open(file))
        except BaseException:
            for database in opened:
                database.reader.close()
            raise
        return cls(opened, simulated=simulated)

    def locate(self, ip: str) -> Place:
        """Where an address is and which AS announces it; the classes of the network are left None.

        Addresses that are not global unicast are never looked up (but see `simulated`): a country database
        answers even for 203.0.113.0/24. Never raises, for whatever text.
        """
        return self._remembered(ip) if self._databases else NOWHERE

    def _find(self, ip: str) -> Place:
        packed = _parse(ip)
        if packed is None:
            return NOWHERE
        version = 4 if len(packed) == 4 else 6
        firsts, allowed = _ranges(version, self._simulated)
        if not allowed[bisect_right(firsts, int.from_bytes(packed)) - 1]:
            return NOWHERE
        if version == 4:
            return self._look_up(socket.inet_ntoa(packed), 4)
        return self._look_up(ip.partition("%")[0], 6)

    def _look_up(self, ip: str, version: int) -> Place:
        return _merge([(_ask(database.reader, ip), database) for database in self._by_version[version]])

    def close(self) -> None:
        """Close the files. Places are unknown afterwards."""
        for database in self._databases:
            database.reader.close()
        self._databases = ()

    def __enter__(self) -> Locator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ask(reader: maxminddb.Reader, ip: str) -> _Said:
    """One answer; a damaged spot in a file is no answer, since it must not cost the host its row."""
    try:
        return _said(reader.get(ip))
    except (maxminddb.InvalidDatabaseError, ValueError):
        return _NOTHING_SAID


def _merge(answers: Sequence[tuple[_Said, _Database]]) -> Place:
    """Plain variables, not a chain of replaced Places: this runs for every host and every database."""
    place: tuple[str | None, str | None, str | None] = (None, None, None)
    asn = as_name = source = None
    for (country, region, city, number, name), database in answers:
        if place[0] is None and country is not None:
            place, source = (country, region, city), database.source.file
        if asn is None:
            asn, as_name = number, name
        elif as_name is None and asn == number:
            as_name = name
    return Place(*place, asn, as_name, place_source=source)


# ---------------------------------------------------------------------------------------------------- networks


@dataclass(frozen=True, slots=True)
class _Class:
    type: str | None
    tier: str | None
    rule: str


@dataclass(frozen=True, slots=True)
class _NameRule:
    """A rule about AS names: `match` must be found in the name and `unless` must not, case aside."""

    decides: _Class
    match: re.Pattern[str]
    unless: re.Pattern[str] | None
    is_it: tuple[str, ...]
    is_not: tuple[str, ...]

    def fits(self, name: str) -> bool:
        return bool(self.match.search(name)) and not (self.unless and self.unless.search(name))


def _toml(file: str, table: str, folder: Path | None = None) -> list[dict[str, Any]]:
    path = (folder or resources.data("networks")) / file
    try:
        with path.open("rb") as opened:
            rows = tomllib.load(opened).get(table, [])
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise DataError(f"{path}: {problem}") from None
    return list(rows)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


def _rule(path: Path, row: Mapping[str, Any]) -> _NameRule:
    try:
        decides = _Class(row["type"], row.get("tier"), row["id"])
        match, unless = _any_of(row["match"]), _any_of(row["unless"]) if "unless" in row else None
        return _NameRule(decides, match, unless, tuple(row["is"]), tuple(row["is_not"]))
    except (KeyError, re.error) as problem:
        where = row.get("id", "a rule without id")
        raise DataError(f"{path}: {where}: {problem} is missing or is not a pattern") from None


def _known(path: Path) -> Iterator[tuple[int, _Class]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line, row in enumerate(csv.DictReader(file), 2):
                yield _known_row(path, line, row)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path}: {problem}") from None


def _known_row(path: Path, line: int, row: Mapping[str, str | None]) -> tuple[int, _Class]:
    asn = _asn(row.get("asn"))
    if asn is None or row.get("type") is None or row.get("tier") is None:
        raise DataError(f"{path}:{line}: not 'asn,name,type,tier'; quote a name that has a comma in it")
    return asn, _Class(row["type"] or None, row["tier"] or None, f"as{asn}")


class Networks:
    """What kind of network an AS is: a list of the largest by hand, then rules about names, else unknown."""

    def __init__(
        self,
        known: Sequence[tuple[int, _Class]],
        rules: Sequence[_NameRule],
        types: Sequence[str],
        tiers: Sequence[str],
    ) -> None:
        self._known, self._rules, self._types, self._tiers = known, rules, types, tiers
        self._by_number = dict(known)
        self._remembered: Callable[[int | None, str | None], _Class | None] = lru_cache(NETWORKS_CACHED)(self._decide)

    @classmethod
    def load(cls, folder: Path | None = None) -> Networks:
        """Read `data/networks/`, or a folder like it. Raises DataError with file and reason."""
        home = folder or resources.data("networks")
        rules = tuple(_rule(home / "names.toml", row) for row in _toml("names.toml", "rule", home))
        types, tiers = (tuple(row["id"] for row in _toml("types.toml", name, home)) for name in ("type", "tier"))
        return cls(tuple(_known(home / "known.csv")), rules, types, tiers)

    def classify(self, asn: int | None, as_name: str | None) -> tuple[str | None, str | None, str | None]:
        """(network_type, tier, rule id), all None where nothing decides: unknown is the default.

        The AS number decides where the list has it (rule `as64496`); else the first rule that fits the name.
        """
        decided = self._remembered(asn, as_name)
        return (decided.type, decided.tier, decided.rule) if decided else (None, None, None)

    def _decide(self, asn: int | None, as_name: str | None) -> _Class | None:
        listed = self._by_number.get(asn) if asn else None
        if listed or not as_name:
            return listed
        return next((rule.decides for rule in self._rules if rule.fits(as_name)), None)

    def check(self) -> list[str]:
        """What is wrong with the data, one sentence each: unknown classes, repeated ids, examples that fail."""
        return [*self._repeated(), *self._classes(), *self._unused(), *self._examples()]

    def _decisions(self) -> list[_Class]:
        return [decided for _, decided in self._known] + [rule.decides for rule in self._rules]

    def _repeated(self) -> Iterator[str]:
        seen: set[str] = set()
        for decided in self._decisions():
            if decided.rule in seen:
                yield f"{decided.rule} is there twice"
            seen.add(decided.rule)

    def _classes(self) -> Iterator[str]:
        for decided in self._decisions():
            if decided.type not in self._types:
                yield f"{decided.rule}: no type {decided.type!r} in types.toml"
            if decided.tier is not None and decided.tier not in self._tiers:
                yield f"{decided.rule}: no tier {decided.tier!r} in types.toml"

    def _unused(self) -> Iterator[str]:
        used = {name for decided in self._decisions() for name in (decided.type, decided.tier)}
        declared = (*self._types, *self._tiers)
        yield from (f"types.toml: nothing is {name!r}" for name in declared if name not in used)

    def _examples(self) -> Iterator[str]:
        for rule in self._rules:
            ours = rule.decides
            for name in rule.is_it:
                if (decided := self._decide(None, name)) != ours:
                    yield f"{ours.rule}: {name!r} is decided by {decided.rule if decided else 'nothing'}"
            yield from (f"{ours.rule}: it takes {name!r} too" for name in rule.is_not if rule.fits(name))
