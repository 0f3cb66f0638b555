"""One scan by several processes: what they find, how they share a pace, and what becomes of those that end early."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from census import crew, manifest, scan, snapshot, verification
from census.errors import CensusError, ScannerFault, ScanStopped, SnapshotError
from census.pace import Share, rest, shares
from census.simulate import Atlas, World, apart
from tests.conftest import Silent, simulated_settings
from tests.exactly_once import NO_MORE_FILES, Field, _children, _ended, contents, differences, forked, scenario


@pytest.mark.parametrize("rate", [0.5, 5, 60, 500, 5003, 10**6])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("senders", [1, 2, 1000])
def test_shares_add_up_to_the_whole(rate: float, n: int, senders: int) -> None:
    found = shares(rate, senders, n)
    assert 1 <= len(found) <= n
    assert sum(share.count for share in found) == found[0].of == shares(rate, senders, 1)[0].of
    assert sum(share.senders for share in found) == senders
    assert all(share.count >= 1 and share.senders >= 1 for share in found)
    addresses = [f"240.{i}.{7 * i % 256}.{i}" for i in range(256)] + ["2001:db8:1::1"]
    assert all(sum(share.has(ip) for share in found) == 1 for ip in addresses)


def test_a_network_is_of_one_share() -> None:
    found = shares(500, 1000, 8)
    owner = [next(share for share in found if share.has(f"240.1.2.{last}")) for last in range(256)]
    assert len(set(owner)) == 1


@dataclass
class Acting(Silent):
    """A watcher that does something when so many targets are done."""

    act: Callable[[], None] = lambda: None
    at: int = 20
    acted: bool = field(default=False)

    def count(self, outcomes: Mapping[str, int], hits: int) -> None:
        super().count(outcomes, hits)
        if self.findings >= self.at and not self.acted:
            self.acted = True
            self.act()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.load(scenario(tmp_path_factory.mktemp("world"), 0.1))


@cache
def stages() -> scan.Stages:
    """Loaded once, and without places, which no worker looks up otherwise than one process does."""
    return scan.Stages.load(simulated=True)


def asked(world: World, folder: Path, workers: int, watcher: Silent | None = None, **options: Any) -> Path:
    """The published run of a census of the world by so many processes."""
    folder.mkdir(exist_ok=True)
    more = {"rate": 400.0, "network_rate": 1e6, "senders": 16, **options}
    settings = simulated_settings(world, folder, **more)
    with apart(world) as route, scan.draft_of(settings, scan.load_targets(settings), folder / "out") as draft:
        job = scan.Scan(draft, stages(), watcher or Silent(), route)
        crew.run_with(job, workers)
        assert (draft.counts().total(), job.missing()) == (len(world.hosts), 0)
        return job.publish()


def _differ(one: Path, other: Path) -> list[str]:
    """But for certificates, which are made anew for each internet, and the secret of an output folder."""
    mine, theirs = contents(one), contents(other)
    for rows in (*mine.values(), *theirs.values()):
        for row in rows:
            for name in [name for name in row if name.startswith(("tls_", "installation"))]:
                del row[name]
    mine.pop("runs"), theirs.pop("runs")
    return list(differences(mine, theirs))


def test_several_find_what_one_finds(world: World, tmp_path: Path) -> None:
    one, three = asked(world, tmp_path / "one", 1), asked(world, tmp_path / "three", 3)
    assert verification.verify(three) == []
    assert _differ(one, three) == []


def test_a_lost_worker_costs_nothing_but_time(world: World, tmp_path: Path) -> None:
    watcher = Acting(act=lambda: os.kill(_children(os.getpid())[-1], signal.SIGKILL))
    run = asked(world, tmp_path, 2, watcher, rate=150.0)
    assert watcher.acted and any("is lost: its open blocks are asked again" in line for line in watcher.lines)
    assert verification.verify(run) == []
    assert watcher.findings == len(world.hosts)
    assert "its open blocks are asked again" in (run / scan.LOG_FILE).read_text()


def test_after_a_lost_worker_nobody_is_asked_at_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    forked = crew._Crew._forked

    def noted(self: crew._Crew, share: Share) -> Any:
        rests.append(self._job._paced()._not_before)
        return forked(self, share)

    told: list[bool] = []
    monkeypatch.setattr(scan.Scan, "tell_of_rest", lambda job: told.append(job._not_before > time.monotonic()))
    monkeypatch.setattr(crew._Crew, "_forked", noted)
    watcher, began = Acting(act=lambda: os.kill(_children(os.getpid())[-1], signal.SIGKILL)), time.monotonic()
    asked(world, tmp_path, 2, watcher, rate=150.0, network_rate=2.0 * len(world.hosts))
    before, again, after, too = rests
    assert before == again < began < after == too
    assert told == [False, True]


@pytest.mark.parametrize("network_rate", [0.5, 1000.0])
def test_a_run_that_goes_on_asks_nobody_at_once(world: World, tmp_path: Path, network_rate: float) -> None:
    settings = simulated_settings(world, tmp_path, network_rate=network_rate)
    draft = scan.draft_of(settings, scan.load_targets(settings), tmp_path / "out")
    route, watcher = Atlas(world, {}), Silent()
    with draft:
        assert scan.Scan(draft, stages(), watcher, route)._paced()._not_before == 0
    with snapshot.Draft.resume(tmp_path / "out", draft.run_id) as again:
        job = scan.Scan(again, stages(), watcher, route)
        job.begin()
        wait = job._paced()._not_before - time.monotonic()
    assert 0.9 * rest(settings.rate, network_rate) < wait <= rest(settings.rate, network_rate)
    assert any("asking in 2 s" in line for line in watcher.lines) is (network_rate == 0.5)


@pytest.mark.parametrize("what", ["Pipe", "fork"])
def test_a_system_that_starts_no_worker_is_told(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    calls = iter(range(100))
    usual = getattr(crew.os if what == "fork" else crew, what)

    def scarce() -> Any:
        if next(calls) == 2 if what == "fork" else next(calls) == 1:  # the internet is forked, too
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return usual()

    before = _children(os.getpid())
    monkeypatch.setattr(crew.os if what == "fork" else crew, what, scarce)
    with pytest.raises(ScannerFault, match=r"no worker could be started: Resource temporarily.*--resume"):
        asked(world, tmp_path, 2)
    assert _children(os.getpid()) == before


def test_the_simulated_internet_answers_on_when_its_group_is_told_to_end(world: World) -> None:
    before = set(_children(os.getpid()))
    with apart(world):
        (internet,) = set(_children(os.getpid())) - before
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(internet, number)
        time.sleep(0.2)
        assert _running(internet)
    assert not _running(internet)


def test_workers_that_are_always_lost_stop_the_scan(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan.Scan, "ask", lambda self: os._exit(3))
    with pytest.raises(CensusError, match=f"{crew.MAX_LOST} workers were lost"):
        asked(world, tmp_path, 2)


def test_a_signal_lets_the_workers_finish(world: World, tmp_path: Path) -> None:
    watcher = Acting(act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ScanStopped, match="nothing is lost"):
        asked(world, tmp_path, 2, watcher, rate=150.0)
    assert signal.getsignal(signal.SIGTERM) is usual
    with snapshot.Draft.resume(tmp_path / "out", "".join(snapshot.unfinished(tmp_path / "out"))) as draft:
        assert 0 < draft.counts().total() < len(world.hosts)
        assert draft.counts().total() == watcher.findings


# --- What may happen to a scan by several processes ------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """Some ninety hosts in many networks, in an internet of their own, asked slowly enough to be disturbed."""
    folder = tmp_path_factory.mktemp("few")
    hosts = World.load(scenario(folder, 0.05))
    settings = simulated_settings(hosts, folder, rate=150.0, network_rate=1e6, senders=16)
    with apart(hosts) as atlas:
        yield Field(folder / "out", settings, scan.load_targets(settings), stages(), atlas)


@pytest.fixture(scope="module")
def undisturbed(few: Field) -> Path:
    return taken(replace(few, settings=replace(few.settings, rate=5000.0)))


def taken(here: Field, watcher: Silent | None = None, workers: int = 2) -> Path:
    """The published run of a census that begins, or goes on where there is an unfinished one."""
    with here.draft() as draft:
        job = scan.Scan(draft, here.stages, watcher or Silent(), here.atlas)
        crew.run_with(job, workers)
        return job.publish()


def limit_a_worker(what: int, most: int) -> None:
    """From now on one of the workers of this process has no more."""
    worker = _children(os.getpid())[-1]
    resource.prlimit(worker, what, (most, resource.prlimit(worker, what)[1]))


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _signal_all(number: int) -> None:
    """As a terminal or a service manager does: everybody in the group, the internet too."""
    for pid in (*_children(os.getpid()), os.getpid()):
        os.kill(pid, number)


DISTURBED: dict[str, tuple[Callable[[Path], None], type[CensusError], str]] = {
    "one worker cannot write any more": (
        lambda out: limit_a_worker(resource.RLIMIT_FSIZE, 1024),
        SnapshotError,
        "File too large; whole blocks are kept: make room",
    ),
    "others use up a worker's descriptors": (
        lambda out: limit_a_worker(resource.RLIMIT_NOFILE, NO_MORE_FILES),
        CensusError,
        "oo many open files",
    ),
    "the output folder goes": (
        lambda out: [path.rename(path.with_name("away")) for path in (out,)] and None,
        SnapshotError,
        "No such file or directory; whole blocks are kept",
    ),
    "everybody is told to end": (lambda out: _signal_all(signal.SIGTERM), ScanStopped, "nothing is lost"),
}


@pytest.mark.parametrize("what", DISTURBED)
def test_a_disturbed_scan_says_so_and_goes_on_to_the_same_end(
    few: Field, undisturbed: Path, tmp_path: Path, what: str
) -> None:
    disturb, kind, words = DISTURBED[what]
    here = replace(few, out=tmp_path / "out")
    watcher = Acting(act=lambda: disturb(here.out))
    with pytest.raises(kind, match=words) as stopped:
        taken(here, watcher)
    assert watcher.acted and "Traceback" not in str(stopped.value)
    if (away := tmp_path / "away").exists():
        away.rename(here.out)
    assert _children(os.getpid())[1:] == []
    whole = taken(replace(here, settings=replace(few.settings, rate=5000.0)))
    assert verification.verify(whole) == [] and _differ(undisturbed, whole) == []


def test_a_signal_to_a_worker_alone_changes_nothing(few: Field, tmp_path: Path) -> None:
    """Whoever means the scan tells the process that began it."""

    def tell_a_worker() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(_children(os.getpid())[-1], number)

    watcher = Acting(act=tell_a_worker)
    with replace(few, out=tmp_path / "out").draft() as draft:
        job = scan.Scan(draft, few.stages, watcher, few.atlas)
        crew.run_with(job, 2)
        assert watcher.acted and job.missing() == 0
    assert not any("lost" in line for line in watcher.lines)


def test_a_disk_that_is_full_when_the_run_is_published(few: Field, undisturbed: Path, tmp_path: Path) -> None:
    """All blocks are there, and no file may be larger than so much: nothing is published, and then all of it."""
    here = replace(few, out=tmp_path / "out", settings=replace(few.settings, rate=5000.0))
    with here.draft() as draft:
        job = scan.Scan(draft, here.stages, Silent(), here.atlas)
        crew.run_with(job, 2)
        for most in (0, 3000, 12_000):
            with pytest.raises(SnapshotError, match="File too large; whole blocks are kept"), _files_at_most(most):
                job.publish()
            assert manifest.run_folders(here.out) == []
        whole = job.publish()
    assert verification.verify(whole) == [] and _differ(undisturbed, whole) == []


@contextmanager
def _files_at_most(size: int) -> Iterator[None]:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_a_kill_between_the_last_block_and_the_publishing(
    few: Field, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on publishes, and has nobody left to ask."""
    here = replace(few, out=tmp_path / "out", settings=replace(few.settings, rate=5000.0))
    with monkeypatch.context() as patch:
        patch.setattr(scan.Scan, "publish", lambda self: os.kill(os.getpid(), signal.SIGKILL))
        assert _ended(forked(lambda: taken(here) and None)) == -signal.SIGKILL
    monkeypatch.setattr(crew._Crew, "_forked", lambda self, share: pytest.fail("somebody was asked again"))
    whole = taken(here)
    assert verification.verify(whole) == [] and _differ(undisturbed, whole) == []


def test_a_log_that_no_worker_can_write_is_told_once(
    few: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan.Stages, "conclude", lambda *_: 1 / 0)
    here, watcher = replace(few, out=tmp_path / "out", settings=replace(few.settings, rate=5000.0)), Silent()
    with here.draft() as draft:
        (draft.folder / scan.LOG_FILE).mkdir()
        crew.run_with(scan.Scan(draft, here.stages, watcher, here.atlas), 2)
    (line,) = [line for line in watcher.lines if "cannot be written" in line]
    assert line == f"{scan.LOG_FILE} cannot be written (Is a directory): faults of the census are counted only"


def test_a_simulated_internet_that_cannot_start_says_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def scarce() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    before, module = _descriptors(os.getpid()), sys.modules["census.simulate.apart"]
    for owner, name in ((os, "fork"), (module, "Pipe")):
        with monkeypatch.context() as patch, pytest.raises(ScannerFault, match=r"unavailable; allow more.*--workers 1"):
            patch.setattr(owner, name, scarce)
            with apart(world):
                raise AssertionError("it did not start")
    assert _descriptors(os.getpid()) == before


def test_a_simulated_internet_that_ends_is_no_finding(few: Field) -> None:
    """Everybody would be refused from then on."""
    before = set(_children(os.getpid()))
    with (
        pytest.raises(ScannerFault, match="the simulated internet was ended while it was asked"),
        apart(few.atlas.world),
    ):
        (internet,) = set(_children(os.getpid())) - before
        os.kill(internet, signal.SIGKILL)
        while _running(internet):
            time.sleep(0.01)
    assert set(_children(os.getpid())) == before


def test_crashes_count_over_all_workers(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_FAULTS", 12)
    monkeypatch.setattr(scan.Stages, "conclude", lambda *_: 1 / 0)
    with pytest.raises(CensusError, match="12 faults of the census itself"):
        asked(world, tmp_path, 2)
    (name,) = snapshot.unfinished(tmp_path / "out")
    log = (tmp_path / "out" / "unfinished" / name / scan.LOG_FILE).read_text()
    assert log.count("ZeroDivisionError: division by zero") >= 12


def test_what_breaks_a_worker_is_told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan.Scan, "_paced", lambda self: 1 / 0)
    with pytest.raises(CensusError, match=r"a worker broke: ZeroDivisionError.*see scan.log"):
        asked(world, tmp_path, 2)


def test_no_worker_outlives_its_parent(world: World, tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        asked(world, tmp_path, 2, rate=60.0)
        os._exit(0)
    deadline = time.monotonic() + 20
    while len(workers := _children(child)) < 3:  # the internet and two workers
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 10
    while alive := [pid for pid in workers if _running(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_share_needs_no_other(tmp_path: Path) -> None:
    assert Share(0, 5, 5, 1).whole and not Share(0, 4, 5, 1).whole
