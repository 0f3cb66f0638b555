"""A run is published whole or not at all, whatever kills the writer; and `verify` names what is wrong with one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from census import blocks, disk, hostile, publishing, rows, schema, snapshot, verification
from census.errors import SnapshotError
from census.model import Finding, Identity, Model, Outcome
from census.snapshot import Draft
from tests.findings import RUN, block, finding, lineage, publish, run_row, server, silent, tls

TABLES = ("probes", "hosts", "models", "replies", "bodies")


def write(out: Path, numbers, run_id=RUN, size=32, **changes) -> Path:
    with Draft.create(out, run_id, {}, lambda folder: None) as draft:
        for number in numbers:
            draft.commit(number, block(number, size))
        return draft.publish(run_row(draft, **changes))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A finished run, not to be changed."""
    return write(tmp_path_factory.mktemp("pristine"), [0])


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A finished run, to be harmed."""
    return shutil.copytree(pristine, tmp_path / "runs" / RUN)


def read(folder: Path) -> dict[str, pa.Table]:
    return {name: pq.read_table(folder / name / "part-0000.parquet") for name in schema.TABLES}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- rows ------------------------------------------------------------------------------------------------------------


def rows_of(*found: Finding) -> dict[str, list[dict[str, Any]]]:
    made = rows.rows(RUN, found, 3)
    return {table: made[table].to_pylist() if table in made else [] for table in TABLES}


def test_rows_have_exactly_the_columns_of_their_table():
    made = rows.rows(RUN, [finding(number) for number in range(8)], 3)
    assert set(made) == set(TABLES)
    for table, found in made.items():
        assert len(found) > 3, table
        assert found.schema.equals(schema.tables()[table].arrow), table


def test_only_an_identified_server_is_a_host():
    assert [len(rows_of(tls(3))[name]) for name in TABLES] == [1, 0, 0, 1, 1]
    assert [len(rows_of(server(4))[name]) for name in TABLES] == [1, 1, 4, 2, 2]


def test_a_host_row_sums_up_its_models():
    (row,) = rows_of(server(0, n_models=5))["hosts"]
    assert (row["n_models"], row["n_running"]) == (5, 1)
    assert row["families"] == ["gemma3", "llama", "qwen2"]
    assert row["lineages"] == ["Gemma", "Llama", "Qwen"]
    assert row["server_header"] == "uvicorn"


def test_an_unreadable_inventory_is_unknown_and_an_empty_one_is_zero():
    unread = replace(server(1), identity=replace(server(1).identity, models=None), lineages=())
    (unknown,) = rows_of(unread)["hosts"]
    (empty,) = rows_of(server(1, n_models=0))["hosts"]
    assert (unknown["n_models"], unknown["n_running"], unknown["inventory_hash"]) == (None, None, None)
    assert (empty["n_models"], empty["n_running"]) == (0, 0)
    assert empty["inventory_hash"] == hashlib.sha256(b"[]").hexdigest()


def test_running_is_unknown_when_the_server_says_it_of_no_model():
    models = tuple(replace(m, is_running=None) for m in server(3).identity.models)
    (row,) = rows_of(replace(server(3), identity=replace(server(3).identity, models=models)))["hosts"]
    assert row["n_running"] is None


def test_inventory_hash_ignores_order_and_cannot_be_confused():
    one, other = ("a", "b"), ("c", None)
    assert rows.inventory_hash([one, other]) == rows.inventory_hash([other, one])
    assert rows.inventory_hash([('a","b', "")]) != rows.inventory_hash([one])


def test_families_are_lower_case_without_blanks():
    assert rows.families(["Qwen2", " qwen2 ", "", "  ", None, "llama"]) == ["llama", "qwen2"]


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_run_holds_all_rows_sorted_and_is_whole(tmp_path):
    folder = write(tmp_path, range(4))
    tables = read(folder)
    assert tables["probes"].num_rows == 128
    assert tables["hosts"].num_rows == 64
    for name, table in tables.items():
        order = [(column, "ascending") for column in schema.tables()[name].sort]
        assert table.sort_by(order).equals(table), name
        assert table.schema.equals(schema.tables()[name].arrow), name
    assert verification.verify(folder) == []
    assert not (tmp_path / "unfinished" / RUN).exists()


def test_equal_findings_give_equal_bytes_in_whatever_order_blocks_end(tmp_path):
    first = write(tmp_path / "a", [0, 1, 2, 3, 4])
    second = write(tmp_path / "b", [4, 2, 0, 3, 1])
    assert contents(first) == contents(second)


def test_a_run_that_found_nobody_has_readable_tables(tmp_path):
    folder = publish(tmp_path, [silent(1)])
    tables = read(folder)
    assert [tables[name].num_rows for name in TABLES] == [1, 0, 0, 0, 0]
    assert tables["hosts"].schema.equals(schema.tables()["hosts"].arrow)
    assert verification.verify(folder) == []


def test_a_run_without_targets_is_a_run(tmp_path):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        folder = draft.publish(run_row(draft))
    assert verification.verify(folder) == []


def test_bodies_are_there_once_in_buckets_and_row_groups_of_any_size(tmp_path, monkeypatch):
    plain = write(tmp_path / "plain", range(3))
    monkeypatch.setattr(publishing, "BUCKET_BYTES", 1 << 10)
    monkeypatch.setattr(publishing, "GATHER_BYTES", 1 << 10)
    monkeypatch.setattr(publishing, "LARGE_BODY", 8)
    monkeypatch.setattr(blocks, "PORTION_BYTES", 1 << 10)
    bucketed = write(tmp_path / "bucketed", range(3))
    assert publishing._bucket_digits([]) == 0
    assert read(plain)["bodies"].equals(read(bucketed)["bodies"])
    assert len(set(read(plain)["bodies"]["body_sha256"].to_pylist())) == read(plain)["bodies"].num_rows
    monkeypatch.setattr(publishing, "BODY_GROUP_BYTES", 1 << 10)
    small = write(tmp_path / "small", range(3))
    assert pq.ParquetFile(small / "bodies" / "part-0000.parquet").num_row_groups > 3
    assert read(plain)["bodies"].equals(read(small)["bodies"])


def test_rows_are_sorted_alike_whether_at_once_or_in_ranges(tmp_path, monkeypatch):
    plain = write(tmp_path / "plain", range(3))
    monkeypatch.setattr(publishing, "SORT_BYTES", 1 << 8)
    monkeypatch.setattr(publishing, "GATHER_BYTES", 1 << 9)
    monkeypatch.setattr(publishing, "SAMPLE_FILES", 2)
    monkeypatch.setattr(publishing, "MAX_RANGES", 7)
    ranged = write(tmp_path / "ranged", range(3))
    for name in ("probes", "hosts", "models", "replies"):
        found, keys = read(ranged)[name], [(column, "ascending") for column in schema.tables()[name].sort]
        assert found.equals(found.sort_by(keys)) and found.num_rows > 10, name
        assert found.equals(read(plain)[name]), name
        files = [(run / name / "part-0000.parquet").read_bytes() for run in (plain, ranged)]
        assert files[0] == files[1], name


def test_row_groups_are_cut_at_the_same_rows_however_batches_come(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "ROW_GROUP", 50)
    folder = write(tmp_path, range(4))
    layout = pq.ParquetFile(folder / "probes" / "part-0000.parquet").metadata
    assert [layout.row_group(i).num_rows for i in range(layout.num_row_groups)] == [50, 50, 28]


@pytest.mark.parametrize("name", schema.TABLES)
def test_pandas_and_polars_read_every_table(pristine, name):
    file = pristine / name / "part-0000.parquet"
    n = pq.read_metadata(file).num_rows
    assert len(pandas.read_parquet(file)) == n
    assert polars.scan_parquet(file).collect().height == n


@pytest.mark.usefixtures("folder")
def test_a_plain_duckdb_finds_only_finished_runs_by_pattern(tmp_path):
    with Draft.create(tmp_path, "20261123T000000Z-0000", {}, lambda folder: None) as draft:
        draft.commit(0, block(0, 32))
        with duckdb.connect() as plain:
            row = plain.execute(f"SELECT count(*) FROM '{tmp_path}/runs/*/hosts/*.parquet'").fetchone()
    assert row == (16,)


def test_times_are_utc_without_a_zone(tmp_path):
    tables = read(publish(tmp_path, [server(1)]))
    assert tables["hosts"].schema.field("observed_at").type == pa.timestamp("us")


def test_a_finding_that_fits_no_column_costs_its_neighbours_nothing(tmp_path):
    names = "lone \ud800", None, "well", "wide"
    wrong = [Model(name, n_vocab=2**70 if name == "wide" else 1) for name in names]
    bad = [
        replace(server(i), identity=replace(server(i).identity, models=(m,)), lineages=()) for i, m in enumerate(wrong)
    ]
    uneven = replace(server(9, n_models=2), lineages=(lineage(Model("x")),))
    tables = read(folder := publish(tmp_path, [*bad, uneven, server(20)]))
    outcomes = dict(zip(tables["probes"]["ip"].to_pylist(), tables["probes"]["outcome"].to_pylist(), strict=True))
    assert [outcomes[f"240.0.0.{i}"] for i in (0, 1, 3, 9)] == [Outcome.UNKNOWN_ERROR] * 4
    assert [outcomes[f"240.0.0.{i}"] for i in (2, 20)] == [Outcome.SUCCESS] * 2
    assert verification.verify(folder) == []


def test_hostile_text_is_kept_as_sent(tmp_path):
    name = hostile.text("a\x00b\u202e'; DROP TABLE hosts --")
    identity = Identity("ollama", rule="r", confidence=1.0, models=(Model(name, family_raw="İ\x00 "),))
    folder = publish(tmp_path, [replace(server(1), identity=identity, lineages=())])
    assert read(folder)["models"]["name"].to_pylist() == [name]
    assert verification.verify(folder) == []


# --- resuming --------------------------------------------------------------------------------------------------------


def test_a_draft_keeps_its_plan_its_blocks_and_its_counts(tmp_path):
    with Draft.create(tmp_path, RUN, {"seed": 7}, lambda folder: (folder / "targets").write_text("x")) as draft:
        draft.commit(5, block(5, 32))
        counts = draft.counts()
    assert snapshot.unfinished(tmp_path) == [RUN]
    with Draft.resume(tmp_path, RUN) as draft:
        assert draft.plan == {"seed": 7, "n_resumed": 1}
        assert (draft.committed, draft.counts()) == ({5}, counts)
        assert (draft.folder / "targets").read_text() == "x"


def test_a_block_committed_twice_is_there_once(tmp_path):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        draft.commit(0, block(0, 32))
        draft.commit(0, block(1, 32))
        assert draft.counts().total() == 32
        assert verification.verify(draft.publish(run_row(draft))) == []


def test_parts_of_a_block_last_and_count_and_the_rest_completes_it(tmp_path):
    whole = contents(write(tmp_path / "whole", range(2)))
    found = block(1, 32)
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        draft.commit_part(1, [])
        draft.commit_part(1, found[:5])
        draft.commit_part(1, found[3:9])
        assert (draft.committed, len(draft.done(1)), draft.done(0)) == (frozenset(), 9, frozenset())
    with Draft.resume(tmp_path, RUN) as draft:
        assert draft.done(1) == {(t.ip, t.port, t.domain) for t in (f.conversation.target for f in found[:9])}
        assert (draft.committed, draft.counts().total(), draft.hits()) == (frozenset(), 9, 5)
        draft.commit_part(1, found[9:10])
        draft.commit(1, found[8:])
        assert (draft.committed, draft.counts().total(), draft.hits()) == ({1}, 32, 16)
        draft.commit_part(1, found)
        assert [path.suffix for path in (draft.folder / "blocks").iterdir()] == [".block"]
        draft.commit(0, block(0, 32))
        folder = draft.publish(run_row(draft))
    assert contents(folder) == whole
    assert verification.verify(folder) == []


def test_parts_that_hold_every_target_are_published_as_they_are(tmp_path):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        draft.commit_part(0, block(0, 32)[:20])
        with pytest.raises(SnapshotError, match="32 targets, but 20 outcomes"):
            draft.publish(run_row(draft, n_targets=32))
        draft.commit_part(0, block(0, 32)[20:])
        folder = draft.publish(run_row(draft))
    assert contents(folder) == contents(write(tmp_path / "whole", [0]))


def test_parts_left_by_a_kill_while_their_block_was_made_whole_are_not_counted_twice(tmp_path, monkeypatch):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        monkeypatch.setattr(disk, "remove_all", lambda paths: None)
        draft.commit_part(0, block(0, 32)[:20])
        draft.commit(0, block(0, 32)[20:])
        assert len(list((draft.folder / "blocks").iterdir())) == 2
    with Draft.resume(tmp_path, RUN) as draft:
        assert (draft.committed, draft.counts().total(), draft.hits()) == ({0}, 32, 16)
        assert verification.verify(draft.publish(run_row(draft))) == []


def test_the_targets_of_a_damaged_part_are_asked_again(tmp_path, caplog):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        draft.commit_part(0, block(0, 32)[:20])
        damaged = next((draft.folder / "blocks").glob("*.part"))
        draft.commit_part(0, block(0, 32)[20:24])
    flip(damaged)
    with Draft.resume(tmp_path, RUN) as draft:
        assert (len(draft.done(0)), draft.counts().total()) == (4, 4)
    assert str(damaged) in caplog.text


def test_two_processes_cannot_work_on_one_draft(tmp_path):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None):
        with pytest.raises(SnapshotError, match="another process is at work"):
            Draft.resume(tmp_path, RUN)
        with Draft.create(tmp_path, "20261123T000000Z-0000", {}, lambda folder: None) as other:
            assert other.committed == frozenset()
    Draft.resume(tmp_path, RUN).close()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "nul\0", "ü"])
def test_a_run_cannot_leave_its_folder_by_its_name(tmp_path, name):
    with pytest.raises(SnapshotError, match="not the name of a run"):
        Draft.resume(tmp_path, name)


def test_resuming_what_is_not_there_or_is_finished(tmp_path, folder):
    assert folder.parent.parent == tmp_path
    with pytest.raises(SnapshotError, match="finished"):
        Draft.resume(tmp_path, RUN)
    with pytest.raises(SnapshotError, match="there are: none"):
        Draft.resume(tmp_path, "20261123T000000Z-0000")
    with pytest.raises(SnapshotError, match="already"):
        Draft.create(tmp_path, RUN, {}, lambda folder: None)


def test_a_damaged_block_is_asked_again(tmp_path, caplog):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        for number in (0, 1):
            draft.commit(number, block(number, 32))
        damaged = next((draft.folder / "blocks").glob("00000001-*"))
    flip(damaged)
    with Draft.resume(tmp_path, RUN) as draft:
        assert draft.committed == {0}
        assert draft.counts().total() == 32
    assert str(damaged) in caplog.text


def test_blocks_of_another_version_are_left_as_they_are(tmp_path, monkeypatch):
    """They are whole: to ask everybody again because the census was upgraded would cost a scan of hours."""
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        draft.commit(0, block(0, 8))
        (kept,) = (draft.folder / "blocks").iterdir()
    other = pa.schema([pa.field(table, pa.large_binary()) for table in rows.FOUND])
    monkeypatch.setattr(blocks, "_SCHEMA", other)
    with pytest.raises(SnapshotError, match="another version"):
        Draft.resume(tmp_path, RUN)
    assert kept.exists()


def test_a_ledger_that_does_not_balance_is_not_published(tmp_path):
    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        draft.commit(0, block(0, 32))
        with pytest.raises(SnapshotError, match="33 targets, but 32 outcomes"):
            draft.publish(run_row(draft, n_targets=33))
    assert snapshot.unfinished(tmp_path) == [RUN]
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_keeps_whole_blocks_and_says_what_now(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Draft.create(tmp_path, RUN, {}, lambda folder: None) as draft:
        draft.commit(0, block(0, 32))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(SnapshotError, match=f"No space left .* go on with --resume {RUN}"):
                draft.commit(1, block(1, 32))
            with pytest.raises(SnapshotError, match="No space left"):
                draft.publish(run_row(draft))
        assert [p.name[:8] for p in (draft.folder / "blocks").iterdir()] == ["00000000"]
        assert not list(tmp_path.glob("runs/*"))
        draft.commit(1, block(1, 32))
        assert verification.verify(draft.publish(run_row(draft))) == []


def test_an_output_folder_that_cannot_be_made_is_told_without_advice_to_resume(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SnapshotError, match="Not a directory; a run cannot begin here") as told:
        Draft.create(tmp_path / "file", RUN, {}, lambda folder: None)
    assert "resume" not in str(told.value)


def test_a_vanished_output_folder_is_told(tmp_path):
    with Draft.create(tmp_path / "out", RUN, {}, lambda folder: None) as draft:
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(SnapshotError, match="No such file"):
            draft.commit(0, block(0, 32))


def test_a_kill_between_publishing_and_cleaning_leaves_a_finished_run(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "remove", lambda path: None)
    folder = write(tmp_path, [0])
    assert (tmp_path / "unfinished" / RUN).exists()
    assert snapshot.unfinished(tmp_path) == []
    monkeypatch.undo()
    with pytest.raises(SnapshotError, match="finished"):
        Draft.resume(tmp_path, RUN)
    assert not (tmp_path / "unfinished" / RUN).exists()
    assert verification.verify(folder) == []


def test_a_beginning_cut_short_cannot_be_resumed_and_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Draft.create(tmp_path, RUN, {}, lambda folder: 1 // 0)
    assert snapshot.unfinished(tmp_path) == []
    Draft.create(tmp_path, RUN, {}, lambda folder: None).close()
    assert [p.name for p in (tmp_path / "unfinished").iterdir()] == [RUN]


def test_logs_go_with_the_run(tmp_path):
    with Draft.create(tmp_path, RUN, {}, lambda folder: (folder / "scan.log").write_text("fault")) as draft:
        folder = draft.publish(run_row(draft))
    assert (folder / "scan.log").read_text() == "fault"
    assert verification.verify(folder) == []


BLOCKS = 10
SIZE = 16
KILLS = 10

KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import pyarrow
from census import manifest, snapshot
from tests.findings import RUN, block, run_row

def work(out, blocks):
    if snapshot.unfinished(out):
        draft = snapshot.Draft.resume(out, RUN)
    else:
        draft = snapshot.Draft.create(out, RUN, {}, lambda folder: None)
    for number in set(range(blocks)) - draft.committed:
        draft.commit_part(number, block(number, 16)[:3])
        draft.commit_part(number, block(number, 16)[:7])
        draft.commit(number, block(number, 16))
    draft.publish(run_row(draft))

def killed(out, blocks, moment):
    # A forked writer shares our imports, so that it is killed at work and not while it loads.
    child = os.fork()
    if child == 0:
        work(out, blocks)
        os._exit(0)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

out, blocks, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), random.Random(2)
pyarrow.array([1])
for attempt in range(kills):
    folder = out / str(attempt)
    killed(folder, blocks, chance.uniform(0.01, 0.4))
    whole = [manifest.read_run(found).damage() for found in manifest.run_folders(folder)]
    print(len(whole), sum(map(len, whole)))
"""


def test_kill_9_at_any_moment_loses_nothing_and_shows_nothing_half(tmp_path):
    """Writers are killed at random moments; what another then finishes equals an undisturbed run byte for byte."""
    undisturbed = contents(write(tmp_path / "whole", range(BLOCKS), size=SIZE))
    command = [sys.executable, "-c", KILLED, tmp_path / "out", str(BLOCKS), str(KILLS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"0"}
    outs = [tmp_path / "out" / str(attempt) for attempt in range(KILLS)]
    assert any(not list(out.glob("runs/*")) for out in outs), "every writer was done before it was killed"
    for out in outs:
        finish(out)
        assert contents(out / "runs" / RUN) == undisturbed


def finish(out: Path) -> None:
    """Go on where a killed writer stopped, whatever it left."""
    if (out / "runs" / RUN).exists():
        assert snapshot.unfinished(out) == []
        return
    draft = Draft.resume(out, RUN) if snapshot.unfinished(out) else Draft.create(out, RUN, {}, lambda folder: None)
    with draft:
        for number in set(range(BLOCKS)) - draft.committed:
            draft.commit(number, block(number, SIZE))
        draft.publish(run_row(draft))


# --- verification ----------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", schema.TABLES)
def test_a_damaged_file_is_named(folder, name):
    flip(folder / name / "part-0000.parquet")
    (problem,) = verification.verify(folder)
    assert problem.startswith(str(folder / name / "part-0000.parquet"))


def test_a_missing_file_and_a_missing_manifest_are_named(folder):
    (folder / "models" / "part-0000.parquet").unlink()
    assert verification.verify(folder) == [f"{folder}/models/part-0000.parquet: No such file or directory"]
    (folder / "manifest.json").write_text("{")
    assert "manifest.json: not a readable manifest" in verification.verify(folder)[0]
    (folder / "manifest.json").unlink()
    assert "no finished run here" in verification.verify(folder)[0]


def rewrite(folder: Path, name: str, change) -> None:
    """Change a table of a run and put the new file into the manifest, as somebody who means it would."""
    path = folder / name / "part-0000.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    content = json.loads((folder / "manifest.json").read_text())
    for entry in content["files"]:
        if entry["table"] == name:
            data = path.read_bytes()
            entry |= {
                "rows": pq.read_metadata(path).num_rows,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "columns": "",
            }
    (folder / "manifest.json").write_text(json.dumps(content))


def replaced(table: pa.Table, column: str, values) -> pa.Table:
    i = table.schema.get_field_index(column)
    return table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))


def first_changed(column: str, value):
    return lambda table: replaced(table, column, [value, *table[column].to_pylist()[1:]])


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("probes", lambda t: t.slice(1), "targets without exactly one outcome (1)"),
        ("probes", lambda t: pa.concat_tables([t, t.slice(0, 1)]), "keys that are in probes more than once (1)"),
        ("probes", first_changed("outcome", "maybe"), "rows of probes with an unknown outcome (1)"),
        ("probes", first_changed("server", None), "rows of hosts that were never asked (1)"),
        ("probes", first_changed("run_id", "x"), "rows of probes of another run (1)"),
        ("runs", lambda t: t.slice(1), "runs does not have exactly one row (1)"),
        ("runs", first_changed("n_excluded", 3), "excluded targets without a reason (1)"),
        ("runs", first_changed("outcomes", []), "outcomes counted otherwise in runs than in probes (2)"),
        ("hosts", lambda t: t.slice(1), "rows of probes whose server is not in hosts (1)"),
        ("hosts", first_changed("families", ["x"]), "rows of hosts that do not agree with their models (1)"),
        ("hosts", first_changed("n_models", 9), "rows of hosts that do not agree with their models (1)"),
        ("models", first_changed("port", 1), "rows of models without a host (1)"),
        ("replies", first_changed("ip", "240.9.9.9"), "rows of replies without a probe (1)"),
        ("bodies", lambda t: t.slice(1), "rows of replies without a body (1)"),
        ("bodies", first_changed("body", b"x"), "bodies that are not what their hash says (1)"),
        ("replies", lambda t: t.slice(0, 0), "rows of bodies without a reply (18)"),
        ("probes", lambda t: t.drop_columns(["tag"]), "column tag is missing"),
        ("hosts", lambda t: t.drop_columns(["server"]), "column server is missing"),
        ("models", lambda t: t.cast(as_text(t, "size_bytes")), "column size_bytes is string, but should be int64"),
    ],
)
def test_a_run_that_contradicts_itself_is_told(folder, name, change, problem):
    rewrite(folder, name, change)
    assert any(problem in line for line in verification.verify(folder)), verification.verify(folder)


def as_text(table: pa.Table, column: str) -> pa.Schema:
    i = table.schema.get_field_index(column)
    return table.schema.set(i, table.schema.field(i).with_type(pa.string()))


def test_a_manifest_that_points_out_of_its_run_is_refused(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("hosts/part-0000.parquet", "../../x.parquet"))
    assert "outside of the run" in verification.verify(folder)[0]


def test_a_file_that_the_manifest_does_not_know_is_named(folder):
    stranger = shutil.copy(folder / "hosts" / "part-0000.parquet", folder / "hosts" / "copy.parquet")
    assert verification.verify(folder) == [f"{stranger}: not in the manifest"]


def test_a_folder_without_runs_cannot_pass_as_verified(tmp_path):
    for out in (tmp_path, tmp_path / "mistyped"):
        with pytest.raises(SnapshotError, match=f"{out}: no finished runs"):
            verification.verify_all(out, say=lambda line: None)


def test_a_copied_or_renamed_run_is_refused(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "runs" / "copied")
    (problem,) = verification.verify_all(tmp_path, say=lambda line: None)
    assert problem.startswith(f"{tmp_path}/runs/copied: this is run {RUN}")


def test_verify_all_says_which_run_is_which(tmp_path, folder):
    other = shutil.copytree(folder, tmp_path / "runs" / "20261123T000000Z-0000")
    flip(other / "hosts" / "part-0000.parquet")
    said: list[str] = []
    problems = verification.verify_all(tmp_path, say=said.append)
    assert said == [f"{RUN}: whole", "20261123T000000Z-0000: 1 problems"]
    assert str(verification.damaged(problems)).startswith(str(other))


def test_pyarrow_is_kept_from_pandas_and_pandas_is_there_for_who_wants_it() -> None:
    """In a process of its own, since pyarrow looks for pandas once."""
    words = """
import sys
from census import rows
from census.arrow import without_pandas
from tests.findings import finding
without_pandas()
finders = list(sys.meta_path)
rows.rows("", [finding(0)], 0)
assert not {name for name in sys.modules if name.partition(".")[0] == "pandas"}
assert not any(type(finder).__name__ == "_NoPandas" for finder in finders)
import pandas, pyarrow as pa
assert pa.table({"a": [1]}).to_pandas().shape == (1, 1)
assert pa.array(pandas.Series([1.0, None])).null_count == 1
"""
    subprocess.run([sys.executable, "-c", words], check=True)


def test_a_process_that_has_pandas_keeps_it() -> None:
    words = """
import pandas, pyarrow as pa
from census.arrow import without_pandas
without_pandas()
assert pa.array(pandas.Series([1.0, None])).null_count == 1
"""
    subprocess.run([sys.executable, "-c", words], check=True)
