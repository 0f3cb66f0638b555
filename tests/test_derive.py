"""A run concluded again: equal rules give equal tables, new rules new ones, and nothing is ever half done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import stat
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from census import __version__, blocks, derive, disk, query, rederive, report, resources, schema, snapshot, verification
from census.errors import CensusError, GeoError, SnapshotError
from census.manifest import read_run
from census.model import Certificate, Conversation, Doubt, Finding, Identity, Model, Outcome, Target
from census.rows import derived_rows
from census.scan import Stages
from census.simulate import World
from tests import report_world as world
from tests.findings import NOON, RUN, publish, server

LATER = "20261123T150932Z-7f3b"
SERVERS = {"ollama", "vllm", "llama-cpp", "koboldcpp", "litellm", "openai-compatible"}
TODAY = {"data_version": resources.data_version(), "census_version": __version__}
CERTIFICATE = Certificate("ab" * 32, "CN=a", "CN=b", ("a", "b"), NOON, NOON + timedelta(days=90))


@pytest.fixture(scope="module")
def stages() -> Stages:
    return Stages.load()


@pytest.fixture(scope="module")
def findings(stages: Stages) -> list[Finding]:
    """Every example of some servers as a conversation of its own, every third over TLS; and a silent target."""
    examples = [example for example in stages.rules.examples() if example.server in SERVERS]
    found = []
    for i, example in enumerate(examples):
        replies = tuple(dataclasses.replace(one, asked_at=NOON, elapsed_ms=0.5) for one in stages.rules.play(example))
        target = Target(f"240.1.{i >> 8}.{i & 255}", example.port, "ai.example" if i % 5 == 0 else "", tag="list")
        certificate = CERTIFICATE if i % 3 == 0 else None
        outcome = Outcome.SUCCESS if replies else Outcome.CONNECTION_CLOSED
        scheme = "https" if certificate else "http"
        talk = Conversation(target, outcome, NOON, replies, None, 1.5, len(replies), 1, scheme, certificate)
        found.append(stages.conclude(talk))
    return [*found, Finding(Conversation(Target("240.2.0.1", 11434), Outcome.CONNECTION_TIMEOUT, NOON, connections=1))]


@pytest.fixture
def folder(findings: list[Finding], tmp_path: Path) -> Path:
    """A run that was concluded with today's rules."""
    return publish(tmp_path, findings, **TODAY)


@pytest.fixture
def aged(findings: list[Finding], tmp_path: Path) -> Path:
    """A run that was concluded when nobody knew vLLM yet."""
    blind = {"identity": Identity(), "lineages": (), "doubt": Doubt()}
    found = [dataclasses.replace(one, **blind) if one.identity.server == "vllm" else one for one in findings]
    return publish(tmp_path, found, data_version="old")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows(out: Path, sql: str) -> list[tuple[Any, ...]]:
    with query.connect(out) as connection:
        return connection.execute(sql).fetchall()


# --- kept replies -> conversations -----------------------------------------------------------------------------------


def test_conversations_come_back_as_they_were(folder: Path, findings: list[Finding], tmp_path: Path) -> None:
    found = [talk for talk, _ in derive.conversations(read_run(folder), tmp_path / "work")]
    had = [one.conversation for one in findings if one.conversation.replies]
    assert found == sorted(had, key=lambda talk: (talk.target.ip, talk.target.port, talk.target.domain))
    assert any(talk.certificate for talk in found)


def test_a_body_that_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    bodies = derive.Bodies(read_run(folder), tmp_path / "work")
    with pytest.raises(SnapshotError, match="has no body"):
        bodies.find(["0" * 64])
    empty = hashlib.sha256(b"").hexdigest()
    page = next(row for row in pq.read_table(folder / "bodies").to_pylist() if row["body_sha256"] != empty)
    assert bodies.find([page["body_sha256"]] * 2) == [page["body"]] * 2
    bodies.close()


def test_a_run_without_a_reply_has_no_conversation(tmp_path: Path) -> None:
    silent = Finding(Conversation(Target("240.2.0.1", 1), Outcome.CONNECTION_REFUSED, NOON))
    folder = publish(tmp_path, [silent], **TODAY)
    assert list(derive.conversations(read_run(folder), tmp_path / "work")) == []
    assert not derive.derive(tmp_path, RUN).replaced


# --- the same rules, and others --------------------------------------------------------------------------------------


def test_the_same_rules_change_no_byte(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    done = derive.derive(tmp_path, "last")
    assert (done.replaced, done.servers[0]) == (False, done.servers[1])
    assert contents(folder) == before
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_todays_rules_name_a_server_seen_before(aged: Path, findings: list[Finding], tmp_path: Path) -> None:
    unknown = "SELECT count(*) FROM hosts WHERE server = 'vllm'"
    assert rows(tmp_path, unknown) == [(0,)]
    old = {path: data for path, data in contents(aged).items() if path.startswith(("hosts", "models", "probes"))}
    assert derive.derive(tmp_path, RUN).replaced
    n = sum(one.identity.server == "vllm" for one in findings)
    assert rows(tmp_path, unknown) == rows(tmp_path, unknown.replace("hosts", "probes")) == [(n,)]
    assert rows(tmp_path, unknown.replace("hosts", "hosts_as_published")) == [(0,)]
    assert verification.verify(aged) == []
    assert {path: (aged / f"earlier/0001/{path}.kept").read_bytes() for path in old} == old


def test_a_server_named_late_has_its_certificate(aged: Path, findings: list[Finding], tmp_path: Path) -> None:
    derive.derive(tmp_path, RUN)
    over_tls = sum(one.identity.server == "vllm" and one.conversation.certificate is not None for one in findings)
    sql = f"SELECT count(*) FROM hosts WHERE server = 'vllm' AND tls_sha256 = '{CERTIFICATE.sha256}'"
    assert rows(tmp_path, sql) == [(over_tls,)] != [(0,)]


def test_tables_derived_again_are_those_that_a_scan_writes(aged: Path, findings: list[Finding], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / snapshot.SALT).write_bytes((tmp_path / snapshot.SALT).read_bytes())
    fresh = publish(tmp_path / "other", findings, **TODAY)
    derive.derive(tmp_path, RUN)
    for table in rederive.DERIVED:
        (file,) = read_run(aged).paths(table)
        assert file.read_bytes() == (fresh / table / "part-0000.parquet").read_bytes(), table


def test_the_run_says_how_it_was_derived_and_how_it_was_scanned(aged: Path, tmp_path: Path) -> None:
    derive.derive(tmp_path, RUN)
    row = rederive.run_row(read_run(aged))
    assert (row["data_version"], row["derived_data_version"]) == ("old", resources.data_version())
    assert row["derived_at"] > row["finished_at"]
    assert rederive.rules_of(row) == (__version__, resources.data_version())


def test_twice_is_once(aged: Path, tmp_path: Path) -> None:
    derive.derive(tmp_path, RUN)
    once = contents(aged)
    assert not derive.derive(tmp_path, RUN).replaced
    assert contents(aged) == once


def test_what_was_replaced_is_guarded_and_no_pattern_finds_it(aged: Path, tmp_path: Path) -> None:
    derive.derive(tmp_path, RUN)
    listed = {path for table in schema.tables() for path in read_run(aged).paths(table)}
    assert set((tmp_path / "runs").rglob("*.parquet")) == listed
    kept = next((aged / "earlier").rglob("*.kept"))
    kept.write_bytes(kept.read_bytes()[:-1])
    assert str(kept) in verification.verify(aged)[0]


def test_a_run_from_before_probes_had_certificates(aged: Path, tmp_path: Path) -> None:
    path = aged / "probes" / "part-0000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("tls_")]), path)
    content = json.loads((aged / "manifest.json").read_text())
    (entry,) = (one for one in content["files"] if one["table"] == "probes")
    data = path.read_bytes()
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "columns": "of then"}
    (aged / "manifest.json").write_text(json.dumps(content))
    assert verification.verify(aged) == []
    was = rows(tmp_path, "SELECT count(tls_sha256) FROM hosts")
    derive.derive(tmp_path, RUN)
    assert (
        rows(tmp_path, "SELECT count(h.tls_sha256) FROM hosts h JOIN probes USING (ip, port, domain, tls_sha256)")
        == was
    )
    assert verification.verify(aged) == []


# --- nothing is half done --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [(blocks, "write"), (disk, "sync_tree"), (rederive, "_exchange")])
def test_a_step_that_fails_leaves_the_run_as_it_was(
    aged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = contents(aged)
    with monkeypatch.context() as patched:
        patched.setattr(*step, full)
        with pytest.raises(SnapshotError, match="No space left on device; the run is as it was"):
            derive.derive(tmp_path, RUN)
    assert contents(aged) == before
    assert derive.derive(tmp_path, RUN).replaced
    assert verification.verify(aged) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from census import derive, rederive
exchange = rederive._exchange
def killed(*folders):
    if sys.argv[2] == "after":
        exchange(*folders)
    os.kill(os.getpid(), signal.SIGKILL)
rederive._exchange = killed
derive.derive(Path(sys.argv[1]), "last")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_the_one_step_leaves_a_whole_run(aged: Path, tmp_path: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), when], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert verification.verify(aged) == []
    n = rows(tmp_path, "SELECT count(*) FROM hosts WHERE server = 'vllm'")[0][0]
    assert bool(n) is (when == "after")
    derive.derive(tmp_path, RUN)
    assert rows(tmp_path, "SELECT count(*) FROM hosts WHERE server = 'vllm'") != [(0,)]
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_two_cannot_derive_one_run_at_once(aged: Path, tmp_path: Path) -> None:
    with rederive.workshop(tmp_path, RUN), pytest.raises(SnapshotError, match="another process is at work"):
        derive.derive(tmp_path, RUN)
    assert derive.derive(tmp_path, RUN).replaced


def test_damaged_evidence_is_not_derived_from(aged: Path, tmp_path: Path) -> None:
    path = aged / "bodies" / "part-0000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SnapshotError, match=r"bodies.*damaged"):
        derive.derive(tmp_path, RUN)


def test_a_fault_of_a_rule_loses_no_host(aged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(aged)
    monkeypatch.setattr(Stages, "conclude", lambda *_: 1 / 0)
    with pytest.raises(CensusError, match=r"240\.1\.0\.0:\d+: fault of the census: ZeroDivisionError"):
        derive.derive(tmp_path, RUN)
    assert contents(aged) == before


def test_a_run_that_is_not_there_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=f"no finished run 'x'; there are: {RUN}"):
        derive.chosen(tmp_path, ["x"])
    with pytest.raises(SnapshotError, match="no finished run here"):
        derive.chosen(tmp_path / "elsewhere", ["last"])


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def located(tmp_path: Path) -> Path:
    """A run of one simulated host, located with a database that is still there; returns the database."""
    places = World.load().write_geo(tmp_path / "places.mmdb")
    stages = Stages.load([str(places)], simulated=True)
    ip = next(text.rpartition(":")[0] for text in World.load().targets() if "." in text and text[0] == "2")
    example = next(one for one in stages.rules.examples() if one.server == "ollama" and one.is_it)
    replies = stages.rules.play(example)
    finding = stages.conclude(Conversation(Target(ip, 11434), Outcome.SUCCESS, NOON, replies, scheme="http"))
    settings = json.dumps({"geo": [str(places)], "simulated": True})
    geo = [dataclasses.asdict(source) for source in stages.locator.sources]
    publish(tmp_path, [finding], settings=settings, geo=geo)
    stages.locator.close()
    return places


PLACES = "SELECT country, asn, network_type, network_rule, place_source FROM hosts"


def test_places_are_looked_up_in_the_databases_of_the_scan(located: Path, tmp_path: Path) -> None:
    was = rows(tmp_path, PLACES)
    assert was[0][0] is not None and was[0][-1] == "places.mmdb"
    done = derive.derive(tmp_path, RUN)
    assert done.places == "places are looked up in places.mmdb, as in the scan"
    assert rows(tmp_path, PLACES) == was


@pytest.mark.parametrize(("change", "told"), [(Path.unlink, "is not where"), (World.load().write_geo, "has changed")])
def test_places_are_kept_when_the_databases_are_not_the_same(
    located: Path, tmp_path: Path, change: Any, told: str
) -> None:
    was = rows(tmp_path, PLACES)
    change(located)
    if located.exists():
        located.write_bytes(located.read_bytes() + b"\0")
    done = derive.derive(tmp_path, RUN)
    assert f"places are kept: places.mmdb {told}" in done.places
    assert rows(tmp_path, PLACES) == was
    assert rederive.run_row(read_run(tmp_path / "runs" / RUN))["geo"][0]["file"] == "places.mmdb"


def test_another_database_is_used_and_recorded_when_it_is_named(located: Path, tmp_path: Path) -> None:
    other = located.rename(tmp_path / "other.mmdb")
    derive.derive(tmp_path, RUN, geo=[str(other)])
    assert rederive.run_row(read_run(tmp_path / "runs" / RUN))["geo"][0]["file"] == "other.mmdb"
    with pytest.raises(GeoError):
        derive.derive(tmp_path, RUN, geo=[str(tmp_path / "none.mmdb")])


# --- what the world changed, and what the rules ----------------------------------------------------------------------


def test_compare_tells_the_worlds_changes_from_those_of_the_rules(
    aged: Path, findings: list[Finding], tmp_path: Path
) -> None:
    publish(tmp_path, findings, LATER, **TODAY)
    n = sum(one.identity.server == "vllm" for one in findings)
    mixed = report.answer(tmp_path, "compare", [RUN, LATER])
    assert ("appeared", n) in totals(mixed)
    assert any(f"'census derive {RUN}'" in note for note in mixed.footnotes)
    derive.derive(tmp_path, RUN)
    told = report.answer(tmp_path, "compare", [RUN, LATER])
    assert dict(totals(told)).keys() == {"same", "rules"}
    assert ("rules", n) in totals(told)
    assert {row["reason"] for row in told.rows.to_pylist() if row["kind"] == "rules"} == {
        "before: an AI server only now"
    }
    assert not any("census derive" in note for note in told.footnotes)
    assert any(f"{RUN} was derived again" in note for note in told.footnotes)


def totals(answer: report.Answer) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for row in answer.rows.to_pylist():
        found[row["kind"]] = found.get(row["kind"], 0) + row["endpoints"]
    return list(found.items())


# --- installations ---------------------------------------------------------------------------------------------------


def test_the_salt_is_made_once_for_its_owner_alone_and_is_in_no_run(tmp_path: Path) -> None:
    salt = snapshot.installation_salt(tmp_path)
    assert (len(salt), snapshot.installation_salt(tmp_path)) == (32, salt)
    assert stat.S_IMODE((tmp_path / snapshot.SALT).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [snapshot.SALT]
    folder = publish(tmp_path, [server(1)])
    assert not any(salt in data or salt.hex().encode() in data for data in contents(folder).values())
    (tmp_path / snapshot.SALT).write_bytes(b"short")
    with pytest.raises(SnapshotError, match="5 bytes, but 32 were written"):
        snapshot.installation_salt(tmp_path)


def marked(*models: Model, salt: bytes | None = b"s" * 32) -> tuple[str | None, list[str | None]]:
    identity = dataclasses.replace(server(0).identity, models=models)
    found = derived_rows(RUN, [dataclasses.replace(server(0), identity=identity, lineages=())], salt)
    return found["hosts"]["installation"][0].as_py(), found["models"]["installation_mark"].to_pylist()


A = Model("a:latest", "1" * 64, modified_at_raw="2026-01-02T03:04:05.678901234Z")
B = Model("b:latest", "2" * 64, modified_at_raw="2026-01-02T03:04:06.678901234Z")


def test_marks_follow_name_digest_and_time_and_nothing_else() -> None:
    whole, (mark, other) = marked(A, B)
    assert mark != other
    assert marked(B, A) == (whole, [other, mark])
    assert marked(dataclasses.replace(A, size_bytes=5)) == marked(A)
    for change in ({"name": "c"}, {"digest": "3" * 64}, {"modified_at_raw": "2026-01-02T03:04:05.678901235Z"}):
        assert marked(dataclasses.replace(A, **change))[1] != [mark]
    assert marked(A, salt=b"t" * 32)[1] != [mark]


def test_without_time_digest_or_salt_there_is_no_mark() -> None:
    assert marked() == (None, [])
    assert marked(A, salt=None) == (None, [None])
    bare = [dataclasses.replace(A, modified_at_raw=None), dataclasses.replace(A, digest=None)]
    assert marked(*bare, dataclasses.replace(A, is_remote=True)) == (None, [None] * 3)
    assert marked(A, *bare) == (marked(A)[0], [*marked(A)[1], None, None])


SEEN = {
    (1, 1, 64501): "ab",
    (2, 5, 64501): "abc",
    (1, 2, 64501): "de",
    (1, 3, 64502): "de",
    (1, 6, 64503): "fg",
    (1, 7, 64503): "fg",
    (1, 8, 64503): "ax",
    (1, 9, None): "y",
    (2, 10, 64502): "yz",
}
"""(month, last byte of the address, AS) -> marks of its models.

a+b moves, with a model more; d+e is in two ASes at once; f+g twice in one; one equal mark alone (a, y) links nobody.
"""


def test_installations_on_paper() -> None:
    months = {1: world.JANUARY, 2: world.FEBRUARY}
    hosts = [world.host(months[m], i, len(s), asn=a, installation=s) for (m, i, a), s in SEEN.items()]
    models = [
        world.model(months[m], i, n, "llama", installation_mark=mark)
        for (m, i, _), marks in SEEN.items()
        for n, mark in enumerate(marks)
    ]
    hosts.append(world.host(world.JANUARY, 20, 0))
    runs = [world.run(run_id) for run_id in months.values()]
    with world.connect({"runs": runs, "probes": [], "hosts": hosts, "models": models}) as connection:
        found = report.ask(connection, "installations")
    told = [tuple(row.values()) for row in found.rows.to_pylist()]
    assert dict(found.facts) == {"installations": 6, "hosts": 9, "all_hosts": 10}
    assert told == [
        ("one address", 3, 3 / 6, 3, 3 / 9, 1.0, 1),
        ("moved", 1, 1 / 6, 2, 2 / 9, 2.0, 2),
        ("together", 1, 1 / 6, 2, 2 / 9, 2.0, 2),
        ("fleet", 1, 1 / 6, 2, 2 / 9, 2.0, 2),
    ]


def test_a_chain_of_inventories_is_one_installation() -> None:
    """Forty inventories, each of which shares two models with the next, and a day lies between two sightings."""
    days = [datetime(2026, 1, 1) + timedelta(days=i) for i in range(40)]
    hosts = [world.host(world.JANUARY, i, 3, installation=f"{i:02}", observed_at=day) for i, day in enumerate(days)]
    models = [
        world.model(world.JANUARY, i, n, "llama", installation_mark=f"{i + n}") for i in range(40) for n in range(3)
    ]
    runs = [world.run(world.JANUARY)]
    with world.connect({"runs": runs, "probes": [], "hosts": hosts, "models": models}) as connection:
        (row,) = report.ask(connection, "installations").rows.to_pylist()
    assert (row["kind"], row["installations"], row["hosts"]) == ("moved", 1, 40)
