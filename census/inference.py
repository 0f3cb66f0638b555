"""Beyond counting: estimates with intervals over months of runs, each with its method and where the method is from.

What is read for an estimate is decided in SQL, in the files of `data/reports/estimates/`; how it is estimated in
`estimators`; here the two are joined.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from census import duck, estimators, formats, query, report, resources, study, summaries
from census.errors import DataError, QueryError
from census.estimators import Floats, wilson
from census.manifest import table_sql
from census.schema import tables

FOLDER = "estimates"

LEADING = 12
"""Families whose pairs are shown."""

RANK_RESAMPLES = 100
"""Resamples of hosts for the interval of a rank correlation: each counts every family of every month."""

GRID = (1, 7, 30, 90, 180)
"""Days at which survival is printed."""

BY_EYE = ("table", "markdown", "html")
"""Formats that are read by eye."""

WARNING = "warning"
"""A column that says the same of every row."""

CHANGES, BETWEEN = "change", "; "
"""A column of several sentences, and what is between them."""

Rows = list[dict[str, Any]]
Interval = tuple[float, float, float]
"""A figure, and the lower and the upper end of its interval."""

Read = Callable[[str], pa.Table]
"""Name of one of an estimate's statements -> its rows."""

_PART = re.compile(r"^-- rows: (\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Estimate:
    """One file of `data/reports/estimates/`: question, method (of what, with what interval, after whom), statements."""

    name: str
    question: str
    method: str
    statements: Mapping[str, str]


@cache
def estimates() -> Mapping[str, Estimate]:
    """The estimates by name. Raises DataError for a file without question, method, or statement."""
    found = [_read(path) for path in sorted(resources.data("reports", FOLDER).glob("*.sql"))]
    return MappingProxyType({one.name: one for one in found})


def _read(path: Path) -> Estimate:
    head, *parts = _PART.split(path.read_text(encoding="utf-8"))
    question, _, method = head.replace("\n--   ", " ").partition("\n-- method: ")
    if not parts or not method or not question.endswith("?"):
        raise DataError(f"{path.name}: it needs '-- question?', '-- method: …', and '-- rows: name' before a statement")
    statements = {name: sql.strip().removesuffix(";") for name, sql in zip(parts[::2], parts[1::2], strict=True)}
    return Estimate(path.stem, question.removeprefix("-- "), method.strip(), MappingProxyType(statements))


def check() -> list[str]:
    """What is wrong with estimates and indicators, one line each. Raises DataError for a file without its parts.

    The SQL is run against the empty tables of `schemas/tables/`.
    """
    indicators()
    lines = [f"{name}.sql: there is no such estimate, or no such file" for name in sorted(set(estimates()) ^ set(_RUN))]
    with closing(duck.open_duckdb()) as empty:
        report.create_tables(empty)
        with study.Asker.open(empty, "include") as asker:
            return lines + [line for one in estimates().values() for line in _broken(one, asker)]


def _broken(one: Estimate, asker: study.Asker) -> Iterator[str]:
    for sql in one.statements.values():
        try:
            asker.table(sql, f"{one.name}.sql")
        except QueryError as problem:
            yield str(problem)


def estimates_page() -> str:
    """The page of the documentation on estimates."""
    parts = [
        "<!-- Written by `make docs`; edit the source it names, not this page. -->\n\n# Estimates\n",
        "Asked as `census report NAME`, of many runs. Each is a file of `data/reports/estimates/`: its question, its",
        "method, and the SQL of what it reads. How often their intervals cover is in [The study](study.md).\n",
    ]
    parts += [f"## {one.name}\n\n{one.question}\n\n{one.method}\n" for one in estimates().values()]
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of one estimate, and what they cover. suspects: how many suspect hosts are in or left out."""

    estimate: Estimate
    rows: pa.Table
    runs: tuple[str, ...]
    synthetic: bool
    suspects: str


def answer(output: Path, name: str, *, suspects: str = "include", **chosen: Any) -> Answer:
    """One estimate over all finished runs of `output`, or those chosen. Raises QueryError, SnapshotError."""
    runs = query.select_runs(output, **{**chosen, "runs": chosen.get("runs") or None})
    if not runs:
        raise QueryError(f"{output}: no finished run to report on")
    kept = summaries.refresh(output, runs)
    with closing(duck.open_duckdb(memory_limit=study.MEMORY)) as connection:
        summaries.attach(connection, kept)
        connection.execute(f"CREATE TABLE runs AS {table_sql(tables()['runs'], runs)}")
        synthetic = study.is_synthetic(connection)
        with study.Asker.open(connection, suspects) as asker:
            rows, note = _rows(asker, name), asker.suspects_note()
    return Answer(estimates()[name], rows, tuple(run.run_id for run in runs), synthetic, note)


def run(connection: duckdb.DuckDBPyConnection, name: str, suspects: str = "include") -> pa.Table:
    """The rows of one estimate over the summaries that `connection` shows, or the tables that they are sums of."""
    with study.Asker.open(connection, suspects) as asker:
        return _rows(asker, name)


def _rows(asker: study.Asker, name: str) -> pa.Table:
    one = estimates()[name]
    return pa.Table.from_pylist(_RUN[name](lambda part: asker.table(one.statements[part], f"{name}.sql"), asker))


def render(answer: Answer, format: str, limit: int | None = None) -> str | bytes:
    """The rows (the first `limit`) in any format, with question, method and cover where it has room for words."""
    one, rows = answer.estimate, answer.rows.slice(0, limit)
    about = {"report": one.name, "question": one.question, "synthetic": answer.synthetic, "method": one.method}
    about |= {"runs": list(answer.runs), "suspects": answer.suspects}
    legend = tuple(_legend(answer, rows.num_rows))
    rows = _for_people(rows) if format in BY_EYE else rows
    return formats.write(formats.Page(one.question, rows, legend, about, answer.synthetic, formats.precise), format)


def _for_people(rows: pa.Table) -> pa.Table:
    """The rows for a format that cuts long cells: a row for each of several changes; the warning is in the legend."""
    if CHANGES in rows.column_names:
        single = [{**row, CHANGES: one} for row in rows.to_pylist() for one in row[CHANGES].split(BETWEEN)]
        rows = pa.Table.from_pylist(single, rows.schema)
    return rows.drop_columns([name for name in (WARNING,) if name in rows.column_names])


def _legend(answer: Answer, shown: int) -> Iterator[tuple[str, str]]:
    if WARNING in answer.rows.column_names:
        yield WARNING, answer.rows[WARNING][0].as_py()
    yield "method", answer.estimate.method
    yield "suspects", answer.suspects
    yield "runs", f"{len(answer.runs)} runs, {answer.runs[0]} to {answer.runs[-1]}"
    if shown < answer.rows.num_rows:
        yield "note", f"The first {shown:,} of {answer.rows.num_rows:,} rows."


# --- families --------------------------------------------------------------------------------------------------------


def _numbered(rows: pa.Table, column: str) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """A column as numbers of its sorted distinct values, and these."""
    coded = rows[column].combine_chunks().dictionary_encode()
    names = np.asarray(coded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names)
    place = np.argsort(order)
    return place[coded.indices.to_numpy()].astype(np.int64), names[order].tolist()


def _hosts(rows: pa.Table) -> npt.NDArray[np.int64]:
    return np.asarray(rows["host"].to_numpy(), dtype=np.int64)


def _lift(read: Read, _: study.Asker) -> Rows:
    rows = read("membership")
    host, (family, names) = _hosts(rows), _numbered(rows, "family")
    matrix = np.zeros((int(host.max(initial=-1)) + 1, len(names)), dtype=np.float32)
    matrix[host, family] = 1
    single, both = matrix.sum(axis=0).astype(float), matrix.T @ matrix
    null = estimators.pairs_of_sizes(matrix.sum(axis=1).astype(np.int64), single)
    leading = np.argsort(-single, kind="stable")[:LEADING]
    pairs = [_pair(names, a, b, both, single, len(matrix), null) for a in leading for b in leading if a < b]
    return sorted(pairs, key=lambda row: (-row["hosts"], row["family_a"], row["family_b"]))


def _pair(
    names: list[str], a: int, b: int, both: Any, single: Floats, n: int, null: tuple[Floats, Floats]
) -> dict[str, Any]:
    low, lift, high = estimators.lift_interval(float(both[a, b]), single[a], single[b], n)
    expected, spread = float(null[0][a, b]), estimators.Z * float(null[1][a, b])
    return {
        "family_a": names[a], "family_b": names[b], "hosts": int(both[a, b]), "lift": lift, "lift_low": low,
        "lift_high": high, "expected_same_sizes": expected,
        "lift_same_sizes": float(both[a, b]) / expected if expected else None,
        "chance_low": max(0.0, 1 - spread / expected) if expected else None,
        "chance_high": 1 + spread / expected if expected else None,
    }  # fmt: skip


def _concentration(read: Read, _: study.Asker) -> Rows:
    hhi, spread = _concentration_of_families(read("membership")), _spread(read("activity"))
    effective = (1 / hhi[0], 1 / hhi[2], 1 / hhi[1]) if hhi else None
    figures = {"herfindahl_hirschman": hhi, "effective_families": effective, "gini_of_observations": spread}
    told = [(name, figure or (None, None, None)) for name, figure in figures.items()]
    return [{"figure": name, "value": v, "low": low, "high": high} for name, (v, low, high) in told]


def _concentration_of_families(rows: pa.Table) -> Interval | None:
    """Of the families of hosts; unknown where no host has one."""
    host, (family, names) = _hosts(rows), _numbered(rows, "family")

    def index(weights: Floats) -> float:
        counts = np.bincount(family, weights=weights[host], minlength=len(names))
        return estimators.herfindahl(counts.astype(float))

    return estimators.resampled(index, int(host.max()) + 1) if len(host) else None


def _spread(rows: pa.Table) -> Interval | None:
    """Of the observations of hosts; unknown where there is none."""
    observed = rows["observations"].to_numpy()
    values, of_value = np.unique(observed, return_inverse=True)

    def spread_of(weights: Floats) -> float:
        return estimators.gini(values, np.bincount(of_value, weights=weights, minlength=len(values)).astype(float))

    return estimators.resampled(spread_of, len(observed)) if len(observed) else None


def _stability(read: Read, _: study.Asker) -> Rows:
    rows = read("membership")
    host, (family, names), (month, months) = _hosts(rows), _numbered(rows, "family"), _numbered(rows, "month")
    cell, shape = month * len(names) + family, (len(months), len(names))
    drawn = estimators.poisson_weights(int(host.max(initial=0)) + 1, RANK_RESAMPLES)
    counts = [_counted(cell, shape, weights[host]) for weights in drawn]
    whole = _counted(cell, shape, np.ones(len(host)))
    return [_tau(months[i], whole[i - 1 : i + 1], [c[i - 1 : i + 1] for c in counts])
            for i in range(1, len(months))]  # fmt: skip


def _counted(cell: npt.NDArray[np.int64], shape: tuple[int, int], weights: Floats) -> Floats:
    return np.bincount(cell, weights=weights, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def _tau(month: date, both: Floats, drawn: Sequence[Floats]) -> dict[str, Any]:
    common = (both > 0).all(axis=0)
    found = [estimators.kendall(one[0, common], one[1, common]) for one in (both, *drawn)]
    known = [one for one in found[1:] if np.isfinite(one)]
    low, high = np.percentile(known, [2.5, 97.5]).tolist() if known else (None, None)
    tau = found[0] if np.isfinite(found[0]) else None
    return {"month": month, "families": int(common.sum()), "kendall_tau": tau, "low": low, "high": high}


def _trends(read: Read, _: study.Asker) -> Rows:
    changes = _changes(read("weeks").to_pylist(), read("rules").to_pylist())
    rows = []
    for row in read("months").to_pylist():
        low, high = wilson(row["hosts"], row["all_hosts"])
        told = [text for month, text in changes.get(row["family"], []) if month == row["month"]]
        share = row["hosts"] / row["all_hosts"]
        rows.append({"family": row["family"], "month": row["month"], "hosts": row["hosts"], "share": share,
                     "low": low, "high": high, CHANGES: BETWEEN.join(told)})  # fmt: skip
    return rows


def _changes(weeks: Rows, rules: Rows) -> dict[str, list[tuple[date, str]]]:
    """The breaks of each family: (month, what and when and why)."""
    series = {family: {row["week"]: row["endpoint_days"] for row in rows}
              for family, rows in groupby(weeks, key=lambda row: row["family"])}  # fmt: skip
    whole = series.pop("", {})
    inner = list(whole)[1:-1]
    found: dict[str, list[tuple[date, str]]] = {}
    for family, counted in series.items():
        known = [week for week in inner if counted.get(week)]
        part = np.array([counted[week] for week in known], dtype=float)
        everyone = np.array([whole[week] for week in known], dtype=float)
        found[family] = [
            _told(known[i - 1], known[i], kind, rules)
            for i, kind in estimators.breaks(estimators.logits(part, everyone), everyone)
        ]
    return found


def _told(before: date, week: date, kind: str, rules: Rows) -> tuple[date, str]:
    around = {row["rules"] for row in rules if before <= row["week"] <= week}
    return week.replace(day=1), f"{kind} in the week of {week}: {'rules' if len(around) > 1 else 'world'}"


def _origins(read: Read, _: study.Asker) -> Rows:
    rows = []
    for row in read("months").to_pylist():
        low, high = wilson(row["hosts"], row["all_hosts"])
        rows.append({**row, "share": row["hosts"] / row["all_hosts"], "low": low, "high": high})
    return rows


# --- lives -----------------------------------------------------------------------------------------------------------


def _survival(read: Read, _: study.Asker) -> Rows:
    rows = read("lives")
    tier, days = np.asarray(rows["tier"].to_pylist(), dtype=str), rows["days"].to_numpy()
    gone = rows["gone"].to_numpy(zero_copy_only=False)
    whole = np.ones(len(tier), bool)
    rows_of = {"all": whole} | {name: tier == name for name in np.unique(tier).tolist()}
    return [row for name, mine in rows_of.items() if mine.any() for row in _curve(name, days, gone, mine)]


def _curve(name: str, days: Floats, gone: Any, mine: npt.NDArray[np.bool_]) -> Rows:
    """A curve ends with the longest life that was followed, unless nobody was left: what is beyond is not known."""
    counts, longest = {"hosts": int(mine.sum()), "gone": int(gone[mine].sum())}, days[mine].max()
    return [
        {"tier": name, "day": day, "still_there_share": value, "low": low, "high": high, **counts}
        for day, value, low, high in estimators.survival(days[mine], gone[mine], GRID)
        if day < longest or value == 0
    ]


def _churn(read: Read, _: study.Asker) -> Rows:
    rows = []
    for row in read("weeks").to_pylist():
        for name in ("new", "last_seen"):
            low, high = wilson(row[f"{name}_hosts"], row["hosts"])
            row |= {f"{name}_share": row[f"{name}_hosts"] / row["hosts"], f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows


def _population(read: Read, _: study.Asker) -> Rows:
    rows, days = read("months"), read("days").to_pylist()
    host, (tier, tiers), (month, months) = _hosts(rows), _numbered(rows, "tier"), _numbered(rows, "month")
    masks = rows["days_seen"].to_numpy()
    strata: list[list[tuple[int, int, int]]] = [[] for _day in days]
    for mine in (tier == one for one in range(len(tiers))):
        names, own = np.unique(host[mine], return_inverse=True)
        seen = np.zeros((len(names), len(months)), np.int32)
        seen[own, month[mine]] = masks[mine]
        there = [_on(seen, months, day) for day in days]
        for i in range(1, len(days) - 1):
            sides = there[i - 1] & there[i + 1]
            strata[i].append((int(there[i].sum()), int((sides & there[i]).sum()), int((sides & ~there[i]).sum())))
    told = [[one for one in strata[i] if one[0]] for i in range(len(days))]
    return [{"day": days[i]["scanned"], **estimators.recaptured(told[i])} for i in range(1, len(days) - 1)]


def _on(seen: npt.NDArray[np.int32], months: list[Any], day: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Which hosts were seen on a scan day, from their masks of days by month."""
    if day["month"] not in months:
        return np.zeros(len(seen), bool)
    found: npt.NDArray[np.bool_] = (seen[:, months.index(day["month"])] >> day["bit"]) & 1 == 1
    return found


def _upgrades(read: Read, _: study.Asker) -> Rows:
    rows = []
    for row in read("groups").to_pylist():
        events, years = int(row["upgrades"] or 0), float(row["years"] or 0)
        rate, share = estimators.poisson_rate(events, years), wilson(row["outdated"], row["judged"])
        rows.append({
            "tier": row["tier"], "endpoints": row["endpoints"], "upgraded": row["upgraded"], "upgrades": events,
            "endpoint_years": years, "a_year": events / years if years else None, "a_year_low": rate[0],
            "a_year_high": rate[1], "judged": row["judged"], "outdated": row["outdated"],
            "outdated_share": row["outdated"] / row["judged"] if row["judged"] else None, "outdated_low": share[0],
            "outdated_high": share[1],
        })  # fmt: skip
    return rows


# --- all of the study ------------------------------------------------------------------------------------------------


def _sensitivity(read: Read, asker: study.Asker) -> Rows:
    full = {row["id"]: row["value"] for row in study.rows(asker, clean=False)}
    others = {}
    if missing := [row["day"] for row in read("missing").to_pylist()]:
        thinner = study.without_days(asker.place, missing)
        others["a_tenth_of_days_missing"] = _headlines(asker, asker.suspects, thinner)
    if asker.suspects != "only":
        others["without_suspects"] = _headlines(asker, "exclude", {})
    return [
        _moved(one, full, others) for one in study.statistics().values() if isinstance(full.get(one.id), int | float)
    ]


def _headlines(asker: study.Asker, suspects: str, words: Mapping[str, str]) -> dict[str, Any]:
    with asker.narrowed(suspects, words) as fewer:
        found = study.figures(fewer, study.statistics().values(), headlines=True)
    return {name: study.plain(figure[""][0]) for name, figure in found.items() if "" in figure}


def _moved(one: study.Statistic, full: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    same = [part.suffix for part in one.parts if part.is_variant]
    variants = [_figure(full.get(f"{one.id}:{suffix.replace('_', '-')}")) for suffix in same]
    known = [value for value in variants if value is not None]
    return {
        "id": one.id, "name": one.parts[0].name, "unit": one.parts[0].unit, "value": float(full[one.id]),
        **{name: _figure(others.get(name, {}).get(one.id)) for name in ("without_suspects", "a_tenth_of_days_missing")},
        "variants_low": min(known, default=None), "variants_high": max(known, default=None),
    }  # fmt: skip


def _figure(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def indicators() -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The warning and the published indicators of `data/context.toml`. Raises DataError for one that lacks a field."""
    raw = tomllib.loads(resources.data("context.toml").read_text(encoding="utf-8"))
    for entry in raw["indicator"]:
        if lacking := [name for name in (*_FIELDS, "beside") if name not in entry]:
            raise DataError(f"context.toml: indicator '{entry.get('id')}' has no '{lacking[0]}'")
    return raw["warning"], tuple(raw["indicator"])


_FIELDS = ("id", "what", "value", "unit", "population", "period", "publisher", "reported_in")
_SHOWN = 5
"""Measured origins, brands and families of each that are shown though no indicator speaks of them."""


def _context(read: Read, _: study.Asker) -> Rows:
    warning, published = indicators()
    measured = {(row["notion"], row["measured"]): row for row in read("measured").to_pylist()}
    rows, shown = [], set()
    for entry in published:
        for key in [tuple(beside.split(" ", 1)) for beside in entry["beside"]] or [()]:
            shown.add(key)
            told = {name: entry[name] for name in _FIELDS}
            rows.append({**told, **_beside(key, measured), WARNING: warning})
    for notion in ("origin", "brand", "family"):
        for key in [key for key in measured if key[0] == notion][:_SHOWN]:
            if key not in shown:
                rows.append({**dict.fromkeys(_FIELDS), **_beside(key, measured), WARNING: warning})
    return rows


def _beside(key: Any, measured: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    row = measured.get(key, {})
    return {"measured": " ".join(key) or None, "share_of_models": row.get("share_of_models"),
            "share_of_hosts": row.get("share_of_hosts")}  # fmt: skip


_RUN: Mapping[str, Callable[[Read, study.Asker], Rows]] = MappingProxyType(
    {
        "churn": _churn,
        "concentration": _concentration,
        "context": _context,
        "lift": _lift,
        "origins_by_month": _origins,
        "population": _population,
        "sensitivity": _sensitivity,
        "stability": _stability,
        "survival": _survival,
        "trends": _trends,
        "upgrades": _upgrades,
    }
)
