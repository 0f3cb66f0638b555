"""The pace, by the times of its admissions and by what a real server on loopback counts."""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise

import pytest

from census import pace
from census.errors import UsageError
from census.pace import Pace

STALL = 0.1
"""Share of a window by which a stalled machine may bunch wake-ups; a burst each second is ten windows' worth."""


def most_within(times: list[float], window: float) -> int:
    ordered = sorted(times)
    return max(bisect_left(ordered, start + window) - index for index, start in enumerate(ordered))


def spread_out(index: int) -> str:
    """Addresses that share no /24."""
    return f"240.{index >> 8 & 255}.{index & 255}.1"


async def admissions(pace: Pace, count: int, ip_of: Callable[[int], str] = spread_out) -> list[tuple[float, str]]:
    """When each of `count` waiting senders was admitted, and to where."""
    clock = asyncio.get_running_loop().time
    seen: list[tuple[float, str]] = []

    async def send(ip: str) -> None:
        await pace.admit(ip)
        seen.append((clock(), ip))

    await asyncio.gather(*(send(ip_of(index)) for index in range(count)))
    return seen


async def timed(rate: float, count: int) -> list[float]:
    async with Pace(rate, 1000, 10) as running:
        return [time for time, _ in await admissions(running, count)]


@pytest.mark.parametrize(("rate", "count"), [(20, 12), (70, 50), (505, 400), (4000, 3000)])
def test_the_rate_is_kept_in_every_window_and_used(rate: float, count: int) -> None:
    times = asyncio.run(timed(rate, count))
    assert most_within(times, 0.1) <= (0.1 * rate + 1) * (1 + STALL)
    assert most_within(times, 1.0) <= (rate + 1) * (1 + STALL)
    took = max(times) - min(times)
    assert took >= (count - 1) / rate * (1 - STALL)
    assert took <= count / rate * 3 + 1


def test_admissions_are_spread_within_50_ms() -> None:
    times = asyncio.run(timed(1000, 1000))
    assert most_within(times, 0.05) <= 50 * 1.5
    assert most_within(times, 0.01) <= 50 * 0.8


@pytest.mark.parametrize("rate", [0.5, 1, 9.9, 10, 19, 29.9, 30, 70, 100, 333, 500, 505, 2999, 5003, 50_000])
def test_the_throttle_of_any_rate_keeps_the_promise_and_loses_little(rate: float) -> None:
    limit, period = pace._budget(rate)
    assert limit >= 1 and limit / period <= rate * 1.000001
    assert limit / period >= rate * 0.96
    assert limit * math.ceil(pace.PROMISE_S / period - 1e-9) <= rate * pace.PROMISE_S + 1
    assert limit == 1 or period <= 0.07


def test_a_busy_network_holds_up_nobody_and_keeps_its_order() -> None:
    async def run() -> list[tuple[float, str]]:
        async with Pace(2000, 20, 10) as running:
            return await admissions(
                running, 60, lambda index: f"240.0.0.{index}" if index < 10 else spread_out(index << 4)
            )

    seen = asyncio.run(run())
    busy = [(time, ip) for time, ip in seen if ip.startswith("240.0.0.")]
    assert [ip for _, ip in busy] == [f"240.0.0.{index}" for index in range(10)]
    assert all(later - earlier >= 0.045 for (earlier, _), (later, _) in pairwise(busy))
    others = [time for time, ip in seen if not ip.startswith("240.0.0.")]
    assert sorted(others)[-1] < busy[-1][0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("240.1.2.3", "240.1.2.250", True),
        ("240.1.2.3", "240.1.3.3", False),
        ("240.1.2.3", "240.1.20.3", False),
        ("2001:db8:1::1", "2001:db8:1:ffff::9", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
    ],
)
def test_a_network_is_a_slash_24_or_a_slash_48(one: str, other: str, same: bool) -> None:
    assert (pace.network_of(one) == pace.network_of(other)) is same


def test_idle_networks_are_forgotten() -> None:
    async def run() -> tuple[int, int]:
        async with Pace(5000, 1000, 10) as running:
            await admissions(running, 500)
            soon = len(running._networks)
            await asyncio.sleep(0.1)
            return soon, len(running._networks)

    soon, later = asyncio.run(run())
    assert soon < 400 and later == 0


def test_a_sender_that_gives_up_costs_its_network_nothing() -> None:
    async def run() -> tuple[bool, int]:
        async with Pace(1000, 2, 10) as running:
            await running.admit("240.0.0.1")
            waiting = [asyncio.create_task(running.admit("240.0.0.2")) for _ in range(5)]
            await asyncio.sleep(0)
            for task in waiting[:4]:
                task.cancel()
            await waiting[4]
            return waiting[0].cancelled(), len(running._networks)

    start_to_end = asyncio.run(asyncio.wait_for(run(), 1.5))
    assert start_to_end == (True, 1)


def test_the_rate_can_change_while_running() -> None:
    async def run() -> tuple[int, int]:
        async with Pace(20, 1000, 10) as running:
            seen: list[float] = []
            task = asyncio.create_task(_endless(running, seen))
            await asyncio.sleep(0.5)
            slow = len(seen)
            running.rate = 1000
            await asyncio.sleep(0.5)
            task.cancel()
            assert running.rate == 1000
            return slow, len(seen) - slow

    slow, fast = asyncio.run(run())
    assert 1 <= slow <= 12 and fast >= 50


async def _endless(running: Pace, seen: list[float]) -> None:
    clock = asyncio.get_running_loop().time
    index = 0
    while True:
        await running.admit(spread_out(index))
        seen.append(clock())
        index += 1


def test_the_end_leaves_nobody_waiting() -> None:
    async def run() -> list[bool]:
        async with Pace(1, 1, 10) as running:
            waiting = [asyncio.create_task(running.admit(spread_out(index))) for index in range(4)]
            await asyncio.sleep(0.05)
        await asyncio.wait(waiting, timeout=1)
        with pytest.raises(RuntimeError, match="not running"):
            await running.admit("240.0.0.1")
        return [task.cancelled() for task in waiting]

    assert asyncio.run(run()) == [False, True, True, True]


def test_a_fault_in_the_dispatcher_ends_the_wait_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Pace) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async with Pace(100, 1, 10) as running:
            with pytest.raises(asyncio.CancelledError):
                await running.admit("240.0.0.1")

    monkeypatch.setattr(Pace, "_admit_next", broken)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(run(), 5))


def test_nobody_is_admitted_before_the_time_named_and_who_is_called_off_hears_at_once() -> None:
    async def run() -> tuple[float, list[bool]]:
        called: list[bool] = []
        begin = time.monotonic() + 0.2
        async with Pace(1000, 1000, 10, not_before=begin) as running:
            running.queue("240.0.1.1", called.append)
            running.withdraw()
            await running.admit("240.0.0.1")
            return time.monotonic() - begin, called

    late, called = asyncio.run(asyncio.wait_for(run(), 5))
    assert late >= 0 and called == [False]


@pytest.mark.parametrize("limits", [(500, 20), (0.5, 20), (500, 0.1), (9.9, 1e6)])
def test_after_a_rest_an_earlier_pace_may_be_forgotten(limits: tuple[float, float]) -> None:
    rate, network_rate = limits
    budget = pace._budget(rate)
    assert pace.rest(rate, network_rate) >= max(pace.PROMISE_S, 1 / rate, 1 / network_rate, budget[1])


@pytest.mark.parametrize("limits", [(0, 1, 1), (-1, 1, 1), (1, 0, 1), (1, 1, 0), (math.inf, 1, 1), (math.nan, 1, 1)])
def test_limits_are_positive(limits: tuple[float, float, int]) -> None:
    with pytest.raises(UsageError, match="must be a positive number"):
        Pace(*limits)


def test_a_server_counts_no_more_connections_than_were_promised() -> None:
    """200 connections from 50 senders to a real server: the rate in its own clock, and never more than the senders."""
    times, most_open = asyncio.run(_counted(rate=400, senders=5, count=200))
    assert len(times) == 200
    assert most_within(times, 0.1) <= 41 * (1 + 2 * STALL)
    assert max(times) - min(times) >= 199 / 400 * (1 - STALL)
    assert most_open <= 5


async def _counted(rate: float, senders: int, count: int) -> tuple[list[float], int]:
    clock = asyncio.get_running_loop().time
    times: list[float] = []
    in_flight = most = 0
    all_seen = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(clock())
        if len(times) == count:
            all_seen.set()
        await reader.read()
        writer.close()

    async def send(running: Pace, index: int) -> None:
        nonlocal in_flight, most
        async with running.senders:
            in_flight += 1
            most = max(most, in_flight)
            await running.admit(spread_out(index))
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            in_flight -= 1

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, Pace(rate, 1000, senders) as running:
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(send(running, index) for index in range(count)))
        await asyncio.wait_for(all_seen.wait(), 5)
    return times, most
