"""The probe against real sockets on loopback: every outcome, every bound, and nothing sent that may not be."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import re
import resource
import socket
import ssl
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from census import probe, resources, wire
from census.errors import DataError, ScannerFault, UsageError
from census.model import Conversation, Outcome, Plan, Question, Reply, Target
from census.probe import Forbidden, Limits, Prober, allowed, never, user_agent
from tests import hostile_servers as zoo

VERSION, TAGS, PS, ROOT = (Question("GET", path) for path in ("/api/version", "/api/tags", "/api/ps", "/"))
HEAD_PS = Question("HEAD", "/api/ps")
QUESTIONS = frozenset({VERSION, TAGS, PS, ROOT, HEAD_PS})
TARGET = Target("240.0.0.1", 11434)
PATIENT = Limits(5, 10, 20)
"""For whoever answers: far beyond what a busy machine needs."""
HASTY = Limits(0.4, 0.4, 1.5)
"""For whoever does not: a test waits these out."""
AGENT = "census/0 (+mailto:test@example.org)"


async def nothing() -> None:
    """For the first run of an event loop, which opens files that stay."""


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def no_socket_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test on the event loop of the scan and on the plain one that stands in where there is none."""
    kept = asyncio.get_event_loop_policy()
    if request.param == "uvloop":
        asyncio.set_event_loop_policy(pytest.importorskip("uvloop").EventLoopPolicy())
    asyncio.run(nothing())
    before = open_files()
    yield
    asyncio.set_event_loop_policy(kept)
    assert open_files() <= before


def open_files() -> int:
    """File descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def planned(*questions: Question) -> Plan:
    return lambda target, replies: questions[len(replies)] if len(replies) < len(questions) else None


def run(
    behaviour: zoo.Behaviour,
    *questions: Question,
    target: Target = TARGET,
    limits: Limits = PATIENT,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    **handed: Any,
) -> tuple[Conversation, zoo.Log]:
    """One conversation with one server. Whatever the server does, it must end."""

    async def talk() -> tuple[Conversation, zoo.Log]:
        async with zoo.serve(behaviour, tls, host) as log:
            route = handed.pop("route", lambda ip, port: log.address)
            async with Prober(QUESTIONS, limits=limits, user_agent=AGENT, route=route, **handed) as prober:
                plan = planned(*questions or (VERSION, TAGS, PS))
                return await asyncio.wait_for(prober.converse(target, plan), 30), log

    return asyncio.run(talk())


def knock(address: tuple[str, int], limits: Limits = HASTY) -> Conversation:
    async def talk() -> Conversation:
        async with Prober(QUESTIONS, limits=limits, user_agent=AGENT, route=lambda ip, port: address) as prober:
            return await prober.converse(TARGET, planned(VERSION))

    return asyncio.run(talk())


# ---- what may be asked -----------------------------------------------------------------------------------------------


def test_the_never_list_keeps_its_schema() -> None:
    schema = json.loads(resources.schemas("never.schema.json").read_text())
    data = tomllib.loads(resources.data("never.toml").read_text())
    jsonschema.Draft202012Validator(schema).validate(data)
    paths = [entry["path"] for entry in data["never"]]
    assert len(paths) == len(set(paths))


def test_every_exception_is_covered_by_its_pattern() -> None:
    for entry in tomllib.loads(resources.data("never.toml").read_text())["never"]:
        pattern = re.compile(".*".join(map(re.escape, entry["path"].split("*"))))
        for exception in entry.get("except", []):
            assert pattern.fullmatch(exception["path"])
            assert never(Question("GET", exception["path"])) is None


HARMFUL = """
/health /HEALTH /health/ /Health/x /health_generate /healthz /health/liveliness/ /Health/liveliness
/health/liveness /generate /generate_stream /api/generate /api/extra/generate/check /prefix/api/generate
/flush_cache /terminate /terminate/ /unload /upstream /upstream/model/v1 /metrics /metrics/ /perf_metrics
/prometheus/metrics /slots /slots/0 /api/me /api/me/ /api/pull /api/push /api/create /api/copy /api/delete
/api/blobs/x /api/chat /api/embed /api/embeddings /v1/embeddings /v1/chat/completions /v1/completions
/v1/responses /v1/models/llama-cloud /api/experimental/model-recommendations /cors-proxy /tools /server_info
/get_server_info /model/info /v1/model/info /running /logs /logs/stream /start_profile /open_session
/slow_down /configure_logging /ping /release_memory_occupation /resume_memory_occupation
"""


@pytest.mark.parametrize("path", HARMFUL.split())
def test_some_gets_do_harm(path: str) -> None:
    for method in ("GET", "HEAD"):
        assert "data/never.toml" in (never(Question(method, path)) or "")


METADATA = """
/ /api/version /api/tags /api/ps /api/status /v1/models /models /version /props /info /model_info
/api/config /health/liveliness /health/readiness /api/v1/models /api/v0/models /api/extra/version
/.well-known/localai.json /.well-known/serviceinfo /openapi.json /v1/metadata /v2 /lmstudio-greeting
/v1/cluster/version /v1/cluster/auth /v1/internal/model/info /api/v1/health /engines/v1/models /node_id
/test_connection /v1/model
"""


@pytest.mark.parametrize("path", METADATA.split())
def test_metadata_may_be_asked(path: str) -> None:
    assert never(Question("GET", path)) is None
    assert never(Question("HEAD", path)) is None


@pytest.mark.parametrize(
    "question",
    [
        *(Question(method, "/api/tags") for method in ("POST", "PUT", "DELETE", "OPTIONS", "get", "GET ", "")),
        Question("POST", "/api/show"),
        *(
            Question("GET", path)
            for path in ("", "api/tags", "/api/../x", "/a/./b", "/.", "//api/tags", "/api//tags", "/props?model=x")
        ),
        *(Question("GET", path) for path in ("/a b", "/a\r\nX: y", "/%61", "/a#b", "/é", "/a;b", "/api/tags\n")),
        Question("GET", "http://192.0.2.1/"),
        Question("GET", "/" + "x" * 100),
    ],
    ids=repr,
)
def test_the_structure_refuses(question: Question) -> None:
    assert never(question) is not None
    with pytest.raises(DataError):
        allowed([TAGS, question])


def test_a_refusal_names_the_question_and_the_reason() -> None:
    with pytest.raises(
        DataError, match=r"'GET /terminate' may not be asked: ends the server \('/terminate\*' in data/"
    ):
        allowed([TAGS, Question("GET", "/terminate")])
    assert allowed(iter([TAGS, TAGS])) == {TAGS}


@given(st.text("/.-_abAB", max_size=12), st.sampled_from(["/terminate", "/api/pull", "/health", "/api/me", "/slots"]))
def test_neither_case_nor_slashes_get_past_the_list(case: str, path: str) -> None:
    dodge = "".join(c.upper() if i < len(case) and case[i].isupper() else c for i, c in enumerate(path))
    assert never(Question("GET", dodge + "/" * case.count("/"))) is not None


def test_no_list_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "data", lambda *parts: tmp_path.joinpath(*parts))
    for content in (None, "", "never = []", "[[never]]\npath = 1", "[[never]]\neffect = 'x'"):
        if content is not None:
            (tmp_path / "never.toml").write_text(content)
        probe._never_list.cache_clear()
        never.cache_clear()
        with pytest.raises(DataError, match=r"never\.toml"):
            never(TAGS)
    monkeypatch.undo()
    probe._never_list.cache_clear()
    never.cache_clear()
    assert never(TAGS) is None


def test_the_gate_lets_no_byte_out() -> None:
    async def talk() -> zoo.Log:
        async with zoo.serve(zoo.well_behaved) as log, Prober({VERSION}, user_agent=AGENT) as prober:
            prober.route = lambda ip, port: log.address
            with pytest.raises(Forbidden, match="not among the questions"):
                await prober.converse(TARGET, planned(TAGS))
            assert log.connections == 0
            with pytest.raises(Forbidden):
                await prober.converse(TARGET, planned(VERSION, TAGS))
            return log

    assert asyncio.run(talk()).asked == ["GET /api/version"]


def test_the_gate_holds_even_for_an_announced_question() -> None:
    end = Question("GET", "/terminate")
    with pytest.raises(DataError, match="terminate"):
        Prober(frozenset({end}), user_agent=AGENT)

    async def talk() -> int:
        async with zoo.serve(zoo.well_behaved) as log, Prober(QUESTIONS, user_agent=AGENT) as prober:
            prober.route, prober.questions = lambda ip, port: log.address, frozenset({end})
            with pytest.raises(Forbidden, match="ends the server"):
                await prober.converse(TARGET, planned(end))
            return log.connections

    assert asyncio.run(talk()) == 0


def test_user_agent() -> None:
    assert user_agent("1.2", "https://example.org/who") == "census/1.2 (+https://example.org/who)"
    assert user_agent("1.2", None) == "census/1.2"
    for contact in ("a\r\nX: y", "é@example.org", "(x)", "", " x"):
        with pytest.raises(UsageError, match="User-Agent"):
            user_agent("1.2", contact)


# ---- what is sent ----------------------------------------------------------------------------------------------------


def headers(request: bytes) -> dict[str, str]:
    lines = request.decode().split("\r\n")[1:-2]
    return dict(line.split(": ", 1) for line in lines)


def test_exactly_this_is_sent() -> None:
    _, log = run(zoo.well_behaved, VERSION, ROOT)
    assert log.requests[0].startswith(b"GET /api/version HTTP/1.1\r\n")
    expected = {"Host": "240.0.0.1:11434", "User-Agent": AGENT, "Accept-Encoding": "identity"}
    first, second = map(headers, log.requests)
    assert first == expected | {"Accept": "application/json,*/*;q=0.5"}
    assert second.keys() == first.keys()
    assert second["Accept"].startswith("text/html")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (Target("240.0.0.1", 80), "240.0.0.1"),
        (Target("2001:db8::1", 8080), "[2001:db8::1]:8080"),
        (Target("2001:db8::1", 80), "[2001:db8::1]"),
        (Target("240.0.0.1", 8000, domain="ai.example"), "ai.example:8000"),
        (Target("240.0.0.1", 80, domain="ai.example"), "ai.example"),
    ],
)
def test_host_header(target: Target, host: str) -> None:
    assert headers(run(zoo.well_behaved, VERSION, target=target)[1].requests[0])["Host"] == host


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 240.0.0.1 login a password b\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://{}:{}".format(*zoo.refusing()))
    told, log = run(zoo.well_behaved, VERSION)
    assert told.outcome is Outcome.SUCCESS
    assert "Authorization" not in headers(log.requests[0])


def test_no_resolver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolver(*asked: object, **more: object) -> None:
        raise AssertionError(f"a resolver was asked for {asked}")

    monkeypatch.setattr(socket, "gethostbyname", resolver)
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolver)

    async def talk(prober: Prober, address: tuple[str, int]) -> Conversation:
        prober.route = lambda ip, port: address
        return await prober.converse(Target("240.0.0.1", 80, domain="ai.example"), planned(VERSION))

    async def main() -> Conversation:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = await asyncio.start_server(lambda r, w: w.close(), sock=listening)
            async with server, Prober(QUESTIONS, user_agent=AGENT) as prober:
                return await talk(prober, listening.getsockname())

    assert asyncio.run(main()).outcome is Outcome.CONNECTION_CLOSED


def test_redirects_and_cookies_are_not_followed() -> None:
    told, log = run(zoo.redirects, VERSION, TAGS)
    assert [reply.status for reply in told.replies] == [302, 302]
    assert log.asked == ["GET /api/version", "GET /api/tags"]
    assert all("Cookie" not in headers(request) for request in log.requests)


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_the_wire_is_kept_as_it_was() -> None:
    head = "HTTP/1.1 200  Fine \r\nx-LOWER: 1\r\nX-Upper:two  \r\nset-cookie: a\r\nSet-Cookie: b\r\nx-b: \xe9\xff\r\n"
    body = b'{"b": 1,\n "a":\x00\xff 2}\n'
    raw = head.encode("latin-1") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    told, _ = run(zoo.says(raw), VERSION)
    (reply,) = told.replies
    assert reply.status_line == "HTTP/1.1 200  Fine "
    assert reply.headers == (
        ("x-LOWER", "1"),
        ("X-Upper", "two"),
        ("set-cookie", "a"),
        ("Set-Cookie", "b"),
        ("x-b", "\xe9\xff"),
        ("Content-Length", str(len(body))),
    )
    assert (reply.body, reply.truncated, reply.question, reply.scheme) == (body, False, VERSION, "http")


def test_http_1_0_with_an_empty_reason() -> None:
    told, log = run(zoo.http_1_0)
    assert [reply.status_line for reply in told.replies] == ["HTTP/1.0 200 "] * 3
    assert told.replies[0].headers == (("Server", "BaseHTTP/0.6"), ("Content-type", "text/plain"))
    assert [reply.body for reply in told.replies] == [b"GET /api/version", b"GET /api/tags", b"GET /api/ps"]
    assert (told.connections, told.requests, log.connections) == (3, 3, 3)


def test_line_ends_without_carriage_return() -> None:
    told, _ = run(zoo.says(b"\r\nHTTP/1.1 200 OK\nContent-Length: 2\n\nab"), VERSION)
    assert (told.replies[0].status_line, told.replies[0].body) == ("HTTP/1.1 200 OK", b"ab")


def test_chunks_are_joined() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n"
    told, _ = run(zoo.says(raw), VERSION)
    assert told.replies[0].body == b"abcdefg"


def test_times_are_utc_without_zone() -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    told, _ = run(zoo.well_behaved)
    assert before <= told.asked_at <= (told.replies[0].asked_at or before) <= before + timedelta(minutes=1)
    assert told.asked_at.tzinfo is None
    assert told.latency_ms is not None and told.latency_ms > 0
    assert all(reply.elapsed_ms is not None and reply.elapsed_ms > 0 for reply in told.replies)


# ---- the course of a conversation ------------------------------------------------------------------------------------


def test_one_connection_for_all_questions() -> None:
    told, log = run(zoo.well_behaved, VERSION, TAGS, HEAD_PS, PS)
    assert (told.outcome, told.error, told.requests, told.connections) == (Outcome.SUCCESS, None, 4, 1)
    assert log.connections == 1
    assert log.asked == ["GET /api/version", "GET /api/tags", "HEAD /api/ps", "GET /api/ps"]
    assert told.replies[2].body == b""


def test_the_plan_sees_the_replies_and_decides() -> None:
    seen: list[list[bytes]] = []

    def plan(target: Target, replies: Sequence[Reply]) -> Question | None:
        seen.append([reply.body for reply in replies])
        return TAGS if not replies else PS if replies[-1].body == b"GET /api/tags" else None

    async def talk() -> Conversation:
        async with zoo.serve(zoo.well_behaved) as log, Prober(QUESTIONS, user_agent=AGENT) as prober:
            prober.route = lambda ip, port: log.address
            return await prober.converse(TARGET, plan)

    assert len(asyncio.run(talk()).replies) == 2
    assert seen == [[], [b"GET /api/tags"], [b"GET /api/tags", b"GET /api/ps"]]


@pytest.mark.parametrize("behaviour", [zoo.closes_politely, zoo.closes_without_a_word], ids=lambda b: b.__name__)
def test_a_server_that_closes_is_called_again(behaviour: zoo.Behaviour) -> None:
    told, _ = run(behaviour)
    assert [reply.body for reply in told.replies] == [b"GET /api/version", b"GET /api/tags", b"GET /api/ps"]
    assert (told.outcome, told.error, told.connections) == (Outcome.SUCCESS, None, 3)


def test_a_question_lost_on_an_idle_connection_is_asked_once_more() -> None:
    told, log = run(zoo.closes_on_the_second_question)
    assert [reply.body for reply in told.replies] == [b"GET /api/version", b"GET /api/tags", b"GET /api/ps"]
    assert (told.connections, told.requests, len(log.requests)) == (3, 5, 5)


def test_but_only_once() -> None:
    told, log = run(zoo.answers_once_then_resets, VERSION, TAGS, PS)
    assert (told.outcome, len(told.replies)) == (Outcome.SUCCESS, 1)
    assert told.error == "reset before answering"
    assert (told.connections, log.connections) == (2, 2)


def test_a_fresh_connection_is_not_tried_twice() -> None:
    told, log = run(zoo.closes_after_the_question)
    assert (told.outcome, told.connections, told.requests) == (Outcome.CONNECTION_CLOSED, 1, 1)
    assert log.connections == 1


def test_head_waits_for_no_body() -> None:
    told, _ = run(zoo.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), HEAD_PS)
    assert (told.outcome, told.replies[0].body) == (Outcome.SUCCESS, b"")


def test_a_body_after_head_answers_nothing() -> None:
    told, _ = run(zoo.body_after_head, HEAD_PS, VERSION, HEAD_PS)
    assert [reply.body for reply in told.replies] == [b"", b"not to be sent", b""]


@pytest.mark.parametrize(
    "behaviour", [zoo.answers_twice, zoo.answers_again_later, zoo.too_short_a_length], ids=lambda b: b.__name__
)
def test_what_nobody_asked_for_is_no_answer(behaviour: zoo.Behaviour) -> None:
    told, log = run(behaviour)
    assert told.outcome is Outcome.SUCCESS
    assert [reply.question for reply in told.replies] == [VERSION, TAGS, PS]
    assert not any(b"evil" in reply.body or b"more" in reply.body for reply in told.replies)
    assert len(log.requests) == told.requests <= 6


@pytest.mark.parametrize("behaviour", [zoo.one_continue, zoo.early_hints_in_one_segment], ids=lambda b: b.__name__)
def test_interim_replies_are_passed_over(behaviour: zoo.Behaviour) -> None:
    told, _ = run(behaviour, VERSION)
    assert (told.replies[0].status, told.replies[0].body) == (200, b"GET /api/version")


def test_admission_and_exclusion_before_every_connection() -> None:
    events: list[str] = []

    async def admit(ip: str) -> None:
        events.append(f"admit {ip}")

    def excluded(ip: str) -> str | None:
        events.append(f"excluded {ip}")
        return "opted out" if events.count(f"excluded {ip}") == 3 else None

    told, log = run(zoo.closes_politely, admit=admit, excluded=excluded)
    assert events == ["admit 240.0.0.1", "excluded 240.0.0.1"] * 3
    assert (told.outcome, told.error, told.connections, log.connections) == (Outcome.SUCCESS, "opted out", 2, 2)


def test_waiting_for_admission_costs_the_target_nothing() -> None:
    async def admit(ip: str) -> None:
        await asyncio.sleep(0.5)

    told, _ = run(zoo.closes_politely, admit=admit, limits=replace(PATIENT, target_timeout=1.2))
    assert (told.outcome, len(told.replies), told.error) == (Outcome.SUCCESS, 3, None)
    assert told.latency_ms is not None and told.latency_ms < 500


def test_bounds_on_requests_and_connections() -> None:
    told, log = run(zoo.well_behaved, *[TAGS] * 9, limits=replace(PATIENT, max_requests=4))
    assert (told.outcome, told.error, len(log.requests)) == (Outcome.SUCCESS, "stopped after 4 requests", 4)
    told, log = run(zoo.closes_politely, *[TAGS] * 9, limits=replace(PATIENT, max_connections=2))
    assert (told.outcome, told.error, log.connections) == (Outcome.SUCCESS, "stopped after 2 connections", 2)


def test_cancelling_hangs_up() -> None:
    async def talk() -> None:
        async with zoo.serve(zoo.accepts_and_never_answers) as log, Prober(QUESTIONS, user_agent=AGENT) as prober:
            prober.route = lambda ip, port: log.address
            before = open_files()
            task = asyncio.create_task(prober.converse(TARGET, planned(VERSION)))
            await log.met.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(100):
                if open_files() > before:
                    await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(talk(), 20))


# ---- every outcome ---------------------------------------------------------------------------------------------------


def test_refused() -> None:
    told = knock(zoo.refusing())
    assert (told.outcome, told.error) == (Outcome.CONNECTION_REFUSED, "connection refused")
    assert (told.latency_ms, told.requests, told.connections, told.scheme) == (None, 0, 1, "http")


def test_silent() -> None:
    with zoo.silent() as address:
        told = knock(address)
    assert (told.outcome, told.latency_ms, told.connections) == (Outcome.CONNECTION_TIMEOUT, None, 1)


def test_blocklisted_before_any_socket() -> None:
    told, log = run(zoo.well_behaved, excluded=lambda ip: f"{ip} opted out on 2026-01-01")
    assert (told.outcome, told.connections) == (Outcome.BLOCKLISTED_TARGET, 0)
    assert told.error == "240.0.0.1 opted out on 2026-01-01"
    assert log.connections == 0


@pytest.mark.parametrize("domain", ["a b", "a\r\nX: y", "-a.example", "a..example", "é.example", "x" * 300])
def test_a_domain_no_header_can_carry(domain: str) -> None:
    told, log = run(zoo.well_behaved, target=replace(TARGET, domain=domain))
    assert (told.outcome, log.connections) == (Outcome.INVALID_INPUTS, 0)


def test_a_plan_without_a_question() -> None:
    async def talk() -> Conversation:
        async with Prober(QUESTIONS, user_agent=AGENT) as prober:
            return await prober.converse(TARGET, planned())

    told = asyncio.run(talk())
    assert (told.outcome, told.connections) == (Outcome.UNKNOWN_ERROR, 0)


def failing(number: int) -> Callable[..., int]:
    return lambda sock, address: number


@pytest.mark.parametrize(
    ("number", "outcome", "words"),
    [
        (errno.EHOSTUNREACH, Outcome.UNKNOWN_ERROR, "host unreachable: no route to host"),
        (errno.ENETUNREACH, Outcome.UNKNOWN_ERROR, "host unreachable: network is unreachable"),
        (errno.EACCES, Outcome.UNKNOWN_ERROR, "cannot connect: permission denied"),
        (errno.ECONNRESET, Outcome.CONNECTION_CLOSED, "connection reset by peer while connecting"),
        (errno.ETIMEDOUT, Outcome.CONNECTION_TIMEOUT, "no answer to the connect"),
    ],
)
def test_the_words_of_the_system(monkeypatch: pytest.MonkeyPatch, number: int, outcome: Outcome, words: str) -> None:
    monkeypatch.setattr(wire.Socket, "connect_ex", failing(number))
    told = knock(("127.0.0.1", 9))
    assert (told.outcome, told.error) == (outcome, words)


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOSPC])
def test_our_own_limits_are_not_the_hosts_fault(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(wire.Socket, "connect_ex", failing(number))
    with pytest.raises(ScannerFault, match="cannot open a socket"):
        knock(("127.0.0.1", 9))


def test_out_of_descriptors() -> None:
    async def talk() -> None:
        async with zoo.serve(zoo.well_behaved) as log, Prober(QUESTIONS, user_agent=AGENT) as prober:
            prober.route = lambda ip, port: log.address
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
            taken: list[int] = []
            try:
                with suppress(OSError):
                    while True:
                        taken.append(os.dup(0))
                with pytest.raises(ScannerFault, match="ulimit"):
                    await prober.converse(TARGET, planned(VERSION))
            finally:
                for number in taken:
                    os.close(number)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    asyncio.run(talk())


def test_a_handler_that_breaks_keeps_no_other_from_being_called() -> None:
    async def look() -> tuple[list[str], list[Exception]]:
        sockets, pairs, called = wire.Sockets(), [socket.socketpair() for _ in range(3)], list[str]()
        faults: list[Exception] = []
        sockets.broke, all_called = faults.append, asyncio.Event()

        def ready(name: str) -> None:
            called.append(name)
            if len(called) == len(pairs):
                all_called.set()
            raise ZeroDivisionError(name)

        for i, (ours, _) in enumerate(pairs):
            sockets.watch(ours, wire._CONNECTED, partial(ready, str(i)))
        await all_called.wait()
        await asyncio.sleep(0)
        for ours, theirs in pairs:
            sockets.end(ours)
            theirs.close()
        return called, faults

    called, faults = asyncio.run(asyncio.wait_for(look(), 10))
    assert sorted(called) == sorted(map(str, faults)) == ["0", "1", "2"]


def test_a_dial_that_breaks_when_late_keeps_no_other_from_being_late() -> None:
    async def wait() -> tuple[int, list[Exception]]:
        sockets, faults, late = wire.Sockets(), list[Exception](), list[object]()
        sockets.broke, all_late = faults.append, asyncio.Event()

        def done(found: object) -> None:
            late.append(found)
            if len(late) == 3:
                all_late.set()
            raise ZeroDivisionError

        with zoo.silent() as address:
            for seconds in (0.01, 0.01, 0.2):
                wire.Dial(sockets, address, seconds, done, wire.Alarm(sockets))
            await all_late.wait()
            await asyncio.sleep(0)
        return len(late), faults

    n, faults = asyncio.run(asyncio.wait_for(wait(), 10))
    assert n == len(faults) == 3


def test_a_crash_of_ours_over_an_answer_is_not_the_hosts_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: wire.Wire, data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(wire.Wire, "data_received", crash)
    with pytest.raises(ZeroDivisionError):
        run(zoo.well_behaved)


ENDS: list[tuple[zoo.Behaviour, Outcome, str]] = [
    (zoo.closes_at_once, Outcome.CONNECTION_CLOSED, "before answering"),
    (zoo.closes_after_the_question, Outcome.CONNECTION_CLOSED, "closed before answering"),
    (zoo.closes_in_mid_head, Outcome.CONNECTION_CLOSED, "closed in mid-head"),
    (zoo.closes_in_mid_body, Outcome.CONNECTION_CLOSED, "closed in mid-body"),
    (zoo.resets_at_once, Outcome.CONNECTION_CLOSED, "before answering"),
    (zoo.resets_after_the_question, Outcome.CONNECTION_CLOSED, "reset before answering"),
    (zoo.resets_in_mid_head, Outcome.CONNECTION_CLOSED, "reset in mid-head"),
    (zoo.resets_in_mid_body, Outcome.CONNECTION_CLOSED, "reset in mid-body"),
    (zoo.endless_chunks, Outcome.PROTOCOL_ERROR, "more bytes than"),
    (zoo.endless_chunk_extension, Outcome.PROTOCOL_ERROR, "more bytes than"),
    (zoo.endless_trailers, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.endless_headers, Outcome.PROTOCOL_ERROR, "headers of more than 65536 bytes"),
    (zoo.endless_status_line, Outcome.PROTOCOL_ERROR, "headers of more than 65536 bytes"),
    (zoo.endless_continues, Outcome.PROTOCOL_ERROR, "more than 8 interim replies"),
    (zoo.endless_empty_lines, Outcome.PROTOCOL_ERROR, "more bytes than"),
    (zoo.too_many_headers, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.switches_protocols, Outcome.PROTOCOL_ERROR, "switched protocols"),
    (zoo.http_0_9, Outcome.PROTOCOL_ERROR, "not HTTP: '<html><body>"),
    (zoo.ssh_banner, Outcome.PROTOCOL_ERROR, "'SSH-2.0-OpenSSH_9.6"),
    (zoo.ftp_banner, Outcome.PROTOCOL_ERROR, "'220 (vsFTPd 3.0.5)"),
    (zoo.http_2_preface, Outcome.PROTOCOL_ERROR, "not HTTP: '\\x00\\x00\\x12\\x04"),
    (zoo.both_lengths, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.two_lengths, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.negative_length, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.huge_length, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.wordy_length, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.bad_chunk_size, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.bad_chunk_later, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.negative_chunk_size, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.nul_in_header, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.header_without_colon, Outcome.PROTOCOL_ERROR, "broken HTTP"),
    (zoo.status_of_words, Outcome.PROTOCOL_ERROR, "broken HTTP"),
]


@pytest.mark.parametrize(("behaviour", "outcome", "words"), ENDS, ids=lambda x: getattr(x, "__qualname__", None))
def test_how_it_ends(behaviour: zoo.Behaviour, outcome: Outcome, words: str) -> None:
    told, _ = run(behaviour, limits=replace(PATIENT, max_target_bytes=500_000))
    assert (told.outcome, told.replies, told.requests) == (outcome, (), told.connections)
    assert words in (told.error or "")
    assert told.connections == 1, "nothing HTTP-like answered: no further question, no further connection"
    assert len(told.error or "") < 300 and (told.error or "").isprintable()


@pytest.mark.parametrize(
    "behaviour",
    [zoo.accepts_and_never_answers, zoo.one_byte_at_a_time, zoo.stops_in_mid_body, zoo.one_letter],
    ids=["accepts_and_never_answers", "one_byte_at_a_time", "stops_in_mid_body", "one_letter"],
)
def test_slow_servers_run_out_of_time(behaviour: zoo.Behaviour) -> None:
    told, _ = run(behaviour, limits=HASTY)
    assert (told.outcome, told.requests, told.replies) == (Outcome.IO_TIMEOUT, 1, ())
    assert told.error == "no whole reply to GET /api/version within 0.4 s"


def test_the_target_timeout_is_for_all_questions_together() -> None:
    async def slow(peer: zoo.Peer) -> None:
        while asked := await peer.request():
            await asyncio.sleep(0.25)
            await peer.reply(asked.encode())

    told, _ = run(slow, *[TAGS] * 8, limits=Limits(5, 10, 0.9))
    assert told.outcome is Outcome.SUCCESS
    assert 1 <= len(told.replies) < 4
    assert told.error and (told.error.startswith("no whole reply") or told.error == "more than 0.9 s in all")


def test_server_errors_only() -> None:
    told, _ = run(zoo.server_error)
    assert (told.outcome, [reply.status for reply in told.replies]) == (Outcome.APPLICATION_ERROR, [503] * 3)


def test_what_was_answered_counts_though_it_ends_badly() -> None:
    told, _ = run(zoo.answers_once_then_hangs, limits=HASTY)
    assert (told.outcome, len(told.replies)) == (Outcome.SUCCESS, 1)
    assert told.error == "no whole reply to GET /api/tags within 0.4 s"


class Line:
    """A connection driven from a task."""

    def __init__(self, sock: socket.socket) -> None:
        self._sockets = sockets = wire.Sockets()
        self.wire = wire.Wire(sock, sockets, wire.Alarm(sockets), PATIENT, wire.Allowance(10_000), "240.0.0.1")

    async def open(self) -> None:
        await wire.run(self._sockets, self.wire.open())

    async def ask(self) -> Reply:
        async def asking() -> Reply:
            return await self.wire.ask(VERSION, wire.request(VERSION, AGENT), "http", 5)

        return await wire.run(self._sockets, asking())


async def opened(sock: socket.socket) -> Line:
    line = Line(sock)
    await line.open()
    return line


def test_an_answer_before_the_question_is_none() -> None:
    """Where it is there in time to be seen. Later it cannot be told from an answer, and the next question shows it."""

    async def talk() -> Conversation:
        async with zoo.serve(zoo.answers_before_the_question) as log:
            with socket.create_connection(log.address) as early:
                early.setblocking(False)
                line = await opened(early)
                await asyncio.sleep(0.05)
                try:
                    with pytest.raises(wire.Ended, match="spoke without being asked"):
                        await line.ask()
                finally:
                    line.wire.close()
            return await Prober(QUESTIONS, user_agent=AGENT, route=lambda ip, port: log.address, limits=HASTY).converse(
                TARGET, planned(VERSION, TAGS)
            )

    told = asyncio.run(talk())
    assert told.outcome in (Outcome.PROTOCOL_ERROR, Outcome.SUCCESS)
    assert len(told.replies) <= 1


def test_the_socket_is_looked_at_before_a_question() -> None:
    """What came after the event loop last looked is seen all the same, and who speaks out of turn is sent nothing."""

    async def look(before: bytes) -> tuple[bool, str, bytes]:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            line = await opened(ours)
            assert line.wire.reusable
            theirs.send(before) if before else theirs.shutdown(socket.SHUT_WR)
            reusable = line.wire.reusable
            with pytest.raises(wire.Ended) as ended:
                await line.ask()
            sent = b""
            with suppress(BlockingIOError, ConnectionResetError):
                sent = theirs.recv(1000)
            line.wire.close()
            return reusable, ended.value.words, sent

    early = asyncio.run(look(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    assert (early[0], early[2]) == (False, b"")
    assert early[1].startswith("spoke without being asked: 'HTTP/1.1 200 OK")
    gone = asyncio.run(look(b""))
    assert gone[:2] == (False, "closed before answering")
    assert gone[2].startswith(b"GET /api/version HTTP/1.1"), "so that nothing sent is no accident above"


# ---- bounds on bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [zoo.endless_body, zoo.big_json], ids=lambda b: b.__name__)
def test_a_body_is_cut_at_the_cap(behaviour: zoo.Behaviour) -> None:
    told, log = run(behaviour, VERSION, TAGS, limits=replace(PATIENT, max_body=100_000))
    assert [(len(reply.body), reply.truncated) for reply in told.replies] == [(100_000, True)] * 2
    assert (told.outcome, log.connections) == (Outcome.SUCCESS, 2)


def test_a_body_of_exactly_the_cap_is_whole() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    for cap, kept in ((1000, (1000, False)), (999, (999, True))):
        told, _ = run(zoo.says(raw), VERSION, limits=replace(PATIENT, max_body=cap))
        assert (len(told.replies[0].body), told.replies[0].truncated) == kept


def test_all_bodies_together_are_bounded() -> None:
    told, _ = run(zoo.endless_body, *[TAGS] * 8, limits=replace(PATIENT, max_body=100_000, max_target_bytes=700_000))
    assert told.outcome is Outcome.SUCCESS
    assert told.error == "more bytes than one target may send"
    assert 1 <= len(told.replies) < 8


def test_a_compressed_bomb_stays_closed() -> None:
    told, _ = run(zoo.gzip_bomb, VERSION)
    assert told.replies[0].body[:2] == b"\x1f\x8b"
    assert len(told.replies[0].body) < 20_000


def test_neighbours_do_not_notice() -> None:
    """The zoo and a well-behaved host at once in one prober: each gets what it would get alone."""
    kinds = [zoo.well_behaved, zoo.endless_body, zoo.resets_in_mid_body, zoo.http_0_9, zoo.stops_in_mid_body]
    expected = [Outcome.SUCCESS, Outcome.SUCCESS, Outcome.CONNECTION_CLOSED, Outcome.PROTOCOL_ERROR, Outcome.IO_TIMEOUT]

    async def talk() -> list[Conversation]:
        async with Servers(kinds) as logs:
            by_ip = {f"240.0.0.{i}": logs[i % len(kinds)].address for i in range(40)}
            limits = replace(PATIENT, read_timeout=2, max_body=10_000)
            route: Callable[[str, int], tuple[str, int]] = lambda ip, port: by_ip[ip]  # noqa: E731
            async with Prober(QUESTIONS, limits=limits, user_agent=AGENT, route=route) as prober:
                plan = planned(VERSION, TAGS)
                return await asyncio.gather(*(prober.converse(Target(ip, 1), plan) for ip in by_ip))

    told = asyncio.run(talk())
    assert [one.outcome for one in told] == list(itertools.islice(itertools.cycle(expected), 40))
    assert all(len(one.replies) == 2 for one in told[::5])


class Servers:
    """Several servers at once."""

    def __init__(self, kinds: list[zoo.Behaviour]) -> None:
        self._servers = [zoo.serve(kind) for kind in kinds]

    async def __aenter__(self) -> list[zoo.Log]:
        return [await server.__aenter__() for server in self._servers]

    async def __aexit__(self, *problem: object) -> None:
        for server in self._servers:
            await server.__aexit__(None, None, None)


GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


def mutated() -> st.SearchStrategy[bytes]:
    """A good reply with pieces overwritten, doubled and lost, or just bytes."""
    piece = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.binary(max_size=12))
    return st.one_of(st.lists(piece, max_size=4).map(_mutate), st.binary(max_size=200))


def _mutate(pieces: list[tuple[int, int, bytes]]) -> bytes:
    raw = GOOD
    for at, length, by in pieces:
        raw = raw[:at] + by + raw[at + length :]
    return raw


@settings(deadline=None, max_examples=10)
@given(st.lists(mutated(), min_size=30, max_size=30))
def test_no_bytes_raise(answers: list[bytes]) -> None:
    async def talk() -> list[Conversation]:
        waiting = iter(answers)

        async def behaviour(peer: zoo.Peer) -> None:
            await peer.request()
            await peer.send(next(waiting, b""))

        async with zoo.serve(behaviour) as log:
            prober = Prober(QUESTIONS, user_agent=AGENT, route=lambda ip, port: log.address)
            return [await prober.converse(TARGET, planned(VERSION)) for _ in answers]

    for told in asyncio.run(talk()):
        assert told.outcome in Outcome
        assert (told.outcome is Outcome.SUCCESS) == any(reply.status < 500 for reply in told.replies)


# ---- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return zoo.self_signed(tmp_path_factory.mktemp("tls"), ("ai.example", "*.ai.example"))


def test_https_by_port_scheme_and_name(tls: ssl.SSLContext) -> None:
    names: list[object] = []
    tls.sni_callback = lambda link, name, context: names.append(name)
    try:
        for target in (
            Target("240.0.0.1", 443),
            Target("240.0.0.1", 8443, domain="ai.example."),
            Target("240.0.0.1", 9000, domain="ai.example", scheme="https"),
        ):
            told, log = run(zoo.well_behaved, target=target, tls=tls)
            assert (told.outcome, told.scheme, told.connections) == (Outcome.SUCCESS, "https", 1)
            assert {reply.scheme for reply in told.replies} == {"https"}
    finally:
        tls.sni_callback = None
    assert names == [None, "ai.example", "ai.example"]
    assert headers(log.requests[0])["Host"] == "ai.example:9000"
    assert (
        headers(run(zoo.well_behaved, target=Target("240.0.0.1", 443), tls=tls)[1].requests[0])["Host"] == "240.0.0.1"
    )


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_old_tls_counts_too(tmp_path: Path) -> None:
    old = zoo.self_signed(tmp_path)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    told, _ = run(zoo.well_behaved, target=Target("240.0.0.1", 443), tls=old)
    assert (told.outcome, told.scheme) == (Outcome.SUCCESS, "https")


def test_the_certificate_is_recorded(tls: ssl.SSLContext) -> None:
    certificate = run(zoo.well_behaved, target=Target("240.0.0.1", 443), tls=tls)[0].certificate
    assert certificate is not None
    assert certificate.subject == certificate.issuer == "CN=ai.example"
    assert certificate.names == ("ai.example", "*.ai.example", "192.0.2.7")
    assert (certificate.not_before, certificate.not_after) == (datetime(1999, 1, 1), datetime(2999, 1, 1))
    assert re.fullmatch("[0-9a-f]{64}", certificate.sha256)


def test_expired_and_absurd_certificates_are_recorded(tmp_path: Path) -> None:
    many = ("ai.example", *(f"{'x' * 60}{i}.example" for i in range(500)))
    told, _ = run(zoo.well_behaved, target=Target("240.0.0.1", 443), tls=zoo.self_signed(tmp_path, many, expired=True))
    assert (told.outcome, len(told.replies)) == (Outcome.SUCCESS, 3)
    assert told.certificate is not None and len(told.certificate.names) == wire.MAX_NAMES
    assert told.certificate.not_after == datetime(2000, 1, 1)


@pytest.mark.parametrize("der", [b"", b"\x30\x03\x02\x01\x01", b"\x30\x84\xff\xff\xff\xff", os.urandom(500)])
def test_an_unreadable_certificate_keeps_its_hash(der: bytes) -> None:
    certificate = wire.certificate(der)
    assert len(certificate.sha256) == 64
    assert (certificate.subject, certificate.issuer, certificate.names) == (None, None, ())


SPEAKING_TLS = {
    "nginx": b"<center>The plain HTTP request was sent to HTTPS port</center>",
    "apache": b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    "go": b"Client sent an HTTP request to an HTTPS server.\n",
}


async def _splice(tls_server: tuple[str, int], plain: bytes, log: zoo.Log) -> asyncio.Server:
    """One port that hands TLS on to the TLS server and answers anything else with `plain`, as a real one does."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        log.connections += 1
        first = await reader.read(65536)
        if first[:1] == b"\x16":
            onward, back = await asyncio.open_connection(*tls_server)
            back.write(first)
            await asyncio.gather(_pump(reader, back), _pump(onward, writer))
        else:
            log.requests.append(first)
            writer.write(plain)
        writer.close()

    return await asyncio.start_server(connected, "127.0.0.1", 0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


def upgraded(plain: bytes, behaviour: zoo.Behaviour, tls: ssl.SSLContext, target: Target = TARGET) -> Any:
    async def talk() -> tuple[Conversation, zoo.Log, zoo.Log]:
        log = zoo.Log()
        async with zoo.serve(behaviour, tls) as behind, await _splice(behind.address, plain, log) as server:
            route = lambda ip, port: server.sockets[0].getsockname()  # noqa: E731
            async with Prober(QUESTIONS, user_agent=AGENT, route=route) as prober:
                return await prober.converse(target, planned(VERSION, TAGS)), log, behind

    return asyncio.run(asyncio.wait_for(talk(), 30))


@pytest.mark.parametrize(
    "plain",
    [
        *(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + words for words in SPEAKING_TLS.values()),
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\x15\x03\x03\x00\x02\x02\x0a",
    ],
    ids=[*SPEAKING_TLS, "alert-1.0", "alert-1.2"],
)
@pytest.mark.parametrize("scheme", [None, "http"])
def test_a_port_that_speaks_tls_is_asked_again_by_https(plain: bytes, scheme: Any, tls: ssl.SSLContext) -> None:
    told, log, behind = upgraded(plain, zoo.well_behaved, tls, replace(TARGET, scheme=scheme))
    assert (told.outcome, told.error, told.scheme) == (Outcome.SUCCESS, None, "https")
    assert [(reply.scheme, reply.body) for reply in told.replies] == [
        ("https", b"GET /api/version"),
        ("https", b"GET /api/tags"),
    ]
    assert told.certificate is not None
    assert (told.requests, told.connections, log.connections) == (3, 2, 2)
    assert (len(log.requests), behind.asked) == (1, ["GET /api/version", "GET /api/tags"])


def test_the_400_is_kept_when_https_fails_too() -> None:
    plain = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + SPEAKING_TLS["go"]

    async def behaviour(peer: zoo.Peer) -> None:
        if peer.number == 1:
            await peer.request()
            await peer.send(plain)

    told, log = run(behaviour)
    assert (told.outcome, [reply.status for reply in told.replies]) == (Outcome.SUCCESS, [400])
    assert told.error == "closed in the TLS handshake"
    assert (log.connections, told.scheme) == (2, "https")


def test_another_400_is_an_answer_like_any_other() -> None:
    told, log = run(zoo.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno!"), VERSION)
    assert (told.replies[0].status, log.connections, told.scheme) == (400, 1, "http")


@pytest.mark.parametrize(
    ("behaviour", "outcome", "words"),
    [
        (zoo.tls_stalls, Outcome.IO_TIMEOUT, "the TLS handshake stalled"),
        (zoo.closes_at_once, Outcome.CONNECTION_CLOSED, "closed in the TLS handshake"),
        (zoo.resets_at_once, Outcome.CONNECTION_CLOSED, "closed in the TLS handshake"),
        (zoo.ssh_banner, Outcome.PROTOCOL_ERROR, "TLS: wrong version number"),
        (zoo.greets(b"\x15\x03\x01\x00\x02\x02\x46"), Outcome.PROTOCOL_ERROR, "TLS: "),
    ],
    ids=["stalls", "closes", "resets", "ssh", "alert"],
)
def test_handshakes_that_fail(behaviour: zoo.Behaviour, outcome: Outcome, words: str) -> None:
    told, log = run(behaviour, target=Target("240.0.0.1", 443), limits=HASTY)
    assert (told.outcome, told.requests, told.certificate) == (outcome, 0, None)
    assert words in (told.error or "")
    assert log.connections == 1


@pytest.mark.parametrize("behaviour", [zoo.tls_alert, zoo.tls_greeting], ids=["alert", "greeting"])
def test_tls_is_tried_once(behaviour: zoo.Behaviour) -> None:
    told, log = run(behaviour, limits=HASTY)
    assert told.outcome in (Outcome.IO_TIMEOUT, Outcome.PROTOCOL_ERROR)
    assert (log.connections, told.connections, told.scheme) == (2, 2, "https")


def test_a_server_that_wants_our_certificate(tls: ssl.SSLContext, tmp_path: Path) -> None:
    strict = zoo.self_signed(tmp_path)
    strict.verify_mode = ssl.CERT_REQUIRED
    told, _ = run(zoo.well_behaved, target=Target("240.0.0.1", 443), tls=strict)
    assert told.outcome in (Outcome.PROTOCOL_ERROR, Outcome.CONNECTION_CLOSED)
    assert told.certificate is not None


def test_over_tls_it_goes_as_without(tls: ssl.SSLContext) -> None:
    target = Target("240.0.0.1", 443)
    told, _ = run(zoo.http_1_0, target=target, tls=tls)
    assert (told.connections, [reply.status_line for reply in told.replies]) == (3, ["HTTP/1.0 200 "] * 3)
    told, _ = run(zoo.endless_body, VERSION, target=target, tls=tls, limits=replace(PATIENT, max_body=100_000))
    assert [(len(reply.body), reply.truncated) for reply in told.replies] == [(100_000, True)]
    assert run(zoo.answers_again_later, target=target, tls=tls)[0].outcome is Outcome.SUCCESS
    assert run(zoo.one_byte_at_a_time, target=target, tls=tls, limits=HASTY)[0].outcome is Outcome.IO_TIMEOUT


# ---- the client underneath -------------------------------------------------------------------------------------------


def ipv6_here() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not ipv6_here(), reason="no IPv6 loopback here")
def test_ipv6() -> None:
    told, log = run(zoo.well_behaved, target=Target("2001:db8::1", 11434), host="::1")
    assert told.outcome is Outcome.SUCCESS
    assert headers(log.requests[0])["Host"] == "[2001:db8::1]:11434"
