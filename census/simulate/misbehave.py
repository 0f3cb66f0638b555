"""What can go wrong at an address: every misbehaviour of the simulated internet, one function each.

A function here is either a `talk` (what is said on an accepted connection) or a `trap` (how the address behaves before
any connection is accepted). Its docstring says what it does, its decorator what a census must file it under.
A scenario plays one by its name, with hyphens: `plays = "reset-mid-reply"`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
    if writer.transport.is_closing():
        return  # the client was faster
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


# The zoo: one attack each. `data/simulate/zoo.toml` has them all


@_talk(Outcome.CONNECTION_CLOSED)
async def reset_after_question(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads the question and resets the connection."""
    async for _ in _questions(reader):
        _reset(writer)
        return


@_talk(Outcome.CONNECTION_CLOSED)
async def reset_mid_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends half a header, then resets the connection."""
    async for _ in _questions(reader):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        await writer.drain()
        await asyncio.sleep(0.05)
        _reset(writer)
        return


@_talk(Outcome.SUCCESS, lies=True)
async def reset_between_questions(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the first question as an Ollama, and resets the connection at every further one."""
    asked = 0
    async for line in _questions(reader):
        asked += 1
        if asked > 1 or "/api/version" not in line:
            _reset(writer)
            return
        writer.write(_reply(b'{"version":"0.5.7"}', kind="application/json; charset=utf-8"))
        await writer.drain()


@_talk(Outcome.SUCCESS, lies=True)
async def changes_between_questions(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Is another server at every question: an Ollama, a vLLM, a llama.cpp, a web page."""
    faces = (
        _reply(b'{"version":"0.5.7"}', kind="application/json; charset=utf-8"),
        _reply(b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"vllm"}]}', more="Server: uvicorn\r\n"),
        _reply(b'{"object":"list","data":[{"id":"m","owned_by":"llamacpp"}]}', more="Server: llama.cpp\r\n"),
        _reply(b"<html><title>Ollama is running</title></html>", kind="text/html"),
    )
    asked = 0
    async for _ in _questions(reader):
        writer.write(faces[asked % len(faces)])
        asked += 1
        await writer.drain()


async def _endlessly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: bytes, piece: bytes, times: int | None = None
) -> None:
    """`start`, then `piece` for ever or so many times, at the reader's pace."""
    async for _ in _questions(reader):
        writer.write(start)
        while times is None or times > 0:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
            times = None if times is None else times - 1
        return


@_talk(Outcome.PROTOCOL_ERROR)
async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with headers that never end."""
    await _endlessly(reader, writer, b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 512)


@_talk(Outcome.SUCCESS)
async def endless_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with small chunks that never end."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await _endlessly(reader, writer, head, b"10\r\n0123456789abcdef\r\n" * 1024)


@_talk(Outcome.PROTOCOL_ERROR)
async def endless_trailers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends a chunked body, and goes on with trailers that never end."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    await _endlessly(reader, writer, head, b"X-Trailer: yes\r\n" * 512)


@_talk(Outcome.PROTOCOL_ERROR)
async def continue_flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says '100 Continue' for ever."""
    await _endlessly(reader, writer, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 512)


@_talk(Outcome.SUCCESS)
async def hundred_megabytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promises a hundred megabytes of JSON, and delivers them."""
    size, piece = 100_000_000, b"[1," * 33_333 + b"1"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode()
    await _endlessly(reader, writer, head, piece, times=size // len(piece))


@_talk(Outcome.SUCCESS, lies=True)
async def short_content_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Poses as an Ollama that sends more bytes than it promises."""
    await _answer_all(reader, writer, _reply(b'{"version":"0.5.7"}', kind="application/json; charset=utf-8") + b"more")


@_talk(Outcome.PROTOCOL_ERROR)
async def negative_content_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says that its body has minus five bytes."""
    await _answer_all(reader, writer, b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcde")


@_talk(Outcome.PROTOCOL_ERROR)
async def absurd_content_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says that its body has ten sextillion bytes."""
    await _answer_all(reader, writer, b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999999\r\n\r\nabc")


@_talk(Outcome.PROTOCOL_ERROR)
async def two_framings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says both how long its body is and that it comes in chunks."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    await _answer_all(reader, writer, head + b"3\r\nabc\r\n0\r\n\r\n")


@_talk(Outcome.PROTOCOL_ERROR)
async def nul_in_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Has a NUL in a header."""
    await _answer_all(reader, writer, b"HTTP/1.1 200 OK\r\nX-Zero: a\0b\r\nContent-Length: 0\r\n\r\n")


@_talk(Outcome.SUCCESS)
async def gzip_bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with ten megabytes in ten kilobytes of gzip, which nobody asked for."""
    await _answer_all(reader, writer, _reply(_gzip_bomb(), more="Content-Encoding: gzip\r\n"))


@cache
def _gzip_bomb() -> bytes:
    return gzip.compress(bytes(10_000_000), mtime=0)


BROTLI_BOMB = bytes.fromhex("cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd7ffec1ebe39f0088c322001d747d")
"""Fifty million zeros in forty bytes of Brotli."""


@_talk(Outcome.SUCCESS)
async def brotli_bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with fifty megabytes in forty bytes of Brotli, which nobody asked for."""
    await _answer_all(reader, writer, _reply(BROTLI_BOMB, more="Content-Encoding: br\r\n"))


def _ollama(tags: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """An Ollama but for its list of models."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = "application/json; charset=utf-8"
        async for line in _questions(reader):
            body = (
                b'{"version":"0.5.7"}' if "/api/version" in line else tags if "/api/tags" in line else b'{"models":[]}'
            )
            writer.write(_reply(body, kind=kind))
            await writer.drain()

    return talk


def _pose(name: str, about: str, tags: bytes) -> None:
    """One more misbehaviour: an Ollama with this list of models."""
    MISBEHAVIOURS[name] = Misbehaviour(name, about, Outcome.SUCCESS, talk=_ollama(tags), lies=True)


@_talk(Outcome.SUCCESS, lies=True)
async def million_models(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Poses as an Ollama with a million models: thirty megabytes of names."""
    async for line in _questions(reader):
        if "/api/tags" not in line:
            writer.write(_reply(b'{"version":"0.5.7"}', kind="application/json; charset=utf-8"))
            await writer.drain()
            continue
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"models":[')
        for start in range(0, 1_000_000, 1000):
            writer.write(b"".join(b'{"name":"model-%06d:latest"},' % number for number in range(start, start + 1000)))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b'{"name":"last"}]}')
        return


HOSTILE_WORD = "\x1b]0;pwned\x07\u202e'\"><script>alert(1)</script>=1+1|`x`"
"""One text against terminals, pages, tables and statements at once."""


@_talk(Outcome.SUCCESS, lies=True)
async def hostile_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Poses as an Ollama in which everything that is not the name of a model attacks whoever shows it."""
    word = json.dumps(HOSTILE_WORD)
    details = f'{{"family":{word},"families":[{word}],"parameter_size":{word},"quantization_level":{word}}}'
    model = (
        f'{{"name":"words:latest","digest":{word},"modified_at":{word},"details":{details},"capabilities":[{word}]}}'
    )
    more = "Server: \x1b[31m<b>=1+1</b>\r\n"
    async for line in _questions(reader):
        body = f'{{"version":{word}}}' if "/api/version" in line else f'{{"models":[{model}]}}'
        kind = "application/json; charset=utf-8"
        writer.write(_reply(body.encode(), status="200 <script>\x1b[2J", kind=kind, more=more))
        await writer.drain()


_pose(
    "many-models",
    "Poses as an Ollama with as many models as a body of a megabyte holds.",
    b'{"models":[' + b",".join(b'{"name":"m%d"}' % number for number in range(50_000)) + b"]}",
)
_pose(
    "megabyte-name",
    "Poses as an Ollama with one model, whose name has nearly a megabyte.",
    b'{"models":[{"name":"' + b"n" * 1_000_000 + b'","size":1}]}',
)
_pose(
    "huge-integers",
    "Poses as an Ollama whose sizes have more digits than any column holds.",
    b'{"models":[{"name":"a:latest","size":1' + b"0" * 5000 + b"}]}",
)
_pose(
    "huge-floats",
    "Poses as an Ollama whose sizes are beyond any number.",
    b'{"models":[{"name":"a:latest","size":1e999,"modified_at":-1e999,"details":{"family":1e999}}]}',
)
_pose(
    "not-a-number",
    "Poses as an Ollama whose sizes are NaN and Infinity.",
    b'{"models":[{"name":"a:latest","size":NaN},{"name":"b:latest","size":-Infinity}]}',
)
_pose(
    "invalid-utf8",
    "Poses as an Ollama whose names are no UTF-8.",
    b'{"models":[{"name":"a\xff\xfe\xc0\xaf\xed\xa0\x80:latest"}]}',
)
_pose(
    "lone-surrogates",
    "Poses as an Ollama whose names have halves of surrogate pairs.",
    b'{"models":[{"name":"a\\ud800b:latest","size":1},{"name":"\\udfff\\ud800","details":{"family":"\\udead"}}]}',
)
_pose(
    "nul-in-name",
    "Poses as an Ollama whose names have NULs.",
    b'{"models":[{"name":"a\\u0000b:latest","size":1,"digest":"\\u0000","details":{"family":"x\\u0000"}}]}',
)
_pose(
    "wrong-types",
    "Poses as an Ollama in whose list nothing has the type it should have.",
    b'{"models":[null,1,[],"m",{"name":{"name":"a"}},{"name":"b","size":"1","details":[],"digest":7,"modified_at":{}},'
    b'{"name":"c","details":{"families":[null,[],{}],"family":{"a":1}},"capabilities":[[1]],"remote_host":[]}]}',
)


@_talk(Outcome.SUCCESS, lies=True)
async def answers_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a question as an Ollama, and the next one before it is asked."""
    async for _ in _questions(reader):
        writer.write(2 * _reply(b'{"version":"0.5.7"}', kind="application/json; charset=utf-8"))
        await writer.drain()


@_talk(Outcome.PROTOCOL_ERROR)
async def answers_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers before any question was asked."""
    writer.write(_reply(b'{"models":[]}'))
    await reader.read(MAX_HEAD_BYTES)


@_talk(Outcome.PROTOCOL_ERROR)
async def switches_protocols(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Switches to another protocol without being asked."""
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    await _answer_all(reader, writer, head + b"\x81\x05hello")


@_talk(Outcome.PROTOCOL_ERROR)
async def http_0_9(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers as HTTP did in 1991: with the page and no head."""
    async for _ in _questions(reader):
        writer.write(b"<html><body>It works</body></html>\n")
        return


@_talk(Outcome.PROTOCOL_ERROR)
async def http_2_preface(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the first frame of HTTP/2."""
    await _answer_all(
        reader, writer, b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d\x00\x04\x00\x00\xff\xff"
    )


@_talk(Outcome.IO_TIMEOUT)
async def tls_stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begins a TLS handshake and leaves it at that."""
    await reader.read(1)
    writer.write(b"\x16\x03\x03\x00\x7a\x02")
    while await reader.read(MAX_HEAD_BYTES):
        pass


@_talk(Outcome.CONNECTION_CLOSED)
async def tls_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begins a TLS handshake and resets the connection."""
    await reader.read(1)
    writer.write(b"\x16\x03\x03\x00\x7a\x02")
    await writer.drain()
    await asyncio.sleep(0.05)
    _reset(writer)


_pose(
    "expired-certificate",
    "With `tls`, poses as an Ollama with a certificate that ended long ago.",
    b'{"models":[{"name":"a:latest","size":1}]}',
)


@_talk(Outcome.SUCCESS, lies=True)
async def absurd_certificate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """With `tls`, shows a certificate that ended in the year 2000, for 500 names, whose words attack."""
    await _answer_all(reader, writer, _reply(b'{"version":"0.5.7"}', kind="application/json; charset=utf-8"))


def _ended(words: list[x509.NameAttribute[str]], names: list[str], *, critical: bool) -> ssl.SSLContext:
    """A context whose certificate was good for the year 1999."""
    key = ec.generate_private_key(ec.SECP256R1())
    start, end = datetime(1999, 1, 1), datetime(2000, 1, 1)
    builder = x509.CertificateBuilder(x509.Name(words), x509.Name(words), key.public_key(), 1, start, end)
    others = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    return server_context(key, builder.add_extension(others, critical=critical).sign(key, hashes.SHA256()))


@cache
def _absurd_context() -> ssl.SSLContext:
    words = [
        x509.NameAttribute(NameOID.COMMON_NAME, "=1+1\x1b[31m<b>\u202e"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "'--"),
    ]
    return _ended(words, [f"{'x' * 60}{number}.example" for number in range(500)], critical=True)


@cache
def _expired_context() -> ssl.SSLContext:
    return _ended([x509.NameAttribute(NameOID.COMMON_NAME, "ai.example")], ["ai.example"], critical=False)


CONTEXTS: Mapping[str, Callable[[], ssl.SSLContext]] = {
    "absurd-certificate": _absurd_context,
    "expired-certificate": _expired_context,
}
"""Misbehaviours with a TLS context of their own. Others, with `tls`, show a certificate in their host's name."""


def server_context(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> ssl.SSLContext:
    """A TLS server's context with this key and certificate."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads certificates from files only
        path = Path(folder) / "host.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(path)
    return context


HOSTILE_NAMES: Mapping[str, str] = {
    "terminal escapes": "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "right-to-left override": "invoice\u202egpj.exe",
    "zero-width characters": "zero\u200bwidth\u2060joined",
    "an element of a page": "<script>alert('census')</script>",
    "the end of an attribute": '"><img src=x onerror=alert(1)>',
    "the end of a statement": "'; DROP TABLE hosts; --",
    "a formula of a spreadsheet": "=HYPERLINK(CONCAT(A1,B1))",
    "a command of a spreadsheet": "@SUM(1+1)*cmd|' /C calc'!A0",
    "a path upwards": "../../../../etc/passwd",
    "a path and a device of Windows": "C:\\..\\..\\con",
    "a NUL": "before\x00after",
    "line ends": "line\nbreak\r\nX-Header: injected",
    "half a surrogate pair": "surrogate \ud800 alone",
    "words of template engines": "{{7*7}}${7*7}%s%n",
    "a link, a cell and code of Markdown": "[link](javascript:alert(1)) | pipe | `tick`",
    "a byte order mark and no characters": "\ufeff\ufffe\uffff",
    "ten thousand letters": "n" * 10_240,
}
"""Model names by what they attack with: terminals, pages, spreadsheets, SQL, file systems, JSON readers."""


def hostile_names() -> tuple[str, ...]:
    """The names themselves."""
    return tuple(HOSTILE_NAMES.values())
