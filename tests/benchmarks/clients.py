"""The clients in Python that the benchmarks measure, in processes of their own: `python -m tests.benchmarks.clients`.

Each asks N hosts of 127.0.0.0/8 at one port, everything needed being loaded before the clock is read, and prints JSON:
`cpu` and `wall` in seconds, `rss`, the most bytes resident from reading the targets on, and `done`, the hosts that
answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import select
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
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


_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _peak() -> int:
    """Highest resident set in bytes since `_forget_peak`. What getrusage calls so begins with that of the parent."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def _forget_peak() -> None:
    _REFERENCES.write_text("5")  # proc(5)


@contextmanager
def _measured(result: dict[str, Any]) -> Iterator[None]:
    began, clock = cpu(), time.perf_counter()
    yield
    result |= {"cpu": cpu() - began, "wall": time.perf_counter() - clock}
    result["rss"] = _peak()
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
    with listing.open("w") as file:
        file.writelines(f"{address(i)}\n" for i in range(n))
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
        _forget_peak()
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


# ---- the floor -------------------------------------------------------------------------------------------------------

_REQUESTS = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n".encode() for path in PATHS]


class Floor:
    """System calls from Python and nothing else: no parsing, no rules, no rows; what no client in Python undercuts."""

    def __init__(self, port: int) -> None:
        self._port, self._epoll, self.done = port, select.epoll(), 0
        self._open: dict[int, tuple[socket.socket, Iterator[bytes]]] = {}
        self._late: deque[tuple[float, socket.socket]] = deque()

    def ask(self, n: int) -> None:
        """Ask the first `n` hosts, SENDERS at a time."""
        todo = iter(range(n))
        while True:
            for index in islice(todo, SENDERS - len(self._open)):
                self._connect(address(index))
            if not self._open:
                return
            for number, _ in self._epoll.poll(0.1):
                self._go_on(number)
            self._give_up()

    def _connect(self, ip: str) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex((ip, self._port))
        self._epoll.register(sock.fileno(), select.EPOLLOUT)
        self._open[sock.fileno()] = sock, iter(_REQUESTS)
        self._late.append((time.monotonic() + TIMEOUT_S, sock))

    def _go_on(self, number: int) -> None:
        sock, requests = self._open[number]
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return self._close(number)
        with suppress(BlockingIOError):
            sock.recv(1 << 16)
        if (request := next(requests, None)) is None:
            self.done += 1
            return self._close(number)
        if request is _REQUESTS[0]:
            self._epoll.modify(number, select.EPOLLIN)
        sock.send(request)

    def _give_up(self) -> None:
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            if (number := self._late.popleft()[1].fileno()) >= 0:
                self._close(number)

    def _close(self, number: int) -> None:
        self._open.pop(number)[0].close()


def floor(n: int, port: int) -> dict[str, Any]:
    """The same connections, questions and ends, by system calls alone."""
    result: dict[str, Any] = {}
    client = Floor(port)
    with _measured(result):
        client.ask(n)
    return result | {"done": client.done}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=tuple(_CLIENTS))
    for name in ("--n", "--port"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    scan.raise_descriptor_limit(SENDERS)
    print(json.dumps(_CLIENTS[options.client](options.n, options.port, options.workers)))


_CLIENTS: dict[str, Callable[[int, int, int], dict[str, Any]]] = {
    "census": census,
    "aiohttp": lambda n, port, _: bare(n, port),
    "floor": lambda n, port, _: floor(n, port),
}


if __name__ == "__main__":
    main()
