"""The simulated internet: parts are played to the byte, misbehaviours misbehave, and the truth is all there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, date, datetime
from ipaddress import ip_address, ip_network
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import jsonschema
import maxminddb
import pytest
from cryptography import x509

from census import hostile, resources
from census.errors import CensusError, DataError
from census.identify import Rules
from census.locate import Networks
from census.model import Model, Outcome, Question, Reply, Target
from census.probe import Limits, Prober, user_agent
from census.replies import parse_reply
from census.simulate import Host, Internet, World, serve
from census.simulate.misbehave import HEADER_FLOOD_BYTES, MISBEHAVIOURS, hostile_names

PATIENCE_S = 20.0
"""For what must come: long, so that a busy machine fails nothing."""

IMPATIENCE_S = 0.4
"""For what must not come."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules.load()


@pytest.fixture(scope="module")
def world(rules: Rules) -> World:
    return World.load(rules=rules)


def _scenario(folder: Path, *groups: str, top: str = "") -> Path:
    """A scenario file of groups, each given as its lines of TOML."""
    head = f'about = "a test"\nseed = 1\nuntil = 2026-08-29\n{top}\n'
    path = folder / "test.toml"
    path.write_text(
        head + "\n".join(f'[[group]]\nabout = "g{n}"\n{lines}\n' for n, lines in enumerate(groups)), "utf-8"
    )
    return path


def _world_of(folder: Path, rules: Rules, *plays: str) -> World:
    return World.load(_scenario(folder, *(f'where = "hosting"\nplays = "{name}"' for name in plays)), rules=rules)


def _question(ask: str, host: Host) -> bytes:
    return f"{ask} HTTP/1.1\r\nHost: {host.endpoint}\r\nAccept: */*\r\n\r\n".encode()


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    async def patiently() -> Any:
        return await asyncio.wait_for(work, PATIENCE_S)

    return asyncio.run(patiently())


def _meet(world: World, talk: Talk) -> Any:
    """Connect to the only host of a world with a raw client, and let `talk` have the connection."""

    async def meet() -> Any:
        async with Internet(world) as internet:
            reader, writer = await asyncio.open_connection(*internet.route(world.hosts[0].ip, world.hosts[0].port))
            try:
                return await talk(reader, writer)
            finally:
                writer.close()

    return _run(meet())


def _complete(heard: bytes) -> bool:
    """Whether this is a whole HTTP reply with a Content-Length."""
    head, end, body = heard.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    return bool(end and length and len(body) >= int(length[1]))


def _heard_from(world: World, ask: str = "GET /api/tags", done: Callable[[bytes], bool] = _complete) -> bytes:
    """What the only host of a world sends after one question, until it is enough or the host closes."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(_question(ask, world.hosts[0]))
        heard = b""
        while not done(heard) and (data := await reader.read(65_536)):
            heard += data
        return heard

    heard = _meet(world, listen)
    assert isinstance(heard, bytes)
    return heard


def _reply(wire: bytes, ask: str = "GET /api/tags") -> Reply:
    return parse_reply(Question.parse(ask), wire)


# --- Misbehaviours ---------------------------------------------------------------------------------------------------


def test_refused_refuses(tmp_path: Path, rules: Rules) -> None:
    with pytest.raises(ConnectionRefusedError):
        _heard_from(_world_of(tmp_path, rules, "refused"))


def test_silent_lets_connects_time_out_however_often(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "silent", "silent")

    async def knock() -> int:
        async with Internet(world) as internet:
            doors = [internet.route(host.ip, host.port) for host in world.hosts] * 3
            tries = [asyncio.wait_for(asyncio.open_connection(*door), IMPATIENCE_S) for door in doors]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            return sum(isinstance(outcome, TimeoutError) for outcome in outcomes)

    assert _run(knock()) == 6


def test_reset_on_accept_resets(tmp_path: Path, rules: Rules) -> None:
    with pytest.raises(ConnectionResetError):
        _heard_from(_world_of(tmp_path, rules, "reset-on-accept"))


def test_reset_mid_reply_begins_then_resets(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "reset-mid-reply")

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(_question("GET /", world.hosts[0]))
        begun = await reader.readuntil(b'{"models":[')
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        return begun

    assert _meet(world, listen).startswith(b"HTTP/1.1 200 OK\r\n")


def test_hang_accepts_and_never_answers(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "hang")

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_question("GET /", world.hosts[0]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), IMPATIENCE_S)

    _meet(world, listen)


def test_slow_drip_sends_a_byte_a_second(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "slow-drip")

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(_question("GET /", world.hosts[0]))
        first = await reader.readexactly(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(4), IMPATIENCE_S)
        return first

    assert _meet(world, listen) == b"H"


def test_endless_body_does_not_end(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "endless-body")

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(_question("GET /", world.hosts[0]))
        assert b"content-length" not in (await reader.readuntil(b"\r\n\r\n")).lower()
        return len(await reader.readexactly(3 * 2**20))

    assert _meet(world, listen) == 3 * 2**20


@pytest.mark.parametrize(
    ("plays", "looks"),
    [
        ("ssh-banner", rb"SSH-2\.0-OpenSSH.*"),
        ("ftp-banner", rb"220 .*500 .*"),
        ("garbage", rb"[^\n]{512}"),
        ("empty-reply", rb""),
        ("nginx-welcome", rb"HTTP/1\.1 404 .*Server: nginx.*404 Not Found.*"),
        ("basic-auth", rb"HTTP/1\.1 401 .*WWW-Authenticate: Basic .*"),
        ("server-error", rb"HTTP/1\.1 502 .*"),
        ("single-page-app", rb"HTTP/1\.1 200 .*text/html.*<div id=.*"),
        ("catch-all", rb'HTTP/1\.1 200 .*\{"status":"ok"\}'),
        ("redirect-away", rb"HTTP/1\.1 302 .*Location: http://192\.0\.2\.\d+.*"),
        ("redirect-loop", rb"HTTP/1\.1 307 .*Location: /api/tags\r\n.*"),
        ("duplicate-keys", rb'.*"models":\[\],"models":\[.*"name":"a:latest","name":"b:latest".*'),
    ],
)
def test_what_it_says(tmp_path: Path, rules: Rules, plays: str, looks: bytes) -> None:
    def enough(heard: bytes) -> bool:
        return _complete(heard) or heard.endswith(b"500 Unknown command.\r\n")

    assert re.fullmatch(looks, _heard_from(_world_of(tmp_path, rules, plays), done=enough), re.DOTALL)


def test_nginx_welcomes_on_its_root(tmp_path: Path, rules: Rules) -> None:
    assert b"Welcome to nginx!" in _heard_from(_world_of(tmp_path, rules, "nginx-welcome"), "GET /")


def test_huge_headers_are_huge(tmp_path: Path, rules: Rules) -> None:
    head = _heard_from(_world_of(tmp_path, rules, "huge-headers")).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and len(head) > HEADER_FLOOD_BYTES * 0.9


def test_deep_json_is_beyond_reading(tmp_path: Path, rules: Rules) -> None:
    reply = _reply(_heard_from(_world_of(tmp_path, rules, "deep-json")))
    with pytest.raises(hostile.Unreadable, match="deeper than"):
        hostile.read_json(reply.body)


def test_wrong_content_length_promises_more(tmp_path: Path, rules: Rules) -> None:
    reply = _reply(_heard_from(_world_of(tmp_path, rules, "wrong-content-length")))
    assert int(reply.header("Content-Length") or 0) > len(reply.body) > 0


def test_hostile_names_attack_every_surface() -> None:
    names = "".join(hostile_names())
    assert all(sign in names for sign in ("\x1b[", "\u202e", "<script>", "DROP TABLE", "../", "\x00", "\ud800", "\r\n"))
    assert any(name.startswith("=") for name in hostile_names())
    assert max(map(len, hostile_names())) >= 10_000
    assert len(set(hostile_names())) == len(hostile_names())


def test_a_census_files_every_misbehaviour_under_its_outcome(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, *MISBEHAVIOURS)
    limits = Limits(connect_timeout=1.5, read_timeout=3.0, target_timeout=12.0)

    async def census() -> dict[str, Outcome]:
        async with Internet(world) as internet, _prober(rules, internet, limits) as prober:
            asked = [prober.converse(Target(host.ip, host.port), rules.next_question) for host in world.hosts]
            found = await asyncio.gather(*asked)
        return {host.plays: one.outcome for host, one in zip(world.hosts, found, strict=True)}

    assert _run(census()) == {name: wrong.outcome for name, wrong in MISBEHAVIOURS.items()}


def _prober(rules: Rules, internet: Internet, limits: Limits) -> Prober:
    return Prober(rules.questions(), limits=limits, user_agent=user_agent("test", None), route=internet.route)


# --- Players ---------------------------------------------------------------------------------------------------------


def test_every_example_is_played_to_the_byte(tmp_path: Path, rules: Rules) -> None:
    """All examples of data/servers/, over real sockets, each question on a connection of its own."""
    world = _world_of(tmp_path, rules, *(example.name for example in rules.examples()))
    examples = {example.name: example for example in rules.examples()}
    assert len(examples) == len(world.hosts)

    async def ask(internet: Internet, host: Host, question: str, expected: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*internet.route(host.ip, host.port))
        writer.write(_question(question, host))
        try:
            return await reader.readexactly(len(expected)) if expected else await reader.read()
        finally:
            writer.close()

    async def play() -> None:
        async with Internet(world) as internet:
            for host in world.hosts:
                example = examples[host.plays]
                elsewhere = {"GET /no/such/path": example.otherwise or b""}
                for question, wire in {**example.replies, **elsewhere}.items():
                    if b"chunked" not in wire and not question.startswith("HEAD"):
                        assert await ask(internet, host, question, wire) == wire, (host.plays, question)

    _run(play())


def test_head_gets_the_head_alone_and_the_connection_stays(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "ollama-0.32.15")
    wire = next(one for one in rules.examples() if one.name == "ollama-0.32.15").replies["GET /api/version"]
    head = wire.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(_question("HEAD /api/version", world.hosts[0]) + _question("GET /api/version", world.hosts[0]))
        return await reader.readexactly(len(head + wire))

    assert _meet(world, listen) == head + wire


def test_a_request_may_come_in_pieces_and_with_a_body(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "ollama-0.32.15-on-8080")

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for piece in (
            b"POST /api/show HTTP/1.1\r\nHost: h\r\nContent-Le",
            b"ngth: 4\r\n\r\nGE",
            b"T ",
            b"GET /api/ver",
        ):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(b"sion HTTP/1.1\r\nConnection: close\r\n\r\n")
        return await reader.read()

    heard = _meet(world, listen)
    assert heard.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert heard.count(b"HTTP/1.1 ") == 2 and heard.endswith(b'{"version":"0.32.15"}')


def test_an_http_1_0_server_closes(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "decoy-promptpot")

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(_question("GET /api/version", world.hosts[0]) * 2)
        return await reader.read()  # ends only because the server closes

    assert _meet(world, listen).count(b"HTTP/1.0 200") == 1


def _heard(host: Host, ask: str = "GET /api/tags") -> Reply:
    answer = host.answer(*ask.split(" "))
    assert answer is not None
    return _reply(answer.wire, ask)


def _ollamas(world: World, plays: str = "ollama-0.32.15") -> list[Host]:
    return [host for host in world.hosts if host.plays == plays and host.inventory]


def test_an_own_inventory_looks_as_the_recorded_one(world: World, rules: Rules) -> None:
    example = next(one for one in rules.examples() if one.name == "ollama-0.32.15")
    recorded = json.loads(_reply(example.replies["GET /api/tags"]).body)["models"]
    stub, local = recorded[0], recorded[1]
    for host in _ollamas(world):
        body = _heard(host).body
        compact = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False)
        assert body == compact.encode("utf-8", "backslashreplace")
        for entry in json.loads(body)["models"]:
            prototype = stub if "remote_host" in entry else local
            assert list(entry) == list(prototype) and list(entry["details"]) == list(prototype["details"])
            assert entry["name"] == entry["model"] and re.fullmatch("[0-9a-f]{64}", entry["digest"])


def test_the_newest_model_comes_first_and_times_are_gos(world: World) -> None:
    shape = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)")
    for host in _ollamas(world):
        times = [entry["modified_at"] for entry in json.loads(_heard(host).body)["models"]]
        assert all(shape.fullmatch(time) for time in times)
        assert all(datetime.fromisoformat(a) >= datetime.fromisoformat(b) for a, b in pairwise(times))


def test_long_lists_are_chunked_as_go_does_and_short_ones_are_not(world: World) -> None:
    framings = Counter()
    for host in _ollamas(world):
        reply = _heard(host)
        chunked = reply.header("Transfer-Encoding") == "chunked"
        assert chunked is (len(reply.body) > 2048) and chunked is (reply.header("Content-Length") is None)
        assert [name for name, _ in reply.headers][:2] == ["Content-Type", "Date"]
        framings[chunked] += 1
    assert framings[True] and framings[False]


def test_old_versions_do_not_know_what_came_later(world: World) -> None:
    for host in _ollamas(world, "ollama-0.5.7"):
        for entry in json.loads(_heard(host).body)["models"]:
            assert "capabilities" not in entry and "context_length" not in entry["details"]
        assert all(model.capabilities is None and model.context_length is None for model in host.truth.models or ())
    early = _ollamas(world, "ollama-0.1.34")
    assert early and all(_heard(host, "GET /api/ps").status == 404 for host in early)
    assert all(model.is_running is None for host in early for model in host.truth.models or ())


def test_the_other_lists_of_a_host_agree(world: World) -> None:
    running = 0
    for host in _ollamas(world):
        tags = {(e["name"], e["digest"]): e for e in json.loads(_heard(host).body)["models"]}
        listed = json.loads(_heard(host, "GET /v1/models").body)["data"]
        assert [entry["id"] for entry in listed] == [name for name, _ in tags]
        for entry, tag in zip(listed, tags.values(), strict=True):
            assert entry["created"] == int(datetime.fromisoformat(tag["modified_at"]).timestamp())
        for entry in json.loads(_heard(host, "GET /api/ps").body)["models"]:
            assert entry["details"]["family"] == tags[entry["name"], entry["digest"]]["details"]["family"]
            running += 1
    assert running


def test_other_servers_list_their_own_models(world: World) -> None:
    names: dict[str, set[str]] = {}
    for host in world.hosts:
        if host.plays in ("vllm-0.32.0", "llama-server-0.7.0", "litellm-1.106.2"):
            data = json.loads(_heard(host, "GET /v1/models").body)["data"]
            names.setdefault(host.plays, set()).update(entry["id"] for entry in data)
    assert len(names) == 3
    assert all(len(each) > 1 and not any("tiny" in name for name in each) for each in names.values())


def test_what_a_server_puts_before_a_name_is_put_before_it(tmp_path: Path, rules: Rules) -> None:
    top = '[[inventory]]\nname = "i"\nabout = "a"\nfrom = "file"\nsize = [1, 1]'
    lines = 'where = "hosting"\nplays = "koboldcpp-1.98"\ninventory = "i"'
    (host,) = World.load(_scenario(tmp_path, lines, top=top), rules=rules).hosts
    (model,) = host.truth.models or ()
    (entry,) = json.loads(_heard(host, "GET /v1/models").body)["data"]
    assert entry["id"] == f"koboldcpp/{model.name}" and model.name.endswith(".gguf")


# --- Truth -----------------------------------------------------------------------------------------------------------


def _converse(host: Host, rules: Rules) -> list[Reply]:
    """What a census hears from a host, without sockets."""
    replies: list[Reply] = []
    while question := rules.next_question(Target(host.ip, host.port), replies):
        answer = host.answer(question.method, question.path)
        if answer is None:
            break
        replies.append(parse_reply(question, answer.wire))
    return replies


def test_all_that_is_planted_can_be_learnt(world: World, rules: Rules) -> None:
    for host in world.hosts:
        if host.misbehaviour or not host.truth.judged:
            continue
        found = rules.identify(Target(host.ip, host.port), _converse(host, rules))
        assert (found.server, found.models) == (host.truth.server, host.truth.models), host.plays
        for fact in ("version", "rule", "auth"):
            planted = getattr(host.truth, fact)
            assert planted in (None, getattr(found, fact)), (host.plays, fact)


def _families_on_the_wire(host: Host) -> set[str]:
    """Read with nothing of ours: the families of the local models in an Ollama's list."""
    body = json.loads(_heard(host).body)
    return {m["details"]["family"] for m in body["models"] if m.get("details") and not m.get("remote_host")}


def test_the_planted_pairs_are_on_the_wire(world: World) -> None:
    by_ip: dict[str, set[str]] = {}
    for host in world.hosts:
        if host.truth.server == "ollama" and host.truth.models:
            by_ip.setdefault(host.ip, set()).update(_families_on_the_wire(host))
        elif host.truth.families:
            by_ip.setdefault(host.ip, set()).update(host.truth.families)
    known = [families for families in by_ip.values() if families]
    pairs = Counter(pair for families in known for pair in combinations(sorted(families), 2))
    truth = world.truth()["codeployment"]
    assert truth == {"hosts": len(known), "multi_family": sum(len(f) > 1 for f in known), "pairs": dict(pairs)}


def test_the_truth_is_complete(world: World) -> None:
    truth = world.truth()
    assert list(truth["endpoints"]) == world.targets()
    assert sum(truth["outcomes"].values()) == len(world.hosts)
    for endpoint, host in truth["endpoints"].items():
        if host["server"] and host["models"] is not None:
            assert len(host["lineages"]) == len(host["models"]), endpoint
        assert host["server"] or not host["models"], endpoint
    plays = {host.plays for host in World.load(resources.data("simulate", "zoo.toml")).hosts}
    assert plays >= MISBEHAVIOURS.keys(), "a misbehaviour that lives nowhere"


def test_cloud_models_are_no_families_of_their_host(world: World) -> None:
    hosts = [host for host in world.hosts if any(model.is_remote for model in host.truth.models or ())]
    assert hosts
    for host in hosts:
        local = {model.family_raw for model in host.truth.models or () if not model.is_remote}
        assert set(host.truth.families) == local


def test_it_is_in_the_likeness_of_the_studies(world: World) -> None:
    ollamas = [host for host in world.hosts if host.truth.server == "ollama" and not host.truth.doubted]
    planted = world.truth()["codeployment"]
    assert 480 <= len(world.hosts) <= 540
    assert 0.40 <= planted["multi_family"] / len(ollamas) <= 0.50
    assert 0.47 <= planted["pairs"]["llama", "qwen2"] / planted["multi_family"] <= 0.58
    countries = Counter(host.place.country for host in ollamas)
    assert [country for country, _ in countries.most_common(3)] == ["CN", "US", "DE"]
    labels = [model.quantization or "" for host in ollamas for model in host.truth.models or ()]
    assert sum(bool(re.match("Q4_|IQ4_|MXFP4", label)) for label in labels) / len(labels) > 0.65


# --- The world -------------------------------------------------------------------------------------------------------


def test_equal_seeds_make_equal_worlds(world: World, rules: Rules) -> None:
    again, other = World.load(rules=rules), World.load(rules=rules, seed=7)
    facts = [(host.endpoint, host.plays, host.inventory, host.truth) for host in world.hosts]
    assert facts == [(host.endpoint, host.plays, host.inventory, host.truth) for host in again.hosts]
    assert facts != [(host.endpoint, host.plays, host.inventory, host.truth) for host in other.hosts]
    assert len(other.hosts) == len(world.hosts)


def test_addresses_belong_to_nobody_and_to_one_host_each(world: World) -> None:
    ours = (ip_network("240.0.0.0/4"), ip_network("2001:db8::/32"))
    for host in world.hosts:
        address = ip_address(host.ip)
        assert any(address in network for network in ours if network.version == address.version)
    assert len(set(world.targets())) == len(world.hosts)
    ports = Counter(Counter(host.ip for host in world.hosts).values())
    assert ports == {1: len(world.hosts) - 2, 2: 1}  # the workstation with two servers


def test_every_host_has_its_own_address_on_loopback(world: World) -> None:
    async def routes() -> list[tuple[str, int]]:
        async with Internet(world) as internet:
            with pytest.raises(KeyError):
                internet.route("240.0.0.1", 1)
            return [internet.route(host.ip, host.port) for host in world.hosts]

    found = _run(routes())
    assert all(ip_address(ip).is_loopback for ip, _ in found)
    assert len({ip for ip, _ in found}) == len(world.hosts)


def test_the_geolocation_database_knows_what_is_planted(world: World, tmp_path: Path) -> None:
    path = world.write_geo(tmp_path / "world.mmdb")
    unknown = 0
    with maxminddb.open_database(path) as database:
        assert database.metadata().database_type == "Census-Simulated-Internet"
        for host in world.hosts:
            record: Any = database.get(host.ip) or {}
            assert record.get("country", {}).get("iso_code") == host.place.country
            assert record.get("city", {}).get("names", {}).get("en") == host.place.city
            assert [one["names"]["en"] for one in record.get("subdivisions", [])] == [host.place.region] * bool(
                host.place.region
            )
            assert record.get("autonomous_system_number") == host.place.asn
            assert record.get("autonomous_system_organization") == host.place.as_name
            unknown += not record
        assert database.get("198.51.100.1") is None
    assert unknown


@pytest.mark.parametrize(
    ("lines", "top", "words"),
    [
        ('where = "hosting"\nplays = "ollama-0.32.51"', "", "did you mean 'ollama-0.32.15'"),
        ('where = "hosting"\nplays = "silnet"', "", "did you mean 'silent'"),
        ('where = "hostings"\nplays = "silent"', "", "no kind of network is called 'hostings'; did you mean 'hosting'"),
        ('where = "hosting"\nplays = "silent"\nprot = 1', "", "no key is called 'prot'; did you mean 'port'"),
        ('where = "hosting"\nplays = "ollama-0.5.7"\ninventory = "none"', "", "no inventory is called 'none'"),
        ('where = "hosting"', "", "needs 'plays' and 'where'"),
        ('where = "hosting"\nplays = "silent"', '[[inventory]]\nname = "i"', "'about' must be there"),
        ('where = "hosting"\nplays = "silent"', '[[inventory]]\nname = "i"\nabout = "a"\nmust = ["lama"]', "'llama'"),
        (
            'where = "hosting"\nplays = "ollama-0.5.7"\ninventory = "i"\nuntil = 2024-01-01',
            '[[inventory]]\nname = "i"\nabout = "a"\nmust = ["qwen3"]',
            "before 2024-01-01 there was no model of each of qwen3",
        ),
        (
            'where = "hosting"\nplays = "ollama-host-check"\ninventory = "i"',
            '[[inventory]]\nname = "i"\nabout = "a"\nsize = [1, 1]',
            "this example lists no model to copy",
        ),
    ],
)
def test_a_wrong_scenario_is_told_so(tmp_path: Path, rules: Rules, lines: str, top: str, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        World.load(_scenario(tmp_path, lines, top=top), rules=rules)
    assert "test.toml" in str(caught.value)


def _plain(value: Any) -> Any:
    """TOML as JSON has it: days as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


SCHEMAS = {
    path.name: "population.schema.json" if path.name == "population.toml" else "simulate.schema.json"
    for path in sorted(resources.data("simulate").glob("*.toml"))
}
"""What each file has to keep to; a population has parameters of its own."""


@pytest.mark.parametrize("name", SCHEMAS)
def test_data_keeps_to_its_schema(name: str) -> None:
    schema = json.loads(resources.schemas(SCHEMAS[name]).read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(_plain(tomllib.loads(resources.data("simulate", name).read_text("utf-8"))), schema)


def test_every_inventory_and_every_kind_of_network_is_used(world: World) -> None:
    text = resources.data("simulate", "internet.toml").read_text("utf-8")
    scenario = tomllib.loads(text)
    for inventory in scenario["inventory"]:
        assert text.count(f'"{inventory["name"]}"') > 1, inventory["name"]
    wheres = [group["where"] for group in scenario["group"]]
    used = {kind for where in wheres for kind in ([where] if isinstance(where, str) else where)}
    assert used == {site.kind for site in world.sites}


SITES = tomllib.loads(resources.data("simulate", "networks.toml").read_text(encoding="utf-8"))["site"]


@pytest.mark.parametrize("site", SITES, ids=lambda site: f"{site['kind']} {site.get('asn')} {site.get('city')}")
def test_a_simulated_network_is_of_the_kind_that_we_say_the_real_one_is(site: dict[str, Any]) -> None:
    said, _, _ = Networks.load().classify(site.get("asn"), site.get("as_name"))
    assert said == {"fixed-access": "fixed-access telecom", "unlisted": None}.get(site["kind"], site["kind"])


def test_one_digest_is_one_model() -> None:
    """Tags that share a manifest must agree in everything that the manifest decides."""
    told: dict[str, set[tuple[Any, ...]]] = {}
    for model in tomllib.loads(resources.data("simulate", "models.toml").read_text("utf-8"))["ollama"]:
        facts = (model["family"], model["size"], model["quantization"], model["parameters"], model["context"])
        told.setdefault(model.get("digest", model["name"]), set()).add(facts)
    assert {digest for digest, facts in told.items() if len(facts) > 1} == set()


# --- Sockets ---------------------------------------------------------------------------------------------------------

OLLAMA_BY_TLS = 'where = "hosting"\nplays = "ollama-0.32.15"\ntls = true'


def test_tls_with_a_certificate_of_its_own(tmp_path: Path, rules: Rules) -> None:
    world = World.load(_scenario(tmp_path, OLLAMA_BY_TLS, OLLAMA_BY_TLS), rules=rules)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def ask(internet: Internet, host: Host) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection(*internet.route(host.ip, host.port), ssl=context)
        writer.write(_question("GET /api/version", host))
        body = await reader.readuntil(b"}")
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return body, der

    async def both() -> list[tuple[bytes, bytes]]:
        async with Internet(world) as internet:
            return [await ask(internet, host) for host in world.hosts]

    for host, (body, der) in zip(world.hosts, _run(both()), strict=True):
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert body.endswith(b'{"version":"0.32.15"}')
        assert certificate.issuer == certificate.subject
        assert names.get_values_for_type(x509.IPAddress) == [ip_address(host.ip)]
        assert certificate.not_valid_before_utc <= datetime.now(UTC) < certificate.not_valid_after_utc


def test_plain_http_where_tls_is_spoken_is_told_so(tmp_path: Path, rules: Rules) -> None:
    heard = _heard_from(World.load(_scenario(tmp_path, OLLAMA_BY_TLS), rules=rules))
    assert heard.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert b"Client sent an HTTP request to an HTTPS server" in heard


def test_requests_are_kept_when_asked_for(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "ollama-0.32.15", "hang", "refused")

    async def ask(log: bool) -> Internet:
        async with Internet(world, log=log) as internet:
            for number, host in enumerate(world.hosts[:2], 1):
                _, writer = await asyncio.open_connection(*internet.route(host.ip, host.port))
                writer.write(_question("GET /api/version", host) + _question("GET /", host))
                while log and len(internet.requests) < 2 * number:  # noqa: ASYNC110 (the log has no event to wait for)
                    await asyncio.sleep(0.01)
                writer.close()
        return internet

    kept = _run(ask(log=True)).requests
    assert [(one.ip, one.line) for one in kept] == [
        (host.ip, line) for host in world.hosts[:2] for line in ("GET /api/version HTTP/1.1", "GET / HTTP/1.1")
    ]
    assert f"Host: {world.hosts[0].endpoint}\r\n" in kept[0].head
    assert [one.at for one in kept] == sorted(one.at for one in kept)
    assert _run(ask(log=False)).requests == []


def test_leaving_closes_every_socket_and_ends_every_task(tmp_path: Path, rules: Rules) -> None:
    world = _world_of(tmp_path, rules, "ollama-0.32.15", "hang", "slow-drip", "endless-body", "silent")

    async def visit() -> tuple[int, int, list[bytes]]:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        async with Internet(world) as internet:
            doors = [internet.route(host.ip, host.port) for host in world.hosts[:4]]
            lines = [await asyncio.open_connection(*door) for door in doors]
            for (_, writer), host in zip(lines, world.hosts, strict=False):
                writer.write(_question("GET /", host))
            await lines[3][0].readuntil(b"census")
        ended = [await _drained(reader) for reader, _ in lines]
        for _, writer in lines:
            writer.close()
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) <= 2  # this one, and the one that waits for it
        return before, len(os.listdir("/proc/self/fd")), ended  # noqa: PTH208

    before, after, ended = _run(visit())
    assert after <= before
    assert ended[1] == b""


async def _drained(reader: asyncio.StreamReader) -> bytes:
    """What was still underway; ends only because the other side is gone."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_two_worlds_live_side_by_side(tmp_path: Path, rules: Rules) -> None:
    worlds = [_world_of(tmp_path, rules, plays) for plays in ("ssh-banner", "ftp-banner")]

    async def greet() -> list[bytes]:
        greetings = []
        async with Internet(worlds[0]) as one, Internet(worlds[1]) as other:
            for internet in (one, other):
                host = internet.world.hosts[0]
                reader, writer = await asyncio.open_connection(*internet.route(host.ip, host.port))
                greetings.append(await reader.readline())
                writer.close()
        return greetings

    assert [greeting[:3] for greeting in _run(greet())] == [b"SSH", b"220"]


def test_listeners_are_tied_to_the_loopback_device() -> None:
    with serve._bound() as bound:
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"


def test_where_loopback_cannot_be_had_the_error_says_so(
    tmp_path: Path, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "SO_BINDTODEVICE", 30_000)
    with pytest.raises(CensusError, match="needs Linux"):
        _heard_from(_world_of(tmp_path, rules, "hang"))


# --- Documentation ---------------------------------------------------------------------------------------------------


def test_the_page_lists_every_misbehaviour() -> None:
    page = (resources.data().parent / "docs" / "simulate.md").read_text("utf-8")
    for wrong in MISBEHAVIOURS.values():
        assert f"| `{wrong.name}` | {wrong.about} | {wrong.outcome} |" in page


def test_columns_of_a_model_are_spelt_as_the_model_has_them(world: World) -> None:
    columns = {*Model.__dataclass_fields__, "expires_at_raw", "brand"}
    for host in world.hosts:
        for planted in host.inventory or ():
            assert {column for column in planted if not column.startswith("extra.")} <= columns
