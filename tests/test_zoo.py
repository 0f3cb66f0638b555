"""The zoo of `data/simulate/zoo.toml` through the whole census: every attack ends in bounds, in its outcome, escaped on
every surface, and without a trace in the rows of the ordinary hosts beside it.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from census import duck, formats, hostile, identify, probe, query, report, scan, verification, wire
from census.choices import REPORT_FORMATS
from census.model import Conversation, Target
from census.simulate import Host, World
from census.simulate.misbehave import HOSTILE_NAMES, MISBEHAVIOURS, hostile_names
from tests import hostile_servers
from tests.benchmarks.zoo import animals, meet
from tests.exactly_once import contents, internet
from tests.visits import TIMEOUTS, ZOO, Visit, most_questions, ordinary, pay, shunned

ROOT = Path(__file__).resolve().parents[1]
GRACE_S = 6.0
"""Seconds that a conversation may end after its time on a busy machine."""

QUEUE_S = 3.0
"""Seconds in which everybody has had a turn: two hundred targets at a hundred a second, and those called again."""

MEMORY_MIB = 500
"""Most memory of a process that plays the zoo and scans it. A bomb that went off, or 100 MB kept, would exceed it."""

VOLATILE = {"latency_ms", "elapsed_ms", "block"}
"""Columns of a host that differ between two scans of it."""


def endpoint(row: dict[str, Any]) -> str:
    return f"[{row['ip']}]:{row['port']}" if ":" in row["ip"] else f"{row['ip']}:{row['port']}"


def at(world: World, plays: str) -> Host:
    return next(host for host in world.hosts if host.plays == plays and not ordinary(host))


# --- Outcomes and bounds ---------------------------------------------------------------------------------------------


def test_every_animal_has_its_outcome(visit: Visit) -> None:
    found = {endpoint(row): row["outcome"] for row in visit.rows("FROM probes")}
    asked = [host for host in visit.world.hosts if host.ip not in shunned(visit.world)]
    planted = {host.endpoint: (host.plays, str(host.truth.outcome)) for host in asked}
    assert {plays: found[e] for e, (plays, outcome) in planted.items() if found[e] != outcome} == {}
    assert {host.plays for host in asked} >= MISBEHAVIOURS.keys()


def test_the_run_is_whole_and_nothing_of_ours_broke(visit: Visit) -> None:
    assert verification.verify(visit.run) == []
    assert visit.rows("SELECT ip, error FROM probes WHERE error LIKE 'fault of the census%'") == []
    assert not (visit.run / scan.LOG_FILE).exists()


def test_every_conversation_ends_in_time(visit: Visit) -> None:
    late = {e: s for e, s in visit.seconds.items() if s > TIMEOUTS["target_timeout"] + QUEUE_S + GRACE_S}
    assert late == {} and len(visit.seconds) == len(visit.world.hosts) - len(shunned(visit.world))


def test_nobody_gets_more_questions_or_keeps_more_bytes_than_planned(visit: Visit) -> None:
    limits, most = probe.Limits(), most_questions()
    for row in visit.rows("FROM probes"):
        assert row["requests"] <= most + 1, row  # on a connection that the server gave up, one is asked once more
        assert row["connections"] <= limits.max_connections
        assert len(row["error"] or "") <= 1000
    for row in visit.rows("SELECT ip, port, max(body_bytes) AS most, sum(body_bytes) AS n FROM replies GROUP BY ALL"):
        assert row["most"] <= limits.max_body and row["n"] <= limits.max_target_bytes, row
    for row in visit.rows("SELECT headers, status_line FROM replies"):
        assert sum(len(h["name"]) + len(h["value"]) for h in row["headers"]) <= limits.max_header_bytes
        assert len(row["status_line"]) <= limits.max_header_bytes


def test_what_is_kept_of_a_server_is_bounded(visit: Visit) -> None:
    (row,) = visit.rows("SELECT max(length(name)) AS name, max(length(family_raw)) AS family FROM models")
    assert row["name"] == hostile.MAX_TEXT
    (row,) = visit.rows("SELECT max(n_models) AS n FROM hosts")
    assert row["n"] == identify.MAX_MODELS
    (row,) = visit.rows(
        "SELECT max(length(tls_names)) AS n, max(tls_not_after) AS until FROM hosts WHERE tls_sha256 > ''"
    )
    assert row["n"] <= wire.MAX_NAMES


@pytest.mark.parametrize("plays", ["million-models", "huge-integers", "not-a-number", "invalid-utf8"])
def test_an_unreadable_list_is_unknown_and_no_guess(visit: Visit, plays: str) -> None:
    host = at(visit.world, plays)
    (row,) = visit.rows(f"SELECT server, n_models FROM hosts WHERE ip = {duck.text(host.ip)}")
    assert row == {"server": "ollama", "n_models": None}


def test_a_bomb_stays_closed(visit: Visit) -> None:
    for plays in ("gzip-bomb", "brotli-bomb"):
        ip = duck.text(at(visit.world, plays).ip)
        assert {row["n"] < 20_000 for row in visit.rows(f"SELECT body_bytes AS n FROM replies WHERE ip = {ip}")} == {
            True
        }


def test_an_expired_certificate_is_recorded_and_keeps_nobody_from_asking(visit: Visit) -> None:
    ip = duck.text(at(visit.world, "expired-certificate").ip)
    (row,) = visit.rows(f"SELECT tls_subject, tls_not_after, server FROM hosts WHERE ip = {ip}")
    assert (row["tls_subject"], row["tls_not_after"].year, row["server"]) == ("CN=ai.example", 2000, "ollama")


def test_what_comes_after_an_answer_is_no_part_of_it(visit: Visit) -> None:
    ip = duck.text(at(visit.world, "short-content-length").ip)
    bodies = visit.rows(f"SELECT DISTINCT b.body FROM replies r JOIN bodies b USING (body_sha256) WHERE r.ip = {ip}")
    assert [row["body"] for row in bodies] == [b'{"version":"0.5.7"}']


@pytest.mark.parametrize(
    ("plays", "names"), [("lone-surrogates", ["??", "a?b:latest"]), ("nul-in-name", ["a\0b:latest"])]
)
def test_of_what_no_text_may_hold_the_rest_is_kept(visit: Visit, plays: str, names: list[str]) -> None:
    ip = duck.text(at(visit.world, plays).ip)
    assert [row["name"] for row in visit.rows(f"SELECT name FROM models WHERE ip = {ip} ORDER BY ALL")] == names


def test_an_absurd_certificate_is_recorded(visit: Visit) -> None:
    ip = duck.text(at(visit.world, "absurd-certificate").ip)
    (row,) = visit.rows(f"SELECT tls_subject, tls_not_after FROM probes WHERE ip = {ip}")
    assert "\x1b[31m" in row["tls_subject"] and row["tls_not_after"].year == 2000


MEASURED = """
import re, sys
from pathlib import Path
from census.cli import main
try:
    main(sys.argv[1:], prog_name="census")
except SystemExit as end:
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(end.code or 0, int(peak) // 1024)
"""
"""Not `ru_maxrss`: a child inherits that of who started it, here of a test process that has loaded everything."""


def test_the_whole_zoo_fits_in_memory_and_time(tmp_path: Path) -> None:
    """From the command line, in a process of its own, which also plays the animals."""
    seconds = [word for name, value in TIMEOUTS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-c", MEASURED, "simulate", "--scenario", str(ZOO), "-o", str(tmp_path), *seconds]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    code, mebibytes = map(int, done.stdout.split()[-2:])
    assert code == 0 and "Traceback" not in done.stderr, done.stderr
    assert mebibytes < MEMORY_MIB


WAITED_FOR = {"silent", "hang", "slow-drip", "tls-stall"}
"""Animals that send next to nothing, for as long as they are listened to."""

TRACED_S = 60.0
"""Seconds for a conversation whose every allocation is written down, on a busy machine: enough to end, not for ever."""


def test_each_animal_alone_is_bounded_in_time_bytes_and_memory(visit: Visit, tmp_path: Path) -> None:
    """Not a census, in which one could hide behind the others: one conversation each, as `make zoo` has them."""
    limits, stages = probe.Limits(), scan.Stages.load(simulated=True)
    with internet(visit.world, tmp_path / "log") as atlas:
        alone = [host for host in animals(visit.world) if host.plays not in WAITED_FOR]
        meetings = [meet(host, atlas, stages, limits, conclude=False) for host in alone]
    assert {each.host.plays for each in meetings} >= MISBEHAVIOURS.keys() - WAITED_FOR
    bounds = replace(limits, target_timeout=TRACED_S)  # how long they take untraced is measured above
    assert [words for each in meetings for words in each.wrong(bounds)] == []
    assert max(each.read for each in meetings) > limits.max_body, "nobody sends too much"


WANTED = {
    "one byte a second": ["slow-drip"],
    "an endless body, headers, chunks": ["endless-body", "endless-headers", "endless-chunks", "endless-trailers"],
    "a wrong or negative length": ["wrong-content-length", "short-content-length", "negative-content-length"],
    "a length and chunks": ["two-framings"],
    "bombs": ["gzip-bomb", "brotli-bomb"],
    "JSON too deep, too long": ["deep-json", "hundred-megabytes"],
    "JSON that is none": ["duplicate-keys", "huge-integers", "huge-floats", "not-a-number", "wrong-types"],
    "texts that are none": ["lone-surrogates", "invalid-utf8", "nul-in-name", "nul-in-header"],
    "too many models, too long a name": ["million-models", "many-models", "megabyte-name"],
    "texts that attack": ["hostile-words", *HOSTILE_NAMES],
    "redirects": ["redirect-loop", "redirect-away"],
    "100 Continue for ever": ["continue-flood"],
    "answers before a question, and to none": ["answers-unasked", "answers-first"],
    "resets, early and late": [
        *("reset-on-accept", "tls-reset", "reset-after-question", "reset-mid-head", "reset-mid-reply"),
        "reset-between-questions",
    ],
    "TLS that stalls": ["tls-stall"],
    "certificates, expired and absurd": ["expired-certificate", "absurd-certificate"],
    "other protocols": ["http-0-9", "http-2-preface", "switches-protocols", "ssh-banner", "ftp-banner", "garbage"],
    "no answer": ["refused", "silent", "hang", "empty-reply"],
    "somebody else at every question": ["changes-between-questions"],
}


def test_the_zoo_has_every_animal_it_should(visit: Visit) -> None:
    lives = {host.plays for host in visit.world.hosts} | HOSTILE_NAMES.keys()
    assert [name for names in WANTED.values() for name in names if name not in lives] == []


# --- Neighbours ------------------------------------------------------------------------------------------------------


def test_ordinary_hosts_do_not_notice(visit: Visit, tmp_path: Path) -> None:
    """Their rows equal those of a census in which no animal lives."""
    hosts = [host for host in visit.world.hosts if ordinary(host) and host.ip not in shunned(visit.world)]
    quiet = replace(visit.world, hosts=tuple(hosts))
    alone = contents(pay(quiet, tmp_path).run)
    among = contents(visit.run)
    mine = {(host.ip, host.port) for host in quiet.hosts}
    for table in ("probes", "hosts", "models", "replies"):
        expected = [_lasting(row) for row in alone[table]]
        assert [_lasting(row) for row in among[table] if (row["ip"], row["port"]) in mine] == expected, table
    assert len(alone["hosts"]) == len(quiet.hosts)


def _lasting(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what differs between any two scans; certificates and marks are made anew for each."""
    return {k: v for k, v in row.items() if k not in VOLATILE and not k.startswith(("tls_", "installation"))}


@pytest.mark.parametrize("outcome", ["success", "connection-refused"])
def test_a_late_scanner_does_not_blame_the_host(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    """Our own work holds up the event loop beyond the connect timeout: who answered meanwhile is no timeout."""
    question = next(iter(identify.Rules.load().openers(11434)))
    remind = wire.Sockets.remind

    def late(*arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.5)
        remind(*arguments)

    async def knock() -> Conversation:
        async with hostile_servers.serve(hostile_servers.well_behaved) as log:
            address = log.address if outcome == "success" else hostile_servers.refusing()
            limits = probe.Limits(connect_timeout=0.2)
            asker = probe.Prober(frozenset({question}), limits=limits, user_agent="t", route=lambda ip, port: address)
            return await asker.converse(Target("240.0.0.1", 1), lambda target, heard: None if heard else question)

    monkeypatch.setattr(wire.Sockets, "remind", late)
    assert asyncio.run(knock()).outcome == outcome


# --- Surfaces --------------------------------------------------------------------------------------------------------

SHORT_NAMES = {kind: name for kind, name in HOSTILE_NAMES.items() if len(name) < 1000 and "\0" not in name}
"""Names that can be written in SQL, which knows no NUL."""

STRINGS = """
SELECT ip, name, family_raw, digest FROM models
UNION ALL BY NAME SELECT ip, parameter_size AS name, quantization AS family_raw, modified_at_raw AS digest FROM models
UNION ALL BY NAME SELECT ip, capabilities[1] AS name, families_raw[1] AS family_raw, NULL AS digest FROM models
UNION ALL BY NAME SELECT ip, error AS name, NULL AS family_raw, tls_subject AS digest FROM probes
UNION ALL BY NAME SELECT ip, server_version AS name, server_header AS family_raw, NULL AS digest FROM hosts
UNION ALL BY NAME SELECT ip, status_line AS name, headers[1].value AS family_raw, NULL AS digest FROM replies
"""
"""Every column that holds what a server wrote."""


def unsafe(text: str) -> set[str]:
    """Characters that no terminal and no page may get, but for the line end."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


@pytest.fixture(scope="module")
def strings(visit: Visit) -> Iterator[Callable[[str], str]]:
    with query.connect(visit.out) as connection:
        rows = query.run_sql(connection, f"SELECT * FROM ({STRINGS}) WHERE name NOT LIKE 'm%' OR name LIKE '%/%'")
    yield lambda form: str(formats.table(rows, form))


@pytest.mark.parametrize("form", ["table", "csv", "markdown", "html", "json"])
def test_no_character_reaches_a_terminal_or_a_page_raw(strings: Callable[[str], str], form: str) -> None:
    text = strings(form).replace("\r\n", "\n")
    assert unsafe(text) == set()
    assert "DROP TABLE" in text and "u202e" in text, "the animals are not in it"


def test_all_that_a_server_says_is_looked_at(visit: Visit) -> None:
    """The words of the one animal whose every word attacks are in every column that is shown above."""
    ip = duck.text(at(visit.world, "hostile-words").ip)
    rows = visit.rows(f"SELECT * FROM ({STRINGS}) WHERE ip = {ip}")
    assert sum("<script>" in (row["name"] or "") for row in rows) >= 4
    assert sum("<script>" in (row["family_raw"] or "") for row in rows) >= 3
    assert any("<b>=1+1</b>" in (row["family_raw"] or "") for row in rows)


def test_markdown_has_no_link_tag_or_cell_of_a_server(strings: Callable[[str], str]) -> None:
    lines = strings("markdown").splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    assert not re.search(r"(?<!\\)[<>`]", "\n".join(lines))
    assert not re.search(r"(?<!\\)\]\(", "\n".join(lines))


def test_a_browser_sees_no_element_of_a_server(strings: Callable[[str], str]) -> None:
    text = strings("html")
    seen = Elements.of(text)
    assert seen.names <= {"html", "head", "meta", "title", "style", "body", "h1", "table", "thead", "tr", "th", "td"}
    assert {name for name, _ in seen.attributes} <= {"lang", "charset", "http-equiv", "content", "name", "class"}
    stored = [hostile.text(name) or "" for name in hostile_names()]
    assert {hostile.printable(name, formats.MAX_CELL) for name in stored} <= set(seen.texts)


class Elements(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.texts: list[str] = []

    @classmethod
    def of(cls, page: str) -> Elements:
        """Read a whole page."""
        (found := cls()).feed(page)
        found.close()
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= set(attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_json_is_ascii_and_gives_the_names_back(strings: Callable[[str], str]) -> None:
    text = strings("json")
    names = {row["name"] for row in json.loads(text)}
    assert text.isascii()
    assert {hostile.text(name) for name in hostile_names()} <= names


def test_a_spreadsheet_runs_nothing(strings: Callable[[str], str]) -> None:
    rows = list(csv.reader(io.StringIO(strings("csv"), newline="")))
    assert {len(row) for row in rows} == {4}
    cells = [cell for row in rows for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert "'=HYPERLINK(CONCAT(A1,B1))" in cells


@pytest.mark.parametrize("name", SHORT_NAMES.values(), ids=SHORT_NAMES)
def test_a_name_is_a_value_in_sql_and_nothing_else(visit: Visit, name: str) -> None:
    kept = hostile.text(name) or ""
    rows = visit.rows(f"SELECT DISTINCT name FROM models WHERE name = {duck.text(kept)}")
    assert rows == [{"name": kept}]


@pytest.mark.parametrize("name", ["families", "codeployment", "servers", "outcomes"])
def test_reports_of_the_zoo_are_fit_for_every_reader(visit: Visit, name: str) -> None:
    answer = report.answer(visit.out, name)
    texts = [report.render(answer, form) for form in REPORT_FORMATS]
    for text in texts:
        assert isinstance(text, bytes) or unsafe(text.replace("\r\n", "\n")) == set()


def test_no_file_is_named_by_a_server(visit: Visit) -> None:
    names = {path.name for path in visit.out.rglob("*")}
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)] == []
    assert not any(os.path.lexists(visit.out / name) for name in ("etc", "con", "passwd"))
