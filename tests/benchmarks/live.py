"""The servers that every client of the benchmarks is measured against: `python -m tests.benchmarks.live`.

One process answers for all of 127.0.0.0/8 as the plain Ollama hosts of the simulated internet do, from bytes made
beforehand, so that the servers cost little and the same for all. Prints its ports as JSON and serves until killed.

    open    connections stay open, as a server keeps them
    short   each is closed with the last reply a census asks for, which makes `wrk` open another
    silent  a full queue: every connect times out
    refused nobody listens
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from typing import cast

import uvloop

from census.simulate.misbehave import MISBEHAVIOURS
from census.simulate.world import Host, World

PATHS = ("/api/version", "/api/tags", "/api/ps")
"""The questions that a census asks such a host, on one connection."""

PLAYED = "ollama-0.32.15"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found"

Answers = dict[bytes, bytes]


def _answers(host: Host) -> Answers:
    found = {path: host.answer("GET", path) for path in PATHS}
    return {path.encode(): answer.wire for path, answer in found.items() if answer}


class _Server(asyncio.Protocol):
    """One connection; `most` is how many questions it answers before it closes, 0 for any number."""

    def __init__(self, hosts: list[Answers], most: int) -> None:
        self._hosts, self._most, self._n = hosts, most, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = cast(asyncio.Transport, transport)
        last = int(self._line.get_extra_info("sockname")[0].rpartition(".")[2])
        self._answers = self._hosts[last % len(self._hosts)]

    def data_received(self, data: bytes) -> None:
        self._n += 1
        self._line.write(self._answers.get(data.split(b" ", 2)[1], NOT_FOUND))
        if self._n == self._most or b"\r\nConnection: close" in data:
            self._line.close()


def bound() -> socket.socket:
    """A socket on a free port of every loopback address, which no other machine can reach."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    sock.bind(("0.0.0.0", 0))
    return sock


async def _serve() -> None:
    hosts = [_answers(host) for host in World.load().hosts if host.plays == PLAYED and not host.tls]
    ports: dict[str, int] = {}
    loop = asyncio.get_running_loop()
    with ExitStack() as held:
        for name, most in (("open", 0), ("short", len(PATHS))):
            sock = held.enter_context(bound())
            await loop.create_server(lambda most=most: _Server(hosts, most), sock=sock, backlog=4096)
            ports[name] = sock.getsockname()[1]
        for name in ("silent", "refused"):
            sock = held.enter_context(bound())
            trap = MISBEHAVIOURS[name].trap
            assert trap is not None
            for each in trap(sock):
                held.enter_context(each)
            ports[name] = sock.getsockname()[1]
        print(json.dumps(ports), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
