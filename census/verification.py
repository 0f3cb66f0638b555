"""What is wrong with a finished run: its files, its ledger, and whether its tables agree with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from census import duck
from census.errors import SnapshotError
from census.manifest import (
    RUNS,
    File,
    Run,
    read_run,
    run_folders,
    table_sql,
)
from census.model import Outcome
from census.publishing import (
    told_of_duckdb,
)
from census.schema import SCHEMA_VERSION, tables


def verify(folder: Path) -> list[str]:
    """What is wrong with a finished run, one line for each problem; [] when it is whole.

    Checks the manifest; each file's checksum, row count and schema; keys; the ledger; and that the tables
    agree with each other. Damaged files are named, and nothing is concluded from them.
    """
    try:
        run = read_run(folder)
    except SnapshotError as problem:
        return [str(problem)]
    problems = [*_missing_tables(run), *_strangers(run), *run.damage(thorough=True)]
    problems = problems or [problem for file in run.files for problem in _file_problems(run, file)]
    return problems or [f"{folder}: {problem}" for problem in _content_problems(run)]


def _missing_tables(run: Run) -> list[str]:
    return [f"{run.folder}: no file of table {name}" for name in tables() if not run.paths(name)]


def _strangers(run: Run) -> list[str]:
    """Files that a reader with a pattern would take for a part of the run."""
    known = {run.folder / file.path for file in run.files}
    return [f"{path}: not in the manifest" for path in sorted(run.folder.rglob("*.parquet")) if path not in known]


def _file_problems(run: Run, file: File) -> list[str]:
    path = run.folder / file.path
    try:
        found = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as problem:
        return [f"{path}: damaged: {problem}"]
    with found:
        return [*_row_problems(path, file, found.metadata.num_rows), *_schema_problems(path, file, found.schema_arrow)]


def _row_problems(path: Path, file: File, n: int) -> list[str]:
    return [] if n == file.rows else [f"{path}: {n} rows, but {file.rows} in the manifest"]


def _schema_problems(path: Path, file: File, found: pa.Schema) -> list[str]:
    """A column may be missing, where it may be null, in a file that was written before the column came."""
    if file.table not in tables():
        return [f"{path}: no such table: {file.table}"]
    wanted = tables()[file.table].arrow
    wrong = [f for f in found if f.name in wanted.names and f != wanted.field(f.name)]
    missing = [name for name in wanted.names if name not in found.names and _required_in(file, wanted.field(name))]
    return [f"{path}: column {f.name} is {_said(f)}, but should be {_said(wanted.field(f.name))}" for f in wrong] + [
        f"{path}: column {name} is missing" for name in missing
    ]


def _required_in(file: File, column: pa.Field) -> bool:
    """A file written with other columns than today's may lack the ones that came later."""
    return not column.nullable or (file.schema_version == SCHEMA_VERSION and file.columns in ("", _today(file.table)))


def _today(table: str) -> str:
    return tables()[table].fingerprint


def _said(column: pa.Field) -> str:
    return f"{column.type}{'' if column.nullable else ' not null'}"


_KEY = "run_id, ip, port, domain"

_CHECKS: tuple[tuple[str, str], ...] = (
    ("runs does not have exactly one row", "FROM (SELECT count(*) AS n FROM runs) WHERE n <> 1"),
    ("targets without exactly one outcome", "FROM runs WHERE n_targets <> (SELECT count(*) FROM probes)"),
    (
        "outcomes counted otherwise in runs than in probes",
        "FROM (SELECT unnest(outcomes, recursive := true) FROM runs) AS r FULL JOIN "
        "(SELECT outcome AS name, count(*) AS n FROM probes GROUP BY outcome) AS p USING (name) "
        "WHERE coalesce(r.n, 0) <> coalesce(p.n, 0)",
    ),
    (
        "excluded targets without a reason",
        "FROM runs WHERE n_excluded <> coalesce(list_sum(list_transform(exclusions, lambda x: x.n)), 0)",
    ),
    (
        "rows of probes with an unknown outcome",
        f"FROM probes WHERE outcome NOT IN ({', '.join(duck.text(outcome) for outcome in Outcome)})",
    ),
    ("rows of hosts that were never asked", f"FROM hosts ANTI JOIN probes USING ({_KEY}, server)"),
    (
        "rows of probes whose server is not in hosts",
        f"FROM (FROM probes WHERE server IS NOT NULL) ANTI JOIN hosts USING ({_KEY}, server)",
    ),
    ("rows of models without a host", f"FROM models ANTI JOIN hosts USING ({_KEY})"),
    ("rows of replies without a probe", f"FROM replies ANTI JOIN probes USING ({_KEY})"),
    ("rows of replies without a body", "FROM replies ANTI JOIN bodies USING (run_id, body_sha256)"),
    ("rows of bodies without a reply", "FROM bodies ANTI JOIN replies USING (run_id, body_sha256)"),
    ("bodies that are not what their hash says", "FROM bodies WHERE sha256(body) <> body_sha256"),
    (
        "rows of hosts that do not agree with their models",
        f"FROM hosts LEFT JOIN (SELECT {_KEY}, count(*) AS n, count(*) FILTER (is_running) AS running, "
        f"list(DISTINCT translate(trim(family_raw, ' '), '{ascii_uppercase}', '{ascii_lowercase}')) "
        "FILTER (trim(family_raw, ' ') <> '' AND is_remote IS NOT TRUE) AS declared, "
        "list(DISTINCT brand_family) FILTER "
        "(brand_family <> '' AND is_remote IS NOT TRUE AND claimed_brand IS NULL) AS brands "
        f"FROM models GROUP BY {_KEY}) "
        f"USING ({_KEY}) WHERE coalesce(n, 0) <> coalesce(n_models, 0) "
        "OR coalesce(running, 0) <> coalesce(n_running, 0) "
        "OR list_sort(coalesce(declared, [])) <> families OR list_sort(coalesce(brands, [])) <> lineages",
    ),
)
"""What must not be there, in words and as what follows `SELECT count(*)`."""

_VERIFY_MEMORY = "1GB"
"""What DuckDB may hold while it verifies; the rest goes to temporary files."""


def _content_problems(run: Run) -> Iterator[str]:
    with duck.open_duckdb(memory_limit=_VERIFY_MEMORY) as connection, told_of_duckdb(str(run.folder)):
        for table in tables().values():
            connection.execute(f"CREATE VIEW {duck.name(table.name)} AS {table_sql(table, [run])}")
        for words, sql in (*_CHECKS, *_table_checks(run.run_id)):
            if n := _count(connection, sql):
                yield f"{words} ({n})"


def _table_checks(run_id: str) -> Iterator[tuple[str, str]]:
    for table in tables().values():
        key = ", ".join(map(duck.name, table.key))
        yield f"rows of {table.name} of another run", f"FROM {table.name} WHERE run_id <> {duck.text(run_id)}"
        yield (
            f"keys that are in {table.name} more than once",
            f"FROM (SELECT 1 FROM {table.name} GROUP BY {key} HAVING count(*) > 1)",
        )


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(f"SELECT count(*) {sql}").fetchone()
    return int(row[0]) if row else 0


def verify_all(out: Path, names: Sequence[str] = (), *, say: Callable[[str], None]) -> list[str]:
    """The problems of the runs `names` (default: all finished ones), telling `say` about each run as it is checked.

    Raises SnapshotError when there is none, so that a mistyped folder cannot pass for a whole one.
    """
    problems = []
    folders = [out / RUNS / name for name in names] or run_folders(out)
    if not folders:
        raise SnapshotError(f"{out}: no finished runs; name the output folder of a scan with --output")
    for folder in folders:
        found = verify(folder)
        say(f"{folder.name}: {'whole' if not found else f'{len(found)} problems'}")
        problems += found
    return problems


def damaged(problems: Sequence[str]) -> SnapshotError:
    """The error that says what `verify_all` found."""
    return SnapshotError("\n".join(problems))
