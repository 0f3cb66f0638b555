"""Findings -> one finished run, or nothing: drafts, their blocks and parts, resuming, publishing.

A run is written below `<out>/unfinished/<run_id>/` block by block, each visible by one rename, and published by
one rename to `<out>/runs/<run_id>/`. No other module writes there.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa

from census import blocks, disk
from census.errors import SnapshotError
from census.manifest import (
    MANIFEST,
    RUNS,
    manifest_text,
)
from census.model import Finding, Together
from census.publishing import (
    one_row,
    row_groups,
    write_run,
    write_table,
)
from census.rows import FOUND, rows
from census.schema import SCHEMA_VERSION, tables

# --- which installation ----------------------------------------------------------------------------------------------

SALT = "installation-salt"
"""File of the operator's secret, in the output folder beside `runs/`: never in a run, its owner's alone to read."""

_SALT_BYTES = 32
"""As many as the hash has: more would add nothing."""


def installation_salt(out: Path) -> bytes:
    """The secret of an output folder, made when it is first asked for. Raises SnapshotError for a damaged one.

    Marks are equal for equal files on disk as long as the secret is, so it has to stay with the runs it marked.
    """
    path = out / SALT
    with _told_of_salt(path), suppress(FileNotFoundError):
        return _whole_salt(path)
    with _told_of_salt(path):
        _make_salt(path)
        return _whole_salt(path)


def _whole_salt(path: Path) -> bytes:
    salt = path.read_bytes()
    if len(salt) != _SALT_BYTES:
        raise SnapshotError(f"{path}: {len(salt)} bytes, but {_SALT_BYTES} were written; restore it from a copy")
    return salt


def _make_salt(path: Path) -> None:
    """Two processes may do so at once: the first link wins, and both read what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{disk.TEMPORARY}{path.name}-{secrets.token_hex(4)}")
    file = os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    with disk.removed_on_failure(new), file:
        file.write(secrets.token_bytes(_SALT_BYTES))
        disk.sync(file)
    with suppress(FileExistsError):
        path.hardlink_to(new)
    new.unlink()


@contextmanager
def _told_of_salt(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise SnapshotError(f"{path}: {problem.strerror}; installations cannot be marked without it") from None


_log = logging.getLogger(__name__)

_TargetKey = tuple[str, int, str]
"""(ip, port, domain): one target of a run."""

_BLOCK, _PART = ".block", ".part"
"""Ends of the names of a whole block and of a part of one that is not whole yet; inside they are alike."""


# --- an unfinished run -----------------------------------------------------------------------------------------------

_UNFINISHED = "unfinished"
_PLAN = "plan.json"
_BLOCKS = "blocks"
LOCK = "lock"


def new_run_id(now: datetime, *, shard: int = 0, shards: int = 1) -> str:
    """A name for a run that starts now (UTC): sorts by time, then by chance: `20261122T150932Z-7f3a`."""
    part = f"-{shard}of{shards}" if shards > 1 else ""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}{part}"


def unfinished(out: Path) -> list[str]:
    """Names of the runs that can be resumed below an output folder, by name, which is by time."""
    root = out / _UNFINISHED
    names = sorted(path.parent.name for path in root.glob(f"*/{_PLAN}"))
    return [name for name in names if not name.startswith(disk.TEMPORARY) and not (out / RUNS / name).exists()]


class Draft:
    """An unfinished run: `<out>/unfinished/<run_id>/`, owned by one process at a time.

    Attributes:
        plan: what `create` was given, with `n_resumed` counting the resumes; survives a kill.
        folder: holds the plan, the blocks, and whatever the scan keeps beside them.
        on_part: called with each part that is committed, from the thread that does so: `note` takes the same.
    """

    def __init__(self, out: Path, run_id: str, lock: IO[bytes]) -> None:
        self.out = out
        self.run_id = run_id
        self.folder = draft_folder(out, run_id)
        self._lock = lock
        self.on_part: Callable[[int, str, Mapping[str, int], int], None] = lambda *_: None
        self._tally = blocks.Tally()
        self._blocks: dict[int, Path] = {}
        self._parts: dict[int, _Parts] = {}
        try:
            self._sweep()
            self.plan: dict[str, Any] = _read_plan(self.folder)
            self._salt = installation_salt(out)
            self._adopt()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, out: Path, run_id: str, plan: Mapping[str, Any], save: Callable[[Path], None]) -> Draft:
        """Start a run. `save` writes the target set into the folder it is given. Raises SnapshotError.

        A kill on the way leaves nothing that could be resumed.
        """
        _clean(out)
        folder = draft_folder(out, run_id)
        if folder.exists() or (out / RUNS / run_id).exists():
            raise SnapshotError(f"{out}: there is a run {run_id} already")
        with _told_of_beginning(folder):
            lock = _begin(folder, plan, save)
        return cls(out, run_id, lock)

    @classmethod
    def resume(cls, out: Path, run_id: str) -> Draft:
        """Go on with an unfinished run. Raises SnapshotError when there is none, or another process has it."""
        _clean(out)
        folder = draft_folder(out, run_id)
        if (out / RUNS / run_id).exists():
            raise SnapshotError(f"{run_id} is finished: nothing to resume")
        if not (folder / _PLAN).exists():
            names = ", ".join(unfinished(out)) or "none"
            raise SnapshotError(f"{out}: no unfinished run {run_id!r}; there are: {names}")
        draft = cls(out, run_id, locked(folder, LOCK_PATIENCE_S))
        with _told_of_disk(folder):
            draft.plan["n_resumed"] = draft.plan.get("n_resumed", 0) + 1
            disk.write_text(folder / _PLAN, json.dumps(draft.plan, sort_keys=True))
        return draft

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> None:
        """Count anew what is committed, after a process of this run has ended before it could tell."""
        self._tally, self._blocks, self._parts = blocks.Tally(), {}, {}
        self._sweep()
        self._adopt()

    def close(self) -> None:
        """Let another process go on with this run."""
        self._lock.close()

    @property
    def committed(self) -> frozenset[int]:
        """Numbers of the whole blocks."""
        return frozenset(self._blocks)

    def is_whole(self, block: int, length: int) -> bool:
        """Whether all `length` targets of a block are committed, as a whole or in parts."""
        return block in self._blocks or self._parts_of(block).tally.total == length

    def done(self, block: int) -> frozenset[_TargetKey]:
        """(ip, port, domain) of the targets that the parts of a block not yet whole hold."""
        return self._parts_of(block).done()

    def note(self, block: int, name: str, outcomes: Mapping[str, int], hits: int) -> None:
        """Count a part that another process of this run has committed: its file, and what `on_part` told of it."""
        tally = blocks.Tally(Counter(outcomes), hits)
        self._parts.setdefault(block, _Parts()).add(self.folder / _BLOCKS / name, tally)
        self._tally += tally

    def counts(self) -> Counter[str]:
        """Committed targets by outcome, in whole blocks and in parts."""
        return Counter(self._tally.outcomes)

    def hits(self) -> int:
        """AI servers among the committed targets."""
        return self._tally.hits

    def commit(self, block: int, findings: Sequence[Finding]) -> None:
        """Make all rows of a block last, by one rename: those of its parts, and of these findings.

        What is committed already, the whole block or a target in a part of it, is left as it is. Raises SnapshotError
        when the disk refuses (full, gone): the block is then as before.
        """
        if block in self._blocks:
            return
        parts = self._parts_of(block)
        path, tally = self._write(block, parts.missing(findings), _BLOCK, copied=parts.paths)
        self._blocks[block] = path
        self._tally += tally - parts.tally
        self._parts.pop(block, None)
        disk.remove_all(parts.paths)

    def commit_part(self, block: int, findings: Sequence[Finding]) -> None:
        """Make these rows of a block that is not whole last, by one rename; any number of times.

        What is committed already is left as it is. Raises SnapshotError when the disk refuses: nothing is then added.
        """
        parts = self._parts_of(block)
        if block in self._blocks or not (missing := parts.missing(findings)):
            return
        path, tally = self._write(block, missing, _PART)
        parts.add(path, tally)
        self._parts[block] = parts
        self._tally += tally
        self.on_part(block, path.name, tally.outcomes, tally.hits)

    def _parts_of(self, block: int) -> _Parts:
        return self._parts.get(block) or _Parts()

    def _write(
        self, block: int, findings: Sequence[Finding], end: str, copied: Iterable[Path] = ()
    ) -> tuple[Path, blocks.Tally]:
        folder = self.folder / _BLOCKS
        partial_file = folder / f"{disk.TEMPORARY}{block:08d}-{os.getpid()}"
        with _told_of_disk(self.folder), disk.removed_on_failure(partial_file):
            make = partial(rows, self.run_id, block=block, salt=self._salt)
            tally = blocks.write(partial_file, blocks.made(make, findings), copied)
            final = blocks.named(partial_file, f"{block:08d}", end)
            partial_file.rename(final)
            disk.sync_path(folder)
        return final, tally

    def publish(self, run_row: Mapping[str, Any], together: Sequence[Together] = ()) -> Path:
        """Compact the blocks into sorted files and publish the run by one rename; returns its folder.

        `run_row` is the row of `runs`; it needs columns of `schemas/tables/runs.toml` only. `together` are reasons to
        doubt hosts that only all of them beside each other can show. Raises SnapshotError when
        the ledger does not balance, a block is damaged or the disk is full: the draft is then as before.
        """
        final = self.out / RUNS / self.run_id
        if not final.exists():
            self._check_ledger(run_row)
            with _told_of_disk(self.folder):
                self._compact(run_row, final, together)
        self.close()
        _clean(self.out)
        return final

    def _check_ledger(self, run_row: Mapping[str, Any]) -> None:
        if (asked := self._tally.outcomes.total()) != run_row["n_targets"]:
            raise SnapshotError(f"{self.run_id}: {run_row['n_targets']} targets, but {asked} outcomes: resume the scan")

    def _compact(self, run_row: Mapping[str, Any], final: Path, together: Sequence[Together]) -> None:
        new = self.folder / f"{disk.TEMPORARY}publish"
        shutil.rmtree(new, ignore_errors=True)
        found = [*self._blocks.items(), *((n, path) for n, parts in self._parts.items() for path in parts.paths)]
        files = [path for _, path in sorted(found)]
        write_run(new, files, dict(run_row), together)
        for log in self.folder.glob("*.log"):
            shutil.copy(log, new)
        disk.sync_tree(new)
        final.parent.mkdir(exist_ok=True)
        new.rename(final)
        disk.sync_path(final.parent)

    def _adopt(self) -> None:
        """Count what a predecessor committed. A damaged file is removed, and its targets are asked again."""
        for path in sorted((self.folder / _BLOCKS).glob(f"*{_BLOCK}")):
            with _removed_when_damaged(path):
                self._tally += blocks.tally(path)
                self._blocks[_number(path)] = path
        for path in sorted((self.folder / _BLOCKS).glob(f"*{_PART}")):
            with _removed_when_damaged(path):
                self._adopt_part(path)

    def _adopt_part(self, path: Path) -> None:
        """A part of a block that is whole was left by a kill: the block has its rows."""
        if (block := _number(path)) in self._blocks:
            path.unlink()
            return
        tally = blocks.tally(path)
        self._parts.setdefault(block, _Parts()).add(path, tally)
        self._tally += tally

    def _sweep(self) -> None:
        """Remove what a killed predecessor left half-done."""
        for path in (*self.folder.glob(f"{disk.TEMPORARY}*"), *self.folder.glob(f"{_BLOCKS}/{disk.TEMPORARY}*")):
            disk.remove(path)


@dataclass(slots=True)
class _Parts:
    """The parts of one block that is not whole yet: their files, and what they add up to."""

    paths: list[Path] = field(default_factory=list)
    tally: blocks.Tally = field(default_factory=blocks.Tally)

    def add(self, path: Path, tally: blocks.Tally) -> None:
        self.paths.append(path)
        self.tally += tally

    def done(self) -> frozenset[_TargetKey]:
        """Whose rows they hold: read when it is asked for, since a run may have thousands of such blocks."""
        return frozenset(chain.from_iterable(map(_keys_of, self.paths)))

    def missing(self, findings: Sequence[Finding]) -> Sequence[Finding]:
        """The findings whose targets are in no part."""
        if not self.paths:
            return findings
        done = self.done()
        return [finding for finding in findings if _key_of(finding) not in done]


def _key_of(finding: Finding) -> _TargetKey:
    target = finding.conversation.target
    return target.ip, target.port, target.domain


def _keys_of(path: Path) -> Iterator[_TargetKey]:
    for batch in blocks.read(path, "probes"):
        yield from zip(*(batch[name].to_pylist() for name in ("ip", "port", "domain")), strict=True)


def draft_folder(out: Path, run_id: str) -> Path:
    """Where a run lives until it is published. Raises SnapshotError for what is not the name of one."""
    if not run_id or not all(c.isascii() and (c.isalnum() or c == "-") for c in run_id):
        raise SnapshotError(f"{run_id!r} is not the name of a run (letters, digits and '-')")
    return out / _UNFINISHED / run_id


def _begin(folder: Path, plan: Mapping[str, Any], save: Callable[[Path], None]) -> IO[bytes]:
    """Make the folder of a draft and return its lock, which is held from the beginning."""
    new = folder.with_name(f"{disk.TEMPORARY}{folder.name}")
    (new / _BLOCKS).mkdir(parents=True)
    lock = locked(new)
    try:
        save(new)
        disk.write_text(new / _PLAN, json.dumps(plan, sort_keys=True))
        disk.sync_tree(new)
        new.rename(folder)
        disk.sync_path(folder.parent)
    except BaseException:
        lock.close()
        raise
    return lock


def _read_plan(folder: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise SnapshotError(f"{folder / _PLAN}: {problem}") from None
    return plan


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


@contextmanager
def _removed_when_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except blocks.NotNow:
        raise
    except SnapshotError as problem:
        _log.warning("%s", problem)
        path.unlink()


LOCK_PATIENCE_S = 1.0
"""Seconds for which a draft's lock is waited for: the workers of a process that was killed need a moment to follow."""

_LOCK_LOOK_S = 0.02
"""Seconds between two looks at a lock that another process has."""


def locked(folder: Path, patience: float = 0.0) -> IO[bytes]:
    """The lock of a draft, held until it is closed or its process ends. Raises SnapshotError when another has it."""
    try:
        lock = (folder / LOCK).open("wb")
    except OSError as problem:
        raise SnapshotError(f"{folder / LOCK}: {problem.strerror}") from None
    deadline = time.monotonic() + patience
    while not _taken(lock):
        if time.monotonic() >= deadline:
            lock.close()
            raise SnapshotError(f"{folder.name}: another process is at work on this run; wait for it or end it")
        time.sleep(_LOCK_LOOK_S)
    return lock


def _taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _clean(out: Path) -> None:
    """Remove drafts whose run is published, and beginnings that a kill cut short, unless a process is at work there."""
    for folder in sorted((out / _UNFINISHED).glob("*")):
        if folder.name.startswith(disk.TEMPORARY) or (out / RUNS / folder.name).exists():
            _remove_if_idle(folder)


def _remove_if_idle(folder: Path) -> None:
    with suppress(SnapshotError), locked(folder):
        disk.remove(folder)


@contextmanager
def _told_of_beginning(folder: Path) -> Iterator[None]:
    """As `_told_of_disk`, where there is no run yet that could be resumed."""
    try:
        yield
    except OSError as problem:
        where = problem.filename or folder
        raise SnapshotError(f"{where}: {problem.strerror or problem}; a run cannot begin here") from None


@contextmanager
def _told_of_disk(folder: Path) -> Iterator[None]:
    """An error of the file system as one that says where, what and what now."""
    try:
        yield
    except OSError as problem:
        raise SnapshotError(
            f"{problem.filename or folder}: {problem.strerror or problem}; whole blocks are kept: "
            f"make room or mend the folder, then go on with --resume {folder.name}"
        ) from None


def publish_tables(out: Path, run_row: Mapping[str, Any], found: Mapping[str, pa.Table]) -> Path:
    """Publish a run whose tables are there as a whole, in the order of their rows; returns its folder.

    `found` has Arrow tables of the schemas, by name; a table it lacks is empty. The files, the manifest and the rename
    are those of a scan. Raises SnapshotError when there is such a run already or the disk refuses.
    """
    final = out / RUNS / str(run_row["run_id"])
    new = final.with_name(f"{disk.TEMPORARY}{final.name}")
    if final.exists():
        raise SnapshotError(f"{out}: there is a run {final.name} already")
    with _told_of_disk(new), disk.removed_on_failure(new):
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        files = [write_table(new, "runs", one_row("runs", dict(run_row)))]
        files += [
            write_table(new, name, row_groups(found.get(name, tables()[name].arrow.empty_table()))) for name in FOUND
        ]
        disk.write_text(new / MANIFEST, manifest_text(run_row["run_id"], files, schema_version=SCHEMA_VERSION))
        disk.sync_tree(new)
        new.rename(final)
        disk.sync_path(final.parent)
    return final
