"""Replies -> Identity: which server program answers, its version, its models. Reads `data/servers/`, nothing else.

What is known about a server program stands in its file of `data/servers/`; here is only the reading of those files,
the small language of their conditions, the plan of questions, and the extraction of versions and models. Conditions
judge parsed JSON and headers, never text that white space could change.
"""

from __future__ import annotations

import difflib
import html
import re
import tomllib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from operator import is_not
from pathlib import Path
from typing import Any, Final, Literal

from census import hostile, resources
from census.errors import DataError
from census.model import Auth, Identity, Model, Question, Reply, Scheme, Target

MAX_REQUESTS_UNKNOWN: Final = 3
"""Questions to an endpoint that no rule names: after these it is given up."""

MAX_REQUESTS_OLLAMA: Final = 4
"""Questions to an endpoint of the Ollama dialect."""

MAX_REQUESTS: Final = 5
"""Questions to any other identified endpoint."""

MAX_MODELS: Final = 20_000
"""Models kept of one endpoint; the evidence says when a list was cut. A body of the probe's cap holds fewer."""

MAX_LABELS: Final = 64
"""Items kept of a model's list of families or capabilities. Real lists have fewer than ten."""

MAX_VERSION: Final = 64
"""Characters kept of a version."""

MAX_PATTERN_TEXT: Final = 256
"""Characters of a value that a `matches` pattern is tried on; longer values do not match."""

ITEMS_JUDGED: Final = 64
"""Items of a list that a `*` looks at, so that a long inventory costs no more than a short one."""

TITLE_WITHIN: Final = 65_536
"""Bytes at the start of a page in which its title is looked for."""

UNIDENTIFIED: Final = "unidentified"
"""The key of `Rules.worst_case` for endpoints that no rule names."""

Verdict = Literal["final", "provisional", "lead"]
Check = Callable[["View"], bool]
Test = Callable[[Any], bool]


# --- The nouns of a server file --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that a server file makes the census ask.

    Attributes:
        role: "open" is asked of an endpoint not yet identified, "follow" once a rule of this server leads.
        ports: the question is asked on these alone; () is any port. Only for "open".
        rank: smaller is earlier; of equal ranks the question with ports. Only for "open": "follow" questions keep the
            order of the file.
        source: where it was read that the question is metadata and harmless.
        when: asked only if one of these rules matched; () is always. unless: not asked if one of these matched.
    """

    question: Question
    role: Literal["open", "follow"]
    source: str
    ports: tuple[int, ...] = ()
    rank: int = 0
    when: frozenset[str] = frozenset()
    unless: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Match:
    """What must hold of one reply.

    Attributes:
        ask: the question it answers, or None for any reply.
        answered: False when the rule wants the question to be still without a reply; then there are no checks.
        words: the conditions, readable. checks: the same, callable, in the same order.
        of_head: how many of the checks, the first ones, judge the head alone.
    """

    ask: Question | None
    answered: bool
    words: tuple[str, ...]
    checks: tuple[Check, ...]
    of_head: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One claim: replies that match in all blocks come from this server.

    Attributes:
        verdict: "final" names the server; "provisional" names it and lets the opening questions go on; "lead" names
            nothing, it only makes this server's questions come next.
        confidence, auth: what the rule says when it decides; 0 and None for a lead. None too where nothing that was
            answered says who may ask: a name, and no list that was given or refused.
    """

    id: str
    server: str
    about: str
    precedence: int
    confidence: float
    auth: Auth | None
    verdict: Verdict
    matches: tuple[Match, ...]

    @property
    def evidence(self) -> tuple[str, ...]:
        """Every condition in words."""
        return tuple(word for match in self.matches for word in match.words)


@dataclass(frozen=True, slots=True)
class VersionSource:
    """Where a version is read: a JSON path of the reply to `ask`, or a header of it after a fixed prefix."""

    ask: Question
    path: tuple[str, ...] = ()
    header: str | None = None
    strip: str = ""
    asked: str = field(default="", init=False)
    """The question as text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "asked", str(self.ask))


@dataclass(frozen=True, slots=True)
class Field:
    """One column of `Model` and where an entry of the server's list holds it.

    Attributes:
        column: a field of `census.model.Model`, or `extra.<name>`.
        path: keys from the entry down.
        value: what stands there -> column value; None for what is unknown.
        convert: name of a converter of `CONVERTERS`, or None for the column's own.
        mapping: wire value -> column value; anything else is unknown. None when there is no such table.
        strip: a prefix the server puts before the value.
        extra: the name of an `extra` column, or None.
    """

    column: str
    path: tuple[str, ...]
    value: Callable[[Any], Any]
    convert: str | None = None
    mapping: Mapping[str, Any] | None = None
    strip: str = ""
    extra: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", self.column[6:] if self.column.startswith("extra.") else None)

    def read(self, entry: dict[str, Any]) -> Any:
        """What an entry says, or None."""
        return self.value(_dig(entry, self.path))


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a list of models is read, and what each entry says.

    Attributes:
        list: keys from the body down to the list; () is the body itself. An object there is a list of one.
        running: the list of loaded models, if another question tells it; matched to the entries by `key`.
        key: keys of an entry that must be equal in both lists.
        otherwise: other listings, tried in order when this one was not answered.
    """

    ask: Question
    list: tuple[str, ...]
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ()
    running: Listing | None = None
    otherwise: tuple[Listing, ...] = ()
    asked: str = field(default="", init=False)
    """The question as text."""
    columns: _Columns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asked", str(self.ask))
        object.__setattr__(self, "columns", _Columns(self.fields))


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the whole instrument must conclude from an example. None is not checked, "" is nothing; server None too."""

    server: str | None
    version: str | None = None
    rule: str | None = None
    auth: Auth | Literal[""] | None = None
    proxy: str | None = None
    models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """What an endpoint answered, as raw wire bytes, and what follows from it.

    Attributes:
        server: id of the file it stands in. is_it: False when it only looks like that server.
        port: the port it is played on.
        replies: question text (`GET /api/tags`) -> raw reply with a CRLF head.
        otherwise: the reply to every other path, or None when the connection just ends.
    """

    name: str
    server: str
    is_it: bool
    about: str
    expect: Expectation
    port: int
    replies: Mapping[str, bytes]
    otherwise: bytes | None = None

    def answer(self, question: Question) -> bytes | None:
        """The raw reply to a question, or None when there is none."""
        return self.replies.get(str(question), self.otherwise)


@dataclass(frozen=True, slots=True)
class Server:
    """One file of `data/servers/`."""

    id: str
    name: str
    about: str
    home: str
    api: str
    ports: tuple[int, ...]
    questions: tuple[Ask, ...]
    rules: tuple[Rule, ...]
    version: tuple[VersionSource, ...]
    models: Listing | None
    examples: tuple[Example, ...]

    @property
    def follow(self) -> tuple[Ask, ...]:
        """The questions asked once this server leads, in order."""
        return tuple(ask for ask in self.questions if ask.role == "follow")


# --- One reply, read at most once ------------------------------------------------------------------------------------


class _Missing:
    """No such value: neither a JSON value nor null."""


_MISSING: Final = _Missing()

VARYING: Final = frozenset({"date", "content-length"})
"""Headers whose value differs from reply to reply: rules may only ask whether they are there."""

_VARYING_NAMES: Final = frozenset({"Date", "date", "Content-Length", "content-length"})
"""The same as servers write them."""


class Head:
    """What stands above a body. `Rules` reads a head once for all the replies that have it."""

    __slots__ = ("asked", "bits", "blocks", "headers", "media_type", "proxy", "reply", "signer")

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked = str(reply.question)
        self.headers: dict[str, str] = {}
        for name, value in reply.headers:
            self.headers.setdefault(name.lower(), value)
        self.media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.proxy = _proxy(self.headers)
        self.signer = _signer(self.headers.get("server"), self.proxy)
        self.bits = 0
        """What the head alone decides, as `_Index` counts."""
        self.blocks: tuple[_Block, ...] = ()
        """What the body decides."""


class View:
    """A reply with its headers indexed and its JSON parsed at most once. Where it is short, shared between replies that
    differ in nothing that is judged: then its times are another's."""

    __slots__ = ("_bits", "_json", "head", "headers", "media_type", "reply")

    def __init__(self, reply: Reply, head: Head | None = None) -> None:
        self.reply = reply
        self.head = head or Head(reply)
        self.headers, self.media_type = self.head.headers, self.head.media_type
        self._json: Any = self
        self._bits: int | None = None

    @property
    def bits(self) -> int:
        """What is decided by this reply, as `_Index` counts."""
        if self._bits is None:
            self._bits = self.head.bits
            for bit, checks in self.head.blocks:
                self._bits |= bit if self.passes(checks) else 0
        return self._bits

    def passes(self, checks: tuple[Check, ...]) -> bool:
        """True if all checks hold."""
        for check in checks:  # noqa: SIM110 - the generator of an all(...) would cost more than the checks
            if not check(self):
                return False
        return True

    @property
    def json(self) -> Any:
        """The parsed body, or `_MISSING` when it is not JSON within our bounds."""
        if self._json is self:
            try:
                self._json = hostile.read_json(self.reply.body)
            except hostile.Unreadable:
                self._json = _MISSING
        return self._json

    @property
    def value(self) -> Any:
        """The parsed body; None where it is null or unreadable."""
        value = self.json
        return None if value is _MISSING else value

    @property
    def title(self) -> str | None:
        """The text of the first `<title>` near the start of the body, or None."""
        page = self.reply.body[:TITLE_WITHIN]
        start = page.lower().find(b"<title")
        opened = page.find(b">", start) + 1 if start >= 0 else 0
        end = page.find(b"<", opened) if opened else -1
        return html.unescape(page[opened:end].decode("utf-8", "replace")).strip() if end >= 0 else None

    @property
    def text(self) -> str:
        """A short body as text without white space around it; "" beyond MAX_TEXT bytes, where no rule's text is."""
        body = self.reply.body if len(self.reply.body) <= hostile.MAX_TEXT else b""
        return body.decode("utf-8", "replace").strip()


def _dig(value: Any, path: Iterable[str]) -> Any:
    """The value below `path`, or `_MISSING`."""
    for step in path:
        if type(value) is not dict or step not in value:
            return _MISSING
        value = value[step]
    return value


# --- The language of conditions --------------------------------------------------------------------------------------


_TYPES: Final[dict[str, Test]] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _is(names: Any) -> Test:
    tests = tuple(_TYPES[name] for name in _one_or_more(_word(tuple(_TYPES)))(names))
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _equals(wanted: Any) -> Test:
    kind = type(wanted)
    return lambda value: type(value) is kind and value == wanted


def _one_of(wanted: Any) -> Test:
    tests = tuple(_equals(item) for item in _list(wanted))
    return lambda value: any(test(value) for test in tests)


def _prefix(wanted: Any) -> Test:
    start = _text(wanted)
    return lambda value: isinstance(value, str) and value.startswith(start)


def _matches(wanted: Any) -> Test:
    try:
        pattern = re.compile(_text(wanted))
    except re.error as problem:
        raise ValueError(f"is no regular expression: {problem}") from None
    return lambda value: (
        isinstance(value, str) and len(value) <= MAX_PATTERN_TEXT and pattern.fullmatch(value) is not None
    )


def _keys(wanted: Any) -> Test:
    keys = set(_texts(wanted))
    return lambda value: isinstance(value, dict) and value.keys() == keys


def _has(wanted: Any) -> Test:
    keys = set(_texts(wanted))
    return lambda value: isinstance(value, dict) and value.keys() >= keys


def _lacks(wanted: Any) -> Test:
    keys = set(_texts(wanted))
    return lambda value: isinstance(value, dict) and not value.keys() & keys


def _same(wanted: Any) -> Test:
    first, second = _texts(wanted)
    return lambda value: isinstance(value, dict) and first in value and value[first] == value.get(second, _MISSING)


SIGNERS: Final = ("nobody", "proxy", "other")
"""Whose Server header a reply has: none, with no sign of a proxy; a proxy's, or none where a proxy shows; another's."""

VALUE_WORDS: Final[dict[str, Callable[[Any], Test]]] = {
    "is": _is,
    "equals": _equals,
    "one_of": _one_of,
    "prefix": _prefix,
    "matches": _matches,
    "keys": _keys,
    "has": _has,
    "lacks": _lacks,
    "same": _same,
}
"""What a rule may say of one JSON value. `docs/add-a-server.md` explains each."""


def _below(path: tuple[str, ...], test: Test, some: bool, or_empty: bool) -> Test:
    """Whether the value below `path` passes; at a `*`, whether all items (or `some` item) of the list do."""
    if not path:
        return test
    if path[0] == "*":
        return _of_items(_below(path[1:], test, some, or_empty), some, or_empty)
    key, rest = path[0], _below(path[1:], test, some, or_empty)
    return lambda value: type(value) is dict and key in value and rest(value[key])


def _of_items(test: Test, some: bool, or_empty: bool) -> Test:
    def holds(value: Any) -> bool:
        if type(value) is not list:
            return False
        for item in value if len(value) <= ITEMS_JUDGED else value[:ITEMS_JUDGED]:
            if test(item) is some:
                return some
        return not some if value else or_empty

    return holds


def _json_check(table: _Table) -> tuple[str, Check]:
    """One condition on the parsed body, e.g. `{ path = "data.*.owned_by", equals = "vllm" }`."""
    path = _path(table.take("path", _text, ""))
    some, or_empty = table.take("any", _flag, False), table.take("or_empty", _flag, False)
    words = [word for word in VALUE_WORDS if word in table]
    if not words:
        raise table.error("", f"needs one of {', '.join(VALUE_WORDS)}")
    said = ", ".join(f"{word} {table.values[word]!r}" for word in words)
    tests = tuple(table.take(word, VALUE_WORDS[word]) for word in words)
    table.done()
    test = tests[0] if len(tests) == 1 else lambda value: all(one(value) for one in tests)
    where = f"{'some ' if some else ''}{'.'.join(path) or 'body'}"
    said += " or no items" if or_empty else ""
    below = _below(path, test, some, or_empty)
    return f"json {where} {said}", lambda view: below(view.json)


def _header_test(wanted: Any) -> Callable[[str | None], bool]:
    """`"absent"`, `"present"`, or a table with `equals`, `prefix`, `matches` or `one_of`."""
    if wanted in ("absent", "present"):
        return lambda value: (value is not None) is (wanted == "present")
    if (
        not isinstance(wanted, dict)
        or len(wanted) != 1
        or not wanted.keys() <= {"equals", "prefix", "matches", "one_of"}
    ):
        raise ValueError('must be "absent", "present" or a table with one of equals, prefix, matches, one_of')
    ((word, value),) = wanted.items()
    return VALUE_WORDS[word](value)


def _header_checks(wanted: Any) -> list[tuple[str, Check]]:
    return [_header_check(name.lower(), value) for name, value in _mapping(wanted).items()]


def _header_check(name: str, wanted: Any) -> tuple[str, Check]:
    if name in VARYING and not isinstance(wanted, str):
        raise ValueError(f"'{name}' differs from reply to reply: only 'absent' or 'present' can be asked of it")
    test = _header_test(wanted)
    said = wanted if isinstance(wanted, str) else " ".join(f"{word} {value!r}" for word, value in wanted.items())
    return f"header {name} {said}", lambda view: test(view.headers.get(name))


def _status_checks(wanted: Any) -> list[tuple[str, Check]]:
    codes = frozenset(_one_or_more(_whole)(wanted))
    said = " or ".join(str(code) for code in sorted(codes))
    return [(f"status {said}", lambda view: view.reply.status in codes)]


def _type_checks(wanted: Any) -> list[tuple[str, Check]]:
    media = _text(wanted).lower()
    return [(f"content type {media}", lambda view: view.media_type == media)]


def _http_checks(wanted: Any) -> list[tuple[str, Check]]:
    version = "HTTP/" + _word(("1.0", "1.1"))(wanted)
    return [(version, lambda view: view.reply.status_line.startswith(version))]


def _case_checks(wanted: Any) -> list[tuple[str, Check]]:
    lower = _word(("lower", "mixed"))(wanted) == "lower"
    return [
        (f"header names in {wanted} case", lambda view: all(n.islower() for n, _ in view.reply.headers) is lower),
    ]


def _signer_checks(wanted: Any) -> list[tuple[str, Check]]:
    signers = frozenset(_one_or_more(_word(SIGNERS))(wanted))
    said = " or ".join(sorted(signers))
    return [(f"signed by {said}", lambda view: view.head.signer in signers)]


def _title_checks(wanted: Any) -> list[tuple[str, Check]]:
    titles = frozenset(_one_or_more(_text)(wanted))
    return [(f"title {' or '.join(map(repr, sorted(titles)))}", lambda view: view.title in titles)]


def _text_checks(wanted: Any) -> list[tuple[str, Check]]:
    texts = frozenset(_one_or_more(_text)(wanted))
    return [(f"text {' or '.join(map(repr, sorted(texts)))}", lambda view: view.text in texts)]


def _empty_checks(wanted: Any) -> list[tuple[str, Check]]:
    empty = _flag(wanted)
    return [("no body" if empty else "a body", lambda view: (not view.reply.body) is empty)]


def _readable_checks(wanted: Any) -> list[tuple[str, Check]]:
    readable = _flag(wanted)
    return [("readable JSON" if readable else "no readable JSON", lambda view: (view.json is not _MISSING) is readable)]


REPLY_WORDS: Final[dict[str, Callable[[Any], list[tuple[str, Check]]]]] = {
    "status": _status_checks,
    "content_type": _type_checks,
    "http": _http_checks,
    "header": _header_checks,
    "header_case": _case_checks,
    "signed_by": _signer_checks,
    "empty": _empty_checks,
    "text": _text_checks,
    "title": _title_checks,
    "readable": _readable_checks,
}
"""What a rule may say of one reply, cheapest first: they are checked in this order, `json` after them."""

HEAD_WORDS: Final = ("status", "content_type", "http", "header", "header_case", "signed_by")
"""Those that judge the head alone: they come before the others."""


# --- Reading the files -----------------------------------------------------------------------------------------------


_REQUIRED: Final = object()


class _Table:
    """A TOML table being read: every key must be taken, and every complaint says file and key."""

    def __init__(self, file: str, where: str, values: Any) -> None:
        self.file, self.where = file, where
        if not isinstance(values, dict):
            raise self.error("", "must be a table")
        self.values, self.left, self.known = values, set(values), set[str]()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def error(self, key: str, reason: str) -> DataError:
        """A complaint about one key, or about the table itself."""
        place = ".".join(part for part in (self.where, key) if part)
        return DataError(f"data/servers/{self.file}: {place or 'file'}: {reason}")

    def take(self, key: str, read: Callable[[Any], Any], default: Any = _REQUIRED) -> Any:
        """The value of a key, read and checked. Raises DataError when it is missing without default, or wrong."""
        self.known.add(key)
        self.left.discard(key)
        if key not in self.values:
            if default is _REQUIRED:
                raise self.error(key, "is missing")
            return default
        try:
            return read(self.values[key])
        except ValueError as problem:
            raise self.error(key, str(problem)) from None

    def table(self, key: str) -> _Table | None:
        """A table below this one, or None when it is not there."""
        value = self.take(key, _mapping, None)
        return None if value is None else _Table(self.file, f"{self.where}.{key}".lstrip("."), value)

    def tables(self, key: str) -> Iterator[_Table]:
        """The tables of an array below this one."""
        for number, value in enumerate(self.take(key, _list, [])):
            yield _Table(self.file, f"{self.where}.{key}[{number}]".lstrip("."), value)

    def done(self) -> None:
        """Raises DataError when a key was not taken: a spelling mistake must not pass as a rule."""
        for key in sorted(self.left):
            near = difflib.get_close_matches(key, self.known, 1)
            raise self.error(key, "is no key of this table" + (f"; did you mean '{near[0]}'?" if near else ""))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _filled(value: Any) -> str:
    if not _text(value).strip():
        raise ValueError("must not be empty")
    return _text(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _port(value: Any) -> int:
    if not 1 <= _whole(value) <= 65_535:
        raise ValueError("must be a port from 1 to 65535")
    return _whole(value)


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError("must be a number above 0 and at most 1")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("must be an array")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a table")
    return value


def _many(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(read(item) for item in _list(value))


def _one_or_more(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(read(item) for item in (value if isinstance(value, list) and value else [value]))


_texts = _many(_text)


def _steady(value: Any) -> str:
    if (name := _text(value).lower()) in VARYING:
        raise ValueError(f"'{name}' differs from reply to reply: nothing of the server can be read in it")
    return name


def _word(words: Sequence[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return read


def _question(value: Any) -> Question:
    try:
        question = Question.parse(_text(value))
    except ValueError:
        raise ValueError("must be a method and a path, such as 'GET /api/tags'") from None
    if question.method not in ("GET", "HEAD") or not question.path.startswith("/"):
        raise ValueError(f"'{question}' may not be asked: GET or HEAD of a path only")
    return question


def _path(value: Any) -> tuple[str, ...]:
    return tuple(_text(value).split(".")) if value else ()


_AUTH: Final = ("open", "key-required", "refused", "login-page")


def _read_ask(table: _Table) -> Ask:
    role = table.take("role", _word(("open", "follow")))
    extra: dict[str, Any] = {}
    if role == "open":
        extra = {"ports": table.take("ports", _many(_port), ()), "rank": table.take("rank", _whole)}
    else:
        extra = {key: frozenset(table.take(key, _texts, ())) for key in ("when", "unless")}
    ask = Ask(table.take("ask", _question), role, table.take("source", _filled), **extra)
    table.done()
    return ask


def _read_match(table: _Table) -> Match:
    ask = table.take("ask", lambda value: None if value == "*" else _question(value))
    answered = table.take("answered", _flag, True)
    found = {word: table.take(word, read, ()) for word, read in REPLY_WORDS.items()}
    pairs = [pair for each in found.values() for pair in each] + [_json_check(one) for one in table.tables("json")]
    table.done()
    if bool(pairs) is not answered or (ask is None and not answered):
        raise table.error("", "needs conditions" if answered else "an unanswered question has no conditions")
    name = str(ask or "any reply")
    words = tuple(f"{name}: {word}" for word, _ in pairs) if answered else (f"{name}: not answered",)
    return Match(ask, answered, words, tuple(check for _, check in pairs), sum(len(found[word]) for word in HEAD_WORDS))


def _read_rule(table: _Table, server: str) -> Rule:
    verdict = table.take("verdict", _word(("final", "provisional", "lead")), "final")
    lead = verdict == "lead"
    rule = Rule(
        id=table.take("id", _filled),
        server=server,
        about=table.take("about", _filled),
        precedence=table.take("precedence", _whole),
        confidence=0.0 if lead else table.take("confidence", _share),
        auth=None if lead else table.take("auth", _word(_AUTH), None),
        verdict=verdict,
        matches=tuple(_read_match(one) for one in table.tables("match")),
    )
    table.done()
    if not rule.id.startswith(f"{server}."):
        raise table.error("id", f"must begin with '{server}.'")
    if not rule.matches or not rule.matches[0].answered:
        raise table.error("match", "the first block must be one about an answer")
    return rule


def _read_versions(table: _Table | None) -> tuple[VersionSource, ...]:
    if table is None:
        return ()
    first = VersionSource(
        ask=table.take("ask", _question),
        path=_path(table.take("path", _text, "")),
        header=table.take("header", _steady, None),
        strip=table.take("strip", _text, ""),
    )
    if bool(first.path) is (first.header is not None):
        raise table.error("", "needs either path or header")
    rest = tuple(source for one in table.tables("otherwise") for source in _read_versions(one))
    table.done()
    return (first, *rest)


def _read_listing(table: _Table | None) -> Listing | None:
    if table is None:
        return None
    running = table.table("running")
    key = running.take("key", _texts) if running else ()
    listing = Listing(
        ask=table.take("ask", _question),
        list=_path(table.take("list", _text, "")),
        fields=tuple(_read_fields(table.table("fields"), "") + _read_fields(table.table("extra"), "extra.")),
        key=key,
        running=_read_listing(running),
        otherwise=tuple(one for other in table.tables("otherwise") if (one := _read_listing(other))),
    )
    table.done()
    return listing


def _read_fields(table: _Table | None, prefix: str) -> list[Field]:
    if table is None:
        return []
    fields = [_read_field(table, name, prefix + name) for name in table.values]
    table.done()
    return fields


def _read_field(table: _Table, name: str, column: str) -> Field:
    own = _EXTRA if column.startswith("extra.") else _COLUMNS.get(column)
    if own is None:
        near = difflib.get_close_matches(column, _COLUMNS, 1)
        raise table.error(name, "is no column of a model" + (f"; did you mean '{near[0]}'?" if near else ""))
    value = table.take(name, lambda value: value)
    if isinstance(value, str):
        path = _path(value)
        return Field(column, path, own)
    return _read_long_field(_Table(table.file, f"{table.where}.{name}", value), column, own)


def _read_long_field(table: _Table, column: str, own: Callable[[Any], Any]) -> Field:
    path = _path(table.take("path", _text))
    convert = table.take("as", _word(tuple(CONVERTERS)), None)
    mapping = table.take("map", _mapping, None)
    strip = table.take("strip", _text, "")
    table.done()
    if sum((convert is not None, mapping is not None, bool(strip))) != 1:
        raise table.error("", "needs exactly one of as, map, strip; a path alone is written as a string")
    read = CONVERTERS[convert] if convert else _mapped(mapping) if mapping is not None else _stripped(strip, own)
    return Field(column, path, read, convert, mapping, strip)


def _wire(value: Any) -> bytes:
    """An example's reply as it was on the wire: LF in the head is CRLF there, the body is exact.

    Raises ValueError when it is no reply, or when its Content-Length would hang whoever plays it.
    """
    head, _, text = _text(value).partition("\n\n")
    body = text.encode("utf-8")
    raw = head.replace("\n", "\r\n").encode("latin-1", "replace") + b"\r\n\r\n" + body
    length = parse_reply(Question("GET", "/"), raw).header("content-length")
    if length not in (None, str(len(body))):
        raise ValueError(f"says Content-Length {length}, but its body has {len(body)} bytes")
    return raw


def _read_example(table: _Table, server: str, ports: tuple[int, ...]) -> Example:
    expect = table.table("expect") or _Table(table.file, f"{table.where}.expect", {})
    is_it = table.take("is", _flag)
    example = Example(
        name=table.take("name", _filled),
        server=server,
        is_it=is_it,
        about=table.take("about", _filled),
        expect=_read_expectation(expect, server if is_it else _REQUIRED),
        port=table.take("port", _port, ports[0]),
        replies=_read_replies(table.table("replies")),
        otherwise=table.take("otherwise", _wire, None),
    )
    table.done()
    return example


def _read_replies(table: _Table | None) -> dict[str, bytes]:
    return {} if table is None else {str(_question(ask)): table.take(ask, _wire) for ask in table.values}


def _read_expectation(table: _Table, server: Any) -> Expectation:
    expectation = Expectation(
        server=table.take("server", _text, server) or None,
        version=table.take("version", _text, None),
        rule=table.take("rule", _text, None),
        auth=table.take("auth", _word((*_AUTH, "")), None),
        proxy=table.take("proxy", _text, None),
        models=table.take("models", _texts, None),
    )
    table.done()
    return expectation


def _read_server(path: Path) -> Server:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise DataError(f"data/servers/{path.name}: cannot be read: {problem}") from None
    table = _Table(path.name, "", values)
    name = table.take("id", _filled)
    if name != path.stem:
        raise table.error("id", f"must be the name of the file, '{path.stem}'")
    ports = table.take("ports", _many(_port))
    if not ports:
        raise table.error("ports", "must name at least one port")
    server = Server(
        id=name,
        name=table.take("name", _filled),
        about=table.take("about", _filled),
        home=table.take("home", _filled),
        api=table.take("api", _word(("ollama", "openai", "other"))),
        ports=ports,
        questions=tuple(_read_ask(one) for one in table.tables("question")),
        rules=tuple(_read_rule(one, name) for one in table.tables("rule")),
        version=_read_versions(table.table("version")),
        models=_read_listing(table.table("models")),
        examples=tuple(_read_example(one, name, ports) for one in table.tables("example")),
    )
    table.done()
    return server


# --- Versions and models ---------------------------------------------------------------------------------------------


def _as_text(value: Any) -> str | None:
    if type(value) is str and value.isascii() and len(value) <= hostile.MAX_TEXT:
        return value or None  # nine of ten values: nothing to cut or to replace
    return hostile.text(value) or None


def _as_whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= hostile.MAX_INTEGER else None


def _as_time(value: Any) -> datetime | None:
    """RFC 3339 with an offset and any number of fraction digits; Go's zero time is no time."""
    if not isinstance(value, str) or value[10:11] != "T":
        return None
    try:
        if value[-1] == "Z":
            time = datetime.fromisoformat(value[:-1])
            return time if time.tzinfo is None and time.year > 1 else None
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo and time.year > 1 else None
    except (ValueError, OverflowError):
        return None


def _as_texts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(text for item in value[:MAX_LABELS] if (text := _as_text(item)))


def _as_flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_unix(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC).replace(tzinfo=None) if _as_whole(value) else None
    except (ValueError, OverflowError, OSError):
        return None


def _as_present(value: Any) -> bool:
    return value is not _MISSING and bool(value)


def _as_true_keys(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, dict):
        return None
    return tuple(text for key in list(value)[:MAX_LABELS] if value[key] is True and (text := _as_text(key)))


def _as_extra(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(_as_texts(value) or ()) or None
    return str(value) if isinstance(value, int | float) else _as_text(value)


CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "unix": _as_unix,
    "present": _as_present,
    "true_keys": _as_true_keys,
}
"""What `as` may say: whole seconds since 1970; whether anything is there; the keys of an object that are true."""

_EXTRA: Final = _as_extra
_COLUMNS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("name", "digest", "modified_at_raw", "format", "family_raw", "parameter_size"), _as_text),
    **dict.fromkeys(("quantization", "remote_model", "remote_host", "parent", "owned_by"), _as_text),
    **dict.fromkeys(("size_bytes", "n_params", "n_vocab", "context_length", "size_vram"), _as_whole),
    **dict.fromkeys(("modified_at", "expires_at"), _as_time),
    **dict.fromkeys(("families_raw", "capabilities"), _as_texts),
    **dict.fromkeys(("is_running", "is_remote"), _as_flag),
}
"""Column of `Model` -> how its value is read. A value of the wrong type is unknown."""


def _mapped(mapping: Mapping[str, Any]) -> Callable[[Any], Any]:
    return lambda value: mapping.get(value) if isinstance(value, str) else None


def _stripped(prefix: str, own: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: own(value.removeprefix(prefix)) if isinstance(value, str) else None


_Plain = tuple[str, str, Callable[[Any], Any]]
"""A column, the key that holds it, and how the value there is read."""


class _Columns:
    """The fields of a listing, arranged so that an entry is read quickly.

    Most are one key, or two keys below the same outer one, and nothing follows from their absence. These are read
    together; the others, and `extra` columns, whose order is kept, one by one.
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        plain = [one for one in fields if len(one.path) in (1, 2) and not one.extra and _is_silent(one.value)]
        self._one: tuple[_Plain, ...] = _plain(plain, ())
        outer = dict.fromkeys(one.path[0] for one in plain if len(one.path) == 2)
        self._two = tuple((key, _plain(plain, (key,))) for key in outer)
        self._other = tuple(one for one in fields if one not in plain and not one.extra)
        self._extra = tuple((one.extra, one.read) for one in fields if one.extra)

    def of(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Column -> value for what an entry says; `extra` columns are gathered under `extra`."""
        values: dict[str, Any] = {}
        _put(values, self._one, entry)
        for key, below in self._two:
            if type(inner := entry.get(key)) is dict:
                _put(values, below, inner)
        for one in self._other:
            if (value := one.read(entry)) is not None:
                values[one.column] = value
        if extra := [(name, value) for name, read in self._extra if (value := read(entry)) is not None]:
            values["extra"] = tuple(extra)
        return values


def _plain(fields: Iterable[Field], outer: tuple[str, ...]) -> tuple[_Plain, ...]:
    return tuple((one.column, one.path[-1], one.value) for one in fields if one.path[:-1] == outer)


def _is_silent(value: Callable[[Any], Any]) -> bool:
    """Nothing follows from what is null or not there."""
    return value(None) is None and value(_MISSING) is None


def _put(values: dict[str, Any], plain: tuple[_Plain, ...], entry: dict[str, Any]) -> None:
    for column, key, read in plain:
        if key in entry and (value := read(entry[key])) is not None:
            values[column] = value


def _entries(listing: Listing, views: Mapping[str, View]) -> list[dict[str, Any]] | None:
    """The entries of a listing that was answered, or None. A null list is how Go prints an empty one."""
    view = views.get(listing.asked)
    if view is None or view.reply.status != 200:
        return None
    value = _dig(view.json, listing.list)
    if value is None:
        return []
    items = [value] if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else None


def _key(listing: Listing, entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple([_as_text(entry.get(key)) for key in listing.key])


def _loaded(listing: Listing, views: Mapping[str, View]) -> dict[tuple[Any, ...], dict[str, Any]] | None:
    """Key -> columns for the models loaded now, or None when the server did not say."""
    entries = _entries(listing.running, views) if listing.running else None
    if entries is None or listing.running is None:
        return None
    columns = listing.running.columns
    return {_key(listing, entry): columns.of(entry) for entry in entries[:MAX_MODELS]}


def _read_models(listing: Listing, entries: list[dict[str, Any]], views: Mapping[str, View]) -> Iterator[Model]:
    loaded = _loaded(listing, views)
    for entry in entries[:MAX_MODELS]:
        values = listing.columns.of(entry)
        if loaded is not None:
            mine = loaded.get(_key(listing, entry)) if loaded else None
            values["is_running"] = mine is not None
            values = _joined(values, mine) if mine else values
        if values.get("name"):
            yield Model(**values)


def _joined(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
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
        value: Any = view.headers.get(source.header, "")
        value = value.removeprefix(source.strip) if value.startswith(source.strip) else None
    else:
        value = _dig(view.json, source.path) if view.reply.status == 200 else None
        value = value.removeprefix(source.strip) if isinstance(value, str) else None
    return hostile.text(value, MAX_VERSION) or None


_PROXIES: Final = (
    ("cf-ray", "", "cloudflare"),
    ("x-amz-cf-id", "", "cloudfront"),
    ("fly-request-id", "", "fly.io"),
    ("x-kong-upstream-latency", "", "kong"),
    ("x-kong-proxy-latency", "", "kong"),
    ("ngrok-trace-id", "", "ngrok"),
    ("x-vercel-id", "", "vercel"),
    ("x-nf-request-id", "", "netlify"),
    ("x-fastly-request-id", "", "fastly"),
    ("x-varnish", "", "varnish"),
    ("x-akamai-transformed", "", "akamai"),
    ("x-akamai-request-id", "", "akamai"),
    ("akamai-grn", "", "akamai"),
    ("x-azure-ref", "", "azure"),
    ("x-iinfo", "", "imperva"),
    ("server", "openresty", "openresty"),
    ("server", "nginx", "nginx"),
    ("server", "angie", "angie"),
    ("server", "freenginx", "nginx"),
    ("server", "caddy", "caddy"),
    ("server", "cloudflare", "cloudflare"),
    ("server", "cloudfront", "cloudfront"),
    ("server", "apisix", "apisix"),
    ("server", "apachetrafficserver", "traffic-server"),
    ("server", "ats", "traffic-server"),
    ("server", "apache", "apache"),
    ("server", "envoy", "envoy"),
    ("server", "istio-envoy", "envoy"),
    ("server", "tengine", "tengine"),
    ("server", "kong", "kong"),
    ("server", "lighttpd", "lighttpd"),
    ("server", "litespeed", "litespeed"),
    ("server", "openlitespeed", "litespeed"),
    ("server", "h2o", "h2o"),
    ("server", "haproxy", "haproxy"),
    ("server", "traefik", "traefik"),
    ("server", "varnish", "varnish"),
    ("server", "squid", "squid"),
    ("server", "bunnycdn", "bunnycdn"),
    ("server", "akamai", "akamai"),
    ("server", "vercel", "vercel"),
    ("server", "netlify", "netlify"),
    ("server", "fly/", "fly.io"),
    ("server", "railway", "railway"),
    ("server", "ddos-guard", "ddos-guard"),
    ("server", "sucuri", "sucuri"),
    ("server", "big-ip", "big-ip"),
    ("server", "bigip", "big-ip"),
    ("server", "awselb", "aws-elb"),
    ("server", "microsoft-iis", "iis"),
    ("server", "microsoft-httpapi", "iis"),
    ("server", "microsoft-azure-application-gateway", "azure"),
    ("server", "google frontend", "google"),
    ("x-powered-by", "arr/", "iis"),
    ("via", "1.1 caddy", "caddy"),
    ("via", "2.0 caddy", "caddy"),
    ("via", "1.1 google", "google"),
    ("via", "1.1 varnish", "varnish"),
    ("via", "1.1 kong", "kong"),
    ("via", "1.1 fly.io", "fly.io"),
    ("x-envoy-upstream-service-time", "", "envoy"),
    ("via", "", "other"),
    ("x-cache", "", "other"),
)
"""Header, start of its value in lower case, the proxy it gives away. The first row that fits decides.

The one list of proxies: rules ask for it by `signed_by`, and doubts by the proxy that was named. Source: each product's
documented default headers. What stands in a `Via` beyond that may be a host's name, so it is "other".
"""


def _proxy(headers: Mapping[str, str]) -> str | None:
    for header, start, name in _PROXIES:
        value = headers.get(header)
        if value is not None and value.lower().startswith(start):
            return name
    return None


def _signer(server: str | None, proxy: str | None) -> str:
    """One of SIGNERS. A proxy may leave the header of the program behind it, which is then another's."""
    if server is None:
        return "proxy" if proxy else "nobody"
    return "proxy" if _proxy({"server": server}) else "other"


# --- The rules -------------------------------------------------------------------------------------------------------


def _order(rule: Rule) -> tuple[int, float, str]:
    return (-rule.precedence, -rule.confidence, rule.id)


_Block = tuple[int, tuple[Check, ...]]
"""The bit of a block of conditions, and its checks."""

HEADS_REMEMBERED: Final = 512
"""Heads kept with what they decide. Nearly all servers of a kind and version have the same, but for VARYING."""

VIEWS_REMEMBERED: Final = 1024
"""Short replies kept with what they decide: greetings, versions, empty lists, pages of errors are the same for many."""

SHORT: Final = 1024
"""Bytes of a body that is kept with them: what strangers send must not fill memory."""

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
        self._head = lru_cache(HEADS_REMEMBERED)(self._read_head)
        self._short = lru_cache(VIEWS_REMEMBERED)(_short)
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
        same = tuple([name if name in _VARYING_NAMES else (name, value) for name, value in headers])
        head = self._head(asked.method, asked.path, reply.scheme, reply.status, reply.status_line, same)
        return self._short(head, reply.body) if len(reply.body) <= SHORT else View(reply, head)

    def _read_head(self, method: str, path: str, scheme: Scheme, status: int, line: str, same: tuple[Any, ...]) -> Head:
        """A head and what it decides. Of the headers in VARYING there are only the names."""
        headers = tuple((each, "") if isinstance(each, str) else each for each in same)
        head = Head(Reply(Question(method, path), scheme, status, line, headers, b""))
        bare, question = View(head.reply, head), head.reply.question
        head.bits = self.questions.get(question, 0)
        open_blocks: list[_Block] = []
        for match in self._answered:
            if match.ask in (None, question) and bare.passes(match.checks[: match.of_head]):
                rest = match.checks[match.of_head :]
                head.bits |= 0 if rest else self._bits[id(match)]
                open_blocks += [(self._bits[id(match)], rest)] if rest else []
        head.blocks = tuple(open_blocks)
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


def _short(head: Head, body: bytes) -> View:
    return View(replace(head.reply, body=body), head)


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
        return cls.of(_read_server(path) for path in paths)

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


# --- Raw bytes -------------------------------------------------------------------------------------------------------


_STATUS_LINE = re.compile(r"HTTP/\d\.\d (\d{3})(?: .*)?")


def parse_reply(question: Question, raw: bytes, scheme: Scheme = "http") -> Reply:
    """A reply from the bytes of a recording or an example: Content-Length, chunked, or to the end.

    Raises ValueError when the bytes are not an HTTP reply.
    """
    head, body = _split(raw)
    lines = [line.rstrip("\r") for line in head.decode("latin-1").split("\n")]
    found = _STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise ValueError(f"not the status line of an HTTP reply: {lines[0][:80]!r}")
    headers = tuple(
        (name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:]) if name
    )
    return Reply(question, scheme, int(found[1]), lines[0], headers, _body(headers, body))


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Head and body, whichever line ends the head has."""
    ends = [(at, len(end)) for end in (b"\r\n\r\n", b"\n\n") if (at := raw.find(end)) >= 0]
    if not ends:
        return raw.rstrip(b"\r\n"), b""
    at, length = min(ends)
    return raw[:at], raw[at + length :]


def _body(headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    lower = {name.lower(): value for name, value in headers}
    if "chunked" in lower.get("transfer-encoding", "").lower():
        return b"".join(_chunks(body))
    length = lower.get("content-length", "")
    return body[: int(length)] if length.isascii() and length.isdigit() else body


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        line, _, rest = body.partition(b"\r\n")
        size = int(line.partition(b";")[0].strip() or b"0", 16)
        if size <= 0:
            return
        yield rest[:size]
        body = rest[size + 2 :]
