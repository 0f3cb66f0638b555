"""One census of the zoo with every request on record: what hosts do to a census, and what it does to them."""

from __future__ import annotations

import asyncio
import fcntl
import pickle
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from census import crew, probe, query, resources, scan
from census.model import Conversation
from census.simulate import Host, Internet, Request, World
from tests.conftest import Silent, simulated_settings
from tests.exactly_once import internet, requests_of, scenario

ZOO = resources.data("simulate", "zoo.toml")

TIMEOUTS = {"connect_timeout": 3.0, "read_timeout": 6.0, "target_timeout": 12.0}
"""Seconds: long beside what an ordinary host needs on a busy machine, short beside an attack."""

RATE = 100.0
"""Connections a second, slow enough that a burst shows."""

CONTACT = "mailto:me@example.org"


@dataclass
class Visit:
    """A census with its record: folders, who lived there, requests received, seconds of each conversation."""

    out: Path
    run: Path
    world: World
    requests: tuple[Request, ...]
    seconds: dict[str, float]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query over the run."""
        with query.connect(self.out) as connection:
            return query.run_sql(connection, sql).to_pylist()

    @cached_property
    def heard(self) -> dict[tuple[str, int], list[Request]]:
        """The requests of each endpoint, in the order in which they came."""
        found: dict[tuple[str, int], list[Request]] = defaultdict(list)
        for request in self.requests:
            found[request.ip, request.port].append(request)
        return found


WINDOW_S = 0.1
SLACK = 3
"""Connections more than the rate allows in one window: a request is read a little after its connection was admitted,
so that some of one window may be read in the next. A burst of a period's share would be ten."""


def most_in_a_window(moments: Iterable[float]) -> int:
    """The most of these moments that lie in any WINDOW_S seconds."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, start + WINDOW_S) - i for i, start in enumerate(ordered))


def most_questions() -> int:
    """The most questions that any one endpoint can get, as the plan has it."""
    stages = scan.Stages.load()
    return max(stages.rules.worst_case().values()) + len(stages.suspicions.questions())


def ordinary(host: Host) -> bool:
    """Whether a host of the zoo is no animal."""
    return host.group.startswith("Ordinary hosts")


def shunned(world: World) -> list[str]:
    """Addresses of two ordinary hosts, which the census of the zoo must not ask."""
    return [host.ip for host in world.hosts if host.group == "Ordinary hosts"][:2]


def crowd(folder: Path) -> World:
    """The zoo, and the default scenario in small."""
    zoo, small = World.load(ZOO), World.load(scenario(folder, 0.05))
    known = {host.ip for host in zoo.hosts}
    return replace(zoo, hosts=(*zoo.hosts, *(host for host in small.hosts if host.ip not in known)))


def pay(world: World, folder: Path, watcher: Silent | None = None, **options: object) -> Visit:
    """A census of `world`."""
    settings = simulated_settings(world, folder, contact=CONTACT, **{**TIMEOUTS, **options})
    stages = scan.Stages.load(settings.geo, simulated=True)
    seconds: dict[str, float] = {}
    told = probe.Talk.told

    def timed(self: probe.Talk) -> Conversation:
        seconds[self.target.endpoint] = time.monotonic() - self.began
        return told(self)

    async def census(draft: scan.Draft) -> tuple[scan.Scan, list[Request]]:
        async with Internet(world, log=True) as internet:
            job = scan.Scan(draft, stages, watcher or Silent(), internet.route)
            await job.run()
        return job, internet.requests

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe.Talk, "told", timed)
        with scan.draft_of(settings, scan.load_targets(settings), folder / "out") as draft:
            job, requests = asyncio.run(census(draft))
            run = job.publish()
    return Visit(folder / "out", run, world, tuple(requests), seconds)


QUICK_ANIMALS = (
    "redirect-away",
    "redirect-loop",
    "catch-all",
    "many-models",
    "changes-between-questions",
    "basic-auth",
)
"""What one sees in the zoo without waiting for anybody."""


def pay_by_several(world: World, folder: Path, watcher: Silent | None = None, **options: object) -> Visit:
    """As `pay`, by two processes, of an internet in a third. Nobody measures single conversations."""
    settings = simulated_settings(world, folder, contact=CONTACT, **{**TIMEOUTS, **options})
    stages, log = scan.Stages.load(settings.geo, simulated=True), folder / "requests.json"
    with internet(world, log) as atlas, scan.draft_of(settings, scan.load_targets(settings), folder / "out") as draft:
        job = scan.Scan(draft, stages, watcher or Silent(), atlas)
        crew.run_with(job, 2)
        run = job.publish()
    return Visit(folder / "out", run, world, tuple(requests_of(log)), {})


def short_visit(folder: Path) -> Visit:
    """A census by two processes: ordinary hosts, animals that keep nobody waiting, the default scenario in small."""
    everybody = crowd(folder)
    hosts = [host for host in everybody.hosts if host.part is not None or host.plays in QUICK_ANIMALS]
    world = replace(everybody, hosts=tuple(hosts))
    return pay_by_several(world, folder, rate=RATE, network_rate=1000.0, blocklists=(shunning(world, folder),))


def shunning(world: World, folder: Path) -> str:
    """A blocklist of those who asked not to be asked."""
    path = folder / "blocklist.txt"
    path.write_text("".join(f"{ip}  # asked us not to\n" for ip in shunned(world)), encoding="utf-8")
    return str(path)


def zoo_visit(shared: Path) -> Visit:
    """The census of the zoo, made by the first process that wants it and read by the others."""
    with (shared / "zoo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared / "zoo.pickle"
        if not kept.exists():
            folder = shared / "zoo"
            folder.mkdir()
            world = crowd(folder)
            found = pay(world, folder, rate=RATE, network_rate=1000.0, blocklists=(shunning(world, folder),))
            kept.write_bytes(pickle.dumps((found.out, found.run, found.requests, found.seconds)))
        out, run, requests, seconds = pickle.loads(kept.read_bytes())
    return Visit(out, run, crowd(shared / "zoo"), requests, seconds)
