"""What a finished run is on disk: the names of its folders, the manifest that lists its files, and how to read them.

What the writer (`snapshot`) and the reader (`query`) have in common.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from census import duck
from census.errors import SnapshotError
from census.schema import Column, Table

RUNS = "runs"
"""Folder of the finished runs, below the output folder."""

MANIFEST = "manifest.json"

FORMAT = "census-run"
"""What a manifest says it is."""

RUNS_REMEMBERED = 1024
"""Manifests kept in memory, some 10 kB each: nearly three years of daily runs."""

_WIDER = {"int16": ("int32", "int64"), "int32": ("int64",)}
"""Types an older file may have where the schema now has a wider one."""


@dataclass(frozen=True, slots=True)
class File:
    """One Parquet file of a run.

    `path` is relative to the run's folder, with `/`; `bytes` is its size; `columns` is `Table.fingerprint` of the
    table it was written as, by which a reader knows its columns and types without opening it.
    """

    path: str
    table: str
    rows: int
    bytes: int
    sha256: str
    schema_version: int
    columns: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. `manifest` is its manifest as read, `files` the files it lists.

    `earlier` are the files that were replaced when the run was derived again: one tuple for each time, the first
    published first. No reader takes them for the run's own.
    """

    run_id: str
    folder: Path
    manifest: Mapping[str, Any]
    files: tuple[File, ...]
    earlier: tuple[tuple[File, ...], ...] = ()

    def paths(self, table: str) -> list[Path]:
        """The Parquet files of one table."""
        return [self.folder / file.path for file in self.files if file.table == table]

    def damage(self, *, thorough: bool = False, of: Collection[str] | None = None) -> list[str]:
        """Files that are missing or not what was written, one line for each; only those of the tables `of`, if given.

        Every file is read and hashed but, unless `thorough`, large ones of EVIDENCE, of which the size must do.
        """
        files = [file for files in (self.files, *self.earlier) for file in files if of is None or file.table in of]
        return [problem for file in files if (problem := _damage(self.folder / file.path, file, thorough))]

    def as_published(self) -> Run:
        """The run with the derived tables that it was first published with."""
        kept = {file.table: file for files in reversed(self.earlier) for file in files}
        return replace(self, files=tuple(kept.get(file.table, file) for file in self.files), earlier=())


EVIDENCE = ("replies", "bodies")
"""Tables that no figure is made from, and that may be many times larger than all others."""

LARGE_EVIDENCE = 64 << 20
"""Bytes from which a file of EVIDENCE is hashed by a thorough look only."""


def _damage(path: Path, file: File, thorough: bool) -> str | None:
    try:
        found = path.stat()
        if found.st_size != file.bytes:
            return f"{path}: damaged: {found.st_size} bytes, but {file.bytes} were written"
        if file.table in EVIDENCE and file.bytes >= LARGE_EVIDENCE and not thorough:
            return None
        whole = _sha256(path, found.st_size, found.st_mtime_ns) == file.sha256
    except OSError as problem:
        return f"{path}: {problem.strerror}"
    return None if whole else f"{path}: damaged: its SHA-256 is not the one in the manifest"


@cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Hashed once in a process, as long as the file keeps its size and time."""
    return sha256(path)


def sha256(path: Path) -> str:
    """Hex digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_text(run_id: str, files: Sequence[File], **facts: Any) -> str:
    """The manifest of a run as JSON with sorted keys: equal runs have equal manifests."""
    content = {"format": FORMAT, "run_id": run_id, "files": [asdict(file) for file in files], **facts}
    return json.dumps(content, sort_keys=True, indent=1) + "\n"


def read_run(folder: Path) -> Run:
    """The finished run in `folder`.

    Raises SnapshotError when there is none, when its manifest is unreadable, and when it is the copy of a run: a folder
    below `runs/` has the name of its run.
    """
    path = folder / MANIFEST
    try:
        about = path.stat()
        return _read(folder, about.st_ino, about.st_size, about.st_mtime_ns)
    except FileNotFoundError:
        raise SnapshotError(f"{folder}: no finished run here ({MANIFEST} is missing)") from None
    except OSError as problem:
        raise SnapshotError(f"{path}: not a readable manifest ({problem!r}); the run is damaged") from None


@lru_cache(RUNS_REMEMBERED)
def _read(folder: Path, inode: int, size: int, mtime_ns: int) -> Run:
    """Read once in a process, as long as the file stays what it is: a report asks for its runs several times."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(_file(path, entry) for entry in manifest["files"])
        earlier = tuple(tuple(_file(path, entry) for entry in entries) for entries in manifest.get("earlier", ()))
        run_id = str(manifest["run_id"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise SnapshotError(f"{path}: not a readable manifest ({problem!r}); the run is damaged") from None
    if folder.parent.name == RUNS and folder.name != run_id:
        raise SnapshotError(f"{folder}: this is run {run_id}; give the folder that name, or move a copy out of {RUNS}/")
    return Run(run_id, folder, manifest, files, earlier)


def read_or_tell(folder: Path, damaged: Callable[[str], None] | None) -> Run | None:
    """As `read_run`; but where there is somebody to tell what is wrong with the run, None in place of an error."""
    try:
        return read_run(folder)
    except SnapshotError as problem:
        if damaged is None:
            raise
        damaged(f"{folder.name} is left out: {problem}")
        return None


def _file(manifest: Path, entry: Mapping[str, Any]) -> File:
    """One entry of a manifest; keys of later versions are ignored. A path may not leave the run's folder."""
    file = File(**{key: value for key, value in entry.items() if key in File.__slots__})
    if Path(file.path).is_absolute() or ".." in Path(file.path).parts:
        raise ValueError(f"{manifest}: {file.path!r} is outside of the run")
    return file


def run_folders(out: Path) -> list[Path]:
    """Folders of the finished runs below an output folder, by name, which is by time."""
    root = out / RUNS
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []


def published(out: Path, damaged: Callable[[str], None] | None = None) -> list[Run]:
    """The finished runs below an output folder, by name, which is by time.

    One whose manifest cannot be read is left out and `damaged` told so; without it that is a SnapshotError.
    """
    return [run for folder in run_folders(out) if (run := read_or_tell(folder, damaged)) is not None]


def table_sql(table: Table, runs: Sequence[Run]) -> str:
    """A SELECT that reads a table over all `runs` with exactly the columns and types of its schema.

    A column that an older file lacks is NULL. Raises SnapshotError naming the file whose column has another type.
    Where all files have today's columns DuckDB need not compare them, which would open every file for every view.
    """
    files = [(run.folder / file.path, file) for run in runs for file in run.files if file.table == table.name]
    if not files:
        return f"SELECT {', '.join(f'NULL::{c.sql} AS {duck.name(c.name)}' for c in table.columns)} WHERE false"
    known = set().union(*(_columns(table, path, file) for path, file in files))
    columns = ", ".join(_expression(column, known) for column in table.columns)
    paths = ", ".join(duck.text(str(path.absolute())) for path, _ in files)
    mixed = any(file.columns != table.fingerprint for _, file in files)
    return f"SELECT {columns} FROM read_parquet([{paths}], union_by_name = {mixed}, hive_partitioning = false)"


def _expression(column: Column, known: Iterable[str]) -> str:
    value = duck.name(column.name) if column.name in known else "NULL"
    return f"{value}::{column.sql} AS {duck.name(column.name)}"


def _columns(table: Table, path: Path, file: File) -> set[str]:
    """Columns of one file; the file is opened only when it was written with another schema than today's."""
    if file.columns == table.fingerprint:
        return {column.name for column in table.columns}
    try:
        found = pq.read_schema(path)
    except (OSError, pa.ArrowException) as problem:
        raise SnapshotError(f"{path}: damaged: {problem}") from None
    for column in table.columns:
        if column.name in found.names and not _fits(found.field(column.name).type, column.arrow):
            was = found.field(column.name).type
            raise SnapshotError(
                f"{path}: column {column.name} is {was}, but should be {column.arrow}; leave the run out"
            )
    return set(found.names)


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    return bool(found == wanted) or str(wanted) in _WIDER.get(str(found), ())
