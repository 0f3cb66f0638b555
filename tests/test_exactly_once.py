"""Whatever ends a scan, nothing is lost, doubled or half-written, and what is left can be resumed."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from census import manifest, query, report, scan, snapshot, verification
from census.cli import INTERRUPTED
from census.errors import ScanStopped, SnapshotError
from census.simulate import World
from tests import exactly_once
from tests.conftest import Silent, simulated_settings, take
from tests.exactly_once import Kindergarten
from tests.test_snapshot import flip, write

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
    used = len(list(Path(f"/proc/{child.pid}/fd").iterdir()))
    resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (max(used - 2, 8), 4096))
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
    options = (listing, "-o", out, "--allow-private", "--rate", 400, "--network-rate", 1000)
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


class Backwards(datetime):
    """A clock that is set back by an hour after some readings."""

    readings = 0

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        cls.readings += 1
        return datetime.now(tz) - timedelta(hours=cls.readings > 20)


def test_a_clock_set_back_changes_times_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.load(exactly_once.scenario(tmp_path, 0.05))
    settings = simulated_settings(world, tmp_path)
    for module in ("census.scan", "census.wire"):
        monkeypatch.setattr(f"{module}.datetime", Backwards, raising=False)
    with scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out") as draft:
        run = asyncio.run(take(draft, world, Silent())).publish()
    assert Backwards.readings > 20
    assert verification.verify(run) == []
    outcomes = world.truth()["outcomes"]
    with query.connect(tmp_path / "out") as connection:
        rows = query.run_sql(connection, "SELECT outcome, count(*) AS n FROM probes GROUP BY ALL").to_pylist()
        (times,) = query.run_sql(connection, "SELECT finished_at < started_at AS back FROM runs").to_pylist()
    assert {row["outcome"]: row["n"] for row in rows} == outcomes
    assert times == {"back": True}


# --- Damage ----------------------------------------------------------------------------------------------------------

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
