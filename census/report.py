"""One question -> an answer, and the answer in the reader's format.

The questions are the files of `data/reports/`: this file reads their headers, binds their parameters, says over which
runs and suspects an answer speaks, and with which words. What a figure means is decided there, in SQL; not here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import duckdb
import pyarrow as pa

from census import duck, query, resources, schema, summaries
from census.choices import FAMILIES, SUSPECTS
from census.errors import DataError, QueryError, SnapshotError
from census.formats import Page, figure, label, markdown_text, simple, write

_REQUIRED = ("definition", "unit", "denominator", "weighting")
_OPTIONAL = ("parameter", "evidence")
_HEADER = re.compile(r"-- (\w+): (.+)")
_PARAMETER = re.compile(r"(\w+) = ([^;]+); (.+)")
_FACT = re.compile(r"\{(\w+)\}")


# --- the questions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something the asker may choose.

    Attributes:
        choices: the words allowed; the first is the default.
        kind: "choice" allows only the words; "text" any text beside them; "run" the id of a run, with no default.
    """

    name: str
    choices: tuple[str, ...]
    kind: Literal["choice", "text", "run"]
    about: str

    @property
    def default(self) -> str | None:
        """The value when none is given; None where one must be given."""
        return self.choices[0] if self.choices else None


@dataclass(frozen=True, slots=True)
class Report:
    """One file of `data/reports/`: a question, what its figures mean, and the SQL that answers it.

    Attributes:
        denominator: words with `{names}` of columns of `facts`, so that every denominator comes with its number.
        located: the answer rests on the geolocation databases of the runs.
        facts: SQL of one row of numbers that the whole answer needs. sql: SQL of the rows.
    """

    name: str
    question: str
    definition: str
    unit: str
    denominator: str
    weighting: str
    parameters: tuple[Parameter, ...]
    sql: str
    facts: str
    located: bool = False

    def says(self, facts: Mapping[str, Any]) -> str:
        """The denominator with its numbers."""
        return _FACT.sub(lambda found: figure(found[1], facts[found[1]]), self.denominator)


def reports(folder: Path | None = None) -> Mapping[str, Report]:
    """The reports by name, from the `*.sql` of `folder` (default `data/reports/`).

    Raises DataError where a header is incomplete.
    """
    files = sorted((folder or resources.data("reports")).glob("*.sql"))
    return MappingProxyType({path.stem: _read(path) for path in files})


def _read(path: Path) -> Report:
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    question = lines[0].removeprefix("--").strip() if lines else ""
    if not length or not question.endswith("?"):
        raise DataError(f"{path.name}:1: the first line is the question, as '-- How many …?'")
    keys = _header(path.name, lines[1:length])
    facts, sql = _statements(path.name, "\n".join(lines[length:]))
    parameters = tuple(_parameter(path.name, text) for text in keys.pop("parameter", []))
    texts = {key: values[0] for key, values in keys.items()}
    located = texts.pop("evidence", None) == "geolocation"
    return Report(
        name=path.stem, question=question, parameters=parameters, sql=sql, facts=facts, located=located, **texts
    )


def _header(place: str, lines: Sequence[str]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for text in joined(lines):
        found = _HEADER.fullmatch(text)
        if not found or found[1] not in _REQUIRED + _OPTIONAL:
            raise DataError(
                f"{place}: '{text}' is no header line; write '-- key: value' with a key of {_REQUIRED + _OPTIONAL}"
            )
        keys.setdefault(found[1], []).append(found[2])
    _complete(place, keys)
    return keys


def _complete(place: str, keys: Mapping[str, list[str]]) -> None:
    if missing := [key for key in _REQUIRED if key not in keys]:
        raise DataError(f"{place}: the header lacks '-- {missing[0]}: …'; a figure without it means nothing")
    if twice := [key for key, values in keys.items() if key != "parameter" and len(values) > 1]:
        raise DataError(f"{place}: the header says '{twice[0]}' twice")
    if not _FACT.search(keys["denominator"][0]):
        raise DataError(f"{place}: the denominator names no {{number}} of the first statement")


def joined(lines: Iterable[str]) -> Iterator[str]:
    """Header lines with their continuations, which are indented below them."""
    text = ""
    for line in lines:
        if line.startswith("--   ") and text:
            text += " " + line.removeprefix("--").strip()
            continue
        if text:
            yield text
        text = line
    if text:
        yield text


def _statements(place: str, body: str) -> tuple[str, str]:
    parts = [part.strip() for part in body.strip().removesuffix(";").split(";\n")]
    if len(parts) != 2 or not all(parts):
        raise DataError(
            f"{place}: two statements are needed, the numbers and the rows, with one ';' at a line's end between them"
        )
    return parts[0], parts[1]


def _parameter(place: str, text: str) -> Parameter:
    if not (found := _PARAMETER.fullmatch(text)):
        raise DataError(f"{place}: 'parameter: {text}' is not 'name = choice | choice; what it does'")
    words = [word.strip() for word in found[2].split("|")]
    choices = tuple(word for word in words if word not in ("TEXT", "RUN"))
    kind: Literal["choice", "text", "run"] = "run" if "RUN" in words else "text" if "TEXT" in words else "choice"
    return Parameter(found[1], choices, kind, found[3])


def _words(folder: Path | None, summed: bool = False) -> dict[str, str]:
    """The relations that reports share: name -> SELECT, from the files of `words/`; from the summaries if `summed`."""
    words = resources.data("reports", "words")
    files = [*sorted(words.glob("*.sql")), *(sorted((words / "summed").glob("*.sql")) if summed else [])]
    own = sorted(folder.joinpath("words").glob("*.sql")) if folder else []
    known = {path.stem: _contract(path)[1] for path in [*files, *own]}
    return summaries.known_but(known, summaries.names()) if summed else known


def _words_beside(connection: duckdb.DuckDBPyConnection, folder: Path | None, summed: bool = False) -> dict[str, str]:
    """The shared relations, but for the one that a connection to runs has itself."""
    known = connection.execute("SELECT count(*) FROM duckdb_views() WHERE view_name = ?", [query.AS_PUBLISHED])
    there = bool(known.fetchall()[0][0])
    return {name: sql for name, sql in _words(folder, summed).items() if not (there and name == query.AS_PUBLISHED)}


def _contract(path: Path) -> tuple[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    about = [line.removeprefix("--").strip() for line in lines if line.startswith("--") and "-- merge: " not in line]
    return " ".join(about), "\n".join(line for line in lines if not line.startswith("--")).strip()


# --- the runs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    run_id: str
    started_at: datetime
    is_simulated: bool
    census: tuple[str, int, int]
    shard: int
    sampled: bool
    geo: tuple[Mapping[str, Any], ...] | None
    rules: tuple[str, str]
    derived_at: datetime | None

    @property
    def shards(self) -> int:
        return self.census[2]


def select_runs(
    connection: duckdb.DuckDBPyConnection,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    runs: Sequence[str] = (),
) -> list[str]:
    """Ids of the runs a report covers, sorted; `connection` shows all finished runs.

    The runs named, else those started from `since` up to `until` (UTC; `2026-11` is the whole month), else the newest
    census: the newest run with the other shards of the same target set and seed. Raises QueryError when none is left.
    """
    known = _runs(connection)
    if runs:
        return sorted({_known(run, known).run_id for run in runs})
    if since is None and until is None:
        return [run.run_id for run in _censuses(known)[-1]]
    chosen = [run.run_id for run in known if query.began_between(f"{run.started_at:%Y%m%d%H%M%S}", since, until)]
    if not chosen:
        raise QueryError(
            f"no finished run started from {since or 'ever'} to {until or 'now'}; they are of {_span(known)}"
        )
    return chosen


def _runs(connection: duckdb.DuckDBPyConnection) -> tuple[_Run, ...]:
    columns = "run_id, started_at, is_simulated, target_set, seed, shards, shard, settings, geo"
    rules = "coalesce(derived_census_version, census_version), coalesce(derived_data_version, data_version), derived_at"
    rows = connection.execute(f"SELECT {columns}, {rules} FROM runs ORDER BY run_id").fetchall()
    if not rows:
        raise QueryError("there is no finished run to report on; 'census scan' or 'census simulate' makes one")
    return tuple(_run(row) for row in rows)


def _run(row: tuple[Any, ...]) -> _Run:
    settings = json.loads(row[7])
    sampled = isinstance(settings, dict) and settings.get("max_targets") is not None
    census, geo, rules = (row[3], row[4], row[5]), row[8] and tuple(row[8]), (row[9], row[10])
    return _Run(row[0], row[1], row[2], census, row[6], sampled, geo, rules, row[11])


def _known(run_id: str, known: Sequence[_Run]) -> _Run:
    for run in known:
        if run.run_id == run_id:
            return run
    raise QueryError(f"there is no finished run '{run_id}'{_nearest(run_id, [run.run_id for run in known])}")


def _censuses(known: Sequence[_Run]) -> list[list[_Run]]:
    """The runs, grouped: shards of one target set and seed are one census, until one of its shards comes again."""
    groups: list[list[_Run]] = []
    latest: dict[tuple[str, int, int], list[_Run]] = {}
    for run in sorted(known, key=lambda run: run.run_id):
        group = latest.get(run.census)
        if group is None or any(run.shard == other.shard for other in group):
            group = latest[run.census] = []
        else:
            groups.remove(group)
        group.append(run)
        groups.append(group)
    return groups


def _span(known: Sequence[_Run]) -> str:
    return f"{_short(known[0].started_at)} to {_short(known[-1].started_at)}"


def _short(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# --- asking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of one report, and all that must be said beside them.

    Attributes:
        rows: shares are fractions of 1, null is unknown, times are UTC.
        facts: numbers of the whole answer, by name; the denominators are among them.
        runs: ids of the runs covered, sorted. first, last: when the earliest and the latest of them started.
        synthetic: the runs covered are of a simulated internet.
        suspects: how many suspect hosts are in or left out.
    """

    report: Report
    parameters: Mapping[str, str]
    rows: pa.Table
    facts: Mapping[str, int | float | None]
    runs: tuple[str, ...]
    first: datetime
    last: datetime
    synthetic: bool
    suspects: str
    footnotes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `rows`."""
        return tuple(self.rows.column_names)


def answer(
    output: Path,
    name: str,
    arguments: Sequence[str] = (),
    *,
    runs: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    by: str = "family_raw",
    suspects: str = "include",
    limit: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Answer:
    """Ask one question of the runs in folder `output`. Raises QueryError and SnapshotError.

    `arguments` are the runs the report asks for, in its order, and `parameter=value` for everything else. A damaged run
    is left out: `say` is told so, and the answer has it among its footnotes; one that was asked for is an error.
    """
    parameters = _arguments(_find(name, None), arguments)
    named = _runs_named(_find(name, None), parameters)
    damaged: list[str] = []
    if runs:
        chosen, kept = list(runs), _summaries(output, runs)
    else:
        chosen, kept = _chosen(output, since, until, named, damaged)
    for note in damaged:
        say(f"{note}; census verify says more")
    with closing(_connection(output, name, chosen, kept)) as connection:
        told = ask(connection, name, parameters=parameters, suspects=suspects, by=by, limit=limit, summed=bool(kept))
    return replace(told, footnotes=(*(f"Damaged: {note}" for note in damaged), *told.footnotes))


def _chosen(
    output: Path, since: str | None, until: str | None, named: Sequence[str], damaged: list[str]
) -> tuple[list[str], summaries.Kept | None]:
    """Ids of the runs that an answer covers where no run was asked for: of those that are whole; notes the others.

    With them the summaries of these runs, if there are any.

    Files are read of runs that are chosen and not summed, and of no other: one that is damaged is left out, and the
    choice made again.
    """
    left_out: list[str] = []
    while True:
        unread: list[str] = []
        with closing(query.connect_runs(output, without=left_out, damaged=unread.append)) as connection:
            try:
                chosen = select_runs(connection, since, until, _whole(connection, named))
            except QueryError as problem:
                notes = [*damaged, *unread]
                raise SnapshotError("; ".join([str(problem), *notes])) if notes else problem from None
        kept = _summaries(output, chosen)
        worse = {} if kept else query.damage(output, chosen)
        damaged += worse.values()
        if not worse:
            damaged[:0] = unread
            return chosen, kept
        left_out += worse


def _summaries(output: Path, chosen: Sequence[str]) -> summaries.Kept | None:
    if len(chosen) < 2:
        return None
    return summaries.find(output, query.select_runs(output, runs=chosen))


def _connection(
    output: Path, name: str, chosen: Sequence[str], kept: summaries.Kept | None
) -> duckdb.DuckDBPyConnection:
    """Tables of the chosen runs, and their summaries; no table of rows where the report reads none."""
    if kept is None:
        return query.connect(output, runs=chosen)
    if read := _rows_read(_find(name, None)):
        connection = query.connect(output, runs=chosen, locked=False, only=read)
    else:
        connection = query.connect_runs(output, runs=chosen)
    summaries.attach(connection, kept)
    return connection


_OFTEN = ("host_model", "host", "host_family", "installation", "twin")
"""Words that one report reads several times: made once where the connection may hold tables of its own."""

_ROWS = frozenset({"hosts", "models", "probes", "replies", "bodies"})


def _rows_read(report: Report) -> frozenset[str]:
    """The tables of which a report reads rows even where there are summaries."""
    known = _words(None, summed=True)
    texts = [summaries.composed(sql, known) for sql in (report.facts, report.sql)]
    return _ROWS.intersection(name for text in texts for name in summaries.relations(text))


def _runs_named(report: Report, parameters: Mapping[str, str]) -> list[str]:
    return [parameters[p.name] for p in report.parameters if p.kind == "run" and p.name in parameters]


def _whole(connection: duckdb.DuckDBPyConnection, named: Sequence[str]) -> list[str]:
    """The runs named, with the other shards of their censuses."""
    known = _runs(connection) if named else ()
    return [shard for run_id in named for shard in _census_of(run_id, known)]


def _arguments(report: Report, arguments: Sequence[str]) -> dict[str, str]:
    plain = [text for text in arguments if "=" not in text]
    places = [parameter.name for parameter in report.parameters if parameter.kind == "run"]
    if len(plain) > len(places):
        raise QueryError(
            f"report '{report.name}' has no use for '{plain[len(places)]}'; parameters are written name=value"
        )
    given = dict(text.split("=", 1) for text in arguments if "=" in text)
    return {**dict(zip(places, plain, strict=False)), **given}


def ask(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    *,
    parameters: Mapping[str, str] = MappingProxyType({}),
    suspects: str = "include",
    by: str = "family_raw",
    limit: int | None = None,
    folder: Path | None = None,
    summed: bool = False,
) -> Answer:
    """Answer one report over the runs that `connection` shows as runs, probes, hosts and models.

    `summed` says that it also shows the summaries of these runs: the answer is the same, and is there sooner.
    `by` is ignored by reports that know no families. Raises QueryError for a report, parameter or value that does not
    exist, for a connection without runs, and for one that mixes simulated with real runs.
    """
    report = _find(name, folder)
    known = _runs(connection)
    values = _values(report, parameters, by)
    bound = {key: _bound(report, key, value, known) for key, value in values.items()}
    bound["suspects"] = _one_of("--suspects", suspects, SUSPECTS)
    covered = _covered(known, [value for value in bound.values() if isinstance(value, list)])
    asker = _Asker(connection, _words_beside(connection, folder, summed), bound, report.name)
    for word in _OFTEN if summed else ():
        asker.keep(word, (report.facts, report.sql))
    facts = asker.run(report.facts).to_pylist()[0]
    rows = asker.run(report.sql)
    return Answer(
        report=report,
        parameters=MappingProxyType(values),
        rows=rows.slice(0, limit),
        facts=MappingProxyType(facts),
        runs=tuple(run.run_id for run in covered),
        first=covered[0].started_at,
        last=covered[-1].started_at,
        synthetic=covered[0].is_simulated,
        suspects=_suspects_note(connection, suspects, summed),
        footnotes=(*_footnotes(report, covered), *_cut(rows, limit)),
    )


@dataclass(slots=True)
class _Asker:
    """Runs statements of one report with its values, and remembers which of them were used."""

    connection: duckdb.DuckDBPyConnection
    words: Mapping[str, str]
    values: Mapping[str, str | list[str]]
    name: str
    used: set[str] = field(default_factory=set)

    def keep(self, word: str, statements: Sequence[str]) -> None:
        """Make a word a table of this connection, if the statements read it, directly or through other words."""
        if not any(f"{word} AS (" in summaries.composed(sql, self.words) for sql in statements):
            return
        statement = f"CREATE TEMP TABLE {word} AS {summaries.composed(self.words[word], self.words)}"
        try:
            names = self.connection.extract_statements(statement)[0].named_parameters
            self.used |= names
            self.connection.execute(statement, {n: self.values[n] for n in names})
        except duckdb.Error as problem:
            raise QueryError(f"report '{self.name}': {word}: {problem}") from None
        self.words = summaries.known_but(self.words, [word])

    def run(self, sql: str, prefix: str = "") -> pa.Table:
        try:
            statement = prefix + summaries.composed(sql, self.words)
            names = self.connection.extract_statements(statement)[0].named_parameters
            self.used |= names
            if unknown := sorted(names - set(self.values)):
                raise DataError(f"{self.name}.sql uses ${unknown[0]}, which no '-- parameter:' line declares")
            return self.connection.sql(statement, params={n: self.values[n] for n in names}).to_arrow_table()
        except duckdb.Error as problem:
            raise QueryError(f"report '{self.name}': {problem}") from None


def _find(name: str, folder: Path | None) -> Report:
    known = reports(folder)
    if name not in known:
        raise QueryError(f"there is no report '{name}'{_nearest(name, known)}; 'census report' lists them")
    return known[name]


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _values(report: Report, given: Mapping[str, str], by: str) -> dict[str, str]:
    """Every parameter of the report with its value: as given, or its default."""
    names = [parameter.name for parameter in report.parameters]
    if unknown := [name for name in given if name not in names]:
        offered = ", ".join(names) or "none"
        raise QueryError(
            f"report '{report.name}' has no parameter '{unknown[0]}'{_nearest(unknown[0], names)}; it has: {offered}"
        )
    _one_of("--by", by, FAMILIES)
    wanted = {"by": by, **given} if "by" in names else given
    return {parameter.name: _value(report, parameter, wanted) for parameter in report.parameters}


def _value(report: Report, parameter: Parameter, given: Mapping[str, str]) -> str:
    value = given.get(parameter.name, parameter.default)
    if value is None:
        raise QueryError(f"report '{report.name}' needs '{parameter.name}': {parameter.about}")
    return _one_of(parameter.name, value, parameter.choices) if parameter.kind == "choice" else value


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise QueryError(
            f"'{value}' is no choice of {name}{_nearest(value, choices)}; choose from: {', '.join(choices)}"
        )
    return value


def _bound(report: Report, name: str, value: str, known: Sequence[_Run]) -> str | list[str]:
    kind = next(parameter.kind for parameter in report.parameters if parameter.name == name)
    return _census_of(value, known) if kind == "run" else value


def _census_of(run_id: str, known: Sequence[_Run]) -> list[str]:
    """The run with the other shards of its census."""
    wanted = _known(run_id, known)
    return next([run.run_id for run in group] for group in _censuses(known) if wanted in group)


def _covered(known: tuple[_Run, ...], chosen: Sequence[list[str]]) -> tuple[_Run, ...]:
    wanted = {run_id for run_ids in chosen for run_id in run_ids}
    covered = tuple(run for run in known if not chosen or run.run_id in wanted)
    if len({run.is_simulated for run in covered}) > 1:
        simulated = next(run.run_id for run in covered if run.is_simulated)
        raise QueryError(
            f"'{simulated}' is of a simulated internet and others are real: never in one answer; name runs with --run"
        )
    return covered


def _suspects_note(connection: duckdb.DuckDBPyConnection, suspects: str, summed: bool) -> str:
    sql = f"SELECT count(DISTINCT ip), count(DISTINCT ip) FILTER ({'most_suspect' if summed else 'suspect'} >= 2) FROM "
    sql += "endpoint_latest" if summed else "hosts"
    hosts, doubted = connection.execute(sql).fetchall()[0]
    return {
        "include": f"included ({doubted:,} of {hosts:,} hosts)",
        "exclude": f"left out ({doubted:,} of {hosts:,} hosts)",
        "only": f"only these ({doubted:,} of {hosts:,} hosts; the other {hosts - doubted:,} are left out)",
    }[suspects]


def _footnotes(report: Report, covered: Sequence[_Run]) -> Iterator[str]:
    of_hosts = not report.unit.startswith("target")
    compared = any(parameter.kind == "run" for parameter in report.parameters)
    if of_hosts and not compared and len(covered) > 1:
        yield (
            f"Union of {len(covered)} runs: a host counts once however often it was seen, with every model "
            "it ever listed, at the place and version of its latest observation."
        )
    for group in _censuses(covered):
        if len(group) < group[0].shards:
            yield f"Of the census of {group[0].run_id} only {len(group)} of {group[0].shards} shards are covered."
    if any(run.sampled for run in covered):
        yield "Only a sample of the target list was asked: shares are estimates of those of the whole list."
    if compared:
        yield from _rules_notes(covered)
    if report.located:
        yield from _credits(covered)


def _rules_notes(covered: Sequence[_Run]) -> Iterator[str]:
    """Whether a change can be the rules' doing, and what they alone changed."""
    if len({run.rules for run in covered}) > 1:
        with_ = "; ".join(f"{run.run_id} with census {run.rules[0]}, data {run.rules[1]}" for run in covered)
        oldest = covered[0].run_id
        yield (
            f"Not concluded with the same rules ({with_}): a change may be the rules' doing and not the world's. "
            f"'census derive {oldest}' concludes the older one again with today's."
        )
    for run in covered:
        if run.derived_at is not None:
            yield (
                f"{run.run_id} was derived again on {_short(run.derived_at)}: what that changed since it was published "
                "is in the rows of kind 'rules', and in no other."
            )


def _credits(covered: Sequence[_Run]) -> Iterator[str]:
    if any(not run.geo for run in covered):
        yield "Some runs had no geolocation database: their hosts are at unknown places."
    yield from sorted({str(item["attribution"]) for run in covered for item in run.geo or () if item["attribution"]})


def _cut(rows: pa.Table, limit: int | None) -> Iterator[str]:
    if limit is not None and limit < rows.num_rows:
        yield f"The first {limit:,} of {rows.num_rows:,} rows."


def check(connection: duckdb.DuckDBPyConnection | None = None, folder: Path | None = None) -> list[str]:
    """What is wrong with the reports, one line each: SQL that does not bind, numbers missing, parameters unused.

    Without a connection the SQL is bound against the empty tables of `schemas/tables/`.
    """
    if connection is None:
        with closing(duck.open_duckdb()) as empty:
            create_tables(empty)
            return check(empty, folder)
    try:
        return [problem for report in reports(folder).values() for problem in _problems(connection, report, folder)]
    except DataError as problem:
        return [str(problem)]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of `schemas/tables/`, empty."""
    for table in schema.tables().values():
        columns = ", ".join(f'"{column.name}" {column.sql}' for column in table.columns)
        connection.execute(f"CREATE TABLE {table.name} ({columns})")


def _problems(connection: duckdb.DuckDBPyConnection, report: Report, folder: Path | None) -> Iterator[str]:
    values: dict[str, str | list[str]] = {"suspects": "include"}
    values |= {parameter.name: parameter.default or [] for parameter in report.parameters}
    asker = _Asker(connection, _words(folder), values, report.name)
    try:
        numbers = asker.run(report.facts, "DESCRIBE ").column("column_name").to_pylist()
        asker.run(report.sql, "DESCRIBE ")
    except (QueryError, DataError) as problem:
        yield str(problem)
        return
    for name in sorted(set(_FACT.findall(report.denominator)) - set(numbers)):
        yield f"{report.name}.sql: the denominator names {{{name}}}, which the first statement does not compute"
    for name in sorted(values.keys() - asker.used - {"suspects"}):
        yield f"{report.name}.sql: the parameter '{name}' is declared and not used"


# --- writing -------------------------------------------------------------------------------------------------------


def render(answer: Answer, format: str) -> str | bytes:
    """The answer in any of REPORT_FORMATS. Raises QueryError for another."""
    legend = list(_legend(answer))
    return write(Page(answer.report.question, answer.rows, legend, _about(answer), answer.synthetic), format)


def _about(answer: Answer) -> dict[str, Any]:
    report = answer.report
    return {
        "report": report.name,
        "question": report.question,
        "synthetic": answer.synthetic,
        "definition": report.definition,
        "unit": report.unit,
        "denominator": report.says(answer.facts),
        "weighting": report.weighting,
        "parameters": dict(answer.parameters),
        "runs": list(answer.runs),
        "first": simple(answer.first),
        "last": simple(answer.last),
        "suspects": answer.suspects,
        "facts": {name: simple(value) for name, value in answer.facts.items()},
        "notes": list(answer.footnotes),
    }


def _legend(answer: Answer) -> Iterator[tuple[str, str]]:
    """What stands beside every table, as (label, text)."""
    report = answer.report
    yield "definition", report.definition
    yield "unit", report.unit
    yield "denominator", report.says(answer.facts)
    yield "weighting", report.weighting
    if answer.parameters:
        yield "parameters", ", ".join(f"{name} = {value}" for name, value in answer.parameters.items())
    yield "numbers", ", ".join(f"{label(name)} {figure(name, value)}" for name, value in answer.facts.items())
    yield "suspects", answer.suspects
    yield "runs", _runs_covered(answer)
    for note in answer.footnotes:
        yield "note", note


def _runs_covered(answer: Answer) -> str:
    if len(answer.runs) == 1:
        return f"{answer.runs[0]}, started {_short(answer.first)}"
    started = f"started {_short(answer.first)} to {_short(answer.last)}"
    return f"{len(answer.runs)} runs, {answer.runs[0]} to {answer.runs[-1]}, {started}"


# --- the pages -----------------------------------------------------------------------------------------------------


def listing() -> str:
    """The questions, one a line, for the command line."""
    known = reports()
    width = max(map(len, known))
    return "\n".join(f"{name:<{width}}  {report.question}" for name, report in known.items()) + "\n"


def reports_page() -> str:
    """`docs/reports.md`: every report and every word they share, built from the headers of `data/reports/`."""
    sections = [_section(report) for report in reports().values()]
    words = sorted(resources.data("reports", "words").glob("*.sql"))
    shared = [f"- `{path.stem}`: {_contract(path)[0]}" for path in words]
    return "\n".join([_PAGE_HEAD, *sections, _WORDS_HEAD, *shared, ""])


_PAGE_HEAD = """# Reports

Built from the headers of `data/reports/*.sql`; change those, not this page. To add one, see
[add-a-report.md](add-a-report.md).

A host is a distinct IP address. Suspect hosts are in unless `--suspects exclude` leaves them out, and every answer
says how many there are. Without `--run`, `--since` or `--until` an answer covers the newest census, with all its
shards; over several runs a host counts once. A column whose name contains `share` is a fraction of 1, printed as per
cent.
"""

_WORDS_HEAD = """## Words the reports share

Relations that a report can read beside the tables, defined in `data/reports/words/`.
"""


def _section(report: Report) -> str:
    denominator = _FACT.sub("N", report.denominator)
    texts = {"definition": report.definition, "unit": report.unit}
    texts |= {"denominator": denominator, "weighting": report.weighting}
    lines = [f"- **{label}**: {markdown_text(text)}" for label, text in texts.items()]
    parameters = [_parameter_line(parameter) for parameter in report.parameters]
    return "\n".join([f"## {report.name}", "", report.question, "", *lines, *parameters, ""])


def _parameter_line(parameter: Parameter) -> str:
    kinds = {"choice": [], "text": ["any text"], "run": ["a run"]}
    choices = " or ".join([f"`{choice}`" for choice in parameter.choices] + kinds[parameter.kind])
    return f"- **parameter** `{parameter.name}`: {choices}; {markdown_text(parameter.about)}"
