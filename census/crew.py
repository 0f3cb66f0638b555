"""One scan by several processes: fork, listen, count, fork again. What a worker does is `scan.py`'s.

Each worker has whole networks and as large a part of the rate (`pace.Share`), so no window of time holds more
connections than one process would make. It commits its part of each block; the parent, which asks nobody, counts the
parts. All of them hold the lock of the draft, and no worker outlives the parent.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

from census.arrow import without_pandas
from census.errors import CensusError, ScannerFault
from census.model import Finding
from census.pace import Share
from census.scan import LOG_FILE, Scan, run

MAX_LOST = 10
"""Workers lost in one scan, each of which costs its open blocks, after which it stops: something ends them."""

REPORT_S = 0.1
"""Seconds between two reports of a worker."""

GRACE_S = 5.0
"""Seconds a worker has to end once it has said that it is done."""

LOOK_S = 0.2
"""Seconds after which the parent looks up from the lines of its workers, so late at most it answers a signal."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def usable_cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_with(job: Scan, workers: int, told_to_stop: Callable[[], None] = lambda: None) -> None:
    """Ask all that is missing with at most so many processes. Raises ScanStopped, CensusError.

    The first SIGINT or SIGTERM calls `told_to_stop` and lets the workers finish what is in flight; the second is
    what it is everywhere. To be called where no event loop runs; signals are set as they were when it returns.
    """
    _Crew(job, workers, told_to_stop).work()
    job.require_all()


@dataclass
class _Worker:
    """A forked process, seen from its parent. `over` once it has said so."""

    pid: int
    line: Connection
    over: bool = False

    def tell_to_stop(self) -> None:
        with suppress(OSError):
            self.line.send_bytes(b"stop")

    def end(self) -> None:
        """Wait for its end, which comes by itself or with a kill."""
        self.line.close()
        deadline = time.monotonic() + (GRACE_S if self.over else 0)
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return
            time.sleep(0.005)


# --- The parent ------------------------------------------------------------------------------------------------------


class _Crew:
    """The workers of one scan and what they have said."""

    def __init__(self, job: Scan, workers: int, told_to_stop: Callable[[], None]) -> None:
        self._job, self._shares, self._told_to_stop = job, job.shares(workers), told_to_stop
        self._workers: list[_Worker] = []
        self._lost = 0
        self._told: Counter[str] = Counter()
        self._told_hits = 0
        self._problem: CensusError | None = None
        self._said: set[str] = set()
        self._signalled = False

    def work(self) -> None:
        with self._first_signal_stops():
            self._job.begin()
            self._told, self._told_hits = self._job.draft.counts(), self._job.draft.hits()
            while self._job.missing() and not self._job.stopping:
                lost = self._lost
                self._one_crew()
                if self._problem is not None:
                    raise self._problem
                if self._lost == lost:
                    return
                self._job.rest()
                self._job.tell_of_rest()

    def _one_crew(self) -> None:
        """Fork, and listen until all are over. Where one is lost, the others finish what is in flight."""
        try:
            for share in self._shares:
                with _told_of_limits(self._job):
                    self._workers.append(self._forked(share))
            if self._job.stopping:  # they were told so before they could hear it
                self._all_stop()
            while waiting := [worker for worker in self._workers if not worker.over]:
                for line in wait([worker.line for worker in waiting], timeout=LOOK_S):
                    self._hear(next(worker for worker in waiting if worker.line is line))
                self._answer_signal()
        finally:
            for worker in self._workers:
                worker.end()
            self._workers.clear()
        if self._job.draft.counts().total() != self._job.order.total():
            self._job.draft.refresh()
        self._tell_anew()

    def _tell_anew(self) -> None:
        """What a lost worker found and did not commit is found again; what it committed, it may not have told."""
        outcomes, hits = self._job.draft.counts(), self._job.draft.hits()
        off = {name: outcomes[name] - self._told[name] for name in outcomes | self._told}
        if any(off.values()) or hits != self._told_hits:
            self._found({name: n for name, n in off.items() if n}, hits - self._told_hits)

    def _found(self, outcomes: Mapping[str, int], hits: int) -> None:
        self._told.update(outcomes)
        self._told_hits += hits
        self._job.watcher.count(outcomes, hits)

    def _forked(self, share: Share) -> _Worker:
        ours, theirs = Pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            parent = os.getpid()
            if pid := os.fork():
                return _Worker(pid, ours)
            _live(self._job, share, theirs, parent, [ours, *(worker.line for worker in self._workers)])
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        raise AssertionError("a worker goes no further")

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, *words = pickle.loads(worker.line.recv_bytes())
        except (EOFError, OSError):
            worker.over = True
            return self._lose(worker)
        hear: dict[str, Callable[..., None]] = {
            "found": self._found, "kept": self._job.draft.note, "fault": self._fault, "over": self._over,
            "say": self._say,
        }  # fmt: skip
        hear[kind](*words)
        worker.over = worker.over or kind == "over"

    def _fault(self, words: str) -> None:
        try:
            self._job.fault(words)
        except CensusError as problem:
            self._end_with(problem)

    def _over(self, problem: CensusError | None) -> None:
        if problem is not None:
            self._end_with(problem)

    def _say(self, text: str) -> None:
        """What every worker meets, a log on a full disk or a blocklist, is said once."""
        if text not in self._said:
            self._said.add(text)
            self._job.watcher.say(text)

    def _lose(self, worker: _Worker) -> None:
        self._lost += 1
        self._job.log.error("worker %d is lost; its open blocks are asked again", worker.pid)
        self._job.watcher.say(f"worker {worker.pid} is lost: its open blocks are asked again")
        if self._lost >= MAX_LOST:
            self._end_with(CensusError(f"{MAX_LOST} workers were lost: are they killed for their memory? --workers 1"))
        self._all_stop()

    def _end_with(self, problem: CensusError) -> None:
        self._problem = self._problem or problem
        self._all_stop()

    def _all_stop(self) -> None:
        for worker in self._workers:
            worker.tell_to_stop()

    def _answer_signal(self) -> None:
        """Not where the signal is caught: what is being written at that moment cannot be interrupted to write this."""
        if self._signalled:
            self._signalled = False
            self._told_to_stop()

    @contextmanager
    def _first_signal_stops(self) -> Iterator[None]:
        usual = {number: signal.getsignal(number) for number in _SIGNALS}

        def first(number: int, frame: FrameType | None) -> None:
            for each, handler in usual.items():
                signal.signal(each, handler)
            self._job.stopping = self._signalled = True
            self._all_stop()

        try:
            for number in _SIGNALS:
                signal.signal(number, first)
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)


@contextmanager
def _told_of_limits(job: Scan) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise ScannerFault(
            f"no worker could be started: {problem.strerror or problem}; nothing is lost: continue with "
            f"fewer --workers, or more processes and files (ulimit -u, ulimit -n), and --resume {job.draft.run_id}"
        ) from None


# --- A worker --------------------------------------------------------------------------------------------------------


def _live(job: Scan, share: Share, line: Connection, parent: int, others: Sequence[Connection]) -> None:
    """The life of a worker, after which there is nothing."""
    code = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _follow(parent)
        for other in others:
            other.close()
        without_pandas()
        _ask(job, share, _Reporter(line))
        code = 0
    finally:
        os._exit(code)


def _follow(parent: int) -> None:
    """End with the parent, also where it is killed: nobody else would count what is committed."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _ask(job: Scan, share: Share, told: _Reporter) -> None:
    job.share, job.watcher, job.draft.on_part = share, told, told.kept
    job.fault = told.fault  # type: ignore[method-assign]
    problem: CensusError | None = None
    try:
        run(_asking(job, told))
    except* CensusError as group:
        problem = _first(group)
    except* Exception as group:
        job.log.error("a worker broke", exc_info=group)
        problem = CensusError(f"a worker broke: {_first(group)!r}; see {LOG_FILE}")
    told.over(problem)


async def _asking(job: Scan, told: _Reporter) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(told.fileno(), told.hear, job)
    await job.ask()
    loop.remove_reader(told.fileno())


def _first(group: BaseExceptionGroup[Any]) -> Any:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


class _Reporter:
    """A worker's watcher: tells the parent what was found, kept and broken. Its parts are kept by another thread."""

    def __init__(self, line: Connection) -> None:
        self._line, self._lock = line, threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._hits, self._said = 0, time.monotonic()

    def _send(self, *words: object) -> None:
        with self._lock:
            self._line.send_bytes(pickle.dumps(words))

    def begin(self, run_id: str, total: int, done: Counter[str], hits: int) -> None: ...

    def say(self, text: str) -> None:
        """For the operator, who has the parent's terminal."""
        self._send("say", text)

    def finding(self, finding: Finding) -> None:
        self._outcomes[finding.conversation.outcome.value] += 1
        self._hits += finding.identity.server is not None
        if time.monotonic() - self._said > REPORT_S:
            self._report()

    def count(self, outcomes: Mapping[str, int], hits: int) -> None: ...

    def _report(self) -> None:
        outcomes, hits = self._outcomes, self._hits
        self._outcomes, self._hits, self._said = Counter(), 0, time.monotonic()
        if outcomes:
            self._send("found", dict(outcomes), hits)

    def kept(self, block: int, name: str, outcomes: Mapping[str, int], hits: int) -> None:
        """A part is committed."""
        self._send("kept", block, name, dict(outcomes), hits)

    def over(self, problem: CensusError | None) -> None:
        """There is nothing more to ask, or no more may be asked."""
        self._report()
        self._send("over", problem)

    def fault(self, words: str) -> None:
        """Our own code crashed."""
        self._send("fault", words)

    def fileno(self) -> int:
        return self._line.fileno()

    def hear(self, job: Scan) -> None:
        """The parent says one thing only: stop. When it says nothing any more, it is gone."""
        try:
            self._line.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)
        job.stop()
