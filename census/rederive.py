"""A finished run derived again: its probes, hosts and models replaced in one step, and what they replace kept.

What is concluded anew, and from what, `derive` says.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from census import blocks, disk, duck
from census.errors import SnapshotError
from census.manifest import (
    MANIFEST,
    File,
    Run,
    manifest_text,
    table_sql,
)
from census.model import Finding, Together
from census.publishing import (
    RunRow,
    one_row,
    ordered_groups,
    sorted_groups,
    told_of_duckdb,
    write_table,
)
from census.rows import Unstorable, derived_rows
from census.schema import SCHEMA_VERSION, tables
from census.snapshot import LOCK, draft_folder, locked

DERIVED = ("probes", "hosts", "models")
"""The tables with something concluded in them. Of probes it is the column `server` only."""

_KEY = "run_id, ip, port, domain"

_EARLIER = "earlier"
_KEPT = ".kept"
"""What was replaced stays in this folder of the run; files end so, that no pattern for Parquet files finds them."""

_SORT_MEMORY = "384MB"
"""What DuckDB may hold while it sorts what is derived again; the rest goes to files beside the draft."""

_SORT_THREADS = 2
"""Each sorting thread needs buffers of its own."""

_DERIVING = f"{disk.TEMPORARY}derive-"

_DERIVED_BYTES = 16 << 20
"""Bytes of answers from which rows are derived at once, about."""


@contextmanager
def workshop(out: Path, run_id: str) -> Iterator[Path]:
    """An empty folder beside the unfinished runs to derive a run in, owned by one process at a time.

    Removed at the end, or by the next owner after a kill. Raises SnapshotError when another process derives the run.
    """
    folder = draft_folder(out, run_id).with_name(f"{_DERIVING}{run_id}")
    with _told_of_deriving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            for path in folder.iterdir():
                if path.name != LOCK:
                    disk.remove(path)
            try:
                yield folder
            finally:
                disk.remove(folder)


@contextmanager
def _told_of_deriving(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise SnapshotError(
            f"{problem.filename or folder}: {problem.strerror or problem}; the run is as it was: make room or mend the "
            "folder, then derive it again"
        ) from None


def rederive(
    run: Run,
    findings: Iterable[Finding],
    row: RunRow,
    work: Path,
    salt: bytes | None,
    together: Sequence[Together] = (),
) -> bool:
    """Replace what is derived in a finished run, in one step; False when nothing would change.

    Readers see the run as it was or as it is then, also after a kill. What is replaced is kept below `earlier/`,
    under names that no pattern for Parquet files finds.

    Args:
        findings: one for each endpoint that replied; the others stay as they are.
        row: the row of `runs`, of which only `derived_at` may differ when nothing changes.
        work: what `workshop` gave. salt: what `installation_salt` gave. together: as for `Draft.publish`.
    """
    new = work / "run"
    new.mkdir()
    files = _derived_files(run, _derived_found(run.run_id, findings, salt), row, work, new, together)
    if not _differs(run, files, row):
        return False
    kept = [file for file in run.files if file.table not in (*DERIVED, "runs")]
    earlier = (*run.earlier, tuple(_as_kept(run, file) for file in run.files if file not in kept))
    for old, path in _links(run, kept):
        (new / path).parent.mkdir(parents=True, exist_ok=True)
        (new / path).hardlink_to(run.folder / old)
    facts = {"schema_version": SCHEMA_VERSION, "earlier": [[asdict(file) for file in one] for one in earlier]}
    disk.write_text(new / MANIFEST, manifest_text(run.run_id, _in_order([*files, *kept]), **facts))
    disk.sync_tree(new)
    _exchange(new, run.folder)
    disk.sync_path(run.folder.parent)
    return True


def _derived_files(
    run: Run, found: Iterator[blocks.Found], row: RunRow, work: Path, new: Path, together: Sequence[Together]
) -> list[File]:
    """The files have names of their own, so that a reader who knows the old ones never mixes the two."""
    part = f"derived-{len(run.earlier) + 1:04d}"
    block = work / "0.block"
    blocks.write(block, found)
    settings: dict[str, str | int] = {"memory_limit": _SORT_MEMORY, "threads": _SORT_THREADS}
    files = [write_table(new, "runs", one_row("runs", row), part)]
    for name in ("hosts", "models"):
        files.append(write_table(new, name, sorted_groups(tables()[name], [block], work, together), part))
    with duck.open_duckdb(":memory:", temp_directory=str(work / "spill"), **settings) as connection:
        hosts = new / "hosts" / f"{part}.parquet"
        probes = ordered_groups(connection, tables()["probes"], _probes_sql(run, hosts))
        files.append(write_table(new, "probes", probes, part))
    return files


def _derived_found(run_id: str, findings: Iterable[Finding], salt: bytes | None) -> Iterator[blocks.Found]:
    for portion in blocks.portions(findings, _DERIVED_BYTES):
        try:
            yield derived_rows(run_id, portion, salt)
        except Unstorable as problem:
            raise SnapshotError(f"{run_id}: {problem}; the run is as it was") from None


def _probes_sql(run: Run, hosts: Path) -> str:
    """The rows of probes with the servers of `hosts`, and with the certificates that only hosts used to have."""
    probes, was = (table_sql(tables()[name], [run]) for name in ("probes", "hosts"))
    tls = [name for name in tables()["probes"].arrow.names if name.startswith("tls_")]
    replaced = ", ".join(["h.server AS server", *(f"coalesce(p.{name}, o.{name}) AS {name}" for name in tls)])
    return (
        f"SELECT p.* REPLACE ({replaced}) FROM ({probes}) AS p "
        f"LEFT JOIN read_parquet({duck.text(str(hosts.absolute()))}) AS h USING ({_KEY}) "
        f"LEFT JOIN ({was}) AS o USING ({_KEY})"
    )


def _differs(run: Run, files: Sequence[File], row: RunRow) -> bool:
    old = {file.table: file.sha256 for file in run.files}
    was = run_row(run)
    return (
        any(file.sha256 != old.get(file.table) for file in files if file.table in DERIVED)
        or rules_of(was) != rules_of(row)
        or was["geo"] != row["geo"]
    )


def rules_of(row: RunRow) -> tuple[str, str]:
    """(census_version, data_version) that hosts and models of a run were derived with, from its row of `runs`."""
    return (
        row["derived_census_version"] or row["census_version"],
        row["derived_data_version"] or row["data_version"],
    )


def run_row(run: Run) -> RunRow:
    """The row of `runs` of a finished run, with all columns of today. Raises SnapshotError when it is not one."""
    with duck.open_duckdb() as connection, told_of_duckdb(str(run.folder)):
        found = connection.sql(table_sql(tables()["runs"], [run])).to_arrow_table().to_pylist()
    if len(found) != 1:
        raise SnapshotError(f"{run.folder}: runs has {len(found)} rows, not one; census verify says more")
    row: RunRow = found[0]
    return row


def _as_kept(run: Run, file: File) -> File:
    return replace(file, path=f"{_EARLIER}/{len(run.earlier) + 1:04d}/{file.path}{_KEPT}")


def _links(run: Run, kept: Sequence[File]) -> Iterator[tuple[str, str]]:
    """(path in the run, path in the new one) of everything that stays: evidence, logs, and what was replaced."""
    number = f"{_EARLIER}/{len(run.earlier) + 1:04d}"
    yield from ((file.path, file.path) for file in kept)
    yield from ((file.path, _as_kept(run, file).path) for file in run.files if file not in kept)
    yield from ((path.name, path.name) for path in sorted(run.folder.glob("*.log")))
    old = sorted(path for path in (run.folder / _EARLIER).rglob("*") if path.is_file())
    yield from ((path.relative_to(run.folder).as_posix(),) * 2 for path in old)
    yield MANIFEST, f"{number}/{MANIFEST}"


def _in_order(files: Iterable[File]) -> list[File]:
    order = {name: place for place, name in enumerate(tables())}
    return sorted(files, key=lambda file: (order.get(file.table, len(order)), file.path))


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""From Linux: fcntl.h, linux/fs.h."""


def _exchange(one: Path, other: Path) -> None:
    """Give two folders each other's name in one step. Raises SnapshotError where system or disk cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        failed = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0
        reason = os.strerror(ctypes.get_errno())
    except AttributeError:
        failed, reason = True, "this system has no call for it"
    if failed:
        raise SnapshotError(
            f"{other}: two folders cannot be exchanged in one step here ({reason}); the run is as it was: "
            "copy the output folder to a local disk (ext4, XFS, Btrfs, tmpfs) of a Linux system and derive it there"
        )
