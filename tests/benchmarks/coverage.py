"""Do intervals cover? Small populations with known truth, drawn anew for each seed, through the SQL of every estimate.

`python -m tests.benchmarks.coverage --seeds 100` prints how often each 95 % interval had the truth in it. The
populations are draws, not quotas: hosts come, stay, answer, list and upgrade at random, at rates that are written here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from census import duck, estimators, inference, summaries
from census.schema import tables

HOSTS, DAYS, START = 1200, 154, date(2025, 1, 6)
"""Of each population; START is a Monday, and a scan was made on every day."""

LARGE = 60_000
"""Hosts of the population that stands for the truth where no formula gives it."""

STAY = {"home": 40.0, "cloud": 120.0}
"""Mean days in service, exponential."""

ANSWERS = {"home": 0.7, "cloud": 0.9}
"""Chance that a host in service answers on a day."""

MEMORY_DAYS = 14
"""Days a host is still asked after its last answer."""

UPGRADES = 1.5
"""Upgrades in place a host and year."""

PORTFOLIOS = {("a",): 0.22, ("b",): 0.14, ("a", "b"): 0.2, ("c",): 0.1, ("a", "c"): 0.08, ("d",): 0.06,
              ("b", "d"): 0.06, ("a", "b", "c"): 0.06, ("e",): 0.05, ("e", "b"): 0.03}  # fmt: skip
"""What hosts declare all their life, and how many do. Family x is added to a third of all in the runs of new rules."""

RULES_FROM = 84
"""Day from which the rules find family x."""

NAMES = ("a", "b", "c", "d", "e", "x")


@dataclass(frozen=True)
class World:
    """seen, service and version[host, day]; member[host, family]; home[host]: who is of that tier."""

    seen: npt.NDArray[np.bool_]
    service: npt.NDArray[np.bool_]
    member: npt.NDArray[np.bool_]
    home: npt.NDArray[np.bool_]
    version: npt.NDArray[np.int16]


def drawn(seed: int, hosts: int = HOSTS, days: int = DAYS, spells: bool = False) -> World:
    """A population. Hosts come on any day with equal chance. `spells`: silence lasts for days instead of one."""
    rng = np.random.default_rng([seed, 77])
    home = rng.random(hosts) < 0.5
    stay = np.where(home, STAY["home"], STAY["cloud"]) * rng.exponential(size=hosts)
    first = rng.integers(0, DAYS, hosts)
    day = np.arange(days)
    service = (day >= first[:, None]) & (day < np.ceil(first + stay)[:, None])
    chance = np.where(home, ANSWERS["home"], ANSWERS["cloud"])[:, None]
    draws = rng.random((hosts, days), dtype=np.float32)
    if spells:
        draws = np.repeat(draws[:, ::4], 4, axis=1)[:, :days]
    subsets = list(PORTFOLIOS)
    picks = rng.choice(len(subsets), hosts, p=list(PORTFOLIOS.values()))
    member = np.array([[name in subset for name in NAMES] for subset in subsets])[picks]
    member[:, -1] = rng.random(hosts) < 1 / 3
    upgraded = rng.random((hosts, days), dtype=np.float32) < 1 - np.exp(-UPGRADES / 365.25)
    return World(service & (draws < chance), service, member, home, np.cumsum(upgraded, axis=1).astype(np.int16))


# --- as summaries ----------------------------------------------------------------------------------------------------


def connected(world: World) -> duckdb.DuckDBPyConnection:
    """A connection with the tables and summaries that a census of this world would have left."""
    connection = duck.open_duckdb()
    for table in tables().values():
        columns = ", ".join(f'"{column.name}" {column.sql}' for column in table.columns)
        connection.execute(f"CREATE TABLE {table.name} ({columns})")
    known = {name: word.sql for name, word in summaries.words().items()}
    for name in summaries.names():
        connection.execute(f"CREATE TABLE {name} AS {summaries.composed(f'SELECT * FROM {name}', known)}")
    _fill(connection, world)
    connection.execute(f"INSERT INTO endpoint_latest {known['endpoint_latest']}")
    return connection


def _run_id(day: int) -> str:
    return f"{START + timedelta(days=day):%Y%m%d}T000000Z-0000"


def _fill(connection: duckdb.DuckDBPyConnection, world: World) -> None:
    alive = np.flatnonzero(world.seen.any(axis=1))
    host, day = np.nonzero(world.seen)
    found = pa.table({"host": host, "day": day, "home": world.home[host], "version": world.version[host, day]})
    asked = _asked(world, alive)
    member = np.argwhere(world.member)
    connection.register("found", found)
    connection.register("asked", pa.table({"host": asked[0], "day": asked[1]}))
    connection.register("belongs", pa.table({"host": member[:, 0], "family": [NAMES[i] for i in member[:, 1]]}))
    connection.execute(_FILL)


def _asked(world: World, alive: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Who is asked when: from the first answer until MEMORY_DAYS after the last one so far."""
    day = np.arange(world.seen.shape[1])
    latest = np.maximum.accumulate(np.where(world.seen[alive], day, -1000), axis=1)
    host, when = np.nonzero(day - latest <= MEMORY_DAYS)
    return alive[host], when


_FILL = f"""
CREATE MACRO date_of(d) AS (DATE '{START}' + d::INTEGER);
CREATE MACRO run_of(d) AS strftime(date_of(d), '%Y%m%d') || 'T000000Z-0000';
CREATE MACRO named(h) AS '240.0.' || (h // 256) || '.' || (h % 256);
CREATE MACRO bit_of(d) AS (1 << (day(date_of(d)) - 1))::INTEGER;
INSERT INTO runs BY NAME
SELECT run_of(d) AS run_id, date_of(d)::TIMESTAMP AS started_at, true AS is_simulated, 'x' AS census_version,
       CASE WHEN d >= {RULES_FROM} THEN 'new' ELSE 'old' END AS data_version
FROM range({DAYS}) AS t(d);
INSERT INTO sightings BY NAME
SELECT named(host) AS ip, 11434 AS port, '' AS domain, 'ollama' AS server,
       date_trunc('month', date_of(day))::DATE AS month,
       bit_or(bit_of(day)) AS days_seen, count(*) AS observations, count(*) AS lists_read, 0 AS models_listed,
       0 AS running_known, 0 AS observations_running, 0 AS models_running, 0 AS most_models,
       min(date_of(day)) AS first_seen, max(date_of(day)) AS last_seen
FROM found GROUP BY ALL;
INSERT INTO askings BY NAME
SELECT named(host) AS ip, 11434 AS port, '' AS domain, date_trunc('month', date_of(day))::DATE AS month,
       bit_or(bit_of(day)) AS days_asked, 0 AS days_answered
FROM asked GROUP BY ALL;
INSERT INTO family_sightings BY NAME
SELECT named(host) AS ip, 11434 AS port, '' AS domain, 'ollama' AS server, family,
       date_trunc('month', date_of(day))::DATE AS month, bit_or(bit_of(day)) AS days_seen, count(*) AS observations
FROM found JOIN belongs USING (host) WHERE family <> 'x' OR day >= {RULES_FROM} GROUP BY ALL;
INSERT INTO version_sightings BY NAME
SELECT named(host) AS ip, 11434 AS port, '' AS domain, 'ollama' AS server,
       '0.' || (1 + version) || '.0' AS server_version,
       min(run_of(day)) AS first_run, max(run_of(day)) AS last_run, count(*) AS observations
FROM found GROUP BY host, version;
INSERT INTO hosts BY NAME
SELECT run_of(max(day)) AS run_id, date_of(max(day))::TIMESTAMP AS observed_at, named(host) AS ip, 11434 AS port,
       '' AS domain,
       'ollama' AS server, 0 AS suspect, CASE WHEN any_value(home) THEN 'home' ELSE 'cloud' END AS tier
FROM found GROUP BY host;
"""


# --- what is true ----------------------------------------------------------------------------------------------------

Interval = tuple[float | None, float, float | None]
"""(low, truth, high)."""

_SHARE = dict(zip(NAMES, [sum(p for subset, p in PORTFOLIOS.items() if name in subset) for name in NAMES], strict=True))
_BOTH = sum(p for subset, p in PORTFOLIOS.items() if {"a", "b"} <= set(subset))
_PLAIN = ("a", "b", "c", "d", "e")


@cache
def _many(name: str) -> duckdb.DuckDBPyConnection:
    """A population so large that its figures are the truth."""
    return connected(drawn(10**6 + len(name), LARGE))


@cache
def _truth(name: str) -> list[dict[str, object]]:
    return _plainly(_many("truth"), name)


def _plainly(connection: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, object]]:
    return inference.run(connection, name).to_pylist()


@cache
def _stays() -> npt.NDArray[np.float64]:
    """Days from first to last answer of hosts of both tiers, watched for as long as they live."""
    world = drawn(5, 40_000, 1500)
    kept = world.seen[world.seen.any(axis=1)]
    days = kept.shape[1] - np.argmax(kept[:, ::-1], axis=1) - np.argmax(kept, axis=1)
    return days.astype(float)


# --- what is asked ---------------------------------------------------------------------------------------------------


def _told(rows: list[dict[str, object]], **wanted: object) -> dict[str, float]:
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))  # type: ignore[return-value]


def _lift(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    known = next(row for row in _plainly(connection, "lift") if {row["family_a"], row["family_b"]} == {"a", "b"})
    return known["lift_low"], _BOTH / (_SHARE["a"] * _SHARE["b"]), known["lift_high"]  # type: ignore[return-value]


def _without_x(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DELETE FROM family_sightings WHERE family = 'x'")


def _hhi(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    _without_x(connection)
    found = _told(_plainly(connection, "concentration"), figure="herfindahl_hirschman")
    shares = np.array([_SHARE[name] for name in _PLAIN])
    return found["low"], float(((shares / shares.sum()) ** 2).sum()), found["high"]


def _gini(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    found = _told(_plainly(connection, "concentration"), figure="gini_of_observations")
    return found["low"], _told(_truth("concentration"), figure="gini_of_observations")["value"], found["high"]


def _survives(day: int) -> Callable[[duckdb.DuckDBPyConnection, World], Interval]:
    def asked(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
        found = _told(_plainly(connection, "survival"), tier="all", day=day)
        return found["low"], float((_stays() > day).mean()), found["high"]

    return asked


def _recaptured(connection: duckdb.DuckDBPyConnection, world: World) -> Interval:
    day = DAYS // 2
    found = _told(_plainly(connection, "population"), day=START + timedelta(days=day))
    return found["low"], float(world.service[:, day].sum()), found["high"]


def _new(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    week = START + timedelta(weeks=12)
    found, truth = _told(_plainly(connection, "churn"), week=week), _told(_truth("churn"), week=week)
    return found["new_low"], truth["new_share"], found["new_high"]


def _upgraded(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    found = _told(_plainly(connection, "upgrades"), tier="all")
    return found["a_year_low"], UPGRADES, found["a_year_high"]


def _monthly(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    found = _told(_plainly(connection, "trends"), family="a", month=date(2025, 4, 1))
    return found["low"], _SHARE["a"], found["high"]


def _ranks(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    _without_x(connection)
    found = _told(_plainly(connection, "stability"), month=date(2025, 4, 1))
    return found["low"], 1.0, found["high"]


def _quiet(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    """No break where nothing breaks: family b, which nobody gains or loses."""
    told = [row["change"] for row in _plainly(connection, "trends") if row["family"] == "b" and row["change"]]
    return 0.0, float(len(told)), 0.0


def _stepped(connection: duckdb.DuckDBPyConnection, _: World) -> Interval:
    """A step in the week in which the rules changed, and marked so: family a is taken for x on a quarter of hosts."""
    connection.execute(
        "UPDATE family_sightings SET family = 'y' "
        "WHERE family = 'a' AND hash(ip) % 4 = 0 AND month >= DATE '2025-04-01'"
    )
    connection.execute("UPDATE runs SET data_version = CASE WHEN started_at < '2025-04-01' THEN 'old' ELSE 'new' END")
    told = [row["change"] for row in _plainly(connection, "trends") if row["family"] == "a"]
    hit = any("2025-03-31: rules" in str(text) for text in told)
    return 1.0, float(hit), 1.0


CASES: dict[str, tuple[float, bool, Callable[[duckdb.DuckDBPyConnection, World], Interval], str]] = {
    "lift, pair of families": (0.95, False, _lift, "delta method"),
    "Herfindahl index of families": (0.95, False, _hhi, "Poisson bootstrap of hosts"),
    "Gini of observations": (0.95, False, _gini, "Poisson bootstrap of hosts"),
    "survival beyond 7 days": (0.95, False, _survives(7), "Kaplan-Meier"),
    "survival beyond 30 days": (0.95, False, _survives(30), "Kaplan-Meier"),
    "survival beyond 90 days": (0.95, False, _survives(90), "Kaplan-Meier"),
    "hosts in service on a day": (0.95, False, _recaptured, "Manly-Parr; silence falls on single days"),
    "… silence in spells of four days": (0.95, True, _recaptured, "Manly-Parr; its assumption fails"),
    "new hosts of a week": (0.95, False, _new, "Wilson"),
    "share of a family in a month": (0.95, False, _monthly, "Wilson"),
    "upgrades a year": (0.95, False, _upgraded, "Garwood"),
    "Kendall tau of two months": (0.95, False, _ranks, "Poisson bootstrap of hosts; the truth, 1, is at the edge"),
    "no break where nothing breaks": (0.95, False, _quiet, "Grubbs and permutations"),
    "a step by the rules, found in its week": (
        0.95,
        False,
        _stepped,
        "power, not coverage: a quarter goes",
    ),
}
"""Name -> (stated rate, spells of silence, what is asked, method)."""


def covered(seeds: int, say: Callable[[str], None] = lambda _: None) -> Iterator[tuple[str, float, int, int, str]]:
    """(case, stated rate, covered, seeds, method) of each case."""
    hits = dict.fromkeys(CASES, 0)
    for seed in range(seeds):
        for name, (_, spells, ask, _) in CASES.items():
            hits[name] += _hit(ask, seed, spells)
        say(f"seed {seed + 1} of {seeds}")
    for name, (rate, _, _, method) in CASES.items():
        yield name, rate, hits[name], seeds, method


def _hit(ask: Callable[[duckdb.DuckDBPyConnection, World], Interval], seed: int, spells: bool) -> bool:
    world = drawn(seed, spells=spells)
    with closing(connected(world)) as connection:
        low, truth, high = ask(connection, world)
    return low is not None and high is not None and low - 1e-9 <= truth <= high + 1e-9


def table(seeds: int, say: Callable[[str], None] = lambda _: None) -> str:
    """The coverage of every estimator as a Markdown table, with a binomial interval of its own."""
    lines = ["| interval | stated | observed | 95 % of the observed | method |", "|---|--:|--:|--:|---|"]
    for name, rate, hits, n, method in covered(seeds, say):
        low, high = estimators.wilson(hits, n)
        lines.append(f"| {name} | {rate:.0%} | {hits} of {n} | {low:.1%} to {high:.1%} | {method} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="Populations for each interval.")
    print(table(parser.parse_args().seeds))


if __name__ == "__main__":
    main()
