"""The simulated internet's sockets: every host of a world answers on loopback.

Each simulated address has its own address of 127.0.0.0/8, and the ports there are a few for all: one where connections
are accepted, one that accepts them for TLS, and one for each way of accepting none. So the number of descriptors does
not grow with the number of hosts. The listeners are tied to the loopback device: no other machine can reach them.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import resource
import socket
import ssl
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, SupportsIndex, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from census.errors import CensusError
from census.simulate.misbehave import CONTEXTS, MISBEHAVIOURS, Talk, server_context
from census.simulate.world import Host, World

FIRST_ADDRESS: Final = int(ipaddress.IPv4Address("127.1.0.0"))
"""Loopback address of the first host; the others follow. 127.0.0.1 stays with the rest of the machine."""

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: Linux's default cap."""

MAX_REQUEST_BYTES: Final = 64 * 1024
"""Bytes of one request; whoever sends more is cut off."""

DESCRIPTORS: Final = 16_384
"""Open files to raise the soft limit to, where the hard limit allows: both ends of a connection are in this process."""

CERTIFICATE_DAYS: Final = 398
"""How long a simulated certificate is valid: the longest that public authorities issue."""

_HANDSHAKE: Final = 0x16
"""First byte of a TLS client's greeting (RFC 8446, 5.1)."""

PLAIN_ON_TLS: Final = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
"""What a TLS server written in Go answers to plain HTTP (net/http, server.go)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a host received.

    Attributes:
        ip, port: the simulated address. line: `GET /api/tags HTTP/1.1`. head: all header lines, CRLF between them.
        at: seconds on the clock of `time.monotonic`.
    """

    ip: str
    port: int
    line: str
    head: str
    at: float


class Atlas:
    """Where on loopback the hosts of a world are: call it with a simulated address and port.

    `doors` are the ports of the `Internet` that has the sockets, which may be of another process: the rest follows from
    the world. Raises KeyError for an address where no host of this world is.
    """

    def __init__(self, world: World, doors: Mapping[str, int]) -> None:
        self.world, self._doors = world, doors
        self._index = {(host.ip, host.port): index for index, host in enumerate(world.hosts)}

    def __call__(self, ip: str, port: int) -> tuple[str, int]:
        index = self._index[ip, port]
        host = self.world.hosts[index]
        wrong = host.misbehaviour
        door = "tls" if host.tls else host.plays if wrong and wrong.trap else "open"
        return str(ipaddress.IPv4Address(FIRST_ADDRESS + index)), self._doors[door]


class Internet:
    """The sockets of a world, open from entering the context to leaving it.

    Args:
        log: keep every request in `requests`.

    Attributes:
        doors: port of each way of being called, once the sockets are open. route: where each host is; see `Atlas`.

    Raises CensusError on entering where the system does not let a program have all of 127.0.0.0/8 (only Linux does).
    """

    def __init__(self, world: World, *, log: bool = False) -> None:
        self.world = world
        self.requests: list[Request] = []
        self.log = log
        self.doors: dict[str, int] = {}
        self.route = Atlas(world, self.doors)
        self._contexts: dict[int, ssl.SSLContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.Transport] = set()
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Internet:
        _raise_descriptor_limit()
        try:
            async with contextlib.AsyncExitStack() as opening:
                await self._listen(opening)
                self._open = opening.pop_all()
        except OSError as problem:
            raise CensusError(
                f"the simulated internet cannot have the addresses of 127.0.0.0/8 ({problem}); "
                "it needs Linux 5.7 or newer, or root on an older one"
            ) from problem
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def _listen(self, opening: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        opening.push_async_callback(self._hang_up)
        for name, wrong in MISBEHAVIOURS.items():
            if wrong.trap:
                bound = opening.enter_context(_bound())
                self.doors[name] = bound.getsockname()[1]
                for held in wrong.trap(bound):
                    opening.enter_context(held)
        plain = opening.enter_context(_bound())
        server = await loop.create_server(lambda: _Door(self), sock=plain, backlog=BACKLOG)
        opening.callback(server.close)
        self.doors["open"] = plain.getsockname()[1]
        await self._listen_tls(opening)

    async def _listen_tls(self, opening: contextlib.AsyncExitStack) -> None:
        secure = opening.enter_context(_bound())
        secure.listen(BACKLOG)
        secure.setblocking(False)
        self.doors["tls"] = secure.getsockname()[1]
        self._contexts = {index: _context(host) for index, host in enumerate(self.world.hosts) if host.tls}
        self._start(self._accept_tls(secure))

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets
        await asyncio.sleep(0)

    # -- What the connections need

    def host_at(self, sockname: tuple[str, int]) -> Host | None:
        """The host whose loopback address was called, or None."""
        index = int(ipaddress.IPv4Address(sockname[0])) - FIRST_ADDRESS
        return self.world.hosts[index] if 0 <= index < len(self.world.hosts) else None

    def heard(self, host: Host, head: bytes) -> None:
        """Keep a request."""
        line, _, rest = head.decode("latin-1").partition("\r\n")
        self.requests.append(Request(host.ip, host.port, line, rest, time.monotonic()))

    def opened(self, transport: asyncio.Transport) -> None:
        """Remember a connection, to close it in the end."""
        self._transports.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._transports.discard(transport)

    def talk(self, talk: Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let a misbehaviour have a connection."""
        self.opened(cast(asyncio.Transport, writer.transport))
        self._start(self._talked(talk, reader, writer))

    async def _talked(self, talk: Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass  # the client has seen enough
        finally:
            self.closed(cast(asyncio.Transport, writer.transport))
            writer.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- TLS

    async def _accept_tls(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._start(self._greet(connection))

    async def _greet(self, connection: socket.socket) -> None:
        """TLS for whoever begins with its greeting; others get what a Go server tells them."""
        loop = asyncio.get_running_loop()
        index = int(ipaddress.IPv4Address(connection.getsockname()[0])) - FIRST_ADDRESS
        with contextlib.ExitStack() as closing:
            closing.enter_context(connection)
            first = await _peek(connection)
            context = self._contexts.get(index)
            if first and first[0] == _HANDSHAKE and context:
                with contextlib.suppress(OSError):
                    await loop.connect_accepted_socket(lambda: _Door(self), connection, ssl=context)
                    closing.pop_all()
            elif first:
                with contextlib.suppress(OSError):
                    await loop.sock_recv(connection, MAX_REQUEST_BYTES)  # closing with unread bytes would reset
                    await loop.sock_sendall(connection, PLAIN_ON_TLS)


class _Door(asyncio.Protocol):
    """Every accepted connection comes in here and is handed to what its host plays."""

    def __init__(self, internet: Internet) -> None:
        self._internet = internet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        line = cast(asyncio.Transport, transport)
        host = self._internet.host_at(line.get_extra_info("sockname"))
        if host is None:
            line.abort()
            return
        wrong = host.misbehaviour
        inside = _Player(self._internet, host) if wrong is None else _talking(self._internet, host, wrong.talk)
        line.set_protocol(inside)
        inside.connection_made(line)


def _talking(internet: Internet, host: Host, talk: Talk | None) -> asyncio.StreamReaderProtocol:
    assert talk is not None  # what has none is never accepted
    reader = _Ear(internet, host) if internet.log else asyncio.StreamReader(limit=MAX_REQUEST_BYTES)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        internet.talk(talk, reader, writer)

    return asyncio.StreamReaderProtocol(reader, connected)


class _Ear(asyncio.StreamReader):
    """A reader that also writes down the requests in what it reads."""

    def __init__(self, internet: Internet, host: Host) -> None:
        super().__init__(limit=MAX_REQUEST_BYTES)
        self._heard, self._host, self._requests = internet.heard, host, _Requests()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        for head in self._requests.feed(bytes(data)):
            self._heard(self._host, head)
        super().feed_data(data)


class _Requests:
    """Cuts a stream of bytes into request heads."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The heads that are complete now, without their empty line; bodies are skipped."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            after = end + 4 + _body_length(head)
            if len(self._buffer) < after:
                return
            self._buffer = self._buffer[after:]
            yield head

    def __len__(self) -> int:
        return len(self._buffer)


def _body_length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    value = head[at + 17 :].split(b"\r\n", 1)[0].strip() if at >= 0 else b"0"
    return min(int(value), MAX_REQUEST_BYTES) if value.isdigit() else 0


class _Player(asyncio.Protocol):
    """One connection to a host that plays an example."""

    __slots__ = ("_host", "_internet", "_requests", "_transport")

    def __init__(self, internet: Internet, host: Host) -> None:
        self._internet, self._host = internet, host
        self._requests = _Requests()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._internet.opened(self._transport)

    def connection_lost(self, problem: Exception | None) -> None:
        self._internet.closed(self._transport)

    def data_received(self, data: bytes) -> None:
        for head in self._requests.feed(data):
            if not self._answer(head):
                self._transport.close()
                return
        if len(self._requests) > MAX_REQUEST_BYTES:
            self._transport.abort()

    def _answer(self, head: bytes) -> bool:
        """Answer one request; False when the connection ends with it."""
        if self._internet.log:
            self._internet.heard(self._host, head)
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        answer = self._host.answer(words[0], words[1]) if len(words) == 3 else None
        if answer is None:
            return False
        self._transport.write(answer.wire)
        return not answer.closes and b"\r\nconnection: close" not in head.lower()


# --- Sockets and certificates ----------------------------------------------------------------------------------------


def _bound() -> socket.socket:
    """A socket bound to a free port of every loopback address, and to the loopback device."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_BINDTODEVICE", -1), b"lo")
        bound.bind(("0.0.0.0", 0))
    except OSError:
        bound.close()
        raise
    return bound


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _peek(connection: socket.socket) -> bytes:
    """The first byte that comes, left where it is; empty when the client leaves without one."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(connection)
    with contextlib.suppress(OSError):
        return connection.recv(1, socket.MSG_PEEK)
    return b""


def _context(host: Host) -> ssl.SSLContext:
    """A TLS server context with a new self-signed certificate for a host, or the one that its misbehaviour brings."""
    if host.misbehaviour and host.plays in CONTEXTS:
        return CONTEXTS[host.plays]()
    key = ec.generate_private_key(ec.SECP256R1())
    return server_context(key, _certificate(host, key))


def _certificate(host: Host, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host.ip)])
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host.ip))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=CERTIFICATE_DAYS))
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
