"""Target -> Conversation: the one stage that talks to a target.

What may live here: what may be asked at all (the gate) and how a conversation goes: the next question, reconnecting,
turning to TLS, giving up. The bytes of each connection are in `wire.py`. Nothing here knows what an answer means.
"""

from __future__ import annotations

import asyncio
import re
import time
import tomllib
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache, partial
from types import TracebackType
from typing import Any

from census import resources
from census.errors import DataError, UsageError
from census.hostile import printable
from census.model import Certificate, Conversation, Outcome, Plan, Question, Reply, Scheme, Target
from census.wire import (
    MAX_WORDS,
    TOO_MUCH,
    Alarm,
    Allowance,
    Dial,
    Ended,
    Errand,
    Limits,
    Socket,
    Sockets,
    Wait,
    Wire,
    Words,
    connect,
    elsewhere,
    first_line,
    now,
    request,
    settle,
    tls_context,
)

__all__ = ["Forbidden", "Limits", "Prober", "Route", "Talk", "allowed", "never", "now", "user_agent"]

MAX_PATH = 100
"""Characters of a question's path. The longest path of `data/servers/` needs a third of it."""

TLS_PORTS = frozenset({443, 8443})
"""Ports asked by https first."""

DEFAULT_PORTS = {"http": 80, "https": 443}
"""Left out of the Host header, as browsers do (RFC 9110, section 7.2)."""

USUAL = Limits()

Route = Callable[[str, int], tuple[str, int]]
"""Where to connect instead: a simulated address and port -> a socket address on loopback."""


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


def _address(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _host_header(target: Target, scheme: Scheme) -> str:
    full = _address(target.domain or target.ip, target.port)
    return full.rpartition(":")[0] if target.port == DEFAULT_PORTS[scheme] else full


class Talk:
    """One conversation: its state, and the rules of `Limits`.

    It is an object and callbacks until it is connected, since most targets never answer, and from then on a coroutine
    that the connection's own events drive (`Errand`): it never is a task.
    """

    sock: Socket | None = None
    line: Wire | None = None
    asked_at: datetime | None = None
    latency_ms: float | None = None
    certificate: Certificate | None = None
    error: str | None = None
    end = Outcome.UNKNOWN_ERROR
    requests = connections = 0
    first: tuple[Question, Words] | None = None
    _dial: Dial | None = None
    _errand: Errand[None] | None = None

    def __init__(self, prober: Prober, target: Target, plan: Plan, then: Then) -> None:
        self.prober, self.target, self.plan, self.then, self.limits = prober, target, plan, then, prober.limits
        self.scheme: Scheme = target.scheme or ("https" if target.port in TLS_PORTS else "http")
        self.began = time.monotonic()
        self.deadline = self.began + self.limits.target_timeout
        self.replies: list[Reply] = []
        self.alarm = Alarm(prober.sockets)

    def prepare(self) -> bool:
        """Choose the first question; False when there is none. Raises Forbidden when it may not be asked."""
        if self.target.domain and not _DOMAIN.fullmatch(self.target.domain):
            return self._not(Outcome.INVALID_INPUTS, f"not a host name: {first_line(self.target.domain)!r}")
        if (question := self.plan(self.target, ())) is None:
            return self._not(Outcome.UNKNOWN_ERROR, "the plan has no question for this target")
        self.first = question, self.prober.check(question)
        return True

    def _not(self, outcome: Outcome, words: str) -> bool:
        self.end, self.error = outcome, words
        self.then(self.told())
        return False

    def begin(self) -> None:
        """The first connect, to be called when it is admitted. `then` learns how all ended, perhaps at once.

        Raises whatever `route` and `excluded` raise.
        """
        self.asked_at, prober, target = now(), self.prober, self.target
        if reason := prober.excluded(target.ip):
            self._not(Outcome.BLOCKLISTED_TARGET, reason)
            return
        address = prober.route(target.ip, target.port)
        self.connections = 1
        seconds = min(self.limits.connect_timeout, self.limits.target_timeout)
        prober.talks.add(self)
        self._start = time.perf_counter()
        dial = Dial(prober.sockets, address, seconds, self._dialled, self.alarm)
        if self in prober.talks and self._errand is None:
            self._dial = dial

    def _dialled(self, found: Socket | Exception) -> None:
        self._dial = None
        if isinstance(found, Socket):
            self.sock, self.latency_ms = found, 1000 * (time.perf_counter() - self._start)
            self._errand = Errand(self.prober.sockets, self._talk(), self._over)
            self._errand.step()
        else:
            self._over(found)

    def _over(self, problem: BaseException | None) -> None:
        """It ended: as told, as the target made it end, or with a fault of ours."""
        self._errand = None
        self.prober.talks.discard(self)
        if isinstance(problem, Ended):
            self.end, self.error, problem = problem.outcome, problem.words, None
        self.then(self.told() if problem is None else problem)

    def give_up(self) -> None:
        """Close what is open, and tell nobody any more."""
        self.prober.talks.discard(self)
        if self._dial is not None:
            self._dial.give_up()
        elif self._errand is not None:
            self._errand.give_up()

    async def _talk(self) -> None:
        """Ask, once connected, until the plan says no more or the target gives cause to stop."""
        assert self.first is not None
        self.allowance = Allowance(self.limits.max_target_bytes)
        replies, plan, check = self.replies, self.plan, self.prober.check
        try:
            replies.append(await self._first_answer(*self.first))
            while (question := plan(self.target, tuple(replies))) is not None:
                replies.append(await self._ask(question, check(question)))
        finally:
            self._hang_up()

    async def _first_answer(self, question: Question, words: Words) -> Reply:
        """The reply to the first question; by https once the port has shown that it speaks TLS."""
        undecided = self.scheme == "http"
        try:
            reply = await self._ask(question, words)
        except Ended as ended:
            if not (undecided and ended.tls):
                raise
            return await self._ask_by_https(question, words)
        if not (undecided and _wants_tls(reply)):
            return reply
        try:
            return await self._ask_by_https(question, words)
        except Ended:
            self.replies.append(reply)
            raise

    async def _ask_by_https(self, question: Question, words: Words) -> Reply:
        self._hang_up()
        self.scheme = "https"
        return await self._ask(question, words)

    async def _ask(self, question: Question, words: Words) -> Reply:
        """On the open connection, or once on a new one if that is gone or goes without a word."""
        if (line := self.line) is not None and line.reusable:
            try:
                return await self._send(line, question, words)
            except Ended as ended:
                if not ended.unheard:
                    raise
        return await self._send(await self._open(), question, words)

    def _send(self, line: Wire, question: Question, words: Words) -> Wait[Reply]:
        if self.requests >= self.limits.max_requests:
            raise Ended(Outcome.UNKNOWN_ERROR, f"stopped after {self.limits.max_requests} requests")
        if self.allowance.left <= 0:
            raise Ended(Outcome.PROTOCOL_ERROR, TOO_MUCH)
        seconds = self._seconds(self.limits.read_timeout)
        self.requests += 1
        return line.ask(question, words, self.scheme, seconds)

    async def _open(self) -> Wire:
        sock = await self._connected()
        host = _host_header(self.target, self.scheme)
        self.line = line = Wire(sock, self.prober.sockets, self.alarm, self.limits, self.allowance, host)
        if self.scheme == "http":
            await line.open()
            return line
        seconds, name = self._seconds(self.limits.read_timeout), self.target.domain.rstrip(".")
        await line.open_tls(self.prober.tls, name, seconds)
        self.certificate = self.certificate or line.certificate()
        return line

    async def _connected(self) -> Socket:
        """The socket of the first connect, or another one to the same target."""
        if (first := self.sock) is not None:
            self.sock = None
            return first
        self._hang_up()
        if self.connections >= self.limits.max_connections:
            raise Ended(Outcome.UNKNOWN_ERROR, f"stopped after {self.limits.max_connections} connections")
        await self._admission()
        address = self.prober.route(self.target.ip, self.target.port)
        seconds = self._seconds(self.limits.connect_timeout)
        self.connections += 1
        return await connect(self.prober.sockets, address, seconds, self.alarm)

    async def _admission(self) -> None:
        """Waits for leave to connect, at no cost to the target's time; then looks whether it is excluded."""
        start = time.monotonic()
        await elsewhere(self.prober.admit(self.target.ip))
        self.deadline += time.monotonic() - start
        if reason := self.prober.excluded(self.target.ip):
            raise Ended(Outcome.BLOCKLISTED_TARGET, reason)

    def _seconds(self, at_most: float) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Ended(Outcome.IO_TIMEOUT, f"more than {self.limits.target_timeout:.3g} s in all")
        return min(at_most, left)

    def _hang_up(self) -> None:
        line, sock, self.line, self.sock = self.line, self.sock, None, None
        if line is not None:
            line.close()
        if sock is not None:
            self.prober.sockets.end(sock)

    def told(self) -> Conversation:
        """What was asked and answered, and how it ended."""
        return Conversation(
            target=self.target,
            outcome=self._outcome(),
            asked_at=self.asked_at or now(),
            replies=tuple(self.replies),
            error=self.error,
            latency_ms=self.latency_ms,
            requests=self.requests,
            connections=self.connections,
            scheme=self.scheme,
            certificate=self.certificate,
        )

    def _outcome(self) -> Outcome:
        if not self.replies:
            return self.end
        return Outcome.SUCCESS if any(reply.status < 500 for reply in self.replies) else Outcome.APPLICATION_ERROR


Then = Callable[["Conversation | BaseException"], None]
"""Told how a conversation ended, or what of ours broke: a ScannerFault, or a crash."""


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
        limits: Limits = USUAL,
        user_agent: str,
        route: Route | None = None,
        excluded: Callable[[str], str | None] = _nobody,
        admit: Callable[[str], Coroutine[Any, Any, None]] = _at_once,
    ) -> None:
        self.questions = allowed(questions)
        self.limits = limits
        self.user_agent = user_agent
        self.route = route or _direct
        self.excluded = excluded
        self.admit = admit
        self.tls = tls_context()
        self.sockets = Sockets()
        self.talks: set[Talk] = set()
        self._words: dict[Question, Words] = {}

    async def __aenter__(self) -> Prober:
        self.sockets.hold()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for talk in list(self.talks):
            talk.give_up()
        self.sockets.close()

    def check(self, question: Question) -> Words:
        """The gate: what is sent for a question. Raises Forbidden for one that may not be sent, before it is."""
        words = self._words.get(question)
        if words is None:
            if question not in self.questions:
                raise Forbidden(f"'{question}' is not among the questions of this scan")
            if reason := never(question):
                raise Forbidden(f"'{question}' may not be asked: {reason}")
            words = self._words[question] = request(question, self.user_agent)
        return words

    def knock(self, target: Target, plan: Plan, then: Then) -> None:
        """Have a conversation that is admitted already, without a task; `then` is told how it ended.

        Raises, before anybody is asked, Forbidden if the plan asks what was not announced, and whatever `plan`,
        `route`, `excluded` raise.
        """
        talk = Talk(self, target, plan, then)
        try:
            if talk.prepare():
                talk.begin()
        except BaseException:
            talk.give_up()
            raise

    async def converse(self, target: Target, plan: Plan) -> Conversation:
        """Ask one target what `plan` says, until it says no more or the target gives cause to stop.

        Nothing that a server does raises. Raises Forbidden if the plan asks what was not announced, ScannerFault if
        this machine is out of descriptors, ports or memory, and whatever `plan`, `route`, `excluded`, `admit` raise.
        """
        done: asyncio.Future[Conversation | BaseException] = asyncio.get_running_loop().create_future()
        talk = Talk(self, target, plan, partial(settle, done))
        try:
            if talk.prepare():
                start = time.monotonic()
                await self.admit(target.ip)
                talk.deadline += time.monotonic() - start
                talk.begin()
            found = await done
        finally:
            talk.give_up()
        if isinstance(found, BaseException):
            raise found
        return found
