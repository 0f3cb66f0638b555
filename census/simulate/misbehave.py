"""What can go wrong at an address: every misbehaviour of the simulated internet, one function each.

A function here is either a `talk` (what is said on an accepted connection) or a `trap` (how the address behaves before
any connection is accepted). Its docstring says what it does, its decorator what a census must file it under.
A scenario plays one by its name, with hyphens: `plays = "reset-mid-reply"`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from census.model import Outcome

DRIP_S = 1.0
"""Seconds between two bytes of `slow_drip`: slower than any read timeout allows a whole reply."""

ENDLESS_CHUNK_BYTES = 64 * 1024
"""Bytes `endless_body` hands over at a time; it waits for the reader, so its memory stays there."""

HEADER_FLOOD_BYTES = 512 * 1024
"""Header bytes of `huge_headers`: far beyond what any server sends."""

JSON_DEPTH = 20_000
"""Levels of `deep_json`."""

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a request head that a misbehaving host reads before it gives up."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing the socket sends a reset."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Trap = Callable[[socket.socket], list[socket.socket]]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One named way to misbehave.

    Attributes:
        about: what it does, in a sentence.
        outcome: what a census must file it under.
        talk: what it says on an accepted connection; None when nothing is ever accepted.
        trap: what it makes of a bound socket so that nothing is accepted; None when connections are.
        lies: it poses as a server; which one a census names is not planted.
    """

    name: str
    about: str
    outcome: Outcome
    talk: Talk | None = None
    trap: Trap | None = None
    lies: bool = False


MISBEHAVIOURS: dict[str, Misbehaviour] = {}
"""All of them by name, in the order of this file."""


def _about(function: Callable[..., object]) -> tuple[str, str]:
    return function.__name__.replace("_", "-"), (function.__doc__ or "").strip().partition("\n")[0]


def _talk(outcome: Outcome, *, lies: bool = False) -> Callable[[Talk], Talk]:
    def register(function: Talk) -> Talk:
        name, about = _about(function)
        MISBEHAVIOURS[name] = Misbehaviour(name, about, outcome, talk=function, lies=lies)
        return function

    return register


def _trap(outcome: Outcome) -> Callable[[Trap], Trap]:
    def register(function: Trap) -> Trap:
        name, about = _about(function)
        MISBEHAVIOURS[name] = Misbehaviour(name, about, outcome, trap=function)
        return function

    return register


async def _questions(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """The request lines of a connection, each yielded when its head is complete; ends when the client leaves."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        yield head.partition(b"\r\n")[0].decode("latin-1")


def _reply(body: bytes, *, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: bytes) -> None:
    async for _ in _questions(reader):
        writer.write(reply)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


# Before any connection is accepted


@_trap(Outcome.CONNECTION_REFUSED)
def refused(bound: socket.socket) -> list[socket.socket]:
    """Nobody listens: every connect is refused at once."""
    return []


@_trap(Outcome.CONNECTION_TIMEOUT)
def silent(bound: socket.socket) -> list[socket.socket]:
    """Nothing answers: connects time out.

    Linux drops every further SYN to a listening socket whose queue (here one place) is full.
    """
    bound.listen(0)
    filler = socket.create_connection(("127.0.0.1", bound.getsockname()[1]), timeout=5)
    return [filler]


# Below HTTP


@_talk(Outcome.CONNECTION_CLOSED)
async def reset_on_accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Resets every connection as soon as it is made."""
    _reset(writer)


@_talk(Outcome.CONNECTION_CLOSED)
async def reset_mid_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begins a reply, then resets the connection."""
    async for _ in _questions(reader):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n\r\n" + b'{"models":['
        )
        await writer.drain()
        await asyncio.sleep(0.05)  # so that the beginning has left before the reset discards what is queued
        _reset(writer)
        return


@_talk(Outcome.IO_TIMEOUT)
async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, reads, and never answers."""
    while await reader.read(MAX_HEAD_BYTES):
        pass


@_talk(Outcome.PROTOCOL_ERROR)
async def ssh_banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets as an SSH server does, and hangs up on what it cannot read."""
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
    await reader.read(MAX_HEAD_BYTES)
    writer.write(b"Invalid SSH identification string.\r\n")


@_talk(Outcome.PROTOCOL_ERROR)
async def ftp_banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets as an FTP server does, and answers every line with 500."""
    writer.write(b"220 (vsFTPd 3.0.5)\r\n")
    while await reader.readline():
        writer.write(b"500 Unknown command.\r\n")
        await writer.drain()


@_talk(Outcome.PROTOCOL_ERROR)
async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with bytes of no protocol, without a line end, and closes."""
    await reader.read(MAX_HEAD_BYTES)
    writer.write(bytes((i * 151 + 7) % 256 for i in range(512)).replace(b"\n", b"\x00"))


@_talk(Outcome.CONNECTION_CLOSED)
async def empty_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads the question and closes without a byte."""
    await reader.read(MAX_HEAD_BYTES)


# HTTP that is nobody's model server


@_talk(Outcome.SUCCESS)
async def nginx_welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The welcome page of a fresh nginx on `/`, its 404 elsewhere."""
    page = b"<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n</head>\n<body>\n</body>\n</html>\n"
    missing = b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n</body>\r\n</html>\r\n"
    async for line in _questions(reader):
        at_root = line.split(" ")[1:2] == ["/"]
        status, body = ("200 OK", page) if at_root else ("404 Not Found", missing)
        writer.write(_reply(body, status=status, kind="text/html", more="Server: nginx/1.22.1\r\n"))
        await writer.drain()


@_talk(Outcome.SUCCESS)
async def basic_auth(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An nginx that wants a user name and a password for everything."""
    body = b"<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n</body>\r\n</html>\r\n"
    more = 'Server: nginx/1.22.1\r\nWWW-Authenticate: Basic realm="Restricted"\r\n'
    await _answer_all(reader, writer, _reply(body, status="401 Unauthorized", kind="text/html", more=more))


@_talk(Outcome.APPLICATION_ERROR)
async def server_error(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A gateway whose upstream is gone: 502 to every question."""
    body = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n</body>\r\n</html>\r\n"
    more = "Server: nginx/1.22.1\r\n"
    await _answer_all(reader, writer, _reply(body, status="502 Bad Gateway", kind="text/html", more=more))


@_talk(Outcome.SUCCESS)
async def single_page_app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every path with 200 and the same HTML page."""
    body = b'<!doctype html><html><head><title>Dashboard</title></head><body><div id="root"></div></body></html>'
    await _answer_all(reader, writer, _reply(body, kind="text/html; charset=utf-8"))


@_talk(Outcome.SUCCESS)
async def catch_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every path with 200 and the same JSON object."""
    await _answer_all(reader, writer, _reply(b'{"status":"ok"}'))


@_talk(Outcome.SUCCESS)
async def redirect_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Redirects every question to another host (of a documentation range), which nobody may follow."""
    more = "Location: http://192.0.2.1:11434/api/tags\r\n"
    await _answer_all(reader, writer, _reply(b"", status="302 Found", kind="text/html", more=more))


@_talk(Outcome.SUCCESS)
async def redirect_loop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Redirects every question to itself."""
    async for line in _questions(reader):
        path = line.split(" ")[1] if line.count(" ") == 2 else "/"
        writer.write(_reply(b"", status="307 Temporary Redirect", kind="text/html", more=f"Location: {path}\r\n"))
        await writer.drain()


# HTTP beyond bounds


@_talk(Outcome.IO_TIMEOUT)
async def slow_drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers correctly, one byte a second."""
    async for _ in _questions(reader):
        for byte in _reply(b'{"models":[' + b" " * 4096 + b"]}"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(DRIP_S)


@_talk(Outcome.SUCCESS)
async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with a body that never ends."""
    async for _ in _questions(reader):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(b"census " * (ENDLESS_CHUNK_BYTES // 7))
            await writer.drain()
            await asyncio.sleep(0)


@_talk(Outcome.PROTOCOL_ERROR)
async def huge_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with half a megabyte of headers."""
    line = b"X-Padding: " + b"a" * 1000 + b"\r\n"
    async for _ in _questions(reader):
        writer.write(b"HTTP/1.1 200 OK\r\n" + line * (HEADER_FLOOD_BYTES // len(line)) + b"Content-Length: 0\r\n\r\n")
        await writer.drain()


@_talk(Outcome.SUCCESS)
async def deep_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with JSON nested twenty thousand levels deep."""
    await _answer_all(reader, writer, _reply(b'{"models":' * JSON_DEPTH + b"1" + b"}" * JSON_DEPTH))


@_talk(Outcome.CONNECTION_CLOSED)
async def wrong_content_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promises more bytes than it sends, and closes."""
    async for _ in _questions(reader):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n" + b'{"models":[]}'
        )
        return


# Lies


@_talk(Outcome.SUCCESS, lies=True)
async def duplicate_keys(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Poses as an Ollama that says everything twice, the second time differently."""
    version = b'{"version":"0.5.7","version":"0.32.15"}'
    tags = b'{"models":[],"models":[{"name":"a:latest","name":"b:latest","size":1,"size":2}]}'
    async for line in _questions(reader):
        writer.write(_reply(version if "/api/version" in line else tags, kind="application/json; charset=utf-8"))
        await writer.drain()


def hostile_names() -> tuple[str, ...]:
    """Model names that attack whatever shows them: terminals, pages, spreadsheets, SQL, file systems, JSON readers."""
    return (
        "\x1b[2J\x1b[31mred\x1b]0;title\x07",
        "invoice\u202egpj.exe",
        "zero\u200bwidth\u2060joined",
        "<script>alert('census')</script>",
        '"><img src=x onerror=alert(1)>',
        "'; DROP TABLE hosts; --",
        "=HYPERLINK(CONCAT(A1,B1))",
        "@SUM(1+1)*cmd|' /C calc'!A0",
        "../../../../etc/passwd",
        "C:\\..\\..\\con",
        "before\x00after",
        "line\nbreak\r\nX-Header: injected",
        "surrogate \ud800 alone",
        "{{7*7}}${7*7}%s%n",
        "[link](javascript:alert(1)) | pipe | `tick`",
        "\ufeff\ufffe\uffff",
        "n" * 10_240,
    )
