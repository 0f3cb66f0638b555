"""How fast the census may knock: so many connections a second over all, so many to one network, so many at once.

Only waiting lives here; nothing is sent. `docs/decisions/pace.md` has the measurements behind the constants.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Self

from asyncio_throttle.throttler import Throttler

from census.errors import UsageError

PROMISE_S = 0.1
"""Seconds of the window in which the rate is never exceeded by more than one connection."""

LATE_S = 0.002
"""How much later than its admission a sender may wake, seconds, with the promise still kept where it connects."""

WINDOWS = range(2, 6)
"""Into how many periods PROMISE_S may be cut: a period of 20 to 50 ms, so that no burst is longer."""

SPREAD_S = 0.005
"""Seconds in which at most twice the rate is let through, so that a period's share does not leave in one burst."""

MIN_POLL_S, MAX_POLL_S = 0.001, 0.01
"""Shortest and longest sleep of the throttle, seconds. The event loop's timers resolve 1 ms; less would spin."""

TICK_S = 0.0005
"""Seconds by which a timer may be early: event loops round to milliseconds. To wait for less would spin."""

POLLS = 50
"""Looks at the clock in one period, as far as the sleeps above allow: a period then ends about one in fifty late."""


_ROUNDING = 1e-6
"""Beyond what a share of a whole number may be off by in floating point."""


def _positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(f"{name} must be a positive number, not {value}")
    return value


def _budget(rate: float) -> tuple[int, float]:
    """How many connections in how many seconds (a sliding window) keep the promise and lose least of the rate.

    With a limit k in a period P, a window of W seconds holds at most k * ceil(W / P), which must be at most
    rate * PROMISE_S + 1. A slow rate is one connection in each 1 / rate seconds, which keeps it by itself.
    """
    window = PROMISE_S + LATE_S
    choices = [(1, 1 / rate)]
    for windows in WINDOWS:
        limit = math.floor((rate * PROMISE_S + 1) / windows)
        if limit:
            choices.append((limit, max(window / windows, limit / rate)))
    return max(choices, key=lambda choice: choice[0] / (choice[1] + MIN_POLL_S))


def rest(rate: float, network_rate: float) -> float:
    """Seconds after which a pace need not know what an earlier one has let through: no promise reaches further back."""
    return max(PROMISE_S + LATE_S, 1 / _positive("rate", rate), 1 / _positive("network rate", network_rate))


def network_of(ip: str) -> str | bytes:
    """The network whose rate an address counts against: its IPv4 /24 or IPv6 /48."""
    return socket.inet_pton(socket.AF_INET6, ip)[:6] if ":" in ip else ip[: ip.rindex(".")]


Turn = Callable[[bool], None]
"""Called once: with True when the connection may be opened, with False when it must not be any more."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several processes has of a pace: whole networks, and as large a part of the rate.

    The processes' admissions add up to those of one process that had all, in every window: each lets through `count` of
    the `of` connections of a period, and a network belongs to one of them alone.

    Attributes:
        first, count, of: networks are spread over `of` lots, of which this share has `count` from `first` on.
        senders: connections at once.
    """

    first: int
    count: int
    of: int
    senders: int

    @property
    def whole(self) -> bool:
        """Whether there is no other share."""
        return self.count == self.of

    def has(self, ip: str) -> bool:
        """Whether the network of an address belongs to this share."""
        network = network_of(ip)
        lot = zlib.crc32(network if isinstance(network, bytes) else network.encode()) % self.of
        return self.first <= lot < self.first + self.count


def shares(rate: float, senders: int, n: int) -> list[Share]:
    """At most `n` shares of a pace, about equal: fewer where a period lets fewer connections through."""
    lots = _budget(_positive("rate", rate))[0]
    n = max(1, min(n, lots, senders))
    cuts = [(i * lots // n, i * senders // n) for i in range(n + 1)]
    return [Share(a, b - a, lots, d - c) for (a, c), (b, d) in pairwise(cuts)]


class Senders:
    """So many at once, first come first served: what a semaphore is, where taking a free one costs no coroutine."""

    def __init__(self, n: int) -> None:
        self._free = n
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Have a sender, if one is free."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    async def acquire(self) -> None:
        """Have a sender as soon as one is free."""
        while not self.take():
            freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(freed)
            try:
                await freed
            except asyncio.CancelledError:
                self._tell()  # it may have been told already
                raise

    def release(self) -> None:
        """Give a sender back."""
        self._free += 1
        if self._waiting:
            self._tell()

    def _tell(self) -> None:
        while self._waiting and self._free > 0:
            freed = self._waiting.popleft()
            if not freed.done():
                return freed.set_result(None)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *problem: object) -> None:
        self.release()


@dataclass(slots=True)
class _Network:
    """A network somebody waits for or that was asked less than 1 / network_rate ago; all others are forgotten."""

    waiting: deque[asyncio.Future[None] | Turn] = field(default_factory=deque)
    rests: bool = False


class Pace:
    """Admission of new connections: `rate` a second over all, `network_rate` to one network, `senders` at once.

    `rate` and `network_rate` are connections a second; a network is an IPv4 /24 or an IPv6 /48 of the address given
    (in the simulated internet, of the simulated address). Raises UsageError when one of the three is not positive.
    With a `share`, it is one of several paces in as many processes, which together are this one. Nobody is admitted
    before `not_before`, of `time.monotonic`: `rest` after an earlier pace over the same networks has ended.

    Use: `async with Pace(...) as pace`, then in each sender `async with pace.senders: await pace.admit(ip)`; or
    `queue`, which needs no task. One task waits on the throttle for all, as asyncio-throttle wakes each.
    """

    def __init__(
        self, rate: float, network_rate: float, senders: int, share: Share | None = None, *, not_before: float = 0.0
    ) -> None:
        self._share = share or shares(rate, int(_positive("senders", senders)), 1)[0]
        self.n_senders = self._share.senders
        self.senders = Senders(self.n_senders)
        self._not_before = not_before
        self._network_rest = 1 / _positive("network rate", network_rate)
        self._total = Throttler(1)
        self._spread = Throttler(1, period=SPREAD_S, retry_interval=SPREAD_S / 2)
        self._networks: dict[str | bytes, _Network] = {}
        self._ready: deque[str | bytes] = deque()
        self._resting: deque[tuple[float, str | bytes]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._idle = False
        self._dispatcher: asyncio.Task[None] | None = None
        self.rate = rate

    @property
    def rate(self) -> float:
        """Connections a second over all. Settable while running; UsageError when not positive."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = _positive("rate", rate)
        limit, self._total.period = _budget(rate)
        mine = self._share.count / self._share.of
        self._total.rate_limit = max(1, math.floor(limit * mine + _ROUNDING))
        self._total.retry_interval = min(MAX_POLL_S, max(MIN_POLL_S, self._total.period / POLLS))
        self._spread.rate_limit = math.ceil(2 * rate * mine * SPREAD_S)

    async def __aenter__(self) -> Self:
        self._dispatcher = asyncio.create_task(self._dispatch(), name="pace")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._dispatcher = self._dispatcher, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def admit(self, ip: str) -> None:
        """Return when one new connection to `ip` may be opened: first come first served within its network.

        A busy network holds up nobody else. Raises CancelledError when the pace ends first.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue(network_of(ip), turn)
        await turn

    def queue(self, ip: str, turn: Turn) -> None:
        """Call `turn` when one new connection to `ip` may be opened, or will not be. It must not raise."""
        self._queue(network_of(ip), turn)

    def withdraw(self) -> None:
        """Call off every turn that was queued, but not who waits in `admit`."""
        called_off: list[Turn] = []
        for network in self._networks.values():
            called_off += [turn for turn in network.waiting if not isinstance(turn, asyncio.Future)]
            network.waiting = deque(turn for turn in network.waiting if isinstance(turn, asyncio.Future))
        self._ready = deque(key for key in self._ready if self._networks[key].waiting)
        self._networks = {key: each for key, each in self._networks.items() if each.waiting or each.rests}
        for turn in called_off:
            turn(False)

    def _queue(self, key: str | bytes, turn: asyncio.Future[None] | Turn) -> None:
        if self._dispatcher is None or self._dispatcher.done():
            raise RuntimeError("the pace is not running")
        network = self._networks.get(key)
        if network is None:
            network = self._networks[key] = _Network()
        network.waiting.append(turn)
        if not network.rests and len(network.waiting) == 1:
            self._line_up(key)

    def _line_up(self, key: str | bytes) -> None:
        self._ready.append(key)
        if self._idle:
            self._wake.set()

    def _rested(self) -> None:
        """Networks that may be asked again line up behind the others, or are forgotten. All rest equally long."""
        self._alarm, loop = None, asyncio.get_running_loop()
        now = loop.time() + TICK_S
        while self._resting and self._resting[0][0] <= now:
            key = self._resting.popleft()[1]
            network = self._networks[key]
            network.rests = False
            if network.waiting:
                self._line_up(key)
            else:
                del self._networks[key]
        if self._resting:
            self._alarm = loop.call_at(self._resting[0][0], self._rested)

    def _rest(self, key: str | bytes, network: _Network) -> None:
        loop, network.rests = asyncio.get_running_loop(), True
        self._resting.append((loop.time() + self._network_rest, key))
        if self._alarm is None:
            self._alarm = loop.call_at(self._resting[0][0], self._rested)

    async def _dispatch(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            spread: Callable[[], Awaitable[None]] = self._spread.acquire
            total: Callable[[], Awaitable[None]] = self._total.acquire
            while True:
                while not self._ready:
                    self._wake.clear()
                    self._idle = True
                    await self._wake.wait()
                    self._idle = False
                await spread()
                await total()
                self._admit_next()
        finally:
            self._end()

    def _admit_next(self) -> None:
        """Give the turn to the first sender that still waits for the first network in line, if there is one left."""
        if not self._ready:
            return
        key = self._ready.popleft()
        network = self._networks[key]
        while network.waiting:
            turn = network.waiting.popleft()
            if not isinstance(turn, asyncio.Future):
                self._rest(key, network)
                return turn(True)
            if not turn.done():
                turn.set_result(None)
                return self._rest(key, network)
        del self._networks[key]

    def _end(self) -> None:
        """Leave no sender waiting for a turn that cannot come."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self.withdraw()
        for network in self._networks.values():
            for turn in network.waiting:
                if isinstance(turn, asyncio.Future):
                    turn.cancel()
        self._networks.clear()
        self._resting.clear()
        self._ready.clear()
