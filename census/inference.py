"""Beyond counting: estimates with intervals over months of runs, each with its method and where the method is from.

An estimate reads the summaries and the words of the study; its interval says how far chance alone could move it, never
how far the hosts that were not asked differ.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from census import duck, query, report, resources, study, summaries
from census.errors import QueryError, UsageError
from census.manifest import table_sql
from census.schema import tables

Floats = npt.NDArray[np.float64]

Z = 1.959964
"""Of a 95 % interval."""

RESAMPLES = 200
"""Resamples of hosts for an interval."""

LEADING = 12
"""Families whose pairs are shown."""

SILENT_DAYS = 7
"""Days a host must have been asked in vain after its last answer before it counts as gone."""

_GRID = (1, 7, 30, 90, 180)
"""Days at which survival is printed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One question of this kind. method: what is computed, of what, with what interval, and after whom."""

    question: str
    method: str
    run: Callable[[duckdb.DuckDBPyConnection], pa.Table]


def answer(output: Path, name: str, *, suspects: str = "include", **chosen: Any) -> tuple[Estimate, pa.Table]:
    """The table of one estimate over all finished runs of `output`, or those chosen. Raises QueryError."""
    runs = query.select_runs(output, **{**chosen, "runs": chosen.get("runs") or None})
    if not runs:
        raise QueryError(f"{output}: no finished run to report on")
    kept = summaries.refresh(output, runs)
    with closing(duck.open_duckdb(memory_limit=study.MEMORY)) as connection:
        summaries.attach(connection, kept)
        connection.execute(f"CREATE TABLE runs AS {table_sql(tables()['runs'], runs)}")
        study.prepare(connection, suspects)
        return ESTIMATES[name], ESTIMATES[name].run(connection)


def render(estimate: Estimate, rows: pa.Table, format: str) -> str | bytes:
    """The rows in any format; with question and method where the format has room for words."""
    body = report.render_table(rows, format)
    if format in ("table", "markdown") and isinstance(body, str):
        return f"{estimate.question}\n\n{body}\n{estimate.method}\n"
    return body


# --- families --------------------------------------------------------------------------------------------------------


def _membership(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """(host, family, names): one entry for each host and family it ever declared, as numbers."""
    sql = "SELECT dense_rank() OVER (ORDER BY ip) - 1 AS host, family FROM host_architecture ORDER BY host, family"
    found = connection.execute(sql).fetchnumpy()
    names, family = np.unique(np.asarray(found["family"], dtype=str), return_inverse=True)
    return np.asarray(found["host"], dtype=np.int64), family.astype(np.int64), names.tolist()


def _lift(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    host, family, names = _membership(connection)
    matrix = np.zeros((int(host.max()) + 1 if len(host) else 0, len(names)), dtype=np.float32)
    matrix[host, family] = 1
    sizes = matrix.sum(axis=1).astype(np.int64)
    single, expected, spread = matrix.sum(axis=0), *_of_sizes(sizes, matrix.sum(axis=0).astype(float))
    both = matrix.T @ matrix
    leading = np.argsort(-single, kind="stable")[:LEADING]
    rows = [_pair(names, a, b, both, single, len(matrix), expected, spread) for a in leading for b in leading if a < b]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (-row["hosts"], row["family_a"], row["family_b"])))


def _pair(
    names: list[str], a: int, b: int, both: Any, single: Any, n: int, expected: Floats, spread: Floats
) -> dict[str, Any]:
    low, lift, high = lift_interval(float(both[a, b]), float(single[a]), float(single[b]), n)
    known = float(expected[a, b])
    return {
        "family_a": names[a], "family_b": names[b], "hosts": int(both[a, b]), "lift": lift, "lift_low": low,
        "lift_high": high, "expected_same_sizes": known,
        "lift_same_sizes": float(both[a, b]) / known if known else None,
        "chance_low": max(0.0, 1 - Z * float(spread[a, b]) / known) if known else None,
        "chance_high": 1 + Z * float(spread[a, b]) / known if known else None,
    }  # fmt: skip


def lift_interval(both: float, a: float, b: float, n: int) -> tuple[float | None, float | None, float | None]:
    """(low, lift, high) of P(ab) / (P(a) P(b)): the delta method on its logarithm, cells multinomial."""
    if not both:
        return None, 0.0 if a and b else None, None
    cells = np.array([both, a - both, b - both]) / n
    slope = np.array([n / both - n / a - n / b, -n / a, -n / b])
    error = np.sqrt(max((cells * slope**2).sum() - (cells * slope).sum() ** 2, 0) / n)
    lift = both * n / (a * b)
    return float(lift * np.exp(-Z * error)), float(lift), float(lift * np.exp(Z * error))


def _of_sizes(sizes: npt.NDArray[np.int64], single: Floats) -> tuple[Floats, Floats]:
    """Expected hosts of each pair, and their standard deviation, were families given at random to hosts of these sizes.

    The maximum-entropy model whose hosts have the expected sizes and whose families the expected hosts (Saracco et al.
    2015): logit P = size effect + family effect, fitted by alternating scaling; hosts of one size are alike.
    """
    size, hosts = np.unique(sizes, return_counts=True)
    x, y = size / max(single.sum(), 1.0) + 1e-9, single + 1e-9
    for _ in range(3000):
        denominator = 1 + x[:, None] * y[None, :]
        x_next = size / (y[None, :] / denominator).sum(axis=1)
        y = single / (hosts[:, None] * x_next[:, None] / (1 + x_next[:, None] * y[None, :])).sum(axis=0)
        if np.allclose(x_next, x, rtol=1e-9):
            break
        x = x_next
    p = x[:, None] * y[None, :] / (1 + x[:, None] * y[None, :])
    expected = (p * hosts[:, None]).T @ p
    return expected, np.sqrt(np.maximum(expected - (p**2 * hosts[:, None]).T @ p**2, 0))


def _concentration(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    host, family, names = _membership(connection)
    n, rng = int(host.max()) + 1 if len(host) else 0, np.random.default_rng(0)
    observed = np.sort(connection.execute("SELECT observations FROM host_life").fetchnumpy()["observations"])
    weights = [np.ones(n)] + [rng.poisson(1.0, n).astype(float) for _ in range(RESAMPLES)]
    hhi = np.array(
        [_herfindahl(np.bincount(family, weights=w[host], minlength=len(names)).astype(float)) for w in weights]
    )
    ginis = [gini(observed, np.ones(len(observed)))]
    ginis += [gini(observed, rng.poisson(1.0, len(observed)).astype(float)) for _ in range(RESAMPLES)]
    named = {"herfindahl_hirschman": hhi, "effective_families": 1 / hhi, "gini_of_observations": np.array(ginis)}
    rows = [{"figure": name, "value": float(v[0]), **_percentiles(v[1:])} for name, v in named.items()]
    return pa.Table.from_pylist(rows)


def _percentiles(values: Floats) -> dict[str, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def _herfindahl(counts: Floats) -> float:
    return float(((counts / counts.sum()) ** 2).sum())


def gini(ordered: npt.NDArray[Any], weights: Floats) -> float:
    """Gini coefficient of values in ascending order, each there `weights` times."""
    share = np.concatenate([[0.0], np.cumsum(ordered * weights)])
    people = np.concatenate([[0.0], np.cumsum(weights)])
    area = ((share[1:] + share[:-1]) * np.diff(people)).sum() / (share[-1] * people[-1])
    return float(1 - area)


def _stability(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    kendalltau = _scipy().kendalltau
    sql = (
        "SELECT month, family, count(DISTINCT ip)::DOUBLE AS hosts FROM family_sightings SEMI JOIN studied "
        "USING (ip) "
        f"WHERE server = '{study.SERVER}' GROUP BY ALL ORDER BY month, family"
    )
    months: dict[Any, dict[str, float]] = {}
    for month, family, hosts in connection.execute(sql).fetchall():
        months.setdefault(month, {})[family] = hosts
    rows = []
    for before, after in zip(list(months)[:-1], list(months)[1:], strict=True):
        common = sorted(set(months[before]) & set(months[after]))
        found = kendalltau([months[before][f] for f in common], [months[after][f] for f in common])
        rows.append({"month": after, "families": len(common), "kendall_tau": float(found.statistic)})
    return pa.Table.from_pylist(rows)


# --- lives -----------------------------------------------------------------------------------------------------------

_LIVES = f"""
WITH last_asked AS (
  SELECT ip, max((month + to_days((bit_length(ltrim(days_asked::BIT::VARCHAR, '0')) // 8 - 1)::INTEGER))::DATE) AS asked
  FROM askings SEMI JOIN studied USING (ip) GROUP BY ip
)
SELECT coalesce(tier, 'unknown') AS tier, (last_day - first_day + 1)::DOUBLE AS days,
       asked - last_day >= {SILENT_DAYS} AS gone, first_day, last_day
FROM host_life JOIN last_asked USING (ip)
"""


def _survival(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    found = connection.execute(_LIVES).fetchnumpy()
    tier, days = np.asarray(found["tier"], dtype=str), np.asarray(found["days"], dtype=float)
    gone = np.asarray(found["gone"], dtype=bool)
    rows = [row for name in ("all", *np.unique(tier).tolist()) for row in _curve(name, tier, days, gone)]
    return pa.Table.from_pylist(rows)


def _curve(name: str, tier: Any, days: Floats, gone: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    mine = np.ones(len(tier), bool) if name == "all" else tier == name
    stats = _scipy()
    data = stats.CensoredData.right_censored(days[mine], ~gone[mine])
    curve = stats.ecdf(data).sf
    band = curve.confidence_interval(method="log-log")
    rows = []
    for day in _GRID:
        value, low, high = (float(one.evaluate(day)) for one in (curve, band.low, band.high))
        known = {"low": low if np.isfinite(low) else None, "high": high if np.isfinite(high) else None}
        counts = {"hosts": int(mine.sum()), "gone": int(gone[mine].sum())}
        rows.append({"tier": name, "day": day, "still_there_share": value, **known, **counts})
    return rows


def _scipy() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise UsageError("this report needs scipy: install census[study]") from None
    return stats


_DAYS = f"""
SELECT DISTINCT ip, (month + to_days(bit::INTEGER))::DATE AS day
FROM sightings SEMI JOIN studied USING (ip), range(31) AS bits(bit)
WHERE server = '{study.SERVER}' AND days_seen & (1 << bit)::INTEGER <> 0
"""


def _churn(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    sql = f"""
    WITH seen AS (SELECT DISTINCT ip, date_trunc('week', day)::DATE AS week FROM ({_DAYS})),
         life AS (SELECT ip, min(week) AS first_week, max(week) AS last_week FROM seen GROUP BY ip),
         before AS (SELECT ip, week, lag(week) OVER (PARTITION BY ip ORDER BY week) AS previous FROM seen)
    SELECT week, count(*) AS hosts, count(*) FILTER (week = first_week) AS new_hosts,
           count(*) FILTER (week - previous > 7) AS back_hosts,
           count(*) FILTER (week = last_week AND week < (SELECT max(week) FROM seen)) AS last_seen_hosts,
           count(*) FILTER (week = first_week) / count(*) AS new_share,
           count(*) FILTER (week = last_week AND week < (SELECT max(week) FROM seen)) / count(*) AS last_seen_share
    FROM before JOIN life USING (ip) GROUP BY week ORDER BY week
    """
    return connection.sql(sql).to_arrow_table()


def _population(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    sql = f"""
    WITH day AS (SELECT scanned, row_number() OVER (ORDER BY scanned) AS nth FROM scan_days),
         seen AS MATERIALIZED (
           SELECT ip, nth, coalesce(tier, 'unknown') AS tier
           FROM ({_DAYS}) AS d JOIN day ON d.day = day.scanned JOIN host_life USING (ip)
         ),
         around AS (
           SELECT tier, nth, lag(nth) OVER mine AS previous, lead(nth) OVER mine AS following
           FROM seen WINDOW mine AS (PARTITION BY ip ORDER BY nth)
         ),
         answered AS (
           SELECT tier, nth, count(*) AS n,
                  count(*) FILTER (previous = nth - 1 AND following = nth + 1) AS both_sides
           FROM around GROUP BY ALL
         ),
         missed AS (
           SELECT tier, nth + 1 AS nth, count(*) AS missed FROM around WHERE following = nth + 2 GROUP BY ALL
         )
    SELECT scanned, tier, n, both_sides, coalesce(missed, 0) AS missed
    FROM answered LEFT JOIN missed USING (tier, nth) JOIN day USING (nth) ORDER BY scanned, tier
    """
    days: dict[Any, list[tuple[int, int, int]]] = {}
    for scanned, _, n, both, missed in connection.execute(sql).fetchall():
        days.setdefault(scanned, []).append((n, both, missed))
    inner = list(days)[1:-1]
    return pa.Table.from_pylist([{"day": day, **recaptured(days[day])} for day in inner])


def recaptured(strata: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Population of one day from (answered, answered among those known to be there, silent among them) by stratum.

    Manly and Parr (1968): hosts that answer the day before and the day after are there in between.
    """
    total, variance = 0.0, 0.0
    for n, both, missed in strata:
        p = (both + 1) / (both + missed + 1)
        total += n / p
        variance += n * (1 - p) / p**2 + (n / p) ** 2 * (1 - p) / (p * (both + missed + 1))
    error = Z * float(np.sqrt(variance))
    answered = sum(n for n, _, _ in strata)
    return {"answered": answered, "hosts": total, "low": max(total - error, answered), "high": total + error}


def _installations(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    sql = """
    WITH mark AS (
           SELECT DISTINCT ip, hash(name, digest, modified_at) AS mark FROM host_inventory
           WHERE modified_at IS NOT NULL AND NOT remote
         ),
         linked AS (SELECT ip, lag(ip) OVER (PARTITION BY mark ORDER BY ip) AS other FROM mark)
    SELECT ip, other FROM linked WHERE other IS NOT NULL GROUP BY ALL HAVING count(*) >= 2
    """
    root: dict[str, str] = {}

    def find(ip: str) -> str:
        while root.setdefault(ip, ip) != ip:
            root[ip] = root[root[ip]]
            ip = root[ip]
        return ip

    for ip, other in connection.execute(sql).fetchall():
        root[find(ip)] = find(other)
    sizes = np.unique([find(ip) for ip in list(root)], return_counts=True)[1] if root else np.zeros(0, np.int64)
    hosts, able = connection.execute(
        "SELECT (SELECT count(*) FROM host_life), (SELECT count(*) FROM (SELECT ip FROM host_inventory "
        "WHERE modified_at IS NOT NULL AND NOT remote GROUP BY ip HAVING count(DISTINCT (name, digest, "
        "modified_at)) >= 2))"
    ).fetchall()[0]
    rows = [
        ("hosts", hosts), ("hosts_with_two_dated_models", able), ("hosts_linked", int(sizes.sum())),
        ("installations_with_several_hosts", len(sizes)),
        ("installations_at_most", hosts - int(sizes.sum()) + len(sizes)),
        ("hosts_of_the_largest", int(sizes.max()) if len(sizes) else 0),
    ]  # fmt: skip
    return pa.Table.from_pylist([{"figure": name, "value": value} for name, value in rows])


def _sensitivity(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    rows = study.answer(connection).rows
    values = {row["id"]: row["value"] for row in rows}
    out = []
    for one in study.statistics().values():
        main = values.get(one.id)
        if not isinstance(main, int | float):
            continue
        same = [p.suffix for p in one.parts if p.suffix and p.unit == one.parts[0].unit]
        others = [values.get(f"{one.id}:{suffix.replace('_', '-')}") for suffix in same]
        known = [float(v) for v in others if isinstance(v, int | float)]
        clean = values.get(f"{one.id}:{study.CLEAN}")
        span = {"variants_low": min(known, default=None), "variants_high": max(known, default=None)}
        out.append(
            {
                "id": one.id,
                "name": one.parts[0].name,
                "value": float(main),
                "without_suspects": float(clean or 0),
                **span,
            }
        )
    return pa.Table.from_pylist(out)


def _context(_: duckdb.DuckDBPyConnection) -> pa.Table:
    raw = tomllib.loads(resources.data("context.toml").read_text(encoding="utf-8"))
    return pa.Table.from_pylist([{**entry, "warning": raw["warning"]} for entry in raw["indicator"]])


ESTIMATES: Mapping[str, Estimate] = MappingProxyType(
    {
        "lift": Estimate(
            "Which families are deployed together more often than chance would have it?",
            "lift: P(ab) / (P(a) P(b)) over hosts with a family, 95 % interval by the delta method on its logarithm. "
            "same sizes: expected under the maximum-entropy model that keeps the number of families of hosts and "
            "of hosts of "
            "families (Saracco et al. 2015, Scientific Reports 5:10595); chance_low to chance_high is where 95 % "
            "of its "
            "lifts lie.",
            _lift,
        ),
        "concentration": Estimate(
            "How concentrated are families and observations?",
            f"Herfindahl-Hirschman index of pairs of host and family, its inverse, and the Gini coefficient of "
            f"observations; "
            f"95 % percentile intervals of {RESAMPLES} Poisson bootstraps over hosts (Chamandy et al. 2012).",
            _concentration,
        ),
        "survival": Estimate(
            "How long do hosts stay?",
            f"Kaplan-Meier (1958) from the first to the last day seen; gone is a host asked in vain for "
            f"{SILENT_DAYS} days or "
            "more after its last answer, all others are censored; log-log intervals of 95 % (scipy.stats.ecdf).",
            _survival,
        ),
        "churn": Estimate(
            "How many hosts come and go each week?",
            "hosts seen in a week (from Monday), of these never before, back after a week or more, and never "
            "again; the first "
            "weeks have too many new ones and the last too many last ones.",
            _churn,
        ),
        "population": Estimate(
            "How many hosts are there on a day, with those that did not answer?",
            "Manly and Parr (1968), by tier: hosts that answer on the scan day before and after are there in "
            "between, and tell "
            "the chance of an answer. Spells of silence make it too small, and hosts never seen are in no estimate.",
            _population,
        ),
        "installations": Estimate(
            "How many installations are behind the addresses?",
            "two addresses are one installation, or copies of one disk, when they list two models or more of "
            "equal name, digest "
            "and time of change; addresses with fewer dated models cannot be linked, so the number is an upper "
            "bound.",
            _installations,
        ),
        "stability": Estimate(
            "How stable are the ranks of families from month to month?",
            "Kendall's tau-b (1945) of hosts by family in a month and the month before (scipy.stats.kendalltau).",
            _stability,
        ),
        "sensitivity": Estimate(
            "How far do suspects and definitions move each figure?",
            "every figure of the study, the same without suspect hosts, and the range of its variants of the "
            "same unit.",
            _sensitivity,
        ),
        "context": Estimate(
            "What do other indicators of adoption say?",
            "published figures as quoted; see the column warning.",
            _context,
        ),
    }
)  # fmt: skip
