"""One connection to one target: its connect, its TLS, the bytes of a question out and of one whole reply in.

What may live here: sockets, TLS and certificates, the HTTP parser, and every bound on the bytes of one connection.
What is asked, when, of whom, and what comes after a failure is decided in `probe.py`; what it means, elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import heapq
import itertools
import os
import re
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Generic, Literal, TypeVar, cast

from cryptography import x509
from httptools import HttpParserError, HttpResponseParser

from census.errors import ScannerFault
from census.hostile import printable, text
from census.model import Certificate, Outcome, Question, Reply, Scheme

MAX_INTERIM = 8
"""Interim replies (status 1xx) before one real reply; servers send at most one, and only if asked to."""

MAX_NAMES = 100
"""Names kept of one certificate. Certificate authorities issue at most that many."""

MAX_WORDS = 160
"""Characters kept of an error's text."""

GLIMPSE = 40
"""Bytes shown of what is not HTTP."""

NEVER = float("inf")

TICK_S = 0.002
"""Seconds by which a timer may be early: event loops count milliseconds."""

READ_BYTES = 64 << 10
"""Bytes read at once: below what the C library takes from the system anew each time (128 KiB)."""

LOOKS = 4
"""Rounds of the event loop between a connect and the first question. An answer ahead of it shows here, if anywhere."""

TOO_MUCH = "more bytes than one target may send"

OUR_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})
"""Error numbers that say something of this machine and nothing of the host. ENOSPC is epoll's: its watches are counted.
"""

_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
_CLOSED = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ESHUTDOWN})
_HEAD_END = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/\d\.\d 1\d\d")
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake (RFC 8446, section 5.1)

_T = TypeVar("_T")


# ---- how it can end --------------------------------------------------------------------------------------------------


class Ended(Exception):
    """This connection, or the whole conversation, cannot go on.

    Attributes:
        unheard: the server closed without a byte of the answer, as an idle connection may at any time.
        tls: what came was TLS.
    """

    def __init__(self, outcome: Outcome, words: str, *, unheard: bool = False, tls: bool = False) -> None:
        super().__init__(words)
        self.outcome, self.words, self.unheard, self.tls = outcome, words, unheard, tls


@lru_cache(64)
def _unconnected(number: int) -> tuple[Outcome, str]:
    """What a connect that ended with this error number says of the host."""
    words = os.strerror(number).lower()
    if number == errno.ECONNREFUSED:
        return Outcome.CONNECTION_REFUSED, words
    if number == errno.ETIMEDOUT:
        return Outcome.CONNECTION_TIMEOUT, "no answer to the connect"
    if number in _CLOSED:
        return Outcome.CONNECTION_CLOSED, f"{words} while connecting"
    if number in _UNREACHABLE:
        return Outcome.UNKNOWN_ERROR, f"host unreachable: {words}"
    return Outcome.UNKNOWN_ERROR, f"cannot connect: {words}"


def _not_connected(number: int, address: tuple[str, int]) -> Exception:
    """What a connect that ended with this error number means. `address` as routed."""
    if number in OUR_LIMITS or (number == errno.EADDRNOTAVAIL and ":" not in address[0]):
        limit = "fs.epoll.max_user_watches" if number == errno.ENOSPC else "ulimit -n"
        words = os.strerror(number).lower()
        return ScannerFault(f"cannot open a socket: {words}; ask fewer hosts at once or raise the limit ({limit})")
    return Ended(*_unconnected(number))


def _no_handshake(problem: OSError) -> Ended:
    if isinstance(problem, TimeoutError):
        return Ended(Outcome.IO_TIMEOUT, "the TLS handshake stalled")
    return _tls_fault(problem) or Ended(Outcome.CONNECTION_CLOSED, "closed in the TLS handshake")


def _tls_fault(problem: BaseException | None) -> Ended | None:
    """What broke TLS, or None where it was only cut off."""
    if not isinstance(problem, ssl.SSLError) or isinstance(problem, ssl.SSLEOFError):
        return None
    reason = problem.reason or str(problem)
    return Ended(Outcome.PROTOCOL_ERROR, "TLS: " + printable(reason.replace("_", " ").lower(), MAX_WORDS))


def first_line(words: str) -> str:
    """The first line of a text, fit to be shown, cut to MAX_WORDS."""
    return printable(words.strip().split("\n", 1)[0], MAX_WORDS)


def _glimpse(data: bytes | bytearray) -> str:
    return f"'{printable(bytes(data[:GLIMPSE]).decode('latin-1'))}'"


def now() -> datetime:
    """UTC without zone, as all times of the census are. `replace(tzinfo=None)` would take three times as long."""
    at = datetime.now(UTC)
    return datetime.combine(at, at.time())


# ---- time ------------------------------------------------------------------------------------------------------------


class Alarm:
    """The deadline of one target's waits, one after the other. All alarms have one timer (`Sockets`).

    To set it again moves a number only: where the timer has it for an earlier moment, it is looked at again then.
    """

    __slots__ = ("_due", "_late", "_rings", "_sockets")

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._due = self._rings = NEVER
        self._late: Callable[[], None] | None = None

    def set(self, seconds: float, late: Callable[[], None]) -> None:
        """Call `late` in so many seconds, unless it is set again or put off before."""
        self._due, self._late = time.monotonic() + seconds, late
        if self._due < self._rings:
            self._rings = self._due
            self._sockets.remind(self._due, self)

    def off(self) -> None:
        """Nobody waits. Nothing of the conversation is kept: the timer may have the alarm for a while yet."""
        self._due, self._late = NEVER, None

    @property
    def over(self) -> bool:
        """Whether nobody waits."""
        return self._late is None

    def ring(self, now: float) -> None:
        """The timer says that it is `now`, and has the alarm no more."""
        self._rings, late = NEVER, self._late
        if late is None:
            return
        if self._due > now:
            self._rings = self._due
            return self._sockets.remind(self._due, self)
        self.off()
        late()


# ---- waiting without a task ------------------------------------------------------------------------------------------


class Wait(Generic[_T]):
    """Something to come, for a coroutine run by an `Errand`: what a future is, for a fraction of its price."""

    __slots__ = ("_found", "_problem", "done", "then")

    def __init__(self) -> None:
        self.done = False
        self.then: Callable[[], None] | None = None
        self._problem: BaseException | None = None

    def __await__(self) -> Generator[Wait[Any], None, _T]:
        if not self.done:
            yield self
        if (problem := self._problem) is not None:
            self._problem = None
            try:
                raise problem
            finally:  # no cycle through the traceback
                del problem
        return self._found

    def settle(self, found: _T) -> None:
        """It has come, unless the wait was over before."""
        if not self.done:
            self._found = found
            self._over()

    def fail(self, problem: BaseException) -> None:
        """It will not come, unless the wait was over before."""
        if not self.done:
            self._problem = problem
            self._over()

    def _over(self) -> None:
        self.done = True
        if (then := self.then) is not None:
            self.then = None
            then()


class Errand(Generic[_T]):
    """A coroutine that awaits nothing but `Wait`s, run to its end in the rounds of `sockets` and without a task.

    `done` is told what it returned, or the exception it raised.
    """

    __slots__ = ("_done", "_sockets", "_work")

    def __init__(
        self, sockets: Sockets, work: Coroutine[Wait[Any], None, _T], done: Callable[[_T | BaseException], None]
    ) -> None:
        self._sockets, self._work, self._done = sockets, work, done

    def step(self) -> None:
        """Go on as far as it goes: at first, and whenever what it waits for has come."""
        try:
            wait = self._work.send(None)
        except StopIteration as end:
            return self._end(end.value)
        except (Exception, asyncio.CancelledError) as problem:
            return self._end(problem)
        wait.then = self._next_round

    def _next_round(self) -> None:
        self._sockets.soon(self.step)

    def _end(self, found: _T | BaseException) -> None:
        done, self._done = self._done, _ignore
        done(found)

    def give_up(self) -> None:
        """Tell nobody any more: the coroutine closes what it has open. Not to be called from within it."""
        self._done = _ignore
        self._work.close()


async def elsewhere(work: Coroutine[Any, Any, _T]) -> _T:
    """Await within an errand what needs a task: TLS, or the pace."""
    wait: Wait[_T] = Wait()
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(partial(_told, wait))
    try:
        return await wait
    except BaseException:
        task.cancel()
        raise


def _told(wait: Wait[_T], task: asyncio.Task[_T]) -> None:
    if task.cancelled():
        wait.fail(asyncio.CancelledError())
    elif (problem := task.exception()) is not None:
        wait.fail(problem)
    else:
        wait.settle(task.result())


async def _within(seconds: float, work: Coroutine[Any, Any, _T]) -> _T:
    async with asyncio.timeout(seconds):
        return await work


async def run(sockets: Sockets, work: Coroutine[Wait[Any], None, _T]) -> _T:
    """Await the end of an errand within a task; to cancel the task gives it up."""
    ended: asyncio.Future[_T | BaseException] = asyncio.get_running_loop().create_future()
    errand = Errand(sockets, work, partial(settle, ended))
    try:
        errand.step()
        found = await ended
    except BaseException:
        errand.give_up()
        raise
    if isinstance(found, BaseException):
        raise found
    return found


# ---- connecting ------------------------------------------------------------------------------------------------------


class Socket(socket.SocketType):
    """A socket without the layer that Python's own has for files and enums: 3 µs less for each target."""

    __slots__ = ()


def _report(fault: Exception) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": "a socket's handler broke", "exception": fault})


class Sockets:
    """Our sockets, watched by one epoll that the event loop watches as a whole, and the deadlines of their connects.

    To register a socket with the loop, and a timer for it, costs more than to be refused; most targets of the world end
    there. The epoll is open while there is a socket in it, or all the time between `hold` and `close`. Raises
    ScannerFault where there is no epoll, or no descriptor for it.

    Attributes:
        broke: told what a handler raised, which keeps no other from being called; the event loop's handler by default.
    """

    def __init__(self) -> None:
        self.broke: Callable[[Exception], None] = _report
        self._ready: dict[int, Callable[[], None]] = {}
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._rounds: deque[list[Callable[[], None]]] = deque()
        self._count = itertools.count()
        self._epoll: select.epoll | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held = False

    def hold(self) -> None:
        """Keep the epoll open until `close`."""
        self._held = True

    def close(self) -> None:
        """Let the epoll go, and forget every deadline and round to come: nobody is told anything any more."""
        self._held = False
        self._ready.clear()
        self._rounds.clear()
        self._rest()

    def watch(self, sock: socket.SocketType, events: int, ready: Callable[[], None]) -> None:
        """Call `ready` when any of these events (select.EPOLLIN…) happens, instead of what was watched before."""
        epoll, number = self._epoll or self._open(), sock.fileno()
        if number in self._ready:
            epoll.modify(number, events)
        else:
            epoll.register(number, events)
        self._ready[number] = ready

    def part_from(self, sock: socket.SocketType) -> None:
        """Watch a socket no more: somebody else will."""
        if self._ready.pop(sock.fileno(), None) is not None and self._epoll is not None:
            self._epoll.unregister(sock.fileno())
        self._rest()

    def end(self, sock: socket.SocketType) -> None:
        """Close a socket; with it, the epoll forgets it."""
        self._ready.pop(sock.fileno(), None)
        sock.close()
        self._rest()

    def remind(self, due: float, alarm: Alarm) -> None:
        """Ring an alarm when it is due, of `time.monotonic`. One timer for all: it rings for the first."""
        heapq.heappush(self._alarms, (due, next(self._count), alarm))
        if self._alarms[0][2] is alarm:
            self._set()

    def soon(self, call: Callable[[], None], rounds: int = 1) -> None:
        """Call in the next round of the event loop, or so many later. One callback of the loop does for all."""
        if not self._rounds:
            asyncio.get_running_loop().call_soon(self._round)
        while len(self._rounds) < rounds:
            self._rounds.append([])
        self._rounds[rounds - 1].append(call)

    def pause(self, rounds: int) -> Wait[None]:
        """So many rounds of the event loop."""
        wait: Wait[None] = Wait()
        self.soon(partial(wait.settle, None), rounds)
        return wait

    def _round(self) -> None:
        if not self._rounds:  # closed meanwhile
            return
        calls = self._rounds.popleft()
        if self._rounds:
            asyncio.get_running_loop().call_soon(self._round)
        for call in calls:
            try:
                call()
            except Exception as fault:
                self.broke(fault)

    def _open(self) -> select.epoll:
        try:
            self._epoll = epoll = select.epoll()
        except (OSError, AttributeError) as problem:
            words = problem.strerror if isinstance(problem, OSError) else "this system has no epoll: scan from Linux"
            raise ScannerFault(f"cannot watch sockets: {words}") from None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(epoll.fileno(), self._look)
        return epoll

    def _look(self) -> None:
        """Tell who is ready. Who was watched only after the look is another socket with the same number."""
        assert self._epoll is not None
        watched = self._ready
        found = [(number, watched.get(number)) for number, _ in self._epoll.poll(0)]
        for number, ready in found:
            if ready is not None and watched.get(number) is ready:
                try:
                    ready()
                except Exception as fault:
                    self.broke(fault)

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = max(0.0, self._alarms[0][0] - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._timer, now = None, time.monotonic() + TICK_S
        while self._alarms and (self._alarms[0][0] <= now or self._alarms[0][2].over):
            try:
                heapq.heappop(self._alarms)[2].ring(now)
            except Exception as fault:
                self.broke(fault)
        if self._alarms:
            self._set()
        else:
            self._rest()

    def _rest(self) -> None:
        if self._ready or self._held:
            return
        if all(alarm.over for _, _, alarm in self._alarms):
            self._alarms.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None


Dialled = Callable[["Socket | Exception"], None]
"""Told how a connect ended: a connected socket, an `Ended`, or a ScannerFault."""


def _ignore(found: object) -> None:
    return None


class Dial:
    """One connect. No task, no future and, on the way to a refusal, no exception: that is how most targets end."""

    __slots__ = ("_address", "_alarm", "_done", "_sock", "_sockets")

    def __init__(self, sockets: Sockets, address: tuple[str, int], seconds: float, done: Dialled, alarm: Alarm) -> None:
        self._sockets, self._address, self._done, self._alarm = sockets, address, done, alarm
        self._sock: Socket | None = None
        try:
            self._sock = sock = Socket(_IPV6 if ":" in address[0] else _IPV4, _NON_BLOCKING)
            number = sock.connect_ex(address)
            if number == errno.EINPROGRESS:
                sockets.watch(sock, _CONNECTED, self.ready)
                return alarm.set(seconds, self.late)
        except OSError as problem:
            number = problem.errno or errno.EIO
        except BaseException:
            self.give_up()
            raise
        self._end(number)

    def ready(self) -> None:
        """The socket says that it has ended."""
        assert self._sock is not None
        self._end(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def late(self) -> None:
        """Its time is up. What the kernel knows decides: the clock would blame the host when it is we who are late."""
        if (sock := self._sock) is not None:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._end(number or (0 if _connected(sock) else errno.ETIMEDOUT))

    def give_up(self) -> None:
        """Tell nobody any more."""
        sock, self._sock, self._done = self._sock, None, _ignore
        self._alarm.off()
        if sock is not None:
            self._sockets.end(sock)

    def _end(self, number: int) -> None:
        sock, done = self._sock, self._done
        if number or sock is None:
            self.give_up()
            return done(_not_connected(number, self._address))
        self._sock, self._done = None, _ignore
        self._alarm.off()
        done(sock)


_IPV4, _IPV6 = socket.AF_INET, socket.AF_INET6
_NON_BLOCKING = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
_CONNECTED = getattr(select, "EPOLLOUT", 0) | getattr(select, "EPOLLONESHOT", 0)
_READABLE = getattr(select, "EPOLLIN", 0)


def _connected(sock: socket.SocketType) -> bool:
    with suppress(OSError):
        return bool(sock.getpeername())
    return False


async def connect(sockets: Sockets, address: tuple[str, int], seconds: float, alarm: Alarm) -> Socket:
    """A connected socket. Raises `Ended` for what the host did, ScannerFault for what this machine lacks."""
    ended: Wait[Socket | Exception] = Wait()
    dial = Dial(sockets, address, seconds, ended.settle, alarm)
    try:
        found = await ended
    except BaseException:
        dial.give_up()
        raise
    if isinstance(found, Exception):
        raise found
    return found


def settle(future: asyncio.Future[_T], found: _T) -> None:
    """Give a future its result, unless nobody waits for it any more."""
    if not future.done():
        future.set_result(found)


# ---- certificates ----------------------------------------------------------------------------------------------------


def tls_context() -> ssl.SSLContext:
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


def certificate(der: bytes) -> Certificate:
    """A certificate's hash, and of its fields what can be read."""
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


# ---- bounds ----------------------------------------------------------------------------------------------------------


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


class Allowance:
    """Bytes that may still be read from one target, over all its connections."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


# ---- one reply -------------------------------------------------------------------------------------------------------


class _Incoming:
    """One reply on its way in. The parser (llhttp) calls the `on_` methods and keeps nothing, so the bounds are here.

    Line ends without a carriage return and odd bytes in header values are let through, as browsers do; a NUL is not.
    """

    __slots__ = ("_bodyless", "_limits", "_lines", "_parser", "body", "fault", "headers", "keep", "stage", "status")

    def __init__(self, limits: Limits, *, bodyless: bool) -> None:
        self._limits, self._bodyless = limits, bodyless
        self.stage: Literal["head", "body", "whole"] = "head"
        self.status = self._lines = 0
        self.headers: list[tuple[str, str]] = []
        self.body: bytes | bytearray = b""
        self.keep = False
        self.fault: str | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    def feed(self, data: bytes) -> None:
        """Parse what came. What is wrong with it is then in `fault`."""
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except HttpParserError as problem:
            self._doubt(first_line(str(problem)))

    def let_go(self) -> None:
        """Part from the parser: the two hold each other, and would wait for the garbage collector."""
        self._parser = None

    @property
    def too_long(self) -> bool:
        """Whether there is more body than is kept."""
        return len(self.body) > self._limits.max_body

    @property
    def until_close(self) -> bool:
        """Whether nothing but the end of the connection ends this body (RFC 9112, section 6.3)."""
        fields = {name.strip().lower(): value for name, value in self.headers}
        coding = fields.get("transfer-encoding", "").lower().rpartition(",")[2].strip()
        return self.stage == "body" and coding != "chunked" and "content-length" not in fields

    def _doubt(self, words: str) -> None:
        """Nothing behind the end of a whole reply can undo it; the connection is then of no further use."""
        if self.stage == "whole":
            self.keep = False
        else:
            self.fault = self.fault or words

    # -- what the parser calls --

    on_status = on_chunk_header = on_chunk_complete = None  # for the parser to look up what is missing costs 2 µs

    def on_message_begin(self) -> None:
        if self.stage == "whole":
            self._doubt("a reply to a question that nobody asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > self._limits.max_headers:
            self._doubt(f"more than {self._limits.max_headers} header lines")
        elif 0 in value:
            self._doubt("NUL in a header")
        elif self.stage == "head":  # later ones are trailers, or not ours
            self.headers.append((name.decode("latin-1"), value.rstrip(b" \t").decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.stage == "head" and self._parser is not None:
            self.status, self.keep = self._parser.get_status_code(), self._parser.should_keep_alive()
            if self.status < 100:  # three digits are all that the parser asks for (RFC 9110, 15)
                self._doubt(f"status {self.status:03}")
            self.stage = "whole" if self._bodyless else "body"

    def on_body(self, data: bytes) -> None:
        if self.stage != "body" or self.too_long:
            return
        if not self.body:  # mostly all there is
            self.body = data
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += data

    def on_message_complete(self) -> None:
        if self.stage == "body":
            self.stage = "whole"


# ---- one connection --------------------------------------------------------------------------------------------------


class Wire(asyncio.Protocol):
    """One connection: `open` or `open_tls`, `ask` as often as the server keeps it open, `close`.

    Lets nothing through but one reply to a question that was asked, and keeps its head as sent. A plain connection is a
    socket of `sockets`, for a fraction of a transport's price; TLS has the event loop's transport.

    Args:
        sock: connected. sockets: where it was. alarm: of the conversation that will ask.
        limits, allowance: what the target may still send. host: the value of this header.
    """

    def __init__(
        self, sock: socket.SocketType, sockets: Sockets, alarm: Alarm, limits: Limits, allowance: Allowance, host: str
    ) -> None:
        self._sock: socket.SocketType | None = sock
        self._sockets, self._alarm, self._limits, self._allowance = sockets, alarm, limits, allowance
        self._host = host.encode("ascii")
        self._transport: asyncio.Transport | None = None
        self._asked: Question | None = None
        self._answer: Wait[Reply] | None = None
        self._head = bytearray()
        self._question: Question
        self._scheme: Scheme
        self._seconds = self._start = 0.0
        self._asked_at: datetime | None = None
        self._interim = 0
        self._incoming: _Incoming | None = None
        self._status_line = ""
        self._fresh = self._keep = True
        self._broken: tuple[str, bool] | None = None
        self._gone: BaseException | None = None

    async def open(self) -> None:
        """Take over the socket, and let who speaks without being asked be heard."""
        assert self._sock is not None
        self._sockets.watch(self._sock, _READABLE, self._readable)
        await self._sockets.pause(LOOKS)

    async def open_tls(self, context: ssl.SSLContext, name: str, seconds: float) -> None:
        """As `open`, after greeting by TLS within `seconds`; `name` is the SNI, or "" for none."""
        loop, sock, self._sock = asyncio.get_running_loop(), self._sock, None
        assert sock is not None
        self._sockets.part_from(sock)
        whole = socket.socket(fileno=sock.detach())
        opening = loop.create_connection(lambda: self, sock=whole, ssl=context, server_hostname=name)
        try:
            await elsewhere(_within(seconds, opening))
        except OSError as problem:
            raise _no_handshake(problem) from None
        except GeneratorExit:  # given up, perhaps before the task had begun: then nobody else closes it
            loop.call_soon(whole.close)
            raise
        await self._sockets.pause(LOOKS)

    def certificate(self) -> Certificate | None:
        """What the server presented, if it did."""
        link = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        der = link.getpeercert(True) if link else None
        return certificate(der) if der else None

    @property
    def reusable(self) -> bool:
        """Whether another question may be asked on it."""
        return self._keep and self._broken is None and self._gone is None and self._unread() is None

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

    def ask(self, question: Question, words: Words, scheme: Scheme, seconds: float) -> Wait[Reply]:
        """Send one question; its whole reply, or `max_body` bytes of it, will come within `seconds`, or `Ended`."""
        if self._fresh and self._broken is None and (early := self._unread()):
            self.data_received(early)
        answer: Wait[Reply] = Wait()
        self._answer = answer
        if self._broken is not None:
            self._fail(self._ended())
            return answer
        self._asked, self._question, self._scheme, self._seconds = question, question, scheme, seconds
        self._fresh, self._interim = False, 0
        self._head.clear()
        if self._gone is not None or (self._sock is None and self._transport is None):
            self._fail(self._ended())
            return answer
        self._asked_at, self._start = now(), time.perf_counter()
        self._write(words[0] + self._host + words[1])
        if not answer.done:
            self._alarm.set(seconds, self._late)
        return answer

    def _late(self) -> None:
        words = f"no whole reply to {self._question} within {self._seconds:.3g} s"
        self._fail(Ended(Outcome.IO_TIMEOUT, words))

    def _fail(self, problem: Exception) -> None:
        """No reply is waited for any more."""
        answer, self._answer = self._answer, None
        self._asked = self._incoming = None
        self._alarm.off()
        if answer is not None:
            answer.fail(problem)

    def _write(self, data: bytes) -> None:
        """A question is far smaller than any socket's buffer: one that does not fit is a connection that is stuck."""
        if self._transport is not None:
            return self._transport.write(data)
        assert self._sock is not None
        try:
            if self._sock.send(data) < len(data):
                raise BrokenPipeError
        except OSError as problem:
            self._lost(problem)

    def close(self) -> None:
        """At once: no TLS farewell is waited for, so that a descriptor is never held by a server's slowness."""
        if self._transport is not None:
            self._transport.abort()
        elif self._sock is not None:
            sock, self._sock = self._sock, None
            self._sockets.end(sock)

    # -- what the socket says, or the event loop --

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as problem:
            return self._lost(problem)
        if not data:
            return self._lost(None)
        try:
            self.data_received(data)
        except Exception as fault:
            self._lost(fault)

    def _lost(self, problem: Exception | None) -> None:
        self.close()
        self.connection_lost(problem)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._allowance.left -= len(data)
        if self._allowance.left < 0:
            self._break(TOO_MUCH)
        elif self._incoming is not None:
            self._read(data)
        elif self._asked is not None:
            self._read_head(data)
        else:
            self._break(f"spoke without being asked: {_glimpse(data)}", tls=data.startswith(_TLS_RECORDS))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._gone = exc or EOFError()
        if self._answer is None:
            return
        if exc is None and self._incoming is not None and self._incoming.until_close:
            self._deliver(self._incoming)
        else:
            self._fail(self._ended())

    # -- one reply --

    def _read_head(self, data: bytes) -> None:
        if not self._head and data.startswith(b"HTTP/") and (end := _HEAD_END.search(data)):
            head = data[: end.end()]  # whole at once, as nearly always
            if not _INTERIM.match(head):
                if self._plausible(head):
                    self._take(head, data[end.end() :])
                return
        start = max(0, len(self._head) - 2)
        self._head += data
        if self._head.startswith((b"\r", b"\n")):  # RFC 9112, section 2.2: an empty line may come first
            del self._head[: len(self._head) - len(self._head.lstrip(b"\r\n"))]
        while self._in_head and (end := _HEAD_END.search(self._head, start)):
            head, start = bytes(self._head[: end.end()]), 0
            del self._head[: end.end()]
            if self._plausible(head):
                self._pass_over(head) if _INTERIM.match(head) else self._take(head, bytes(self._head))
        if self._in_head:
            self._plausible(self._head)

    @property
    def _in_head(self) -> bool:
        return self._asked is not None and self._incoming is None

    def _plausible(self, head: bytes | bytearray) -> bool:
        if len(head) > self._limits.max_header_bytes:
            self._break(f"headers of more than {self._limits.max_header_bytes} bytes")
        elif len(head) >= 5 and not head.startswith(b"HTTP/"):
            self._break(f"not HTTP: {_glimpse(head)}", tls=head.startswith(_TLS_RECORDS))
        return self._broken is None

    def _pass_over(self, head: bytes) -> None:
        self._interim += 1
        if head[9:12] == b"101":
            self._break("switched protocols without being asked")
        elif self._interim > MAX_INTERIM:
            self._break(f"more than {MAX_INTERIM} interim replies")

    def _take(self, head: bytes, rest: bytes) -> None:
        """One whole head. It is parsed before what stands behind it, so that nothing there can undo it."""
        assert self._asked is not None
        self._status_line = head[: head.index(b"\n")].rstrip(b"\r").decode("latin-1")
        self._incoming = _Incoming(self._limits, bodyless=self._asked.method == "HEAD")
        self._read(head)
        if rest and self._incoming is not None:
            self._read(rest)
        elif rest:
            self._keep = False

    def _read(self, data: bytes) -> None:
        incoming = self._incoming
        assert incoming is not None
        incoming.feed(data)
        if incoming.fault is not None:
            self._break(f"broken HTTP: {incoming.fault}")
        elif incoming.stage == "whole" or incoming.too_long:
            self._deliver(incoming)

    def _deliver(self, incoming: _Incoming) -> None:
        """The reply is complete, or as much of it as is kept: what comes now answers nothing."""
        limit, body = self._limits.max_body, incoming.body
        truncated = len(body) > limit
        self._keep = incoming.keep and not truncated
        answer, self._answer = self._answer, None
        self._asked = self._incoming = None
        self._alarm.off()
        incoming.let_go()
        if answer is None:
            return
        elapsed_ms = 1000 * (time.perf_counter() - self._start)
        answer.settle(
            Reply(
                self._question,
                self._scheme,
                incoming.status,
                self._status_line,
                tuple(incoming.headers),
                bytes(body[:limit] if truncated else body),
                truncated,
                self._asked_at,
                elapsed_ms,
            )
        )

    # -- how it goes wrong --

    def _break(self, words: str, *, tls: bool = False) -> None:
        self._broken = self._broken or (words, tls)
        self._fail(self._ended())
        self.close()

    def _ended(self) -> Exception:
        """Why a reply did not come to its end. What is neither the host's doing nor the network's is our own crash."""
        if isinstance(self._gone, Exception) and not isinstance(self._gone, (OSError, EOFError)):
            return self._gone
        if self._broken is not None:
            return Ended(Outcome.PROTOCOL_ERROR, self._broken[0], tls=self._broken[1])
        if fault := _tls_fault(self._gone):
            return fault
        if self._in_head and self._head and not b"HTTP/".startswith(self._head[:5]):
            return Ended(Outcome.PROTOCOL_ERROR, f"not HTTP: {_glimpse(self._head)}")
        return self._cut_short()

    def _cut_short(self) -> Ended:
        how = "closed" if isinstance(self._gone, EOFError) else "reset"
        unheard = self._in_head and not self._head and not self._interim
        where = "before answering" if unheard else "in mid-head" if self._in_head else "in mid-body"
        return Ended(Outcome.CONNECTION_CLOSED, f"{how} {where}", unheard=unheard)


Words = tuple[bytes, bytes]
"""What is sent for a question before and after the value of the Host header."""


def request(question: Question, agent: str) -> Words:
    """Exactly what is sent. LocalAI's `/` hands out its configuration unless HTML is accepted there."""
    accept = "text/html,text/plain;q=0.9,*/*;q=0.5" if question.path == "/" else "application/json,*/*;q=0.5"
    before = f"{question.method} {question.path} HTTP/1.1\r\nHost: "
    after = f"\r\nUser-Agent: {agent}\r\nAccept: {accept}\r\nAccept-Encoding: identity\r\n\r\n"
    return before.encode("ascii"), after.encode("ascii")
