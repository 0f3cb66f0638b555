"""Joins the stages, from targets to snapshot. The only place with concurrency.

One shape: a dispatcher reads the permuted targets block by block, takes a sender for each, and one committer
writes a block when its last target is done. A target is not read before a sender is free.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from census import __version__, resources
from census.errors import CensusError, ContactError, ScanStopped, SnapshotError, TargetError, UsageError
from census.exclusions import Exclusions
from census.families import Families
from census.identify import Reading, Rules
from census.locate import Locator, Networks
from census.model import Conversation, Finding, Lineage, Outcome, Question, Target
from census.optouts import OptOuts
from census.pace import Pace, Share, rest, shares
from census.permutation import Permutation
from census.probe import Limits, Prober, Route, allowed, now, user_agent
from census.schema import SCHEMA_VERSION
from census.snapshot import Draft, new_run_id
from census.suspect import Suspicions
from census.targets import TargetSet, read, sample_size

try:
    import uvloop
except ImportError:  # there is none for Windows
    uvloop = None  # type: ignore[assignment]

T = TypeVar("T")

BLOCK_SIZE = 1024
"""Targets in a block at most: what a kill costs at most, for each block open at that moment."""

BLOCKS_PER_SHARD = 8
"""Blocks a small target set is cut into for each shard, so that shards get even parts of it."""

COLLECT_AFTER = 200_000
"""New objects after which the garbage collector looks at them: some thousand conversations' worth."""

MAX_FAULTS = 1000
"""Crashes of our own code, each filed as its host's outcome, after which the scan stops."""

WAITING_BLOCKS = 4
"""Finished blocks waiting to be written; beyond these, senders wait for the disk."""

LONG_ANSWERS = 64 << 10
"""Bytes of answers from which a conversation is concluded in steps: an inventory of thousands of models takes seconds,
in which the answers of other hosts would be late."""

MODELS_A_STEP = 200
"""Models classified in one step: some 20 ms."""

SPARE_DESCRIPTORS = 64
"""File descriptors kept for files, databases and the terminal."""

_LEFT_OUT = (("n_invalid", "lines could not be read"), ("n_duplicates", "duplicates asked once"))

TARGETS_FILE = "targets.npz"
LOG_FILE = "scan.log"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option that decides what a scan does. Stored with the draft and in the run as JSON.

    Rates are new connections a second; timeouts are seconds; `max_targets` is a count or a percentage.
    """

    sources: tuple[str, ...] = ()
    ports: tuple[int, ...] = (11434,)
    seed: int = 0
    max_targets: str | None = None
    shards: int = 1
    shard: int = 0
    skip_invalid: bool = False
    blocklists: tuple[str, ...] = ()
    allow_private: bool = False
    contact: str | None = None
    rate: float = 500.0
    network_rate: float = 20.0
    senders: int = 1000
    connect_timeout: float = 3.0
    read_timeout: float = 6.0
    target_timeout: float = 20.0
    max_body: int = 1 << 20
    geo: tuple[str, ...] = ()
    notes: str | None = None
    simulated: bool = False

    def to_json(self) -> str:
        """The settings as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what `to_json` wrote; keys of other versions are ignored."""
        known = {f.name for f in fields(cls)}
        stored: dict[str, Any] = {key: value for key, value in json.loads(text).items() if key in known}
        lists: dict[str, Any] = {key: tuple(value) for key, value in stored.items() if isinstance(value, list)}
        return cls(**(stored | lists))


class Watcher(Protocol):
    """What a scan tells whoever watches it."""

    def begin(self, run_id: str, total: int, done: Counter[str], hits: int) -> None: ...
    def finding(self, finding: Finding) -> None: ...
    def count(self, outcomes: Mapping[str, int], hits: int) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(frozen=True)
class Stages:
    """The stages a conversation passes through after the probe, loaded once."""

    rules: Rules
    families: Families
    suspicions: Suspicions
    locator: Locator
    networks: Networks

    @classmethod
    def load(cls, geo: Sequence[str] = (), *, simulated: bool = False) -> Stages:
        """Read `data/` and open the geolocation databases. Raises DataError, GeoError."""
        locator = Locator.open([Path(p) for p in geo], simulated=simulated)
        return cls(Rules.load(), Families.load(), Suspicions.load(), locator, Networks.load())

    @property
    def questions(self) -> frozenset[Question]:
        """Everything that may be sent. Raises DataError when one of them may never be."""
        return allowed(self.rules.questions() | self.suspicions.questions())

    def conclude(self, conversation: Conversation, reading: Reading | None = None) -> Finding:
        """All that follows from one conversation, with no network and no clock; `reading` is the plan's, if any."""
        steps = self.concluding(conversation, reading)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return cast(Finding, done.value)

    def concluding(self, conversation: Conversation, reading: Reading | None = None) -> Generator[None, None, Finding]:
        """`conclude` in steps of MODELS_A_STEP models."""
        target, seen = conversation.target, conversation.asked_at
        reading = reading or Reading(self.rules)
        identity = reading.identify(target, conversation.replies)
        models, lineages = identity.models or (), list[Lineage]()
        for start in range(0, len(models), MODELS_A_STEP):
            lineages += [self.families.classify(m, observed_at=seen) for m in models[start : start + MODELS_A_STEP]]
            yield
        doubt = self.suspicions.judge(conversation, identity, reading)
        place = self.locator.locate(target.ip)
        kind, tier, rule = self.networks.classify(place.asn, place.as_name)
        place = replace(place, network_type=kind, tier=tier, network_rule=rule)
        return Finding(conversation, identity, tuple(lineages), doubt, place)


@dataclass(frozen=True)
class Order:
    """The target set in its seeded permutation, cut into numbered blocks, of which a shard is every n-th."""

    targets: TargetSet
    seed: int
    n: int
    shards: int
    shard: int

    @property
    def block_size(self) -> int:
        """Targets in each block but the last; the same for every shard of one census."""
        return max(1, min(BLOCK_SIZE, -(-self.n // (self.shards * BLOCKS_PER_SHARD))))

    def blocks(self) -> range:
        """Numbers of this shard's blocks, ascending."""
        return range(self.shard, -(-self.n // self.block_size), self.shards)

    def length(self, block: int) -> int:
        """Targets of one block."""
        return min(self.block_size, self.n - block * self.block_size)

    @property
    def n_blocks(self) -> int:
        """Blocks of this shard."""
        return -(-(-(-self.n // self.block_size) - self.shard) // self.shards)

    def total(self) -> int:
        """Targets of this shard: all blocks are full but the last of the whole set."""
        last = -(-self.n // self.block_size) - 1
        missing = self.block_size - self.length(last) if self.n and last % self.shards == self.shard else 0
        return self.n_blocks * self.block_size - missing

    def block(self, number: int) -> list[Target]:
        """The targets of one block."""
        start = number * self.block_size
        return self.targets.some(Permutation(self.targets.size, self.seed).span(start, start + self.length(number)))


def order_of(settings: Settings, targets: TargetSet) -> Order:
    """The order in which a scan with these settings asks. Raises UsageError for an impossible shard or sample."""
    if not 0 <= settings.shard < settings.shards:
        raise UsageError(f"shard {settings.shard} of {settings.shards}: shards are counted from 0")
    n = targets.size if settings.max_targets is None else sample_size(settings.max_targets, targets.size)
    return Order(targets, settings.seed, n, settings.shards, settings.shard)


def load_targets(settings: Settings) -> TargetSet:
    """Read the target lists of `settings` with its exclusions. Raises TargetError, ContactError."""
    targets = read(
        settings.sources, ports=settings.ports, exclusions=exclusions_of(settings), skip_invalid=settings.skip_invalid
    )
    require_targets(settings, targets)
    require_contact(settings, targets)
    return targets


def exclusions_of(settings: Settings) -> Exclusions:
    """What the settings exclude. Raises TargetError for an unreadable blocklist."""
    files = [Path(p) for p in settings.blocklists]
    return Exclusions.load(files, allow_private=settings.allow_private, allow_simulated=settings.simulated)


def opt_outs_of(settings: Settings, say: Callable[[str], None]) -> OptOuts:
    """What the settings exclude, kept up to date. Raises TargetError for an unreadable blocklist."""
    files = [Path(name) for name in settings.blocklists]
    return OptOuts(files, say, allow_private=settings.allow_private, allow_simulated=settings.simulated)


def require_possible(settings: Settings) -> None:
    """Refuse at the start what would stop a scan later. Raises UsageError."""
    Pace(settings.rate, settings.network_rate, settings.senders)
    user_agent(__version__, settings.contact)
    raise_descriptor_limit(settings.senders)
    if settings.contact and not settings.contact.startswith(("mailto:", "https:", "http:")):
        raise UsageError(f"--contact {settings.contact!r}: give mailto:you@example.org or a page, https://example.org")
    try:
        (settings.notes or "").encode()
    except UnicodeEncodeError:
        raise UsageError("--notes: not valid text in UTF-8") from None


def require_targets(settings: Settings, targets: TargetSet) -> None:
    """A scan asks somebody. Raises TargetError, with the reasons, when every target is excluded or there is none."""
    if targets.size:
        if not order_of(settings, targets).total():
            raise UsageError(f"of {targets.size} targets none is left for this sample and shard")
        return
    lists = ", ".join(settings.sources)
    if not targets.n_excluded:
        raise TargetError(f"{lists}: no target in it")
    lift = "" if settings.allow_private else "; --allow-private lifts loopback and private networks"
    raise TargetError(f"{lists}: nothing left to ask, excluded are {reasons_text(targets.n_excluded)}{lift}")


def reasons_text(excluded: Mapping[str, int]) -> str:
    """`4 (RFC 1918 private-use), 1 (RFC 1122 loopback)`, the most frequent first."""
    return ", ".join(f"{n} ({reason})" for reason, n in sorted(excluded.items(), key=lambda item: (-item[1], item[0])))


def require_contact(settings: Settings, targets: TargetSet) -> None:
    """A scan says who is asking. Raises ContactError when it asks strangers without saying so."""
    if targets.n_public and not settings.contact and not settings.simulated:
        raise ContactError(
            f"{targets.n_public} targets are outside loopback and private networks: say who is asking with "
            "--contact, for example --contact mailto:me@example.org (it goes into the User-Agent)"
        )


def draft_of(settings: Settings, targets: TargetSet, out: Path, now: datetime | None = None) -> Draft:
    """Start a run: an unfinished folder that holds its settings and targets. Raises SnapshotError."""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    run_id = new_run_id(now, shard=settings.shard, shards=settings.shards)
    plan = {
        "settings": settings.to_json(),
        "started_at": now.isoformat(),
        "n_resumed": 0,
        "n_invalid": targets.n_invalid,
        "n_duplicates": targets.n_duplicates,
        "excluded": dict(targets.n_excluded),
    }
    return Draft.create(out, run_id, plan, lambda folder: targets.save(folder / TARGETS_FILE))


def require_route(draft: Draft, route: Route | None) -> None:
    """Simulated addresses are asked through a route and never as they stand. Raises UsageError when there is none."""
    if route is None and Settings.from_json(draft.plan["settings"]).simulated:
        raise UsageError(f"{draft.run_id} is of a simulated internet: census simulate --resume {draft.run_id}")


def relocate(draft: Draft, geo: Sequence[str], endpoints: Sequence[str]) -> None:
    """Go on with a run of a simulated internet that has its geolocation database elsewhere now.

    Raises UsageError for a run of another internet than the one of these `endpoints`, or of the real one.
    """
    settings = Settings.from_json(draft.plan["settings"])
    asked = {target.endpoint for target in TargetSet.load(draft.folder / TARGETS_FILE)} if settings.simulated else {""}
    if not asked <= set(endpoints):
        draft.close()
        raise UsageError(f"{draft.run_id} is not a run of this scenario: name the one it began with (--scenario)")
    draft.plan["settings"] = replace(settings, geo=tuple(geo)).to_json()


def raise_descriptor_limit(senders: int) -> None:
    """Make room for `senders` connections. Raises UsageError when the system's hard limit does not allow it."""
    need = senders + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        if hard != resource.RLIM_INFINITY and hard < need:
            who = "1 sender needs" if senders == 1 else f"{senders} senders need"
            fewer = f"use --senders {hard - SPARE_DESCRIPTORS} or " if hard > SPARE_DESCRIPTORS else ""
            raise UsageError(f"{who} {need} file descriptors and this system allows {hard}: {fewer}raise `ulimit -n`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


@dataclass
class _Block:
    """A block under way: how many of its targets are still to be concluded, and what was found so far."""

    number: int
    left: int
    findings: list[Finding] = field(default_factory=list)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a scan's coroutine to its end, on uvloop where there is one.

    What is loaded by now stays, so the garbage collector need not look at it; and it looks more seldom than usual, as
    conversations leave next to no cycles behind (docs/decisions/engine.md).
    """
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *usual[1:])
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None)
    try:
        return runner.run(work)
    except asyncio.CancelledError:  # only a signal cancels the whole: it may come in this form when it comes late
        raise KeyboardInterrupt from None
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
        with suppress(OSError, RuntimeError):  # out of descriptors, uvloop cannot even end: what it was told counts
            runner.close()


class Scan:
    """One run, from its draft to its published folder.

    Attributes:
        share: what this process asks of it; all, unless it is a worker (`crew.py`).
    """

    def __init__(self, draft: Draft, stages: Stages, watcher: Watcher, route: Route | None = None) -> None:
        self.draft = draft
        self.stages = stages
        self.watcher = watcher
        self.settings = Settings.from_json(draft.plan["settings"])
        self.targets = TargetSet.load(draft.folder / TARGETS_FILE)
        self.order = order_of(self.settings, self.targets)
        self.questions = stages.questions
        self._route = route
        require_route(draft, route)
        self._faults = 0
        self.stopping = False
        self.share = self.shares(1)[0]
        self._pace: Pace | None = None
        self._not_before = 0.0
        if draft.plan["n_resumed"]:
            self.rest()
        self._open: dict[int, _Block] = {}
        self.log = _run_log(draft)

    def stop(self) -> None:
        """Ask no further target; what is in flight is finished, and all that was answered is kept.

        Who still waits for admission to a first connection has not been asked, and is not asked any more.
        """
        self.stopping = True
        if self._pace is not None:
            self._pace.withdraw()

    def shares(self, n: int) -> list[Share]:
        """The run's pace cut for at most `n` processes."""
        return shares(self.settings.rate, self.settings.senders, n)

    def rest(self) -> None:
        """Ask nobody until it does not matter what another process of this run may have asked just now."""
        self._not_before = time.monotonic() + rest(self.settings.rate, self.settings.network_rate)

    def begin(self) -> None:
        """Tell the watcher where the run stands."""
        self.watcher.begin(self.draft.run_id, self.order.total(), self.draft.counts(), self.draft.hits())
        self.tell_of_rest()

    def tell_of_rest(self) -> None:
        """Say why nothing happens yet. However long it is: a shorter rest would break the promise to a network."""
        if (wait := self._not_before - time.monotonic()) >= 1:
            self.watcher.say(f"asking in {wait:.0f} s: the same networks may have been asked a moment ago")

    async def run(self) -> None:
        """Ask every target of every block not yet committed. Raises ScanStopped when stopped before the end."""
        self.begin()
        await self.ask()
        self.require_all()

    def require_all(self) -> None:
        """Raises ScanStopped when the scan was stopped and something is missing."""
        if self.stopping and self.missing():
            command = "simulate" if self.settings.simulated else "scan"
            raise ScanStopped(f"stopped; nothing is lost: continue with census {command} --resume {self.draft.run_id}")

    async def ask(self) -> None:
        """Ask what is not committed of this process's share, until that is done or the scan is stopped."""
        raise_descriptor_limit(self.share.senders)
        optouts = opt_outs_of(self.settings, self.warn)
        async with self._paced() as pace, self._prober(optouts, pace) as prober:
            self._pace = pace
            await self._ask_all(pace, prober)

    def _paced(self) -> Pace:
        s = self.settings
        return Pace(s.rate, s.network_rate, s.senders, self.share, not_before=self._not_before)

    def _prober(self, optouts: OptOuts, pace: Pace) -> Prober:
        s = self.settings
        limits = Limits(s.connect_timeout, s.read_timeout, s.target_timeout, s.max_body)
        return Prober(
            self.questions,
            limits=limits,
            user_agent=user_agent(__version__, s.contact),
            route=self._route,
            excluded=optouts.reason,
            admit=pace.admit,
        )

    async def _ask_all(self, pace: Pace, prober: Prober) -> None:
        finished: asyncio.Queue[_Block | None] = asyncio.Queue(WAITING_BLOCKS)
        async with asyncio.TaskGroup() as group:
            committer = group.create_task(self._commit(finished))
            async with asyncio.TaskGroup() as tasks:
                corridor = _Corridor(self, prober, pace, tasks, finished)
                prober.sockets.broke = corridor.end_with
                unasked = self._unasked()
                while (corridor.has_sender() or await corridor.sender()) and (todo := next(unasked, None)) is not None:
                    corridor.send(*todo)
                await corridor.all_back()
            await finished.put(None)
            await committer

    def _unasked(self) -> Iterator[tuple[_Block, Target]]:
        for number in self.order.blocks():
            if self.draft.is_whole(number, self.order.length(number)):
                continue
            if todo := self._todo(number):
                block = self._open[number] = _Block(number, len(todo))
                yield from ((block, target) for target in todo)

    def _todo(self, number: int) -> list[Target]:
        """The targets of one block that this process has to ask."""
        done = self.draft.done(number)
        todo = [t for t in self.order.block(number) if not done or (t.ip, t.port, t.domain) not in done]
        return todo if self.share.whole else [target for target in todo if self.share.has(target.ip)]

    def conclude(self, conversation: Conversation, reading: Reading) -> Finding | None:
        """What follows from a conversation; None from long answers, for which `concluding` is. No answer: nothing."""
        if not conversation.replies:
            return Finding(conversation)
        if sum(len(reply.body) for reply in conversation.replies) >= LONG_ANSWERS:
            return None
        return self.stages.conclude(conversation, reading)

    async def concluding(self, conversation: Conversation, reading: Reading) -> Finding:
        """`conclude` from long answers, in steps between which other hosts are heard."""
        steps = self.stages.concluding(conversation, reading)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return cast(Finding, done.value)
            await asyncio.sleep(0)

    def warn(self, text: str) -> None:
        """Tell the operator, and the run's log."""
        self.log.warning(text)
        self.watcher.say(text)

    def faulty(self, target: Target, fault: BaseException) -> Finding:
        """A crash of our own code as that host's outcome. Raises CensusError when there were too many."""
        self.log.error("%s\n%s", target.endpoint, "".join(traceback.format_exception(fault)))
        for handler in self.log.handlers:
            if isinstance(handler, _RunLog) and (problem := handler.untold()):
                self.watcher.say(f"{LOG_FILE} cannot be written ({problem}): faults of the census are counted only")
        self.fault(repr(fault))
        error = f"fault of the census: {type(fault).__name__}"
        return Finding(Conversation(target, Outcome.UNKNOWN_ERROR, now(), error=error))

    def fault(self, words: str) -> None:
        """Count a crash of our own code. Raises CensusError when there were too many."""
        self._faults += 1
        if self._faults >= MAX_FAULTS:
            raise CensusError(f"{MAX_FAULTS} faults of the census itself, the last of them {words}; see {LOG_FILE}")

    async def _commit(self, finished: asyncio.Queue[_Block | None]) -> None:
        commit = self.draft.commit if self.share.whole else self.draft.commit_part
        while (block := await finished.get()) is not None:
            await asyncio.to_thread(commit, block.number, block.findings)
            del self._open[block.number]
        for block in self._open.values():
            await asyncio.to_thread(self.draft.commit_part, block.number, block.findings)

    def missing(self) -> int:
        """Blocks that are not whole."""
        return sum(not self.draft.is_whole(block, self.order.length(block)) for block in self.order.blocks())

    def ledger(self) -> str:
        """Targets in = rows of probes + excluded; lines that could not be read and duplicates beside it."""
        plan = self.draft.plan
        lines = [f"asked {self.order.total()} of {self.targets.size} targets"]
        if plan["excluded"]:
            lines.append(f"excluded {reasons_text(plan['excluded'])}")
        lines += [f"{plan[key]} {words}" for key, words in _LEFT_OUT if plan[key]]
        return "; ".join(lines)

    def publish(self) -> Path:
        """Write the run row and publish the run by one rename. Raises SnapshotError when blocks are missing."""
        if missing := self.missing():
            raise SnapshotError(f"{self.draft.run_id}: {missing} blocks are not done; resume the scan")
        return self.draft.publish(self._run_row(), self.stages.suspicions.together)

    def _run_row(self) -> dict[str, Any]:
        plan, outcomes = self.draft.plan, self.draft.counts()
        return {
            "run_id": self.draft.run_id,
            "started_at": datetime.fromisoformat(plan["started_at"]),
            "finished_at": datetime.now(UTC).replace(tzinfo=None),
            "census_version": __version__,
            "data_version": resources.data_version(),
            "schema_version": SCHEMA_VERSION,
            "is_simulated": self.settings.simulated,
            "contact": self.settings.contact,
            "user_agent": user_agent(__version__, self.settings.contact),
            "settings": self.settings.to_json(),
            "questions": sorted(map(str, self.questions)),
            "seed": self.settings.seed,
            "shard": self.settings.shard,
            "shards": self.settings.shards,
            "target_set": self.targets.digest,
            "n_targets": self.order.total(),
            "n_excluded": sum(plan["excluded"].values()),
            "n_invalid": plan["n_invalid"],
            "n_duplicates": plan["n_duplicates"],
            "outcomes": _pairs(outcomes),
            "exclusions": _pairs(plan["excluded"]),
            "geo": [asdict(source) for source in self.stages.locator.sources],
            "n_resumed": plan["n_resumed"],
            "notes": self.settings.notes,
        }


class _Corridor:
    """Targets on their way: a sender, an admission, a conversation; a task of its own only for whoever says much."""

    def __init__(
        self, scan: Scan, prober: Prober, pace: Pace, tasks: asyncio.TaskGroup, finished: asyncio.Queue[_Block | None]
    ) -> None:
        self._scan, self._prober, self._pace, self._tasks, self._finished = scan, prober, pace, tasks, finished

    def has_sender(self) -> bool:
        """Have a free sender at once, if there is one and the scan goes on."""
        return not self._scan.stopping and self._pace.senders.take()

    async def sender(self) -> bool:
        """Wait for a free sender; False when the scan was told to stop meanwhile."""
        await self._pace.senders.acquire()
        return not self._scan.stopping

    async def all_back(self) -> None:
        """Wait for every sender but the one that waits for them."""
        for _ in range(self._pace.n_senders - 1):
            await self._pace.senders.acquire()

    def send(self, block: _Block, target: Target) -> None:
        """Ask a target when it may be asked, with a sender that is free."""
        self._pace.queue(target.ip, partial(self._knock, block, target))

    def _knock(self, block: _Block, target: Target, admitted: bool) -> None:
        if not admitted or self._scan.stopping:
            return self._pace.senders.release()
        try:
            reading = Reading(self._scan.stages.rules)
            plan = self._scan.stages.suspicions.plan(reading)
            self._prober.knock(target, plan, partial(self._told, block, target, reading))
        except Exception as fault:  # before it knocked: `_told` raises nothing, so no target is done twice
            self._broken(block, target, fault)

    def _told(self, block: _Block, target: Target, reading: Reading, found: Conversation | BaseException) -> None:
        if not isinstance(found, Conversation):
            return self._broken(block, target, found)
        try:
            finding = self._scan.conclude(found, reading)
        except Exception as fault:
            return self._broken(block, target, fault)
        try:
            if finding is None:
                self._start(self._conclude(block, found, reading))
            else:
                self._done(block, finding)
        except Exception as fault:
            self.end_with(fault)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task, unless the scan is about to fail: then there is nobody to wait for it."""
        try:
            self._tasks.create_task(work)
        except RuntimeError:
            work.close()

    async def _conclude(self, block: _Block, conversation: Conversation, reading: Reading) -> None:
        try:
            finding = await self._scan.concluding(conversation, reading)
        except CensusError:
            raise
        except Exception as fault:
            finding = self._scan.faulty(conversation.target, fault)
        self._done(block, finding)

    def _broken(self, block: _Block, target: Target, fault: BaseException) -> None:
        """What crashed outside of a task: an outcome, or the end of the scan."""
        try:
            if isinstance(fault, CensusError):
                raise fault
            self._done(block, self._scan.faulty(target, fault))
        except Exception as problem:
            self.end_with(problem)

    def end_with(self, problem: Exception) -> None:
        """End the scan: a sender, or a target, is lost from count."""
        self._start(_raise(problem))

    def _done(self, block: _Block, finding: Finding) -> None:
        """The watcher is told last: what it raises ends the scan, and takes no sender and no block with it."""
        block.findings.append(finding)
        block.left -= 1
        if block.left == 0:
            self._start(self._hand_over(block))
        else:
            self._pace.senders.release()
        self._scan.watcher.finding(finding)

    async def _hand_over(self, block: _Block) -> None:
        """The sender is free only when the committer has room."""
        await self._finished.put(block)
        self._pace.senders.release()


async def _raise(problem: Exception) -> None:
    raise problem


def _pairs(counts: Any) -> list[dict[str, Any]]:
    return [{"name": str(name), "n": n} for name, n in sorted(counts.items())]


class _RunLog(logging.FileHandler):
    """A log file that never raises: a fault that cannot be described is a fault all the same, and no more than that."""

    _problem: str | None = None
    _told = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError as problem:  # it could not be opened
            self._problem = problem.strerror or repr(problem)

    def handleError(self, record: logging.LogRecord) -> None:
        problem = sys.exc_info()[1]
        self._problem = (isinstance(problem, OSError) and problem.strerror) or repr(problem)

    def untold(self) -> str | None:
        """Why it cannot be written; once."""
        problem, self._told = None if self._told else self._problem, self._told or self._problem is not None
        return problem


def _run_log(draft: Draft) -> logging.Logger:
    log = logging.getLogger(f"census.scan.{draft.run_id}")
    if not log.handlers:
        handler = _RunLog(draft.folder / LOG_FILE, delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False
    return log


def plan_text(settings: Settings, targets: TargetSet, rules: Rules) -> str:
    """What a scan would do, for --dryrun: counts, order, pace and every question it may ask."""
    order = order_of(settings, targets)
    lines = [
        f"targets            {targets.size}",
        f"asked by this run  {order.total()} (shard {settings.shard} of {settings.shards}, seed {settings.seed})",
        f"duplicates         {targets.n_duplicates}",
        f"invalid lines      {targets.n_invalid}",
        *(f"excluded           {n} ({reason})" for reason, n in sorted(targets.n_excluded.items())),
        f"blocks             {order.n_blocks} of at most {order.block_size} targets",
        f"pace               {settings.rate:g} new connections a second, {settings.network_rate:g} to one network, "
        f"{settings.senders} in flight",
        f"at least           {order.total() / settings.rate:.0f} s at that rate",
        f"User-Agent         {user_agent(__version__, settings.contact)}",
        "questions it may ask, and no other:",
        *(f"  {question}" for question in sorted(map(str, allowed(rules.questions() | Suspicions.load().questions())))),
    ]
    return "\n".join(lines)
