"""Who lives in the simulated internet: a scenario of `data/simulate/` -> hosts, each with the truth planted about it.

Addresses are of 240.0.0.0/4 and 2001:db8::/32, which nobody has. Everything follows from the scenario and its seed.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import heapq
import ipaddress
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import combinations, repeat
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from census import geo, resources
from census.errors import DataError
from census.identify import Rules
from census.model import Model, Outcome, Place
from census.server_files import Example
from census.simulate.misbehave import MISBEHAVIOURS, Misbehaviour, hostile_names
from census.simulate.players import Answer, Part, Planted, Stage
from census.suspect import Suspicions

DEFAULT_PORT: Final = 11434
"""Port of a host whose part names none."""

LOCAL_CLOCK_SHARE: Final = 0.4
"""Share of hosts whose servers print local time; the others run in containers, which know only UTC. An assumption."""

KEEP_ALIVE_FOREVER: Final = timedelta(days=106_751)
"""How far ahead Ollama dates the unloading of a model that is to stay (keep_alive -1): the longest time Go can hold."""

REMOTE_HOST: Final = "https://ollama.com:443"
"""Where the stubs of cloud models point to, as recorded."""

DATABASE_TYPE: Final = "Census-Simulated-Internet"
"""`database_type` of the simulated geolocation database: `data/networks/databases.toml` knows it."""

_SITE_NETWORKS: Final = ipaddress.IPv4Network("240.0.0.0/4")
_SITE_NETWORKS_V6: Final = ipaddress.IPv6Network("2001:db8::/32")

T = TypeVar("T")


# --- The nouns -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Truth:
    """What a census must find at an endpoint.

    Attributes:
        judged: False when the host lies, so that only its outcome is planted.
        version: None is not planted. rule, auth: as the example expects, None is not planted.
        models: what a census can learn of each, the rest None; None when the list is not to be had.
        doubted: True when a census must doubt the host: the scenario says that it is a decoy.
        families: distinct declared families of the models that are not a cloud's, lower case, sorted.
        lineages: for each of `models`, the brand where its name is plain, else None.
    """

    outcome: Outcome
    judged: bool = True
    doubted: bool = False
    server: str | None = None
    version: str | None = None
    rule: str | None = None
    auth: str | None = None
    models: tuple[Model, ...] | None = None
    families: tuple[str, ...] = ()
    lineages: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """One endpoint of the simulated internet.

    Attributes:
        ip, port: its simulated address.
        plays: name of an example of `data/servers/`, of a misbehaviour, or `decoy/<reason to doubt>`.
        group: what the scenario says about it.
        place: what the simulated geolocation database says of the address.
        tls: it speaks TLS, with a certificate of its own.
        decoy: it is not what it says it is.
        version: another release than the example's, that answers alike.
        inventory: its models; None: those of the example. part: the part it plays; None: it misbehaves.
    """

    ip: str
    port: int
    plays: str
    group: str
    place: Place
    tls: bool = False
    decoy: bool = False
    version: str | None = None
    inventory: tuple[Planted, ...] | None = field(default=None, repr=False)
    part: Part | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """`ip:port`, with brackets around an IPv6 address."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @property
    def misbehaviour(self) -> Misbehaviour | None:
        """What it does wrong, or None when it plays an example."""
        return None if self.part else MISBEHAVIOURS[self.plays]

    @property
    def truth(self) -> Truth:
        """What a census must find here. Worked out at each call, so that a large world stays small."""
        if self.part is None:
            wrong = MISBEHAVIOURS[self.plays]
            return Truth(wrong.outcome, judged=not wrong.lies)
        expect, models = self.part.example.expect, self.part.visible(self.inventory)
        families = {model.family_raw.lower() for model in models or () if model.family_raw and not model.is_remote}
        planted = self.inventory or ({},) * len(models or ())
        return Truth(
            outcome=Outcome.SUCCESS,
            doubted=self.decoy,
            server=expect.server,
            version=self.version or expect.version or None,
            rule=None if self.inventory == () else expect.rule,
            auth=expect.auth,
            models=models,
            families=tuple(sorted(families)),
            lineages=tuple(one.get("brand") for one in planted),
        )

    def answer(self, method: str, path: str) -> Answer | None:
        """What it answers to a question; None when it just hangs up. Only for hosts that play an example."""
        assert self.part is not None
        return self.part.answer(method, path, self.inventory, self.version)


@dataclass(frozen=True, slots=True)
class Site:
    """One network in one city: a line of `data/simulate/networks.toml`, with the addresses it got."""

    kind: str
    offset: str
    weight: int
    place: Place
    network: ipaddress.IPv4Network
    network_v6: ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Catalogued:
    """A model that hosts may have: a line of `data/simulate/models.toml`, whose header explains the fields."""

    name: str
    since: date
    weight: int
    family: str | None = None
    families: tuple[str, ...] | None = None
    parameters: str | None = None
    quantization: str | None = None
    size: int | None = None
    digest: str | None = None
    context: int | None = None
    width: int | None = None
    n_params: int | None = None
    n_vocab: int | None = None
    capabilities: tuple[str, ...] | None = None
    brand: str | None = None
    remote_model: str | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What kind of models a host has: an `[[inventory]]` of a scenario.

    Attributes:
        source: list of `models.toml` that it draws from.
        size: fewest and most models.
        families: draw only these. must: at least one model of each of these.
        cloud: how many cloud stubs on top, where the server can list them.
        running: chance that a model is loaded when the census comes.
        hostile: the names are those of `misbehave.hostile_names`.
    """

    name: str
    about: str
    source: str = "ollama"
    size: tuple[int, int] = (0, 0)
    families: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    cloud: int = 0
    running: float = 0.0
    hostile: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts alike: a `[[group]]` of a scenario, whose header explains the fields."""

    about: str
    where: tuple[str, ...]
    plays: Mapping[str, int]
    count: int = 1
    port: Mapping[str, int] = field(default_factory=dict)
    inventory: Mapping[str, int] = field(default_factory=dict)
    since: date | None = None
    until: date | None = None
    tls: bool = False
    ipv6: bool = False
    decoy: bool = False
    also: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file, with the places and the models that it draws from."""

    seed: int
    until: date
    versions: Mapping[str, tuple[str, ...]]
    inventories: Mapping[str, Inventory]
    groups: tuple[Group, ...]
    sites: tuple[Site, ...]
    models: Mapping[str, tuple[Catalogued, ...]]


# --- The world -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """All hosts of a scenario. `Internet` gives them sockets."""

    seed: int
    hosts: Sequence[Host]
    sites: Sequence[Site]

    @classmethod
    def load(cls, scenario: Path | None = None, *, seed: int | None = None, rules: Rules | None = None) -> World:
        """The world of a scenario file (default: `data/simulate/internet.toml`).

        Args:
            seed: instead of the scenario's own. rules: whose examples are played; default `data/servers/`.

        Raises DataError, with file, entry and reason, for whatever a scenario may not say.
        """
        path = scenario or resources.data("simulate", "internet.toml")
        read = _read_scenario(path, seed)
        cast = _Cast(path.name, read, rules or Rules.load())
        return cls(read.seed, tuple(cast.hosts()), read.sites)

    def targets(self) -> list[str]:
        """One line for each endpoint, as a target list has them."""
        return [host.endpoint for host in self.hosts]

    def truth(self) -> dict[str, Any]:
        """Everything that is planted.

        Returns a dict with
            `endpoints`: "ip:port" -> the fields of `Truth` and of `Place`, with ip, port, plays and tls;
            `outcomes`, `servers`: name -> endpoints;
            `families`: declared family -> addresses that have it;
            `codeployment`: `hosts` (addresses with a family), `multi_family` (of these, with two or more) and `pairs`,
            (family, family) in alphabetic order -> addresses that have both.
        """
        truths = [(host, host.truth) for host in self.hosts]
        by_ip: dict[str, set[str]] = {}
        for host, truth in truths:
            by_ip.setdefault(host.ip, set()).update(truth.families)
        known = [sorted(families) for families in by_ip.values() if families]
        return {
            "endpoints": {host.endpoint: _facts(host, truth) for host, truth in truths},
            "outcomes": dict(Counter(str(truth.outcome) for _, truth in truths)),
            "servers": dict(Counter(truth.server for _, truth in truths if truth.server)),
            "families": dict(Counter(family for families in known for family in families)),
            "codeployment": {
                "hosts": len(known),
                "multi_family": sum(len(families) > 1 for families in known),
                "pairs": dict(Counter(pair for families in known for pair in combinations(families, 2))),
            },
        }

    def write_geo(self, path: Path) -> Path:
        """Write the simulated internet's own geolocation database: MaxMind-shaped records, city and network in one."""
        rows = [
            (str(network), record)
            for site in self.sites
            if (record := _geo_record(site.place))
            for network in (site.network, site.network_v6)
        ]
        about = "Where the hosts of a simulated internet are. All of it is invented."
        geo.write_mmdb(path, rows, database_type=DATABASE_TYPE, description=about)
        return path


def _facts(host: Host, truth: Truth) -> dict[str, Any]:
    own = {"ip": host.ip, "port": host.port, "plays": host.plays, "tls": host.tls}
    found = {each.name: getattr(truth, each.name) for each in dataclasses.fields(truth)}
    place = {name: getattr(host.place, name) for name in ("country", "region", "city", "asn", "as_name")}
    return own | found | place


def _geo_record(place: Place) -> dict[str, Any]:
    """A record with the keys of MaxMind's city and ASN databases; what is unknown is left out."""
    record: dict[str, Any] = {}
    if place.country:
        record["country"] = {"iso_code": place.country}
    if place.region:
        record["subdivisions"] = [{"names": {"en": place.region}}]
    if place.city:
        record["city"] = {"names": {"en": place.city}}
    if place.asn:
        record |= {"autonomous_system_number": place.asn, "autonomous_system_organization": place.as_name}
    return record


# --- From groups to hosts --------------------------------------------------------------------------------------------


class _Cast:
    """Gives every host of a scenario its address, its part and its inventory."""

    def __init__(self, file: str, scenario: Scenario, rules: Rules) -> None:
        self._file, self._scenario = file, scenario
        self._rules = rules
        self._examples = {example.name: example for example in rules.examples()}
        self._parts: dict[str, Part] = {}
        self._taken: set[str] = set()

    def hosts(self) -> Iterator[Host]:
        for number, group in enumerate(self._scenario.groups):
            with _told_of(f"data/simulate/{self._file}", f"group '{group.about}'"):
                for index, each in enumerate(self._members(group)):
                    yield from self._machine(each, Random(f"{self._scenario.seed}/{number}/{index}"))

    def _members(self, group: Group) -> Iterator[Group]:
        """The group as often as it counts; one that plays `decoy/*`, with each of these decoys in turn."""
        plays = next(iter(group.plays))
        if not plays.endswith("/*"):
            yield from repeat(group, group.count)
            return
        for name in self._decoys:
            if name.startswith(plays[:-1]):
                yield replace(group, plays={name: 1})

    @cached_property
    def _decoys(self) -> dict[str, Example]:
        """Made only for a scenario that plays one."""
        return Stage(self._rules, Suspicions.load()).decoys()

    def _machine(self, group: Group, rng: Random) -> Iterator[Host]:
        sites = [site for site in self._scenario.sites if site.kind in group.where]
        site = rng.choices(sites, [each.weight for each in sites])[0]
        ip = self._address(site, rng, group.ipv6)
        for each in (group, *group.also):
            yield self._host(each, group.about, site, ip, rng)

    def _address(self, site: Site, rng: Random, ipv6: bool) -> str:
        network = site.network_v6 if ipv6 else site.network
        while True:
            ip = str(network[rng.randrange(1, min(network.num_addresses, 2**32) - 1)])
            if ip not in self._taken:
                self._taken.add(ip)
                return ip

    def _host(self, group: Group, about: str, site: Site, ip: str, rng: Random) -> Host:
        plays = _draw(group.plays, rng)
        part = self._part(plays, about)
        port = int(_draw(group.port, rng)) if group.port else part.example.port if part else DEFAULT_PORT
        if part is None:
            return Host(ip, port, plays, about, site.place, group.tls)
        kind = self._scenario.inventories[_draw(group.inventory, rng)] if group.inventory else None
        inventory = tuple(self._stock(kind, group, part, site, ip, rng)) if kind else None
        version = self._version(plays, rng)
        return Host(ip, port, plays, about, site.place, group.tls, group.decoy, version, inventory, part)

    def _part(self, plays: str, about: str) -> Part | None:
        if "/" in plays:
            self._examples |= self._decoys
        if plays not in self._examples:
            if plays in MISBEHAVIOURS:
                return None
            raise self._unknown(f"group '{about}'", "example or misbehaviour", plays, [*self._examples, *MISBEHAVIOURS])
        if plays not in self._parts:
            example = self._examples[plays]
            self._parts[plays] = Part(example, self._rules.servers.get(example.expect.server or ""))
        return self._parts[plays]

    def _unknown(self, where: str, what: str, name: str, known: Sequence[str]) -> DataError:
        return _unknown(f"data/simulate/{self._file}", where, what, name, known)

    def _version(self, plays: str, rng: Random) -> str | None:
        versions = self._scenario.versions.get(plays)
        return rng.choice(versions) if versions else None

    # -- Inventories

    def _stock(
        self, kind: Inventory, group: Group, part: Part, site: Site, ip: str, rng: Random
    ) -> Iterator[dict[str, Any]]:
        until = group.until or self._scenario.until
        chosen = self._choose(kind, until, rng)
        if kind.cloud and part.can_list(remote=True):
            chosen += rng.sample(self._scenario.models["cloud"], kind.cloud)
        if chosen and not part.can_list(remote=False):
            raise DataError(f"data/simulate/{self._file}: group '{group.about}': this example lists no model to copy")
        names = hostile_names() if kind.hostile else None
        offset = site.offset if rng.random() < LOCAL_CLOCK_SHARE else "Z"
        dated = [(_moment(model, group.since, until, rng), index) for index, model in enumerate(chosen)]
        loaded = self._loaded(kind, part, chosen, rng)
        for moment, index in sorted(dated, reverse=True):
            model = chosen[index]
            planted = _planted(model, moment, offset, f"{self._scenario.seed}/{ip}")
            if names:
                planted |= {"name": names[index % len(names)], "brand": None}
            yield planted | (_in_memory(model, moment, rng) if index == loaded else {})

    def _choose(self, kind: Inventory, until: date, rng: Random) -> list[Catalogued]:
        pool = [model for model in self._scenario.models[kind.source] if model.since <= until]
        chosen = [
            one for family in kind.must for one in _weighted([each for each in pool if each.family == family], 1, rng)
        ]
        if len(chosen) < len(kind.must):
            where = f"data/simulate/{self._file}: inventory '{kind.name}'"
            raise DataError(f"{where}: before {until} there was no model of each of {', '.join(kind.must)}")
        rest = [one for one in pool if one not in chosen and (not kind.families or one.family in kind.families)]
        wanted = len(hostile_names()) if kind.hostile else rng.randint(*kind.size)
        return chosen + _weighted(rest, max(wanted - len(chosen), 0), rng)

    def _loaded(self, kind: Inventory, part: Part, chosen: Sequence[Catalogued], rng: Random) -> int | None:
        local = [index for index, model in enumerate(chosen) if not model.remote_model]
        return rng.choice(local) if part.can_load and local and rng.random() < kind.running else None


def _draw(weights: Mapping[str, int], rng: Random) -> str:
    return next(iter(weights)) if len(weights) == 1 else rng.choices(list(weights), list(weights.values()))[0]


def _weighted(models: Sequence[Catalogued], count: int, rng: Random) -> list[Catalogued]:
    """A weighted sample without replacement (Efraimidis and Spirakis: the largest u^(1/w))."""
    keyed = [(rng.random() ** (1 / model.weight), index) for index, model in enumerate(models)]
    return [models[index] for _, index in heapq.nlargest(count, keyed)]


def _moment(model: Catalogued, since: date | None, until: date, rng: Random) -> int:
    """When a model was last changed on a host, in nanoseconds since 1970."""
    first = max(model.since, since or model.since)
    start, end = (int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) for day in (first, until))
    return rng.randrange(start, max(end, start + 86_400)) * 10**9 + rng.randrange(10**9)


def _planted(model: Catalogued, moment: int, offset: str, owner: str) -> dict[str, Any]:
    """Columns of a planted model; `owner` makes the digest of a model that no library has."""
    digest = model.digest or hashlib.sha256(f"{owner}/{model.name}".encode()).hexdigest()
    values: dict[str, Any] = {
        "name": model.name,
        "brand": model.brand,
        "digest": digest + hashlib.sha256(digest.encode()).hexdigest()[len(digest) :],
        "modified_at": datetime.fromtimestamp(moment // 10**9, UTC).replace(
            tzinfo=None, microsecond=moment // 1000 % 10**6
        ),
        "modified_at_raw": _go_time(moment, offset),
        **_details(model),
    }
    if model.remote_model:
        return values | {"is_remote": True, "remote_model": model.remote_model, "remote_host": REMOTE_HOST}
    return values | {"is_remote": False}


def _details(model: Catalogued) -> dict[str, Any]:
    """The columns that a catalogue line states; those it does not state stay as the example has them."""
    stated = {
        "size_bytes": model.size,
        "family_raw": model.family,
        "parameter_size": model.parameters,
        "quantization": model.quantization,
        "context_length": model.context,
        "n_params": model.n_params,
        "n_vocab": model.n_vocab,
        "capabilities": model.capabilities,
        "extra.embedding_length": model.width,
        "extra.n_embd": model.width,
    }
    details: dict[str, Any] = {column: value for column, value in stated.items() if value is not None}
    if not model.family:  # neither Ollama's nor a file: listed by a name that is also its root
        details["extra.root"] = model.name
    else:
        details["owned_by"] = model.name.rpartition("/")[0].rpartition("/")[2] or "library"
        details["families_raw"] = None if model.remote_model else model.families or (model.family,)
        details["format"] = "" if model.remote_model else "gguf"
    return details


def _in_memory(model: Catalogued, moment: int, rng: Random) -> dict[str, Any]:
    """Columns of a model that its operator keeps loaded: on the GPU, on the CPU, or on both."""
    loaded = int((model.size or 0) * 1.2)
    expires = datetime.fromtimestamp(moment // 10**9, UTC) + KEEP_ALIVE_FOREVER
    return {
        "is_running": True,
        "size_vram": rng.choice((loaded, loaded, 0, loaded // 3)),
        "expires_at": expires.replace(tzinfo=None),
        "expires_at_raw": expires.isoformat().replace("+00:00", "Z"),
        "extra.loaded_size": loaded,
        "extra.loaded_context_length": min(4096, model.context or 4096),
    }


def _go_time(moment: int, offset: str) -> str:
    """A time as Go prints it: RFC 3339 with as many digits of the nanoseconds as needed."""
    seconds, nanos = divmod(moment, 10**9)
    zone = UTC if offset == "Z" else datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").tzinfo
    text = datetime.fromtimestamp(seconds, zone).isoformat()[:19]
    return text + f".{nanos:09d}".rstrip("0").rstrip(".") + offset


# --- Reading -------------------------------------------------------------------------------------------------------


_MISUSE: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What a value of a type or size that nobody expected ends in."""


@contextmanager
def _told_of(file: str, where: str) -> Iterator[None]:
    try:
        yield
    except _MISUSE as problem:
        raise DataError(f"{file}: {where}: {problem!r}; the head of internet.toml says what may be here") from None


def _read_scenario(path: Path, seed: int | None) -> Scenario:
    file = f"data/simulate/{path.name}"
    values = _toml(path)
    with _told_of(file, "top"):
        return _scenario(file, values, seed)


def _scenario(file: str, values: dict[str, Any], seed: int | None) -> Scenario:
    _only(file, "", values, ("about", "seed", "until", "versions", "inventory", "group"))
    inventories = {one.name: one for one in (_inventory(file, entry) for entry in values.get("inventory", []))}
    sites = tuple(_sites(resources.data("simulate", "networks.toml")))
    models = catalogue()
    groups = tuple(_group(file, entry) for entry in values.get("group", []))
    read = Scenario(
        seed=values.get("seed", 0) if seed is None else seed,
        until=_needed(file, "", values, "until", date),
        versions={name: tuple(versions) for name, versions in values.get("versions", {}).items()},
        inventories=inventories,
        groups=groups,
        sites=sites,
        models=models,
    )
    _check_references(file, read)
    return read


def _check_references(file: str, scenario: Scenario) -> None:
    kinds = sorted({site.kind for site in scenario.sites})
    for inventory in scenario.inventories.values():
        where = f"inventory '{inventory.name}'"
        if inventory.source not in scenario.models:
            raise _unknown(file, where, "list of models.toml", inventory.source, [*scenario.models])
        families = {model.family for model in scenario.models[inventory.source]}
        for family in (*inventory.must, *inventory.families):
            if family not in families:
                raise _unknown(file, where, "family", family, [one for one in families if one])
    for group in (each for one in scenario.groups for each in (one, *one.also)):
        for kind in group.where:
            if kind not in kinds:
                raise _unknown(file, f"group '{group.about}'", "kind of network", kind, kinds)
        for name in group.inventory:
            if name not in scenario.inventories:
                raise _unknown(file, f"group '{group.about}'", "inventory", name, [*scenario.inventories])


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise DataError(f"{path.name}: cannot be read: {problem}") from None


def _unknown(file: str, where: str, what: str, name: str, known: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(sorted(known))}"
    return DataError(f"{file}: {where}: no {what} is called '{name}'{hint}")


def _only(file: str, where: str, values: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise _unknown(file, where or "top", "key", key, known)


def _needed(file: str, where: str, values: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = values.get(key)
    if not isinstance(value, kind):
        raise DataError(f"{file}: {where or 'top'}: '{key}' must be there, as {kind.__name__}")
    return value


def _weights(value: Any) -> dict[str, int]:
    """A name, a number, or a table of names with weights, as a table."""
    return {str(name): weight for name, weight in value.items()} if isinstance(value, dict) else {str(value): 1}


def _inventory(file: str, values: dict[str, Any]) -> Inventory:
    where = f"inventory '{values.get('name', '?')}'"
    with _told_of(file, where):
        return _read_inventory(file, where, values)


def _read_inventory(file: str, where: str, values: dict[str, Any]) -> Inventory:
    _only(file, where, values, ("name", "about", "from", "size", "families", "must", "cloud", "running", "hostile"))
    low, high = values.get("size", (0, 0))
    return Inventory(
        name=_needed(file, where, values, "name", str),
        about=_needed(file, where, values, "about", str),
        source=values.get("from", "ollama"),
        size=(low, high),
        families=tuple(values.get("families", ())),
        must=tuple(values.get("must", ())),
        cloud=values.get("cloud", 0),
        running=values.get("running", 0.0),
        hostile=values.get("hostile", False),
    )


_GROUP_KEYS: Final = (
    "about",
    "where",
    "plays",
    "count",
    "port",
    "inventory",
    "since",
    "until",
    "tls",
    "ipv6",
    "decoy",
    "also",
)


def _group(file: str, values: dict[str, Any], within: str = "") -> Group:
    about = within or _needed(file, "group", values, "about", str)
    where = f"group '{about}'"
    _only(file, where, values, _GROUP_KEYS)
    kinds = values.get("where", ())
    if "plays" not in values or not (kinds or within):
        raise DataError(f"{file}: {where}: needs 'plays' and 'where'")
    weighted: dict[str, Any] = {key: _weights(values[key]) for key in ("plays", "port", "inventory") if key in values}
    plain = {key: values[key] for key in ("count", "since", "until", "tls", "ipv6", "decoy") if key in values}
    return Group(
        about=about,
        where=(kinds,) if isinstance(kinds, str) else tuple(kinds),
        also=tuple(_group(file, entry, about) for entry in values.get("also", ())),
        **weighted,
        **plain,
    )


def _sites(path: Path) -> Iterator[Site]:
    entries = _toml(path)["site"]
    networks = _SITE_NETWORKS.subnets(new_prefix=16)
    networks_v6 = _SITE_NETWORKS_V6.subnets(new_prefix=48)
    for entry, network, network_v6 in zip(entries, networks, networks_v6, strict=False):
        place = Place(**{key: entry.get(key) for key in ("country", "region", "city", "asn", "as_name")})
        yield Site(entry["kind"], entry["offset"], entry["weight"], place, network, network_v6)


def catalogue() -> dict[str, tuple[Catalogued, ...]]:
    """The models of `data/simulate/models.toml` by list. Raises DataError."""
    return _catalogue(resources.data("simulate", "models.toml"))


def _catalogue(path: Path) -> dict[str, tuple[Catalogued, ...]]:
    return {source: tuple(_model(path.name, entry) for entry in entries) for source, entries in _toml(path).items()}


def _model(file: str, entry: dict[str, Any]) -> Catalogued:
    known = [each.name for each in dataclasses.fields(Catalogued)]
    _only(f"data/simulate/{file}", f"model '{entry.get('name', '?')}'", entry, known)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Catalogued(**values)
