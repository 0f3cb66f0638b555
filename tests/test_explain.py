"""The account of an endpoint tells everything that decided, escapes what strangers sent, and classify answers lines."""

from __future__ import annotations

import dataclasses
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from census import derive, explain
from census.classify import MAX_LINE, READ_SIZE, answers
from census.cli import main
from census.errors import SnapshotError, UsageError
from census.identify import Rules
from census.model import Conversation, Finding, Outcome, Question, Target
from census.replies import View, parse_reply
from census.scan import Stages
from tests.findings import NOON, RUN, publish, tls

KEYS = (
    "name brand_family generation base_family weights_family developer country weights_country params_b quant "
    "quant_bits role is_distill uncensored remote resolved_by confidence"
)
DECOY, OPEN = "decoy-promptpot", "ollama-0.5.7"


@pytest.fixture(scope="module")
def stages() -> Stages:
    return derive.todays_stages(derive.Kept())


def concluded(stages: Stages, ip: str, name: str, **changes: Any) -> Finding:
    """What the census makes of an example of `data/servers/` at an address."""
    example = next(one for one in stages.rules.examples() if one.name == name)
    replies = tuple(dataclasses.replace(one, elapsed_ms=0.5, **changes) for one in stages.rules.play(example))
    return stages.conclude(Conversation(Target(ip, 11434, tag="a\x1b[2Jb"), Outcome.SUCCESS, NOON, replies))


@pytest.fixture(scope="module")
def out(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a decoy, an Ollama that sends hostile headers, a web server, and a silent host."""
    folder = tmp_path_factory.mktemp("explained")
    nasty = (("X-\x1b[31mRed", "\u202eevil\x07"), ("Content-Type", "application/json; charset=utf-8"))
    example = next(one.name for one in stages.rules.examples() if one.server == "ollama" and one.is_it)
    found = [
        concluded(stages, "240.3.0.1", DECOY),
        concluded(stages, "2001:db8::1", example, headers=nasty),
        Finding(Conversation(Target("240.3.0.4", 80), Outcome.CONNECTION_REFUSED, NOON, error="refused")),
        tls(3),
    ]
    publish(folder, found)
    return folder


def told(out: Path, address: str) -> str:
    return explain.render(explain.explain(out, RUN, address), "text")


# --- one endpoint ----------------------------------------------------------------------------------------------------


def test_the_account_of_a_decoy_has_the_whole_chain(out: Path, stages: Stages) -> None:
    text = told(out, "240.3.0.1:11434")
    assert "GET /api/tags by http (0.5 ms)\n  HTTP/1.0 200 OK\n  Server: Ollama/0.5.7\n" in text
    assert "rule               ollama.claimed" in text
    assert "because            GET /api/version: status 200\n                       HTTP/1.0 200 OK" in text
    assert "version source     GET /api/version" in text
    assert "nearly             ollama." in text
    assert "-> brand family    Llama" in text
    reason = next(one for one in stages.suspicions.reasons if one.id in text)
    assert reason.about in text
    assert f"source: {reason.source}" in text


def test_every_condition_of_the_deciding_rule_held_and_of_a_near_one_all_but_one(out: Path) -> None:
    (account,) = explain.explain(out, RUN, "240.3.0.1")
    identity = account["identity"]
    assert identity["conditions"]
    assert all(one["holds"] for one in identity["conditions"])
    assert identity["nearly"]
    for near in identity["nearly"]:
        assert (near["failed"]["holds"], near["held"] >= 1) == (False, True)


def test_what_a_condition_saw_is_in_the_bytes(stages: Stages) -> None:
    raw = b'HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/html\r\n\r\n{"data":[{"a":{"b":1}},{"a":{"b":"two"}}]}'
    view = View.of(parse_reply(Question("GET", "/"), raw))
    seen = {
        "json data.*.a.b is 'string'": 'data.0.a.b = 1; data.1.a.b = "two"',
        "json some data.*.c equals 1": "no data.*.c",
        "json body is 'list'": 'body = {"data":[{"a":{"b":1}},{"a":{"b":"two"}}]}',
        "header server present": "Server: x",
        "header via absent": "no header via",
        "header names in lower case": "Server Content-Type",
        "signed by nobody or proxy": "Server: x; proxy none",
        "content type application/json": "Content-Type: text/html",
        "status 404": "HTTP/1.1 200 OK",
        "HTTP/1.0": "HTTP/1.1 200 OK",
        "title 'x'": "no title",
        "no body": view.text,
    }
    assert {words: explain._seen(words, view) for words in seen} == seen


def test_the_words_of_every_rule_are_understood(stages: Stages) -> None:
    """A word of the language that `explain` does not know would show the body where a header was judged."""
    known = (
        "json ",
        "header ",
        "status ",
        "content type ",
        "HTTP/",
        "title ",
        "text ",
        "signed by ",
        "no body",
        "a body",
    )
    words = {
        word.partition(": ")[2] for server in Rules.load().servers.values() for r in server.rules for word in r.evidence
    }
    strange = {word for word in words if not word.startswith((*known, "readable", "no readable", "not answered"))}
    assert strange == set()


def test_nothing_a_stranger_sent_reaches_the_terminal_raw(out: Path) -> None:
    text = told(out, "[2001:db8::1]:11434")
    assert "X-\\x1b[31mRed: \\u202eevil\\x07" in text
    assert "[a\\x1b[2Jb]" in text
    assert not any(char in text for char in "\x1b\u202e\x07")
    whole = explain.render(explain.explain(out, RUN, "2001:db8::1"), "json")
    assert whole.isascii()
    assert ["X-\x1b[31mRed", "\u202eevil\x07"] in json.loads(whole)[0]["replies"][0]["headers"]


def test_a_host_that_is_no_server_and_one_that_never_answered(out: Path) -> None:
    assert "not identified: no rule holds" in told(out, "240.0.0.3")
    assert "certificate\n  sha256             " + "ab" * 32 in told(out, "240.0.0.3")
    assert "outcome            connection-refused\n  error              refused" in told(out, "240.3.0.4:80")


def test_where_todays_rules_differ_both_are_told(stages: Stages, tmp_path: Path) -> None:
    found = concluded(stages, "240.3.0.1", DECOY)
    old = dataclasses.replace(found, identity=dataclasses.replace(found.identity, server="vllm", rule="vllm.then"))
    publish(tmp_path, [old])
    text = told(tmp_path, "240.3.0.1")
    assert "server: the run says 'vllm', today's rules 'ollama'" in text
    assert "census derive" in text
    derive.derive(tmp_path, RUN)
    assert "the run says" not in told(tmp_path, "240.3.0.1")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("240.9.9.9", "240.9.9.9 was not asked in this run"),
        (" 240.9.9.9\r", "240.9.9.9 was not asked in this run"),  # cut out of a CSV file
        ("240.3.0.1:80", "240.3.0.1:80 was not asked on that port; it was on 11434"),
    ],
)
def test_an_endpoint_that_was_not_asked(out: Path, address: str, message: str) -> None:
    with pytest.raises(SnapshotError, match=message):
        explain.explain(out, RUN, address)


@pytest.mark.parametrize("text", ["host.example", "240.3.0.1:x", "[::1", ""])
def test_what_is_no_address(out: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"is no address; write 192\.0\.2\.1"):
        explain.explain(out, RUN, text)


def test_long_bodies_and_inventories_are_cut(stages: Stages, tmp_path: Path) -> None:
    found = concluded(stages, "240.3.0.1", DECOY)
    tags = json.dumps({"models": [{"name": f"m{i}"} for i in range(60)]}).encode()
    replies = [
        dataclasses.replace(one, body=tags, truncated=True) if one.question.path == "/api/tags" else one
        for one in found.conversation.replies
    ]
    publish(tmp_path, [stages.conclude(dataclasses.replace(found.conversation, replies=tuple(replies)))])
    text = told(tmp_path, "240.3.0.1")
    assert f"… {len(tags):,} bytes in all; the server had more to say" in text
    assert "… and 10 models more (--format json has all)" in text
    assert len(explain.explain(tmp_path, RUN, "240.3.0.1")[0]["models"]) == 60


def test_the_command_writes_it(out: Path) -> None:
    done = CliRunner().invoke(main, ["explain", "last", "240.3.0.1", "-o", str(out), "--format", "json"])
    assert (done.exit_code, json.loads(done.stdout)[0]["endpoint"]) == (0, "240.3.0.1:11434")
    done = CliRunner().invoke(main, ["derive", "last", "-o", str(out)])
    assert done.exit_code == 0
    assert RUN in done.stderr


# --- names of models -------------------------------------------------------------------------------------------------


def classify(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["classify", *arguments], input=given)


def answered(given: str, *arguments: str) -> list[dict[str, Any]]:
    done = classify("-f", "-", "--format", "jsonl", *arguments, given=given)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_line_is_answered_in_order_with_exactly_these_keys() -> None:
    told = answered('qwen2.5:7b-instruct-q4_K_M\n\n{"name": "llama3.1:8b"}\r\n  spaced name \nnobody-knows-this')
    assert [list(one) for one in told] == [KEYS.split()] * 5
    assert [one["name"] for one in told] == [
        "qwen2.5:7b-instruct-q4_K_M", "", "llama3.1:8b", "  spaced name ", "nobody-knows-this",
    ]  # fmt: skip
    assert [one["brand_family"] for one in told] == ["Qwen", None, "Llama", None, None]
    assert (told[0]["country"], told[0]["quant"], told[0]["quant_bits"], told[0]["params_b"]) == ("CN", "Q4_K_M", 4, 7)
    assert {told[4][key] for key in KEYS.split()[1:] if key != "remote"} == {None}


def test_the_metadata_of_a_line_count() -> None:
    line = {"name": "mine", "family": "qwen2", "families": ["qwen2"], "parameter_size": "7.6B", "digest": None}
    line |= {"quantization_level": "Q8_0", "remote_model": None, "observed_at": "2026-01-02T03:04:05+02:00"}
    (told,) = answered(json.dumps(line))
    assert (told["weights_family"], told["params_b"], told["quant"]) == ("Qwen", 7.6, "Q8_0")
    (cloud,) = answered('{"name": "x", "remote_model": "qwen3-coder:480b"}')
    assert (cloud["remote"], cloud["brand_family"]) == (True, "Qwen")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{nonsense", "begins with '{' but is not JSON"),
        ('{"nme": "x"}', "has no name"),
        ('{"name": 7}', "has no name"),
        ('{"name": "x", "family": 1}', "family must be a text or null, not 1"),
        ('{"name": "x", "families": "llama"}', "families must be a list of texts or null"),
        ('{"name": "x", "observed_at": "soon"}', 'observed_at is not a time such as 2026-11-22T12:00:00Z: "soon"'),
    ],
)
def test_a_line_that_cannot_be_read_stops_or_is_answered_with_its_number(line: str, problem: str) -> None:
    given = f"llama3\n{line}\nqwen2\n"
    stopped = classify("-f", "-", "--format", "jsonl", given=given)
    assert stopped.exit_code == 2
    assert f"standard input:2: {problem}" in stopped.stderr
    assert len(stopped.stdout.splitlines()) == 1
    first, wrong, last = answered(given, "--skip-invalid")
    assert (first["name"], wrong["line"], last["name"]) == ("llama3", 2, "qwen2")
    assert wrong["error"].startswith(problem)


def test_a_file_and_names_and_their_reasons(tmp_path: Path) -> None:
    listing = tmp_path / "names"
    listing.write_text("{\n")
    assert f"{listing}:1: begins with" in classify("-f", str(listing)).stderr
    text = classify("qwen2.5:7b", "evil\x1b[2J").stdout
    assert "-> brand family    Qwen\n" in text
    assert "because         qwen: data/families.toml: Qwen, by " in text
    assert "evil\\x1b[2J\n  -> unknown" in text
    assert classify("-", given="llama3\n").stdout == classify(given="llama3\n").stdout == classify("llama3").stdout
    assert classify().exit_code == 2


class Dripping(io.RawIOBase):
    """A pipe into which the next line is written only when the one before was answered."""

    def __init__(self, lines: list[bytes], answered: list[str]) -> None:
        self.lines, self.answered, self.sent = lines, answered, 0

    def read1(self, size: int) -> bytes:
        assert len(self.answered) == self.sent
        self.sent += 1
        return self.lines.pop(0) if self.lines else b""


def test_what_has_come_is_answered_before_more_is_read() -> None:
    had: list[str] = []
    for text in answers(Dripping([b"llama3\n", b"qwen2\n", b"phi3\n"], had), "pipe", "jsonl"):  # type: ignore[arg-type]
        had.append(text)
    assert [json.loads(text)["brand_family"] for text in had] == ["Llama", "Qwen", "Phi"]


class Endless(io.RawIOBase):
    """One line of many reads, then a name; what was asked of it is all that it makes."""

    def __init__(self, reads: int) -> None:
        self.left = reads

    def read1(self, size: int) -> bytes:
        self.left -= 1
        return b"x" * size if self.left > 0 else b"\nqwen2:7b\n" if self.left == 0 else b""


def test_a_line_without_an_end_is_refused_by_its_number() -> None:
    stream = Endless(2 * MAX_LINE // READ_SIZE)
    with pytest.raises(UsageError, match="pipe:1: longer than 1048576 bytes"):
        list(answers(stream, "pipe", "jsonl"))  # type: ignore[arg-type]


def test_a_line_without_an_end_is_answered_and_the_next_one_too() -> None:
    tracemalloc.start()
    told = "\n".join(answers(Endless(64 * MAX_LINE // READ_SIZE), "pipe", "jsonl", skip_invalid=True))  # type: ignore[arg-type]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    first, second = map(json.loads, told.splitlines())
    assert first == {"error": "longer than 1048576 bytes: no name of a model", "line": 1}
    assert second["brand_family"] == "Qwen" and most < 8 * MAX_LINE


def test_a_line_of_the_most_bytes_is_read() -> None:
    text = b'{"name":"qwen2:7b"' + b" " * (MAX_LINE - 19) + b"}"
    told = "\n".join(answers(io.BytesIO(text + b"\n" + text + b" "), "pipe", "jsonl", skip_invalid=True))
    assert [json.loads(line).get("brand_family", "refused") for line in told.splitlines()] == ["Qwen", "refused"]
