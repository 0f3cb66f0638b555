"""Fixtures that many tests share: one census of the simulated internet, run once a session."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from census import scan, wire
from census.model import Finding
from census.simulate import Internet, World

hypothesis.settings.register_profile("census", deadline=None)  # a busy machine is slow, and proves nothing
hypothesis.settings.load_profile("census")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches beyond this machine, whatever it asks for."""
    connect, dial = socket.socket.connect, wire.Dial.__init__

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _require_loopback(address[0])
        connect(self, address)

    def dialled(self: wire.Dial, sockets: wire.Sockets, address: tuple[str, int], *rest: Any) -> None:
        _require_loopback(address[0])
        dial(self, sockets, address, *rest)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(wire.Dial, "__init__", dialled)


def _require_loopback(ip: str) -> None:
    if not ipaddress.ip_address(ip).is_loopback:
        raise AssertionError(f"a test tried to reach {ip}")


QUICK = {"connect_timeout": 1.0, "read_timeout": 1.5, "target_timeout": 3.0}
"""Timeouts in seconds for hosts on loopback: long beside an answer, short beside a silent host."""


@dataclass
class Silent:
    """A watcher that remembers instead of printing."""

    lines: list[str] = field(default_factory=list)
    findings: int = 0
    stop_after: int | None = None
    job: scan.Scan | None = None

    def begin(self, run_id: str, total: int, done: Counter[str], hits: int) -> None:
        self.lines.append(f"{run_id} {total} {sum(done.values())}")

    def finding(self, finding: Finding) -> None:
        self.findings += 1
        if self.job is not None and self.findings == self.stop_after:
            self.job.stop()

    def count(self, outcomes: Mapping[str, int], hits: int) -> None:
        self.findings += sum(outcomes.values())

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass(frozen=True)
class Census:
    """A finished census of a world: its output folder, the folder of the run, and who lived there."""

    out: Path
    run: Path
    world: World


def simulated_settings(world: World, folder: Path, **options: object) -> scan.Settings:
    """Settings of a scan of a simulated internet, with its target list and geolocation database in `folder`."""
    listing = folder / "targets.txt"
    listing.write_text("\n".join(world.targets()) + "\n", encoding="utf-8")
    places = world.write_geo(folder / "places.mmdb")
    values = {"sources": (str(listing),), "geo": (str(places),), "simulated": True, **QUICK, **options}
    return scan.Settings(**values)  # type: ignore[arg-type]


async def take(draft: scan.Draft, world: World, watcher: Silent) -> scan.Scan:
    """Scan a world into a draft."""
    settings = scan.Settings.from_json(draft.plan["settings"])
    stages = scan.Stages.load(settings.geo, simulated=True)
    async with Internet(world) as internet:
        job = watcher.job = scan.Scan(draft, stages, watcher, internet.route)
        await job.run()
    return job


@pytest.fixture(scope="session")
def census_of_the_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Census]:
    """The default simulated internet, scanned once."""
    folder = tmp_path_factory.mktemp("census")
    world = World.load()
    settings = simulated_settings(world, folder)
    with scan.draft_of(settings, scan.load_targets(settings), folder / "out") as draft:
        run = asyncio.run(take(draft, world, Silent())).publish()
    yield Census(folder / "out", run, world)


@pytest.fixture(scope="session")
def visit(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Any:
    """A census of the zoo with its requests (`visits.Visit`), made once for all workers."""
    from tests.visits import zoo_visit

    base = tmp_path_factory.getbasetemp()
    return zoo_visit(base if worker_id == "master" else base.parent)
