"""Finished runs -> DuckDB: the tables, then the views. Nothing here writes to a run.

A reader takes the list of files from each run's manifest, never from a pattern, so that unfinished runs, left-overs
and copies are never read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from census import duck
from census.errors import CensusError, QueryError, SnapshotError
from census.manifest import MANIFEST, RUNS, Run, read_or_tell, run_folders, table_sql
from census.schema import tables, views

Moment = datetime | date | str | None
"""A UTC time, a day, or text such as `2026-11` or `2026-11-22T15:00`."""

AS_PUBLISHED = "hosts_as_published"
_ABOUT_PUBLISHED = "hosts, as each run was first published: what census derive replaced since is in it as it was."

_QUERIES = ("SELECT", "MULTI")
"""DuckDB's kinds of statement that are queries. DESCRIBE, SHOW and SUMMARIZE count as SELECT, PIVOT as MULTI."""

_MOMENT = re.compile(r"(\d{4}(-?\d\d(-?\d\d([T ]?\d\d(:?\d\d(:?\d\d)?)?)?)?)?Z?)?")
"""A time as far as it is given; nothing is no bound."""

_EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE\b|\s*\([^()]*\))?", re.IGNORECASE)
"""What stands before the statement that is explained. ANALYZE runs it, even COPY, so that one must be a query too."""


def connect(
    path: Path | str | Sequence[Path | str] = ".",
    *,
    runs: Sequence[str] | None = None,
    since: Moment = None,
    until: Moment = None,
    locked: bool = True,
    damaged: Callable[[str], None] | None = None,
    only: Collection[str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the tables and views of `schemas/` over finished runs.

    Args:
        path: an output folder (with `runs/`), the folder of one run, or a list of such folders.
        runs: only the runs of these names.
        since, until: only runs that began in this time (UTC, both ends included: `until="2026-11"` is all of November).
        locked: the connection reads the files of these runs and nothing else: no other file, no network, no Python
            variable, and no setting can be changed. Pass False to join tables of your own in a notebook.
        damaged: is told of each run that has a missing or damaged file, and the run is left out; without it that is
            an error. `census verify` looks closer.
        only: tables of which the files are looked at; for one who reads no others.

    Raises SnapshotError for a run that is missing, damaged, or of another schema.
    """
    chosen = _whole(select_runs(path, runs=runs, since=since, until=until, damaged=damaged), damaged, only)
    connection = duck.open_duckdb()
    try:
        _create_views(connection, chosen)
        if locked:
            _lock(connection, chosen)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_runs(
    path: Path | str,
    *,
    runs: Sequence[str] | None = None,
    without: Sequence[str] = (),
    damaged: Callable[[str], None] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the table `runs` of finished runs, and no other: their other files are not read.

    Arguments are as for `connect`; `without` are runs to leave out.
    """
    found = [run for run in select_runs(path, runs=runs, damaged=damaged) if run.run_id not in without]
    connection = duck.open_duckdb()
    try:
        connection.execute(f"CREATE TABLE runs AS {table_sql(tables()['runs'], found)}")
    except BaseException:
        connection.close()
        raise
    return connection


def damage(path: Path | str, runs: Sequence[str]) -> dict[str, str]:
    """What is wrong with files of these runs: a line for each run that is damaged."""
    noted: list[str] = []
    found = select_runs(path, runs=runs)
    whole = _whole(found, noted.append)
    return dict(zip((run.run_id for run in found if run not in whole), noted, strict=True))


def select_runs(
    path: Path | str | Sequence[Path | str] = ".",
    *,
    runs: Sequence[str] | None = None,
    since: Moment = None,
    until: Moment = None,
    damaged: Callable[[str], None] | None = None,
) -> list[Run]:
    """The finished runs that `connect` chooses from, by name, which is by time; arguments and errors are the same.

    Below `runs/` a folder has the name of its run, so one that is not asked for is not even looked into.
    """
    paths = [path] if isinstance(path, Path | str) else path
    folders = sorted({f.absolute() for p in paths for f in _folders(Path(p))}, key=lambda f: (f.name, f))
    named = [folder for folder in folders if folder.parent.name == RUNS]

    def wanted(run_id: str) -> bool:
        began = re.sub(r"\D", "", run_id.partition("Z")[0])  # the name of a run begins with its start
        return (runs is None or run_id in runs) and began_between(began, since, until)

    found = [
        run
        for folder in folders
        if (folder not in named or wanted(folder.name)) and (run := read_or_tell(folder, damaged)) is not None
    ]
    names = [run.run_id for run in found]
    _require(runs or (), sorted({*names, *(folder.name for folder in named)}))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SnapshotError(f"run {', '.join(twice)} is there twice; name one of the two folders")
    return [run for run in found if wanted(run.run_id)]


def _require(runs: Sequence[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(runs) - set(known)):
        raise SnapshotError(f"no finished run {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")


def _folders(path: Path) -> list[Path]:
    if (path / MANIFEST).is_file():
        return [path]
    if not path.is_dir():
        raise SnapshotError(
            f"{path}: no such folder; a scan makes one, or name another: an output folder, or one run's"
        )
    return run_folders(path)


def began_between(began: str, since: Moment, until: Moment) -> bool:
    """Whether a time, given as its digits from year to second, lies in this time, both ends included.

    Digits are compared as far as they are given: a shorter time is a whole day, month or year. Without digits it
    began before all times. Raises QueryError for text that is no time.
    """
    last = _digits(until)
    return _digits(since) <= began and began[: len(last)] <= last


def _digits(moment: Moment) -> str:
    text = f"{moment:%Y%m%d%H%M%S}" if isinstance(moment, datetime) else str(moment or "")
    if not _MOMENT.fullmatch(text):
        raise QueryError(f"{text!r} is not a time; write 2026, 2026-11, 2026-11-22 or 2026-11-22T15:00:00 (UTC)")
    return re.sub(r"\D", "", text)


def _whole(
    runs: Sequence[Run], damaged: Callable[[str], None] | None, only: Collection[str] | None = None
) -> list[Run]:
    """The runs whose files are what was written; hashing is left to threads, for it is done outside of Python."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(partial(_problems, only=only), runs))
    if damaged is None and any(problems):
        text = "\n".join(line for lines in problems for line in lines)
        raise SnapshotError(f"{text}\nrestore what is damaged from a copy, or leave its run out")
    for run, lines in zip(runs, problems, strict=True):
        if lines and damaged is not None:
            damaged(f"{run.run_id} is left out: {lines[0]}")
    return [run for run, lines in zip(runs, problems, strict=True) if not lines]


def _problems(run: Run, only: Collection[str] | None = None) -> list[str]:
    """Why the tables of a run cannot be read, one line for each reason."""
    try:
        for table in tables().values():
            table_sql(table, [run])
    except SnapshotError as problem:
        return run.damage(of=only) or [str(problem)]
    return run.damage(of=only)


def _create_views(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> None:
    for table in tables().values():
        _create(connection, table.name, table_sql(table, runs), table.about)
    _create(connection, AS_PUBLISHED, _published_sql(runs), _ABOUT_PUBLISHED)
    for view in views().values():
        _create(connection, view.name, view.sql, view.contract)


def _published_sql(runs: Sequence[Run]) -> str:
    if not any(run.earlier for run in runs):
        return "SELECT * FROM hosts"
    return table_sql(tables()["hosts"], [run.as_published() for run in runs])


def _create(connection: duckdb.DuckDBPyConnection, name: str, sql: str, about: str) -> None:
    try:
        connection.execute(f"CREATE OR REPLACE VIEW {duck.name(name)} AS {sql}")
        connection.execute(f"COMMENT ON VIEW {duck.name(name)} IS {duck.text(about)}")
    except duckdb.Error as problem:
        raise QueryError(f"view {name}: {problem}") from None


def _lock(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> None:
    """From now on the connection opens the files of these runs and nothing else, and keeps its settings."""
    paths = ", ".join(
        duck.text(str(path.absolute()))
        for run in runs
        for path in (*(path for table in tables() for path in run.paths(table)), *run.as_published().paths("hosts"))
    )
    connection.execute(f"SET allowed_paths = [{paths}]")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def run_sql(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The rows of one query as an Arrow table; timestamps are UTC without a zone.

    Raises QueryError for anything but one SELECT, WITH, FROM, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN, and
    for SQL that DuckDB refuses.
    """
    try:
        _require_query(connection, sql)
        return connection.sql(sql).to_arrow_table()
    except duckdb.Error as problem:
        raise QueryError(str(problem)) from None


def _require_query(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"one statement at a time; these are {len(statements)}")
    kind = statements[0].type.name
    if kind == "EXPLAIN" and (explained := _EXPLAIN.match(sql)):
        _require_query(connection, sql[explained.end() :])
    elif kind not in _QUERIES:
        raise QueryError(f"{kind} is not a query: only SELECT and its like (WITH, FROM, DESCRIBE, SUMMARIZE, EXPLAIN)")


def write_db(path: Path, out: Path, damaged: Callable[[str], None] | None = None) -> None:
    """Write the tables and views over the finished runs of `out` into the DuckDB file `path`, for any DuckDB client.

    The file holds views, not rows: the runs have to stay where they are, and it is to be written again when runs are
    added. In a DuckDB file that is there already, whatever else it holds is kept. `damaged` is as for `connect`.
    Raises QueryError, SnapshotError.
    """
    runs = _whole(select_runs(out, damaged=damaged), damaged)
    try:
        with duck.open_duckdb(path) as connection:
            connection.execute("BEGIN")
            _create_views(connection, runs)
            connection.execute("COMMIT")
    except (duckdb.Error, CensusError) as problem:
        raise QueryError(f"{path}: {problem}") from None
