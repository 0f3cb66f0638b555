"""Finished runs -> what months of them come to: derived tables that are kept, grow run by run, and can be made anew.

A summary is a word of `data/reports/words/` whose header has a line `-- merge:`. Its SQL is its definition, over the
tables; the merge says how what two sets of runs come to becomes what both come to. Nothing else writes to `summaries/`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb

from census import duck, resources
from census.errors import DataError, SnapshotError
from census.manifest import MANIFEST, Run, sha256, table_sql
from census.schema import tables

FOLDER = "summaries"
"""Folder of the summaries, beside `runs`. It may be deleted at any time."""

ABOUT = "summary.json"

CHUNK_RUNS = 14
"""Runs summed at once: what bounds memory; more make the merging cheaper."""

MEMORY = "2500MB"
"""What DuckDB may hold while it sums; the rest goes to temporary files."""

LEFT_OVER_S = 86_400
"""Seconds after which a folder that somebody began to write is taken to be left over."""

_FIRST = ("kinded", "inventoried")
"""Words that several summaries read: made once for each lot of runs."""

_ORDER = {"kinds": "kind", "inventories": "inventory"}
"""What a summary is sorted by, where it is not endpoints."""

_MERGE = re.compile(r"([a-z_]+)\((\w+)(?:, (\w+))?\)")
_RELATION = re.compile(r"\b(?:FROM|JOIN)\s+([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Word:
    """A relation that reports share. merge: column -> the aggregate that joins two sums, empty if it is no summary."""

    name: str
    sql: str
    merge: Mapping[str, str]


@cache
def words() -> Mapping[str, Word]:
    """The words of `data/reports/words/` by name. Raises DataError for a merge that cannot be read."""
    return MappingProxyType(
        {path.stem: _word(path) for path in sorted(resources.data("reports", "words").glob("*.sql"))}
    )


def names() -> tuple[str, ...]:
    """The words that are summaries, sorted."""
    return tuple(name for name, word in words().items() if word.merge)


def _word(path: Path) -> Word:
    lines = path.read_text(encoding="utf-8").splitlines()
    merges = [line.removeprefix("-- merge: ") for line in lines if line.startswith("-- merge: ")]
    sql = "\n".join(line for line in lines if not line.startswith("--")).strip()
    found = [match for text in merges for match in _MERGE.finditer(text)]
    if merges and _MERGE.sub("", merges[0]).strip(" ,"):
        raise DataError(f"{path.name}: 'merge: {merges[0]}' is not a list of aggregates of columns")
    return Word(path.stem, sql, {match[2]: match[0] for match in found})


def relations(sql: str) -> list[str]:
    """The names that a statement reads with FROM and JOIN in capitals."""
    return _RELATION.findall(sql)


def needed(sql: str, known: Mapping[str, str]) -> dict[str, str]:
    """The words of `known` that a statement reads, itself or through other words, each after those that it reads."""
    found: dict[str, str] = {}

    def need(text: str) -> None:
        for name in _RELATION.findall(text):
            if name in known and name not in found:
                need(known[name])
                found[name] = known[name]

    need(sql)
    return found


def composed(sql: str, known: Mapping[str, str]) -> str:
    """The statement with the words of `known` that it reads, each defined before it is read."""
    shared = ",\n".join(f"{name} AS (\n{text}\n)" for name, text in needed(sql, known).items())
    if not shared:
        return sql
    for head in ("WITH RECURSIVE ", "WITH "):
        if sql.startswith(head):
            return f"{head}{shared},\n{sql.removeprefix(head)}"
    return f"WITH {shared}\n{sql}"


# --- kept summaries --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """The summaries of some runs on disk. `runs` are (name, SHA-256 of the manifest), in order of names."""

    folder: Path
    runs: tuple[tuple[str, str], ...]
    files: Mapping[str, str]

    def path(self, name: str) -> Path:
        """The Parquet file of one summary."""
        return self.folder / f"{name}.parquet"

    def is_whole(self) -> bool:
        """Whether every file is what was written."""
        return all(self.path(n).is_file() and sha256(self.path(n)) == digest for n, digest in self.files.items())


def find(out: Path, runs: Sequence[Run]) -> Kept | None:
    """The summaries of exactly these runs, when they are there and whole. Nothing is read of the runs."""
    wanted = _wanted(runs)
    return next((one for one in _kept(out, set(wanted)) if one.runs == wanted and one.is_whole()), None)


def _wanted(runs: Sequence[Run]) -> tuple[tuple[str, str], ...]:
    return tuple((run.run_id, sha256(run.folder / MANIFEST)) for run in sorted(runs, key=lambda run: run.run_id))


def refresh(out: Path, runs: Sequence[Run], say: Callable[[str], None] = lambda _: None) -> Kept:
    """The summaries of exactly these runs: those on disk, or the largest part of them there with the others added.

    Only runs that are not yet summed are read, and their files are checked first. Raises SnapshotError.
    """
    wanted = _wanted(runs)
    kept = sorted(_kept(out, set(wanted)), key=lambda one: len(one.runs))
    while kept and not kept[-1].is_whole():
        shutil.rmtree(kept.pop().folder, ignore_errors=True)
    base = kept[-1] if kept else None
    if base is not None and base.runs == wanted:
        return base
    done = set(base.runs) if base else set()
    new = [run for run, key in zip(sorted(runs, key=lambda run: run.run_id), wanted, strict=True) if key not in done]
    return _grown(out, base, new, wanted, say)


def _kept(out: Path, wanted: set[tuple[str, str]] | None = None) -> Iterator[Kept]:
    """What is on disk of today's definitions, over some of the wanted runs and no other; None: over any runs.

    A folder whose name begins with a dot is still being written.
    """
    for path in sorted((out / FOLDER).glob(f"[!.]*/{ABOUT}")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            runs = tuple((str(name), str(digest)) for name, digest in about["runs"])
            if about["definitions"] == _definitions() and (wanted is None or set(runs) <= wanted):
                yield Kept(path.parent, runs, about["files"])
        except (OSError, ValueError, KeyError, TypeError):
            continue


@cache
def _definitions() -> str:
    """Changes with the definitions, the tables and the version of DuckDB, whose hashes are kept."""
    texts = [f"{name} {words()[name].sql} {words()[name].merge}" for name in (*names(), *_FIRST)]
    texts += [duckdb.__version__, *(table.fingerprint for table in tables().values())]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _grown(
    out: Path, base: Kept | None, new: Sequence[Run], wanted: tuple[tuple[str, str], ...], say: Callable[[str], None]
) -> Kept:
    for run in new:
        if damage := run.damage():
            raise SnapshotError("\n".join([*damage, "restore what is damaged from a copy, or leave its run out"]))
    with closing(duck.open_duckdb(memory_limit=MEMORY)) as connection:
        for name in names() if base else ():
            connection.execute(f"CREATE TABLE {name} AS FROM read_parquet({duck.text(str(base and base.path(name)))})")
        for start in range(0, len(new), CHUNK_RUNS):
            add(connection, new[start : start + CHUNK_RUNS])
            say(f"summed {min(start + CHUNK_RUNS, len(new))} of {len(new)} runs")
        return _written(connection, out, wanted)


def add(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> None:
    """Add runs to the summaries that `connection` has as tables (none: the first). Raises SnapshotError."""
    known = {name: word.sql for name, word in words().items()}
    for table in tables().values():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {table.name} AS {table_sql(table, runs)}")
    for name in _FIRST:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {known.pop(name)}")
    there = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    for name in names():
        connection.execute(f"CREATE OR REPLACE TEMP TABLE more AS {composed(known[name], known_but(known, names()))}")
        _merge(connection, words()[name], name in there)
    connection.execute("DROP TABLE more; " + "; ".join(f"DROP TABLE {name}" for name in _FIRST))
    _require_distinct_kinds(connection)


def known_but(known: Mapping[str, str], left_out: Sequence[str]) -> dict[str, str]:
    """The words without some: those that are tables already."""
    return {name: sql for name, sql in known.items() if name not in left_out}


def _merge(connection: duckdb.DuckDBPyConnection, word: Word, there: bool) -> None:
    """Add the table `more` to a summary: only rows whose key is in both are summed again."""
    if not there:
        connection.execute(f"CREATE TABLE {word.name} AS FROM more")
        return
    columns = connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE {word.name})").fetchall()
    keys = [name for name, _ in columns if name not in word.merge]
    same = " AND ".join(f"{word.name}.{key} IS NOT DISTINCT FROM more.{key}" for key in keys)
    both = f"(SELECT * FROM {word.name} SEMI JOIN more ON {same} UNION ALL BY NAME SELECT * FROM more)"
    chosen = ", ".join(f"({word.merge.get(name, name)})::{kind} AS {name}" for name, kind in columns)
    grouped = ", ".join(f"pair.{key}" for key in keys)
    connection.execute(f"CREATE TABLE merged AS SELECT {chosen} FROM {both} AS pair GROUP BY {grouped}")
    connection.execute(f"DELETE FROM {word.name} USING more WHERE {same}")
    connection.execute(f"INSERT INTO {word.name} FROM merged; DROP TABLE merged")


def _require_distinct_kinds(connection: duckdb.DuckDBPyConnection) -> None:
    """A kind is named by a 64-bit hash: what was summed has no two kinds of one name, or it is not kept."""
    if connection.execute("SELECT kind FROM kinds GROUP BY kind HAVING count(*) > 1 LIMIT 1").fetchone():
        raise SnapshotError("two kinds of models have one hash: the summaries cannot tell them apart")


def _written(connection: duckdb.DuckDBPyConnection, out: Path, wanted: tuple[tuple[str, str], ...]) -> Kept:
    key = hashlib.sha256(json.dumps([_definitions(), wanted]).encode()).hexdigest()[:16]
    final = out / FOLDER / key
    new = final.with_name(f".{key}-{secrets.token_hex(4)}")
    try:
        new.mkdir(parents=True)
        for name in names():
            order = _ORDER.get(name, "ip, port")
            target = duck.text(str(new / f"{name}.parquet"))
            connection.execute(f"COPY (FROM {name} ORDER BY {order}) TO {target} (FORMAT parquet, COMPRESSION zstd)")
        files = {name: sha256(new / f"{name}.parquet") for name in names()}
        about: dict[str, Any] = {"definitions": _definitions(), "runs": wanted, "files": files}
        (new / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _put(new, final, len(wanted))
    except OSError as problem:
        raise SnapshotError(f"{problem.filename or final}: {problem.strerror or problem}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return Kept(final, wanted, files)


def _put(new: Path, final: Path, n_runs: int) -> None:
    """Give what was written its name, and remove what it takes the place of.

    The largest of more runs stays: an answer over some runs does not cost what all of them took to sum.
    """
    larger = [one for one in _kept(final.parent.parent) if len(one.runs) > n_runs]
    spared = max(larger, key=lambda one: len(one.runs)).folder if larger else None
    shutil.rmtree(final, ignore_errors=True)
    new.rename(final)
    for path in final.parent.iterdir():
        if path not in (final, spared) and not _is_being_written(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_being_written(path: Path) -> bool:
    """Whether another process may be writing the folder: one that is left over is removed after a day."""
    try:
        return path.name.startswith(".") and time.time() - path.stat().st_mtime < LEFT_OVER_S
    except OSError:
        return False


def attach(connection: duckdb.DuckDBPyConnection, kept: Kept) -> None:
    """Give `connection` the kept summaries as views."""
    for name in kept.files:
        path = duck.text(str(kept.path(name).absolute()))
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS FROM read_parquet({path})")
