"""Months of runs -> every figure of the published study beside its published value: the files of `data/reports/study/`.

What a figure means is decided there, in SQL; here they are read, asked with and without suspects, and put in one table.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pyarrow as pa

from census import duck, formats, hostile, query, report, resources, summaries
from census.choices import SUSPECTS
from census.errors import DataError, QueryError
from census.manifest import Run, table_sql
from census.schema import tables

NAME = "study"
"""The report's name on the command line."""

QUESTION = "What of the published study of 175,108 exposed hosts do these runs reproduce?"

COLUMNS = ("id", "name", "published", "value", "unit", "denominator", "definition", "note")

SERVER = "ollama"
"""The server program that the study counted."""

CLEAN = "clean"
"""Suffix of the rows without suspect hosts."""

MEMORY = "2500MB"
"""What DuckDB may hold while it answers."""

TOGETHER = 2
"""Statements run at a time."""

_HEAD = re.compile(r"-- ([A-Z]\d+): (.+)")
_KEYS = ("definition", "weighting", "note")
_LISTED = (
    "host_place", "host_listing", "host_label", "host_capability", "host_families_but_embeddings", "host_band",
    "host_main_band", "host_trait", "endpoint_version",
)  # fmt: skip
"""Words of where each host is and what it said."""

_SEEN = ("host_life", "host_family_month", "host_architecture", "host_families_count")
"""Words of when each host was seen, and with which families."""

_WIDE = "endpoint_latest"
"""A summary that is not made again: little is read of each row, and making it costs more than reading it twice."""

_SHARED = ("studied", "described", "version_number", *_LISTED, *_SEEN)
"""Words that many statistics read: each is made once, after those that it reads."""

_EVERYBODYS = ("described", "version_number")
"""Shared words that do not depend on which hosts are asked for."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?|-?(nan|inf)")


@dataclass(frozen=True, slots=True)
class Part:
    """One row of a statistic: the headline (suffix "") or another. published is text, None if nothing is.

    is_variant: whether it defines the headline otherwise, in its unit; else it is another figure, beside it.
    definition: its own, where that of the statistic does not say what it is.
    """

    suffix: str
    name: str
    published: str | None
    unit: str
    denominator: str
    is_variant: bool
    definition: str | None


@dataclass(frozen=True, slots=True)
class Statistic:
    """One file of `data/reports/study/`. The SQL gives columns part, value, denominator, and possibly note."""

    id: str
    title: str
    definition: str
    weighting: str
    note: str | None
    parts: tuple[Part, ...]
    sql: str


@cache
def statistics() -> Mapping[str, Statistic]:
    """The statistics by id, in the order of the published table. Raises DataError where a header is incomplete."""
    found = [_read(path) for path in resources.data("reports", NAME).glob("*.sql")]
    return MappingProxyType({one.id: one for one in sorted(found, key=lambda one: _order(one.id))})


_GROUPS = "SNGFQPCUHX"


def _order(name: str) -> tuple[int, int]:
    return _GROUPS.find(name[0]), int(name[1:])


def _read(path: Path) -> Statistic:
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    head = _HEAD.fullmatch(lines[0])
    if not head or head[1] != path.stem:
        raise DataError(f"{path.name}:1: the first line is '-- {path.stem}: what it is'")
    keys: dict[str, list[str]] = {}
    for text in report.joined(lines[1:length]):
        key, _, value = text.removeprefix("-- ").partition(": ")
        keys.setdefault(key, []).append(value)
    suffixes = {text.partition(";")[0].strip() for text in keys.get("row", [])}
    if unknown := sorted(set(keys) - {*_KEYS, "row", *(f"definition of {suffix}" for suffix in suffixes)}):
        raise DataError(f"{path.name}: '{unknown[0]}' is no header line; there are {', '.join((*_KEYS, 'row'))}")
    if "definition" not in keys or "row" not in keys:
        raise DataError(f"{path.name}: the header needs '-- definition: …' and one '-- row: …' for each row")
    parts = tuple(_part(path.name, text, keys) for text in keys["row"])
    if odd := [part.suffix for part in parts if part.is_variant and part.unit != parts[0].unit]:
        raise DataError(f"{path.name}: '{odd[0]}' is no variant of the first row: its unit is another")
    weighting, note = keys.get("weighting", ["hosts"])[0], keys.get("note", [None])[0]
    sql = "\n".join(lines[length:]).strip()
    return Statistic(head[1], head[2], keys["definition"][0], weighting, note, parts, sql)


def _part(place: str, text: str, keys: Mapping[str, Sequence[str]]) -> Part:
    words = [word.strip() for word in text.split(";")]
    if len(words) != 5 and words[5:] != ["variant"]:
        raise DataError(
            f"{place}: 'row: {text}' is not 'suffix ; name ; published ; unit ; denominator', or that and '; variant'"
        )
    published, own = None if words[2] == "-" else words[2], keys.get(f"definition of {words[0]}", [None])[0]
    return Part(words[0], words[1], published, words[3], words[4], len(words) > 5, own)


# --- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Study:
    """The rows, in the order of the published table, each with the columns COLUMNS; and what they cover.

    suspects: how many suspect hosts are in the rows that do not say otherwise, or left out.
    """

    rows: tuple[Mapping[str, Any], ...]
    runs: tuple[str, ...]
    synthetic: bool
    suspects: str


def ask(
    output: Path,
    *,
    runs: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    suspects: str = "include",
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Study:
    """Every statistic over all finished runs of `output`, or those chosen; `only` names some statistics.

    Each has its rows with the suspects as asked and, where they are in, again without them. Raises QueryError,
    SnapshotError.
    """
    chosen = query.select_runs(output, runs=runs or None, since=since, until=until)
    if not chosen:
        raise QueryError(f"{output}: no finished run to report on")
    kept = summaries.refresh(output, chosen, say)
    with closing(duck.open_duckdb(memory_limit=MEMORY)) as connection:
        summaries.attach(connection, kept)
        connection.execute(f"CREATE TABLE runs AS {table_sql(tables()['runs'], chosen)}")
        return answer(connection, suspects=suspects, only=only, names=_names(chosen))


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(run.run_id for run in runs)


def answer(
    connection: duckdb.DuckDBPyConnection,
    *,
    suspects: str = "include",
    only: Sequence[str] = (),
    names: Sequence[str] = (),
    clean: bool = True,
    words: Mapping[str, str] = MappingProxyType({}),
) -> Study:
    """Every statistic over what `connection` shows: the summaries, or the tables that they are sums of.

    Where suspects are in and `clean` is true, each has its rows again without them. `words` replace words.
    """
    synthetic = is_synthetic(connection)
    with Asker.open(connection, suspects, words) as asker:
        found = tuple(rows(asker, only, clean))
        return Study(found, tuple(names), synthetic, asker.suspects_note())


def rows(asker: Asker, only: Sequence[str] = (), clean: bool = True) -> list[Mapping[str, Any]]:
    """The rows of every statistic, or of those named; with `clean` those again that are without suspects."""
    if unknown := sorted(set(only) - set(statistics())):
        raise QueryError(f"there is no statistic '{unknown[0]}'; there are: {', '.join(statistics())}")
    asked = [one for one in statistics().values() if not only or one.id in only]
    main, again = figures(asker, asked), {}
    if clean and asker.suspects == "include":
        with asker.narrowed("exclude") as fewer:
            again = figures(fewer, asked)
    return [row for one in asked for row in (*_rows(one, main[one.id], ""), *_rows(one, again.get(one.id, {}), CLEAN))]


def is_synthetic(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the runs are of a simulated internet. Raises QueryError where some are and others are not."""
    simulated = connection.execute("SELECT DISTINCT is_simulated FROM runs").fetchall()
    if len(simulated) > 1:
        raise QueryError(
            "some of the runs are simulated and others are real: never in one answer; name runs with --run"
        )
    return bool(simulated and simulated[0][0])


_Figures = dict[str, tuple[Any, ...]]

_DOUBTED = """SELECT count(*), count(*) FILTER (doubt >= 2)
FROM (SELECT ip, max(most_suspect) AS doubt FROM endpoint_latest GROUP BY ip HAVING bool_or(server = $server))"""

_NUMBERS = count(1)


@dataclass(slots=True)
class Asker:
    """Runs statements over the words of the study. What many of them read is made once, when it is first read.

    What is made is a table of the schema `place` of the connection's database, which is gone when the asker is closed.
    """

    connection: duckdb.DuckDBPyConnection
    known: dict[str, str]
    suspects: str
    place: str
    beside: tuple[str, ...] = ()
    unmade: frozenset[str] = frozenset([_WIDE])

    @classmethod
    @contextmanager
    def open(
        cls, connection: duckdb.DuckDBPyConnection, suspects: str, words: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[Asker]:
        """An asker of what `connection` shows; words that it shows as tables or views are read, `words` replaced."""
        if suspects not in SUSPECTS:
            raise QueryError(f"'{suspects}' is no choice of --suspects; choose from: {', '.join(SUSPECTS)}")
        there = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main' "
            "UNION SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'"
        ).fetchall()
        known = {name: word.sql for name, word in summaries.words().items()}
        known = summaries.known_but(known, [row[0] for row in there]) | dict(words)
        with _placed(connection) as (own, place):
            asker = cls(own, known, suspects, place)
            own.execute(asker._path())
            if set(summaries.names()) <= {row[0] for row in there}:
                own.execute(_numbered(place))
            yield asker

    @contextmanager
    def narrowed(self, suspects: str, words: Mapping[str, str] = MappingProxyType({})) -> Iterator[Asker]:
        """An asker of fewer hosts, who reads what this one has made already; `words` replaced.

        When hosts were seen is not read there if `words` are.
        """
        made = [name for name in (*_LISTED, *(() if words else _SEEN)) if name not in self.known]
        taken = {name: f"SELECT * FROM {self.place}.{name} SEMI JOIN studied USING (ip)" for name in made}
        studied = {name: summaries.words()[name].sql for name in (*_SHARED, *_LISTED) if name not in _EVERYBODYS}
        with _placed(self.connection) as (own, place):
            known = self.known | studied | taken | dict(words)
            fewer = Asker(own, known, suspects, place, (self.place,), self.unmade | {"host_listing"})
            own.execute(fewer._path())
            yield fewer

    def run(self, sql: str, place: str) -> list[tuple[Any, ...]]:
        """The rows of a statement; `place` is what errors name. Raises QueryError."""
        return [tuple(row.values()) for row in self.table(sql, place).to_pylist()]

    def table(self, sql: str, place: str) -> pa.Table:
        """The rows of a statement as an Arrow table. Raises QueryError."""
        return self.tables({place: sql})[place]

    def tables(self, statements: Mapping[str, str]) -> dict[str, pa.Table]:
        """The rows of each statement; the names are what errors name. Raises QueryError.

        Most are too small for DuckDB to keep two cores busy with one, so two are run at a time.
        """
        for sql in statements.values():
            self._make_words(sql)
        with ThreadPoolExecutor(TOGETHER) as pool:
            return dict(zip(statements, pool.map(self._read, statements.values(), statements), strict=True))

    def _make_words(self, sql: str) -> None:
        for name in (*summaries.names(), *_SHARED):
            if name not in self.unmade and name in summaries.needed(sql, self.known):
                text = self.known.pop(name)
                self._execute(self.connection, f"CREATE TABLE {self.place}.{name} AS ", text, name)

    def _read(self, sql: str, place: str) -> pa.Table:
        with closing(self.connection.cursor()) as own:
            own.execute(self._path())
            return self._execute(own, "", sql, place).to_arrow_table()

    def _path(self) -> str:
        return f"SET search_path = '{','.join((self.place, *self.beside, 'main'))}'"

    def suspects_note(self) -> str:
        """How many of the hosts that the study speaks of are suspect, and in or left out."""
        hosts, doubted = self.run(_DOUBTED, "suspects")[0]
        return report.suspects_text(self.suspects, hosts, doubted)

    def _execute(self, connection: duckdb.DuckDBPyConnection, prefix: str, sql: str, place: str) -> Any:
        whole = prefix + summaries.composed(sql, self.known)
        values = {"suspects": self.suspects, "server": SERVER}
        try:
            return connection.sql(whole, params={name: v for name, v in values.items() if f"${name}" in whole})
        except duckdb.Error as problem:
            raise QueryError(f"{place}: {problem}") from None


@contextmanager
def _placed(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A cursor, and a new schema that is there as long as it."""
    with closing(connection.cursor()) as own:
        place = f"asked_{next(_NUMBERS)}"
        own.execute(f"CREATE SCHEMA {place}")
        try:
            yield own, place
        finally:
            own.execute(f"SET search_path = 'main'; DROP SCHEMA {place} CASCADE")


def _numbered(place: str) -> str:
    """Make the summaries of main views in `place`, with numbers for addresses: joining and grouping texts is slow."""
    number = "SELECT ip, row_number() OVER (ORDER BY ip) AS number FROM (SELECT DISTINCT ip FROM main.endpoint_latest)"
    numbers = f"{place}.host_number"
    made = [f"CREATE TABLE {numbers} AS {number}"]
    for name in summaries.names():
        if name not in ("kinds", "inventories"):
            rows = f"SELECT number AS ip, * EXCLUDE (ip, number) FROM main.{name} JOIN {numbers} USING (ip)"
            made.append(f"CREATE VIEW {place}.{name} AS {rows}")
    return "; ".join(made)


def without_days(place: str, days: Sequence[date]) -> dict[str, str]:
    """Words that take the place of those that an asker made in `place`, as if nothing had been scanned on `days`.

    What hosts listed and their first and last day are not taken back.
    """
    lost = ", ".join(f"(DATE '{month}', {mask})" for month, mask in sorted(_masks(days).items()))
    texts = ", ".join(f"DATE '{day}'" for day in days)
    return {
        "scan_day": f"SELECT DISTINCT started_at::DATE AS scanned FROM runs WHERE started_at::DATE NOT IN ({texts})",
        "sightings": _thinned(f"{place}.sightings", lost, _COUNTED),
        "family_sightings": _thinned(f"{place}.family_sightings", lost, ("observations",)),
        _WIDE: f"SELECT * FROM {place}.{_WIDE} SEMI JOIN sightings USING (ip, port, domain, server)",
    }


_COUNTED = (
    "observations", "lists_read", "models_listed", "running_known", "observations_running", "models_running",
)  # fmt: skip
"""Sums over the observations of a month, which shrink with its days."""


def _masks(days: Sequence[date]) -> dict[date, int]:
    masks: dict[date, int] = {}
    for day in days:
        masks[day.replace(day=1)] = masks.get(day.replace(day=1), 0) | 1 << (day.day - 1)
    return masks


def _thinned(relation: str, lost: str, counted: Sequence[str]) -> str:
    share = "bit_count(left_days) / bit_count(days_seen)"
    fewer = ", ".join(f"round({name} * {share})::BIGINT AS {name}" for name in counted)
    return f"""WITH lost AS (FROM (VALUES {lost}) AS lost(month, mask)),
     kept AS (
       SELECT seen.*, days_seen & ~coalesce(mask, 0) AS left_days FROM {relation} AS seen LEFT JOIN lost USING (month)
     )
SELECT * EXCLUDE (left_days) REPLACE (left_days AS days_seen, {fewer}) FROM kept WHERE left_days <> 0"""


def figures(asker: Asker, asked: Iterable[Statistic], headlines: bool = False) -> dict[str, _Figures]:
    """The figures of each statistic by suffix: (value, denominator, note); with `headlines` those alone."""
    statements = {one.id: f"SELECT * FROM (\n{one.sql}\n) WHERE part = ''" if headlines else one.sql for one in asked}
    return {name: _by_part(found) for name, found in asker.tables(statements).items()}


def _by_part(found: pa.Table) -> _Figures:
    rows = [tuple(row.values()) for row in found.to_pylist()]
    return {str(row[0]): (row[1], row[2], row[3] if len(row) > 3 else None) for row in rows}


def _rows(one: Statistic, figures: _Figures, mark: str) -> Iterator[Mapping[str, Any]]:
    for part in one.parts:
        if part.suffix not in figures:
            continue
        value, denominator, note = figures[part.suffix]
        words = [word for word in (part.suffix.replace("_", "-"), mark) if word]
        yield {
            "id": one.id + "".join(f":{word}" for word in words),
            "name": part.name + (", without suspects" if mark else ""),
            "published": None if mark else part.published,
            "value": plain(value),
            "unit": part.unit,
            "denominator": _denominator(part, denominator),
            "definition": part.definition or one.definition,
            "note": "; ".join(text for text in (note, one.note, f"weighting: {one.weighting}") if text),
        }


def _denominator(part: Part, n: Any) -> str | None:
    if part.denominator == "-":
        return None
    return part.denominator if n is None else f"{int(n)} {part.denominator}"


_DIGITS = 6
"""Digits kept of a quotient: more than any figure was published with."""


def plain(value: Any) -> int | float | str | None:
    """A figure as a number where it is one. What is divided by nobody is unknown."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        return plain(float(value)) if _NUMBER.fullmatch(value) else value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.{_DIGITS}g}")


# --- writing ---------------------------------------------------------------------------------------------------------


def render(study: Study, format: str) -> str | bytes:
    """The rows as `table`, `csv`, `json`, `markdown`, `html` (text) or `parquet` (bytes)."""
    if format == "csv":
        return _csv(study)
    if format == "json":
        return formats.dumped({**_about(study), "rows": [_json(row) for row in study.rows]})
    wanted = COLUMNS if format == "parquet" else _NARROW
    rows = study.rows if format == "parquet" else [_json(row) for row in study.rows]
    texts = {name: pa.array([_text(row[name]) for row in rows], pa.string()) for name in wanted}
    page = formats.Page(QUESTION, pa.table(texts), tuple(_legend(study)), _about(study), study.synthetic, _shown)
    return formats.write(page, format)


_NARROW = ("id", "name", "published", "value", "unit", "denominator")
"""Columns for people; the others are sentences."""


def _shown(name: str, value: Any, number: bool) -> str:
    """A cell for people: what was not published, or is a share of nothing, is not unknown."""
    return "–" if value is None and name in ("published", "denominator") else formats.shown(name, value, number)


def _about(study: Study) -> dict[str, Any]:
    return {
        "report": NAME,
        "question": QUESTION,
        "synthetic": study.synthetic,
        "suspects": study.suspects,
        "runs": list(study.runs),
    }


def _legend(study: Study) -> Iterator[tuple[str, str]]:
    yield "suspects", f"{study.suspects}; rows that end in :{CLEAN} leave them out"
    if study.runs:
        yield "runs", f"{len(study.runs)} runs, {study.runs[0]} to {study.runs[-1]}"
    yield "definitions", "--format csv and json have the definition and the notes of every row"


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    published = row["published"]
    number = plain(published) if published is not None else None
    return {**row, "published": number}


def _text(value: Any) -> str | None:
    return None if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _csv(study: Study) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[name]) for name in COLUMNS] for row in study.rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    return hostile.csv_cell(value) if isinstance(value, str) else "" if value is None else str(value)
