"""A whole census of the simulated internet: all that was planted must come back, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pytest

from census import manifest, query, report, scan, snapshot, verification, wire
from census.errors import CensusError, ContactError, ScanStopped, UsageError
from census.model import Finding
from census.simulate import World
from tests.conftest import Census, Silent, simulated_settings, take


def _rows(census: Census, sql: str) -> list[dict[str, Any]]:
    with query.connect(census.out) as connection:
        return query.run_sql(connection, sql).to_pylist()


def _endpoint(row: dict[str, Any]) -> str:
    return f"[{row['ip']}]:{row['port']}" if ":" in row["ip"] else f"{row['ip']}:{row['port']}"


@pytest.fixture(scope="module")
def truth(census_of_the_world: Census) -> dict[str, Any]:
    return census_of_the_world.world.truth()


@pytest.fixture(scope="module")
def hosts(census_of_the_world: Census) -> dict[str, dict[str, Any]]:
    return {_endpoint(row): row for row in _rows(census_of_the_world, "from hosts")}


def test_every_target_has_its_outcome(census_of_the_world: Census, truth: dict[str, Any]) -> None:
    found = {_endpoint(row): row["outcome"] for row in _rows(census_of_the_world, "from probes")}
    planted = {endpoint: str(host["outcome"]) for endpoint, host in truth["endpoints"].items()}
    assert {e: (planted[e], found.get(e)) for e in planted if planted[e] != found.get(e)} == {}
    assert len(found) == len(planted)


def test_every_server_is_named(hosts: dict[str, dict[str, Any]], truth: dict[str, Any]) -> None:
    planted = {e: host for e, host in truth["endpoints"].items() if host["judged"]}
    wrong = {e: (h["server"], hosts.get(e, {}).get("server")) for e, h in planted.items()}
    assert {e: pair for e, pair in wrong.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize(("column", "fact"), [("server_version", "version"), ("rule", "rule"), ("auth", "auth")])
def test_what_is_planted_of_a_server_is_found(
    hosts: dict[str, dict[str, Any]], truth: dict[str, Any], column: str, fact: str
) -> None:
    planted = {e: host[fact] for e, host in truth["endpoints"].items() if host["server"] and host[fact] is not None}
    assert planted
    assert {e: (v, hosts[e][column]) for e, v in planted.items() if hosts[e][column] != v} == {}


def test_every_place_is_found(hosts: dict[str, dict[str, Any]], truth: dict[str, Any]) -> None:
    columns = ("country", "region", "city", "asn", "as_name")
    for endpoint, row in hosts.items():
        planted = truth["endpoints"][endpoint]
        assert {c: row[c] for c in columns} == {c: planted[c] for c in columns}, endpoint
        assert row["place_source"] == ("places.mmdb" if row["country"] else None), endpoint


def test_every_model_is_listed(census_of_the_world: Census, truth: dict[str, Any]) -> None:
    rows = _rows(census_of_the_world, "select * from models order by ip, port, position")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(_endpoint(row), []).append(row)
    facts = ("name", "digest", "size_bytes", "family_raw", "parameter_size", "quantization", "modified_at", "is_remote")
    for endpoint, host in truth["endpoints"].items():
        planted = [{f: getattr(model, f) for f in facts} for model in host["models"] or ()]
        seen = [{f: row[f] for f in facts} for row in found.get(endpoint, [])]
        if host["judged"]:
            assert seen == planted, endpoint


def test_an_unreadable_list_is_unknown_and_an_empty_one_is_empty(
    hosts: dict[str, dict[str, Any]], truth: dict[str, Any]
) -> None:
    planted = {e: h["models"] for e, h in truth["endpoints"].items() if h["judged"] and h["server"]}
    lengths = {e: None if models is None else len(models) for e, models in planted.items()}
    assert {e: hosts[e]["n_models"] for e in lengths} == lengths
    assert None in lengths.values() and 0 in lengths.values()


def test_plain_names_have_their_brand(census_of_the_world: Census, truth: dict[str, Any]) -> None:
    rows = {(_endpoint(r), r["position"]): r["brand_family"] for r in _rows(census_of_the_world, "from models")}
    wrong = [
        (model.name, brand, rows[endpoint, position])
        for endpoint, host in truth["endpoints"].items()
        for position, (model, brand) in enumerate(zip(host["models"] or (), host["lineages"], strict=False))
        if host["judged"] and brand is not None and rows[endpoint, position] != brand
    ]
    assert wrong == []


def test_every_decoy_is_doubted_and_nobody_else(hosts: dict[str, dict[str, Any]], truth: dict[str, Any]) -> None:
    decoys = {e for e, host in truth["endpoints"].items() if host["doubted"] and e in hosts}
    doubted = {e for e, row in hosts.items() if row["suspect"] == 2}
    honest = {e for e, host in truth["endpoints"].items() if host["judged"] and not host["doubted"]}
    assert decoys and decoys <= doubted
    copied = {hosts[e]["installation"] for e in decoys}
    alone = {e for e in doubted & honest if hosts[e]["installation"] not in copied}
    assert {e: hosts[e]["suspect_reasons"] for e in alone} == {}


def test_the_planted_pairs_are_reported(census_of_the_world: Census, truth: dict[str, Any]) -> None:
    judged = {(h["ip"], h["port"]) for h in truth["endpoints"].values() if h["judged"]}
    inventories: dict[str, set[str]] = {}
    for row in _rows(census_of_the_world, "from hosts"):
        if (row["ip"], row["port"]) in judged:
            inventories.setdefault(row["ip"], set()).update(row["families"])
    pairs = Counter(pair for families in inventories.values() for pair in combinations(sorted(families), 2))
    assert dict(pairs) == truth["codeployment"]["pairs"]


PAIR_BY_HAND = """
with family as (
  select distinct ip, unnest(families) as family from read_parquet('{runs}/*/hosts/*.parquet')
), multi as (select ip from family group by ip having count(*) > 1)
select a.family as a, b.family as b, count(*) as n,
       count(*) / (select count(*) from multi) as share
from family a join family b on a.ip = b.ip and a.family < b.family
group by all order by n desc, a, b
"""


def test_codeployment_equals_sql_by_hand(census_of_the_world: Census) -> None:
    by_hand = duckdb.sql(PAIR_BY_HAND.format(runs=census_of_the_world.out / "runs")).fetchall()
    answer = report.answer(census_of_the_world.out, "codeployment", ())
    rows = [r for r in answer.rows.to_pylist() if r.get("family_b")]
    assert [(r["family_a"], r["family_b"], r["hosts"]) for r in rows] == [row[:3] for row in by_hand]
    assert [r["pair_share"] for r in rows] == pytest.approx([row[3] for row in by_hand])


def test_every_table_reads_in_pandas_and_polars(census_of_the_world: Census) -> None:
    for table in ("runs", "probes", "hosts", "models", "replies", "bodies"):
        (file,) = sorted((census_of_the_world.run / table).glob("*.parquet"))
        frame = pandas.read_parquet(file)
        assert len(frame) == polars.scan_parquet(file).collect().height > 0


def test_the_run_verifies(census_of_the_world: Census) -> None:
    assert verification.verify(census_of_the_world.run) == []


def test_a_stopped_scan_goes_on_and_ends_the_same(tmp_path: Path, census_of_the_world: Census) -> None:
    world = World.load()
    settings = simulated_settings(world, tmp_path, senders=40)
    out = tmp_path / "out"
    with scan.draft_of(settings, scan.load_targets(settings), out) as draft, pytest.raises(ScanStopped):
        asyncio.run(take(draft, world, Silent(stop_after=200)))
    assert manifest.published(out) == []
    with snapshot.Draft.resume(out, draft.run_id) as again:
        assert sum(again.counts().values()) >= 200, "all that was answered is kept, not whole blocks only"
        assert 0 <= len(again.committed) < len(scan.order_of(settings, scan.load_targets(settings)).blocks())
        asyncio.run(take(again, world, Silent())).publish()
    same = "select ip, port, domain, server, server_version, families, n_models, inventory_hash from hosts order by all"
    with query.connect(out) as connection:
        assert query.run_sql(connection, same).to_pylist() == _rows(census_of_the_world, same)
        (row,) = query.run_sql(connection, "select n_resumed, n_targets from runs").to_pylist()
    assert row == {"n_resumed": 1, "n_targets": len(world.hosts)}


def test_shards_cover_the_targets_once(tmp_path: Path) -> None:
    world = World.load()
    asked: Counter[str] = Counter()
    for shard in range(3):
        settings = simulated_settings(world, tmp_path, shards=3, shard=shard, seed=7)
        order = scan.order_of(settings, scan.load_targets(settings))
        targets = [target.endpoint for block in order.blocks() for target in order.block(block)]
        assert len(targets) == order.total() > 0
        asked.update(targets)
    assert set(asked.values()) == {1}
    assert set(asked) == {host.endpoint for host in world.hosts}


def test_a_sample_is_the_beginning_of_the_same_order(tmp_path: Path) -> None:
    world = World.load()
    settings = simulated_settings(world, tmp_path, max_targets="10%", seed=3)
    order = scan.order_of(settings, scan.load_targets(settings))
    assert order.total() == len(world.hosts) // 10


def test_strangers_are_told_who_asks(tmp_path: Path) -> None:
    listing = tmp_path / "targets.txt"
    listing.write_text("2600::1\n")
    with pytest.raises(ContactError, match="--contact"):
        scan.load_targets(scan.Settings(sources=(str(listing),)))


def test_an_impossible_shard_is_refused(tmp_path: Path) -> None:
    listing = tmp_path / "targets.txt"
    listing.write_text("127.0.0.1\n")
    settings = scan.Settings(sources=(str(listing),), allow_private=True, shards=2, shard=2)
    with pytest.raises(UsageError, match="counted from 0"):
        scan.order_of(settings, scan.load_targets(settings))


def test_a_fault_of_ours_is_that_hosts_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.load()
    settings = simulated_settings(world, tmp_path, max_targets="30")

    def broken(self: scan.Stages, conversation: scan.Conversation, memory: object) -> scan.Finding:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(scan.Stages, "conclude", broken)
    with scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out") as draft:
        asyncio.run(take(draft, world, Silent()))
        counts = draft.counts()
        assert counts.total() == 30 and counts["unknown-error"] > 20 and "success" not in counts
        assert "ZeroDivisionError: planted" in (draft.folder / scan.LOG_FILE).read_text()


def test_too_many_faults_stop_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.load()
    settings = simulated_settings(world, tmp_path, max_targets="30")
    monkeypatch.setattr(scan, "MAX_FAULTS", 5)
    monkeypatch.setattr(scan.Stages, "conclude", lambda self, conversation: 1 / 0)
    with (
        scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out") as draft,
        pytest.raises(ExceptionGroup) as caught,
    ):
        asyncio.run(take(draft, world, Silent()))
    assert caught.group_contains(scan.CensusError, match="5 faults of the census itself")


class Faulty(Silent):
    """Breaks at the third finding, as a watcher might who writes somewhere."""

    def finding(self, finding: Finding) -> None:
        super().finding(finding)
        if self.findings == 3:
            raise BrokenPipeError("planted")


def refused_targets(folder: Path, n: int) -> scan.Settings:
    """Settings of a scan of loopback addresses at which nobody listens."""
    with socket.socket() as closed:
        closed.bind(("0.0.0.0", 0))
        port = closed.getsockname()[1]
    listing = folder / "targets.txt"
    listing.write_text("".join(f"127.0.{i}.9:{port}\n" for i in range(n)), encoding="utf-8")
    return scan.Settings(sources=(str(listing),), allow_private=True, rate=1000.0)


async def ask(draft: scan.Draft, watcher: Silent) -> scan.Scan:
    job = scan.Scan(draft, scan.Stages.load(), watcher)
    await asyncio.wait_for(job.run(), 30)
    return job


def test_a_watcher_that_breaks_ends_the_scan_and_doubles_nobody(tmp_path: Path) -> None:
    settings = refused_targets(tmp_path, 40)
    out = tmp_path / "out"
    with scan.draft_of(settings, scan.load_targets(settings), out) as draft:
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(ask(draft, Faulty()))
        assert caught.group_contains(BrokenPipeError, match="planted")
    with snapshot.Draft.resume(out, draft.run_id) as again:
        asyncio.run(ask(again, Silent())).publish()
    with query.connect(out) as connection:
        rows = query.run_sql(connection, "SELECT ip, outcome FROM probes").to_pylist()
    assert len(rows) == len({row["ip"] for row in rows}) == 40
    assert {row["outcome"] for row in rows} == {"connection-refused"}


def test_what_breaks_after_a_knock_is_not_done_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A knock that ends at once tells so before it returns."""
    monkeypatch.setattr(wire.Socket, "connect_ex", lambda self, address: errno.ECONNREFUSED)
    settings = refused_targets(tmp_path, 40)
    done: list[str] = []
    usual = scan._Corridor._done

    def noted(self: scan._Corridor, block: scan._Block, finding: Finding) -> None:
        done.append(finding.conversation.target.ip)
        usual(self, block, finding)

    monkeypatch.setattr(scan._Corridor, "_done", noted)
    with (
        scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out") as draft,
        pytest.raises(ExceptionGroup) as caught,
    ):
        asyncio.run(ask(draft, Faulty()))
    assert caught.group_contains(BrokenPipeError, match="planted")
    assert len(done) == len(set(done)) >= 3


@pytest.mark.parametrize("broken", ["census.probe.Prober.knock", "census.suspect.Suspicions.plan"])
def test_a_fault_that_cannot_be_logged_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def boom(*words: object) -> None:
        raise KeyError("planted")

    def full(self: logging.FileHandler) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    settings, watcher = refused_targets(tmp_path, 40), Silent()
    monkeypatch.setattr(broken, boom)
    monkeypatch.setattr(logging.FileHandler, "_open", full)
    with scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out") as draft:
        asyncio.run(ask(draft, watcher))
        assert draft.counts() == {"unknown-error": 40}
    (line,) = [line for line in watcher.lines if scan.LOG_FILE in line]
    assert "No space left on device" in line


def test_a_log_on_a_full_disk_raises_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = scan._RunLog("/dev/full", delay=True)
    record = logging.makeLogRecord({"msg": "a fault"})
    for _ in range(2):
        handler.handle(record)
    assert (handler.untold(), handler.untold()) == ("No space left on device", None)
    assert capsys.readouterr().err == ""
    with pytest.raises(OSError, match="No space"):
        handler.close()


@pytest.mark.parametrize("fault", [CensusError("planted"), OSError("planted")], ids=["ours", "any"])
def test_a_fault_that_cannot_be_filed_ends_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def boom(*words: object) -> None:
        raise fault

    settings = refused_targets(tmp_path, 40)
    monkeypatch.setattr("census.probe.Prober.knock", boom)
    monkeypatch.setattr(scan.Scan, "faulty", boom)
    with (
        scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out") as draft,
        pytest.raises(ExceptionGroup) as caught,
    ):
        asyncio.run(ask(draft, Silent()))
    assert caught.group_contains(type(fault), match="planted")


@pytest.mark.parametrize("n", [1, 2, 7, 63, 64, 65, 1000, 10_000, 2**70])
@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_the_parts_of_all_shards_are_the_whole(tmp_path: Path, n: int, shards: int) -> None:
    listing = tmp_path / "targets.txt"
    listing.write_text("127.0.0.1\n")
    targets = scan.load_targets(scan.Settings(sources=(str(listing),), allow_private=True))
    orders = [scan.Order(targets, 0, n, shards, shard) for shard in range(shards)]
    assert sum(order.total() for order in orders) == n
    if n < 2**20:
        assert [order.total() for order in orders] == [sum(map(o.length, o.blocks())) for o in orders]
        assert [order.n_blocks for order in orders] == [len(order.blocks()) for order in orders]
