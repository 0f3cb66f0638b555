"""The clients in Python that the benchmarks measure, in processes of their own: `python -m tests.benchmarks.clients`.

Each asks N hosts of 127.0.0.0/8 at one port, everything needed being loaded before the clock is read, and prints JSON:
`cpu` and `wall` in seconds, `rss` in bytes at its highest, `done`, the hosts that answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from census import crew, geo, scan
from census.model import Finding
from tests.benchmarks.live import PATHS

TIMEOUT_S = 1.0
"""Connect timeout of every client, seconds: long beside loopback, short beside a benchmark."""

SENDERS = 1000


def address(index: int) -> str:
    """The index-th loopback address, from 127.1.0.0 on."""
    index += 1 << 16
    return f"127.{index >> 16}.{index >> 8 & 255}.{index & 255}"


def cpu() -> float:
    """Processor seconds of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def _measured(result: dict[str, Any]) -> Iterator[None]:
    began, clock = cpu(), time.perf_counter()
    yield
    result |= {"cpu": cpu() - began, "wall": time.perf_counter() - clock}
    result["rss"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["worker_rss"] = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


# ---- the census ------------------------------------------------------------------------------------------------------


class Watcher:
    """Counts who answered."""

    def __init__(self) -> None:
        self.done = 0

    def begin(self, run_id: str, total: int, done: object, hits: int) -> None: ...

    def finding(self, finding: Finding) -> None:
        self.done += finding.identity.server is not None

    def count(self, outcomes: object, hits: int) -> None:
        self.done += hits

    def say(self, text: str) -> None: ...


def settings_for(folder: Path, n: int) -> scan.Settings:
    """Settings of a scan of the first `n` loopback addresses, as fast as it can go."""
    listing = folder / "targets.txt"
    listing.write_text("".join(f"{address(i)}\n" for i in range(n)))
    places = folder / "places.mmdb"
    record = {"country": {"iso_code": "CH"}, "autonomous_system_number": 64496}
    geo.write_mmdb(places, [("127.0.0.0/8", record)], database_type="GeoLite2-City", description="Loopback.")
    unlimited = 10.0**6
    return scan.Settings(
        sources=(str(listing),), geo=(str(places),), allow_private=True, rate=unlimited,
        network_rate=unlimited, senders=SENDERS, connect_timeout=TIMEOUT_S,
    )  # fmt: skip


WARM = 64
"""Hosts of a first scan that is not measured: it loads what is loaded once, however many hosts there are."""


def census(n: int, port: int, workers: int = 1) -> dict[str, Any]:
    """The whole pipeline, from the target list in memory to the published run; port 11434 of each host is at `port`."""
    _scan(WARM, port, 1)
    return _scan(n, port, workers)


def _scan(n: int, port: int, workers: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        settings, watcher = settings_for(Path(name), n), Watcher()
        with scan.draft_of(settings, scan.load_targets(settings), Path(name) / "out") as draft:
            job = scan.Scan(draft, scan.Stages.load(settings.geo), watcher, lambda ip, _: (ip, port))
            with _measured(result):
                if workers == 1:
                    scan.run(job.run())
                else:
                    crew.run_with(job, workers)
                job.publish()
    return result | {"done": watcher.done}


# ---- bare aiohttp ----------------------------------------------------------------------------------------------------


def bare(n: int, port: int) -> dict[str, Any]:
    """aiohttp as its documentation shows it: one session for all, the bodies read and dropped."""
    result: dict[str, Any] = {}
    with _measured(result):
        result["done"] = asyncio.run(_bare(n, port))
    return result


async def _bare(n: int, port: int) -> int:
    todo, done = iter(range(n)), 0
    timeout = aiohttp.ClientTimeout(total=20, sock_connect=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def sender() -> None:
            nonlocal done
            for index in todo:
                with suppress(aiohttp.ClientError, TimeoutError):
                    for path in PATHS:
                        async with session.get(f"http://{address(index)}:{port}{path}") as response:
                            await response.read()
                    done += 1

        await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=("census", "aiohttp"))
    for name in ("--n", "--port"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    scan.raise_descriptor_limit(SENDERS)
    n, port = options.n, options.port
    print(json.dumps(census(n, port, options.workers) if options.client == "census" else bare(n, port)))


if __name__ == "__main__":
    main()
