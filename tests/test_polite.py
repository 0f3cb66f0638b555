"""What the hosts of a whole census received: planned questions, in the planned pace, of nobody who is excluded."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from census import probe, scan
from census.errors import TargetError
from census.model import Finding, Outcome
from census.simulate import World
from tests.conftest import Silent
from tests.exactly_once import scenario
from tests.visits import CONTACT, RATE, Visit, most_questions, pay, shunned

WINDOW_S = 0.1
SLACK = 3
"""Connections more than the rate allows in one window: a request is read a little after its connection was admitted,
so that some of one window may be read in the next. A burst of a period's share would be ten."""


def test_only_get_and_head_and_only_planned_paths(visit: Visit) -> None:
    planned = set(map(str, scan.Stages.load().questions))
    lines = {request.line for request in visit.requests}
    assert {line.rpartition(" ")[0] for line in lines} <= planned
    assert {line.split(" ")[0] for line in lines} <= {"GET", "HEAD"}
    assert {line.split(" ")[2] for line in lines} == {"HTTP/1.1"}


def test_no_request_has_a_body_a_credential_or_anything_but_what_is_planned(visit: Visit) -> None:
    names = {line.split(":")[0].lower() for request in visit.requests for line in request.head.split("\r\n") if line}
    assert names == {"host", "user-agent", "accept", "accept-encoding"}
    agents = {re.search(r"(?m)^User-Agent: (.*?)\r?$", request.head)[1] for request in visit.requests}  # type: ignore[index]
    assert len(agents) == 1 and CONTACT in agents.pop()


def test_no_model_is_ever_named(visit: Visit) -> None:
    """So that no cloud model is ever asked for: newer servers would call out with their operator's identity."""
    names = {model.name for host in visit.world.hosts for model in host.truth.models or ()}
    remote = {m.name for host in visit.world.hosts for m in host.truth.models or () if m.is_remote}
    sent = "\n".join({f"{request.line}\n{request.head}" for request in visit.requests})
    assert remote and [name for name in names if len(name) > 3 and name in sent] == []


def test_no_host_gets_more_than_the_plans_worst_case(visit: Visit) -> None:
    most = most_questions()
    for endpoint, requests in visit.heard.items():
        first = Counter(request.line for request in requests)
        assert len(first) <= most, endpoint
        assert len(requests) <= min(probe.Limits().max_requests, most + 1), endpoint


def test_an_unknown_host_gets_three_questions(visit: Visit) -> None:
    stages = scan.Stages.load()
    unknown = stages.rules.worst_case()["unidentified"]
    for host in visit.world.hosts:
        if host.plays in ("nginx-welcome", "basic-auth", "server-error", "redirect-away", "catch-all"):
            assert len(visit.heard[host.ip, host.port]) == unknown, host.plays


def test_the_rate_is_kept_in_every_window(visit: Visit) -> None:
    """Counted at the first request of each host: later ones on the same connection are no new connections."""
    firsts = sorted(min(request.at for request in requests) for requests in visit.heard.values())
    assert len(firsts) > 100
    most = max(bisect_left(firsts, start + WINDOW_S) - i for i, start in enumerate(firsts))
    assert most <= RATE * WINDOW_S + 1 + SLACK
    assert len(firsts) / (firsts[-1] - firsts[0]) <= RATE * 1.05


def test_an_excluded_address_hears_nothing(visit: Visit) -> None:
    heard = {request.ip for request in visit.requests}
    wished = set(shunned(visit.world))
    assert len(wished) == 2 and heard & wished == set()
    assert visit.rows("SELECT n_excluded FROM runs") == [{"n_excluded": 2}]
    assert wished.isdisjoint(row["ip"] for row in visit.rows("SELECT ip FROM probes"))


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
    monkeypatch.setattr(scan, "OPT_OUTS_S", 0.0)
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


def test_the_blocklists_are_looked_at_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "blocklist.txt"
    path.write_text("# nobody\n", encoding="utf-8")
    optouts = scan._OptOuts(scan.Settings(blocklists=(str(path),), allow_private=True))
    path.write_text("127.0.0.0/8\n", encoding="utf-8")
    start = time.monotonic()
    monkeypatch.setattr(scan.time, "monotonic", lambda: start)
    assert optouts.reason("127.0.0.1") is None
    monkeypatch.setattr(scan.time, "monotonic", lambda: start + scan.OPT_OUTS_S)
    assert optouts.reason("127.0.0.1") is not None
    path.unlink()
    monkeypatch.setattr(scan.time, "monotonic", lambda: start + 2 * scan.OPT_OUTS_S)
    with pytest.raises(TargetError):
        optouts.reason("127.0.0.1")


def test_the_log_is_in_the_order_of_time(visit: Visit) -> None:
    """What the windows above rest on."""
    assert all(a.at <= b.at for a, b in pairwise(visit.requests))
