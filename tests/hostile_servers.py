"""Small servers on loopback, each with one named way of behaving. What is written here is what is on the wire.

A behaviour is a coroutine function of one `Peer`, called for every connection; when it returns, the connection closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DRIP = 0.02
"""Seconds between the bytes of a slow server: a second, scaled down like the timeouts of the tests."""


@dataclass
class Log:
    """What one server saw: the address it listens on, every request head, and how many connections were made."""

    address: tuple[str, int] = ("", 0)
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def asked(self) -> list[str]:
        """`GET /path` of each request."""
        return [b" ".join(head.split(b" ", 2)[:2]).decode() for head in self.requests]


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: Log) -> None:
        self._reader, self._writer, self._log = reader, writer, log
        self.number = log.connections

    async def request(self) -> str:
        """The next request's `GET /path`, or "" when the client has gone."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""
        self._log.requests.append(head)
        return self._log.asked[-1]

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        await self.send(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def gone(self) -> None:
        """Waits until the client hangs up."""
        with contextlib.suppress(ConnectionError):
            await self._reader.read()

    def reset(self) -> None:
        """Ends with RST instead of FIN."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Behaviour = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def serve(behaviour: Behaviour, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Log]:
    """One server with that behaviour, for as long as the block lasts."""
    log, tasks = Log(), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        log.connections += 1
        log.met.set()
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
            await behaviour(Peer(reader, writer, log))
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    log.address = server.sockets[0].getsockname()[:2]
    try:
        yield log
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


@contextlib.contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """A host that drops every SYN: its queue of one connection is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()


def refusing() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address: tuple[str, int] = free.getsockname()
        return address


def self_signed(folder: Path, names: tuple[str, ...] = ("ai.example",), *, expired: bool = False) -> ssl.SSLContext:
    """A server's TLS context with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:60])])
    until = datetime.datetime(2000 if expired else 2999, 1, 1)
    alternatives = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address("192.0.2.7"))]
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime(1999, 1, 1))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return context


# ---- behaving --------------------------------------------------------------------------------------------------------


async def well_behaved(peer: Peer) -> None:
    """Answers every question with its own path, on one connection."""
    while asked := await peer.request():
        await peer.reply(b"" if asked.startswith("HEAD") else asked.encode())


async def http_1_0(peer: Peer) -> None:
    """Python's http.server: HTTP/1.0, an odd case, an empty reason, and a farewell after each reply."""
    asked = await peer.request()
    await peer.send(b"HTTP/1.0 200 \r\nServer: BaseHTTP/0.6\r\nContent-type: text/plain\r\n\r\n" + asked.encode())


async def closes_politely(peer: Peer) -> None:
    """llama.cpp on a 404: says that it closes, and closes."""
    asked = await peer.request()
    await peer.reply(asked.encode(), headers="Connection: close\r\n")


async def closes_without_a_word(peer: Peer) -> None:
    """Promises to stay, and is gone before the next question."""
    asked = await peer.request()
    await peer.reply(asked.encode())


async def closes_on_the_second_question(peer: Peer) -> None:
    """An idle connection given up just as the next question arrives."""
    asked = await peer.request()
    await peer.reply(asked.encode())
    await peer.request()


async def body_after_head(peer: Peer) -> None:
    """Answers HEAD with a body, as home-made servers do."""
    while await peer.request():
        await peer.reply(b"not to be sent")


async def server_error(peer: Peer) -> None:
    while await peer.request():
        await peer.reply(b"out of order", "503 Service Unavailable")


async def redirects(peer: Peer) -> None:
    """To itself for ever, and by turns to a documentation address."""
    while await peer.request():
        await peer.reply(b"", "302 Found", "Location: http://192.0.2.1/\r\nSet-Cookie: a=b; Path=/\r\n")


# ---- silence and haste -----------------------------------------------------------------------------------------------


async def accepts_and_never_answers(peer: Peer) -> None:
    await peer.gone()


async def one_byte_at_a_time(peer: Peer) -> None:
    await peer.request()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000:
        await peer.send(bytes([byte]))
        await asyncio.sleep(DRIP)


async def stops_in_mid_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await peer.gone()


async def closes_at_once(peer: Peer) -> None:
    return None


async def closes_after_the_question(peer: Peer) -> None:
    await peer.request()


async def closes_in_mid_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-")


async def closes_in_mid_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def resets_at_once(peer: Peer) -> None:
    peer.reset()


async def resets_after_the_question(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def resets_in_mid_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-")
    await asyncio.sleep(DRIP)
    peer.reset()


async def resets_in_mid_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await asyncio.sleep(DRIP)
    peer.reset()


async def answers_once_then_resets(peer: Peer) -> None:
    asked = await peer.request()
    if peer.number == 1:
        await peer.reply(asked.encode())
        await peer.request()
    peer.reset()


async def answers_once_then_hangs(peer: Peer) -> None:
    asked = await peer.request()
    await peer.reply(asked.encode())
    await peer.gone()


# ---- without end -----------------------------------------------------------------------------------------------------


async def _for_ever(peer: Peer, start: bytes, piece: bytes) -> None:
    await peer.request()
    await peer.send(start)
    while True:
        await peer.send(piece)


async def endless_body(peer: Peer) -> None:
    await _for_ever(peer, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)


async def endless_chunks(peer: Peer) -> None:
    await _for_ever(peer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 4096)


async def endless_chunk_extension(peer: Peer) -> None:
    await _for_ever(peer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a=b;" * 4096)


async def endless_trailers(peer: Peer) -> None:
    await _for_ever(peer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: yes\r\n" * 512)


async def endless_headers(peer: Peer) -> None:
    await _for_ever(peer, b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 512)


async def endless_status_line(peer: Peer) -> None:
    await _for_ever(peer, b"HTTP/1.1 200 ", b"O" * 8192)


async def endless_continues(peer: Peer) -> None:
    await _for_ever(peer, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 512)


async def endless_empty_lines(peer: Peer) -> None:
    await _for_ever(peer, b"", b"\r\n" * 4096)


async def big_json(peer: Peer) -> None:
    """100 MB promised and delivered."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n[")
    for _ in range(1000):
        await peer.send(b"[" * 100_000)


async def gzip_bomb(peer: Peer) -> None:
    """Ten megabytes in ten kilobytes, although nobody asked for compression."""
    bomb = gzip.compress(bytes(10_000_000))
    while await peer.request():
        await peer.reply(bomb, headers="Content-Encoding: gzip\r\n")


async def too_many_headers(peer: Peer) -> None:
    await peer.request()
    await peer.reply(b"", headers="X-One: 1\r\n" * 500)


# ---- out of turn -----------------------------------------------------------------------------------------------------


async def answers_before_the_question(peer: Peer) -> None:
    await peer.reply(b"before")
    await peer.gone()


async def answers_twice(peer: Peer) -> None:
    """Each reply with another behind it, to a question nobody asked."""
    while asked := await peer.request():
        body = asked.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        await peer.send(head + body + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")


async def too_short_a_length(peer: Peer) -> None:
    """More body than Content-Length says."""
    while await peer.request():
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshort, and then more")


async def answers_again_later(peer: Peer) -> None:
    """A second reply that arrives in the pause before the next question."""
    while asked := await peer.request():
        await peer.reply(asked.encode())
        await peer.reply(b"evil")


async def one_continue(peer: Peer) -> None:
    """A needless but lawful interim reply."""
    while asked := await peer.request():
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.reply(asked.encode())


async def early_hints_in_one_segment(peer: Peer) -> None:
    asked = await peer.request()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    body = asked.encode()
    await peer.send(hints + f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await peer.gone()


async def switches_protocols(peer: Peer) -> None:
    await peer.request()
    await peer.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello"
    )
    await peer.gone()


# ---- not HTTP, or not quite ------------------------------------------------------------------------------------------


def says(words: bytes) -> Behaviour:
    """Answers the first question with these bytes, whatever it was, and waits."""

    async def behaviour(peer: Peer) -> None:
        await peer.request()
        await peer.send(words)
        await peer.gone()

    return behaviour


def greets(words: bytes) -> Behaviour:
    """Speaks first."""

    async def behaviour(peer: Peer) -> None:
        await peer.send(words)
        await peer.gone()

    return behaviour


http_0_9 = says(b"<html><body>It works</body></html>\n")
ssh_banner = greets(b"SSH-2.0-OpenSSH_9.6\r\n")
ftp_banner = greets(b"220 (vsFTPd 3.0.5)\r\n")
http_2_preface = says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d")
http_2_status = says(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n")
both_lengths = says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
two_lengths = says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
negative_length = says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcde")
huge_length = says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nabc")
wordy_length = says(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc")
bad_chunk_size = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
negative_chunk_size = says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n")
nul_in_header = says(b"HTTP/1.1 200 OK\r\nX-Zero: a\0b\r\nContent-Length: 0\r\n\r\n")
header_without_colon = says(b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 0\r\n\r\n")
status_of_words = says(b"HTTP/1.1 OK fine\r\nContent-Length: 0\r\n\r\n")
one_letter = says(b"S")


async def bad_chunk_later(peer: Peer) -> None:
    """The framing breaks once the reading of the body has begun."""
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.sleep(2 * DRIP)
    await peer.send(b"zz\r\n")
    await peer.gone()


# ---- TLS -------------------------------------------------------------------------------------------------------------

tls_alert = says(b"\x15\x03\x01\x00\x02\x02\x46")
tls_stalls = accepts_and_never_answers
tls_greeting = greets(b"\x16\x03\x01\x00\x05")
