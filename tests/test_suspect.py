"""Reasons to doubt: every example against every reason, every recording, every inhabitant, every kind of garbage."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from census import identify, query, report, resources, suspect
from census.errors import DataError
from census.identify import Rules
from census.model import Conversation, Doubt, Finding, Identity, Model, Outcome, Place, Question, Reply, Target
from census.probe import allowed
from census.replies import parse_reply
from census.simulate import World
from census.simulate.players import Stage
from census.snapshot import Draft
from census.suspect import Suspicions, Version
from tests import findings, report_world
from tests.conftest import Census

ROOT = Path(__file__).resolve().parents[1]
CAPTURES = ROOT / "tests" / "captures"
RULES = Rules.load()
SUSPICIONS = Suspicions.load()
STAGE = Stage(RULES, SUSPICIONS)
NONSENSE = SUSPICIONS.nonsense.question
PORTS = (11434, 8080, 8000, 3000, 1234, 9997, 21001)
NOON = datetime(2026, 11, 22, 12)

Answer = Callable[[Question], Reply | None]


def converse(port: int, answer: Answer) -> tuple[Conversation, Identity]:
    """What a whole scan would ask and conclude."""
    target, plan, replies = Target("192.0.2.1", port), SUSPICIONS.plan(RULES), list[Reply]()
    while (question := plan(target, replies)) and (one := answer(question)):
        replies.append(one)
    return Conversation(target, Outcome.SUCCESS, NOON, tuple(replies)), RULES.identify(target, replies)


def recorded(folder: str) -> Answer:
    def answer(question: Question) -> Reply | None:
        name = question.path.strip("/").replace("/", "_") or "root"
        paths = (CAPTURES / folder / f"{name}.http", CAPTURES / folder / "404.http")
        return next((parse_reply(question, path.read_bytes()) for path in paths if path.exists()), None)

    return answer


def played(name: str) -> Answer:
    example = next(example for example in RULES.examples() if example.name == name)

    def answer(question: Question) -> Reply | None:
        raw = example.answer(question)
        return None if raw is None else parse_reply(question, raw)

    return answer


def asked(conversation: Conversation) -> list[str]:
    return [str(one.question) for one in conversation.replies]


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_file_claims_nothing_that_is_not_so() -> None:
    assert SUSPICIONS.check(STAGE.hear) == []


@pytest.mark.parametrize("example", SUSPICIONS.examples(), ids=lambda example: example.name)
def test_an_example_gives_exactly_the_reasons_it_says(example: suspect.Example) -> None:
    assert set(SUSPICIONS.judge(*STAGE.hear(example)).reasons) == example.gives


def test_what_only_looks_like_it_is_no_strong_suspect() -> None:
    """Odd but possible hosts: copied disks, images, aliases, local clocks, development builds, proxies."""
    for example in SUSPICIONS.examples():
        assert example.is_it or SUSPICIONS.judge(*STAGE.hear(example)).score < 2, example.about


def test_the_file_keeps_to_its_schema() -> None:
    schema = json.loads(resources.schemas("suspicion.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(resources.data("suspicion.toml").read_text("utf-8")), schema)


def _changed(folder: Path, find: str, put: str) -> Path:
    text = resources.data("suspicion.toml").read_text("utf-8")
    assert find in text
    path = folder / "suspicion.toml"
    path.write_text(text.replace(find, put, 1), "utf-8")
    return path


@pytest.mark.parametrize(
    ("find", "put", "words"),
    [
        ('test = "protocol"', 'test = "protocl"', "no test 'protocl'; there are"),
        ("strength = 2\nservers", "strength = 3\nservers", "strength is 1 or 2, not 3"),
        ("strength = 1\nhosts", "strength = 0\nhosts", "together 'fleet': needs an id of its own and a strength"),
        ("systems = 2", "sytsems = 2", "together 'fleet':"),
        ('servers = ["ollama"]', 'server = ["ollama"]', "no key is called 'server'; did you mean 'servers'"),
        ('id = "names-itself"', 'id = "http-1.0"', "reason 'http-1.0' is there twice"),
        ("is = true", 'is = "yes"', "example 'http-1.0-1': 'is' must be there, as bool"),
        ('since = "0.1.15"', 'since = "soon"', "'soon' is no release"),
        ('on = "*", find =', 'on = "*", fnid =', "no key is called 'fnid'; did you mean 'find'"),
        ('ask = "GET /census-nonexistent"', 'ask = "nonsense"', "nonsense: needs ask"),
        ("[nonsense]", "[nonsense", "cannot be read"),
        (
            'with = { name = "server", prefix = ["basehttp"',
            'with = { name = "date", prefix = ["basehttp"',
            "'date' is nothing",
        ),
        (
            'field = "details.parent_model"',
            'field = "other.parent"',
            "'other.parent' is nothing that a test may look at",
        ),
    ],
)
def test_a_wrong_file_is_told_so(tmp_path: Path, find: str, put: str, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        Suspicions.load(_changed(tmp_path, find, put))
    assert "suspicion.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("find", "put", "words"),
    [
        ('of = "decoy-promptpot"', 'of = "decoy-promptpod"', "data/servers/ has no example 'decoy-promptpod'"),
        ("find = 'HTTP/1.1 200'", "find = 'HTTP/3 200'", "nothing to change on '*'"),
        ("find = 'HTTP/1.1 200'", 'copy = "GET /"', "a patch has 'on', and either"),
    ],
)
def test_an_example_that_cannot_be_played_is_told_so(tmp_path: Path, find: str, put: str, words: str) -> None:
    text = resources.data("suspicion.toml").read_text("utf-8").replace('find = "HTTP/1.1 200"', "find = 'HTTP/1.1 200'")
    path = tmp_path / "suspicion.toml"
    path.write_text(text.replace(find, put, 1), "utf-8")
    with pytest.raises(DataError, match=re.escape(words)):
        Suspicions.load(path).check(STAGE.hear)


def _checked(reasons: tuple[suspect.Reason, ...]) -> list[str]:
    return replace(SUSPICIONS, reasons=reasons).check(STAGE.hear)


def test_what_nobody_needs_is_an_error() -> None:
    first, *rest = SUSPICIONS.reasons
    bare = replace(first, examples=())
    assert any("needs an example that gives it" in line for line in _checked((bare, *rest)))
    assert any("needs an example that only looks like it" in line for line in _checked((bare, *rest)))
    without = tuple(reason for reason in SUSPICIONS.reasons if reason.test != "bait")
    assert "test 'bait' is used by no reason" in _checked(without)


def test_an_example_is_judged_by_all_reasons() -> None:
    everywhere = replace(SUSPICIONS.reasons[0], id="always", parameters={"prefix": ("HTTP/",)})
    problems = _checked((*SUSPICIONS.reasons, everywhere))
    ollamas = [e for e in SUSPICIONS.examples() if e.of == "ollama-0.5.7" and "Caddy" not in e.about]
    assert sum("gives always" in line for line in problems) >= len(ollamas) - 1


# --- Who is doubted and who is not -----------------------------------------------------------------------------------

HONEST = sorted(path.name for path in CAPTURES.iterdir() if not path.name.startswith("decoy-"))
DECOYS = sorted(path.name for path in CAPTURES.iterdir() if path.name.startswith("decoy-"))


@pytest.mark.parametrize("folder", HONEST)
def test_no_recorded_server_is_doubted_on_any_port(folder: str) -> None:
    assert {port: SUSPICIONS.judge(*converse(port, recorded(folder))) for port in PORTS} == dict.fromkeys(
        PORTS, Doubt()
    )


@pytest.mark.parametrize("folder", DECOYS)
def test_every_recorded_decoy_is_suspect_on_any_port(folder: str) -> None:
    assert {SUSPICIONS.judge(*converse(port, recorded(folder))).score for port in PORTS} == {2}


def test_no_example_of_a_server_is_doubted_unless_it_is_a_decoy() -> None:
    doubted = {
        example.name
        for example in RULES.examples()
        if SUSPICIONS.judge(*converse(example.port, played(example.name))).score
    }
    assert doubted == {example.name for example in RULES.examples() if example.name.startswith("decoy-")}


@pytest.mark.parametrize(
    "server", ["APISIX/3.9.1", "kong/3.8.0", "lighttpd/1.4.76", "Angie/1.8.1", "ATS/9.2.3", "Vercel"]
)
def test_a_proxy_that_names_itself_is_no_reason_to_doubt(server: str) -> None:
    def answer(question: Question) -> Reply | None:
        reply = played("ollama-0.5.7")(question)
        return reply and replace(reply, headers=(("Server", server), *reply.headers))

    conversation, identity = converse(11434, answer)
    assert (identity.rule, identity.auth) == ("ollama.proxied", "open")
    assert SUSPICIONS.judge(conversation, identity) == Doubt()


def test_who_claims_nothing_is_not_doubted() -> None:
    reply = Reply(NONSENSE, "http", 200, "HTTP/1.0 200 OK", (("Server", "Ollama/0.5.7"),), b'{"uid=0(root)": 1}')
    conversation = Conversation(Target("192.0.2.1", 80), Outcome.SUCCESS, NOON, (reply,))
    assert SUSPICIONS.judge(conversation, Identity()) == Doubt()


# --- What a version says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "has", "lacks"),
    [
        ("0.10.0", True, False),
        ("v0.10.0", True, False),
        ("0.9.9", False, True),
        ("0.10.0-rc0", False, False),
        ("0.10.1-rc0", True, False),
        ("0.9.9-rc3", False, True),
        ("0.9.6-12-g0123abc", False, False),
        ("0.9.6-0-g0123abc-dirty", False, False),
        ("0.11.4-3-g0123abc", True, False),
        ("0.9.6+dfsg", False, False),
    ],
)
def test_a_version_says_no_more_than_it_knows(text: str, has: bool, lacks: bool) -> None:
    version = Version.read(text)
    assert version is not None
    assert (version.holds((0, 10, 0)), version.precedes((0, 10, 0))) == (has, lacks)


@pytest.mark.parametrize("text", [None, "", "0.0.0", "0.0.0-dirty", "main", "fb30760", "1.2", "²³.1.1"])
def test_some_versions_say_nothing(text: str | None) -> None:
    assert Version.read(text) is None


# --- The nonsense path -----------------------------------------------------------------------------------------------


def test_the_nonsense_path_may_be_asked_and_is_nobodys() -> None:
    assert allowed(SUSPICIONS.questions()) == {NONSENSE}
    assert NONSENSE not in RULES.questions()
    assert SUSPICIONS.nonsense.honest <= set(RULES.servers)


def test_an_ollama_beyond_doubt_is_never_asked_nonsense() -> None:
    for name in ("ollama-0.32.15", "ollama-0.5.7", "ollama-0.32.15-empty", "ollama-behind-nginx"):
        conversation, _ = converse(11434, played(name))
        assert str(NONSENSE) not in asked(conversation) and len(conversation.replies) <= 4


def test_no_example_of_a_server_is_asked_nonsense() -> None:
    """Nor is any recorded decoy: what is strongly doubted, or has said no once, needs no more questions."""
    for example in RULES.examples():
        assert str(NONSENSE) not in asked(converse(example.port, played(example.name))[0]), example.name
    for folder in DECOYS:
        assert str(NONSENSE) not in asked(converse(11434, recorded(folder))[0])


def _everything(body: bytes, kind: str = "application/json", *heads: tuple[str, str]) -> Answer:
    headers = (("Content-Type", kind), *heads)
    return lambda question: Reply(question, "http", 200, "HTTP/1.1 200 OK", headers, body)


LIST = b'{"object":"list","data":[{"id":"chat-large","object":"model","created":1750000000,"owned_by":"acme"}]}'


@pytest.mark.parametrize("port", PORTS)
def test_who_answers_everything_alike_is_asked_once_and_caught(port: int) -> None:
    conversation, identity = converse(port, _everything(LIST))
    assert identity.server is not None
    assert asked(conversation).count(str(NONSENSE)) == 1 and asked(conversation)[-1] == str(NONSENSE)
    assert SUSPICIONS.judge(conversation, identity) == Doubt(2, ("catch-all",))


def test_a_front_end_that_shows_its_page_everywhere_is_not_caught() -> None:
    api = _everything(LIST)
    page = _everything(b"<html><title>Models</title></html>", "text/html")
    conversation, identity = converse(8080, lambda q: api(q) if q.path == "/v1/models" else page(q))
    assert asked(conversation)[-1] == str(NONSENSE)
    assert SUSPICIONS.judge(conversation, identity) == Doubt()


def test_who_answers_everything_by_design_is_not_asked() -> None:
    for server in SUSPICIONS.nonsense.honest:
        replies = [one for q in ("GET /a", "GET /b") if (one := _everything(LIST)(Question.parse(q)))]
        identity = Identity(server, confidence=0.1)
        assert SUSPICIONS.next_question(Target("192.0.2.1", 80), replies, identity) is None
        other = replace(identity, server="vllm")
        assert SUSPICIONS.next_question(Target("192.0.2.1", 80), replies, other) == NONSENSE


# --- Garbage ---------------------------------------------------------------------------------------------------------

KEYS = ["models", "data", "name", "id", "model", "details", "digest", "modified_at", "size", "expires_at", "created"]
KEYS += ["parent_model", "family", "parameter_size", "capabilities", "remote_host", "context_length", "version"]
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["0.5.7", "8.0B", "²B", ".B", "2026-11-22T11:02:53Z", "a" * 64, "9" * 70]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)
LISTS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), max_size=4)
BODIES = st.binary(max_size=60) | st.builds(
    lambda key, items: json.dumps({key: items}).encode(), st.sampled_from(["models", "data"]), LISTS
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Server", "date", "Date", "Content-Type", ""]), st.text(max_size=20) | st.just("Sun, 22")
    ),
    max_size=4,
).map(tuple)
REPLIES = st.builds(
    Reply,
    question=st.sampled_from(sorted(RULES.questions() | {NONSENSE}, key=str)),
    scheme=st.just("http"),
    status=st.sampled_from([200, 200, 200, 404, 999]),
    status_line=st.sampled_from(["HTTP/1.1 200 OK", "HTTP/1.0 200 ", ""]),
    headers=HEADERS,
    body=BODIES,
)
TIMES = st.none() | st.datetimes()
MODELS = st.builds(
    Model,
    name=TEXTS,
    digest=st.none() | TEXTS,
    size_bytes=st.none() | st.integers(0, 2**63 - 1),
    modified_at=TIMES,
    modified_at_raw=st.none() | TEXTS,
    family_raw=st.none() | TEXTS,
    parameter_size=st.none() | TEXTS,
    is_running=st.none() | st.booleans(),
    expires_at=TIMES,
)
IDENTITIES = st.builds(
    Identity,
    server=st.sampled_from(["ollama", "ollama", "ollama", "vllm", "openai-compatible", None]),
    version=st.none() | TEXTS | st.sampled_from(["0.5.7", "0.32.15", "99999999999.1.1", "0.9.1-rc"]),
    confidence=st.none() | st.floats(0, 1),
    proxy=st.sampled_from([None, None, "nginx"]),
    models=st.none() | st.lists(MODELS, max_size=5).map(tuple),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(REPLIES, max_size=5), IDENTITIES)
def test_nothing_a_server_sends_raises(replies: list[Reply], identity: Identity) -> None:
    target = Target("192.0.2.1", 11434)
    doubt = SUSPICIONS.judge(Conversation(target, Outcome.SUCCESS, NOON, tuple(replies)), identity)
    strengths = {reason.id: reason.strength for reason in SUSPICIONS.reasons}
    assert doubt.score == max((strengths[reason] for reason in doubt.reasons), default=0)
    assert SUSPICIONS.next_question(target, replies, identity) in (None, NONSENSE)
    SUSPICIONS.plan(RULES)(target, replies)


# --- The simulated internet ------------------------------------------------------------------------------------------


def _inhabitants(world: World) -> Iterator[tuple[str, Doubt]]:
    for host in world.hosts:
        if host.part is not None:

            def answer(question: Question, part: Any = host) -> Reply | None:
                found = part.answer(question.method, question.path)
                return None if found is None else parse_reply(question, found.wire)

            yield host.plays, SUSPICIONS.judge(*converse(host.port, answer))


def test_every_reason_has_an_inhabitant() -> None:
    doubts = list(_inhabitants(World.load(rules=RULES)))
    given_reasons = {reason for _, doubt in doubts for reason in doubt.reasons}
    assert {reason.id for reason in SUSPICIONS.reasons} - given_reasons == set()
    assert {plays for plays, doubt in doubts if doubt.score == 1} == {n for n in STAGE.decoys() if n.startswith("odd")}


def test_decoys_and_odd_hosts_are_played_by_name_too(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    group = '[[group]]\nabout = "one"\nwhere = "hosting"\nplays = "decoy/catch-all"\ndecoy = true\n'
    path.write_text(f'about = "a test"\nseed = 1\nuntil = 2026-08-29\n{group}', "utf-8")
    (host,) = World.load(path, rules=RULES).hosts
    assert host.truth.doubted and host.truth.server == "ollama"
    path.write_text(path.read_text("utf-8").replace("catch-all", "catch-al"), "utf-8")
    with pytest.raises(DataError, match=r"did you mean 'decoy/catch-all'"):
        World.load(path, rules=RULES)


def test_a_scan_asks_nonsense_only_where_it_decides(census_of_the_world: Census) -> None:
    rows = _rows(census_of_the_world, f"select count(*) as n from replies where path = '{NONSENSE.path}'")
    caught = _rows(
        census_of_the_world, "select count(*) as n from hosts where list_contains(suspect_reasons, 'catch-all')"
    )
    assert 0 < caught[0]["n"] <= rows[0]["n"] <= 5


def _rows(census: Census, sql: str) -> list[dict[str, Any]]:
    with query.connect(census.out) as connection:
        return query.run_sql(connection, sql).to_pylist()


# --- Fleets ----------------------------------------------------------------------------------------------------------


def test_the_fleet_of_the_simulated_internet_is_found(census_of_the_world: Census) -> None:
    """Each of its hosts is beyond doubt alone; together they are not."""
    rows = report.answer(census_of_the_world.out, "fleets").rows.to_pylist()
    fleets = [row for row in rows if row["models"] == 2 and "tiny:latest" in row["first_models"]]
    assert fleets and all(row["suspect_hosts"] == row["hosts"] >= 8 for row in fleets)
    assert report.answer(census_of_the_world.out, "fleets", suspects="exclude").rows.num_rows == 0


@pytest.mark.parametrize(
    ("hosts", "systems", "n_models", "given"),
    [
        (4, 4, 2, []),
        (8, 1, 2, []),
        (8, 8, 1, []),
        (5, 2, 2, ["fleet"]),
        (8, 4, 2, ["fleet"]),
        (8, 5, 2, ["fleet", "fleet-of-many-networks"]),
    ],
)
def test_a_fleet_is_so_many_hosts_in_so_many_systems(
    tmp_path: Path, hosts: int, systems: int, n_models: int, given: list[str]
) -> None:
    """Beside them stands one host of another inventory."""
    found = [_copy(n, n % systems, n_models, STAMP) for n in range(hosts)]
    with Draft.create(tmp_path, findings.RUN, {}, lambda folder: None) as draft:
        draft.commit(0, [*found, _copy(100, 0, n_models, "2025-01-01T00:00:00.5Z")])
        draft.publish(findings.run_row(draft), SUSPICIONS.together)
    with closing(query.connect(tmp_path)) as connection:
        rows = connection.execute("SELECT installation, suspect, suspect_reasons FROM hosts").fetchall()
    doubts = Counter((suspect, tuple(reasons)) for _, suspect, reasons in rows)
    assert len({mark for mark, _, _ in rows}) == 2
    assert doubts == Counter({(len(given), tuple(given)): hosts}) + Counter({(0, ()): 1})


def _copy(number: int, asn: int, n_models: int, changed: str) -> Finding:
    models = tuple(Model(f"m{n}", digest=f"{n:064x}", modified_at_raw=changed) for n in range(n_models))
    talk = replace(findings.server(number).conversation, target=Target(f"192.0.2.{number}", 11434))
    lineages = tuple(map(findings.lineage, models))
    identity, place = replace(findings.server(0).identity, models=models), Place("DE", asn=asn)
    return Finding(talk, identity, lineages, Doubt(), place)


STAMP = "2025-01-01T00:00:00.123456789Z"


def _fleet(last: range, run: str = report_world.JANUARY, systems: int = 2, **changes: Any) -> report_world.World:
    hosts = [
        report_world.host(
            run, n, 2, asn=64500 + n % systems, country=("DE", None, "FR")[n % 3], suspect=2 * (n == last[0])
        )
        for n in last
    ]
    models = [
        report_world.model(run, n, i, "llama", **{"name": f"m{i}", "modified_at_raw": STAMP, **changes})
        for n in last
        for i in range(2)
    ]
    return {"runs": [], "probes": [], "hosts": hosts, "models": models}


def _asked(*worlds: report_world.World) -> report.Answer:
    with report_world.connect(report_world.joined(report_world.january(), *worlds)) as connection:
        return report.ask(connection, "fleets")


def test_a_fleet_is_counted_by_hand() -> None:
    answer = _asked(_fleet(range(41, 47)), _fleet(range(51, 53), modified_at_raw="2025-02-02T00:00:00Z"))
    assert answer.facts == {
        "fleets": 1,
        "hosts_in_fleets": 6,
        "hosts_with_inventory": 8,
        "fleet_share_of_hosts": 0.75,
    }
    (row,) = answer.rows.to_pylist()
    expected = {"fleet": 1, "hosts": 6, "share_of_hosts": 0.75, "systems": 2, "countries": 2, "suspect_hosts": 1}
    assert row == expected | {"day": "2026-01-10", "models": 2, "first_models": "m0, m1"}


@pytest.mark.parametrize(
    "world",
    [
        _fleet(range(41, 45)),
        _fleet(range(41, 47), systems=1),
        _fleet(range(41, 47), name="m"),
        _fleet(range(41, 47), digest=None),
        _fleet(range(41, 47), modified_at_raw=None),
        _fleet(range(41, 47), is_remote=True),
    ],
    ids=["four hosts", "one system", "one model", "no digests", "no times", "served by a cloud"],
)
def test_what_is_no_fleet(world: report_world.World) -> None:
    assert _asked(world).rows.num_rows == 0


def test_one_installation_that_moves_is_no_fleet() -> None:
    """Six addresses with one inventory, three on one day and three on another: churn, not a fleet."""
    three, later = _fleet(range(41, 44)), _fleet(range(44, 47), report_world.FEBRUARY)
    assert _asked(three, later, report_world.february()).rows.num_rows == 0
    assert _asked(three, _fleet(range(44, 47)), report_world.february()).rows.num_rows == 1


# --- Documentation ---------------------------------------------------------------------------------------------------


def test_the_reason_in_the_documents_works_as_it_stands(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "add-a-reason.md").read_text("utf-8")
    (entry,) = re.findall(r"```toml\n(\[\[reason\]\].*?)```", page, re.DOTALL)
    path = tmp_path / "suspicion.toml"
    path.write_text(resources.data("suspicion.toml").read_text("utf-8") + "\n" + entry, "utf-8")
    more = Suspicions.load(path)
    assert len(more.reasons) == len(SUSPICIONS.reasons) + 1
    assert more.check(Stage(RULES, more).hear) == []
    assert f"decoy/{more.reasons[-1].id}" in Stage(RULES, more).decoys()


def test_the_page_names_every_test() -> None:
    page = (ROOT / "docs" / "add-a-reason.md").read_text("utf-8")
    assert [name for name in suspect.TESTS if f"`{name}`" not in page] == []


def test_what_is_remembered_of_one_host_is_not_said_of_another_that_differs() -> None:
    """All examples, one after another and back, by reasons that remember, and each by reasons that know no other."""
    known = Suspicions.load()
    heard = [STAGE.hear(example) for example in SUSPICIONS.examples()]
    for conversation, identity in [*heard, *reversed(heard)]:
        assert known.judge(conversation, identity) == replace(known).judge(conversation, identity)


@pytest.mark.parametrize("length", [1, 20_000])
def test_what_strangers_send_does_not_fill_what_is_remembered(length: int) -> None:
    """Neither long heads nor the verdicts of a plan that asked on: every host would leave all its bodies behind."""
    rules, suspicions = Rules.load(), Suspicions.load()
    for number in range(20):
        answer = _everything(LIST, "application/json", ("X-Pad", f"{number:02}" * length))
        reading, target, heard = identify.Reading(rules), Target("192.0.2.1", 8000), list[Reply]()
        plan = suspicions.plan(reading)
        while (ask := plan(target, heard)) is not None:
            heard.append(answer(ask))
        assert heard[-1].question == suspicions.nonsense.question
        conversation = Conversation(target, Outcome.SUCCESS, datetime(2026, 1, 2), replies=tuple(heard))
        suspicions.judge(conversation, reading.identify(target, heard), reading)
    assert suspicions._early == {}
    if length > 1:
        assert (len(rules._index._heads), len(suspicions._shapes)) == (0, 0)
