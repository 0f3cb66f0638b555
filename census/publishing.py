"""Block files -> the tables of a run as Parquet: each sorted, compacted and checked, in bounded memory.

DuckDB, which would sort a table in a line, needs hundreds of megabytes to be sure not to fail. Here rows are spread
over ranges of addresses, each of which is sorted in memory (docs/decisions/engine.md has the figures).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from census import blocks, duck
from census.disk import TEMPORARY, write_text
from census.errors import SnapshotError
from census.manifest import MANIFEST, File, manifest_text, sha256
from census.model import Together
from census.schema import SCHEMA_VERSION, Table, tables

RunRow = dict[str, Any]
"""The row of `runs`, values by column."""

ROW_GROUP = 122_880
"""Rows in a row group: DuckDB's own, which it reads in parallel."""

PIECE = 8192
"""Rows that lie together in memory while a row group is written: where they are cut shows in the pages of the file."""

BODY_GROUP_BYTES = 32 << 20
"""Bytes of bodies in a row group, about: what reading one body costs at most."""

SORT_BYTES = 4 << 20
"""Bytes of rows that are sorted in memory at once, about."""

MAX_RANGES = 1024
"""Ranges of addresses that rows are spread over before they are sorted."""

SAMPLE_FILES = 32
"""Block files looked at to find ranges with about equally many rows: the targets of each are drawn from all."""

GATHER_BYTES = 8 << 20
"""Bytes of rows gathered before they are spread, about."""

BUCKET_BYTES = 16 << 20
"""Bytes of (compressed) block files to one bucket: some 64 MB of bodies, which are sorted in memory at once."""

MAX_BUCKET_DIGITS = 2
"""Buckets of bodies are named by the first hex digits of the hash: at most 256 of them."""

LARGE_BODY = 16 << 10
"""Bytes from which a body is dropped as soon as it comes again, before it is written anywhere."""

Keys = np.ndarray[Any, np.dtype[np.bytes_]]


def write_run(folder: Path, files: Sequence[Path], run_row: RunRow, together: Sequence[Together]) -> None:
    """Write the tables and the manifest of a run. Equal rows give equal files, in whatever order they were found.

    `files` are its block files. Raises SnapshotError when one of them is damaged.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # the usual one keeps what it has: a third more at the highest
    folder.mkdir()
    work = folder / f"{TEMPORARY}work"
    work.mkdir()
    written = [write_table(folder, "runs", one_row("runs", run_row))]
    for name in ("probes", "hosts", "models", "replies"):
        written.append(write_table(folder, name, sorted_groups(tables()[name], files, work, together)))
    written.append(write_table(folder, "bodies", _distinct_bodies(files, work)))
    shutil.rmtree(work)
    write_text(folder / MANIFEST, manifest_text(run_row["run_id"], written, schema_version=SCHEMA_VERSION))


# --- Parquet ---------------------------------------------------------------------------------------------------------


def write_table(folder: Path, table: str, groups: Iterator[pa.Table], part: str = "part-0000") -> File:
    """Write one file, each of `groups` as a row group. A null in a required column is refused."""
    path = folder / table / f"{part}.parquet"
    path.parent.mkdir()
    schema, n = tables()[table].arrow, 0
    with pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=3, use_dictionary=_dictionary(table)
    ) as w:
        for group in groups:
            w.write_table(group, row_group_size=max(1, len(group)))
            n += len(group)
            del group
            pa.default_memory_pool().release_unused()
    name = path.relative_to(folder).as_posix()
    columns = tables()[table].fingerprint
    return File(name, table, n, path.stat().st_size, sha256(path), SCHEMA_VERSION, columns)


def _dictionary(table: str) -> bool:
    """Bodies are there once, so a dictionary of them is waste."""
    return table != "bodies"


def one_row(table: str, row: RunRow) -> Iterator[pa.Table]:
    """A table's only row, as its only row group."""
    yield pa.Table.from_pylist([row], schema=tables()[table].arrow)


def row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """A whole table, cut."""
    yield from (table.slice(start, ROW_GROUP) for start in range(0, len(table), ROW_GROUP))


def _regrouped(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `size` rows, but for the last."""
    waiting: list[pa.RecordBatch] = []
    n = 0
    for batch in batches:
        while n + len(batch) >= size:
            yield pa.Table.from_batches([*waiting, batch.slice(0, size - n)])
            batch, waiting, n = batch.slice(size - n), [], 0
        waiting.append(batch)
        n += len(batch)
    if n:
        yield pa.Table.from_batches(waiting)


# --- sorting ---------------------------------------------------------------------------------------------------------


def sorted_groups(
    table: Table, files: Sequence[Path], work: Path, together: Sequence[Together] = ()
) -> Iterator[pa.Table]:
    """The rows of a table over all block files in its order, a row group at a time, in bounded memory.

    `together` is for hosts alone: those for which such a reason holds get it beside their own.
    """
    given = _alike(files, together) if table.name == "hosts" else {}
    parts = (_doubted(part, given) for part in _sorted(table, files, work))
    pieces = (piece.combine_chunks() for piece in _regrouped(_batches_of(parts), PIECE))
    yield from _regrouped(_batches_of(pieces), ROW_GROUP)


def _batches_of(parts: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
    return chain.from_iterable(part.to_batches() for part in parts)


def _rows_of(table: str, files: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    return (batch for path in files for batch in blocks.read(path, table))


def _sorted(table: Table, files: Sequence[Path], work: Path) -> Iterator[pa.Table]:
    few = _few(_rows_of(table.name, files))
    if few is not None:
        yield _in_order(table, pa.Table.from_batches(few, schema=table.arrow))
        return
    bounds = _bounds(table, files)
    for part in _spread(_rows_of(table.name, files), table.arrow, "ip", bounds, work / table.name):
        yield _in_order(table, part)


def _few(batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch] | None:
    """All of them, when they are not more than can be sorted at once."""
    size, kept = 0, []
    for batch in batches:
        kept.append(batch)
        size += batch.nbytes
        if size > SORT_BYTES:
            return None
    return kept


def _bounds(table: Table, files: Sequence[Path]) -> Keys:
    """Addresses at which ranges with about SORT_BYTES of rows begin, but for the first."""
    looked_at = random.Random(0).sample(files, min(SAMPLE_FILES, len(files)))
    size, sample = 0, [np.array([], dtype="S1")]
    for batch in _rows_of(table.name, looked_at):
        size += batch.nbytes
        sample.append(_texts(batch["ip"]))
    addresses = np.sort(np.concatenate(sample))
    n = min(MAX_RANGES, -(-size * len(files) // len(looked_at) // SORT_BYTES), max(1, len(addresses)))
    return np.unique(addresses[[i * len(addresses) // n for i in range(1, n)]])


def _texts(column: pa.Array | pa.ChunkedArray) -> Keys:
    return np.array(column.to_pylist(), dtype="S")


def _spread(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, key: str, bounds: Keys, path: Path
) -> Iterator[pa.Table]:
    """The same rows range by range of their keys, in whatever order within each. `path` is a file for meanwhile."""
    ranges = _written_apart(batches, schema, key, bounds, path)
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source, options=blocks.ALONE) as reader:
        for number in range(len(bounds) + 1):
            mine = [reader.get_batch(i) for i in np.flatnonzero(ranges == number).tolist()]
            yield pa.Table.from_batches(mine, schema)
            del mine
            pa.default_memory_pool().release_unused()
    path.unlink()


def _written_apart(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, key: str, bounds: Keys, path: Path
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Write a file in which no batch has rows of two ranges; returns the range of each batch."""
    ranges: list[int] = []
    with path.open("wb") as file, pa.ipc.new_file(file, schema, options=blocks.LZ4) as writer:
        for chunk in _gathered(batches):
            where = np.searchsorted(bounds, _texts(chunk[key]), "right")
            ordered = chunk.take(pa.array(np.argsort(where, kind="stable"))).combine_chunks()
            ends = np.cumsum(np.bincount(where, minlength=len(bounds) + 1)).tolist()
            for number, (start, end) in enumerate(pairwise([0, *ends])):
                if start < end:
                    writer.write_table(ordered.slice(start, end - start))
                    ranges.append(number)
    return np.array(ranges, np.int32)


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The batches in tables of about GATHER_BYTES: few large writes instead of many small ones."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= GATHER_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _in_order(table: Table, rows: pa.Table) -> pa.Table:
    keys = [(column, "ascending") for column in table.sort]
    return rows.take(pc.sort_indices(rows, keys))


def ordered_groups(connection: duckdb.DuckDBPyConnection, table: Table, sql: str) -> Iterator[pa.Table]:
    """The rows of a query, which has the columns of the table, in the table's order, a row group at a time."""
    order = ", ".join(f"{duck.name(column)} NULLS LAST" for column in table.sort)
    with told_of_duckdb(table.name):
        reader = connection.sql(f"{sql} ORDER BY {order}").to_arrow_reader(ROW_GROUP)
        for group in _regrouped(reader, ROW_GROUP):
            yield group.cast(table.arrow).combine_chunks()


@contextmanager
def told_of_duckdb(what: str) -> Iterator[None]:
    """DuckDB's errors as ours."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as problem:
        raise SnapshotError(f"{what}: {problem}") from None


# --- what only many hosts beside each other show ---------------------------------------------------------------------


def _alike(files: Sequence[Path], together: Sequence[Together]) -> dict[str, list[Together]]:
    """Marks of inventories of two models or more -> the reasons that so many hosts with this one give."""
    columns = ["installation", "ip", "asn"]
    batches = [
        batch.filter(pc.greater_equal(batch["n_models"], 2)).select(columns)
        for batch in _rows_of("hosts", files if together else ())
    ]
    if not batches:
        return {}
    shown = pa.Table.from_batches(batches).drop_null()
    counted = shown.group_by("installation").aggregate([("ip", "count_distinct"), ("asn", "count_distinct")])
    several = counted.filter(pc.greater_equal(counted["ip_count_distinct"], min(one.hosts for one in together)))
    held = {
        row["installation"]: [
            one
            for one in together
            if row["ip_count_distinct"] >= one.hosts and row["asn_count_distinct"] >= one.systems
        ]
        for row in several.to_pylist()
    }
    return {mark: reasons for mark, reasons in held.items() if reasons}


def _doubted(hosts: pa.Table, given: Mapping[str, Sequence[Together]]) -> pa.Table:
    """The same hosts; those with one of these inventories have its reasons after their own."""
    if not given or not pc.any(pc.is_in(hosts["installation"], value_set=pa.array(given))).as_py():
        return hosts
    wanted = hosts.select(["installation", "n_models", "suspect", "suspect_reasons"]).to_pylist()
    for row in wanted:
        for one in given.get(row["installation"], ()) if (row["n_models"] or 0) >= 2 else ():
            row["suspect"] = max(row["suspect"], one.strength)
            row["suspect_reasons"] = [*row["suspect_reasons"], one.id]
    for name in ("suspect", "suspect_reasons"):
        place = hosts.schema.get_field_index(name)
        field = hosts.schema.field(place)
        hosts = hosts.set_column(place, field, pa.array([row[name] for row in wanted], field.type))
    return hosts


# --- bodies ----------------------------------------------------------------------------------------------------------


def _distinct_bodies(files: Sequence[Path], work: Path) -> Iterator[pa.Table]:
    """Each distinct body once, by hash."""
    digits = _bucket_digits(files)
    bounds = np.array([f"{bucket:0{digits}x}" for bucket in range(1, 16**digits)], dtype="S")
    schema = tables()["bodies"].arrow
    found = _batches_of(map(_by_hash, _gathered(_unseen(_rows_of("bodies", files)))))
    for bucket in _spread(found, schema, "body_sha256", bounds, work / "bodies"):
        yield from _body_groups(_by_hash(bucket))


def _bucket_digits(files: Sequence[Path]) -> int:
    """How many digits make enough buckets; the same for the same files in any order."""
    total = sum(path.stat().st_size for path in files)
    return next((d for d in range(MAX_BUCKET_DIGITS) if total <= BUCKET_BYTES * 16**d), MAX_BUCKET_DIGITS)


def _unseen(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches without large bodies that came before: a fleet of equal hosts must not fill a bucket."""
    seen: set[str] = set()
    for batch in batches:
        large = pc.greater_equal(pc.binary_length(batch["body"]), LARGE_BODY)
        hashes = set(batch.filter(large)["body_sha256"].to_pylist())
        known = pa.array(sorted(hashes & seen), type=pa.string())
        seen |= hashes
        yield batch.filter(pc.invert(pc.is_in(batch["body_sha256"], value_set=known)))


def _by_hash(table: pa.Table) -> pa.Table:
    """Sorted by hash, each hash once."""
    ordered = table.take(pc.sort_indices(table, [("body_sha256", "ascending")])).combine_chunks()
    hashes = ordered["body_sha256"].to_numpy()
    keep = np.ones(len(hashes), dtype=bool)
    keep[1:] = hashes[1:] != hashes[:-1]
    return ordered.filter(pa.array(keep))


def _body_groups(ordered: pa.Table) -> Iterator[pa.Table]:
    """A bucket in row groups of about BODY_GROUP_BYTES and at most ROW_GROUP rows."""
    sizes = pc.binary_length(ordered["body"]).to_numpy().astype(np.int64)
    group = np.maximum(np.cumsum(sizes) // BODY_GROUP_BYTES, np.arange(len(sizes)) // ROW_GROUP)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(sizes)]):
        yield ordered.slice(start, end - start)
