"""Finished runs -> the same runs, concluded again: kept replies -> conversations -> findings -> the derived tables.

No network and no clock but the date that is written down. What a reply means is decided where a scan decides it, in
`scan.Stages.conclude`; how a run is replaced in one step, in `rederive`.
"""

from __future__ import annotations

import gc
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from census import __version__, duck, resources
from census.errors import CensusError, GeoError, SnapshotError
from census.families import Families
from census.identify import Rules
from census.locate import Locator, Networks
from census.manifest import RUNS, Run, read_run, run_folders, table_sql
from census.model import Certificate, Conversation, Finding, Outcome, Place, Question, Reply, Target
from census.rederive import rederive, run_row, workshop
from census.scan import COLLECT_AFTER, Settings, Stages
from census.schema import tables
from census.snapshot import installation_salt
from census.suspect import Suspicions

LAST = "last"
"""As the name of a run: the newest one."""

BATCH = 4096
"""Rows of probes or replies in memory at once."""

BODIES_READ = 256
"""Bodies read at once: at the body cap of a scan 256 MB, and the smaller a row group the less."""

SORT_MEMORY = "384MB"
"""What DuckDB may hold while it puts replies in order; the rest goes to files beside the run."""

Row = Mapping[str, Any]
_KEY = ("ip", "port", "domain")
_key = itemgetter(*_KEY)
_PLACE = ("country", "region", "city", "asn", "as_name", "place_source")
_ASK = ("method", "path")
_PLAIN = ("scheme", "status", "status_line", "truncated", "asked_at", "elapsed_ms")
_TLS = ("tls_sha256", "tls_subject", "tls_issuer", "tls_names", "tls_not_before", "tls_not_after")


# --- kept replies -> conversations -----------------------------------------------------------------------------------


class Bodies:
    """The bodies of a run by their hash, in a file: memory does not grow with them."""

    def __init__(self, run: Run, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._hashes, self._ends = _unpacked(run, work)
        with (work / "bodies").open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def find(self, hashes: Sequence[str]) -> list[bytes]:
        """The bodies with these hashes. Raises SnapshotError where there is none."""
        wanted = np.array(hashes, dtype="S64")
        places = np.searchsorted(self._hashes, wanted)
        found = np.minimum(places, max(0, len(self._hashes) - 1))
        if len(wanted) and (not len(self._hashes) or bool(np.any(self._hashes[found] != wanted))):
            raise SnapshotError("a reply has no body; census verify says more")
        starts, ends = self._ends[places].tolist(), self._ends[places + 1].tolist()
        return [self._bytes[start:end] for start, end in zip(starts, ends, strict=True)]

    def close(self) -> None:
        """Let go of the file."""
        self._bytes.close()


def _unpacked(run: Run, work: Path) -> tuple[Any, Any]:
    """Write the bodies one after another; their hashes in order, and where each ends, as arrays in files."""
    n, end, last = 0, 1, b""
    with ExitStack() as stack:
        data, hashes, ends = (stack.enter_context((work / name).open("wb")) for name in ("bodies", "hashes", "ends"))
        data.write(b"\0")  # so that it is never empty, which no map can be
        ends.write(end.to_bytes(8, "little"))
        for digest, body in _each_body(run):
            if digest <= last:
                raise SnapshotError(f"{run.folder}: bodies are not in the order of their hashes")
            data.write(body)
            hashes.write(digest)
            ends.write((end := end + len(body)).to_bytes(8, "little"))
            last, n = digest, n + 1
    if not n:
        return np.empty(0, dtype="S64"), np.ones(1, dtype=np.int64)
    return np.memmap(work / "hashes", dtype="S64", mode="r"), np.memmap(work / "ends", dtype="<i8", mode="r")


def _each_body(run: Run) -> Iterator[tuple[bytes, bytes]]:
    for path in run.paths("bodies"):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BODIES_READ, columns=["body_sha256", "body"]):
                hashes, bodies = (batch.column(name).to_pylist() for name in ("body_sha256", "body"))
                yield from ((digest.encode(), body) for digest, body in zip(hashes, bodies, strict=True))


def conversations(run: Run, work: Path) -> Iterator[tuple[Conversation, Place]]:
    """Every conversation of a run that has a reply, as its scan had it, with the place the run has for its address.

    In the order (ip, port, domain). What a list asked for beside that (a scheme) is not kept, and nothing rests on it.
    `work` is a folder for temporary files, as large as all bodies. Raises SnapshotError for a damaged run.
    """
    with _opened(run, work) as connection, closing(Bodies(run, work)) as bodies:
        replies = groupby(_replies(connection.cursor(), bodies), itemgetter(0))
        for row in _rows(connection.cursor(), _ASKED):
            key, found = next(replies, (None, ()))
            if key != _key(row):
                raise SnapshotError(f"{run.folder}: a reply of {key} has no probe; census verify says more")
            yield conversation_of(row, tuple(reply for _, reply in found)), place_of(row)


_ASKED = f"""
    SELECT p.* REPLACE ({", ".join(f"coalesce(p.{name}, h.{name}) AS {name}" for name in _TLS)}), w.*
    FROM probes AS p
    LEFT JOIN hosts AS h USING (run_id, ip, port, domain)
    LEFT JOIN (SELECT ip AS located, {", ".join(f"any_value({name}) AS {name}" for name in _PLACE)}
               FROM hosts GROUP BY ip) AS w ON p.ip = w.located
    WHERE (p.ip, p.port, p.domain) IN (SELECT (ip, port, domain) FROM replies)
    ORDER BY p.ip, p.port, p.domain
"""
"""An endpoint that replied; certificates of old runs are in hosts only; an address is in one place."""

_REPLIED = "FROM replies ORDER BY ip, port, domain, seq"


@contextmanager
def _opened(run: Run, work: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duck.open_duckdb(memory_limit=SORT_MEMORY, temp_directory=str(work / "sorting")) as connection:
        try:
            for name in ("probes", "hosts", "replies"):
                connection.execute(f"CREATE VIEW {name} AS {table_sql(tables()[name], [run])}")
            yield connection
        except (duckdb.Error, pa.ArrowException) as problem:
            raise SnapshotError(f"{run.folder}: {problem}") from None


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[dict[str, Any]]:
    for batch in connection.sql(sql).to_arrow_reader(BATCH):
        yield from batch.to_pylist()


def _replies(connection: duckdb.DuckDBPyConnection, bodies: Bodies) -> Iterator[tuple[Any, Reply]]:
    """(key of the endpoint, reply) in order."""
    questions: dict[tuple[str, str], Question] = {}
    for batch in connection.sql(_REPLIED).to_arrow_reader(BATCH):
        keys, asked, plain = (zip(*map(_list(batch), names), strict=True) for names in (_KEY, _ASK, _PLAIN))
        found = bodies.find(_list(batch)("body_sha256"))
        for key, ask, (scheme, status, line, cut, at, ms), headers, body in zip(
            keys, asked, plain, _headers(batch.column("headers")), found, strict=True
        ):
            question = questions.get(ask) or questions.setdefault(ask, Question(*ask))
            yield key, Reply(question, scheme, status, line, headers, body, cut, at, ms)


def _list(batch: pa.RecordBatch) -> Callable[[str], list[Any]]:
    return lambda name: batch.column(name).to_pylist()


def _headers(column: pa.ListArray) -> list[tuple[tuple[str, str], ...]]:
    flat = column.flatten()
    names, values = (flat.field(name).to_pylist() for name in ("name", "value"))
    pairs = list(zip(names, values, strict=True))
    bounds = [0, *accumulate(length or 0 for length in column.value_lengths().to_pylist())]
    return [tuple(pairs[start:end]) for start, end in pairwise(bounds)]


def conversation_of(row: Row, replies: tuple[Reply, ...]) -> Conversation:
    """The conversation of a row of probes and its replies."""
    return Conversation(
        Target(row["ip"], row["port"], row["domain"], tag=row["tag"]),
        Outcome(row["outcome"]),
        row["asked_at"],
        replies,
        error=row["error"],
        latency_ms=row["latency_ms"],
        requests=row["requests"],
        connections=row["connections"],
        scheme=row["scheme"],
        certificate=_certificate(row),
    )


def _certificate(row: Row) -> Certificate | None:
    if row["tls_sha256"] is None:
        return None
    names, began, ends = tuple(row["tls_names"] or ()), row["tls_not_before"], row["tls_not_after"]
    return Certificate(row["tls_sha256"], row["tls_subject"], row["tls_issuer"], names, began, ends)


def place_of(row: Row) -> Place:
    """Where a row of hosts says its address is, without the classes of its network."""
    return Place(**{name: row[name] for name in _PLACE})


# --- places ----------------------------------------------------------------------------------------------------------


class Kept(Locator):
    """The places that a run has: nothing is looked up. `here` is set before each conversation."""

    here = Place()

    def locate(self, ip: str) -> Place:
        return self.here


def _same_files(locator: Locator, geo: Iterable[Row]) -> bool:
    """Whether these are the databases a run was located with, byte for byte."""
    return sorted((s.file, s.sha256) for s in locator.sources) == sorted((g["file"], g["sha256"]) for g in geo)


def _locator(row: Row, settings: Settings, geo: Sequence[str]) -> tuple[Locator, str]:
    """Where places come from, and that in words. Raises GeoError for a database of `geo` that cannot be read."""
    if geo:
        opened = Locator.open([Path(path) for path in geo], simulated=settings.simulated)
        return opened, f"places are looked up in {', '.join(source.file for source in opened.sources)}"
    if not row["geo"]:
        return Kept(), "places stay unknown: the run had no database (--geo-db names one)"
    names = ", ".join(source["file"] for source in row["geo"])
    try:
        opened = Locator.open([Path(path) for path in settings.geo], simulated=settings.simulated)
    except GeoError:
        return Kept(), f"places are kept: {names} is not where the scan had it (--geo-db names another)"
    if _same_files(opened, row["geo"]):
        return opened, f"places are looked up in {names}, as in the scan"
    opened.close()
    return Kept(), f"places are kept: {names} has changed since the scan (--geo-db looks them up anew)"


# --- a run, derived again --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Derivation:
    """What deriving a run again did.

    Attributes:
        conversations: endpoints with a reply, all of them concluded anew.
        servers: endpoints identified before and now.
        places: where places came from, in words.
        replaced: False when nothing would have changed, so that the run was left as it was.
    """

    run_id: str
    conversations: int
    servers: tuple[int, int]
    places: str
    replaced: bool

    def __str__(self) -> str:
        before, now = self.servers
        done = "derived again" if self.replaced else "nothing changes"
        return (
            f"{self.run_id}: {done}: {self.conversations} conversations, {before} servers before, {now} now; "
            f"{self.places}"
        )


def chosen(out: Path, names: Sequence[str]) -> list[Run]:
    """The finished runs of these names, `last` being the newest. Raises SnapshotError for one that is not there."""
    folders = {folder.name: folder for folder in run_folders(out)}
    if not folders:
        raise SnapshotError(f"{out / RUNS}: no finished run here; name the output folder with --output")
    wanted = [max(folders) if name == LAST else name for name in names]
    if unknown := [name for name in wanted if name not in folders]:
        raise SnapshotError(f"no finished run {unknown[0]!r}; there are: {', '.join(folders)}")
    return [read_run(folders[name]) for name in dict.fromkeys(wanted)]


def derive(out: Path, name: str, *, geo: Sequence[str] = ()) -> Derivation:
    """Conclude everything in a finished run again, with today's rules, from the replies it kept.

    `geo` names databases to look places up in; by default those of the scan, if they are still the same files, else
    the run keeps the places it has (and today's rules say what kinds of networks they are).
    The run is replaced in one step, or, for any error, not at all. Raises SnapshotError, GeoError, DataError.
    """
    (run,) = chosen(out, [name])
    with workshop(out, run.run_id) as work:
        run = _sound(read_run(run.folder))
        row = run_row(run)
        settings = Settings.from_json(row["settings"])
        locator, places = _locator(row, settings, geo)
        with locator, _collected_seldom():
            stages = todays_stages(locator)
            counted = _Counted(stages)
            findings = counted.findings(conversations(run, work / "bodies"))
            salt, together = installation_salt(out), stages.suspicions.together
            replaced = rederive(run, findings, _new_row(row, locator), work, salt, together)
    before = sum(file.rows for file in run.files if file.table == "hosts")
    return Derivation(run.run_id, counted.conversations, (before, counted.servers), places, replaced)


@contextmanager
def _collected_seldom() -> Iterator[None]:
    """As in a scan: conversations and findings have no cycles, so looking for them often finds nothing."""
    usual = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def todays_stages(locator: Locator) -> Stages:
    """The stages that conclude, with today's rules and places from `locator`. Raises DataError."""
    rules, families, suspicions, networks = _todays_rules()
    return Stages(rules, families, suspicions, locator, networks)


@cache
def _todays_rules() -> tuple[Rules, Families, Suspicions, Networks]:
    """Read once, however many runs are derived."""
    return Rules.load(), Families.load(), Suspicions.load(), Networks.load()


def _sound(run: Run) -> Run:
    """The run, if its files are what was written: nothing is derived from damaged evidence."""
    if problems := run.damage(thorough=True):
        raise SnapshotError("\n".join([*problems, "restore what is damaged from a copy, then derive"]))
    return run


def _new_row(row: Row, locator: Locator) -> dict[str, Any]:
    geo = row["geo"] if isinstance(locator, Kept) else [asdict(source) for source in locator.sources]
    changes = {"derived_census_version": __version__, "derived_data_version": resources.data_version(), "geo": geo}
    return {**row, **changes, "derived_at": datetime.now(UTC).replace(tzinfo=None)}


class _Counted:
    """Concludes conversations, and counts them."""

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.conversations = self.servers = 0

    def findings(self, found: Iterable[tuple[Conversation, Place]]) -> Iterator[Finding]:
        for conversation, place in found:
            if isinstance(self.stages.locator, Kept):
                self.stages.locator.here = place
            finding = _concluded(self.stages, conversation)
            self.conversations += 1
            self.servers += finding.identity.server is not None
            yield finding


def _concluded(stages: Stages, conversation: Conversation) -> Finding:
    """A crash of a rule is told and ends the derivation: a host must not be lost from a run that had it."""
    try:
        return stages.conclude(conversation)
    except CensusError:
        raise
    except Exception as fault:
        where = conversation.target.endpoint
        raise CensusError(f"{where}: fault of the census: {fault!r}; the run is as it was") from fault
