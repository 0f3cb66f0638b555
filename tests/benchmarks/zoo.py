"""`make zoo`: meets every animal of `data/simulate/zoo.toml` alone, and writes what it cost into docs/robustness.md.

The animals live in a process of their own, so that what is measured is the census. What a conversation needs in memory
is what Python allocated for it (tracemalloc); conclusions are drawn after it, and only their time is measured.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from census import probe, scan, wire
from census.identify import Reading
from census.model import Conversation, Outcome, Target
from census.simulate import Atlas, Host, World
from census.simulate.misbehave import HOSTILE_NAMES
from tests.exactly_once import internet
from tests.robustness import write_section
from tests.visits import ZOO, ordinary

LIMITS = probe.Limits(connect_timeout=1.0, read_timeout=2.0, target_timeout=4.0)

GRACE_S = 6.0
"""Seconds that a conversation may end after its time on a busy machine."""

MEMORY_MB = 32
"""Most memory of one conversation: the answers of one target, read, decoded and taken apart."""

FRAMES = wire.READ_BYTES
"""Bytes that were on their way when a reader had enough."""


RACES = {"answers-unasked": {Outcome.PROTOCOL_ERROR, Outcome.SUCCESS}}
"""Whether an answer was there before the question, which another process sends, is for the cores to decide."""


@dataclass(frozen=True)
class Meeting:
    """One animal and what it cost: seconds, bytes read, bytes of memory at most, seconds of CPU to conclude."""

    host: Host
    outcome: Outcome
    seconds: float
    read: int
    memory: int
    concluded: float

    def wrong(self, limits: probe.Limits) -> Iterator[str]:
        """What is out of bounds."""
        if self.seconds > limits.target_timeout + GRACE_S:
            yield f"{self.host.plays}: {self.seconds:.1f} s"
        if self.read > limits.max_target_bytes + FRAMES:
            yield f"{self.host.plays}: {self.read:,} bytes read"
        if self.memory > MEMORY_MB << 20:
            yield f"{self.host.plays}: {self.memory / (1 << 20):.0f} MB of memory"
        if self.outcome not in RACES.get(self.host.plays, {self.host.truth.outcome}):
            yield f"{self.host.plays}: {self.outcome}"


def animals(world: World) -> list[Host]:
    """One host of each kind that is no ordinary one."""
    return list({host.plays: host for host in world.hosts if not ordinary(host)}.values())


def meet(host: Host, atlas: Atlas, stages: scan.Stages, limits: probe.Limits, *, conclude: bool = True) -> Meeting:
    """One conversation, and nothing beside it."""
    read, reading = 0, Reading(stages.rules)
    receive = wire.Wire.data_received

    def counted(self: wire.Wire, data: bytes) -> None:
        nonlocal read
        read += len(data)
        receive(self, data)

    async def talk() -> Conversation:
        prober = probe.Prober(stages.questions, limits=limits, user_agent="census-zoo", route=atlas)
        return await prober.converse(Target(host.ip, host.port), stages.suspicions.plan(reading))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire.Wire, "data_received", counted)
        tracemalloc.start()
        start = time.monotonic()
        told = asyncio.run(talk())
        seconds = time.monotonic() - start
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    start = time.process_time()
    if conclude:
        stages.conclude(told, reading)
    return Meeting(host, told.outcome, seconds, read, memory, time.process_time() - start)


def table(meetings: list[Meeting]) -> list[str]:
    """The section of docs/robustness.md."""
    rows = [
        f"| `{each.host.plays}` | {_about(each.host)} | {each.outcome} | {each.seconds:.1f} | {each.read / 1000:,.0f} "
        f"| {each.memory / 1e6:.1f} | {1000 * each.concluded:,.0f} |"
        for each in meetings
    ]
    limits = (
        f"Each host alone, with {LIMITS.connect_timeout:g} s to connect, {LIMITS.read_timeout:g} s for an answer and "
        f"{LIMITS.target_timeout:g} s in all; at most {LIMITS.max_body >> 20} MB are kept of an answer and "
        f"{LIMITS.max_target_bytes >> 20} MB read from a host. A megabyte of memory here is what Python allocated."
    )
    names = f"The models of the first host have names that attack: {', '.join(HOSTILE_NAMES)}."
    head = [
        "| plays | what it does | outcome | s | kB read | MB of memory | CPU ms to conclude |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    return [limits, "", *head, *rows, "", names]


def _about(host: Host) -> str:
    return host.misbehaviour.about if host.misbehaviour else f"{host.group}."


def main() -> None:
    """Run, print, write; exit code 1 when an animal was out of bounds or is filed under another outcome."""
    world, stages = World.load(ZOO), scan.Stages.load(simulated=True)
    with tempfile.TemporaryDirectory(prefix="census-zoo-") as folder, internet(world, Path(folder, "log")) as atlas:
        meetings = [meet(host, atlas, stages, LIMITS) for host in animals(world)]
    lines = table(meetings)
    print("\n".join(lines))
    if wrong := [words for each in meetings for words in each.wrong(LIMITS)]:
        raise SystemExit("\n".join(wrong))
    write_section("zoo", lines)


if __name__ == "__main__":
    main()
