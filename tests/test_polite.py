"""What the hosts of a whole census received: planned questions, in the planned pace, of nobody who is excluded."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from census import optouts, probe, scan
from census.errors import TargetError
from census.model import Finding, Outcome
from census.pace import shares
from census.simulate import World
from tests.conftest import Silent
from tests.exactly_once import scenario
from tests.visits import (
    CONTACT,
    RATE,
    SLACK,
    WINDOW_S,
    Visit,
    most_in_a_window,
    most_questions,
    pay,
    pay_by_several,
    short_visit,
    shunned,
)


@pytest.fixture(scope="module", params=["one process, the zoo", "two processes"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """A whole census with every request that its hosts received."""
    if request.param == "two processes":
        return short_visit(tmp_path_factory.mktemp("short"))
    found: Visit = request.getfixturevalue("visit")
    return found


def test_only_get_and_head_and_only_planned_paths(whole: Visit) -> None:
    planned = set(map(str, scan.Stages.load().questions))
    lines = {request.line for request in whole.requests}
    assert {line.rpartition(" ")[0] for line in lines} <= planned
    assert {line.split(" ")[0] for line in lines} <= {"GET", "HEAD"}
    assert {line.split(" ")[2] for line in lines} == {"HTTP/1.1"}


def test_no_request_has_a_body_a_credential_or_anything_but_what_is_planned(whole: Visit) -> None:
    names = {line.split(":")[0].lower() for request in whole.requests for line in request.head.split("\r\n") if line}
    assert names == {"host", "user-agent", "accept", "accept-encoding"}
    agents = {re.search(r"(?m)^User-Agent: (.*?)\r?$", request.head)[1] for request in whole.requests}  # type: ignore[index]
    assert len(agents) == 1 and CONTACT in agents.pop()


def test_no_model_is_ever_named(whole: Visit) -> None:
    """So that no cloud model is ever asked for: newer servers would call out with their operator's identity."""
    names = {model.name for host in whole.world.hosts for model in host.truth.models or ()}
    remote = {m.name for host in whole.world.hosts for m in host.truth.models or () if m.is_remote}
    sent = "\n".join({f"{request.line}\n{request.head}" for request in whole.requests})
    assert remote and [name for name in names if len(name) > 3 and name in sent] == []


def test_no_host_gets_more_than_the_plans_worst_case(whole: Visit) -> None:
    most = most_questions()
    for endpoint, requests in whole.heard.items():
        first = Counter(request.line for request in requests)
        assert len(first) <= most, endpoint
        assert len(requests) <= min(probe.Limits().max_requests, most + 1), endpoint


def test_an_unknown_host_gets_three_questions(whole: Visit) -> None:
    stages = scan.Stages.load()
    unknown = stages.rules.worst_case()["unidentified"]
    for host in whole.world.hosts:
        if host.plays in ("nginx-welcome", "basic-auth", "server-error", "redirect-away", "catch-all"):
            assert len(whole.heard[host.ip, host.port]) == unknown, host.plays


def test_the_rate_is_kept_in_every_window(whole: Visit) -> None:
    """Counted at the first request of each host: later ones on the same connection are no new connections."""
    firsts = sorted(min(request.at for request in requests) for requests in whole.heard.values())
    assert len(firsts) > 100
    assert most_in_a_window(firsts) <= RATE * WINDOW_S + 1 + SLACK
    assert len(firsts) / (firsts[-1] - firsts[0]) <= RATE * 1.05


def test_an_excluded_address_hears_nothing(whole: Visit) -> None:
    heard = {request.ip for request in whole.requests}
    wished = set(shunned(whole.world))
    assert len(wished) == 2 and heard & wished == set()
    assert whole.rows("SELECT n_excluded FROM runs") == [{"n_excluded": 2}]
    assert wished.isdisjoint(row["ip"] for row in whole.rows("SELECT ip FROM probes"))


def test_requests_to_one_network_are_spread(tmp_path: Path) -> None:
    """Ten hosts of one /24 at twenty connections a second take half a second, however high the rate."""
    hosts = World.load(scenario(tmp_path, 0.05)).hosts
    ordinary = next(host for host in hosts if host.part is not None and not host.tls and ":" not in host.ip)
    network = ordinary.ip.rpartition(".")[0]
    world = replace(
        World.load(scenario(tmp_path, 0.05)),
        hosts=tuple(replace(ordinary, ip=f"{network}.{last}", port=ordinary.port) for last in range(1, 11)),
    )
    visit = pay(world, tmp_path, rate=5000.0, network_rate=20.0)
    firsts = sorted(min(request.at for request in requests) for requests in visit.heard.values())
    assert len(firsts) == 10
    assert firsts[-1] - firsts[0] >= 9 / 20 * 0.9


class OptingOut(Silent):
    """Writes everybody who was not asked yet into the blocklist, once some answers are in."""

    def __init__(self, path: Path, world: World) -> None:
        super().__init__()
        self.path, self.world = path, world
        self.told = 0
        self.heard: set[str] = set()

    def finding(self, finding: Finding) -> None:
        super().finding(finding)
        self.heard.add(finding.conversation.target.ip)
        if self.findings == 20:
            self.path.write_text("240.0.0.0/4  # all of us, now\n2001:db8::/32\n", encoding="utf-8")
            self.told = self.findings


@pytest.mark.parametrize("senders", [2, 1000])
def test_an_opt_out_during_a_run_holds_for_all_who_are_not_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, senders: int
) -> None:
    """Also for those who have a sender, and only wait for their turn: with a thousand that is everybody."""
    monkeypatch.setattr(optouts, "OPT_OUTS_S", 0.0)
    world = World.load(scenario(tmp_path, 0.1))
    path = tmp_path / "blocklist.txt"
    path.write_text("# nobody yet\n", encoding="utf-8")
    watcher = OptingOut(path, world)
    visit = pay(world, tmp_path, watcher, senders=senders, rate=60.0, network_rate=1000.0, blocklists=(str(path),))
    rows = visit.rows("SELECT outcome, error, requests FROM probes")
    refused = [row for row in rows if row["outcome"] == Outcome.BLOCKLISTED_TARGET]
    assert watcher.told and len(rows) == len(world.hosts)
    assert refused and {row["requests"] for row in refused} == {0}
    if senders == 2:
        assert len(rows) - len(refused) <= 20 + 2


class OptingOutOfAll(OptingOut):
    """The same, told of counts by the workers."""

    def count(self, outcomes: Mapping[str, int], hits: int) -> None:
        super().count(outcomes, hits)
        if self.findings >= 20 and not self.told:
            self.path.write_text("240.0.0.0/4  # all of us, now\n2001:db8::/32\n", encoding="utf-8")
            self.told = self.findings


def test_an_opt_out_during_a_run_reaches_every_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optouts, "OPT_OUTS_S", 0.0)
    world = World.load(scenario(tmp_path, 0.1))
    path = tmp_path / "blocklist.txt"
    path.write_text("# nobody yet\n", encoding="utf-8")
    watcher = OptingOutOfAll(path, world)
    options = {"rate": 60.0, "network_rate": 1000.0, "blocklists": (str(path),)}
    visit = pay_by_several(world, tmp_path, watcher, **options)
    rows = visit.rows("SELECT ip, port, outcome FROM probes")
    refused = {(row["ip"], row["port"]) for row in rows if row["outcome"] == Outcome.BLOCKLISTED_TARGET}
    assert len(rows) == len(world.hosts) and len(refused) > len(rows) / 4
    assert refused.isdisjoint(visit.heard)
    parts = shares(60.0, scan.Settings().senders, 2)
    assert watcher.told and all(any(part.has(ip) for ip, _ in refused) for part in parts)


class Looking:
    """The opt-outs of one blocklist file, at moments of the test's choosing; `said` is what the operator hears."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.said = path, list[str]()
        self._now, self._patch = time.monotonic(), monkeypatch
        self.later(0)
        path.write_text("192.0.2.0/24  # since the beginning\n", encoding="utf-8")
        settings = scan.Settings(blocklists=(str(path),), allow_private=True, simulated=True)
        self.optouts = scan.opt_outs_of(settings, self.said.append)

    def later(self, seconds: float) -> None:
        self._now += seconds
        self._patch.setattr(optouts.time, "monotonic", lambda: self._now)

    def asks(self, ip: str, seconds: float = optouts.OPT_OUTS_S) -> bool:
        """Whether it may be asked so many seconds later."""
        self.later(seconds)
        return self.optouts.reason(ip) is None

    def write(self, text: str) -> None:
        """As nobody writes a file within one tick of its clock."""
        self.path.unlink(missing_ok=True)
        self.path.write_text(text, encoding="utf-8")


@pytest.fixture
def looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Looking:
    return Looking(tmp_path / "opt-outs.txt", monkeypatch)


MINE = "192.0.2.0/24\n"


def test_the_blocklists_are_looked_at_by_time(looking: Looking) -> None:
    looking.write(MINE + "127.0.0.0/8\n")
    assert looking.asks("127.0.0.1", 0)
    assert not looking.asks("127.0.0.1")
    assert looking.said == []


@pytest.mark.parametrize("broken", ["", "127.0.0.0/8\n192.0.2", "127.0.0.0/8\n\xff", None])
def test_a_blocklist_that_is_being_written_lets_nobody_through(looking: Looking, broken: str | None) -> None:
    """Empty, in the middle of a line, of a character, or gone: who was in it stays out, and who is in it now."""
    assert not looking.asks("192.0.2.1")
    if broken is None:
        looking.path.unlink()
    else:
        looking.path.write_bytes(broken.encode("latin-1"))
    assert not looking.asks("192.0.2.1")
    assert looking.asks("127.0.0.1", 0) is not (broken or "").startswith("127")
    assert len(looking.said) == (broken != "")
    assert all("the scan stops if that lasts 10 s" in line for line in looking.said)
    looking.write(MINE + "198.51.100.7\n")
    assert not looking.asks("198.51.100.7")
    assert [looking.asks("192.0.2.1") for _ in range(3)] == [False] * 3
    assert looking.said[1:] == ["all of the blocklists can be read again"][: len(looking.said[1:])]


def test_a_blocklist_that_stays_unreadable_stops_the_scan(looking: Looking) -> None:
    looking.write("10.0.0.300\n")
    for _ in range(10):
        assert not looking.asks("192.0.2.1")
    with pytest.raises(TargetError, match=r"opt-outs\.txt:1: '10\.0\.0\.300' is neither"):
        looking.asks("192.0.2.1")
    assert len(looking.said) == 1


def test_what_a_blocklist_has_held_for_a_while_holds_to_the_end_of_the_scan(looking: Looking) -> None:
    looking.write(MINE + "127.0.0.0/8\n")
    assert not looking.asks("127.0.0.1") and not looking.asks("127.0.0.1")
    looking.write(MINE)
    assert [looking.asks("127.0.0.1") for _ in range(4)] == [False] * 4
    (line,) = looking.said
    assert line == "networks in no blocklist any more, 1 of them, stay excluded to the end of this scan"


def test_an_opt_out_in_ipv6_form_holds_for_the_ipv4_address(looking: Looking) -> None:
    looking.write("::ffff:198.51.100.7\n::ffff:203.0.113.0/120\n")
    assert not looking.asks("198.51.100.7") and not looking.asks("203.0.113.200")
    assert looking.asks("198.51.100.8")


def test_the_log_is_in_the_order_of_time(whole: Visit) -> None:
    """What the windows above rest on."""
    assert all(a.at <= b.at for a, b in pairwise(whole.requests))
