"""Whatever ends a scan, nothing is lost, doubled or half-written, and what is left can be resumed."""

from __future__ import annotations

import ast
import asyncio
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from census import manifest, query, report, scan, snapshot, verification
from census.cli import INTERRUPTED
from census.errors import ScanStopped, SnapshotError
from census.simulate import Internet, Request, World
from tests import exactly_once, hostile_servers
from tests.conftest import Silent, simulated_settings
from tests.exactly_once import Kindergarten
from tests.findings import RUN, block
from tests.test_snapshot import flip, write
from tests.visits import SLACK, WINDOW_S, most_in_a_window

ROOT = Path(__file__).resolve().parents[1]

SLOWLY = ("--rate", 60, "--network-rate", 1000, "--senders", 8)
"""So that the sixty targets of a Kindergarten take more than a second."""


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """The reduced version of `make kills`."""
    command = [sys.executable, "-m", "tests.exactly_once", str(tmp_path), "--kills", "6", "--times", "0.1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    tally = json.loads(done.stdout)
    assert tally["wrong"] == []
    assert tally["kills"] >= 2 and tally["reads"] > 0


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kindergarten]:
    kindergarten = Kindergarten(tmp_path_factory.mktemp("children"))
    yield kindergarten
    kindergarten.close()


@pytest.fixture
def listing(children: Kindergarten, tmp_path: Path) -> Path:
    path = tmp_path / "targets.txt"
    path.write_text("\n".join(children.endpoints) + "\n", encoding="utf-8")
    return path


def start(children: Kindergarten, listing: Path, out: Path, workers: int = 2) -> exactly_once.Child:
    """A scan that has asked some of its targets, but not all."""
    child = children.start("scan", listing, "-o", out, "--allow-private", *SLOWLY, "--workers", workers)
    child.says("targets")
    return child


def resumes(children: Kindergarten, listing: Path, out: Path) -> None:
    """The unfinished run of `out` goes on and is whole."""
    code, said = children.run("scan", "--resume", "last", "-o", out)
    assert code == 0, said
    (run,) = manifest.run_folders(out)
    assert verification.verify(run) == []
    with query.connect(out) as connection:
        (row,) = query.run_sql(connection, "SELECT n_targets, n_resumed FROM runs").to_pylist()
    assert row == {"n_targets": len(listing.read_text().split()), "n_resumed": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_is_in_flight(
    children: Kindergarten, listing: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    child = start(children, listing, out)
    os.kill(child.pid, number)
    assert child.wait() == ScanStopped.exit_code
    assert "nothing is lost: continue with census scan --resume" in child.said()
    assert "Traceback" not in child.said()
    resumes(children, listing, out)


def test_the_second_signal_stops_at_once(children: Kindergarten, listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    child = start(children, listing, out)
    os.kill(child.pid, signal.SIGINT)
    child.says("once more stops at once")
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() in (INTERRUPTED, ScanStopped.exit_code)
    assert "Traceback" not in child.said()
    assert snapshot.unfinished(out)


def test_a_full_disk_ends_the_scan_with_words(children: Kindergarten, listing: Path, tmp_path: Path) -> None:
    """No file may grow beyond a kilobyte from some moment on; writing more fails as it does on a full disk."""
    out = tmp_path / "out"
    child = start(children, listing, out, workers=1)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    assert child.wait() == SnapshotError.exit_code
    assert "File too large; whole blocks are kept: make room" in child.said()
    assert "Traceback" not in child.said()
    resumes(children, listing, out)


def test_an_output_folder_that_goes_and_comes_back(children: Kindergarten, listing: Path, tmp_path: Path) -> None:
    out, away = tmp_path / "out", tmp_path / "away"
    child = start(children, listing, out)
    out.rename(away)
    assert child.wait() == SnapshotError.exit_code
    assert "No such file or directory; whole blocks are kept" in child.said()
    assert "Traceback" not in child.said()
    away.rename(out)
    resumes(children, listing, out)


def test_out_of_descriptors_is_our_fault_and_no_outcome(children: Kindergarten, listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    child = start(children, listing, out, workers=1)
    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (exactly_once.NO_MORE_FILES, 4096))
    code, said = child.wait(), child.said()
    assert code in (10, SnapshotError.exit_code), said
    assert "oo many open files" in said and "Traceback" not in said
    assert snapshot.unfinished(out)


def test_too_few_descriptors_are_told_before_anything_is_asked(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this system allows any number")
    with pytest.raises(scan.UsageError, match=r"--senders \d+ or raise `ulimit -n`"):
        scan.raise_descriptor_limit(hard)


def test_no_senders_are_proposed_where_there_is_no_room_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (scan.SPARE_DESCRIPTORS, scan.SPARE_DESCRIPTORS))
    with pytest.raises(scan.UsageError) as refused:
        scan.raise_descriptor_limit(1)
    assert str(refused.value) == "1 sender needs 65 file descriptors and this system allows 64: raise `ulimit -n`"


def test_two_resumes_of_one_run_at_once(children: Kindergarten, listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    child = start(children, listing, out)
    code, said = children.run("scan", "--resume", "last", "-o", out)
    assert (code, "another process is at work on this run" in said) == (SnapshotError.exit_code, True)
    assert child.wait() == 0
    (run,) = manifest.run_folders(out)
    assert verification.verify(run) == []


def test_two_scans_into_one_output_at_once(children: Kindergarten, listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (listing, "-o", out, "--allow-private", "--rate", 400, "--network-rate", 1000, "--workers", 2)
    both = [children.start("scan", *options) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    one, other = manifest.run_folders(out)
    assert verification.verify_all(out, say=lambda line: None) == []
    hosts = [exactly_once.contents(run)["hosts"] for run in (one, other)]
    assert hosts[0] == hosts[1] != []


def test_a_simulated_census_is_resumed_in_its_own_internet(children: Kindergarten, tmp_path: Path) -> None:
    out, scenario = tmp_path / "out", exactly_once.scenario(tmp_path, 0.05)
    child = children.start("simulate", "-o", out, "--scenario", scenario, *SLOWLY)
    child.says("targets")
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() == ScanStopped.exit_code
    assert "continue with census simulate --resume" in child.said()
    code, said = children.run("scan", "--resume", "last", "-o", out)
    assert (code, "of a simulated internet" in said) == (2, True)
    code, said = children.run("simulate", "--resume", "last", "-o", out)
    assert (code, "not a run of this scenario" in said) == (2, True)
    code, said = children.run("simulate", "--resume", "last", "-o", out, "--scenario", scenario)
    assert code == 0, said
    assert verification.verify_all(out, say=lambda line: None) == []


def test_two_signals_end_a_scan_that_waits_for_a_connection(children: Kindergarten, tmp_path: Path) -> None:
    """One lets the connect run out, which here takes half a minute; the second does not."""
    with hostile_servers.silent() as (ip, port):
        listing = tmp_path / "targets.txt"
        listing.write_text(f"{ip}:{port}\n", encoding="utf-8")
        for workers in (1, 2):
            out = tmp_path / str(workers)
            patient = ("--connect-timeout", 30, "--target-timeout", 40, "--workers", workers)
            child = children.start("scan", listing, "-o", out, "--allow-private", *patient)
            child.says("targets")
            os.kill(child.pid, signal.SIGINT)
            child.says("once more stops at once")
            os.kill(child.pid, signal.SIGINT)
            assert child.wait() in (INTERRUPTED, ScanStopped.exit_code), (
                child.said()
            )  # the latter before it was connecting
            assert "Traceback" not in child.said() and snapshot.unfinished(out)


def test_the_page_names_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 15 and [name for name in named if f"def {name}(" not in tests] == []


# --- Clocks ----------------------------------------------------------------------------------------------------------


class Jumping(datetime):
    """A clock that is set forward by five hours after some readings, and then back by ten."""

    readings = 0

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        cls.readings += 1
        return datetime.now(tz) + timedelta(hours=(0, 5, -5)[min(cls.readings // 60, 2)])


def test_a_clock_that_jumps_changes_times_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the rate, not the timeouts, not what is asked once more when the run goes on."""
    world = World.load(exactly_once.scenario(tmp_path, 0.05))
    settings = simulated_settings(world, tmp_path, rate=200.0, network_rate=1e6)
    stages, requests = scan.Stages.load(settings.geo, simulated=True), list[Request]()
    monkeypatch.setattr(Jumping, "readings", 0)
    for module in ("census.scan", "census.wire"):
        monkeypatch.setattr(f"{module}.datetime", Jumping)
    monkeypatch.setattr(time, "time", lambda: Jumping.now().timestamp())

    async def ask(draft: scan.Draft, stop_after: int | None) -> scan.Scan:
        async with Internet(world, log=True) as internet:
            watcher = Silent(stop_after=stop_after)
            job = watcher.job = scan.Scan(draft, stages, watcher, internet.route)
            try:
                await job.run()
            finally:
                requests.extend(internet.requests)
        return job

    with scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out") as draft, pytest.raises(ScanStopped):
        asyncio.run(ask(draft, len(world.hosts) // 2))
    with snapshot.Draft.resume(tmp_path / "out", draft.run_id) as draft:
        run = asyncio.run(ask(draft, None)).publish()
    assert Jumping.readings > 180 and verification.verify(run) == []
    with query.connect(tmp_path / "out") as connection:
        rows = query.run_sql(connection, "SELECT outcome, count(*) AS n FROM probes GROUP BY ALL").to_pylist()
        (times,) = query.run_sql(connection, "SELECT finished_at < started_at AS back FROM runs").to_pylist()
    assert {row["outcome"]: row["n"] for row in rows} == world.truth()["outcomes"]
    assert times == {"back": True}
    firsts = {(each.ip, each.port): each.at for each in reversed(requests)}
    assert len(firsts) == len({(each.ip, each.port) for each in requests})
    assert most_in_a_window(firsts.values()) <= settings.rate * WINDOW_S + 1 + SLACK


WALL_CLOCK = {"wire.now", "scan.draft_of", "scan._run_row"}
"""Where the engine may read a clock that can be set: for what is written down, never for how long or how fast."""


def test_no_pace_no_timeout_and_no_order_rests_on_a_clock_that_can_be_set() -> None:
    found = set()
    for name in ("pace", "probe", "wire", "scan", "crew", "snapshot", "progress"):
        tree = ast.parse((ROOT / "census" / f"{name}.py").read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            calls = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
            if any(
                re.fullmatch(r"(.*\.)?(time\.time(_ns)?|datetime\.now|utcnow|today|localtime|gmtime)", call)
                for call in calls
            ):
                found.add(f"{name}.{function.name}")
    assert found == WALL_CLOCK


# --- Damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
def test_what_this_machine_cannot_read_now_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A damaged block is removed and asked again. This one is whole, and all its hosts have answered."""
    draft = snapshot.Draft.create(tmp_path, RUN, {}, lambda folder: None)
    with draft:
        draft.commit(0, block(0, 8))
    (path,) = draft.folder.glob("blocks/*")
    with monkeypatch.context() as patch:
        patch.setattr(snapshot.pa, "OSFile", lambda name: _fail(OSError(number, os.strerror(number), name)))
        with pytest.raises(SnapshotError, match=rf"{path}: cannot be read now: {os.strerror(number)}; nothing is lost"):
            snapshot.Draft.resume(tmp_path, RUN)
    with snapshot.Draft.resume(tmp_path, RUN) as draft:
        assert draft.counts().total() == 8


def _fail(problem: OSError) -> None:
    raise problem


OTHER = "20261123T000000Z-0000"


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """Two finished runs; the newer one has a damaged file."""
    write(tmp_path, [0])
    damaged = write(tmp_path, [1], run_id=OTHER)
    flip(damaged / "hosts" / "part-0000.parquet")
    return tmp_path


def test_a_damaged_run_is_left_out_loudly(two_runs: Path, children: Kindergarten) -> None:
    said: list[str] = []
    answer = report.answer(two_runs, "servers", say=said.append)
    (note,) = [note for note in answer.footnotes if note.startswith("Damaged: ")]
    assert f"{OTHER} is left out" in note and "part-0000.parquet" in note
    assert said and OTHER in said[0]
    assert OTHER not in answer.runs
    for words in (("report", "servers"), ("sql", "SELECT count(*) FROM hosts")):
        code, error = children.run(*words, "-o", two_runs)
        assert code == 0 and f"{OTHER} is left out" in error


def test_a_damaged_run_that_was_asked_for_is_an_error(two_runs: Path, children: Kindergarten) -> None:
    with pytest.raises(SnapshotError, match=OTHER):
        report.answer(two_runs, "servers", runs=[OTHER])
    for words in (("report", "servers"), ("sql", "SELECT 1")):
        code, error = children.run(*words, "-o", two_runs, "--run", OTHER)
        assert (code, "Traceback" in error) == (SnapshotError.exit_code, False)
        assert "damaged" in error


def test_verify_names_the_damaged_file(two_runs: Path, children: Kindergarten) -> None:
    code, error = children.run("verify", "-o", two_runs)
    assert code == SnapshotError.exit_code
    assert f"{OTHER}/hosts/part-0000.parquet: damaged" in error
