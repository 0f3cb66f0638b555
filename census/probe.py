"""Target -> Conversation: the one stage that opens a socket to a target.

What may live here: what may be asked at all (the gate), how a conversation goes (the next question, reconnecting,
turning to TLS, giving up) and, behind `_Line` (open, ask, close), the HTTP client. Nothing here knows what an answer
means.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import socket
import ssl
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import TracebackType
from typing import TypeVar

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from cryptography import x509
from yarl import URL

from census import resources
from census.errors import DataError, ScannerFault, UsageError
from census.hostile import printable, text
from census.model import Certificate, Conversation, Outcome, Plan, Question, Reply, Scheme, Target

MAX_PATH = 100
"""Characters of a question's path. The longest path of `data/servers/` needs a third of it."""

MAX_INTERIM = 8
"""Interim replies (status 1xx) before one real reply; servers send at most one, and only if asked to."""

MAX_NAMES = 100
"""Names kept of one certificate. Certificate authorities issue at most that many."""

MAX_WORDS = 160
"""Characters kept of an error's text."""

GLIMPSE = 40
"""Bytes shown of what is not HTTP."""

READ_CHUNK = 64 * 1024
"""Bytes that aiohttp holds for a reader before it stops reading from the socket (twice this at most)."""

TLS_PORTS = frozenset({443, 8443})
"""Ports asked by https first."""

DEFAULT_PORTS = {"http": 80, "https": 443}
"""Left out of the Host header, as browsers do (RFC 9110, section 7.2)."""

OUR_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Error numbers that say something of this machine and nothing of the host."""

Route = Callable[[str, int], tuple[str, int]]
"""Where to connect instead: a simulated address and port -> a socket address on loopback."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one target may cost. A server can reach any of these, and none can be exceeded.

    Attributes:
        connect_timeout: seconds for one TCP connect.
        read_timeout: seconds for one TLS handshake, and for one whole reply from sending its question.
        target_timeout: seconds for everything with one target, waiting for admission not counted.
        max_body: bytes kept of one body; the reply is then `truncated` and its connection dropped.
        max_header_bytes: bytes of one status line with its headers. max_headers: header lines of one reply.
        max_requests: questions sent, repeated ones counted again. max_connections: connections tried.
        max_target_bytes: bytes read from one target in all.
    """

    connect_timeout: float = 3.0
    read_timeout: float = 6.0
    target_timeout: float = 20.0
    max_body: int = 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_headers: int = 100
    max_requests: int = 8
    max_connections: int = 10
    max_target_bytes: int = 4 * 1024 * 1024


def user_agent(version: str, contact: str | None) -> str:
    """`census/0.1.0 (+mailto:me@example.org)`. Raises UsageError for a contact that no header can carry."""
    if contact is None:
        return f"census/{version}"
    if not re.fullmatch(r"[!-'*-~][ -'*-~]*", contact):
        raise UsageError(
            f"--contact {printable(contact, MAX_WORDS)!r} cannot stand in a User-Agent header; "
            "write an ASCII address without brackets, such as mailto:me@example.org or https://example.org/census"
        )
    return f"census/{version} (+{contact})"


# ---- what may be asked -----------------------------------------------------------------------------------------------


class Forbidden(RuntimeError):
    """The program was about to send what it must not: a fault of ours, raised before a byte is written."""


@dataclass(frozen=True, slots=True)
class _Never:
    """One entry of `data/never.toml`."""

    path: str
    pattern: re.Pattern[str]
    why: str
    exceptions: frozenset[str]

    @classmethod
    def read(cls, entry: dict[str, object]) -> _Never:
        path, exceptions = str(entry["path"]), entry.get("except", [])
        assert isinstance(exceptions, list)
        pattern = re.compile(".*".join(re.escape(part) for part in path.split("*")))
        return cls(path, pattern, f"{entry['effect']}", frozenset(item["path"] for item in exceptions))


@cache
def _never_list() -> tuple[_Never, ...]:
    path = resources.data("never.toml")
    try:
        entries = tuple(_Never.read(entry) for entry in tomllib.loads(path.read_text("utf-8"))["never"])
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as problem:
        raise DataError(f"data/never.toml cannot be read ({problem}); nothing is asked without it") from None
    if not entries:
        raise DataError("data/never.toml is empty; nothing is asked without it")
    return entries


def _misshapen(question: Question) -> str | None:
    if question.method not in ("GET", "HEAD"):
        return "the census sends GET and HEAD only"
    if len(question.path) > MAX_PATH:
        return f"its path is longer than {MAX_PATH} characters"
    if not re.fullmatch(r"/[A-Za-z0-9._/-]*", question.path):
        return "its path must begin with '/' and hold nothing but letters, digits, '.', '_', '-' and '/'"
    if "//" in question.path or {".", ".."} & set(question.path.split("/")) or ".." in question.path:
        return "its path has an empty or a relative step"
    return None


@lru_cache(maxsize=1024)
def never(question: Question) -> str | None:
    """Why this may never be sent to anybody, or None if it may. Raises DataError without a never-list.

    The reasons are structural (method, shape of the path) or an entry of `data/never.toml`; neither case nor a slash
    at the end gets past an entry, and its exceptions hold letter by letter.
    """
    if reason := _misshapen(question):
        return reason
    path = "/" + question.path.lower().strip("/")
    for entry in _never_list():
        if entry.pattern.fullmatch(path) and question.path not in entry.exceptions:
            return f"{entry.why} ('{entry.path}' in data/never.toml)"
    return None


def allowed(questions: Iterable[Question]) -> frozenset[Question]:
    """The questions as a set. Raises DataError naming the first that may never be sent, and why."""
    asked = frozenset(questions)
    for question in sorted(asked, key=str):
        if reason := never(question):
            raise DataError(f"'{printable(str(question), MAX_WORDS)}' may not be asked: {reason}")
    return asked


# ---- how it can end --------------------------------------------------------------------------------------------------


class _Ended(Exception):
    """This connection, or the whole conversation, cannot go on.

    Attributes:
        unheard: the server closed without a byte of the answer, as an idle connection may at any time.
        tls: what came was TLS.
    """

    def __init__(self, outcome: Outcome, words: str, *, unheard: bool = False, tls: bool = False) -> None:
        super().__init__(words)
        self.outcome, self.words, self.unheard, self.tls = outcome, words, unheard, tls


def _not_connected(problem: OSError, address: tuple[str, int]) -> Exception:
    """What a failed connect means. `address` as routed."""
    number = problem.errno
    words = os.strerror(number).lower() if number else str(problem)
    if number in OUR_LIMITS or (number == errno.EADDRNOTAVAIL and ":" not in address[0]):
        return ScannerFault(f"cannot open a socket: {words}; ask fewer hosts at once or raise the limit (ulimit -n)")
    if isinstance(problem, TimeoutError):
        return _Ended(Outcome.CONNECTION_TIMEOUT, "no answer to the connect")
    if number == errno.ECONNREFUSED:
        return _Ended(Outcome.CONNECTION_REFUSED, words)
    if isinstance(problem, ConnectionError):
        return _Ended(Outcome.CONNECTION_CLOSED, f"{words} while connecting")
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN):
        return _Ended(Outcome.UNKNOWN_ERROR, f"host unreachable: {words}")
    return _Ended(Outcome.UNKNOWN_ERROR, f"cannot connect: {words}")


def _tls_words(problem: ssl.SSLError) -> str:
    reason = problem.reason or str(problem)
    return "TLS: " + printable(reason.replace("_", " ").lower(), MAX_WORDS)


def _no_handshake(problem: OSError) -> _Ended:
    if isinstance(problem, TimeoutError):
        return _Ended(Outcome.IO_TIMEOUT, "the TLS handshake stalled")
    if isinstance(problem, ssl.SSLError) and not isinstance(problem, ssl.SSLEOFError):
        return _Ended(Outcome.PROTOCOL_ERROR, _tls_words(problem))
    return _Ended(Outcome.CONNECTION_CLOSED, "closed in the TLS handshake")


# ---- certificates ----------------------------------------------------------------------------------------------------


def _tls_context() -> ssl.SSLContext:
    """Whatever OpenSSL still speaks: the certificate is recorded, not trusted, and old servers count too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options |= getattr(ssl, "OP_LEGACY_SERVER_CONNECT", 0x4)  # named from Python 3.12 on
    context.set_alpn_protocols(["http/1.1"])
    return context


def _field(read: Callable[[], _T]) -> _T | None:
    """One field of a certificate, None where it is absurd. The parser's own panics are no `Exception`."""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None


def _names(parsed: x509.Certificate) -> tuple[str, ...]:
    extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = (getattr(name, "value", None) for name in list(extension)[:MAX_NAMES])
    return tuple(text(str(name)) or "" for name in names if name is not None)


def _certificate(der: bytes) -> Certificate:
    digest = hashlib.sha256(der).hexdigest()
    parsed = _field(lambda: x509.load_der_x509_certificate(der))
    if parsed is None:
        return Certificate(digest)
    return Certificate(
        digest,
        subject=_field(lambda: text(parsed.subject.rfc4514_string())),
        issuer=_field(lambda: text(parsed.issuer.rfc4514_string())),
        names=_field(lambda: _names(parsed)) or (),
        not_before=_field(lambda: parsed.not_valid_before_utc.replace(tzinfo=None)),
        not_after=_field(lambda: parsed.not_valid_after_utc.replace(tzinfo=None)),
    )


# ---- the client: one connection, behind open, ask and close ----------------------------------------------------------

_HEAD_END = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/\d\.\d 1\d\d")
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake (RFC 8446, section 5.1)


TOO_MUCH = "more bytes than one target may send"


class _Allowance:
    """Bytes that may still be read from one target, over all its connections."""

    def __init__(self, left: int) -> None:
        self.left = left


class _Wire(ResponseHandler):
    """aiohttp's protocol for one connection, with a guard before its parser.

    The guard keeps the head of each reply as sent, lets nothing through but one reply to a question that was asked, and
    bounds what aiohttp does not: bytes in all, bytes of a head, interim replies, and what comes before or after.
    It rests on these inner names of aiohttp, which a test pins: `client_proto.ResponseHandler` with `data_received`,
    `connection_lost`, `set_exception`, `should_close`, `abort` and `_payload`; `BaseConnector._create_connection`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, allowance: _Allowance) -> None:
        super().__init__(loop)
        self._limits, self._allowance = limits, allowance
        self._head = bytearray()
        self._interim = 0
        self._in_head = self._in_body = False
        self.broken: _Ended | None = None
        self.gone: BaseException | None = None
        self.status_line = ""

    def expect(self) -> None:
        """A question is about to be sent: what comes next may be its reply."""
        self._head.clear()
        self._interim = 0
        self._in_head, self._in_body = True, False

    def rest(self) -> None:
        """The reply is complete: what comes now answers nothing."""
        self._in_head = self._in_body = False

    @property
    def reusable(self) -> bool:
        return self.is_connected() and self.broken is None and not self.should_close

    def data_received(self, data: bytes) -> None:
        self._allowance.left -= len(data)
        if self._allowance.left < 0:
            self._break(TOO_MUCH)
        elif self._in_body:
            super().data_received(data)
        elif self._in_head:
            self._read_head(data)
        elif data:
            self._break(f"spoke without being asked: {_glimpse(data)}", tls=data.startswith(_TLS_RECORDS))

    def _read_head(self, data: bytes) -> None:
        start = max(0, len(self._head) - 2)
        self._head += data
        if self._head.startswith((b"\r", b"\n")):  # RFC 9112, section 2.2: an empty line may come first
            del self._head[: len(self._head) - len(self._head.lstrip(b"\r\n"))]
        while self._in_head and (end := _HEAD_END.search(self._head, start)):
            head, start = bytes(self._head[: end.end()]), 0
            del self._head[: end.end()]
            self._take(head)
        if self._in_head:
            self._doubt(self._head)

    def _take(self, head: bytes) -> None:
        """One whole head: dropped if interim, else given to the parser first, so that nothing behind it can undo it."""
        self._doubt(head)
        if self.broken is not None:
            return
        if _INTERIM.match(head):
            self._pass_over(head)
            return
        self._in_head, self._in_body = False, True
        self.status_line = head[: head.index(b"\n")].rstrip(b"\r").decode("latin-1")
        super().data_received(head)
        if self._head and self.broken is None:
            super().data_received(bytes(self._head))

    def _pass_over(self, head: bytes) -> None:
        self._interim += 1
        if head[9:12] == b"101":
            self._break("switched protocols without being asked")
        elif self._interim > MAX_INTERIM:
            self._break(f"more than {MAX_INTERIM} interim replies")

    def _doubt(self, head: bytes | bytearray) -> None:
        if len(head) > self._limits.max_header_bytes:
            self._break(f"headers of more than {self._limits.max_header_bytes} bytes")
        elif len(head) >= 5 and not head.startswith(b"HTTP/"):
            self._break(f"not HTTP: {_glimpse(head)}", tls=head.startswith(_TLS_RECORDS))

    def _break(self, words: str, *, tls: bool = False) -> None:
        self._in_head = self._in_body = False
        if self.broken is None:
            self.broken = _Ended(Outcome.PROTOCOL_ERROR, words, tls=tls)
        self.set_exception(aiohttp.ClientPayloadError(words))
        if self.transport is not None:
            self.transport.abort()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Keeps what the parser says, and wakes the reader of a body: aiohttp leaves it waiting when framing breaks."""
        payload = self._payload
        if self.broken is None and isinstance(exc, HttpProcessingError):
            self.broken = _Ended(Outcome.PROTOCOL_ERROR, f"broken HTTP: {_first_line(exc.message)}")
        super().set_exception(exc, exc_cause or exc)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError(str(exc)))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.gone = exc or EOFError()
        super().connection_lost(exc)

    def ended(self) -> _Ended:
        """Why a reply did not come to its end: what was seen on the wire, which says more than what aiohttp raises."""
        if self.broken is not None:
            return self.broken
        if isinstance(self.gone, ssl.SSLError) and not isinstance(self.gone, ssl.SSLEOFError):
            return _Ended(Outcome.PROTOCOL_ERROR, _tls_words(self.gone))
        if self._in_head and self._head and not b"HTTP/".startswith(bytes(self._head[:5])):
            return _Ended(Outcome.PROTOCOL_ERROR, f"not HTTP: {_glimpse(self._head)}")
        return self._cut_short()

    def _cut_short(self) -> _Ended:
        how = "closed" if isinstance(self.gone, EOFError) else "reset"
        unheard = self._in_head and not self._head and not self._interim
        where = "before answering" if unheard else "in mid-head" if self._in_head else "in mid-body"
        return _Ended(Outcome.CONNECTION_CLOSED, f"{how} {where}", unheard=unheard)


def _glimpse(data: bytes | bytearray) -> str:
    return f"'{printable(bytes(data[:GLIMPSE]).decode('latin-1'))}'"


def _first_line(words: str) -> str:
    return printable(words.strip().split("\n", 1)[0], MAX_WORDS)


class _Handover(aiohttp.BaseConnector):
    """Gives aiohttp the one connection that is there. It can open none, so aiohttp can neither retry nor resolve."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__(limit=0)
        self._wire: _Wire | None = wire

    async def _create_connection(self, *_: object) -> ResponseHandler:
        wire, self._wire = self._wire, None
        if wire is None or not wire.is_connected():
            raise aiohttp.ClientConnectionError("the connection is gone")
        return wire


class _NoCookies(aiohttp.DummyCookieJar):
    """Does not even parse them."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        return None


@lru_cache(maxsize=1024)
def _url(path: str) -> URL:
    """A question's path as aiohttp wants it. The host in it is never used: connection and Host header are ours."""
    return URL.build(scheme="http", host="target.invalid", path=path, encoded=True)


class _Line:
    """One connection to one target: `open`, `ask` as often as the server keeps it open, `close`.

    The whole interface between the census and its HTTP client. Each may raise `_Ended`.
    """

    def __init__(self, wire: _Wire, host: str, agent: str, sock: socket.socket | None = None) -> None:
        self._wire, self._host, self._agent, self._sock = wire, host, agent, sock
        self._session = aiohttp.ClientSession(
            connector=_Handover(wire),
            cookie_jar=_NoCookies(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_CHUNK,
            max_line_size=wire._limits.max_header_bytes,
            max_field_size=wire._limits.max_header_bytes,
            max_headers=wire._limits.max_headers,
        )

    @classmethod
    async def open(cls, wire: _Wire, sock: socket.socket, host: str, agent: str) -> _Line:
        """On a connected socket."""
        await asyncio.get_running_loop().create_connection(lambda: wire, sock=sock)
        return cls(wire, host, agent, sock)

    @classmethod
    async def open_tls(
        cls, wire: _Wire, sock: socket.socket, host: str, agent: str, context: ssl.SSLContext, name: str, seconds: float
    ) -> _Line:
        """On a connected socket, by TLS; `name` is the SNI, or "" for none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await loop.create_connection(lambda: wire, sock=sock, ssl=context, server_hostname=name)
        except OSError as problem:
            raise _no_handshake(problem) from None
        return cls(wire, host, agent)

    @property
    def reusable(self) -> bool:
        """Whether another question may be asked on it."""
        return self._wire.reusable and self._unread() is None

    def _unread(self) -> bytes | None:
        """What came unasked and waits in the socket: b"" for its end, None for nothing. Always None by TLS.

        One look for a microsecond: an answer sent ahead of its question is not taken for the answer, and a connection
        the server has given up is not asked once more.
        """
        try:
            return self._sock.recv(GLIMPSE, socket.MSG_PEEK) if self._sock else None
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def certificate(self) -> Certificate | None:
        """What the server presented, if it did."""
        transport = self._wire.transport
        link: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport else None
        der = link.getpeercert(binary_form=True) if link else None
        return _certificate(der) if der else None

    async def ask(self, question: Question, scheme: Scheme, seconds: float, max_body: int) -> Reply:
        """Send one question and read its whole reply, or `max_body` bytes of it, within `seconds`."""
        if self._wire.broken is None and (early := self._unread()):
            self._wire.data_received(early)
        if self._wire.broken is not None:
            raise self._wire.broken
        self._wire.expect()
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(question, scheme, max_body)
        except TimeoutError:
            raise _Ended(Outcome.IO_TIMEOUT, f"no whole reply to {question} within {seconds:.3g} s") from None
        except (aiohttp.ClientError, OSError):
            raise self._wire.ended() from None
        finally:
            self._wire.rest()

    async def _exchange(self, question: Question, scheme: Scheme, max_body: int) -> Reply:
        asked_at, start = _now(), time.perf_counter()
        response = await self._session.request(
            question.method, _url(question.path), headers=self._headers(question), allow_redirects=False
        )
        try:
            body, truncated = await _read(response, max_body)
        except BaseException:
            response.close()
            raise
        return Reply(
            question=question,
            scheme=scheme,
            status=response.status,
            status_line=self._wire.status_line,
            headers=tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in response.raw_headers),
            body=body,
            truncated=truncated,
            asked_at=asked_at,
            elapsed_ms=1000 * (time.perf_counter() - start),
        )

    def _headers(self, question: Question) -> dict[str, str]:
        """Exactly what is sent. LocalAI's `/` hands out its configuration unless HTML is accepted there."""
        page = question.path == "/"
        return {
            "Host": self._host,
            "User-Agent": self._agent,
            "Accept": "text/html,text/plain;q=0.9,*/*;q=0.5" if page else "application/json,*/*;q=0.5",
            "Accept-Encoding": "identity",
        }

    async def close(self) -> None:
        """At once: no TLS farewell is waited for, so that a descriptor is never held by a server's slowness."""
        self._wire.abort()
        await self._session.close()


async def _read(response: aiohttp.ClientResponse, max_body: int) -> tuple[bytes, bool]:
    """The body up to `max_body` bytes, and whether there was more."""
    kept = bytearray()
    while chunk := await response.content.readany():
        kept += chunk
        if len(kept) > max_body:
            response.close()
            return bytes(kept[:max_body]), True
    return bytes(kept), False


# ---- the conversation ------------------------------------------------------------------------------------------------

_DOMAIN = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")

_WANTS_TLS = re.compile(
    rb"HTTP request to an HTTPS server"  # Go, Caddy, Traefik
    rb"|plain HTTP request was sent to HTTPS port"  # nginx
    rb"|speaking plain HTTP to an SSL-enabled server port"  # Apache
    rb"|combination of host and port requires TLS",  # Tomcat
    re.IGNORECASE,
)


def _wants_tls(reply: Reply) -> bool:
    return reply.status == 400 and _WANTS_TLS.search(reply.body) is not None


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _address(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _host_header(target: Target, scheme: Scheme) -> str:
    full = _address(target.domain or target.ip, target.port)
    return full.rpartition(":")[0] if target.port == DEFAULT_PORTS[scheme] else full


async def _connect(address: tuple[str, int], seconds: float) -> socket.socket:
    """A connected socket. Raises `_Ended` for what the host did, ScannerFault for what we lack."""
    sock: socket.socket | None = None
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        await _established(sock, address, seconds)
        return sock
    except BaseException as problem:
        if sock is not None:
            sock.close()
        if isinstance(problem, OSError):
            raise _not_connected(problem, address) from None
        raise


async def _established(sock: socket.socket, address: tuple[str, int], seconds: float) -> None:
    """Connect, and judge by what the kernel knows of the socket: a clock alone would blame the host when we are late.

    Raises OSError, TimeoutError.
    """
    try:
        return sock.connect(address)
    except BlockingIOError:
        await _writable(sock, seconds)
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))
    try:
        sock.getpeername()
    except OSError:
        raise TimeoutError from None


async def _writable(sock: socket.socket, seconds: float) -> None:
    """Return when the connect has ended in any way, or the time has."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    timer = loop.call_later(seconds, end)
    loop.add_writer(sock, end)
    try:
        await ended
    finally:
        loop.remove_writer(sock)
        timer.cancel()


class _Talk:
    """One conversation: its state, and the rules of `Limits`."""

    def __init__(self, prober: Prober, target: Target, plan: Plan) -> None:
        self.prober, self.target, self.plan, self.limits = prober, target, plan, prober.limits
        self.scheme: Scheme = target.scheme or ("https" if target.port in TLS_PORTS else "http")
        self.allowance = _Allowance(self.limits.max_target_bytes)
        self.deadline = time.monotonic() + self.limits.target_timeout
        self.replies: list[Reply] = []
        self.line: _Line | None = None
        self.asked_at: datetime | None = None
        self.latency_ms: float | None = None
        self.certificate: Certificate | None = None
        self.requests = self.connections = 0

    async def run(self) -> Conversation:
        end: _Ended | None = None
        try:
            await self._talk()
        except _Ended as ended:
            end = ended
        finally:
            await self._hang_up()
        return self._conversation(end)

    async def _talk(self) -> None:
        if self.target.domain and not _DOMAIN.fullmatch(self.target.domain):
            raise _Ended(Outcome.INVALID_INPUTS, f"not a host name: {_first_line(self.target.domain)!r}")
        while (question := self.plan(self.target, tuple(self.replies))) is not None:
            self.prober.check(question)
            self.replies.append(await self._answer(question))
        if not self.replies:
            raise _Ended(Outcome.UNKNOWN_ERROR, "the plan has no question for this target")

    async def _answer(self, question: Question) -> Reply:
        """The reply to one question; by https once the port has shown, at the first one, that it speaks TLS."""
        undecided = self.scheme == "http" and not self.replies
        try:
            reply = await self._ask(question)
        except _Ended as ended:
            if not (undecided and ended.tls):
                raise
            return await self._ask_by_https(question)
        if not (undecided and _wants_tls(reply)):
            return reply
        try:
            return await self._ask_by_https(question)
        except _Ended:
            self.replies.append(reply)
            raise

    async def _ask_by_https(self, question: Question) -> Reply:
        await self._hang_up()
        self.scheme = "https"
        return await self._ask(question)

    async def _ask(self, question: Question) -> Reply:
        """On the open connection, or once on a new one if that is gone or goes without a word."""
        if (line := self.line) is not None and line.reusable:
            try:
                return await self._send(line, question)
            except _Ended as ended:
                if not ended.unheard:
                    raise
        return await self._send(await self._open(), question)

    async def _send(self, line: _Line, question: Question) -> Reply:
        if self.requests >= self.limits.max_requests:
            raise _Ended(Outcome.UNKNOWN_ERROR, f"stopped after {self.limits.max_requests} requests")
        if self.allowance.left <= 0:
            raise _Ended(Outcome.PROTOCOL_ERROR, TOO_MUCH)
        seconds = self._seconds(self.limits.read_timeout)
        self.requests += 1
        return await line.ask(question, self.scheme, seconds, self.limits.max_body)

    async def _open(self) -> _Line:
        await self._hang_up()
        if self.connections >= self.limits.max_connections:
            raise _Ended(Outcome.UNKNOWN_ERROR, f"stopped after {self.limits.max_connections} connections")
        await self._admission()
        sock = await self._dial()
        wire = _Wire(asyncio.get_running_loop(), self.limits, self.allowance)
        host, agent = _host_header(self.target, self.scheme), self.prober.user_agent
        if self.scheme == "http":
            self.line = await _Line.open(wire, sock, host, agent)
            return self.line
        seconds = self._seconds(self.limits.read_timeout)
        context, name = self.prober.tls, self.target.domain.rstrip(".")
        self.line = await _Line.open_tls(wire, sock, host, agent, context, name, seconds)
        self.certificate = self.certificate or self.line.certificate()
        return self.line

    async def _admission(self) -> None:
        """Waits for leave to connect, at no cost to the target's time; then looks whether it is excluded."""
        start = time.monotonic()
        await self.prober.admit(self.target.ip)
        self.deadline += time.monotonic() - start
        self.asked_at = self.asked_at or _now()
        if reason := self.prober.excluded(self.target.ip):
            raise _Ended(Outcome.BLOCKLISTED_TARGET, reason)

    async def _dial(self) -> socket.socket:
        address = self.prober.route(self.target.ip, self.target.port)
        seconds = self._seconds(self.limits.connect_timeout)
        self.connections += 1
        start = time.perf_counter()
        sock = await _connect(address, seconds)
        if self.latency_ms is None:
            self.latency_ms = 1000 * (time.perf_counter() - start)
        return sock

    def _seconds(self, at_most: float) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _Ended(Outcome.IO_TIMEOUT, f"more than {self.limits.target_timeout:.3g} s in all")
        return min(at_most, left)

    async def _hang_up(self) -> None:
        line, self.line = self.line, None
        if line is not None:
            await line.close()

    def _conversation(self, end: _Ended | None) -> Conversation:
        return Conversation(
            target=self.target,
            outcome=self._outcome(end),
            asked_at=self.asked_at or _now(),
            replies=tuple(self.replies),
            error=end.words if end else None,
            latency_ms=self.latency_ms,
            requests=self.requests,
            connections=self.connections,
            scheme=self.scheme,
            certificate=self.certificate,
        )

    def _outcome(self, end: _Ended | None) -> Outcome:
        if any(reply.status < 500 for reply in self.replies):
            return Outcome.SUCCESS
        if self.replies:
            return Outcome.APPLICATION_ERROR
        return end.outcome if end else Outcome.UNKNOWN_ERROR


def _direct(ip: str, port: int) -> tuple[str, int]:
    return ip, port


def _nobody(ip: str) -> str | None:
    return None


async def _at_once(ip: str) -> None:
    return None


class Prober:
    """Asks targets. Any number of conversations may run at once; nothing is kept of one when it ends.

    Args:
        questions: everything that may be sent. Raises DataError if one of them is on the never-list.
        limits: what one target may cost.
        user_agent: who is asking; see `user_agent()`.
        route: for simulated addresses; without it an address is connected to as it stands.
        excluded: address -> why it must not be asked, or None; called right before every connect.
        admit: awaited before every connect, with the address: the pace.
    """

    def __init__(
        self,
        questions: frozenset[Question],
        *,
        limits: Limits = Limits(),
        user_agent: str,
        route: Route | None = None,
        excluded: Callable[[str], str | None] = _nobody,
        admit: Callable[[str], Awaitable[None]] = _at_once,
    ) -> None:
        self.questions = allowed(questions)
        self.limits = limits
        self.user_agent = user_agent
        self.route = route or _direct
        self.excluded = excluded
        self.admit = admit
        self.tls = _tls_context()

    async def __aenter__(self) -> Prober:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def check(self, question: Question) -> None:
        """The gate. Raises Forbidden, before anything is written, for a question that may not be sent."""
        if question not in self.questions:
            raise Forbidden(f"'{question}' is not among the questions of this scan")
        if reason := never(question):
            raise Forbidden(f"'{question}' may not be asked: {reason}")

    async def converse(self, target: Target, plan: Plan) -> Conversation:
        """Ask one target what `plan` says, until it says no more or the target gives cause to stop.

        Nothing that a server does raises. Raises Forbidden if the plan asks what was not announced, ScannerFault if
        this machine is out of descriptors, ports or memory, and whatever `plan`, `route`, `excluded`, `admit` raise.
        """
        return await _Talk(self, target, plan).run()
