"""One census, killed again and again: what is left must be what an undisturbed census finds, row for row.

    python -m tests.exactly_once FOLDER --kills 8 --times 1

prints what happened as JSON. The simulated internet and a reader live in processes of their own, so that requests are
on record and runs are read whatever happens to the scanner. All of them are forked before any thread is started.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from census import crew, manifest, resources, scan, snapshot, verification
from census.cli import main as cli
from census.model import Conversation, Outcome, Target
from census.simulate import Atlas, Internet, Request, World
from tests.conftest import Silent, simulated_settings

BLOCK = 8
"""Targets in a block: small, so that every kill finds some blocks open and some closed."""

RATE = 150.0
"""Connections a second of the census that is killed: slow enough to be at work at every kill."""

SENDERS = 24
WORKERS = 2
"""Processes of every other scanner, one of which is killed first."""

LIVES_S = (0.05, 0.9)
"""Seconds that a scanner lives, drawn evenly: from its first steps to some blocks."""

BEGINNINGS_S = (0.0, 0.02)
"""Seconds that the first scanners live, so that some are killed while the run is being made."""

PATIENT = {"connect_timeout": 30.0, "read_timeout": 30.0, "target_timeout": 60.0}
"""Timeouts in seconds: nobody in this world is silent, so on a busy machine none may run out."""

LEFT_OUT = {"silent", "hang", "slow-drip", "ssh-banner", "ftp-banner", "reset-on-accept", "endless-body"}
"""Misbehaviours that only a timeout ends, of which it is a race what a client sees first, or that only cost time."""

READER_RESTS_S = 0.03
"""Seconds between two looks of the reader."""

NO_MORE_FILES = 3
"""As a limit on open files: every number below it is taken, so whatever a process opens from then on fails."""

CHILDREN_TIMES = 0.04
"""How many times the default scenario is what a Kindergarten serves: some sixty hosts."""

TIMES = ("run_id", "asked_at", "elapsed_ms", "latency_ms", "observed_at", "started_at", "finished_at")
"""Columns that differ between two censuses of one world."""

OF_A_RUN = ("settings", "n_resumed")
"""Columns of `runs` that say how it was made."""


Endpoint = tuple[str, int]


@dataclass
class Tally:
    """What happened. All but the first four must be zero or empty."""

    kills: int = 0
    beginnings: int = 0
    publishings: int = 0
    reads: int = 0
    targets: int = 0
    blocks: int = 0
    asked_again: int = 0
    lives: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    asked_after_commit: list[str] = field(default_factory=list)
    asked_beyond_open: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be, in words; [] when all is well."""
        names = ("unreadable", "differences", "asked_after_commit", "asked_beyond_open", "unasked", "problems")
        return [f"{name}: {each}" for name in names for each in getattr(self, name)]


# --- The world -------------------------------------------------------------------------------------------------------


def scenario(folder: Path, times: float) -> Path:
    """The default scenario without LEFT_OUT, every other group `times` as large."""
    head, *groups = re.split(r"(?m)^(?=\[\[group\]\])", resources.data("simulate", "internet.toml").read_text("utf-8"))
    kept = [_times(group, times) for group in groups if not any(f'"{name}"' in group for name in LEFT_OUT)]
    path = folder / "quick.toml"
    path.write_text(head + "".join(kept), encoding="utf-8")
    return path


def _times(group: str, times: float) -> str:
    count = int(found[1]) if (found := re.search(r"(?m)^count = (\d+)\n", group)) else 1
    plain = group.replace(found[0], "") if found else group
    return plain.replace("[[group]]\n", f"[[group]]\ncount = {max(1, round(times * count))}\n", 1)


# --- Processes -------------------------------------------------------------------------------------------------------


def _follow_parent() -> None:
    """End with the parent: nothing of a killed test stays behind (PR_SET_PDEATHSIG is 1)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def forked(work: Callable[[], None]) -> int:
    """The id of a new process that does `work` and nothing else."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _follow_parent()
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _ended(child: int) -> int:
    """How a process ended: its exit code, or the negative number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def internet(world: World, log: Path) -> Iterator[Atlas]:
    """A simulated internet in a process of its own, whose requests are in the file `log` when it has ended."""
    read, write = os.pipe()
    child = forked(lambda: _answer_for_ever(world, log, write))
    os.close(write)
    with os.fdopen(read) as told:
        doors = json.loads(told.readline())
    try:
        yield Atlas(world, doors)
    finally:
        os.kill(child, signal.SIGTERM)
        _ended(child)


def _answer_for_ever(world: World, log: Path, write: int) -> None:
    log.write_text(json.dumps(asyncio.run(_open(world, write))), encoding="utf-8")


async def _open(world: World, write: int) -> list[tuple[str, int, str, str, float]]:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Internet(world, log=True) as here:
        with os.fdopen(write, "w") as told:
            told.write(json.dumps(here.doors) + "\n")
        await over.wait()
    return [(each.ip, each.port, each.line, each.head, each.at) for each in here.requests]


def requests_of(log: Path) -> list[Request]:
    """What an `internet` that has ended was asked, in order."""
    return [Request(*each) for each in json.loads(log.read_text(encoding="utf-8"))]


@contextmanager
def reader(out: Path, report: Path) -> Iterator[None]:
    """A process that reads every finished run again and again, as anybody may; `report` has what it met."""
    child = forked(lambda: _read_for_ever(out, report))
    try:
        yield
    finally:
        os.kill(child, signal.SIGTERM)
        _ended(child)


def _read_for_ever(out: Path, report: Path) -> None:
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: over.append(number))
    reads, problems = 0, []
    while not over:
        problems += _unreadable(out)
        reads += 1
        time.sleep(READER_RESTS_S)
    report.write_text(json.dumps([reads, problems]), encoding="utf-8")


def _unreadable(out: Path) -> Iterator[str]:
    """What a reader with a pattern, and one with manifests, cannot read now."""
    for path in sorted(out.glob("runs/*/*/*.parquet")):
        try:
            pq.read_table(path)
        except Exception as problem:
            yield f"{path.relative_to(out)}: {problem!r}"
    for run in (each.parent for each in out.glob("runs/*/hosts")):
        try:
            yield from manifest.read_run(run).damage()
        except Exception as problem:
            yield f"{run.relative_to(out)}: {problem!r}"


# --- Scanning --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """What every scanner is given."""

    out: Path
    settings: scan.Settings
    targets: scan.TargetSet
    stages: scan.Stages
    atlas: Atlas
    workers: int = 1

    def census(self) -> None:
        """Begin a run, or go on with the one that is there, and publish it."""
        with self.draft() as draft:
            self.ask(draft)
            scan.Scan(draft, self.stages, Silent(), self.atlas).publish()

    def ask(self, draft: snapshot.Draft) -> None:
        job = scan.Scan(draft, self.stages, Silent(), self.atlas)
        if self.workers == 1:
            asyncio.run(job.run())
        else:
            crew.run_with(job, self.workers)

    def draft(self) -> snapshot.Draft:
        waiting = snapshot.unfinished(self.out)
        return snapshot.Draft.resume(self.out, waiting[-1]) if waiting else self.begin()

    def begin(self) -> snapshot.Draft:
        return scan.draft_of(self.settings, self.targets, self.out)

    def committed(self) -> set[Endpoint]:
        """Whose rows are on disk now."""
        paths = self.out.glob("unfinished/*/blocks/[0-9]*")
        return {endpoint for path in paths for endpoint in _endpoints(path)}

    @property
    def order(self) -> scan.Order:
        return scan.order_of(self.settings, self.targets)


@cache
def _endpoints(path: Path) -> frozenset[Endpoint]:
    """Whose rows a file of a block has. A file is never changed."""
    return frozenset((ip, port) for ip, port, _ in snapshot._keys_of(path))


def _killed(work: Callable[[], None], seconds: float, first: float = 0.5) -> bool:
    """Whether a process that does `work` was still at it when it was killed after so many seconds.

    One of its workers, if it has any, is killed when the share `first` of them has passed.
    """
    child = forked(work)
    time.sleep(seconds * first)
    for worker in _children(child)[:1]:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    time.sleep(seconds * (1 - first))
    os.kill(child, signal.SIGKILL)
    return _ended(child) == -signal.SIGKILL


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _whole(work: Callable[[], None]) -> None:
    """Let a process do `work` to its end."""
    if code := _ended(forked(work)):
        raise RuntimeError(f"a scanner that nobody disturbed ended with {code}")


@dataclass
class Life:
    """One scanner: the blocks on disk when it began, and when it began."""

    at: float
    committed: set[Endpoint]


def kill_scanners(here: Field, kills: int, tally: Tally, chance: random.Random) -> list[Life]:
    """Kill `kills` scanners of one census, the first few of them in their first steps. All blocks are then asked."""
    lives = []
    early = max(1, kills // 20)
    for number in range(kills):
        lives.append(Life(time.monotonic(), here.committed()))
        seconds = chance.uniform(*(BEGINNINGS_S if number < early else LIVES_S))
        scanner = here if number % 2 else replace(here, workers=WORKERS)
        tally.kills += _killed(partial(_ask_the_rest, scanner), seconds, chance.random())
        tally.beginnings += not snapshot.unfinished(here.out)
        tally.lives.append(len(here.committed()))
    lives.append(Life(time.monotonic(), here.committed()))
    return lives


def _ask_the_rest(here: Field) -> None:
    with here.draft() as draft:
        here.ask(draft)


def _publish(here: Field) -> None:
    with here.draft() as draft:
        scan.Scan(draft, here.stages, Silent(), here.atlas).publish()


def kill_publishers(here: Field, kills: int, tally: Tally, chance: random.Random) -> None:
    """Kill writers between the first table and the last rename; the last one is left alone."""
    rehearsed = Field(here.out.with_name("copy"), here.settings, here.targets, here.stages, here.atlas)
    shutil.copytree(here.out, rehearsed.out)
    start = time.monotonic()
    _whole(lambda: _publish(rehearsed))
    needed = time.monotonic() - start
    for _ in range(kills):
        if not snapshot.unfinished(here.out):
            break
        killed = _killed(lambda: _publish(here), chance.uniform(0, 0.9 * needed))
        tally.kills += killed
        tally.publishings += killed
    if snapshot.unfinished(here.out):
        _whole(lambda: _publish(here))


# --- Comparing -------------------------------------------------------------------------------------------------------


def contents(run: Path) -> dict[str, list[Any]]:
    """The rows of every table of a run but for times, names of runs and how the run was made, in their order."""
    found = {}
    for path in sorted(run.glob("*/*.parquet")):
        table = pq.read_table(path)
        left_out = {*TIMES, *(OF_A_RUN if path.parent.name == "runs" else ())} & set(table.column_names)
        found[path.parent.name] = table.drop_columns(sorted(left_out)).to_pylist()
    return found


def differences(one: Mapping[str, list[Any]], other: Mapping[str, list[Any]]) -> Iterator[str]:
    """Tables that are not equal, with the first row that is not."""
    for name in one.keys() | other.keys():
        mine, theirs = one.get(name, []), other.get(name, [])
        if mine != theirs:
            first = next((pair for pair in zip(mine, theirs, strict=False) if pair[0] != pair[1]), "")
            yield f"{name}: {len(mine)} and {len(theirs)} rows; {str(first)[:400]}"


def judge_requests(here: Field, lives: list[Life], log: Path, tally: Tally) -> None:
    """Nobody is asked again once their block is committed, and nobody who answers is left out."""
    order = here.order
    block_of = {(t.ip, t.port): number for number in order.blocks() for t in order.block(number)}
    asked: dict[tuple[str, int], set[int]] = defaultdict(set)
    starts = [life.at for life in lives]
    for each in requests_of(log):
        if each.at < starts[0]:
            continue
        who, life = (each.ip, each.port), sum(start <= each.at for start in starts) - 1
        asked[who].add(life)
        if who in lives[life].committed:
            tally.asked_after_commit.append(f"{each.ip}:{each.port} in life {life}, block {block_of[who]}")
    tally.asked_again = sum(len(each) - 1 for each in asked.values())
    tally.unasked = [f"{host.ip}:{host.port}" for host in _players(here) if (host.ip, host.port) not in asked]
    tally.asked_beyond_open = list(_beyond_open(lives, asked, block_of))


def _players(here: Field) -> Iterator[Any]:
    return (host for host in here.atlas.world.hosts if host.part is not None)


def _beyond_open(
    lives: list[Life], asked: Mapping[tuple[str, int], set[int]], block_of: Mapping[tuple[str, int], int]
) -> Iterator[str]:
    """Scanners that had more blocks under way than their senders can reach."""
    open_blocks: dict[int, set[int]] = defaultdict(set)
    for endpoint, numbers in asked.items():
        for life in numbers:
            if life + 1 < len(lives) and endpoint not in lives[life + 1].committed:
                open_blocks[life].add(block_of[endpoint])
    most = SENDERS + WORKERS * (scan.WAITING_BLOCKS + 2)
    return (f"life {life}: {len(found)} blocks open" for life, found in open_blocks.items() if len(found) > most)


# --- The whole of it -------------------------------------------------------------------------------------------------


def torment(folder: Path, kills: int, times: float, seed: int = 1) -> Tally:
    """Kill one census of a world `kills` times, a tenth of them while it is published, and compare. See `Tally`."""
    scan.BLOCK_SIZE = BLOCK
    chance, tally = random.Random(seed), Tally()
    world = World.load(scenario(folder, times))
    settings = simulated_settings(world, folder, rate=RATE, network_rate=1e6, senders=SENDERS, **PATIENT)
    targets, stages = scan.load_targets(settings), scan.Stages.load(settings.geo, simulated=True)
    out = folder / "out"
    with internet(world, folder / "requests.json") as atlas:
        here = Field(out, settings, targets, stages, atlas)
        fast = Field(out, replace(settings, rate=1e5, senders=300), targets, stages, atlas)
        _whole(fast.census)
        (undisturbed,) = manifest.run_folders(out)
        expected = contents(undisturbed)
        with reader(out, folder / "reader.json"):
            publishing = max(1, kills // 10)
            lives = kill_scanners(here, kills - publishing, tally, chance)
            _whole(lambda: _ask_the_rest(here))
            kill_publishers(here, publishing, tally, chance)
    finished = [run for run in manifest.run_folders(out) if run != undisturbed]
    tally.targets, tally.blocks = targets.size, len(here.order.blocks())
    tally.problems = [*map(str, verification.verify_all(out, say=lambda line: None)), *_left(out, finished)]
    tally.differences = [line for run in finished for line in differences(expected, contents(run))]
    tally.reads, tally.unreadable = json.loads((folder / "reader.json").read_text(encoding="utf-8"))
    judge_requests(here, lives, folder / "requests.json", tally)
    return tally


def _left(out: Path, finished: list[Path]) -> Iterator[str]:
    if len(finished) != 1:
        yield f"{len(finished)} runs came of one census"
    yield from (f"left behind: {name}" for name in snapshot.unfinished(out))


# --- The command line, from a process that has loaded it already -----------------------------------------------------


class Kindergarten:
    """Starts `census` with any arguments in processes forked from one that has loaded everything: in milliseconds."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._n = folder, 0
        command = [sys.executable, "-m", "tests.exactly_once", str(folder), "--kindergarten"]
        self._parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoints: list[str] = json.loads(self._told())

    def _told(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()

    def _asked(self, *words: object) -> Any:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(words) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._told())

    def start(self, *arguments: object) -> Child:
        """`census` with these arguments."""
        self._n += 1
        output = self._folder / f"child-{self._n}"
        output.with_suffix(".err").touch()
        return Child(self._asked("start", str(output), *map(str, arguments)), output, self._asked)

    def run(self, *arguments: object) -> tuple[int, str]:
        """Exit code and stderr of a `census` that is let alone."""
        child = self.start(*arguments)
        return child.wait(), child.said()

    def close(self) -> None:
        """End the parent and with it the simulated internet and whoever is left."""
        self._parent.communicate()


@dataclass
class Child:
    """A `census` under way. `pid` is its process."""

    pid: int
    output: Path
    _asked: Callable[..., Any]

    def wait(self) -> int:
        """Its exit code, when it has ended; the negative number of a signal that ended it."""
        return int(self._asked("wait", self.pid))

    def said(self) -> str:
        """All of its stderr so far."""
        return self.output.with_suffix(".err").read_text(encoding="utf-8")

    def says(self, words: str, seconds: float = 30) -> None:
        """Return when it has said `words`."""
        deadline = time.monotonic() + seconds
        while words not in self.said():
            if time.monotonic() > deadline:
                raise AssertionError(f"not a word of {words!r} in {self.said()!r}")
            time.sleep(0.01)


def _keep_children(folder: Path) -> None:
    """The parent: serves a small internet, and forks what it is asked for."""
    _follow_parent()
    os.environ["CENSUS_GEO"] = str(folder / "no-databases")
    world = World.load(scenario(folder, CHILDREN_TIMES))
    load, warm = scan.Stages.load, _warm_stages()
    scan.Stages.load = lambda geo=(), **options: load(geo, **options) if geo else warm  # type: ignore[method-assign]
    with internet(world, folder / "requests.json") as atlas:
        print(json.dumps(["{}:{}".format(*atlas(host.ip, host.port)) for host in world.hosts]), flush=True)
        for line in sys.stdin:
            word, *rest = json.loads(line)
            answer = _ended(rest[0]) if word == "wait" else forked(partial(_command, Path(rest[0]), rest[1:]))
            print(answer, flush=True)


def _warm_stages() -> scan.Stages:
    """The stages, which have seen every example once: what they compile at first use is there before the fork."""
    stages = scan.Stages.load()
    for example in stages.rules.examples():
        target, replies = Target("240.0.0.1", example.port), stages.rules.play(example)
        stages.conclude(Conversation(target, Outcome.SUCCESS, datetime(2026, 1, 1), replies))
    return stages


def _command(output: Path, arguments: list[str]) -> None:
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_CREAT), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli(arguments, prog_name="census")
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kindergarten", action="store_true", help="serve a test (see Kindergarten)")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--times", type=float, default=1.0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.kindergarten:
        _keep_children(given.folder)
        return
    tally = torment(given.folder, given.kills, given.times)
    print(json.dumps(asdict(tally) | {"wrong": tally.wrong}))


if __name__ == "__main__":
    main()
