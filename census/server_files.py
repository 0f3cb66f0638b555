"""`data/servers/*.toml` -> Server: what to ask, what must hold, where versions and models stand, examples.

Here are the nouns of those files, their reading, and the reading of the entries that they describe; no rule is judged.
"""

from __future__ import annotations

import difflib
import marshal
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from census import hostile
from census import server_toml as toml
from census.conditions import HEAD_WORDS, REPLY_WORDS, json_check
from census.errors import DataError
from census.model import Auth, Question
from census.replies import MISSING, VARYING, Check, dig, parse_reply

MAX_LABELS: Final = 64
"""Items kept of a model's list of families or capabilities. Real lists have fewer than ten."""

Verdict = Literal["final", "provisional", "lead"]


# --- The nouns -------------------------------------------------------------------------------------------------------


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
        return self.value(dig(entry, self.path))


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


def _steady(value: Any) -> str:
    if (name := toml.text(value).lower()) in VARYING:
        raise ValueError(f"'{name}' differs from reply to reply: nothing of the server can be read in it")
    return name


# --- Reading the files -----------------------------------------------------------------------------------------------


_AUTH: Final = ("open", "key-required", "refused", "login-page")


def _read_ask(table: toml.Table) -> Ask:
    role = table.take("role", toml.word(("open", "follow")))
    extra: dict[str, Any] = {}
    if role == "open":
        extra = {"ports": table.take("ports", toml.many(toml.port), ()), "rank": table.take("rank", toml.whole)}
    else:
        extra = {key: frozenset(table.take(key, toml.texts, ())) for key in ("when", "unless")}
    ask = Ask(table.take("ask", toml.question), role, table.take("source", toml.filled), **extra)
    table.done()
    return ask


def _read_match(table: toml.Table) -> Match:
    ask = table.take("ask", lambda value: None if value == "*" else toml.question(value))
    answered = table.take("answered", toml.flag, True)
    found = {word: table.take(word, read, ()) for word, read in REPLY_WORDS.items()}
    pairs = [pair for each in found.values() for pair in each] + [json_check(one) for one in table.tables("json")]
    table.done()
    if bool(pairs) is not answered or (ask is None and not answered):
        raise table.error("", "needs conditions" if answered else "an unanswered question has no conditions")
    name = str(ask or "any reply")
    words = tuple(f"{name}: {word}" for word, _ in pairs) if answered else (f"{name}: not answered",)
    return Match(ask, answered, words, tuple(check for _, check in pairs), sum(len(found[word]) for word in HEAD_WORDS))


def _read_rule(table: toml.Table, server: str) -> Rule:
    verdict = table.take("verdict", toml.word(("final", "provisional", "lead")), "final")
    lead = verdict == "lead"
    rule = Rule(
        id=table.take("id", toml.filled),
        server=server,
        about=table.take("about", toml.filled),
        precedence=table.take("precedence", toml.whole),
        confidence=0.0 if lead else table.take("confidence", toml.share),
        auth=None if lead else table.take("auth", toml.word(_AUTH), None),
        verdict=verdict,
        matches=tuple(_read_match(one) for one in table.tables("match")),
    )
    table.done()
    if not rule.id.startswith(f"{server}."):
        raise table.error("id", f"must begin with '{server}.'")
    if not rule.matches or not rule.matches[0].answered:
        raise table.error("match", "the first block must be one about an answer")
    return rule


def _read_versions(table: toml.Table | None) -> tuple[VersionSource, ...]:
    if table is None:
        return ()
    first = VersionSource(
        ask=table.take("ask", toml.question),
        path=toml.path(table.take("path", toml.text, "")),
        header=table.take("header", _steady, None),
        strip=table.take("strip", toml.text, ""),
    )
    if bool(first.path) is (first.header is not None):
        raise table.error("", "needs either path or header")
    rest = tuple(source for one in table.tables("otherwise") for source in _read_versions(one))
    table.done()
    return (first, *rest)


def _read_listing(table: toml.Table | None) -> Listing | None:
    if table is None:
        return None
    running = table.table("running")
    key = running.take("key", toml.texts) if running else ()
    listing = Listing(
        ask=table.take("ask", toml.question),
        list=toml.path(table.take("list", toml.text, "")),
        fields=tuple(_read_fields(table.table("fields"), "") + _read_fields(table.table("extra"), "extra.")),
        key=key,
        running=_read_listing(running),
        otherwise=tuple(one for other in table.tables("otherwise") if (one := _read_listing(other))),
    )
    table.done()
    return listing


def _read_fields(table: toml.Table | None, prefix: str) -> list[Field]:
    if table is None:
        return []
    fields = [_read_field(table, name, prefix + name) for name in table.values]
    table.done()
    return fields


def _read_field(table: toml.Table, name: str, column: str) -> Field:
    own = _EXTRA if column.startswith("extra.") else _COLUMNS.get(column)
    if own is None:
        near = difflib.get_close_matches(column, _COLUMNS, 1)
        raise table.error(name, "is no column of a model" + (f"; did you mean '{near[0]}'?" if near else ""))
    value = table.take(name, lambda value: value)
    if isinstance(value, str):
        path = toml.path(value)
        return Field(column, path, own)
    return _read_long_field(toml.Table(table.file, f"{table.where}.{name}", value), column, own)


def _read_long_field(table: toml.Table, column: str, own: Callable[[Any], Any]) -> Field:
    path = toml.path(table.take("path", toml.text))
    convert = table.take("as", toml.word(tuple(CONVERTERS)), None)
    mapping = table.take("map", toml.mapping, None)
    strip = table.take("strip", toml.text, "")
    table.done()
    if sum((convert is not None, mapping is not None, bool(strip))) != 1:
        raise table.error("", "needs exactly one of as, map, strip; a path alone is written as a string")
    read = CONVERTERS[convert] if convert else _mapped(mapping) if mapping is not None else _stripped(strip, own)
    return Field(column, path, read, convert, mapping, strip)


def _wire(value: Any) -> bytes:
    """An example's reply as it was on the wire: LF in the head is CRLF there, the body is exact.

    Raises ValueError when it is no reply, or when its Content-Length would hang whoever plays it.
    """
    head, _, text = toml.text(value).partition("\n\n")
    body = text.encode("utf-8")
    raw = head.replace("\n", "\r\n").encode("latin-1", "replace") + b"\r\n\r\n" + body
    length = parse_reply(Question("GET", "/"), raw).header("content-length")
    if length not in (None, str(len(body))):
        raise ValueError(f"says Content-Length {length}, but its body has {len(body)} bytes")
    return raw


def _read_example(table: toml.Table, server: str, ports: tuple[int, ...]) -> Example:
    expect = table.table("expect") or toml.Table(table.file, f"{table.where}.expect", {})
    is_it = table.take("is", toml.flag)
    example = Example(
        name=table.take("name", toml.filled),
        server=server,
        is_it=is_it,
        about=table.take("about", toml.filled),
        expect=_read_expectation(expect, server if is_it else toml.REQUIRED),
        port=table.take("port", toml.port, ports[0]),
        replies=_read_replies(table.table("replies")),
        otherwise=table.take("otherwise", _wire, None),
    )
    table.done()
    return example


def _read_replies(table: toml.Table | None) -> dict[str, bytes]:
    return {} if table is None else {_asked(table, ask): table.take(ask, _wire) for ask in table.values}


def _asked(table: toml.Table, ask: str) -> str:
    try:
        return str(toml.question(ask))
    except ValueError as problem:
        raise table.error(ask, str(problem)) from None


def _read_expectation(table: toml.Table, server: Any) -> Expectation:
    expectation = Expectation(
        server=table.take("server", toml.text, server) or None,
        version=table.take("version", toml.text, None),
        rule=table.take("rule", toml.text, None),
        auth=table.take("auth", toml.word((*_AUTH, "")), None),
        proxy=table.take("proxy", toml.text, None),
        models=table.take("models", toml.texts, None),
    )
    table.done()
    return expectation


def read_server(path: Path) -> Server:
    """One file of `data/servers/`. Raises DataError with file, key and reason."""
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise DataError(f"data/servers/{path.name}: cannot be read: {problem}") from None
    table = toml.Table(path.name, "", values)
    name = table.take("id", toml.filled)
    if name != path.stem:
        raise table.error("id", f"must be the name of the file, '{path.stem}'")
    ports = table.take("ports", toml.many(toml.port))
    if not ports:
        raise table.error("ports", "must name at least one port")
    server = Server(
        id=name,
        name=table.take("name", toml.filled),
        about=table.take("about", toml.filled),
        home=table.take("home", toml.filled),
        api=table.take("api", toml.word(("ollama", "openai", "other"))),
        ports=ports,
        questions=tuple(_read_ask(one) for one in table.tables("question")),
        rules=tuple(_read_rule(one, name) for one in table.tables("rule")),
        version=_read_versions(table.table("version")),
        models=_read_listing(table.table("models")),
        examples=tuple(_read_example(one, name, ports) for one in table.tables("example")),
    )
    table.done()
    return server


# --- Values and entries ----------------------------------------------------------------------------------------------


def as_text(value: Any) -> str | None:
    """A string fit to be stored; None for an empty one and for anything else."""
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
        ahead = time.utcoffset()
        return time.replace(tzinfo=None) - ahead if ahead is not None and time.year > 1 else None
    except (ValueError, OverflowError):
        return None


def _as_texts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(text for item in value[:MAX_LABELS] if (text := as_text(item)))


def _as_flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_unix(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC).replace(tzinfo=None) if _as_whole(value) else None
    except (ValueError, OverflowError, OSError):
        return None


def _as_present(value: Any) -> bool:
    return value is not MISSING and bool(value)


def _as_true_keys(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, dict):
        return None
    return tuple(text for key in list(value)[:MAX_LABELS] if value[key] is True and (text := as_text(key)))


def _as_extra(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(_as_texts(value) or ()) or None
    return str(value) if isinstance(value, int | float) else as_text(value)


CONVERTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "unix": _as_unix,
    "present": _as_present,
    "true_keys": _as_true_keys,
}
"""What `as` may say: whole seconds since 1970; whether anything is there; the keys of an object that are true."""

_EXTRA: Final = _as_extra

_COLUMNS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("name", "digest", "modified_at_raw", "format", "family_raw", "parameter_size"), as_text),
    **dict.fromkeys(("quantization", "remote_model", "remote_host", "parent", "owned_by"), as_text),
    **dict.fromkeys(("size_bytes", "n_params", "n_vocab", "context_length", "size_vram"), _as_whole),
    **dict.fromkeys(("modified_at", "expires_at"), _as_time),
    **dict.fromkeys(("families_raw", "capabilities"), _as_texts),
    **dict.fromkeys(("is_running", "is_remote"), _as_flag),
}
"""Column of `Model` -> how its value is read. A value of the wrong type is unknown."""

_OWN: Final = frozenset({_as_time, _as_unix})
"""Readers of what hosts do not share, though they have the same model."""


def _mapped(mapping: Mapping[str, Any]) -> Callable[[Any], Any]:
    return lambda value: mapping.get(value) if isinstance(value, str) else None


def _stripped(prefix: str, own: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: own(value.removeprefix(prefix)) if isinstance(value, str) else None


_Plain = tuple[str, str, Callable[[Any], Any]]
"""A column, the key that holds it, and how the value there is read."""

ENTRIES_REMEMBERED: Final = 4096
"""Entries of lists kept with what they say: most models are on many hosts, alike but for their times."""

ENTRY_BYTES: Final = 1024
"""Longer entries are read anew each time: what strangers send must not fill memory. Real ones have some 400."""


class _Columns:
    """The fields of a listing, arranged so that an entry is read quickly.

    What an entry says beside its times is remembered, by all that stands in it beside them. Most fields are one key,
    or two keys below the same outer one, and nothing follows from their absence. These are read together; the others,
    and `extra` columns, whose order is kept, one by one.
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        keys = dict.fromkeys(one.path[0] for one in fields if one.value in _OWN and len(one.path) == 1)
        own = [one for one in fields if one.path[0] in keys]
        self._own = tuple((key, _plain([one for one in own if one.path == (key,)], ())) for key in keys)
        if any(len(one.path) > 1 or one.extra or not _is_silent(one.value) for one in own):
            self._own, own = (), []
        fields = tuple(one for one in fields if one not in own)
        plain = [one for one in fields if len(one.path) in (1, 2) and not one.extra and _is_silent(one.value)]
        self._one: tuple[_Plain, ...] = _plain(plain, ())
        outer = dict.fromkeys(one.path[0] for one in plain if len(one.path) == 2)
        self._two = tuple((key, _plain(plain, (key,))) for key in outer)
        self._other = tuple(one for one in fields if one not in plain and not one.extra)
        self._extra = tuple((one.extra, one.read) for one in fields if one.extra)
        self._remembered: dict[bytes, dict[str, Any]] = {}

    def of(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Column -> value for what an entry says; `extra` columns are gathered under `extra`."""
        rest, values = entry.copy(), dict[str, Any]()
        for key, fields in self._own:
            if key in rest:
                _put(values, fields, rest)
                del rest[key]
        return {**self._rest(rest), **values}

    def _rest(self, entry: dict[str, Any]) -> dict[str, Any]:
        mark = marshal.dumps(entry, 0)  # tells 1 from true and 1.0, which a comparison would not
        values = self._remembered.get(mark)
        if values is None:
            values = self._read(entry)
            if len(mark) <= ENTRY_BYTES:
                if len(self._remembered) >= ENTRIES_REMEMBERED:
                    self._remembered.clear()
                self._remembered[mark] = values
        return values

    def _read(self, entry: dict[str, Any]) -> dict[str, Any]:
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
    return value(None) is None and value(MISSING) is None


def _put(values: dict[str, Any], plain: tuple[_Plain, ...], entry: dict[str, Any]) -> None:
    for column, key, read in plain:
        if key in entry and (value := read(entry[key])) is not None:
            values[column] = value
