"""What a host of the simulated internet answers: an example of `data/servers/`, with an inventory of its own.

Bytes are the example's. Only where a list of models stands, the host's own models are written with the server file's
`[models]` in reverse: an entry of the example is the prototype, the mapped fields are replaced, and everything else
(keys, their order, white space, the last newline, the order and case of headers) stays. A decoy is such an example
with the patches of an example of `data/suspicion.toml`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from census import hostile
from census.errors import DataError
from census.identify import Rules
from census.model import Conversation, Identity, Model, Outcome, Reply, Target
from census.replies import parse_reply
from census.server_files import Example, Field, Listing, Server, VersionSource
from census.suspect import Example as Doubted
from census.suspect import Patch, Suspicions

Planted = Mapping[str, Any]
"""One planted model: column of `Model` (or `extra.<name>`) -> value. A column that is not there stays as recorded."""

CHUNKED_ABOVE: Final = {"ollama": 2048}
"""Server -> body bytes above which its replies are chunked instead of carrying a Content-Length.

Go's net/http computes a length only for replies that fit its 2,048-byte buffer; seen in recorded replies of Ollama.
"""

_STYLES: Final[tuple[dict[str, Any], ...]] = tuple(
    {"ensure_ascii": ascii_only, **layout}
    for layout in ({"separators": (",", ":")}, {"separators": (", ", ": ")}, {"indent": 2}, {"indent": 4})
    for ascii_only in (False, True)
)
"""The ways of printing JSON that real servers use; the first that prints a recorded body again is kept."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Answer:
    """Raw bytes for one question, and whether the server closes the connection after them."""

    wire: bytes
    closes: bool


class Part:
    """The part that all hosts which play one example share: its replies, taken apart once.

    Args:
        example: what is played. server: the server program that it is, or None when it is nobody's.
    """

    def __init__(self, example: Example, server: Server | None) -> None:
        self.example = example
        self._versions = server.version if server else ()
        listing = server.models if server else None
        every = (listing, *listing.otherwise) if listing else ()
        self._lists = [one for each in every if (one := _List.of(example, each))]
        self._loaded = None
        if listing and listing.running and self._lists and self._lists[0].listing is listing:
            self._loaded = _List.of(example, listing.running, listing.fields)
        self._by_ask = {str(one.listing.ask): one for one in (*self._lists, self._loaded) if one}
        self._recorded: dict[tuple[str, str], Answer | None] = {}
        self._chunked_above = CHUNKED_ABOVE.get(example.server)

    def answer(
        self, method: str, path: str, inventory: Sequence[Planted] | None, version: str | None = None
    ) -> Answer | None:
        """The reply to one question; None when the server just hangs up.

        Args:
            inventory: the host's models in its order, or None for the models of the example.
            version: another release that answers alike, or None for the version of the example.
        """
        if version is not None and (stated := self._version_at(method, path)):
            return self._stating(stated, version, method)
        source = self._list_for(method, path)
        if source is None or inventory is None:
            return self._as_recorded(method, path)
        mine = inventory if source is not self._loaded else [one for one in inventory if one.get("is_running")]
        return self._send(source.head, source.written(mine), method == "HEAD")

    def _version_at(self, method: str, path: str) -> VersionSource | None:
        asked = method in ("GET", "HEAD") and f"GET {path}" in self.example.replies
        return next((one for one in self._versions if asked and str(one.ask) == f"GET {path}" and one.path), None)

    def _stating(self, source: VersionSource, version: str, method: str) -> Answer:
        """The recorded reply with another version in the place where a census reads it."""
        head, body = _cut(self.example.replies[str(source.ask)])
        text = _joined(body).decode("utf-8")
        document = json.loads(text)
        style, tail = _style(document, text.rstrip()), text[len(text.rstrip()) :]
        stated = _with(document, source.path, source.strip + version)
        return self._send(head, (json.dumps(stated, **style) + tail).encode(), method == "HEAD")

    def _list_for(self, method: str, path: str) -> _List | None:
        """The list that a question reads; a HEAD that was recorded by itself is none."""
        by_itself = method == "HEAD" and f"HEAD {path}" in self.example.replies
        return None if by_itself or method not in ("GET", "HEAD") else self._by_ask.get(f"GET {path}")

    def _as_recorded(self, method: str, path: str) -> Answer | None:
        known = f"{method} {path}" in self.example.replies or f"GET {path}" in self.example.replies
        question = (method, path if known else "*")
        if question not in self._recorded:
            self._recorded[question] = self._recall(method, path)
        return self._recorded[question]

    def _recall(self, method: str, path: str) -> Answer | None:
        replies = self.example.replies
        raw = replies.get(f"{method} {path}")
        if raw is None and method == "HEAD":
            raw = replies.get(f"GET {path}")
        raw = self.example.otherwise if raw is None else raw
        if raw is None:
            return None
        head, body = _cut(raw)
        if method != "HEAD" and not _is_chunked(head):
            return Answer(raw, _closes(head))
        return self._send(head, _joined(body), method == "HEAD", exact=True)

    def _send(self, head: bytes, body: bytes, head_only: bool, *, exact: bool = False) -> Answer:
        large = self._chunked_above is not None and len(body) > self._chunked_above
        chunked = _is_chunked(head) if exact or self._chunked_above is None else large
        framed = head if exact else _framed_head(head, len(body), chunked)
        wire = framed if head_only else framed + (_one_chunk(body) if chunked else body)
        return Answer(wire, _closes(head))

    def can_list(self, remote: bool) -> bool:
        """Whether this example has an entry to copy for a local or a remote model."""
        return bool(self._lists) and remote in self._lists[0].moulds

    @property
    def can_load(self) -> bool:
        """Whether this example has an entry to copy for a model loaded now."""
        return self._loaded is not None and False in self._loaded.moulds

    def visible(self, inventory: Sequence[Planted] | None) -> tuple[Model, ...] | None:
        """What a census can learn of an inventory: the columns that this server and version tell, the others None.

        None when the server does not list its models to a stranger.
        """
        if not self._lists:
            return None
        first = self._lists[0]
        if inventory is None:
            return tuple(self._joined(values, self._loaded_as_recorded(entry)) for entry, values in first.recorded())
        return tuple(self._joined(first.told(one), self._loaded_as_planted(one)) for one in inventory)

    def _joined(self, values: dict[str, Any], loaded: dict[str, Any] | None) -> Model:
        """A model from its entry and, where it is loaded, its entry in the list of loaded models."""
        if self._loaded is not None:
            values["is_running"] = loaded is not None
        return Model(
            **_gathered({**values, **{key: value for key, value in (loaded or {}).items() if key not in values}})
        )

    def _loaded_as_planted(self, planted: Planted) -> dict[str, Any] | None:
        return self._loaded.told(planted) if self._loaded and planted.get("is_running") else None

    def _loaded_as_recorded(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        if self._loaded is None:
            return None
        keys = self._lists[0].listing.key
        alike = (
            values for one, values in self._loaded.recorded() if all(one.get(key) == entry.get(key) for key in keys)
        )
        return next(alike, None)


@dataclass(frozen=True)
class _List:
    """One recorded reply that lists models. `fields` are those written: a list of loaded models repeats the others'."""

    listing: Listing
    fields: tuple[Field, ...]
    head: bytes
    document: Any
    style: dict[str, Any]
    tail: str

    @classmethod
    def of(cls, example: Example, listing: Listing, more: tuple[Field, ...] = ()) -> _List | None:
        """None when the example does not answer the question with 200 and JSON."""
        raw = example.replies.get(str(listing.ask))
        if raw is None or raw.split(b" ", 2)[1:2] != [b"200"]:
            return None
        head, body = _cut(raw)
        text = _joined(body).decode("utf-8")
        try:
            document = json.loads(text)
        except ValueError:
            return None
        return cls(
            listing,
            (*more, *listing.fields),
            head,
            document,
            _style(document, text.rstrip()),
            text[len(text.rstrip()) :],
        )

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The recorded entries."""
        value = self.document
        for step in self.listing.list:
            value = value.get(step) if isinstance(value, dict) else None
        return [value] if isinstance(value, dict) else list(value or [])

    @cached_property
    def moulds(self) -> dict[bool, _Mould]:
        """For local (False) and remote (True) models: the first recorded entry of that kind, if there is one."""
        markers = [field.path for field in self.fields if field.column in ("remote_host", "remote_model")]
        first: dict[bool, _Mould] = {}
        for entry in self.entries:
            kinds = [any(_has(entry, path) for path in markers)] if markers else [False, True]
            for remote in kinds:
                first.setdefault(remote, _Mould.of(entry, self.fields, self.listing.fields))
        return first

    def written(self, inventory: Iterable[Planted]) -> bytes:
        """The reply's body with other models."""
        entries = [self.moulds[bool(planted.get("is_remote"))].cast(planted) for planted in inventory]
        listed = entries[0] if isinstance(_get(self.document, self.listing.list), dict) else entries
        text = json.dumps(_with(self.document, self.listing.list, listed), **self.style) + self.tail
        return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8")

    def told(self, planted: Planted) -> dict[str, Any]:
        """Column -> value for what the entry of a planted model says."""
        mould = self.moulds[bool(planted.get("is_remote"))]
        return mould.recorded | {column: planted[column] for column in mould.planted if column in planted}

    def recorded(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Each entry as recorded, with column -> value for what it says."""
        return [(one, {field.column: field.read(one) for field in self.listing.fields}) for one in self.entries]


@dataclass(frozen=True, slots=True)
class _Mould:
    """A recorded entry that others are cast from.

    Attributes:
        name: the name of its model. fields: those that it has, and so can be given other values.
        recorded: column -> value as recorded. planted: columns whose value is the planted one instead.
    """

    entry: dict[str, Any]
    name: str | None
    fields: tuple[Field, ...]
    recorded: dict[str, Any]
    planted: tuple[str, ...]

    @classmethod
    def of(cls, entry: dict[str, Any], written: Sequence[Field], told: Sequence[Field]) -> _Mould:
        told_as_is = (field for field in written if field.convert != "present" and field.mapping is None)
        fields = tuple(field for field in told_as_is if _has(entry, field.path))
        name = next((_get(entry, field.path) for field in fields if field.column == "name"), None)
        recorded = {field.column: field.read(entry) for field in told}
        return cls(entry, name, fields, recorded, tuple(field.column for field in told if field in fields))

    def cast(self, planted: Planted) -> dict[str, Any]:
        """An entry for a planted model."""
        entry: dict[str, Any] = _renamed(self.entry, self.name, planted["name"])
        for field in self.fields:
            if field.column in planted:
                _get(entry, field.path[:-1])[field.path[-1]] = _wire(field, planted)
        return entry


# --- A planted value on the wire -------------------------------------------------------------------------------------


def _wire(field: Field, planted: Planted) -> Any:
    """The JSON value that a field of the wire gets; `identify` reads the column back from it."""
    value = planted[field.column]
    if field.convert == "unix":
        return int(value.replace(tzinfo=UTC).timestamp())
    if field.column in ("modified_at", "expires_at"):
        return planted[f"{field.column}_raw"]
    if field.strip:
        return field.strip + str(value)
    return list(value) if isinstance(value, tuple) else value


def _renamed(value: Any, old: Any, new: str) -> Any:
    """A deep copy in which the prototype's name, wherever it stands alone, is the new one (`model`, `aliases`)."""
    if isinstance(value, dict):
        return {key: _renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    return new if value == old and isinstance(value, str) else value


def _gathered(values: dict[str, Any]) -> dict[str, Any]:
    """Columns as a census must keep them: texts bounded, `extra.<name>` gathered, what is unknown left out."""
    bounded = {column: hostile.text(value) if isinstance(value, str) else value for column, value in values.items()}
    known = {column: value for column, value in bounded.items() if value not in (None, "")}
    extra = tuple((column[6:], str(known.pop(column))) for column in tuple(known) if column.startswith("extra."))
    return {**known, "extra": extra}


def _has(entry: Any, path: Sequence[str]) -> bool:
    for step in path:
        if not isinstance(entry, dict) or step not in entry:
            return False
        entry = entry[step]
    return True


def _get(entry: Any, path: Sequence[str]) -> Any:
    for step in path:
        entry = entry[step]
    return entry


def _with(entry: Any, path: Sequence[str], value: Any) -> Any:
    """A copy with another value at a path; what is beside the path is shared with the original."""
    if not path:
        return value
    return {**entry, path[0]: _with(entry[path[0]], path[1:], value)}


# --- Decoys -----------------------------------------------------------------------------------------------------------

OTHERWISE: Final = "otherwise"
"""How a patch calls the reply to every path that an example does not name."""

VISITED_AT: Final = datetime(2026, 11, 22, 12)
"""When examples are visited; no reason to doubt looks at it."""


class Stage:
    """Plays the examples of `data/suspicion.toml` as a whole scan would ask them."""

    def __init__(self, rules: Rules, suspicions: Suspicions) -> None:
        self._rules, self._suspicions = rules, suspicions
        self._recorded = {example.name: example for example in rules.examples()}

    def decoys(self) -> dict[str, Example]:
        """Hosts that together give every reason to doubt: `decoy/<reason>` at score 2, `oddity/<reason>` at 1."""
        return {
            f"{'decoy' if score == 2 else 'oddity'}/{example.name.rpartition('-')[0]}": self.known(example)
            for example, score in self._suspicions.cover(self.hear)
        }

    def known(self, doubted: Doubted) -> Example:
        """The forged example, expecting to be called what the rules call it."""
        example, (_, found) = self.forge(doubted), self.hear(doubted)
        expect = replace(example.expect, server=found.server, version=found.version or "", rule=found.rule)
        return replace(example, expect=replace(expect, auth=found.auth, proxy=found.proxy, models=None))

    def hear(self, doubted: Doubted) -> tuple[Conversation, Identity]:
        """The conversation of a scan with a forged example, and what was identified in it."""
        example, replies = self.forge(doubted), list[Reply]()
        target, plan = Target("192.0.2.1", example.port), self._suspicions.plan(self._rules)
        while (question := plan(target, replies)) and (raw := example.answer(question)) is not None:
            replies.append(parse_reply(question, raw))
        conversation = Conversation(target, Outcome.SUCCESS, VISITED_AT, tuple(replies))
        return conversation, self._rules.identify(target, replies)

    def forge(self, doubted: Doubted) -> Example:
        """The recorded example with the patches. Raises DataError for one that fits nothing."""
        recorded = self._recorded.get(doubted.of)
        if recorded is None:
            raise DataError(f"suspicion.toml: example {doubted.name!r}: data/servers/ has no example {doubted.of!r}")
        wires = {**recorded.replies, **({} if recorded.otherwise is None else {OTHERWISE: recorded.otherwise})}
        for patch in doubted.patches:
            changed = {on: _patched(wire, patch, wires) for on, wire in wires.items() if patch.on in (on, "*")}
            if all(wires[on] == wire for on, wire in changed.items()):
                raise DataError(f"suspicion.toml: example {doubted.name!r}: nothing to change on {patch.on!r}: {patch}")
            wires |= changed
        otherwise = wires.pop(OTHERWISE, None)
        return replace(recorded, name=doubted.name, about=doubted.about, replies=wires, otherwise=otherwise)


def _patched(wire: bytes, patch: Patch, wires: Mapping[str, bytes]) -> bytes:
    """A raw reply with one change, and a Content-Length that is right again. A missing `copy` changes nothing."""
    if patch.copy is not None:
        return wires.get(patch.copy, wire)
    if patch.body is not None:
        head, body = _cut(wire)[0], patch.body.encode()
    else:
        head, body = _cut(wire.replace((patch.find or "").encode(), (patch.put or "").encode()))
    return _framed_head(head, len(body), _is_chunked(head)) + body


# --- Raw bytes -------------------------------------------------------------------------------------------------------


def _style(document: Any, text: str) -> dict[str, Any]:
    return next((style for style in _STYLES if json.dumps(document, **style) == text), _STYLES[0])


def _cut(raw: bytes) -> tuple[bytes, bytes]:
    """Head with its empty line, and body."""
    at = raw.index(b"\r\n\r\n") + 4
    return raw[:at], raw[at:]


def _is_chunked(head: bytes) -> bool:
    return b"\r\ntransfer-encoding: chunked" in head.lower()


def _closes(head: bytes) -> bool:
    lower = head.lower()
    endless = b"\r\ncontent-length:" not in lower and b"\r\ntransfer-encoding:" not in lower
    if lower.startswith(b"http/1.0"):
        return b"\r\nconnection: keep-alive" not in lower
    bodiless = lower.split(b" ", 2)[1][:3] in (b"204", b"304")
    return b"\r\nconnection: close" in lower or (endless and not bodiless)


_FRAMING: Final = re.compile(rb"\r\n(content-length|transfer-encoding): [^\r]*", re.IGNORECASE)


def _framed_head(head: bytes, length: int, chunked: bool) -> bytes:
    """The head with the framing of this body, in the place and spelling of the recorded one."""

    def framing(found: re.Match[bytes]) -> bytes:
        name = found[1] if (found[1].lower() == b"transfer-encoding") is chunked else _spelled(found[1], chunked)
        return b"\r\n" + name + b": " + (b"chunked" if chunked else str(length).encode())

    return _FRAMING.sub(framing, head, count=1)


def _spelled(like: bytes, chunked: bool) -> bytes:
    name = b"Transfer-Encoding" if chunked else b"Content-Length"
    return name.lower() if like.islower() else name


def _one_chunk(body: bytes) -> bytes:
    """A body in chunked framing, as Go writes what it is given at once."""
    return (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


def _joined(body: bytes) -> bytes:
    """A body without chunked framing, whether it was recorded with or without it."""
    rest, parts = body, list[bytes]()
    while found := re.match(rb"([0-9a-fA-F]+)\r\n", rest):
        size, start = int(found[1], 16), found.end()
        if size == 0:
            return b"".join(parts)
        parts.append(rest[start : start + size])
        rest = rest[start + size + 2 :]
    return body
