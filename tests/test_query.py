"""Finished runs as tables and views: what is read, what is refused, and what nobody can reach."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from census import duck, manifest, query, schema, verification
from census.errors import QueryError, SnapshotError
from census.model import Doubt, Target
from census.snapshot import Draft
from tests.findings import RUN, block, finding, publish, server, silent, tls
from tests.test_snapshot import as_text, flip, rewrite

LATER = "20261123T080000Z-0001"


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Two finished runs, and one that is not."""
    out = tmp_path_factory.mktemp("out")
    publish(out, [finding(i) for i in range(32)])
    publish(out, [server(i) for i in range(8)], LATER, is_simulated=False)
    with Draft.create(out, "20261124T000000Z-0002", {}, lambda folder: None) as draft:
        draft.commit(0, block(0, 32))
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Two small finished runs, not to be changed."""
    out = tmp_path_factory.mktemp("two")
    publish(out, [server(1)])
    publish(out, [server(2)], LATER)
    return out


@pytest.fixture
def copy(two, tmp_path) -> Path:
    """The same, to be harmed."""
    return shutil.copytree(two, tmp_path / "copy")


def rows(path, sql: str, **options) -> list[tuple]:
    with query.connect(path, **options) as connection:
        return connection.execute(sql).fetchall()


# --- tables ----------------------------------------------------------------------------------------------------------


def test_an_output_folder_has_the_rows_of_its_finished_runs(out):
    assert rows(out, "SELECT run_id, count(*) FROM hosts GROUP BY ALL ORDER BY ALL") == [(RUN, 16), (LATER, 8)]


def test_one_run_or_a_list_of_folders(out):
    assert rows(out / "runs" / LATER, "SELECT count(*) FROM probes") == [(8,)]
    assert rows([out / "runs" / RUN, str(out / "runs" / LATER)], "SELECT count(*) FROM probes") == [(40,)]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"runs": [RUN]}, [RUN]),
        ({"since": "2026-11-23"}, [LATER]),
        ({"since": date(2026, 11, 22), "until": date(2026, 11, 22)}, [RUN]),
        ({"until": datetime(2026, 11, 23, 7, 59)}, [RUN]),
        ({"since": datetime(2026, 11, 23, 8)}, [LATER]),
        ({"until": "2026-11"}, [RUN, LATER]),
        ({"since": "2027"}, []),
    ],
)
def test_runs_are_chosen_by_name_and_time(out, options, found):
    assert rows(out, "SELECT run_id FROM runs ORDER BY ALL", **options) == [(name,) for name in found]


def test_what_cannot_be_chosen(out, tmp_path):
    with pytest.raises(SnapshotError, match=f"no finished run x; there are: {RUN}, {LATER}"):
        query.connect(out, runs=["x"])
    for text in ("yesterday", "2026-1-1"):  # the second has the digits of November
        with pytest.raises(QueryError, match="not a time"):
            query.connect(out, since=text)
    with pytest.raises(SnapshotError, match="no such folder"):
        query.connect(tmp_path / "nowhere")
    (tmp_path / "again").symlink_to(out, target_is_directory=True)
    with pytest.raises(SnapshotError, match="is there twice"):
        query.connect([out, tmp_path / "again"])


def test_without_runs_the_tables_are_empty_and_typed(tmp_path):
    with query.connect(tmp_path) as connection:
        for name in [*schema.tables(), *schema.views()]:
            assert query.run_sql(connection, f"FROM {name}").num_rows == 0
        kinds = connection.execute("SELECT column_type FROM (DESCRIBE hosts)").fetchall()
    assert [kind for (kind,) in kinds] == [c.sql for c in schema.tables()["hosts"].columns]


def test_an_old_run_without_a_column_reads_as_null(copy):
    old = copy / "runs" / RUN
    rewrite(old, "hosts", lambda table: table.drop_columns(["proxy", "server_header"]))
    sql = "SELECT run_id, server_header FROM hosts ORDER BY ALL"
    assert rows(copy, sql) == [(RUN, None), (LATER, "uvicorn")]
    assert rows(old, "SELECT typeof(server_header) FROM hosts") == [("VARCHAR",)]


def test_an_old_run_with_a_narrower_integer_is_widened(copy):
    narrow = lambda t: t.cast(t.schema.set(13, t.schema.field(13).with_type(pa.int32())))  # noqa: E731
    assert schema.tables()["probes"].arrow.names[13] == "block"
    rewrite(copy / "runs" / RUN, "probes", narrow)
    assert rows(copy, "SELECT typeof(block) FROM probes") == [("BIGINT",)] * 2


def test_a_run_with_a_wrong_type_is_refused_with_the_name_of_its_file(copy):
    folder = copy / "runs" / RUN
    rewrite(folder, "models", lambda table: table.cast(as_text(table, "size_bytes")))
    with pytest.raises(SnapshotError, match=f"{folder}/models/part-0000.parquet: column size_bytes is string"):
        query.connect(copy)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("name", schema.TABLES)
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_a_damaged_file_is_named_or_its_run_left_out_with_a_note(copy, harm, name):
    other = copy / "runs" / LATER
    file = other / name / "part-0000.parquet"
    harm(file)
    with pytest.raises(SnapshotError, match=f"{file}: "):
        query.connect(copy)
    said: list[str] = []
    assert rows(copy, "SELECT run_id FROM runs", damaged=said.append) == [(RUN,)]
    assert said[0].startswith(f"{LATER} is left out: {file}")


def test_a_damaged_manifest_is_named_or_its_run_left_out_with_a_note(copy):
    other = copy / "runs" / LATER
    (other / "manifest.json").write_text("{")
    with pytest.raises(SnapshotError, match=f"{other}/manifest.json: not a readable manifest"):
        query.connect(copy)
    said: list[str] = []
    assert rows(copy, "SELECT run_id FROM runs", damaged=said.append) == [(RUN,)]
    assert said[0].startswith(f"{LATER} is left out: {other}")


def test_a_run_not_asked_for_is_not_looked_into(copy):
    (copy / "runs" / RUN / "manifest.json").write_text('{"run_id": "x", "files": [1]}')
    cut(copy / "runs" / RUN / "hosts" / "part-0000.parquet")
    assert rows(copy, "SELECT run_id FROM runs", runs=[LATER]) == [(LATER,)]
    assert rows(copy, "SELECT run_id FROM runs", since="2026-11-23") == [(LATER,)]
    with pytest.raises(SnapshotError, match="not a readable manifest"):
        query.connect(copy, runs=[RUN])


def test_a_stray_folder_and_a_copy_are_left_out_with_a_note(copy):
    (copy / "runs" / "lost").mkdir()
    shutil.copytree(copy / "runs" / RUN, copy / "runs" / "copied")
    for choose in (query.select_runs, manifest.published):
        said: list[str] = []
        assert [run.run_id for run in choose(copy, damaged=said.append)] == [RUN, LATER]
        assert [note.split(":")[0] for note in said] == ["copied is left out", "lost is left out"]
        assert f"this is run {RUN}; give the folder that name" in said[0]
        with pytest.raises(SnapshotError, match="give the folder that name"):
            choose(copy)


def test_a_run_of_a_wrong_type_is_left_out_with_a_note(copy):
    rewrite(copy / "runs" / RUN, "models", lambda table: table.cast(as_text(table, "size_bytes")))
    said: list[str] = []
    assert rows(copy, "SELECT run_id FROM runs", damaged=said.append) == [(LATER,)]
    assert "column size_bytes is string" in said[0]


def test_a_database_leaves_out_what_is_damaged(copy, tmp_path):
    cut(copy / "runs" / RUN / "hosts" / "part-0000.parquet")
    said: list[str] = []
    query.write_db(tmp_path / "x.duckdb", copy, said.append)
    with duckdb.connect(tmp_path / "x.duckdb") as plain:
        assert plain.execute("SELECT run_id FROM runs").fetchall() == [(LATER,)]
    assert said[0].startswith(f"{RUN} is left out")


def test_large_evidence_is_hashed_by_verify_and_not_by_every_query(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "LARGE_EVIDENCE", 0)
    folder = publish(tmp_path, [finding(i) for i in range(64)])
    file = folder / "bodies" / "part-0000.parquet"
    with file.open("r+b") as data:
        data.seek(8)
        data.write(b"\0")
    assert rows(tmp_path, "SELECT count(*) FROM hosts") == [(32,)]
    assert verification.verify(folder) == [f"{file}: damaged: its SHA-256 is not the one in the manifest"]


# --- one query at a time, and nothing else ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM hosts", "WITH x AS (FROM models) SELECT count(*) FROM x", "FROM runs", "VALUES (1)",
        "DESCRIBE hosts", "SHOW TABLES", "SUMMARIZE probes", "EXPLAIN FROM hosts", "EXPLAIN ANALYZE FROM hosts",
        "-- why\nSELECT 1;", "PIVOT probes ON outcome USING count(*) GROUP BY port",
    ],
)  # fmt: skip
def test_queries_run(out, sql):
    with query.connect(out) as connection:
        assert query.run_sql(connection, sql).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{own}'", "EXPLAIN ANALYZE COPY (SELECT 1) TO '{own}'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{own}'", "/**/EXPLAIN ANALYZE COPY (SELECT 1) TO '{own}'",
        "EXPLAIN/**/ANALYZE COPY (SELECT 1) TO '{own}'", "EXPLAIN ANALYZE/**/COPY (SELECT 1) TO '{own}'",
        "CREATE TABLE t (x INT)", "DROP VIEW hosts", "INSERT INTO hosts VALUES (1)", "DELETE FROM hosts",
        "ATTACH 'x.db'", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true",
        "RESET lock_configuration", "PRAGMA version", "CALL pragma_version()", "EXPORT DATABASE 'x'",
        "PREPARE p AS SELECT 1", "SELECT 1; SELECT 2", "", "-- nothing", "SELEC 1", "SELECT * FROM nowhere",
        "SELECT * FROM '{other}'", "SELECT * FROM read_csv('{secret}')", "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM glob('{secret}')", "SELECT * FROM 'https://127.0.0.1/x.parquet'",
        "SELECT * FROM local_variable", "SELECT * FROM query('COPY (SELECT 1) TO ''{own}''')",
    ],
)  # fmt: skip
def test_nothing_else_does(two, tmp_path, sql):
    local_variable = pa.table({"x": [1]})
    own = two / "runs" / RUN / "hosts" / "part-0000.parquet"
    secret, other = tmp_path / "secret.csv", tmp_path / "other.parquet"
    secret.write_text("secret\n1\n")
    pq.write_table(local_variable, other)
    with query.connect(two) as connection, pytest.raises(QueryError) as refused:
        query.run_sql(connection, sql.format(own=own, secret=secret, other=other))
    assert "secret\n1" not in str(refused.value)
    assert manifest.read_run(two / "runs" / RUN).damage() == []


def test_an_unlocked_connection_joins_tables_of_ones_own(out):
    mine = pa.table({"ip": ["240.0.0.0"]})
    with query.connect(out, locked=False) as connection:
        connection.register("mine", mine)
        assert connection.execute("SELECT count(*) FROM hosts JOIN mine USING (ip)").fetchall() == [(2,)]


@pytest.mark.parametrize("locked", [True, False])
def test_no_connection_installs_or_loads_extensions(out, locked):
    sql = "SELECT value FROM duckdb_settings() WHERE name LIKE 'auto%_known_extensions'"
    assert rows(out, sql, locked=locked) == [("false",), ("false",)]
    with duck.open_duckdb() as connection:
        assert connection.execute(sql).fetchall() == [("false",), ("false",)]


def test_what_does_not_fit_in_memory_goes_to_temporary_files_even_when_locked(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with query.connect(out, locked=False) as connection:
        connection.execute("SET memory_limit = '50MB'")
        query._lock(connection, query.select_runs(out))
        big = query.run_sql(
            connection, "SELECT sum(i) FROM (SELECT i FROM range(1500000) t(i) ORDER BY md5(i::VARCHAR), i)"
        )
    assert big.num_rows == 1
    assert list(tmp_path.iterdir()) == []


def test_times_come_out_without_a_zone(out):
    with query.connect(out) as connection:
        assert query.run_sql(connection, "SELECT observed_at FROM hosts").schema.field(0).type == pa.timestamp("us")


# --- a database file -------------------------------------------------------------------------------------------------


def test_a_database_has_the_tables_and_views_for_any_client(out, tmp_path):
    file = tmp_path / "census.duckdb"
    query.write_db(file, out)
    with duckdb.connect(str(file), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM hosts").fetchall() == [(24,)]
        assert plain.execute("SELECT count(*) FROM ledger WHERE balance = 0").fetchall() == [(2,)]
        (about,) = plain.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'ledger'").fetchone()
    assert about.startswith("Whether each run accounts")


def test_writing_a_database_again_renews_the_views_and_keeps_the_rest(tmp_path):
    file = tmp_path / "census.duckdb"
    publish(tmp_path, [server(1)])
    query.write_db(file, tmp_path)
    with duckdb.connect(str(file)) as plain:
        plain.execute("CREATE TABLE mine AS SELECT 1 AS x")
    publish(tmp_path, [server(2)], LATER)
    query.write_db(file, tmp_path)
    with duckdb.connect(str(file), read_only=True) as plain:
        assert plain.execute("SELECT count(*), (SELECT x FROM mine) FROM hosts").fetchall() == [(2, 1)]


def test_a_file_that_is_no_database_is_left_alone(out, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database, and longer than the header of one, so that it is looked at" * 99)
    before = file.read_bytes()
    with pytest.raises(QueryError, match="notes"):
        query.write_db(file, out)
    assert file.read_bytes() == before


# --- views: each on rows small enough to count by hand ---------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """One address with two open servers, one of them in doubt, and a silent and a web server elsewhere."""
    out = tmp_path_factory.mktemp("small")
    here, there = server(1, n_models=2), server(2, n_models=1)
    second = replace(
        there,
        conversation=replace(there.conversation, target=Target(here.conversation.target.ip, 8080)),
        doubt=Doubt(2, ("clone",)),
    )
    first = replace(here, doubt=Doubt())
    sixth = silent(3)
    sixth = replace(sixth, conversation=replace(sixth.conversation, target=Target("2001:db8::1", 443)))
    publish(out, [first, second, sixth, tls(7)])
    return out


def test_endpoints_are_the_rows_of_probes(small):
    sql = "SELECT endpoint, outcome, is_server, server, n_models FROM endpoints ORDER BY ALL"
    assert rows(small, sql) == [
        ("240.0.0.1:11434", "success", True, "ollama", 2),
        ("240.0.0.1:8080", "success", True, "ollama", 1),
        ("240.0.0.7:11434", "success", False, None, None),
        ("[2001:db8::1]:443", "connection-timeout", False, None, None),
    ]


def test_servers_count_addresses(small):
    sql = "SELECT host, server, n_endpoints, versions, is_open, suspect, n_models FROM servers"
    assert rows(small, sql) == [("240.0.0.1", "ollama", 2, ["0.6.1"], True, 2, 3)]


def test_host_families_and_lineages_are_the_union_over_an_address(small):
    families = rows(small, "SELECT host, family, suspect FROM host_families ORDER BY ALL")
    lineages = rows(small, "SELECT host, lineage, suspect FROM host_lineages ORDER BY ALL")
    assert families == [("240.0.0.1", "gemma3", 2), ("240.0.0.1", "llama", 0)]
    assert lineages == [("240.0.0.1", "Gemma", 2), ("240.0.0.1", "Llama", 0)]


def test_the_ledger_counts_probes_anew(small):
    sql = "SELECT n_targets, n_probes, balance, outcomes, n_excluded FROM ledger"
    assert rows(small, sql) == [(4, 4, 0, {"connection-timeout": 1, "success": 3}, 2)]


def test_replies_have_their_bodies(small):
    sql = "SELECT ip, port, decode(body) FROM replies_with_body WHERE path = '/' ORDER BY ALL"
    assert rows(small, sql) == [
        ("240.0.0.1", 8080, "Ollama is running"),
        ("240.0.0.1", 11434, "Ollama is running"),
        ("240.0.0.7", 11434, "<html></html>"),
    ]


def test_the_latest_run_is_a_measured_one_where_there_is_one(out, small):
    assert rows(out, "SELECT run_id FROM latest_run") == [(LATER,)]
    assert rows(small, "SELECT run_id FROM latest_run") == [(RUN,)]
    assert rows(out, "SELECT run_id FROM latest_run", runs=[RUN]) == [(RUN,)]
