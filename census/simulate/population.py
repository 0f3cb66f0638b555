"""A synthetic population over many months: who is where, when, with which models; calibrated to published figures.

Synthetic and calibrated: it validates the instrument, not the world. Everything follows from the parameter file and
the seed. Nothing here writes; `chronicle` does.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from census import resources
from census.choices import FULL_DAYS, FULL_HOSTS
from census.errors import DataError, UsageError
from census.families import Families
from census.model import Lineage, Model
from census.simulate import calibrate
from census.simulate.calibrate import Flags, Floats, Ints, Kinds, Pool
from census.simulate.world import Catalogued, catalogue

POOL = (6_000, 24_000)
"""Candidate portfolios, least and most: twice the hosts, and many times what the rarest published class needs."""

ROUNDS = 8
"""Rounds of calibration: assign, measure, correct. The figures settle after four or five."""

_NEVER = np.int64(1 << 30)
_BLOCK = 16
"""Bits of addresses to one autonomous system: a /16 of 240.0.0.0/4."""
_MAX_AS = 4096
_FIRST_ADDRESS = 240 << 24
_FIRST_ASN = 4_200_000_000
"""Private use (RFC 6996): no operator's number is in a synthetic run."""
_SMALLEST = 200


@dataclass(frozen=True, slots=True)
class Settings:
    """What the asker chooses. `parameters` is the parameter file, its sources left out."""

    hosts: int
    days: int
    seed: int
    parameters: dict[str, Any] = field(repr=False)

    @property
    def scale(self) -> float:
        """Hosts as a fraction of the published study's."""
        return self.hosts / FULL_HOSTS


def read_settings(hosts: int, days: int, seed: int, path: Path | None = None) -> Settings:
    """Settings with the parameters of `path`, default `data/simulate/population.toml`. Raises DataError, UsageError."""
    default = resources.data("simulate", "population.toml")
    file = path or default
    raw = _parameters(file)
    _require_like(file.name, "", raw, raw if path is None else _parameters(default))
    if hosts < _SMALLEST:
        raise UsageError(f"--hosts {hosts}: a population needs {_SMALLEST} hosts, or its shares mean nothing")
    return Settings(hosts, days, seed, calibrate.value_of(raw))


def _parameters(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise DataError(f"{file.name}: {problem}") from None


_FREE = {"[portfolio.families]", "[places.regions]"}
"""Tables whose names are the asker's own."""


def _require_like(place: str, table: str, raw: dict[str, Any], model: dict[str, Any]) -> None:
    """Every parameter that the default file has is there, with value and source. Raises DataError."""
    for name, wanted in model.items():
        found = raw.get(name)
        if table not in _FREE and not isinstance(found, dict):
            raise DataError(
                f"{place}: {table} lacks '{name}'; copy it from data/simulate/population.toml".replace("  ", " ")
            )
        if isinstance(found, dict) and "source" in wanted and not {"value", "source"} <= found.keys():
            raise DataError(f"{place}: {table} {name} needs a value and a source")
        if isinstance(found, dict) and "source" not in wanted:
            inner = f"[{table.strip('[]')}.{name}]" if table else f"[{name}]"
            _require_like(place, inner, found, wanted)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The scan days: `dates[i]` is the date of scan day i, `since_epoch` the same in days since 1970."""

    dates: tuple[date, ...]
    since_epoch: Ints


def calendar(settings: Settings) -> Calendar:
    """The dates of the scan days: every day from the first on but the outages."""
    window = settings.parameters["window"]
    missing = set(window["outages"])
    day: date = window["first_day"]
    dates: list[date] = []
    while len(dates) < settings.days:
        if day not in missing:
            dates.append(day)
        day += timedelta(days=1)
    return Calendar(tuple(dates), np.array([(d - date(1970, 1, 1)).days for d in dates]))


@dataclass(slots=True)
class People:
    """The hosts (addresses), one array entry each.

    n: observations. first, last: scan days of the first and last. present: CSR of scan days, `present[at[i]:at[i+1]]`.
    network: index into classes; system: index of the autonomous system; country, region: texts.
    """

    n: Ints
    core: Flags
    first: Ints
    last: Ints
    at: Ints
    present: npt.NDArray[np.int16]
    network: Ints
    system: Ints
    country: npt.NDArray[np.str_]
    region: npt.NDArray[np.object_]
    address: Ints
    asn_country: npt.NDArray[np.str_]
    asn_network: Ints


@dataclass(slots=True)
class Stock:
    """What the hosts have: the candidate of each, its versions, and who is which. Arrays over hosts.

    leader: the host whose installation this address continues or copies, itself if none. decoy: its fleet, 0 for none.
    """

    pool: Pool
    kinds: Kinds
    catalogue: tuple[Catalogued, ...]
    lineages: tuple[Lineage, ...]
    candidate: Ints
    version: Ints
    upgrade: Ints
    version_after: Ints
    decoy: Ints
    weak: Flags
    served: Flags
    leader: Ints


@dataclass(frozen=True, slots=True)
class Population:
    """A whole synthetic population and its truth. `releases` are (version, days since 1970), oldest first."""

    settings: Settings
    calendar: Calendar
    people: People
    stock: Stock
    releases: tuple[tuple[str, int], ...]
    figures: dict[str, float]


def populate(settings: Settings) -> Population:
    """Make a population whose figures are those of its parameters, as nearly as whole hosts allow."""
    rng = np.random.default_rng([settings.seed, 1])
    days = calendar(settings)
    people = _people(settings, rng)
    releases = _releases(settings)
    stock, figures = _calibrated(settings, days, people, releases)
    return Population(settings, days, people, stock, releases, figures)


# --- when ------------------------------------------------------------------------------------------------------------


def _people(settings: Settings, rng: np.random.Generator) -> People:
    n, core = _observations(settings, rng)
    first, last = _spans(settings, n, core, rng)
    at, present = _presence(settings, n, first, last, rng)
    network = _networks(settings, core, rng)
    people = _placed(settings, n, core, network, rng)
    return replace(people, first=first, last=last, at=at, present=present)


def _observations(settings: Settings, rng: np.random.Generator) -> tuple[Ints, Flags]:
    """Observations of each host, and who is persistent: quantiles of three distributions, not draws."""
    p, days = settings.parameters["persistence"], settings.days
    total = p["observations"] * settings.scale * days / FULL_DAYS
    n_core, n_once = round(p["core"] * settings.hosts), round(p["once"] * settings.hosts)
    low = min(p["threshold"] + 1, max(2, round(days * (p["threshold"] + 1) / FULL_DAYS)))
    extra = p["second_endpoint"]
    core = _fitted(n_core, total * p["core_observations"] / (1 + extra), low, days, p["core_spread"] * days / FULL_DAYS)
    middle = _fitted_tail(settings.hosts - n_core - n_once, total * (1 - p["core_observations"]) - n_once, low - 1)
    n = np.concatenate([core, middle, np.ones(n_once, np.int64)])
    order = rng.permutation(len(n))
    return n[order], (np.arange(len(n)) < n_core)[order]


def _fitted(n: int, total: float, low: int, high: int, spread: float) -> Ints:
    """Quantiles of a normal distribution between `low` and `high` whose sum is `total`."""
    z = _normal_quantiles((np.arange(n) + 0.5) / n)
    return _by_bisection(lambda mean: np.clip(np.rint(mean + spread * z), low, high), total, low, high * 2)


def _fitted_tail(n: int, total: float, high: int) -> Ints:
    """Quantiles of an exponential distribution from 2 to `high` whose sum is `total`."""
    tail = -np.log1p(-(np.arange(n) + 0.5) / n)
    return _by_bisection(lambda mean: np.clip(np.rint(2 + mean * tail), 2, high), total, 0.01, 1000.0)


def _by_bisection(values: Any, total: float, low: float, high: float) -> Ints:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if values(middle).sum() < total else (low, middle)
    result: Ints = values((low + high) / 2).astype(np.int64)
    return result


def _normal_quantiles(p: Floats) -> Floats:
    """Quantiles of the normal distribution, by inverting a fine table of it."""
    x = np.linspace(-6, 6, 12_001)
    density = np.exp(-x * x / 2)
    return np.interp(p, np.cumsum(density) / density.sum(), x)


def _spans(settings: Settings, n: Ints, core: Flags, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """First and last scan day of each host: persistent ones nearly the whole window, the others with gaps."""
    days, hosts = settings.days, len(n)
    dense = np.clip(rng.beta(4, 2, hosts), 0.05, 1)
    wide = n + (days - n) * rng.random(hosts) ** 0.25
    span = np.where(core, wide, np.where(n == 1, 1, n / dense))
    span = np.clip(np.ceil(span).astype(np.int64), n, days)
    first = np.floor(rng.random(hosts) * (days - span + 1)).astype(np.int64)
    return first, first + span - 1


_CHUNK = 16_384


def _presence(
    settings: Settings, n: Ints, first: Ints, last: Ints, rng: np.random.Generator
) -> tuple[Ints, npt.NDArray[np.int16]]:
    """The scan days of each host: `n` of those from `first` to `last`, both in, in spells rather than scattered."""
    at = np.concatenate([[0], np.cumsum(n)])
    parts = []
    for i in range(0, len(n), _CHUNK):
        rows = slice(i, i + _CHUNK)
        parts.append(_days_of(settings.days, n[rows], first[rows], last[rows], rng))
    return at, np.concatenate(parts)


def _days_of(days: int, n: Ints, first: Ints, last: Ints, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    noise = rng.random((len(n), days + 4), dtype=np.float32)
    keys = noise[:, 4:] * 0.6 + sum(noise[:, i : days + i] for i in range(4))
    day = np.arange(days)
    keys[(day < first[:, None]) | (day > last[:, None])] = np.inf
    keys[np.arange(len(n)), first] = -2
    keys[np.arange(len(n)), last] = -1
    rank = np.argsort(np.argsort(keys, axis=1), axis=1)
    chosen = rank < n[:, None]
    return np.nonzero(chosen)[1].astype(np.int16)


# --- where -----------------------------------------------------------------------------------------------------------


def quotas(shares: Floats, n: int) -> Ints:
    """Whole numbers that sum to `n`, nearest to the shares (largest remainders)."""
    exact = shares / shares.sum() * n
    whole: Ints = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: n - whole.sum()]] += 1
    return whole


def tier_of(settings: Settings, network: int) -> str:
    """The tier of a class of networks, `unknown` for none."""
    return str(settings.parameters["networks"]["classes"][network].get("tier", "unknown"))


def _networks(settings: Settings, core: Flags, rng: np.random.Generator) -> Ints:
    """The class of network of each host; persistent hosts by the odds of their tier."""
    classes = settings.parameters["networks"]["classes"]
    total = quotas(np.array([c["share"] for c in classes]), len(core))
    odds = settings.parameters["persistence"]["core_odds"]
    weight = np.array([odds[c.get("tier", "unknown")] for c in classes])
    of_core = np.minimum(quotas(total * weight, int(core.sum())), total)
    of_core[np.argmax(total - of_core)] += core.sum() - of_core.sum()
    network = np.empty(len(core), np.int64)
    network[core] = rng.permutation(np.repeat(np.arange(len(classes)), of_core))
    network[~core] = rng.permutation(np.repeat(np.arange(len(classes)), total - of_core))
    return network


def _placed(settings: Settings, n: Ints, core: Flags, network: Ints, rng: np.random.Generator) -> People:
    places = settings.parameters["places"]
    codes = np.array([*places["top"], *places["others"].split()])
    country = rng.permutation(np.repeat(np.arange(len(codes)), _of_countries(places, len(codes), len(n))))
    system, asn_cell = _systems(settings, country, network, rng)
    address = _addresses(system, rng)
    cells_country, cells_network = asn_cell // 100, asn_cell % 100
    region = _regions(places["regions"], codes[country], rng)
    zero = np.zeros(0, np.int64)
    return People(
        n, core, zero, zero, zero, zero.astype(np.int16), network, system, codes[country], region, address,
        codes[cells_country], cells_network,
    )  # fmt: skip


def _of_countries(places: dict[str, Any], n_codes: int, hosts: int) -> Ints:
    top = np.array(list(places["top"].values()))
    tail = 1 / (np.arange(n_codes - len(top)) + 4.0)
    shares = np.concatenate([top, tail / tail.sum() * (1 - top.sum())])
    return quotas(shares, hosts - n_codes) + 1 if hosts > 20 * n_codes else quotas(shares, hosts)


def _systems(settings: Settings, country: Ints, network: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """The autonomous system of each host, and the cell (country * 100 + class of network) of each system."""
    places = settings.parameters["places"]
    cells, cell, hosts = np.unique(country * 100 + network, return_inverse=True, return_counts=True)
    wanted = round(places["as_count"] * min(1.0, settings.scale**0.6))
    wanted = min(max(wanted, len(cells)), _MAX_AS - 1, len(country))
    systems = _spread(hosts, wanted)
    start = np.concatenate([[0], np.cumsum(systems)])
    system = np.empty(len(country), np.int64)
    order = np.argsort(cell, kind="stable")
    edges = np.concatenate([[0], np.cumsum(hosts)])
    for i in range(len(cells)):
        weight = 1 / (np.arange(systems[i]) + 1.0) ** places["as_skew"]
        sizes = quotas(weight, int(hosts[i] - systems[i])) + 1
        system[order[edges[i] : edges[i + 1]]] = rng.permutation(np.repeat(np.arange(systems[i]), sizes)) + start[i]
    return system, np.repeat(cells, systems)


def _spread(hosts: Ints, wanted: int) -> Ints:
    """How many systems each cell has: at least one, at most one a host, `wanted` in all."""
    systems = np.ones(len(hosts), np.int64)
    while (missing := wanted - systems.sum()) > 0:
        room = hosts - systems
        more = np.minimum(quotas(np.sqrt(hosts) * (room > 0), int(missing)), room)
        systems += more
    return systems


def _addresses(system: Ints, rng: np.random.Generator) -> Ints:
    """A distinct address for each host, in the /16 of its system."""
    order = np.argsort(system, kind="stable")
    rank = np.empty(len(system), np.int64)
    starts = np.searchsorted(system[order], np.arange(system.max() + 1))
    rank[order] = np.arange(len(system)) - starts[system[order]]
    step = rng.integers(0, 1 << 15, system.max() + 1) * 2 + 1
    address: Ints = _FIRST_ADDRESS + (system << _BLOCK) + ((rank + 1) * step[system]) % (1 << _BLOCK)
    return address


def _regions(
    shares: dict[str, dict[str, float]], country: npt.NDArray[np.str_], rng: np.random.Generator
) -> npt.NDArray[np.object_]:
    region = np.full(len(country), None, dtype=object)
    for code, names in shares.items():
        there = np.flatnonzero(country == code)
        counts = quotas(np.array(list(names.values())), len(there))
        region[there] = rng.permutation(np.repeat(np.array(list(names), dtype=object), counts))
    return region


def asn(system: Ints) -> Ints:
    """The numbers of autonomous systems, all for private use."""
    return _FIRST_ASN + system


# --- what ------------------------------------------------------------------------------------------------------------


def _releases(settings: Settings) -> tuple[tuple[str, int], ...]:
    path = resources.data("simulate", "releases.csv")
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return tuple((version, (date.fromisoformat(day) - date(1970, 1, 1)).days) for version, day in rows)


def state_of(version: str) -> int:
    """What a release says of capabilities: 0 nothing, 1 all but thinking (0.6.4), 2 all (0.9.0)."""
    number = tuple(map(int, version.split(".")))
    return int(number >= (0, 6, 4)) + int(number >= (0, 9, 0))


def _catalogue() -> tuple[tuple[Catalogued, ...], tuple[Lineage, ...]]:
    """The models of `data/simulate/models.toml`, and what the census itself concludes of each."""
    lists = catalogue()
    models = (*lists["ollama"], *lists["cloud"])
    families = Families.load()
    return models, tuple(families.classify(noun(model)) for model in models)


def noun(model: Catalogued) -> Model:
    """A model as a census reads it, as far as its lineage depends on it."""
    return Model(
        name=model.name, family_raw=model.family, parameter_size=model.parameters, quantization=model.quantization,
        digest=model.digest, capabilities=model.capabilities, is_remote=bool(model.remote_model),
        remote_model=model.remote_model,
    )  # fmt: skip


def _calibrated(
    settings: Settings, days: Calendar, people: People, releases: tuple[tuple[str, int], ...]
) -> tuple[Stock, dict[str, float]]:
    """Assign portfolios, measure the figures, correct the aims, and again: the last assignment and its figures."""
    models, lineages = _catalogue()
    kinds = calibrate.kinds_of(models, [one.params_b for one in lineages], [one.quant_bits for one in lineages])
    wanted = _wanted(settings)
    pool = calibrate.draw_pool(
        kinds,
        int(np.clip(2 * settings.hosts, *POOL)),
        list(settings.parameters["portfolio"]["families"]),
        _rng(settings, 2),
    )
    aims = dict(wanted)
    best: tuple[float, Stock, dict[str, float]] | None = None
    for _ in range(ROUNDS):
        stock = _assigned(settings, days, people, releases, Stock(pool, kinds, models, lineages, *_nothing()), aims)
        figures = _figures(settings, people, releases, stock)
        missed = max(abs(figures[key] - wanted[key]) for key in wanted)
        if best is None or missed < best[0]:
            best = (missed, stock, figures)
        aims = {key: float(np.clip(aims[key] + wanted[key] - figures[key], 1e-4, 0.999)) for key in aims}
    assert best is not None
    return best[1], best[2]


def _nothing() -> tuple[Any, ...]:
    none = np.zeros(0, np.int64)
    return none, none, none, none, none, none.astype(bool), none.astype(bool), none


def _rng(settings: Settings, part: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, part])


_CAPABLE = {"tools": "tools", "exact": "exactly_tools", "vision": "vision", "thinking": "thinking"}
_LISTED = {
    "q4km": "q4_k_m",
    "q40": "q4_0",
    "band:1": "band_1_3",
    "band:2": "band_4_7",
    "band:3": "band_8_14",
    "cloud": "cloud",
}


def _wanted(settings: Settings) -> dict[str, float]:
    """The figures of hosts that the calibration has to meet, as shares of all hosts (labels: of labels)."""
    p = settings.parameters["portfolio"]
    wanted = {key: p[name] for key, name in {**_CAPABLE, **_LISTED}.items()}
    wanted |= {"multi": p["multi_family"], "pair": p["multi_family"] * p["pair"]}
    wanted |= {"n4": p["four_bit"], "n16": p["sixteen_bit"]}
    return wanted | {f"family:{name}": share for name, share in p["families"].items()}


def _assigned(
    settings: Settings, days: Calendar, people: People, releases: tuple[tuple[str, int], ...], stock: Stock,
    aims: dict[str, float],
) -> Stock:  # fmt: skip
    rng = _rng(settings, 3)
    stock.candidate = _candidates(settings, days, people, stock, aims, rng)
    stock.leader = _chains(settings, people, stock, rng)
    stock.candidate = stock.candidate[stock.leader]
    stock.decoy, stock.weak = _decoys(settings, people, stock, rng)
    _exchange(settings, people, stock)
    stock.version, stock.upgrade, stock.version_after = _versions(settings, days, people, releases, stock.leader, rng)
    stock.served = _served(settings, days, people, releases, stock, rng)
    return stock


def _candidates(
    settings: Settings, days: Calendar, people: People, stock: Stock, aims: dict[str, float], rng: np.random.Generator
) -> Ints:
    """A candidate for each host: drawn by stratum, given to hosts that were there when its models were."""
    home = np.array([tier_of(settings, i) == "Telecom/Residential" for i in range(_n_networks(settings))])
    stratum = people.core * 2 + home[people.network]
    weight = np.bincount(stratum, minlength=4) / len(stratum)
    sizes, means = _sizes_by_stratum(settings, weight), _means_by_stratum(settings, weight)
    there = np.where(people.core, people.last, people.first)
    candidate = np.empty(len(stratum), np.int64)
    for i in range(4):
        hosts = np.flatnonzero(stratum == i)
        if len(hosts):
            drawn = _drawn(stock.pool, aims, sizes[i], means[i], len(hosts), rng)
            candidate[hosts] = _matched(stock.pool.since[drawn], drawn, days.since_epoch[there[hosts]], rng)
    return candidate


def _n_networks(settings: Settings) -> int:
    return len(settings.parameters["networks"]["classes"])


def _sizes_by_stratum(settings: Settings, weight: Floats) -> Floats:
    p = settings.parameters["portfolio"]
    core, home = p["size_odds"]["core"], p["size_odds"]["Telecom/Residential"]
    shares = np.array(list(p["sizes"].values()))
    large = np.array([int(size) >= 4 for size in p["sizes"]])
    odds = np.array([1.0, home, core, core * home])
    return calibrate.shares_by_odds(shares / shares.sum(), large, odds, weight)


_HOME_MEAN = 1.15
"""How much larger than the mean the inventories of consumer networks are."""


def _means_by_stratum(settings: Settings, weight: Floats) -> Floats:
    """Mean inventories, so that persistent and transient hosts together have the published mean per observation."""
    p, core = settings.parameters["portfolio"], settings.parameters["persistence"]["core_observations"]
    others = p["others_mean"]
    persistent = (p["last_mean"] - (1 - core) * others) / core
    home = np.array([weight[1] / (weight[0] + weight[1]), weight[3] / max(weight[2] + weight[3], 1e-9)])
    plain = np.array([others, persistent]) / (1 + (_HOME_MEAN - 1) * home)
    return np.array([plain[0], plain[0] * _HOME_MEAN, plain[1], plain[1] * _HOME_MEAN])


def _drawn(pool: Pool, aims: dict[str, float], sizes: Floats, mean: float, n: int, rng: np.random.Generator) -> Ints:
    """Candidates of one stratum, whose figures are the aims and whose sizes have the given shares."""
    size_class = pool.cell // 4
    columns, targets = [], []
    for key, aim in aims.items():
        if key in ("n4", "n16"):
            columns.append((pool.features[key] - aim * pool.features["labels"]) / 10)
            targets.append(0.0)
        elif key != "exact":
            columns.append(pool.features[key])
            targets.append(aim)
    columns += [pool.features["exact"], pool.features["size"] / 10]
    targets += [aims["exact"], mean / 10]
    for i in range(1, len(sizes)):
        columns.append((size_class == i).astype(float))
        targets.append(sizes[i])
    weights = calibrate.rake(np.stack(columns, axis=1), np.array(targets), np.ones(len(size_class)))
    return calibrate.sample(weights, pool.cell, n, rng)


def _matched(since: Ints, drawn: Ints, there: Ints, rng: np.random.Generator) -> Ints:
    """The drawn candidates in the order of hosts, the newest models given first, to hosts that are late enough."""
    order = np.lexsort((rng.random(len(since)), since))[::-1]
    free = np.ones(len(there), bool)
    result = np.empty(len(there), np.int64)
    position = 0
    for day in np.unique(since)[::-1]:
        group = order[position : position + int((since == day).sum())]
        position += len(group)
        hosts = np.flatnonzero(free & (there >= day))
        hosts = hosts if len(hosts) >= len(group) else np.flatnonzero(free)
        chosen = rng.choice(hosts, len(group), replace=False)
        result[chosen] = drawn[group]
        free[chosen] = False
    return result


def _chains(settings: Settings, people: People, stock: Stock, rng: np.random.Generator) -> Ints:
    """Installations that change addresses: each transient consumer address may go on where another ended.

    Only addresses of one system and one cell of portfolios are joined, so that no figure of the cells moves.
    """
    p = settings.parameters["persistence"]
    home = np.array([tier_of(settings, i) == "Telecom/Residential" for i in range(_n_networks(settings))])
    open_ = ~people.core & home[people.network] & (rng.random(len(people.n)) < p["churn"])
    leader = np.arange(len(people.n))
    ends: dict[tuple[int, int], list[tuple[int, int]]] = {}
    cell = stock.pool.cell[stock.candidate]
    members = np.flatnonzero(open_)
    for i in members[np.argsort(people.first[members], kind="stable")].tolist():
        waiting = ends.setdefault((int(people.system[i]), int(cell[i])), [])
        fit = next((k for k, (end, _) in enumerate(waiting) if 0 < people.first[i] - end <= p["churn_gap"]), None)
        if fit is not None:
            leader[i] = waiting.pop(fit)[1]
        waiting.append((int(people.last[i]), int(leader[i])))
    return leader


def _decoys(settings: Settings, people: People, stock: Stock, rng: np.random.Generator) -> tuple[Ints, Flags]:
    """The fleet of each host, 0 for none, whose members all show the portfolio of the first; and weak doubts."""
    p = settings.parameters["decoys"]
    tier = np.array([tier_of(settings, i) == "Hyperscaler" for i in range(_n_networks(settings))])
    cell = stock.pool.cell[stock.candidate]
    able = ~people.core & tier[people.network] & (cell >= 8) & (stock.leader == np.arange(len(people.n)))
    fleet = np.zeros(len(people.n), np.int64)
    wanted = round(p["share"] * len(people.n) / p["fleets"])
    cells = np.argsort(-np.bincount(cell[able], minlength=1))[: p["fleets"]]
    for number, of in enumerate(cells, start=1):
        hosts = rng.permutation(np.flatnonzero(able & (cell == of)))[:wanted]
        fleet[hosts] = number
        if len(hosts):
            stock.candidate[hosts] = _bait(stock.pool, int(of))
            stock.leader[hosts] = hosts[np.argmin(people.first[hosts])]
    weak = (fleet == 0) & (rng.random(len(people.n)) < p["weak"])
    return fleet, weak


def _bait(pool: Pool, cell: int) -> int:
    """The portfolio that a fleet of a cell shows: one of old models, the same in every round of the calibration."""
    members = np.flatnonzero(pool.cell == cell)
    return int(members[np.argmin(pool.since[members])])


def _exchange(settings: Settings, people: People, stock: Stock) -> None:
    """Make pairs and multi-family hosts come out to the host: a few transient hosts change to a portfolio like theirs.

    Quotas are met within one host in each cell of each stratum; what that leaves over in all is exchanged here.
    """
    p, kind = settings.parameters["portfolio"], stock.pool.cell % 4
    multi = round(len(people.n) * p["multi_family"])
    pairs = round(len(people.n) * p["multi_family"] * p["pair"])
    followed = np.bincount(stock.leader, minlength=len(people.n)) > 1
    able = ~people.core & ~followed & (stock.decoy == 0) & (stock.leader == np.arange(len(people.n)))
    for more, less, wanted in ((_PAIR, _MULTI, pairs), (_MULTI, _SINGLE, multi)):
        excess = int((kind[stock.candidate] >= more).sum()) - wanted
        start, end = (more, less) if excess > 0 else (less, more)
        there = able & (kind[stock.candidate] == start) & (stock.pool.size[stock.candidate] == _EXCHANGED)
        for host in np.flatnonzero(there)[: abs(excess)]:
            stock.candidate[host] = _beside(stock.pool, int(stock.candidate[host]), end)


_SINGLE, _MULTI, _PAIR = 0, 2, 3
"""Kinds of cells of the pool: one family or none; more than one; llama and qwen2 among them."""

_EXCHANGED = 2
"""Models of the hosts that are exchanged: the smallest that can have two families, and the most frequent."""


def _beside(pool: Pool, candidate: int, kind: int) -> int:
    """The candidate of another kind with as many models, none newer, that is most like the given one in all else."""
    same = (pool.cell % 4 == kind) & (pool.size == pool.size[candidate]) & (pool.since <= pool.since[candidate])
    near = np.flatnonzero(same)
    if not len(near):
        return candidate
    distance = sum(np.abs(values[near] - values[candidate]) for values in pool.features.values())
    return int(near[np.argmin(distance)])


def _versions(
    settings: Settings,
    days: Calendar,
    people: People,
    releases: tuple[tuple[str, int], ...],
    leader: Ints,
    rng: np.random.Generator,
) -> tuple[Ints, Ints, Ints]:
    """The release of each host, the scan day it is upgraded (never: beyond all days), and the release after that."""
    p, hosts = settings.parameters["behaviour"], len(people.n)
    out = np.array([day for _, day in releases])
    lag = p["lag"]
    age = np.where(rng.random(hosts) < lag["fresh"], lag["fresh_days"], lag["stale_days"]) * rng.exponential(size=hosts)
    start = days.since_epoch[people.first]
    version = np.maximum(np.searchsorted(out, start - age, side="right") - 1, 0)[leader]
    span = people.last - people.first
    chance = np.where(people.core, p["upgraded_core"], np.where(span > 7, p["upgraded_others"] * 3, 0))
    alone = leader == np.arange(hosts)
    upgraded = alone & (rng.random(hosts) < chance)
    day = people.first + 1 + np.floor(rng.random(hosts) * np.maximum(span - 1, 1) * 0.7).astype(np.int64)
    at = days.since_epoch[np.minimum(day, settings.days - 1)] - rng.exponential(8.0, hosts)
    after = np.maximum(np.searchsorted(out, at, side="right") - 1, 0)
    upgraded &= after > version
    return version, np.where(upgraded, day, _NEVER), np.where(upgraded, after, version)


def _states(releases: tuple[tuple[str, int], ...], stock: Stock) -> tuple[Ints, Ints]:
    states = np.array([state_of(version) for version, _ in releases])
    return states[stock.version], states[stock.version_after]


def _served(
    settings: Settings, days: Calendar, people: People, releases: tuple[tuple[str, int], ...], stock: Stock,
    rng: np.random.Generator,
) -> Flags:  # fmt: skip
    """Who serves: persistent, with tools, highly available; of these as many, and as available, as published."""
    p = settings.parameters["behaviour"]
    uptime = people.n / settings.days
    _, last = _states(releases, stock)
    features = stock.pool.features
    able: Flags = people.core & (last > 0) & (features["tools"][stock.candidate] > 0) & (uptime >= p["served_cut"])
    able &= features["local"][stock.candidate] >= 2
    able &= stock.pool.oldest[stock.candidate] <= days.since_epoch[people.first]
    hosts = np.flatnonzero(able)
    if not len(hosts):
        return able
    wanted = min(round(p["served"] * settings.scale), len(hosts))
    weights = calibrate.rake(uptime[hosts][:, None], np.array([p["served_uptime"]]), np.ones(len(hosts)))
    keys = np.log(weights + 1e-300) + rng.gumbel(size=len(hosts)) * _tight(len(hosts), wanted)
    served = np.zeros(len(people.n), bool)
    served[_nearest_mean(hosts, uptime, keys, wanted, p["served_uptime"])] = True
    return served


def _tight(available: int, wanted: int) -> float:
    return 1.0 if wanted < available else 0.0


def _nearest_mean(hosts: Ints, uptime: Floats, keys: Floats, wanted: int, mean: float) -> Ints:
    """`wanted` of the hosts, the best by key, then exchanged from the far end until their mean uptime is `mean`."""
    order = hosts[np.argsort(-keys)]
    chosen, spare = order[:wanted], order[wanted:]
    miss = float(uptime[chosen].mean()) - mean if wanted else 0.0
    side = 1 if miss > 0 else -1
    out = chosen[np.argsort(-side * uptime[chosen])]
    into = spare[np.argsort(side * uptime[spare])]
    gain = np.cumsum(side * (uptime[out[: len(into)]] - uptime[into[: len(out)]])) / max(wanted, 1)
    swaps = int(np.searchsorted(np.maximum.accumulate(gain), abs(miss))) if len(gain) else 0
    swaps = min(swaps, len(gain))
    return np.concatenate([out[swaps:], into[:swaps]])


# --- the figures -----------------------------------------------------------------------------------------------------


def _figures(
    settings: Settings, people: People, releases: tuple[tuple[str, int], ...], stock: Stock
) -> dict[str, float]:
    """The figures of hosts, by the definitions of `data/reports/study/`, computed from who they are."""
    features, c = stock.pool.features, stock.candidate
    before, after = _states(releases, stock)
    figures = {
        key: float(features[key][c].mean()) for key in features if key not in _CAPABLE and key not in ("n4", "n16")
    }
    labels = features["labels"][c].sum()
    figures |= {key: float(features[key][c].sum() / labels) for key in ("n4", "n16")}
    figures |= {key: float((features[key][c] * (after > 0)).mean()) for key in ("tools", "vision")}
    figures["thinking"] = float((features["thinking"][c] * (after > 1)).mean())
    early = features["exact_early"][c] * ((after == 1) | (before == 1))
    figures["exact"] = float(np.maximum(features["exact"][c] * (after > 0), early).mean())
    figures |= {f"family:{f[7:]}": float(features[f][c].mean()) for f in features if f.startswith("family:")}
    return figures
