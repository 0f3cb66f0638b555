"""Replies -> Identity: every example and recording against all rules, and everything a server might send instead."""

from __future__ import annotations

import json
import random
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from census import conditions, hostile, identify, replies, server_files
from census.errors import DataError
from census.identify import Rules
from census.model import Identity, Model, Question, Reply, Target
from census.replies import parse_reply
from census.server_files import Example

ROOT = Path(__file__).resolve().parents[1]
SERVERS = ROOT / "data" / "servers"
CAPTURES = ROOT / "tests" / "captures"
RULES = Rules.load()
EXAMPLES = RULES.examples()
PORTS = (11434, 8080, 8000, 3000, 443)


def named(name: str) -> Example:
    return next(example for example in EXAMPLES if example.name == name)


def found(example: Example) -> Identity:
    return RULES.identify(Target("192.0.2.1", example.port), RULES.play(example))


def models(example: Example) -> tuple[Model, ...]:
    listed = found(example).models
    assert listed is not None
    return listed


def reply(question: str, document: Any, status: int = 200, **headers: str) -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    heads = {"Content-Type": "application/json; charset=utf-8", **headers}
    return Reply(Question.parse(question), "http", status, f"HTTP/1.1 {status} OK", tuple(heads.items()), body)


# --- The files ---


def test_no_file_claims_what_is_not_so() -> None:
    assert RULES.check() == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_what_it_says_over_all_rules(example: Example) -> None:
    identity, wanted = found(example), example.expect
    assert identity.server == wanted.server
    assert wanted.rule in (None, identity.rule)
    assert wanted.auth in (None, identity.auth or "")
    assert wanted.version in (None, identity.version or "")
    if wanted.models is not None:
        assert tuple(model.name for model in identity.models or ()) == wanted.models


def test_every_word_of_the_language_is_used() -> None:
    text = "\n".join(path.read_text("utf-8") for path in SERVERS.glob("*.toml"))
    words = {*conditions.VALUE_WORDS, *conditions.REPLY_WORDS, *server_files.CONVERTERS, "any", "or_empty", "answered"}
    assert [word for word in sorted(words) if not re.search(rf'\b{word}\b(?= =)|"{word}"', text)] == []


def test_no_file_holds_a_path_of_a_machine_or_a_real_address() -> None:
    for path in [*SERVERS.glob("*.toml"), *CAPTURES.rglob("*.http")]:
        text = path.read_text("utf-8")
        assert not re.search(r"/(home|root|tmp|work|Users)/", text), path
        addresses = {a for a in re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text) if not a.startswith("127.")}
        assert not addresses, path


# --- Recordings ---

RECORDED: list[tuple[str, str | None, str | None, str | None, list[str] | None]] = [
    ("ollama-0.1.34", "ollama", "0.1.34", "open", ["acme/tiny-tools:1b", "tiny:latest"]),
    ("ollama-0.5.7", "ollama", "0.5.7", "open", ["acme/tiny-tools:1b", "tiny:latest"]),
    ("ollama-0.32.15", "ollama", "0.32.15", "open", ["gpt-oss:120b-cloud", "tiny:latest", "acme/tiny-tools:1b"]),
    ("ollama-0.32.15-empty", "ollama", "0.32.15", "open", []),
    ("vllm-0.32.0", "vllm", "0.32.0", "open", ["tiny-llama"]),
    ("llama-server-0.7.0", "llama-cpp", "b11669-Debian", "open", ["/models/tiny.gguf"]),
    ("llama-server-0.7.0-router", "llama-cpp", "b11669-Debian", "open", ["alpha", "beta-Q4_K_M"]),
    ("llama-server-0.7.0-apikey", "llama-cpp", None, "key-required", None),
    ("litellm-1.106.2", "litellm", None, "open", ["tiny", "gpt-4o"]),
    ("llama-cpp-python-0.3.36", "llama-cpp-python", None, "open", ["/opt/models0/tiny.gguf"]),
    ("llama-cpp-python-0.3.36-apikey", "llama-cpp-python", None, "key-required", None),
    ("mlx-lm-0.32.2", "mlx-lm", None, "open", ["/opt/models0/tiny-hf"]),
    ("open-webui-0.12.4", "open-webui", "0.12.4", "login-page", None),
]
"""Folder of tests/captures, server, version, auth, models: the same on every port that the server may listen on."""

DECOYS = [
    ("decoy-promptpot-ollama", "ollama", "0.5.7"),
    ("decoy-magoo", "ollama", "0.5.4"),
    ("decoy-promptpot-vllm", "openai-compatible", None),
    ("decoy-promptpot-lmstudio", "openai-compatible", None),
]
"""Recorded decoys: called what their answers have the shape of, with little confidence."""


def recorded(folder: str, question: Question) -> Reply | None:
    """The recording of a question, the recorded 404 of any other, or None where there is neither."""
    name = question.path.strip("/").replace("/", "_") or "root"
    for path in (CAPTURES / folder / f"{name}.http", CAPTURES / folder / "404.http"):
        if path.exists():
            return parse_reply(question, path.read_bytes())
    return None


def converse(target: Target, answer: Callable[[Question], Reply | None]) -> list[Reply]:
    replies: list[Reply] = []
    while (question := RULES.next_question(target, replies)) and (one := answer(question)):
        replies.append(one)
    return replies


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(("folder", "server", "version", "auth", "names"), RECORDED, ids=[row[0] for row in RECORDED])
def test_a_recording_is_identified_on_any_port(
    folder: str, server: str, version: str | None, auth: str, names: list[str] | None, port: int
) -> None:
    target = Target("192.0.2.1", port)
    replies = converse(target, lambda question: recorded(folder, question))
    identity = RULES.identify(target, replies)
    listed = None if identity.models is None else [model.name for model in identity.models]
    assert (identity.server, identity.version, identity.auth, listed) == (server, version, auth, names)
    assert len(replies) <= RULES.worst_case()[server]


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(("folder", "server", "version"), DECOYS, ids=[row[0] for row in DECOYS])
def test_a_decoy_is_called_what_it_claims_with_little_confidence(
    folder: str, server: str, version: str | None, port: int
) -> None:
    target = Target("192.0.2.1", port)
    identity = RULES.identify(target, converse(target, lambda question: recorded(folder, question)))
    assert (identity.server, identity.version) == (server, version)
    assert identity.confidence is not None
    assert identity.confidence <= 0.5


@pytest.mark.parametrize("port", PORTS)
def test_an_empty_list_needs_a_question_more_which_ollamas_ports_have_not_left(port: int) -> None:
    target = Target("192.0.2.1", port)
    replies = converse(target, lambda question: recorded("fastchat-0.2.36-no-workers", question))
    identity = RULES.identify(target, replies)
    wanted = "openai-compatible" if port == 11434 else "fastchat"
    assert (identity.server, identity.auth, identity.models) == (wanted, "open", ())


def test_a_recorded_controller_and_a_recorded_refusal() -> None:
    controller = Target("192.0.2.1", 21001)
    replies = converse(controller, lambda question: recorded("fastchat-controller-0.2.36", question))
    assert RULES.identify(controller, replies).rule == "fastchat.controller"
    assert len(replies) == 1
    refused = Target("192.0.2.1", 11434)
    replies = converse(refused, lambda question: recorded("ollama-0.32.15-host-check", question))
    assert RULES.identify(refused, replies).auth == "refused"
    platform = Target("192.0.2.1", 9997)
    replies = converse(platform, lambda question: recorded("xinference-4.1.0", question))
    assert RULES.identify(platform, replies).rule == "xinference.keyed"


# --- The plan ---


@pytest.mark.parametrize("port", PORTS)
def test_the_plan_keeps_its_bounds_and_never_repeats_a_question(port: int) -> None:
    for example in EXAMPLES:
        replies = RULES.play(replace(example, port=port))
        asked = [one.question for one in replies]
        server = RULES.identify(Target("192.0.2.1", port), replies).server
        assert len(asked) == len(set(asked)), example.name
        assert set(asked) <= RULES.questions(), example.name
        assert len(asked) <= RULES.worst_case()[server or identify.UNIDENTIFIED], example.name


def test_the_bounds_are_those_we_promise() -> None:
    worst = RULES.worst_case()
    assert worst.pop(identify.UNIDENTIFIED) == 3
    assert worst.pop("ollama") == 4
    assert max(worst.values()) <= 5


def test_a_live_ollama_is_told_by_three_questions_and_the_version_comes_first() -> None:
    asked = [str(one.question) for one in RULES.play(named("ollama-0.32.15"))]
    assert asked == ["GET /api/version", "GET /api/tags", "GET /api/ps"]


def test_an_ordinary_web_server_is_given_up_after_two_questions() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><title>Welcome</title></html>"
    replies = converse(Target("192.0.2.1", 8080), lambda question: parse_reply(question, page))
    assert [str(one.question) for one in replies] == ["GET /v1/models", "GET /"]


POOL = {
    question: [example.answer(question) or b"HTTP/1.1 500 Oops\r\n\r\n" for example in EXAMPLES]
    for question in sorted(RULES.questions(), key=str)
}
"""Everything any example answers to a question: the pieces of chimeras."""


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*PORTS, 7997, 12434, 1234]), st.integers(0, 2**32))
def test_a_chimera_of_all_examples_keeps_the_bounds_too(port: int, seed: int) -> None:
    chance, target = random.Random(seed), Target("192.0.2.1", port)
    replies = converse(target, lambda question: parse_reply(question, chance.choice(POOL[question])))
    server = RULES.identify(target, replies).server
    assert len(replies) <= RULES.worst_case()[server or identify.UNIDENTIFIED]
    assert len({one.question for one in replies}) == len(replies)


# --- What must not matter ---


def reworded(body: bytes, seed: int) -> bytes:
    """The same JSON with other white space and shuffled keys; anything else as it is."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    return json.dumps(shuffled(document, random.Random(seed)), indent=seed % 4, separators=(" , ", " : ")).encode()


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        pairs = [(key, shuffled(item, chance)) for key, item in value.items()]
        chance.shuffle(pairs)
        return dict(pairs)
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(3))
def test_white_space_and_the_order_of_keys_do_not_matter(seed: int) -> None:
    for example in EXAMPLES:
        target = Target("192.0.2.1", example.port)
        replies = [replace(one, body=reworded(one.body, seed)) for one in RULES.play(example)]
        assert RULES.identify(target, replies) == found(example), example.name


# --- What a server may send instead ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["models", "data", "name", "id", "details", "owned_by", "version"]), inner)
    ),
    max_leaves=6,
)
BODIES = st.binary(max_size=80) | VALUES.map(lambda value: json.dumps(value).encode())
HEADERS = st.lists(
    st.tuples(st.sampled_from(["Server", "content-type", "Via", "", "CF-RAY", "x-request-id"]), st.text(max_size=20)),
    max_size=4,
).map(tuple)
ANSWERS = st.builds(
    Reply,
    question=st.sampled_from(sorted(RULES.questions(), key=str)),
    scheme=st.just("http"),
    status=st.sampled_from([200, 200, 200, 401, 403, 404, 503, 999]),
    status_line=st.sampled_from(["HTTP/1.1 200 OK", "HTTP/1.0 200 ", ""]),
    headers=HEADERS,
    body=BODIES,
    truncated=st.booleans(),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANSWERS, max_size=5))
def test_nothing_a_server_sends_raises(replies: list[Reply]) -> None:
    target = Target("192.0.2.1", 11434)
    RULES.next_question(target, replies)
    identity = RULES.identify(target, replies)
    assert identity.server is None or identity.rule is not None


PLACES = ["name", "digest", "size", "modified_at", "details", "capabilities", "remote_host", "expires_at"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(PLACES), VALUES), max_size=4), VALUES)
def test_an_entry_of_wrong_types_gives_unknowns(entries: list[dict[str, Any]], version: Any) -> None:
    replies = [
        reply("GET /api/version", {"version": version}),
        reply("GET /api/tags", {"models": entries}),
        reply("GET /api/ps", {"models": entries}),
    ]
    for model in RULES.identify(Target("192.0.2.1", 11434), replies).models or ():
        assert isinstance(model.name, str)
        assert model.digest is None or isinstance(model.digest, str)
        assert model.size_bytes is None or 0 <= model.size_bytes <= hostile.MAX_INTEGER
        assert model.modified_at is None or (isinstance(model.modified_at, datetime) and not model.modified_at.tzinfo)


# --- Models ---


def test_every_field_that_ollama_gives_is_kept() -> None:
    cloud, tiny, tools = models(named("ollama-0.32.15"))
    assert cloud == Model(
        name="gpt-oss:120b-cloud",
        digest="c1dd5848aa77df72d8d4a7abb4551ae9a930aa8992b820f80082c757487d779c",
        size_bytes=378,
        modified_at=datetime(2026, 11, 22, 10, 58, 18, 649235),
        modified_at_raw="2026-11-22T10:58:18.649235193Z",
        family_raw="gptoss",
        parameter_size="117B",
        quantization="MXFP4",
        context_length=131072,
        capabilities=("completion", "tools", "thinking"),
        is_running=False,
        is_remote=True,
        remote_model="gpt-oss:120b",
        remote_host="https://ollama.com:443",
        extra=(("embedding_length", "2880"),),
    )
    assert (tiny.is_running, tiny.size_vram, tiny.is_remote) == (True, 0, False)
    assert tiny.expires_at == datetime(2026, 11, 22, 11, 8, 20, 839416)
    assert dict(tiny.extra)["loaded_context_length"] == "2048"
    assert (tools.parent, tools.is_running, tools.families_raw) == ("tiny:latest", False, ("llama",))


def test_what_an_old_ollama_cannot_say_is_unknown() -> None:
    for model in models(named("ollama-0.1.34")):
        assert (model.capabilities, model.context_length, model.is_running) == (None, None, None)
    assert models(named("ollama-0.1.13"))[0].family_raw is None


def test_a_time_with_an_offset_is_utc_and_a_zero_time_is_none() -> None:
    assert models(named("ollama-0.1.13"))[0].modified_at == datetime(2023, 12, 1, 8, 12, 30, 100200)
    entry = {"name": "a", "digest": "0" * 64, "size": 1}
    for raw in ("0001-01-01T00:00:00Z", "2024-01-01", "2024-01-01T10:00:00", "9999-12-31T23:59:59-10:00", 7):
        replies = [
            reply("GET /api/version", {"version": "0.5.7"}),
            reply("GET /api/tags", {"models": [{**entry, "modified_at": raw}]}),
        ]
        (model,) = RULES.identify(Target("192.0.2.1", 11434), replies).models or ()
        assert model.modified_at is None
        assert model.modified_at_raw == (raw if isinstance(raw, str) else None)


def test_a_model_is_running_only_with_the_same_name_and_digest() -> None:
    def entry(name: str, digit: str) -> dict[str, Any]:
        return {"name": name, "digest": digit * 64, "size": 5, "modified_at": "2026-01-01T00:00:00Z"}

    replies = [
        reply("GET /api/version", {"version": "0.20.0"}),
        reply("GET /api/tags", {"models": [entry("a", "1"), entry("a", "2"), entry("a", "2")]}),
        reply("GET /api/ps", {"models": [{"name": "a", "digest": "2" * 64, "size_vram": 4}]}),
    ]
    listed = RULES.identify(Target("192.0.2.1", 11434), replies).models or ()
    assert [(model.is_running, model.size_vram) for model in listed] == [(False, None), (True, 4), (True, 4)]


def test_the_cards_of_openai_compatible_servers_keep_what_they_say() -> None:
    base, alias, adapter = models(named("vllm-lora"))
    assert (base.context_length, base.owned_by, dict(base.extra)["root"]) == (
        8192,
        "vllm",
        "meta-llama/Llama-3.1-8B-Instruct",
    )
    assert (alias.parent, adapter.parent, adapter.context_length) == (None, "llama-8b", None)
    (gguf,) = models(named("llama-server-0.7.0"))
    assert (gguf.n_params, gguf.n_vocab, gguf.context_length, gguf.size_bytes, gguf.quantization) == (
        119104,
        288,
        2048,
        476416,
        "all F32",
    )
    assert [model.is_running for model in models(named("llama-server-0.7.0-router"))] == [False, False]
    chat, embedding = models(named("lm-studio-0.4"))
    assert (chat.quantization, chat.family_raw, chat.is_running, chat.capabilities) == (
        "Q4_K_M",
        "qwen3",
        True,
        ("trained_for_tool_use",),
    )
    assert (embedding.is_running, embedding.capabilities) == (False, None)
    assert [model.is_running for model in models(named("lm-studio-0.3.6"))] == [False, True]


def test_a_flood_of_models_is_cut_and_the_evidence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "MAX_MODELS", 50)
    entry = {"digest": "0" * 64, "size": 1, "modified_at": "2026-01-01T00:00:00Z"}
    replies = [
        reply("GET /api/version", {"version": "0.5.7"}),
        reply("GET /api/tags", {"models": [{"name": f"m{i}", **entry} for i in range(60)]}),
    ]
    identity = RULES.identify(Target("192.0.2.1", 11434), replies)
    assert len(identity.models or ()) == 50
    assert identity.evidence[-1] == "GET /api/tags: kept 50 of 60 models"


def test_strings_are_cut_and_made_fit_to_store() -> None:
    entry = {"name": "x" * 5000, "digest": "\ud800", "size": 1, "modified_at": ""}
    replies = [
        reply("GET /api/version", {"version": "0." + "7" * 500}),
        reply("GET /api/tags", {"models": [entry]}),
    ]
    identity = RULES.identify(Target("192.0.2.1", 11434), replies)
    (model,) = identity.models or ()
    assert (len(model.name), model.digest) == (hostile.MAX_TEXT, "?")
    assert len(identity.version or "") == identify.MAX_VERSION


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1])
def test_an_integer_is_read_as_far_as_a_column_can_hold_it(value: int) -> None:
    assert hostile.read_json(str(value).encode()) == value
    with pytest.raises(hostile.Unreadable):
        hostile.read_json(str(value + (1 if value > 0 else -1)).encode())


# --- Proxies and neighbours ---


@pytest.mark.parametrize(
    ("headers", "proxy"),
    [
        ({"Server": "nginx/1.27.1"}, "nginx"),
        ({"Server": "cloudflare", "CF-RAY": "8a"}, "cloudflare"),
        ({"Via": "1.1 Caddy"}, "caddy"),
        ({"Server": "Apache/2.4.58 (Ubuntu)"}, "apache"),
        ({"Via": "1.1 gw.internal.example"}, "other"),
        ({"Server": "APISIX/3.9.1"}, "apisix"),
        ({"Server": "kong/3.8.0"}, "kong"),
        ({"Server": "lighttpd/1.4.76"}, "lighttpd"),
        ({"Server": "Angie/1.8.1"}, "angie"),
        ({"Server": "ATS/9.2.3", "Via": "http/1.1 edge (ApacheTrafficServer/9.2.3)"}, "traffic-server"),
        ({"Server": "BunnyCDN-DE1-1082"}, "bunnycdn"),
        ({"Server": "AkamaiGHost"}, "akamai"),
        ({"Server": "Vercel", "X-Vercel-Id": "fra1::abc"}, "vercel"),
        ({"Server": "istio-envoy"}, "envoy"),
        ({"Server": "Tengine"}, "tengine"),
        ({"Via": "1.1 varnish", "X-Fastly-Request-ID": "ab"}, "fastly"),
        ({"Via": "1.1 abc.cloudfront.net (CloudFront)", "X-Amz-Cf-Id": "ab"}, "cloudfront"),
        ({"Server": "Microsoft-IIS/10.0", "X-Powered-By": "ARR/3.0"}, "iis"),
        ({"X-Powered-By": "ARR/3.0"}, "iis"),
        ({"Server": "uvicorn"}, None),
        ({"X-Powered-By": "Express"}, None),
        ({}, None),
    ],
)
def test_the_proxy_in_front_is_named(headers: dict[str, str], proxy: str | None) -> None:
    plain = RULES.play(named("ollama-0.5.7"))
    replies = [replace(one, headers=(*one.headers, *headers.items())) for one in plain]
    identity = RULES.identify(Target("192.0.2.1", 11434), replies)
    assert (identity.server, identity.proxy) == ("ollama", proxy)


@pytest.mark.parametrize(
    ("headers", "signer"),
    [
        ({}, "nobody"),
        ({"Server": "nginx"}, "proxy"),
        ({"Via": "1.1 Caddy"}, "proxy"),
        ({"Server": "uvicorn"}, "other"),
        ({"Server": "Ollama/0.5.7", "Via": "1.1 Caddy"}, "other"),
    ],
)
def test_who_signs_a_reply(headers: dict[str, str], signer: str) -> None:
    assert replies.Head(reply("GET /", {}, **headers)).signer == signer


def test_rules_of_other_servers_that_also_matched_are_near() -> None:
    identity = found(named("vllm-0.32.0"))
    assert identity.near == ("openai-compatible.models",)
    assert "GET /v1/models: json data.*.owned_by equals 'vllm'" in identity.evidence


def test_nobody_is_invented() -> None:
    assert RULES.identify(Target("192.0.2.1", 11434), []) == Identity()
    assert RULES.identify(Target("192.0.2.1", 11434), [reply("GET /v1/models", {}, 401)]) == Identity()


# --- Raw bytes ---

TAGS = Question("GET", "/api/tags")


def test_raw_bytes_are_read_as_the_wire_means_them() -> None:
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\n\r\n'
    assert parse_reply(TAGS, chunked).body == b'{"a":1}'
    assert parse_reply(TAGS, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd").body == b"ab"
    old = parse_reply(TAGS, b"HTTP/1.0 200 \nServer:  x \n\nto the end")
    assert (old.status_line, old.headers, old.body) == ("HTTP/1.0 200 ", (("Server", "x"),), b"to the end")
    assert parse_reply(TAGS, b"HTTP/1.1 204 No Content\r\n").body == b""


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 OK\r\n\r\n", b"\x16\x03\x01"])
def test_what_is_not_http_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not the status line"):
        parse_reply(TAGS, raw)


# --- A new file, and wrong ones ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SERVERS, tmp_path / "servers")
    return tmp_path / "servers"


def documented() -> str:
    page = (ROOT / "docs" / "add-a-server.md").read_text("utf-8")
    return page.split("```toml\n")[1].split("```")[0]


def test_a_new_file_is_asked_matched_and_tested_with_no_other_edit(folder: Path) -> None:
    (folder / "acme-serve.toml").write_text(documented(), "utf-8")
    rules = Rules.load(folder)
    assert rules.check() == []
    assert str(rules.openers(7777)[0]) == "GET /acme/about"
    assert Question("GET", "/acme/about") in rules.questions()
    assert rules.worst_case()["acme-serve"] <= 5


WRONG: Sequence[tuple[str, str, str]] = [
    ('name = "Acme Serve"', 'nmae = "Acme Serve"', "name: is missing"),
    ('api = "openai"', 'api = "openai"\nportz = [1]', "portz: is no key of this table; did you mean 'ports'"),
    ("ports = [7777]  ", 'ports = ["7777"]  ', "ports: must be a whole number"),
    ("status = 401", "staus = 401", "staus: is no key of this table; did you mean 'status'"),
    ('ask = "GET /acme/about"                 # GET', 'ask = "POST /acme/about"  # GET', "GET or HEAD of a path only"),
    ('ask = "GET /acme/about"                 # GET', 'ask = "GET"  # GET', "must be a method and a path"),
    ('role = "open"', 'role = "opening"', "must be one of open, follow"),
    ("confidence = 0.95", "confidence = 95", "must be a number above 0 and at most 1"),
    ('auth = "key-required"', 'auth = "closed"', "must be one of open, key-required, refused, login-page"),
    ('equals = "Acme Serve"', 'equal = "Acme Serve"', "needs one of is, equals"),
    ('{ path = "product", equals = "Acme Serve" }', '{ path = "product", matches = "(" }', "no regular expression"),
    ('header = { x-acme = { prefix = "serve/" } }', 'header = { x-acme = "here" }', 'must be "absent", "present"'),
    (
        'header = { x-acme = { prefix = "serve/" } }',
        'header = { Date = { prefix = "S" } }',
        "differs from reply to reply",
    ),
    ('owned_by = "owned_by"', 'owner = "owned_by"', "is no column of a model; did you mean 'owned_by'"),
    ("map = { hot = true, cold = false }", 'as = "hot"', "must be one of unix, present, true_keys"),
    ("Content-Length: 0", "Content-Length: 7", "says Content-Length 7, but its body has 0 bytes"),
    ("HTTP/1.1 401 Unauthorized", "HTTP 401", "not the status line of an HTTP reply"),
    ('server = ""  ', "  ", "server: is missing"),
    ('server = ""  ', 'server = "acme-shop"  ', "expects 'acme-shop', which has no file"),
    ('unless = ["acme-serve.keyed"]', 'unless = ["acme-serve.key"]', "names the rule 'acme-serve.key'"),
    ('id = "acme-serve.keyed"', 'id = "acme-serve.about"', "rule 'acme-serve.about' is there twice"),
    ('id = "acme-serve.keyed"', 'id = "keyed"', "must begin with 'acme-serve.'"),
    ('id = "acme-serve"  ', 'id = "acme"  ', "must be the name of the file, 'acme-serve'"),
    ('id = "acme-serve"  ', "id =   ", "cannot be read"),
]


@pytest.mark.parametrize(("old", "new", "reason"), WRONG, ids=[row[2][:40] for row in WRONG])
def test_a_wrong_file_is_refused_with_its_name_its_key_and_the_reason(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    text = documented()
    assert old in text
    (tmp_path / "acme-serve.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(DataError, match=re.escape(reason)) as problem:
        Rules.load(tmp_path)
    assert str(problem.value).startswith("data/servers/acme-serve.toml: ")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no server files"):
        Rules.load(tmp_path)


CLAIMS: Sequence[tuple[str, str, str]] = [
    ('version = "2.1"\nrule', 'version = "2.2"\nrule', "version is '2.1', expected '2.2'"),
    ('models = ["m1", "m2"]', 'models = ["m1"]', "models is ('m1', 'm2'), expected ('m1',)"),
    ('equals = "Acme Serve"', 'prefix = "Acme"', "server is 'acme-serve', expected None"),
    ("status = 401", "status = 407", "rule 'acme-serve.keyed': no example needs it"),
    ("rank = 1 ", "rank = 900 ", "question 'GET /acme/about': no example of this file is asked it"),
    ("is = false", "is = true", "'is' and 'expect.server' contradict each other"),
    ("is = false", "is = true", "needs an example that only looks like it"),
]


@pytest.mark.parametrize(("old", "new", "problem"), CLAIMS, ids=[row[2][:40] for row in CLAIMS])
def test_a_file_that_claims_too_much_is_found_out(folder: Path, old: str, new: str, problem: str) -> None:
    text = documented()
    assert old in text
    (folder / "acme-serve.toml").write_text(text.replace(old, new, 1), "utf-8")
    assert [line for line in Rules.load(folder).check() if problem in line]


# --- The schema says the same ---


@pytest.fixture(scope="module")
def schema() -> Iterator[jsonschema.Draft202012Validator]:
    document = json.loads((ROOT / "schemas" / "server.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    yield jsonschema.Draft202012Validator(document, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("path", sorted(SERVERS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_file_keeps_the_schema(path: Path, schema: jsonschema.Draft202012Validator) -> None:
    assert [error.message for error in schema.iter_errors(tomllib.loads(path.read_text("utf-8")))] == []


BEYOND_A_SCHEMA = (
    "Content-Length",
    "expects",
    "names the rule",
    "there twice",
    "begin with",
    "name of the file",
    "read",
)
"""What only the program can see: lengths, references between parts, the file's own name, and TOML itself."""


@pytest.mark.parametrize(("old", "new", "reason"), WRONG, ids=[row[2][:40] for row in WRONG])
def test_the_schema_refuses_what_the_program_refuses(
    schema: jsonschema.Draft202012Validator, old: str, new: str, reason: str
) -> None:
    if any(word in reason for word in BEYOND_A_SCHEMA):
        return
    assert list(schema.iter_errors(tomllib.loads(documented().replace(old, new, 1))))


def test_the_schema_knows_every_word_and_column() -> None:
    parts = json.loads((ROOT / "schemas" / "server.schema.json").read_text("utf-8"))["$defs"]
    assert set(parts["match"]["properties"]) == {"ask", "answered", "json", *conditions.REPLY_WORDS}
    assert set(parts["value"]["properties"]) == {"path", "any", "or_empty", *conditions.VALUE_WORDS}
    assert set(parts["field"]["anyOf"][1]["properties"]["as"]["enum"]) == set(server_files.CONVERTERS)
    assert set(parts["column"]["enum"]) == set(Model.__dataclass_fields__) - {"extra"}


def test_what_is_shared_between_hosts_is_only_what_is_judged() -> None:
    """Two hosts whose replies differ in the date alone are one view; any other header or byte makes another."""
    rules = Rules.load()
    raw = b"HTTP/1.1 200 OK\r\nDate: %s\r\nX-Other: %s\r\n\r\n%s"
    question = Question("GET", "/")
    first, later, other, body = (
        parse_reply(question, raw % each)
        for each in ((b"now", b"a", b"hi"), (b"then", b"a", b"hi"), (b"now", b"b", b"hi"), (b"now", b"a", b"ho"))
    )
    assert rules.head(first) is rules.head(later) is rules.head(body)
    assert rules.head(other) is not rules.head(first)
    views = [rules._index.view(reply) for reply in (first, later, other, body)]
    assert views[0] is views[1]
    assert len({id(view) for view in views}) == 3


def test_a_reading_tells_one_verdict_of_the_same_replies_and_a_new_one_of_more() -> None:
    example = next(each for each in RULES.examples() if each.name == "ollama-0.32.15")
    target, replies = Target("192.0.2.1", example.port), RULES.play(example)
    reading = identify.Reading(RULES)
    for length in range(len(replies) + 1):
        found = reading.identify(target, replies[:length])
        assert found == RULES.identify(target, replies[:length])
        assert reading.identify(target, list(replies[:length])) is found
