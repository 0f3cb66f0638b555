"""Replies -> Identity: which server program answers, its version, its models. Reads `data/servers/`, nothing else.

What is known about a server program stands in its file of `data/servers/`, which `server_files` reads; here are the
plan of questions, the judging of all rules at once, and the extraction of versions and models.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import is_not
from pathlib import Path
from typing import Any, Final

from census import hostile, resources
from census.errors import DataError
from census.model import Identity, Model, Question, Reply, Scheme, Target
from census.replies import VARYING_NAMES, Head, View, dig, joined, parse_reply
from census.server_files import Example, Listing, Rule, Server, VersionSource, as_text, read_server

MAX_REQUESTS_UNKNOWN: Final = 3
"""Questions to an endpoint that no rule names: after these it is given up."""

MAX_REQUESTS_OLLAMA: Final = 4
"""Questions to an endpoint of the Ollama dialect."""

MAX_REQUESTS: Final = 5
"""Questions to any other identified endpoint."""

MAX_MODELS: Final = 20_000
"""Models kept of one endpoint; the evidence says when a list was cut. A body of the probe's cap holds fewer."""

MAX_VERSION: Final = 64
"""Characters kept of a version."""

UNIDENTIFIED: Final = "unidentified"
"""The key of `Rules.worst_case` for endpoints that no rule names."""


# --- Versions and models ---------------------------------------------------------------------------------------------


def _entries(listing: Listing, views: Mapping[str, View]) -> list[dict[str, Any]] | None:
    """The entries of a listing that was answered, or None. A null list is how Go prints an empty one."""
    view = views.get(listing.asked)
    if view is None or view.head.reply.status != 200:
        return None
    value = dig(view.json, listing.list)
    if value is None:
        return []
    items = [value] if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else None


def _key(listing: Listing, entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple([as_text(entry.get(key)) for key in listing.key])


def _loaded(listing: Listing, views: Mapping[str, View]) -> dict[tuple[Any, ...], dict[str, Any]] | None:
    """Key -> columns for the models loaded now, or None when the server did not say."""
    entries = _entries(listing.running, views) if listing.running else None
    if not entries or listing.running is None:
        return None if entries is None else {}
    columns = listing.running.columns
    return {_key(listing, entry): columns.of(entry) for entry in entries[:MAX_MODELS]}


def _read_models(listing: Listing, entries: list[dict[str, Any]], views: Mapping[str, View]) -> Iterator[Model]:
    loaded, read = _loaded(listing, views), listing.columns.of
    for entry in entries[:MAX_MODELS]:
        values = read(entry)
        if loaded is not None:
            mine = loaded.get(_key(listing, entry)) if loaded else None
            values["is_running"] = mine is not None
            values = _beside(values, mine) if mine else values
        if values.get("name"):
            yield Model(**values)


def _beside(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Both tables; where both speak the first is kept, and the extras are put together."""
    extra = values.get("extra", ()) + more.get("extra", ())
    return {**more, **values, "extra": extra}


def _models(server: Server, views: Mapping[str, View]) -> tuple[tuple[Model, ...] | None, tuple[str, ...]]:
    """The models of the first listing that was answered (None: of none), and what must be said about it."""
    for listing in (server.models, *server.models.otherwise) if server.models else ():
        entries = _entries(listing, views)
        if entries is not None:
            models = tuple(_read_models(listing, entries, views))
            return models, _notes(listing, len(entries), len(models))
    return None, ()


def _notes(listing: Listing, listed: int, kept: int) -> tuple[str, ...]:
    return () if listed == kept else (f"{listing.ask}: kept {kept} of {listed} models",)


def _version(server: Server, views: Mapping[str, View]) -> tuple[str, str] | tuple[None, None]:
    """The version and the question that told it."""
    for source in server.version:
        view = views.get(source.asked)
        version = _version_of(source, view) if view is not None else None
        if version:
            return version, source.asked
    return None, None


def _version_of(source: VersionSource, view: View) -> str | None:
    if source.header is not None:
        value: Any = view.head.headers.get(source.header, "")
        value = value.removeprefix(source.strip) if value.startswith(source.strip) else None
    else:
        value = dig(view.json, source.path) if view.head.reply.status == 200 else None
        value = value.removeprefix(source.strip) if isinstance(value, str) else None
    return hostile.text(value, MAX_VERSION) or None


# --- The rules -------------------------------------------------------------------------------------------------------


def _order(rule: Rule) -> tuple[int, float, str]:
    return (-rule.precedence, -rule.confidence, rule.id)


HEADS_REMEMBERED: Final = 512
"""Heads kept with what they decide. Nearly all servers of a kind and version have the same, but for VARYING."""

HEAD_REMEMBERED_BYTES: Final = 4 << 10
"""Size of a head beyond which it is not kept: what strangers send must not fill memory."""

VIEWS_REMEMBERED: Final = 1024
"""Short replies kept with what they decide: greetings, versions, empty lists, pages of errors are the same for many."""

SHORT: Final = 320
"""Bytes of a body that is kept with them: what strangers send must not fill memory, and lists of models are alike on
no two hosts; the shortest of a new Ollama has some 440."""

STANDINGS_REMEMBERED: Final = 4096
"""Combinations of answers kept with the rules that hold of them. A census of the world sees a few hundred."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What holds of a conversation so far.

    Attributes:
        matched: every rule that holds, the strongest first. verdicts: those that name a server.
        limit: questions an endpoint may get that stands like this. is_final: a rule named it for good.
        follow: the next question of the strongest candidate that has one left.
        near: ids of the rules of other servers that hold.
    """

    matched: tuple[Rule, ...]
    verdicts: tuple[Rule, ...]
    limit: int
    is_final: bool
    follow: Question | None
    evidence: tuple[str, ...]
    near: tuple[str, ...]


class _Index:
    """The conditions of all rules, each block a bit of one integer; so is each question, set once it was answered.

    A reply sets the bits of its question and of the blocks it satisfies, and a rule holds where its bits are all set.
    So what a reply decides is found once however many hosts send it, and what a combination of them decides too.
    """

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self._servers = servers
        rules = sorted((rule for server in servers.values() for rule in server.rules), key=_order)
        asks = {ask.question for server in servers.values() for ask in server.questions}
        asks |= {match.ask for rule in rules for match in rule.matches if match.ask is not None}
        self.questions = {question: 1 << place for place, question in enumerate(sorted(asks, key=str))}
        answered = [match for rule in rules for match in rule.matches if match.answered]
        self._bits = {id(match): 1 << place for place, match in enumerate(answered, len(self.questions))}
        self._answered = answered
        self._rules = tuple((rule, self._needed(rule), self._barred(rule)) for rule in rules)
        self._heads: dict[tuple[Any, ...], Head] = {}
        self._short = lru_cache(VIEWS_REMEMBERED)(View)
        self.standing = lru_cache(STANDINGS_REMEMBERED)(self._stands)

    def _needed(self, rule: Rule) -> int:
        return sum(self._bits[id(match)] for match in rule.matches if match.answered)

    def _barred(self, rule: Rule) -> int:
        """The questions that must be without an answer."""
        return sum(self.questions[match.ask] for match in rule.matches if match.ask and not match.answered)

    # -- One reply

    def view(self, reply: Reply) -> View:
        """A reply, read; the very view of an earlier one where they differ in nothing that is judged."""
        asked, headers = reply.question, reply.headers
        same = tuple([pair[0] if pair[0] in VARYING_NAMES else pair for pair in headers])
        key = asked.method, asked.path, reply.scheme, reply.status, reply.status_line, same
        head = self._heads.get(key)
        if head is None:
            head = self._read_head(*key)
            if reply.head_size > HEAD_REMEMBERED_BYTES:
                return View(head, reply.body)
            hostile.make_room(self._heads, HEADS_REMEMBERED)
            self._heads[key] = head
        return self._short(head, reply.body) if len(reply.body) <= SHORT else View(head, reply.body)

    def _read_head(self, method: str, path: str, scheme: Scheme, status: int, line: str, same: tuple[Any, ...]) -> Head:
        """A head and what it decides. Of the headers in VARYING there are only the names."""
        headers = tuple((each, "") if isinstance(each, str) else each for each in same)
        head = Head(Reply(Question(method, path), scheme, status, line, headers, b""))
        bare, question = View(head, b""), head.reply.question
        mine = [match for match in self._answered if match.ask in (None, question)]
        held = [match for match in mine if all(check(bare) for check in match.checks[: match.of_head])]
        left = [(self._bits[id(match)], match.checks[match.of_head :]) for match in held]
        head.bits = self.questions.get(question, 0) | sum(bit for bit, checks in left if not checks)
        head.blocks = joined(each for each in left if each[1])
        return head

    # -- All of them

    def _stands(self, state: int) -> _Standing:
        matched = tuple(r for r, needed, barred in self._rules if state & needed == needed and not state & barred)
        verdicts = tuple(rule for rule in matched if rule.verdict != "lead")
        leader = verdicts[0] if verdicts else None
        is_final = leader is not None and leader.verdict == "final"
        return _Standing(
            matched,
            verdicts,
            _limit(self._servers[leader.server]) if leader and is_final else MAX_REQUESTS_UNKNOWN,
            is_final,
            self._follow(matched, state),
            leader.evidence if leader else (),
            tuple(rule.id for rule in verdicts[1:] if leader and rule.server != leader.server),
        )

    def _follow(self, matched: tuple[Rule, ...], state: int) -> Question | None:
        """The next question of the strongest candidate that has one left; none is stronger than a final verdict."""
        ids = {rule.id for rule in matched}
        for rule in matched:
            for ask in self._servers[rule.server].follow:
                is_new = not state & self.questions[ask.question]
                if is_new and (not ask.when or ask.when & ids) and not ask.unless & ids:
                    return ask.question
            if rule.verdict == "final":
                return None
        return None


@dataclass(frozen=True)
class Rules:
    """All server files, compiled. Safe to share between tasks: after loading, only what was seen before is remembered.

    Attributes:
        servers: id -> Server.
    """

    servers: Mapping[str, Server]
    _index: _Index = field(repr=False, compare=False)
    _openers: dict[int, tuple[Question, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path | None = None) -> Rules:
        """Read every `*.toml` of a folder (default: `data/servers/`). Raises DataError with file, key and reason."""
        folder = folder or resources.data("servers")
        paths = sorted(folder.glob("*.toml"))
        if not paths:
            raise DataError(f"{folder.name}: no server files (*.toml) in this folder; name another or install again")
        return cls.of(read_server(path) for path in paths)

    @classmethod
    def of(cls, servers: Iterable[Server]) -> Rules:
        """Rules over these servers. Raises DataError when two rules share an id or a condition names none."""
        known = {server.id: server for server in servers}
        rules = [rule for server in known.values() for rule in server.rules]
        ids: set[str] = set()
        for rule in rules:
            if rule.id in ids:
                raise DataError(f"data/servers/{rule.server}.toml: rule '{rule.id}' is there twice; rename one")
            ids.add(rule.id)
        for server in known.values():
            _check_references(server, ids, known)
        return cls(known, _Index(known))

    # -- What may be asked

    def questions(self) -> frozenset[Question]:
        """Everything that may ever be asked."""
        return frozenset(ask.question for server in self.servers.values() for ask in server.questions)

    def openers(self, port: int) -> tuple[Question, ...]:
        """The questions asked, in this order, on a port where nothing is identified yet."""
        if port not in self._openers:
            asks = [ask for server in self.servers.values() for ask in server.questions if ask.role == "open"]
            asks = [ask for ask in asks if not ask.ports or port in ask.ports]
            asks.sort(key=lambda ask: (ask.rank, not ask.ports, str(ask.question)))
            self._openers[port] = tuple(dict.fromkeys(ask.question for ask in asks))[:MAX_REQUESTS_UNKNOWN]
        return self._openers[port]

    def worst_case(self) -> dict[str, int]:
        """Server id -> the most questions one endpoint of it can get; UNIDENTIFIED -> the same for all others."""
        return {UNIDENTIFIED: MAX_REQUESTS_UNKNOWN} | {server.id: _limit(server) for server in self.servers.values()}

    def next_question(self, target: Target, replies: Sequence[Reply]) -> Question | None:
        """A `census.model.Plan`: the next question for a target, or None when enough is known or nothing will be."""
        return Reading(self).next_question(target, replies)

    # -- What was answered

    def view(self, reply: Reply) -> View:
        """A reply, read."""
        return self._index.view(reply)

    def standing(self, state: int) -> _Standing:
        """What holds where these bits are set."""
        return self._index.standing(state)

    def head(self, reply: Reply) -> Hashable:
        """Equal for replies to one question whose heads differ in the values of VARYING at most."""
        return self.view(reply).head

    def body(self, reply: Reply) -> Any:
        """The parsed body; None where it is null or unreadable."""
        return self.view(reply).value

    def identify(self, target: Target, replies: Sequence[Reply]) -> Identity:
        """Which server answered, by which rule, and what it serves. Never raises for anything a server sends."""
        return Reading(self).identify(target, replies)

    # -- What the files claim

    def examples(self) -> tuple[Example, ...]:
        """The examples of all servers, in the order of the files."""
        return tuple(example for server in self.servers.values() for example in server.examples)

    def play(self, example: Example) -> tuple[Reply, ...]:
        """The conversation the plan has with an example."""
        target = Target("192.0.2.1", example.port)
        replies: list[Reply] = []
        while (question := self.next_question(target, replies)) and (raw := example.answer(question)) is not None:
            replies.append(parse_reply(question, raw))
        return tuple(replies)

    def check(self) -> list[str]:
        """Everything that is wrong with the files as a whole: a failing example, a rule or question nobody needs."""
        played = [(example, self.play(example)) for example in self.examples()]
        problems = [problem for example, replies in played for problem in self._failures(example, replies)]
        return problems + self._lonely() + self._unused_rules(played) + self._unused_questions(played)

    def _failures(self, example: Example, replies: Sequence[Reply]) -> list[str]:
        found = self.identify(Target("192.0.2.1", example.port), replies)
        wanted, where = example.expect, f"data/servers/{example.server}.toml: example '{example.name}'"
        names = None if found.models is None else tuple(model.name for model in found.models)
        pairs = [
            ("version", wanted.version, found.version or ""),
            ("rule", wanted.rule, found.rule or ""),
            ("auth", wanted.auth, found.auth or ""),
            ("proxy", wanted.proxy, found.proxy or ""),
            ("models", wanted.models, names),
        ]
        wrong = [
            f"{where}: {what} is {got!r}, expected {want!r}" for what, want, got in pairs if want not in (None, got)
        ]
        if wanted.server != found.server:
            wrong.append(f"{where}: server is {found.server!r}, expected {wanted.server!r}")
        if example.is_it is not (wanted.server == example.server):
            wrong.append(f"{where}: 'is' and 'expect.server' contradict each other")
        return wrong

    def _lonely(self) -> list[str]:
        return [
            f"data/servers/{server.id}.toml: needs an example that {'is it' if is_it else 'only looks like it'}"
            for server in self.servers.values()
            for is_it in (True, False)
            if not any(example.is_it is is_it for example in server.examples)
        ]

    def _unused_rules(self, played: list[tuple[Example, tuple[Reply, ...]]]) -> list[str]:
        """A rule must decide an example of its own file; a lead must match one."""
        used: set[str] = set()
        for example, replies in played:
            matched = Reading(self).standing(replies).matched
            used |= {rule.id for rule in matched if rule.verdict == "lead" and rule.server == example.server}
            deciding = next((rule for rule in matched if rule.verdict != "lead"), None)
            used |= {deciding.id} if deciding and example.is_it else set()
        rules = [rule for server in self.servers.values() for rule in server.rules if rule.id not in used]
        return [f"data/servers/{rule.server}.toml: rule '{rule.id}': no example needs it" for rule in rules]

    def _unused_questions(self, played: list[tuple[Example, tuple[Reply, ...]]]) -> list[str]:
        asked = {(example.server, reply.question) for example, replies in played for reply in replies}
        return [
            f"data/servers/{server.id}.toml: question '{ask.question}': no example of this file is asked it"
            for server in self.servers.values()
            for ask in server.questions
            if (server.id, ask.question) not in asked
        ]


class Reading:
    """The rules over one conversation: what was read of a reply for one question is known for the next."""

    __slots__ = ("_by_id", "_identity", "_replies", "_standing", "_views", "rules")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._forget()

    def _forget(self) -> None:
        self._replies: list[Reply] = []
        """What was read, in order; held, so that an `id` stays its own."""
        self._by_id: dict[int, View] = {}
        self._views: dict[str, View] = {}
        """The latest reply to each question, by its text."""
        self._standing = self.rules.standing(0)
        self._identity: Identity | None = None

    def standing(self, replies: Sequence[Reply]) -> _Standing:
        """What holds after these replies; only what is new among them is read."""
        if len(replies) < len(self._replies) or any(map(is_not, replies, self._replies)):
            self._forget()
        if len(replies) > len(self._replies):
            self._read(replies[len(self._replies) :])
        return self._standing

    def _read(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            view = self.rules.view(reply)
            self._replies.append(reply)
            self._by_id[id(reply)] = self._views[view.head.asked] = view
        state = 0
        for view in self._views.values():
            state |= view.bits
        self._standing, self._identity = self.rules.standing(state), None

    def next_question(self, target: Target, replies: Sequence[Reply]) -> Question | None:
        """A `census.model.Plan`: the next question for a target, or None when enough is known or nothing will be."""
        if not replies:
            return next(iter(self.rules.openers(target.port)), None)
        standing = self.standing(replies)
        if len(replies) >= standing.limit:
            return None
        return standing.follow or (None if standing.is_final else self._open(target, replies))

    def _open(self, target: Target, replies: Sequence[Reply]) -> Question | None:
        asked = {reply.question for reply in replies}
        return next((question for question in self.rules.openers(target.port) if question not in asked), None)

    def identify(self, target: Target, replies: Sequence[Reply]) -> Identity:
        """As `Rules.identify`; of the same replies the same Identity."""
        standing = self.standing(replies)
        if self._identity is None:
            self._identity = self._identified(standing)
        return self._identity

    def _identified(self, standing: _Standing) -> Identity:
        views = self._views
        proxy = next((view.head.proxy for view in views.values() if view.head.proxy), None)
        if not standing.verdicts:
            return Identity(proxy=proxy)
        rule = standing.verdicts[0]
        server = self.rules.servers[rule.server]
        version, version_source = _version(server, views)
        models, notes = _models(server, views)
        return Identity(
            server=server.id,
            version=version,
            version_source=version_source,
            api=server.api,
            auth=rule.auth,
            rule=rule.id,
            confidence=rule.confidence,
            evidence=standing.evidence + notes,
            proxy=proxy,
            models=models,
            near=standing.near,
        )

    def head(self, reply: Reply) -> Hashable:
        """As `Rules.head`."""
        return self._view(reply).head

    def body(self, reply: Reply) -> Any:
        """As `Rules.body`."""
        return self._view(reply).value

    def _view(self, reply: Reply) -> View:
        return self._by_id.get(id(reply)) or self.rules.view(reply)


def _limit(server: Server) -> int:
    return MAX_REQUESTS_OLLAMA if server.api == "ollama" else MAX_REQUESTS


def _check_references(server: Server, rules: set[str], servers: Mapping[str, Server]) -> None:
    where = f"data/servers/{server.id}.toml"
    for ask in server.questions:
        for unknown in sorted((ask.when | ask.unless) - rules):
            raise DataError(f"{where}: question '{ask.question}' names the rule '{unknown}', which does not exist")
    for example in server.examples:
        if example.expect.server is not None and example.expect.server not in servers:
            raise DataError(f"{where}: example '{example.name}' expects '{example.expect.server}', which has no file")
