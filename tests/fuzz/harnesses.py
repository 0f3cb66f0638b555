"""What must hold of every parser whatever it is given: one function of bytes each, which raises when it does not."""

from __future__ import annotations

import asyncio
import atexit
import csv
import io
import ipaddress
import json
import os
import re
import shutil
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from census import (
    cli,
    duck,
    exclusions,
    formats,
    hostile,
    locate,
    manifest,
    probe,
    query,
    resources,
    rows,
    schema,
    settings,
    snapshot,
    targets,
)
from census.choices import REPORT_FORMATS
from census.errors import DataError, GeoError, QueryError, SnapshotError, TargetError
from census.identify import Rules
from census.model import Conversation, Finding, Identity, Model, Outcome, Question, Target
from census.scan import Stages
from census.simulate import World
from census.simulate.misbehave import hostile_names
from tests.findings import RUN, block

Harness = Callable[[bytes], None]

NOW = datetime(2026, 11, 22)
SQL_SECONDS = 0.5
"""After these a statement is interrupted: a query may be long, it may only not write."""

SQL_BYTES = 300
TARGETS_LOOKED_AT = 50

HARNESSES: dict[str, Harness] = {}
SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {}


def _harness(seeds: Callable[[], Iterable[bytes]]) -> Callable[[Harness], Harness]:
    def register(function: Harness) -> Harness:
        HARNESSES[function.__name__] = function
        SEEDS[function.__name__] = seeds
        return function

    return register


@cache
def stages() -> Stages:
    """The stages, loaded once."""
    return Stages.load()


SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Format characters that are seen: Unicode's prepended concatenation marks, such as the Arabic number sign."""


def unsafe(text: str) -> list[str]:
    """Characters that no terminal and no page may get, but for the line end."""
    doubtful = (c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    return [c for c in doubtful if c != "\n" and c not in SEEN]


# --- Seeds: what is real --------------------------------------------------------------------------------------------


def _bodies() -> list[bytes]:
    rules = stages().rules
    return sorted({reply.body for each in rules.examples() for reply in rules.play(each)}, key=len)[:200]


def _wires() -> list[bytes]:
    return sorted({wire for each in stages().rules.examples() for wire in each.replies.values()}, key=len)[:200]


def _wide_names() -> list[bytes]:
    return [name.encode("utf-16-le", "surrogatepass") for name in hostile_names()] + _names()


def _names() -> list[bytes]:
    listed = {model.name for each in stages().rules.examples() for model in _models_of(each)}
    return [name.encode("utf-8", "replace") for name in sorted(listed)] + [b"qwen2.5-coder:32b-instruct-q4_K_M\0qwen2"]


def _models_of(example: Any) -> Iterable[Model]:
    rules = stages().rules
    return rules.identify(Target("240.0.0.1", example.port), rules.play(example)).models or ()


def _lines() -> list[bytes]:
    return [
        b"192.0.2.1\n192.0.2.0/24\n198.51.100.7:8080\n",
        b"[2001:db8::1]:11434\n2001:db8::/64\n",
        b"https://ai.example:8443/x\n192.0.2.9, ai.example, tag, 80\n",
        b"192.0.2.1-192.0.2.9\n# a comment\n\xef\xbb\xbf10.0.0.300\n",
        b'{"ip": "192.0.2.1", "port": 80}\nopen tcp 11434 192.0.2.4 1700000000\n',
    ]


def _records() -> list[bytes]:
    records: list[Any] = [
        {"country": {"iso_code": "DE"}, "city": {"names": {"en": "Berlin"}}, "autonomous_system_number": 64500},
        {"country_code": "DE", "asn": "AS64500", "as_name": "x", "as_domain": "as.example", "region": "Land Berlin"},
        {"subdivisions": [{"names": {"en": "Berlin"}}], "location": {"latitude": 1.0}},
    ]
    return [json.dumps(record).encode() for record in records]


def _statements() -> list[bytes]:
    return [
        b"SELECT count(*) FROM hosts",
        b"COPY hosts TO 'x.csv'",
        b"EXPLAIN ANALYZE COPY hosts TO 'x.csv'",
        b"EXPLAIN (ANALYZE) COPY hosts TO 'x'",
        b"CREATE TABLE t AS FROM hosts",
        b"ATTACH 'x.db'; EXPORT DATABASE 'x'",
        b"WITH x AS (FROM read_csv('/etc/hostname')) FROM x",
        b"PIVOT hosts ON server USING count(*)",
        b"SET enable_external_access = true",
    ]


def _manifests() -> list[bytes]:
    file = manifest.File("hosts/part-0000.parquet", "hosts", 1, 1, "0" * 64, schema.SCHEMA_VERSION)
    return [manifest.manifest_text("20261122T000000Z-0000", [file], schema_version=schema.SCHEMA_VERSION).encode()]


# --- Harnesses -------------------------------------------------------------------------------------------------------


@_harness(_bodies)
def read_json(data: bytes) -> None:
    """A body is JSON within bounds, or Unreadable."""
    try:
        value = hostile.read_json(data)
    except hostile.Unreadable:
        return
    json.dumps(value)


@_harness(_wide_names)
def escape(data: bytes) -> None:
    """Whatever a string is, it can be stored, and it attacks no surface."""
    try:
        text = data.decode("utf-16-le", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    stored = hostile.text(text)
    assert stored is not None and len(stored) <= hostile.MAX_TEXT
    stored.encode("utf-8")
    assert not unsafe(hostile.printable(text)) and "\n" not in hostile.printable(text)
    assert hostile.csv_cell(text)[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert not set("<>\"'") & set(hostile.html_text(text))


@cache
def _exclusions() -> exclusions.Exclusions:
    return exclusions.Exclusions.load([])


@_harness(_lines)
def target_list(data: bytes) -> None:
    """A list is targets, or an error that says where; with --skip-invalid it is always targets."""
    for skip in (False, True):
        try:
            found = targets.read(
                ["-"], ports=(11434,), exclusions=_exclusions(), skip_invalid=skip, stdin=io.BytesIO(data)
            )
        except TargetError as problem:
            assert not unsafe(str(problem)), str(problem)
            continue
        for index in range(min(len(found) if found.size < 2**62 else 1, TARGETS_LOOKED_AT)):
            target = found[index]
            ipaddress.ip_address(target.ip)
            assert 0 < target.port < 65536


@_harness(_bodies)
def conclude(data: bytes) -> None:
    """Bodies in the place of those of an example: identify, classify, judge, place, rows. Nothing raises."""
    rules = stages().rules
    examples = rules.examples()
    example = examples[data[0] % len(examples)] if data else examples[0]
    bodies = data[1:].split(b"\xff\xff") or [b""]
    replies = rules.play(example)
    changed = tuple(replace(reply, body=bodies[i % len(bodies)]) for i, reply in enumerate(replies))
    target = Target("240.0.0.1", example.port)
    for n in range(len(changed) + 1):
        stages().suspicions.plan(stages().rules)(target, changed[:n])
    finding = stages().conclude(Conversation(target, Outcome.SUCCESS, NOW, changed))
    _store(finding)


def _store(finding: Finding) -> None:
    rows.rows("20261122T000000Z-0000", [finding], 0)


@_harness(_names)
def classify(data: bytes) -> None:
    """A model's name and declared family, separated by NUL."""
    name, _, family = data.decode("utf-8", "replace").partition("\0")
    model = Model(hostile.text(name) or "", family_raw=hostile.text(family), parameter_size=family[:20])
    lineage = stages().families.classify(model, observed_at=NOW)
    identity = Identity("ollama", rule="r", confidence=1.0, models=(model,))
    talk = Conversation(Target("240.0.0.1", 1), Outcome.SUCCESS, NOW, scheme="http")
    _store(Finding(talk, identity, (lineage,)))


@_harness(_records)
def normalise(data: bytes) -> None:
    """A record of a geolocation database of any shape."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return
    place = locate.normalise(record)
    stages().networks.classify(place.asn, place.as_name)


@_harness(_wires)
def answer(data: bytes) -> None:
    """Bytes on the wire, behind the probe's own connection: one outcome, whole replies, bounded bodies."""
    told = Server.here().answered_with(data)
    assert told.outcome in Outcome
    assert (told.outcome is Outcome.SUCCESS) == any(reply.status < 500 for reply in told.replies)
    assert not unsafe(told.error or "")
    for reply in told.replies:
        assert len(reply.body) <= 1000 and 100 <= reply.status <= 999
    _store(stages().conclude(told))


class Server:
    """A server on loopback that answers the one question with given bytes, and a prober that asks it."""

    _only: Server | None = None

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.data = b""
        self.server = self.loop.run_until_complete(asyncio.start_server(self._talk, "127.0.0.1", 0))
        address = self.server.sockets[0].getsockname()
        self.question = Question("GET", "/api/tags")
        limits = probe.Limits(read_timeout=5.0, max_body=1000, max_header_bytes=4096)
        self.prober = probe.Prober(
            frozenset({self.question}), limits=limits, user_agent="fuzz", route=lambda ip, port: address
        )

    @classmethod
    def here(cls) -> Server:
        cls._only = cls._only or cls()
        return cls._only

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.data)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def answered_with(self, data: bytes) -> Conversation:
        self.data = data
        target = Target("240.0.0.1", 11434, scheme="http")
        plan = lambda target, replies: None if replies else self.question  # noqa: E731
        return self.loop.run_until_complete(self.prober.converse(target, plan))


@_harness(_names)
def render(data: bytes) -> None:
    """A table of whatever strings, in every format."""
    words = [part.decode("utf-8", "replace") for part in data.split(b"\0")] or [""]
    rows = pa.table({"name": words, (words[0] or "x")[:50] + "_": words, "n": list(range(len(words)))})
    for form in REPORT_FORMATS:
        text = formats.table(rows, form)
        if isinstance(text, str):
            _look(form, text, len(words))


def _look(form: str, text: str, n: int) -> None:
    if form == "csv":
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert len(cells) == 3 * (n + 1)
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and cell]
        return
    assert not unsafe(text)
    if form == "json":
        assert len(json.loads(text)) == n
    else:
        assert text.count("\n") >= n + 2


@_harness(_statements)
def sql(data: bytes) -> None:
    """A statement reads or is refused. Nothing is ever written."""
    here = _Sandbox.here()
    statement = data[:SQL_BYTES].decode("utf-8", "replace")
    timer = threading.Timer(SQL_SECONDS, here.connection.interrupt)
    timer.start()
    try:
        query.run_sql(here.connection, statement)
    except (QueryError, MemoryError):
        pass
    finally:
        timer.cancel()
    assert sorted(here.folder.rglob("*")) == here.before, "something was written"


class _Sandbox:
    """A locked connection over one finished run, in a current folder of its own."""

    _only: _Sandbox | None = None

    def __init__(self) -> None:
        from tests.findings import publish, server

        self.folder = _temporary()
        publish(self.folder, [server(number) for number in range(4)])
        self.before = sorted(self.folder.rglob("*"))
        self.connection = query.connect(self.folder)
        atexit.register(self.connection.close)

    @classmethod
    def here(cls) -> _Sandbox:
        if cls._only is None:
            cls._only = cls()
            os.chdir(cls._only.folder)
        return cls._only


@_harness(_manifests)
def read_manifest(data: bytes) -> None:
    """A manifest is one, or the run is damaged."""
    folder = _manifest_folder()
    (folder / manifest.MANIFEST).write_bytes(data)
    try:
        manifest.read_run(folder).damage()
    except SnapshotError as problem:
        assert str(problem)


@cache
def _manifest_folder() -> Path:
    return _temporary()


@_harness(_lines)
def blocklist(data: bytes) -> None:
    """A blocklist excludes all that can be read of it, and what cannot be read is an error that says where."""
    path = _kept("blocklist.txt", data)
    rows, problem = exclusions.read_blocklists([path])
    if problem is not None:
        assert str(problem).startswith(str(path)) and not unsafe(str(problem)), str(problem)
    found = exclusions.Exclusions.beside(rows, allow_private=True, allow_simulated=True)
    for network, why in rows[:TARGETS_LOOKED_AT]:
        for ip in (network[0], network[-1]):
            assert found.reason(str(ip)), (ip, why)


@_harness(lambda: [b'[scan]\nrate = 50.0\nports = "80,443"\nblocklist-file = ["a"]\n', b"[geo.install]\nx = 1\n"])
def settings_file(data: bytes) -> None:
    """A settings file is defaults of options that there are, or an error that names it."""
    path = _kept("census.toml", data)
    try:
        found = settings.read_file(cli.main, path)
    except click.UsageError as problem:
        assert str(path) in problem.message
        return
    assert found.keys() <= cli.main.commands.keys()


def _server_files() -> list[bytes]:
    return [path.read_bytes() for path in sorted(resources.data("servers").glob("*.toml"))]


@_harness(_server_files)
def server_file(data: bytes) -> None:
    """A server file is rules that can be checked, or an error that names the file."""
    match = re.search(rb'(?m)^id = "([a-z0-9-]{1,40})"', data)
    path = _kept(f"servers/{match[1].decode() if match else 'x'}.toml", data)
    try:
        rules = Rules.load(path.parent)
    except DataError as problem:
        assert path.name in str(problem), str(problem)
        return
    finally:
        path.unlink()
    assert all(isinstance(problem, str) for problem in rules.check())


SCENARIO = b"""about = "a"
seed = 1
until = 2026-08-29
[[inventory]]
name = "some"
about = "b"
must = ["llama"]
size = [2, 5]
[[group]]
about = "c"
count = 3
where = ["hosting", "fixed-access"]
plays = { "ollama-0.32.15" = 2, "refused" = 1 }
inventory = "some"
"""


@_harness(lambda: [SCENARIO, *(part + b"\n" for part in SCENARIO.split(b"[[inventory]]"))])
def scenario_file(data: bytes) -> None:
    """A scenario is a world, or an error that names the file."""
    counts = [int(digits) for digits in re.findall(rb"count\W*([0-9]{1,18})", data)]
    if max(counts, default=0) > 1000:
        return  # a large world is a large world
    path = _kept("scenario.toml", data)
    try:
        world = World.load(path, rules=stages().rules)
    except DataError as problem:
        assert path.name in str(problem), str(problem)
        return
    assert len(world.targets()) == len(world.hosts)


def _databases() -> list[bytes]:
    tree = MMDBWriter(ip_version=4, database_type="census-fuzz")
    tree.insert_network(IPSet(["192.0.2.0/24"]), {"country": {"iso_code": "DE"}, "asn": 64500})
    path = _temporary() / "seed.mmdb"
    tree.to_db_file(str(path))
    return [path.read_bytes()]


@_harness(_databases)
def place_database(data: bytes) -> None:
    """A geolocation database answers, or an error names it. An address always has a place, if an unknown one."""
    path = _kept("places.mmdb", data)
    try:
        locator = locate.Locator.open([path], simulated=True)
    except GeoError as problem:
        assert str(path) in str(problem)
        return
    try:
        for ip in ("192.0.2.1", "240.0.0.1", "2001:db8::1", "8.8.8.8"):
            assert locator.locate(ip).country is None or len(locator.locate(ip).country or "") == 2
    finally:
        locator.close()


def _block_files() -> list[bytes]:
    folder = _temporary()
    with snapshot.Draft.create(folder, RUN, {}, lambda inside: None) as draft:
        draft.commit(0, block(0, 2))
        return [path.read_bytes() for path in draft.folder.glob("blocks/*")]


@_harness(_block_files)
def block_file(data: bytes) -> None:
    """Who goes on with a run takes a block as it was written, and removes one that is not."""
    draft, name, whole = _one_block()
    path = draft.folder / "blocks" / name
    path.write_bytes(data)
    draft.refresh()
    assert draft.counts().total() == (2 if data == whole else 0)
    assert path.exists() == (data == whole)


@cache
def _one_block() -> tuple[snapshot.Draft, str, bytes]:
    draft = snapshot.Draft.create(_temporary(), RUN, {}, lambda inside: None)
    atexit.register(draft.close)
    draft.commit(0, block(0, 2))
    (path,) = draft.folder.glob("blocks/*")
    return draft, path.name, path.read_bytes()


def _target_sets() -> list[bytes]:
    path = _temporary() / "targets.npz"
    lists = (b"192.0.2.1\n", b"198.51.100.0/28\n192.0.2.1, ai.example, tag, 80\n[2001:db8::1]:11434\n")
    return [_saved(each, path) for each in lists]


def _saved(listing: bytes, path: Path) -> bytes:
    excluded = exclusions.Exclusions.load([], allow_simulated=True)
    targets.read(["-"], ports=(11434,), exclusions=excluded, stdin=io.BytesIO(listing)).save(path)
    return path.read_bytes()


@_harness(_target_sets)
def saved_targets(data: bytes) -> None:
    """The targets that a run has kept are those it began with, or the run is damaged."""
    path = _kept("targets.npz", data)
    try:
        found = targets.TargetSet.load(path)
    except SnapshotError as problem:
        assert str(path) in str(problem)
        return
    for index in range(min(found.size, TARGETS_LOOKED_AT)):
        ipaddress.ip_address(found[index].ip)


@_harness(_names)
def sql_words(data: bytes) -> None:
    """A text in SQL is that text, and a name that name, whatever is in them."""
    word = data.decode("utf-8", "replace").replace("\0", "")
    answer = _bare().execute(f"SELECT {duck.text(word)} AS {duck.name(word or 'x')}")
    assert answer.description and answer.description[0][0] == (word or "x")
    assert answer.fetchall() == [(word,)]


@cache
def _bare() -> Any:
    connection = duck.open_duckdb()
    atexit.register(connection.close)
    return connection


def _kept(name: str, data: bytes) -> Path:
    """A file of its own with these bytes."""
    path = _file_folder() / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


@cache
def _file_folder() -> Path:
    return _temporary()


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="census-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def seeds(name: str, most: int = 100) -> list[bytes]:
    """The seeds of a harness."""
    return list(islice(SEEDS[name](), most))
