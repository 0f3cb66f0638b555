"""Block files: the rows of some findings, from when they are committed until their run is published.

A file is an Arrow file with one row for each portion of its findings, and in that row the rows of each table as an
Arrow stream of their own: who wants one table reads no more than that, and a table without rows costs nothing. That
matters because most targets of the world answer nothing, and have rows of probes alone.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from census.disk import sync
from census.errors import SnapshotError
from census.manifest import sha256
from census.model import Conversation, Finding, Outcome
from census.rows import FOUND

PORTION_BYTES = 64 << 20
"""Bytes of answers in one portion of a block, about: what committing and reading a block need at once."""

FINDING_BYTES = MODEL_BYTES = 1 << 10
"""What a finding, and each model of it, counts as in PORTION_BYTES."""

DIGEST_DIGITS = 16
"""Hex digits of a block file's own SHA-256 in its name: enough to notice damage, not to withstand an attacker."""

ERROR_TEXT = 200
"""Characters kept of the reason why a finding could not be stored."""

LZ4 = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
"""For what is read again soon. To share a few kilobytes between threads costs more than it saves."""

ALONE = pa.ipc.IpcReadOptions(use_threads=False)
"""As LZ4 for reading."""

_SCHEMA = pa.schema([pa.field(table, pa.binary()) for table in FOUND])

_log = logging.getLogger(__name__)

Found = Mapping[str, pa.RecordBatch]
"""Rows by table, as `rows.rows` gives them; a table that is not there has none."""


@dataclass(slots=True)
class Tally:
    """What rows of probes add up to: targets by outcome, and the AI servers among them."""

    outcomes: Counter[str] = field(default_factory=Counter)
    hits: int = 0

    @property
    def total(self) -> int:
        """Targets."""
        return self.outcomes.total()

    def add(self, probes: pa.RecordBatch) -> None:
        """Count these too."""
        for each in probes["outcome"].value_counts().to_pylist():
            self.outcomes[each["values"]] += each["counts"]
        self.hits += len(probes) - probes["server"].null_count

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.outcomes + other.outcomes, self.hits + other.hits)

    def __sub__(self, other: Tally) -> Tally:
        return Tally(self.outcomes - other.outcomes, self.hits - other.hits)


# --- findings -> portions --------------------------------------------------------------------------------------------

Maker = Callable[[Sequence[Finding]], Found]


def portions(findings: Iterable[Finding], size: int = PORTION_BYTES) -> Iterator[list[Finding]]:
    """The findings in pieces of about `size` bytes, but for the last, which may be empty."""
    portion: list[Finding] = []
    weight = 0
    for finding in findings:
        portion.append(finding)
        weight += FINDING_BYTES + sum([len(reply.body) for reply in finding.conversation.replies])
        weight += MODEL_BYTES * len(finding.identity.models or ())
        if weight >= size:
            yield portion
            portion, weight = [], 0
    yield portion


def made(make: Maker, findings: Sequence[Finding]) -> Iterator[Found]:
    """The rows of some findings, a portion at a time. One that cannot be stored costs its neighbours nothing."""
    for portion in portions(findings, PORTION_BYTES):
        try:
            found = make(portion)
        except Exception:
            found = make([_storable(make, finding) for finding in portion])
        yield found


def _storable(make: Maker, finding: Finding) -> Finding:
    """The finding, when its rows can be made; else that of its outcome `unknown-error` with the reason."""
    try:
        make([finding])
    except Exception as problem:
        return _told(finding, problem)
    return finding


def _told(finding: Finding, problem: Exception) -> Finding:
    """A finding that cannot be stored, as what it then is: a fault of the census, counted and in the log."""
    talk = finding.conversation
    _log.error("%s cannot be stored", talk.target.endpoint, exc_info=problem)
    error = f"fault of the census: cannot be stored: {str(problem)[:ERROR_TEXT]}".encode("ascii", "replace").decode()
    target = replace(talk.target, tag=None)
    return Finding(Conversation(target, Outcome.UNKNOWN_ERROR, talk.asked_at, error=error, requests=talk.requests))


# --- the files -------------------------------------------------------------------------------------------------------


def write(path: Path, found: Iterable[Found], copied: Iterable[Path] = ()) -> Tally:
    """Write and fsync a block file, with the portions of other such files before the new rows.

    Returns what its rows of probes add up to. Raises SnapshotError when a file to be copied is damaged.
    """
    tally = Tally()
    with path.open("wb") as file:
        with pa.ipc.new_file(file, _SCHEMA) as writer:
            for other in copied:
                for portion in _portions_of(other):
                    writer.write_batch(portion)
                for probes in read(other, "probes"):
                    tally.add(probes)
            for rows in found:
                writer.write_batch(pa.record_batch([_cell(rows.get(table)) for table in FOUND], schema=_SCHEMA))
                if "probes" in rows:
                    tally.add(rows["probes"])
        sync(file)
    return tally


def _cell(rows: pa.RecordBatch | None) -> pa.Array:
    if rows is None:
        return pa.nulls(1, pa.binary())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=LZ4) as writer:
        writer.write_batch(rows)
    return pa.array([sink.getvalue().to_pybytes()], pa.binary())


def read(path: Path, table: str) -> Iterator[pa.RecordBatch]:
    """The rows of one table in a block file, a portion at a time. Raises SnapshotError when the file is damaged."""
    for portion in _portions_of(path, [table]):
        cell = portion.column(0)[0].as_buffer()
        if cell is not None:
            with _damage_told(path), pa.ipc.open_stream(cell, options=ALONE) as stream:
                yield stream.read_next_batch()


def _portions_of(path: Path, of: Sequence[str] = FOUND) -> Iterator[pa.RecordBatch]:
    """The portions of a block file as written, with these tables."""
    wanted = [FOUND.index(table) for table in of]
    options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
    with _damage_told(path), pa.OSFile(str(path)) as source, pa.ipc.open_file(source, options=options) as reader:
        if reader.schema != pa.schema([_SCHEMA.field(table) for table in of]):
            raise NotNow(f"{path}: another version of the census wrote it; nothing is lost: resume with that version")
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


class NotNow(SnapshotError):
    """A block file that this machine cannot read at the moment: it may be whole."""


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """What goes wrong when a block file is read, as SnapshotError. Want of descriptors or memory is no damage."""
    try:
        yield
    except (OSError, pa.ArrowException) as problem:
        if isinstance(problem, MemoryError) or getattr(problem, "errno", None) not in _DAMAGE:
            words = getattr(problem, "strerror", None) or problem
            raise NotNow(f"{path}: cannot be read now: {words}; nothing is lost: mend that, and resume") from None
        raise SnapshotError(f"{path}: damaged: {problem}; resume the run: the block is asked again") from None


_DAMAGE = (None, errno.EIO)
"""Error numbers of a file that cannot be read because of what it holds: Arrow's own have none."""


def named(partial: Path, stem: str, end: str) -> Path:
    """What a file that is written gets for a name: that of its block, and its own hash."""
    return partial.with_name(f"{stem}-{sha256(partial)[:DIGEST_DIGITS]}{end}")


def tally(path: Path) -> Tally:
    """What the rows of probes in one block file add up to. Raises SnapshotError when the file is damaged."""
    with _damage_told(path):
        digest = sha256(path)
    if not path.stem.endswith(f"-{digest[:DIGEST_DIGITS]}"):
        raise SnapshotError(f"{path}: damaged: the contents have changed since they were written")
    counted = Tally()
    for probes in read(path, "probes"):
        counted.add(probes)
    return counted
