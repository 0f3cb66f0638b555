"""A synthetic population -> finished runs, one a scan day, and its truth beside them.

Every run has the tables, schemas, order of rows and manifest of a real scan, and says that it is simulated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from census import __version__, resources, snapshot
from census.errors import SnapshotError
from census.model import Outcome
from census.rows import families, inventory_hash, inventory_mark, model_mark
from census.schema import SCHEMA_VERSION, tables
from census.simulate.calibrate import Flags, Floats, Ints
from census.simulate.population import Population, asn, state_of, tier_of

WRITERS = 2
"""Runs written at a time."""

NOTE = "synthetic and calibrated: it validates the instrument, not the world"

TRUTH = "truth"
"""Folder of the truth, beside `runs`: for tests, never for reports."""

_NEVER = np.int64(1 << 30)
_DAY_US = 86_400_000_000
_SUSPECT = 2
_MAX_TIMEOUT = 0.8
"""Share of silent endpoints that time out; the others refuse."""

_QUESTIONS = ["GET /", "GET /api/ps", "GET /api/tags", "GET /api/version", "POST /api/show"]
_CLASSES = [None, "default", "operator", "harmful", "uncensored"]
"""What is known of a system prompt: none visible; the model's own; the operator's; harmful; guardrails removed."""


@dataclass(slots=True)
class Listings:
    """What endpoints list: one array entry for each endpoint and model, by endpoint, then by digest.

    at: `[at[e], at[e + 1])` are the entries of endpoint e. kind: index into the catalogue. added, gone: scan days
    between which it is listed. slot: order in the server's own list. modified: microseconds since 1970.
    """

    at: Ints
    endpoint: Ints
    kind: Ints
    added: Ints
    gone: Ints
    slot: Ints
    local: Flags
    columns: pa.Table


@dataclass(slots=True)
class Endpoints:
    """The endpoints by (address as text, port): the index of their host, and their columns that never change."""

    host: Ints
    port: Ints
    columns: pa.Table
    rate: Floats
    served: Flags


def write(population: Population, out: Path, say: Callable[[str], None]) -> list[str]:
    """Write all runs and the truth below `out`; returns the names of the runs. Raises SnapshotError."""
    endpoints = _endpoints(population)
    listings = _listings(population, endpoints)
    writer = _Writer(population, out, endpoints, listings)
    names: list[str] = []
    with ThreadPoolExecutor(WRITERS) as pool:
        waiting: list[Future[str]] = []
        for day, asked, present in _asked(population, endpoints):
            waiting.append(pool.submit(writer.write, day, asked, present))
            while len(waiting) > WRITERS:
                names.append(waiting.pop(0).result())
                say(f"{names[-1]}: day {len(names)} of {population.settings.days}")
        names += [future.result() for future in waiting]
    _write_truth(population, out, writer.asked_rows)
    return names


# --- endpoints -------------------------------------------------------------------------------------------------------


def _endpoints(population: Population) -> Endpoints:
    p, people = population.settings.parameters, population.people
    rng = np.random.default_rng([population.settings.seed, 10])
    host = np.arange(len(people.n))
    ports = p["behaviour"]["ports"]
    choices, weight = np.array([int(port) for port in ports]), np.array(list(ports.values()))
    port = rng.choice(choices, len(host), p=weight / weight.sum())
    second = np.flatnonzero(people.core)
    second = second[: round(p["persistence"]["second_endpoint"] * len(second))]
    host, port = np.concatenate([host, second]), np.concatenate([port, port[second] + 1])
    text = _address_texts(people.address)
    order = np.lexsort((port, text[host]))
    host, port = host[order], port[order]
    served = population.stock.served[host]
    tier = [tier_of(population.settings, i) for i in range(len(p["networks"]["classes"]))]
    rate = np.array([p["behaviour"]["running"][name] for name in tier])[people.network[host]]
    return Endpoints(host, port, _host_columns(population, host, port, text), rate, served)


def _address_texts(address: Ints) -> npt.NDArray[np.str_]:
    octets = [((address >> shift) & 255).astype(str) for shift in (24, 16, 8, 0)]
    text = octets[0]
    for octet in octets[1:]:
        text = np.char.add(np.char.add(text, "."), octet)
    return text


def _host_columns(population: Population, host: Ints, port: Ints, text: npt.NDArray[np.str_]) -> pa.Table:
    people, stock, n = population.people, population.stock, len(host)
    classes = population.settings.parameters["networks"]["classes"]
    system, network = people.system[host], people.network[host]
    suspect = np.where(stock.decoy[host] > 0, _SUSPECT, stock.weak[host].astype(int))
    reasons = pa.array([[], ["stock-list"], ["clone"]], pa.list_(pa.string()))
    types = pa.array([c.get("type") for c in classes], pa.string())
    tiers = pa.array([c.get("tier") for c in classes], pa.string())
    names = pa.array([f"Simulated network {i}" for i in range(int(people.system.max()) + 1)])
    scheme = pa.array(["http", "https"]).take(pa.array((port == 443).astype(int)))
    place = population.people.country[host]
    return pa.table(
        {
            "ip": pa.array(text[host]),
            "port": pa.array(port, pa.int32()),
            "domain": _same("", n),
            "scheme": scheme,
            "server": _same("ollama", n),
            "version_source": _same("GET /api/version", n),
            "api": _same("ollama", n),
            "auth": _same("open", n),
            "rule": _same("ollama.tags", n),
            "confidence": pa.array(np.full(n, 0.99)),
            "evidence": _empty_lists(n),
            "near": _empty_lists(n),
            "suspect": pa.array(suspect, pa.int16()),
            "suspect_reasons": reasons.take(pa.array(suspect)),
            "country": pa.array(place),
            "region": pa.array(people.region[host], pa.string()),
            "asn": pa.array(asn(system)),
            "as_name": names.take(pa.array(system)),
            "network_type": types.take(pa.array(network)),
            "tier": tiers.take(pa.array(network)),
            "network_rule": _same("simulated", n),
        }
    )


def _same(value: str, n: int) -> pa.Array:
    return pa.array([value]).take(pa.array(np.zeros(n, np.int64)))


def _empty_lists(n: int) -> pa.Array:
    return pa.array([[]], pa.list_(pa.string())).take(pa.array(np.zeros(n, np.int64)))


# --- inventories -----------------------------------------------------------------------------------------------------


def _listings(population: Population, endpoints: Endpoints) -> Listings:
    """The models of each installation, then those of each endpoint, sorted as a run's table is."""
    owned = _owned(population)
    people = population.people
    leader = population.stock.leader[endpoints.host]
    order = np.lexsort((owned["slot"], owned["digest"], owned["host"]))
    owned = {name: values[order] for name, values in owned.items()}
    starts = np.searchsorted(owned["host"], np.arange(len(people.n) + 1))
    count = (starts[1:] - starts[:-1])[leader]
    at = np.concatenate([[0], np.cumsum(count)])
    rows = np.repeat(starts[leader], count) + np.arange(at[-1]) - np.repeat(at[:-1], count)
    take = {name: values[rows] for name, values in owned.items()}
    endpoint = np.repeat(np.arange(len(leader)), count)
    kinds = population.stock.kinds
    columns = _model_columns(population, owned).take(pa.array(rows))
    return Listings(
        at, endpoint, take["kind"], take["added"], take["gone"], take["slot"], kinds.local[take["kind"]], columns
    )


def _owned(population: Population) -> dict[str, npt.NDArray[Any]]:
    """One entry for each model an installation ever has: host (its first address), kind, slot, days, time, digest."""
    people, stock = population.people, population.stock
    rng = np.random.default_rng([population.settings.seed, 11])
    leaders = np.flatnonzero(population.stock.leader == np.arange(len(people.n)))
    picks = stock.pool.models[stock.candidate[leaders]]
    row, slot = np.nonzero(picks >= 0)
    host, kind = leaders[row], picks[row, slot].astype(np.int64)
    added = _added(population, host, kind, rng)
    gone = np.full(len(host), _NEVER)
    base: dict[str, npt.NDArray[Any]] = {"host": host, "kind": kind, "added": added, "gone": gone}
    base["slot"] = slot.astype(np.int64)
    base["copy"] = np.zeros(len(host), bool)
    base["revised"] = np.zeros(len(host), bool)
    base = _changed(population, base, rng)
    base["modified"] = _modified(population, base, rng)
    base["digest"] = _digests(population, base, rng)
    base["said"] = _said(population, base, rng)
    return base


def _added(population: Population, host: Ints, kind: Ints, rng: np.random.Generator) -> Ints:
    """The scan day from which a model is listed: before the first for transient hosts, spread for persistent ones."""
    people, days, p = population.people, population.calendar.since_epoch, population.settings.parameters["portfolio"]
    first, last = people.first[host], people.last[host]
    core = people.core[host]
    since = population.stock.kinds.since[kind]
    soonest = np.searchsorted(days, since + 1)
    late = core & (soonest > first)
    grown = int(np.searchsorted(days, (p["grown_by"] - _EPOCH).days))
    chance = _growth(population, host, late)
    grows = core & ~late & ~population.stock.served[host] & (rng.random(len(host)) < chance)
    latest = np.clip(np.minimum(grown, last), first + 1, None)
    day = np.where(late, np.maximum(soonest, first + 1), first + 1 + rng.integers(0, 15, len(host)))
    day = day + np.floor(rng.random(len(host)) * np.maximum(latest - day, 1)).astype(np.int64)
    return np.where(late | grows, np.minimum(day, np.maximum(last, first)), 0)


_FIRST_MONTH = 24
"""Scan days that count as the first month: those of March, when the first day is the 8th."""

_EPOCH = datetime(1970, 1, 1).date()


def _growth(population: Population, host: Ints, late: Flags) -> float:
    """The chance that an old model of a persistent host came later, so that the first month has its published mean."""
    p, people = population.settings.parameters, population.people
    core = p["persistence"]["core_observations"]
    wanted = (p["portfolio"]["first_mean"] - (1 - core) * p["portfolio"]["others_mean"]) / core
    early = people.core & (people.first < _FIRST_MONTH)
    mine = early[host]
    hosts = max(int(early.sum()), 1)
    old, final = float((mine & ~late).sum()) / hosts, float(mine.sum()) / hosts
    return float(np.clip(1 - wanted / max(old, 1e-9), 0, 1)) if final > wanted else 0.0


def _changed(
    population: Population, base: dict[str, npt.NDArray[Any]], rng: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Models pulled again (a new digest and time in the place of the old), and copies kept for a while."""
    people, p = population.people, population.settings.parameters["behaviour"]
    host, core = base["host"], people.core[base["host"]]
    middle = (people.first[host] + people.last[host]) // 2
    again = core & (base["slot"] == 0) & (base["added"] < middle) & (rng.random(len(host)) < p["updated"])
    copied = core & (base["slot"] == 0) & ~again & (base["added"] < middle) & (rng.random(len(host)) < p["copied"])
    new = {name: values[again].copy() for name, values in base.items()}
    new["added"], new["revised"] = middle[again], np.ones(int(again.sum()), bool)
    base["gone"][again] = middle[again]
    copy = {name: values[copied].copy() for name, values in base.items()}
    copy["gone"], copy["copy"] = middle[copied], np.ones(int(copied.sum()), bool)
    copy["slot"] = copy["slot"] + population.stock.pool.models.shape[1]
    return {name: np.concatenate([base[name], new[name], copy[name]]) for name in base}


def _modified(population: Population, base: dict[str, npt.NDArray[Any]], rng: np.random.Generator) -> Ints:
    """Nanoseconds since 1970: before the scan that first lists it, and after the model was published."""
    days, first = population.calendar.since_epoch, population.people.first[base["host"]]
    listed = days[np.maximum(base["added"], first)].astype(np.float64)
    since = population.stock.kinds.since[base["kind"]].astype(np.float64)
    age = np.where(base["added"] > first, rng.random(len(listed)), rng.exponential(45, len(listed)) + 0.05)
    when = np.maximum(listed - age, np.minimum(since + 0.5, listed - 0.01))
    nano = (when * _DAY_US).astype(np.int64) * 1000
    fraction = rng.integers(0, 100_000_000, len(listed)) * 10 + rng.integers(1, 10, len(listed))
    exact: Ints = nano - nano % 1_000_000_000 + fraction
    return exact


def _digests(
    population: Population, base: dict[str, npt.NDArray[Any]], rng: np.random.Generator
) -> npt.NDArray[np.str_]:
    """64 hex digits: the library's where it has one, else of this installation's own."""
    known: npt.NDArray[np.str_] = np.array([_library_digest(model.digest) for model in population.stock.catalogue])
    digests: npt.NDArray[np.str_] = known[base["kind"]]
    own = (digests == "") | base["revised"]
    words = rng.integers(0, 1 << 62, int(own.sum()))
    digests[own] = [hashlib.sha256(word.tobytes()).hexdigest() for word in words]
    return digests


def _library_digest(head: str | None) -> str:
    """A whole digest that begins with the library's first digits."""
    return head + hashlib.sha256(head.encode()).hexdigest()[len(head) :] if head else ""


def _said(population: Population, base: dict[str, npt.NDArray[Any]], rng: np.random.Generator) -> Ints:
    """Index into _CLASSES of each model's system prompt: exact counts, on models that the host serves itself."""
    p, kinds = population.settings.parameters["behaviour"], population.stock.kinds
    addresses = np.bincount(population.stock.leader, minlength=len(population.people.n))[base["host"]]
    said = np.zeros(len(base["host"]), np.int64)
    local = rng.permutation(np.flatnonzero(kinds.local[base["kind"]] & ~base["copy"] & ~base["revised"]))
    visible = _first_share(local, addresses, p["prompts"])
    harmful = _first_share(visible, addresses, p["harmful"])
    said[visible] = 1 + (rng.random(len(visible)) < 0.2)
    said[harmful] = 3
    alone = harmful[addresses[harmful] == 1]
    alone = alone[np.unique(base["host"][alone], return_index=True)[1]]
    said[rng.permutation(alone)[: round(p["uncensored"] * population.settings.scale)]] = 4
    return said


def _first_share(entries: Ints, addresses: Ints, share: float) -> Ints:
    """The first of the entries, as many as have a share of all, each counted at every address that shows it.

    What stands behind many addresses is passed over, for it would decide the share alone.
    """
    weight = addresses[entries]
    few: Ints = entries[weight < _MANY]
    chosen: Ints = few[np.cumsum(addresses[few]) <= share * weight.sum()]
    return chosen


_MANY = 50
"""Addresses from which an installation is a fleet."""


def _model_columns(population: Population, owned: dict[str, npt.NDArray[Any]]) -> pa.Table:
    stock, kind = population.stock, pa.array(owned["kind"])
    names = np.array([model.name for model in stock.catalogue], dtype=object)[owned["kind"]]
    names[owned["copy"]] = ["backup-" + name for name in names[owned["copy"]]]
    table = _kind_columns(population).take(kind)
    nano = owned["modified"]
    extra = pa.array([[] if c is None else [{"name": "system_class", "value": c}] for c in _CLASSES], _EXTRA)
    fields = {
        "name": pa.array(names, pa.string()),
        "digest": pa.array(owned["digest"]),
        "modified_at": pa.array(nano // 1000).cast(pa.timestamp("us")),
        "modified_at_raw": _go_times(nano),
        "extra": extra.take(pa.array(owned["said"])),
    }
    fields["installation_mark"] = _marks(_salt(population), stock.kinds.local[owned["kind"]], fields)
    for name, values in fields.items():
        table = table.append_column(name, values)
    return table


def _salt(population: Population) -> bytes:
    """What stands for the operator's secret: nobody's installation is marked with it."""
    return hashlib.sha256(f"synthetic {population.settings.seed}".encode()).digest()


def _marks(salt: bytes, local: Flags, fields: dict[str, pa.Array]) -> pa.Array:
    """The installation mark of each model that is a file of its host."""
    triples = zip(*(fields[name].to_pylist() for name in _TRIPLE), strict=True)
    marks = [model_mark(salt, one) if mine else None for one, mine in zip(triples, local, strict=True)]
    return pa.array(marks, pa.string())


_TRIPLE = ("name", "digest", "modified_at_raw")
"""What tells a file of a model on one disk from all others."""

_EXTRA = tables()["models"].arrow.field("extra").type


def _go_times(nano: Ints) -> pa.Array:
    """RFC 3339 with nanoseconds and no trailing zeros, as Go prints times."""
    return pc.binary_join_element_wise(pa.array(np.datetime_as_string(nano.view("datetime64[ns]"))), "Z", "")


def _kind_columns(population: Population) -> pa.Table:
    """The columns that depend on the kind of model alone."""
    rows = []
    for model, lineage in zip(population.stock.catalogue, population.stock.lineages, strict=True):
        row = {
            "size_bytes": model.size, "format": "" if model.remote_model else "gguf", "family_raw": model.family,
            "families_raw": list(model.families or [model.family]), "parameter_size": model.parameters,
            "quantization": model.quantization, "context_length": model.context, "n_vocab": model.n_vocab,
            "is_remote": bool(model.remote_model), "remote_model": model.remote_model,
            "remote_host": "https://ollama.com:443" if model.remote_model else None,
            "parent": None, "owned_by": None,
        }  # fmt: skip
        row |= {name: getattr(lineage, name) for name in _LINEAGE}
        rows.append(row | {"rules": list(lineage.rules)})
    schema = tables()["models"].arrow
    return pa.Table.from_pylist(rows, schema=pa.schema([pa.field(f.name, f.type) for f in schema if f.name in rows[0]]))


_LINEAGE = (
    "brand_family", "generation", "base_family", "weights_family", "developer", "developer_country", "weights_country",
    "params_b", "quant", "quant_bits", "role", "is_distill", "uncensored", "claimed_brand", "resolved_by", "confidence",
)  # fmt: skip


# --- days ------------------------------------------------------------------------------------------------------------


def _asked(population: Population, endpoints: Endpoints) -> Iterator[tuple[int, Ints, Flags]]:
    """For each scan day the endpoints asked, and which of them answer.

    Asked are those that answer today and those that did within the memory of the target list; of all others nothing
    is known that day.
    """
    people, memory = population.people, population.settings.parameters["window"]["memory_days"]
    days = people.present
    of_host = np.repeat(np.arange(len(people.n)), people.n)
    order = np.argsort(days, kind="stable")
    edges = np.searchsorted(days[order], np.arange(population.settings.days + 1))
    last = np.full(len(people.n), -_NEVER)
    for day in range(population.settings.days):
        there = np.zeros(len(people.n), bool)
        there[of_host[order[edges[day] : edges[day + 1]]]] = True
        recent = there | (last >= day - memory)
        last[there] = day
        asked = np.flatnonzero(recent[endpoints.host])
        yield day, asked, there[endpoints.host[asked]]


class _Writer:
    """Writes one day at a time; safe to share between threads, for a day depends on no other."""

    def __init__(self, population: Population, out: Path, endpoints: Endpoints, listings: Listings) -> None:
        self.population = population
        self.out = out
        self.endpoints = endpoints
        self.listings = listings
        self.asked_rows: dict[int, tuple[int, int]] = {}
        self._versions = pa.array([version for version, _ in population.releases])
        self._states = np.array([state_of(version) for version, _ in population.releases])
        self._capabilities = _capabilities(population)
        self._salt = _salt(population)
        columns = listings.columns.select(_TRIPLE).combine_chunks()
        self._texts = {name: columns[name].to_numpy() for name in _TRIPLE}
        self._cached_words: dict[tuple[bytes, int], list[str]] = {}
        self._cached_hashes: dict[bytes, tuple[str, str | None]] = {}

    def write(self, day: int, asked: Ints, present: Flags) -> str:
        rng = np.random.default_rng([self.population.settings.seed, 20, day])
        name = self._name(day)
        there = asked[present]
        start = self._start(day)
        order = rng.permutation(len(asked))
        when = start + (order * (6 * 3600 * 1_000_000 / max(len(asked), 1))).astype(np.int64)
        models, per_host = self._models(name, day, there, rng)
        hosts = self._hosts(name, day, there, when[present], per_host)
        probes = self._probes(name, asked, present, when, rng)
        found = {"probes": probes, "hosts": hosts, "models": models}
        run = self._run(name, start, probes)
        self.asked_rows[day] = (len(asked), len(there))
        snapshot.publish_tables(self.out, run, found)
        return name

    def _name(self, day: int) -> str:
        date = self.population.calendar.dates[day]
        hour = self.population.settings.parameters["window"]["scan_hour"]
        chance = hashlib.sha256(f"{self.population.settings.seed} {day}".encode()).hexdigest()[:4]
        return f"{date:%Y%m%d}T{hour:02}0000Z-{chance}"

    def _start(self, day: int) -> int:
        hour: int = self.population.settings.parameters["window"]["scan_hour"]
        return int(self.population.calendar.since_epoch[day]) * _DAY_US + hour * 3_600_000_000

    def _release(self, day: int, hosts: Ints) -> Ints:
        stock = self.population.stock
        return np.where(day >= stock.upgrade[hosts], stock.version_after[hosts], stock.version[hosts])

    def _models(self, name: str, day: int, there: Ints, rng: np.random.Generator) -> tuple[pa.Table, dict[str, Any]]:
        rows, owner = self._listed(day, there)
        listed = self.listings
        position = _rank_within(owner, listed.slot[rows])
        running = self._running(rows, owner, there, rng)
        state = self._states[self._release(day, self.endpoints.host[there])][owner]
        capabilities = self._capabilities.take(pa.array(listed.kind[rows] * 3 + state))
        table = listed.columns.take(pa.array(rows))
        keys = self.endpoints.columns.select(["ip", "port", "domain"]).take(pa.array(there[owner]))
        expires = self._start(day) + 300_000_000
        extra = {
            "run_id": _same(name, len(rows)),
            "position": pa.array(position, pa.int32()),
            "capabilities": capabilities,
            "is_running": pa.array(running),
            "size_vram": pc.if_else(pa.array(running), table["size_bytes"].combine_chunks(), None),
            "expires_at": pc.if_else(pa.array(running), pa.scalar(expires, pa.int64()), None).cast(pa.timestamp("us")),
        }
        for column in keys.column_names:
            extra[column] = keys[column]
        for column, values in extra.items():
            table = table.append_column(column, values)
        counts = np.bincount(owner, minlength=len(there))
        n_running = np.bincount(owner, weights=running, minlength=len(there)).astype(np.int64)
        return _fitted(table, "models"), {"rows": rows, "n": counts, "running": n_running}

    def _listed(self, day: int, there: Ints) -> tuple[Ints, Ints]:
        """The listings of the endpoints `there` on a day, and for each the index of its endpoint in `there`."""
        at = self.listings.at
        count = at[there + 1] - at[there]
        owner = np.repeat(np.arange(len(there)), count)
        rows = np.repeat(at[there] - np.concatenate([[0], np.cumsum(count)[:-1]]), count) + np.arange(count.sum())
        on = (self.listings.added[rows] <= day) & (day < self.listings.gone[rows])
        return rows[on], owner[on]

    def _running(self, rows: Ints, owner: Ints, there: Ints, rng: np.random.Generator) -> Flags:
        """Which models are loaded: on hosts that serve about as many as published, elsewhere one now and then."""
        local = self.listings.local[rows]
        served = self.endpoints.served[there]
        mean = self.population.settings.parameters["behaviour"]["served_running"]
        own = np.bincount(owner, weights=local, minlength=len(there))
        second = rng.random(len(there)) < np.where(own > 1, self._second(mean), 0)
        wanted = np.where(served, 1 + second, rng.random(len(there)) < self.endpoints.rate[there])
        key = np.where(local, rng.random(len(rows)), 2.0)
        return (_rank_within(owner, key) < wanted[owner]) & local

    def _second(self, mean: float) -> float:
        """The chance of a second loaded model where there are two; some hosts get their second one later."""
        return min(1.0, (mean - 1) * 1.08)

    def _hosts(self, name: str, day: int, there: Ints, when: Ints, listed: dict[str, Any]) -> pa.Table:
        table = self.endpoints.columns.take(pa.array(there))
        release = self._release(day, self.endpoints.host[there])
        edges = np.concatenate([[0], np.cumsum(listed["n"])])
        inventories = self._inventory(listed["rows"], edges)
        columns = {
            "run_id": _same(name, len(there)),
            "observed_at": pa.array(when).cast(pa.timestamp("us")),
            "server_version": self._versions.take(pa.array(release)),
            "n_models": pa.array(listed["n"], pa.int32()),
            "n_running": pa.array(listed["running"], pa.int32()),
            **inventories,
        }
        for column, values in columns.items():
            table = table.append_column(column, values)
        return _fitted(table, "hosts")

    def _inventory(self, rows: Ints, edges: Ints) -> dict[str, pa.Array]:
        """families, lineages, inventory_hash and installation of endpoints; computed once for each set of listings."""
        families, lineages, hashes = [], [], []
        kinds = self.listings.kind
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            mine = rows[start:end]
            families.append(self._words(kinds[mine].tobytes(), 0))
            lineages.append(self._words(kinds[mine].tobytes(), 1))
            hashes.append(self._hashes(mine))
        text = pa.list_(pa.string())
        return {
            "families": pa.array(families, text), "lineages": pa.array(lineages, text),
            "inventory_hash": pa.array([one[0] for one in hashes], pa.string()),
            "installation": pa.array([one[1] for one in hashes], pa.string()),
        }  # fmt: skip

    def _words(self, kinds: bytes, which: int) -> list[str]:
        found = self._cached_words.get((kinds, which))
        if found is None:
            stock = self.population.stock
            mine = [i for i in np.frombuffer(kinds, np.int64).tolist() if stock.kinds.local[i]]
            if which == 0:
                found = families(stock.catalogue[i].family for i in mine)
            else:
                found = sorted({name for i in mine if (name := stock.lineages[i].brand_family)})
            self._cached_words[kinds, which] = found
        return found

    def _hashes(self, rows: Ints) -> tuple[str, str | None]:
        key = rows.tobytes()
        if (found := self._cached_hashes.get(key)) is None:
            listed = [[self._texts[name][i] for name in _TRIPLE] for i in rows.tolist()]
            mine = [triple for triple, i in zip(listed, rows.tolist(), strict=True) if self.listings.local[i]]
            whole = inventory_hash((name, digest) for name, digest, _ in listed)
            found = (whole, inventory_mark(self._salt, mine) if mine else None)
            self._cached_hashes[key] = found
        return found

    def _probes(self, name: str, asked: Ints, present: Flags, when: Ints, rng: np.random.Generator) -> pa.Table:
        n = len(asked)
        keys = self.endpoints.columns.select(["ip", "port", "domain", "scheme"]).take(pa.array(asked))
        words = pa.array([Outcome.SUCCESS, Outcome.CONNECTION_TIMEOUT, Outcome.CONNECTION_REFUSED], pa.string())
        silent = np.where(rng.random(n) < _MAX_TIMEOUT, 1, 2)
        code = np.where(present, 0, silent)
        latency = np.where(present, np.round(20 + 180 * ((asked * 7919) % 1000) / 1000 + rng.integers(0, 9, n)), np.nan)
        columns = {
            "run_id": _same(name, n),
            "tag": pa.nulls(n, pa.string()),
            "outcome": words.take(pa.array(code)),
            "error": pa.nulls(n, pa.string()),
            "asked_at": pa.array(when).cast(pa.timestamp("us")),
            "latency_ms": pa.array(latency, from_pandas=True),
            "requests": pa.array(np.where(present, 4, 0), pa.int32()),
            "connections": pa.array(np.ones(n), pa.int32()),
            "server": pa.array(["ollama", None], pa.string()).take(pa.array((~present).astype(int))),
            "block": pa.array(np.zeros(n, np.int64)),
        }
        for column, values in columns.items():
            keys = keys.append_column(column, values)
        return _fitted(keys, "probes")

    def _run(self, name: str, start: int, probes: pa.Table) -> dict[str, Any]:
        counted = probes.group_by("outcome").aggregate([([], "count_all")]).to_pylist()
        began = datetime(1970, 1, 1) + timedelta(microseconds=start)
        settings = self.population.settings
        told = {
            "days": settings.days,
            "hosts": settings.hosts,
            "population": settings.parameters,
            "seed": settings.seed,
        }
        return {
            "run_id": name, "started_at": began, "finished_at": began + timedelta(hours=6),
            "census_version": __version__, "data_version": resources.data_version(), "schema_version": SCHEMA_VERSION,
            "is_simulated": True, "contact": None, "user_agent": f"census/{__version__} (synthetic)",
            "settings": json.dumps(told, sort_keys=True, default=str), "questions": _QUESTIONS,
            "seed": settings.seed, "shard": 0, "shards": 1,
            "target_set": hashlib.sha256(name.encode()).hexdigest(), "n_targets": len(probes), "n_excluded": 0,
            "n_invalid": 0, "n_duplicates": 0,
            "outcomes": sorted(({"name": c["outcome"], "n": c["count_all"]} for c in counted), key=lambda c: c["name"]),
            "exclusions": [], "geo": [], "n_resumed": 0, "notes": NOTE,
        }  # fmt: skip


def _capabilities(population: Population) -> pa.Array:
    """What a server says of each kind in each state: entry kind * 3 + state."""
    said: list[list[str] | None] = []
    for model in population.stock.catalogue:
        full = None if model.remote_model or model.capabilities is None else list(model.capabilities)
        early = full and [word for word in full if word != "thinking"]
        said += [None, early, full]
    return pa.array(said, pa.list_(pa.string()))


def _rank_within(group: Ints, key: npt.NDArray[Any]) -> Ints:
    """The rank of each key among those of its group, from 0; `group` is sorted."""
    order = np.lexsort((key, group))
    starts = np.searchsorted(group, group)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group))
    return rank - starts


def _fitted(table: pa.Table, name: str) -> pa.Table:
    """The columns of a table in the order and with the types of its schema; those that are missing are null."""
    schema = tables()[name].arrow
    columns = [table[f.name] if f.name in table.column_names else pa.nulls(len(table), f.type) for f in schema]
    return pa.table(columns, names=schema.names).cast(schema)


# --- the truth -------------------------------------------------------------------------------------------------------


def _write_truth(population: Population, out: Path, asked: dict[int, tuple[int, int]]) -> None:
    """Who is who, for tests: hosts, days and figures, in `truth/`. No report reads it."""
    folder = out / TRUTH
    people, stock = population.people, population.stock
    folder.mkdir(parents=True, exist_ok=True)
    hosts = pa.table(
        {
            "ip": pa.array(_address_texts(people.address)), "installation": pa.array(stock.leader),
            "observations": pa.array(people.n), "core": pa.array(people.core),
            "first_day": pa.array(people.first), "last_day": pa.array(people.last),
            "fleet": pa.array(stock.decoy), "served": pa.array(stock.served),
            "upgraded": pa.array(stock.upgrade < _NEVER),
        }
    )  # fmt: skip
    here = np.zeros(population.settings.days + 1, np.int64)
    np.add.at(here, people.first, 1)
    np.add.at(here, people.last + 1, -1)
    days = pa.table(
        {
            "date": pa.array(population.calendar.dates), "in_service": pa.array(np.cumsum(here)[:-1]),
            "asked": pa.array([asked[day][0] for day in sorted(asked)]),
            "answered": pa.array([asked[day][1] for day in sorted(asked)]),
        }
    )  # fmt: skip
    try:
        pq.write_table(hosts, folder / "hosts.parquet", compression="zstd")
        pq.write_table(days, folder / "days.parquet", compression="zstd")
        (folder / "figures.json").write_text(json.dumps(population.figures, indent=1, sort_keys=True) + "\n")
    except OSError as problem:
        raise SnapshotError(f"{problem.filename or folder}: {problem.strerror or problem}") from None
