"""Reasons to doubt a host: decoys, clones, imitations. Reads `data/suspicion.toml`; a doubt never removes a host.

A reason names one of the tests below and its parameters. A test sees one conversation and what was identified in it,
and answers whether the sign is there; it says nothing when the evidence is missing. What only many conversations
show, one inventory on many networks, is judged when a run is published (`[[together]]`; the report is `fleets`).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Protocol

from census import hostile, resources
from census.errors import DataError
from census.hostile import Unreadable, read_json
from census.model import Conversation, Doubt, Identity, Model, Plan, Question, Reply, Target, Together

WEAK: Final = 0.5
"""Confidence at or below which a server is known by the shape of its answers alone."""

MIN_ANSWERS: Final = 2
"""Answers that make a host look like one that answers everything: one alone says nothing."""

_GO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-](?!00:00)\d\d:\d\d)")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(-rc)?(.?)")
_SPACED = re.compile(rb'^\s*[\[{]\s*"[^"]*": ')
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_RUN = 12
_PLACES = range(0, 60, _RUN)

MILLISECOND: Final = 0.001
"""Seconds by which steps between times may differ and still be equal."""

With = Mapping[str, Any]
Numbers = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Version:
    """A stated version, and how much it says: `0.9.1` is that release, `0.9.1-rc0` comes before it, and anything else
    after the numbers (`0.9.1-7-gabcdef0`) is a build that may hold what came later."""

    numbers: Numbers
    is_candidate: bool = False
    is_build: bool = False

    @classmethod
    @lru_cache(1024)
    def read(cls, text: str | None) -> Version | None:
        """None when unstated, unreadable, or `0.0.0`, the mark of builds that were not told their version."""
        match = _VERSION.match(text or "")
        if match is None or (numbers := (int(match[1]), int(match[2]), int(match[3]))) == (0, 0, 0):
            return None
        return cls(numbers, bool(match[4]), not match[4] and bool(match[5]))

    def holds(self, release: Numbers) -> bool:
        """It certainly has what came with this release."""
        return self.numbers > release if self.is_candidate else self.numbers >= release

    def precedes(self, release: Numbers) -> bool:
        """It certainly lacks what came with this release."""
        return not self.is_build and self.numbers < release


class Reading(Protocol):
    """A conversation as the stage that identifies has read it; handed in, because stages do not know each other."""

    def next_question(self, target: Target, replies: Sequence[Reply]) -> Question | None: ...
    def identify(self, target: Target, replies: Sequence[Reply]) -> Identity: ...
    def head(self, reply: Reply) -> Hashable:
        """Equal for replies to one question whose heads differ in the values of VARYING at most."""

    def body(self, reply: Reply) -> Any:
        """The parsed body; None where it is null or unreadable."""


class Case:
    """One conversation under examination. What several tests look at is worked out at most once."""

    def __init__(self, replies: Sequence[Reply], identity: Identity, read: Callable[[Reply], Any]) -> None:
        self.replies = replies
        self.identity = identity
        self.models = [m for m in identity.models or () if not m.is_remote]
        self.version = Version.read(identity.version)
        self.read = read
        self._headers: dict[str, list[str]] = {}
        self._bodies: dict[str, Any] = {}
        self._kinds: dict[str, list[dict[str, Any]]] = {}
        self.by_ask = {f"{reply.question.method} {reply.question.path}": reply for reply in replies}
        """The latest reply to each question, by its text."""

    def headers(self, name: str) -> list[str]:
        """The values of a header (its name in lower case) over all replies, in lower case."""
        if name not in self._headers:
            all_headers = (header for reply in self.replies for header in reply.headers)
            self._headers[name] = [value.lower() for key, value in all_headers if key.lower() == name]
        return self._headers[name]

    def body(self, ask: str) -> Any:
        """The parsed body of a question answered with 200, or None."""
        if ask not in self._bodies:
            reply = self.by_ask.get(ask)
            self._bodies[ask] = self.read(reply) if reply is not None and reply.status == 200 else None
        return self._bodies[ask]

    def entries(self, ask: str, name: str = "models") -> list[dict[str, Any]]:
        """The objects in a list of a body; [] when there is none."""
        return _objects(self.body(ask), name)

    def kinds(self, ask: str) -> list[dict[str, Any]]:
        """Of the entries that have the same keys in the same order, below `details` too, the first."""
        if ask not in self._kinds:
            self._kinds[ask] = list(_kinds(self.body(ask)).values())
        return self._kinds[ask]

    def clock(self, ask: str) -> datetime | None:
        """The server's own time when it answered a question; None when it does not say."""
        reply = self.by_ask.get(ask)
        text = reply.header("date") if reply is not None else None
        return (_clock(text) if len(text) <= CLOCK_TEXT else _read_clock(text)) if text else None


CLOCK_TEXT: Final = 64
"""Characters of a date whose reading is remembered: hosts asked in the same second say the same."""


def _read_clock(text: str) -> datetime | None:
    try:
        time = parsedate_to_datetime(text)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else None
    except (ValueError, OverflowError):
        return None


_clock = lru_cache(1024)(_read_clock)


def _parsed(reply: Reply) -> Any:
    try:
        return read_json(reply.body)
    except Unreadable:
        return None


def _objects(body: Any, name: str) -> list[dict[str, Any]]:
    found = body.get(name) if isinstance(body, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _kinds(body: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The keys of an entry and of its `details`, in order -> the first of the models that have just these."""
    kinds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in _objects(body, "models"):
        details = entry.get("details")
        kinds.setdefault((*entry, *details) if type(details) is dict else (*entry, None), entry)
    return kinds


def _shape(body: Any, sent: bytes) -> Hashable:
    """All that the tests of shape see of a body: equal shapes are judged alike. `sent` is the same, unread."""
    if type(body) is not dict:
        return None
    kinds = _kinds(body)
    if b"null" in sent:
        return tuple(body), tuple([(keys, len(entry), _nulls(entry)) for keys, entry in kinds.items()])
    return tuple(body), tuple([(keys, len(entry)) for keys, entry in kinds.items()])


def _nulls(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of an entry, and of its `details`, without a value."""
    details = entry.get("details")
    inner = details if type(details) is dict else {}
    return (*(key for key in entry if entry[key] is None), ".", *(key for key in inner if inner[key] is None))


def _field(entry: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = entry
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


# --- The head of a reply ---------------------------------------------------------------------------------------------


def _header(case: Case, w: With) -> bool:
    return any(value.startswith(w["prefix"]) for value in case.headers(w["name"]))


def _protocol(case: Case, w: With) -> bool:
    """HTTP of a version, in any reply, or in those with a Server header that begins so."""
    for reply in case.replies:
        if reply.status_line.startswith(w["prefix"]):
            return "server" not in w or any(value.startswith(w["server"]) for value in case.headers("server"))
    return False


def _content_type(case: Case, w: With) -> bool:
    replies = [r for r in case.replies if r.status == 200 and r.question.path.startswith(w["path"])]
    return any(reply.header("content-type") != w["equals"] for reply in replies)


# --- How the JSON is printed -----------------------------------------------------------------------------------------


def _spaced_json(reply: Reply, w: With) -> bool:
    return reply.status == 200 and _SPACED.match(reply.body, 0, 256) is not None


def _key_order(case: Case, w: With) -> bool:
    return any(_disordered(entry, each["rank"]) for each in w["lists"] for entry in case.kinds(each["ask"]))


def _disordered(entry: Mapping[str, Any], rank: Mapping[str, int]) -> bool:
    known = [rank[key] for key in entry if key in rank]
    return known != sorted(known)


def _keys_beside(case: Case, w: With) -> bool:
    body = case.body(w["ask"])
    return isinstance(body, dict) and not body.keys() <= set(w["keys"])


def _keys_present(case: Case, w: With) -> bool:
    body, keys = case.body(w["ask"]), set(w["keys"])
    objects = [body] if isinstance(body, dict) else []
    return any(not keys.isdisjoint(each) for each in [*objects, *case.kinds(w["ask"])])


def _go_time(case: Case, w: With) -> bool:
    texts = [m.modified_at_raw for m in case.models if m.modified_at_raw]
    return None in map(_GO_TIME.fullmatch, texts)


# --- Digests ---------------------------------------------------------------------------------------------------------


def _digest_shape(m: Model, w: With) -> bool:
    return m.digest is not None and not _HEX64.fullmatch(m.digest)


def _digests_alike(case: Case, w: With) -> bool:
    """Two different digests that agree in a run of 12 digits at one place: chance has 2^-48 for it."""
    digests = {m.digest for m in case.models if m.digest and len(m.digest) >= 64}
    return len(digests) > 1 and len(set[str]().union(*map(_runs, digests))) < len(digests) * len(_PLACES)


@lru_cache(4096)
def _runs(digest: str) -> tuple[str, ...]:
    """The runs of a digest, each after its place; remembered, since most models are on many hosts."""
    return tuple(f"{at}:{digest[at : at + _RUN]}" for at in _PLACES)


def _digest_of_two(case: Case, w: With) -> bool:
    kinds: dict[str, tuple[Any, ...]] = {}
    for m in case.models:
        kind = (m.family_raw, m.parameter_size, m.quantization, m.size_bytes)
        if m.digest and kinds.setdefault(m.digest, kind) != kind:
            return True
    return False


# --- What a version has ----------------------------------------------------------------------------------------------


def _field_before(case: Case, w: With) -> bool:
    version = case.version
    early = [f for f in w["fields"] if version is not None and version.precedes(f["since"])]
    return any(_field(entry, f["field"]) is not None for f in early for entry in case.kinds(f["ask"]))


def _field_after(case: Case, w: With) -> bool:
    version = case.version
    late = [f for f in w["fields"] if version is not None and version.holds(f["until"])]
    return any(_field(entry, f["field"]) is not None for f in late for entry in case.kinds(f["ask"]))


def _field_missing(case: Case, w: With) -> bool:
    version = case.version
    due = [f for f in w["fields"] if version is not None and version.holds(f["since"])]
    return any(_field(entry, f["field"]) is None for f in due for entry in case.kinds(f["ask"]))


def _route_missing(case: Case, w: With) -> bool:
    """Where an inventory was read: without one there is too little to tell a program from a part of it."""
    version, lists_models = case.version, bool(case.models)
    due = [r["ask"] for r in w["routes"] if version is not None and lists_models and version.holds(r["since"])]
    return any((reply := case.by_ask.get(ask)) is not None and reply.status == 404 for ask in due)


# --- Times -----------------------------------------------------------------------------------------------------------


def _times_equal(case: Case, w: With) -> bool:
    digests: dict[str, set[str]] = {}
    for m in case.models:
        if m.modified_at_raw and m.digest and "." in m.modified_at_raw:
            digests.setdefault(m.modified_at_raw, set()).add(m.digest)
    return any(len(seen) >= w["at_least"] for seen in digests.values())


def _times_stepped(case: Case, w: With) -> bool:
    """Equal steps to the millisecond. Whole seconds are left out: jobs run by the clock and coarse disks make them."""
    times = [m.modified_at for m in case.models if m.modified_at and "." in (m.modified_at_raw or "")]
    if len(times) < w["at_least"]:
        return False
    step = (times[1] - times[0]).total_seconds()
    even = all(abs((b - a).total_seconds() - step) < MILLISECOND for a, b in pairwise(times))
    return even and abs(step) >= w["seconds"]


def _not_newest_first(case: Case, w: With) -> bool:
    models = case.identity.models or ()
    if len(models) < 2 or case.version is None or not case.version.holds(w["since"]):
        return False
    times = [m.modified_at for m in models if m.modified_at]
    risen = [(a, b) for a, b in pairwise(times) if a < b]
    return any(a.replace(microsecond=0) < b.replace(microsecond=0) for a, b in risen)


def _expired(case: Case, w: With) -> bool:
    """By the server's own clock, so that a wrong one is no sign."""
    expiries = [m.expires_at for m in case.models if m.is_running and m.expires_at]
    now = case.clock(w["ask"]) if expiries else None
    return now is not None and min(expiries) < now - timedelta(hours=w["hours"])


def _created_frozen(case: Case, w: With) -> bool:
    created = [each for e in case.entries(w["ask"], "data") if type(each := e.get("created")) is int]
    now = case.clock(w["ask"]) if created else None
    seconds = None if now is None else now.replace(tzinfo=UTC).timestamp()
    return seconds is not None and any(abs(value - seconds) > w["days"] * 86_400 for value in created)


def _created_elsewhen(case: Case, w: With) -> bool:
    """Every model that both lists show has another time in the second than in the first."""
    entries = case.entries(w["ask"], "data")
    times = {m.name: m.modified_at for m in case.models if m.modified_at and m.modified_at_raw} if entries else {}
    pairs = [(times.get(str(e.get("id"))), e.get("created")) for e in entries]
    both = [(time, value) for time, value in pairs if time is not None and type(value) is int]
    return bool(both) and all(int(time.replace(tzinfo=UTC).timestamp()) != value for time, value in both)


# --- What is in the inventory ----------------------------------------------------------------------------------------


def _bits_per_weight(m: Model, w: With) -> bool:
    weights = _parameters(m.parameter_size)
    return bool(weights and m.size_bytes and not w["low"] <= 8 * m.size_bytes / weights <= w["high"])


@lru_cache(4096)
def _parameters(text: str | None) -> float | None:
    """Parameters that a display text such as `8.0B` states; None below a million, where heads outweigh weights."""
    if not text or text[-1] not in _UNITS or not text[:-1].replace(".", "", 1).isdecimal() or len(text) > 16:
        return None
    count = float(text[:-1]) * _UNITS[text[-1]]
    return count if count >= 1e6 else None


def _bait(reply: Reply, w: With) -> bool:
    return any([word in reply.body for word in w["bytes"]])  # noqa: C419 - a generator costs as much as the search


def _names(m: Model, w: With) -> bool:
    name = m.name.lower()
    return any(part in name for part in w["parts"])


def _official(m: Model, w: With) -> bool:
    entry = w["official"].get(m.name.lower())
    return bool(
        entry and m.family_raw and not (m.family_raw in entry["families"] and m.parameter_size in entry["sizes"])
    )


def _inventory(case: Case, w: With) -> bool:
    return any(_is_stock(case, stock) for stock in w["inventories"])


def _is_stock(case: Case, stock: With) -> bool:
    """The models are exactly these, at this version if one is given. Digests and times may be given by their start."""
    if stock.get("version") not in (None, case.identity.version) or len(case.models) != len(stock["models"]):
        return False
    return all(any(_is_model(m, wanted) for m in case.models) for wanted in stock["models"])


def _is_model(m: Model, wanted: With) -> bool:
    starts = ((m.digest, wanted.get("digest", "")), (m.modified_at_raw, wanted.get("modified_at", "")))
    return m.name == wanted["name"] and all((value or "").startswith(start) for value, start in starts)


# --- The nonsense path -----------------------------------------------------------------------------------------------


def _answers_nonsense(case: Case, w: With) -> bool:
    """JSON for a path that exists nowhere; of those who claim nothing but a dialect, the very list of models.

    A page is no sign: front ends show their own for every path.
    """
    body = case.body(w["ask"])
    if not isinstance(body, dict | list):
        return False
    return case.identity.server not in w["dialects"] or any(body == case.body(ask) for ask in w["lists"])


OF_REPLY: Mapping[str, Callable[[Reply, With], bool]] = {
    "spaced-json": _spaced_json,
    "bait": _bait,
}
"""Tests that see one reply's status and body; the sign is there when one reply has it."""

OF_MODEL: Mapping[str, Callable[[Model, With], bool]] = {
    "digest-shape": _digest_shape,
    "bits-per-weight": _bits_per_weight,
    "names": _names,
    "official": _official,
}
"""Tests that see one model and nothing else of the host, nor its times: many hosts have the same, so the outcome is
remembered. Such a sign is there when one model has it, or the `share` of them that the reason names."""


TESTS: Mapping[str, Callable[[Any, With], bool]] = {
    **OF_REPLY,
    **OF_MODEL,
    "header": _header,
    "protocol": _protocol,
    "content-type": _content_type,
    "key-order": _key_order,
    "keys-beside": _keys_beside,
    "keys-present": _keys_present,
    "go-time": _go_time,
    "digests-alike": _digests_alike,
    "digest-of-two": _digest_of_two,
    "field-before": _field_before,
    "field-after": _field_after,
    "field-missing": _field_missing,
    "route-missing": _route_missing,
    "times-equal": _times_equal,
    "times-stepped": _times_stepped,
    "not-newest-first": _not_newest_first,
    "expired": _expired,
    "created-frozen": _created_frozen,
    "created-elsewhen": _created_elsewhen,
    "inventory": _inventory,
    "answers-nonsense": _answers_nonsense,
}
"""Every test a reason may name. It sees a Case, or what OF_REPLY and OF_MODEL say."""

LEAST: Final[Mapping[str, int]] = {"go-time": 1, "digests-alike": 2, "digest-of-two": 2, "expired": 1}
"""Models below which a test has nothing to compare; of the others it is the `at_least` of the reason, or none."""

OF_SHAPE: Final = frozenset({
    "header", "protocol", "content-type", "key-order", "keys-beside", "keys-present",
    "field-before", "field-after", "field-missing", "route-missing",
})  # fmt: skip
"""Tests that see heads, keys, what is null, the version and whether there are models at all: many hosts are alike in
that, so the outcome is remembered."""

VARYING: Final = frozenset({"date", "content-length"})
"""Headers that no reason may look at: their values differ from reply to reply."""


# --- The nouns of the file -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Patch:
    """One change to a recorded reply; exactly one of the three kinds.

    Attributes:
        on: the question whose reply it is, `otherwise` for the reply to every other path, or `*` for all of them.
        find, put: bytes of the raw reply, head and body, and what takes their place wherever they stand.
        body: another body. copy: the question whose reply (or `otherwise`) takes the place of this one.
    """

    on: str
    find: str | None = None
    put: str | None = None
    body: str | None = None
    copy: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A recorded server with a few changes, and which reasons to doubt it gives.

    Attributes:
        name: the reason's id and its number there. of: an example of `data/servers/`.
        is_it: whether the reason it stands under holds; otherwise it only looks like it.
        gives: ids of exactly the reasons that hold, among all there are.
    """

    name: str
    about: str
    is_it: bool
    of: str
    patches: tuple[Patch, ...]
    gives: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason to doubt: an entry of `data/suspicion.toml`, whose header explains the fields."""

    id: str
    strength: int
    test: str
    about: str
    source: str
    servers: frozenset[str] = frozenset()
    proxied: bool = False
    parameters: With = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


_Judged = tuple[int, Callable[[Any, With], bool], With]
"""The place of a reason among all, its test, and what that needs."""


@dataclass(frozen=True, slots=True)
class _Applying:
    """The reasons that apply to a claim, by what their tests see.

    Attributes:
        of_reply: the places of those OF_REPLY. of_model: of those OF_MODEL, each with the share of the models that must
            have its sign.
    """

    of_shape: tuple[_Judged, ...]
    of_reply: frozenset[int]
    of_model: tuple[tuple[int, float], ...]
    others: tuple[_Judged, ...]


SHAPES_REMEMBERED: Final = 1024
"""Shapes of conversations kept with the reasons they give. A census of the world sees a few hundred."""

SHAPED_BYTES: Final = 32 << 10
"""Bodies of a conversation beyond which its shape is not kept: what strangers send must not fill memory."""

MANY: Final = 8
"""Models from which on a host is one of many models, where its number decides what is judged."""

APPLYING_REMEMBERED: Final = 1024
"""Claims kept with the reasons that apply to them: server, questions answered, number of models."""

SHORT_BODY: Final = 128
"""Bytes of a body whose shape and signs are remembered by themselves: versions, empty lists."""

MODELS_REMEMBERED: Final = 4096
"""Models kept with their signs. A host's models are mostly those of many."""

MODEL_TEXT: Final = 512
"""Characters of a model that is kept; real ones have some 100."""

_SEEN = attrgetter("name", "digest", "family_raw", "parameter_size", "size_bytes")
"""All that the tests OF_MODEL see."""

EARLY_REMEMBERED: Final = 256
"""Verdicts of a plan that were not asked for again: conversations that broke off."""


class _Unread:
    """Stands for a `Reading` where there is none."""

    @staticmethod
    def head(reply: Reply) -> Hashable:
        headers = tuple(name if name.lower() in VARYING else (name, value) for name, value in reply.headers)
        return reply.question, reply.status, reply.status_line, headers

    body = staticmethod(_parsed)


@dataclass(frozen=True, slots=True)
class Nonsense:
    """The one question that is asked only to see whether a host answers everything.

    Attributes:
        source: why it is harmless. honest: servers that answer every path by design, and are not asked.
    """

    question: Question
    source: str
    honest: frozenset[str]


Hear = Callable[[Example], tuple[Conversation, Identity]]
"""Plays an example as a whole scan would ask it, and identifies it."""


# --- Judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Suspicions:
    """All reasons to doubt, loaded once."""

    reasons: tuple[Reason, ...]
    nonsense: Nonsense
    together: tuple[Together, ...] = ()
    _applying: dict[Hashable, _Applying] = field(default_factory=dict, init=False, repr=False, compare=False)
    _shapes: dict[Hashable, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _bodies: dict[tuple[int, bytes], tuple[Hashable, tuple[int, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _signs: dict[Hashable, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _early: dict[int, tuple[Identity, tuple[Reply, ...], Doubt]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def load(cls, path: Path | None = None) -> Suspicions:
        """Read `data/suspicion.toml`. Raises DataError with the entry and what is wrong with it."""
        path = path or resources.data("suspicion.toml")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise DataError(f"{path.name}: cannot be read: {problem}") from None
        nonsense = _nonsense(path.name, content.get("nonsense", {}))
        more = {"official": {each["name"]: each for each in content.get("official", [])}, "ask": str(nonsense.question)}
        reasons = tuple(_reasons(path.name, content.get("reason", []), more))
        return cls(reasons, nonsense, tuple(_together(path.name, content.get("together", []), reasons)))

    def judge(self, conversation: Conversation, identity: Identity, reading: Reading | None = None) -> Doubt:
        """How far this host is to be doubted. An unidentified host claims nothing, so there is nothing to doubt."""
        early = self._early.pop(id(identity), None)
        if early and early[0] is identity and early[1] == conversation.replies:
            return early[2]
        return self._judge(conversation.replies, identity, reading)

    def _judge(self, replies: Sequence[Reply], identity: Identity, reading: Reading | None) -> Doubt:
        if identity.server is None:
            return NO_DOUBT
        read = reading or _Unread
        case = Case(replies, identity, read.body)
        mine = self._about(identity.server, bool(identity.proxy), tuple(case.by_ask), min(len(case.models), MANY))
        heard = [self._heard(reply, read) for reply in replies]
        found = {place for _, signs in heard for place in signs if place in mine.of_reply}
        shapes: list[Hashable] = [(read.head(reply), shape) for reply, (shape, _) in zip(replies, heard, strict=True)]
        found.update(self._by_shape(case, mine.of_shape, shapes))
        found.update(self._by_model(case.models, mine.of_model))
        found.update(_holding(mine.others, case))
        if not found:
            return NO_DOUBT
        given = [self.reasons[place] for place in sorted(found)]
        return Doubt(max(r.strength for r in given), tuple(r.id for r in given))

    def _heard(self, reply: Reply, read: Reading | type[_Unread]) -> tuple[Hashable, tuple[int, ...]]:
        """The shape of a reply's body, and the places of the reasons whose sign the reply has."""
        body = reply.body
        if len(body) > SHORT_BODY:
            return _shape(read.body(reply), body) if len(body) <= SHAPED_BYTES else None, self._signs_in(reply)
        heard = self._bodies.get((reply.status, body))
        if heard is None:
            hostile.make_room(self._bodies, SHAPES_REMEMBERED)
            heard = self._bodies[reply.status, body] = _shape(read.body(reply), body), self._signs_in(reply)
        return heard

    def _signs_in(self, reply: Reply) -> tuple[int, ...]:
        return tuple([place for place, test, w in self._of_reply if test(reply, w)])

    def _by_shape(self, case: Case, judged: tuple[_Judged, ...], heard: list[Hashable]) -> tuple[int, ...]:
        """The places of the reasons that hold, found once for all conversations of one shape."""
        if sum([len(reply.body) + reply.head_size for reply in case.replies]) > SHAPED_BYTES:
            return _holding(judged, case)
        identity = case.identity
        shape = (identity.server, bool(identity.proxy), identity.version, bool(case.models), tuple(heard))
        found = self._shapes.get(shape)
        if found is None:
            hostile.make_room(self._shapes, SHAPES_REMEMBERED)
            found = self._shapes[shape] = _holding(judged, case)
        return found

    def _by_model(self, models: Sequence[Model], judged: tuple[tuple[int, float], ...]) -> list[int]:
        """The places of the reasons whose sign enough of the models have."""
        signs = [place for m in models for place in self._signs_of(m)]
        if not signs:
            return []
        return [place for place, share in judged if place in signs and signs.count(place) >= share * len(models)]

    def _signs_of(self, m: Model) -> tuple[int, ...]:
        """The places of the reasons whose sign a model has, whatever server lists it."""
        seen = _SEEN(m)
        signs = self._signs.get(seen)
        if signs is None:
            signs = tuple([place for place, test, w in self._of_model if test(m, w)])
            if sum(len(text or "") for text in seen[:-1]) <= MODEL_TEXT:
                hostile.make_room(self._signs, MODELS_REMEMBERED)
                self._signs[seen] = signs
        return signs

    @cached_property
    def _of_reply(self) -> tuple[_Judged, ...]:
        return _judged((n, r) for n, r in enumerate(self.reasons) if r.test in OF_REPLY)

    @cached_property
    def _of_model(self) -> tuple[_Judged, ...]:
        return _judged((n, r) for n, r in enumerate(self.reasons) if r.test in OF_MODEL)

    def _about(self, server: str, proxied: bool, asked: tuple[str, ...], n_models: int) -> _Applying:
        """The reasons that apply to claims to be this server, of those that can hold with so many models at most."""
        key = server, proxied, asked, n_models
        applying = self._applying.get(key)
        if applying is None:
            mine = [(n, r) for n, r in enumerate(self.reasons) if _applies(r, server, proxied)]
            apart = {*OF_SHAPE, *OF_REPLY, *OF_MODEL}
            hostile.make_room(self._applying, APPLYING_REMEMBERED)
            applying = self._applying[key] = _Applying(
                _judged((n, r) for n, r in mine if r.test in OF_SHAPE),
                frozenset(n for n, r in mine if r.test in OF_REPLY),
                tuple((n, r.parameters.get("share", 0.0)) for n, r in mine if r.test in OF_MODEL),
                _judged((n, r) for n, r in mine if r.test not in apart and _can_hold(r, asked, n_models)),
            )
        return applying

    # -- What may be asked

    def questions(self) -> frozenset[Question]:
        """Everything that may be asked beside the questions of the server files."""
        return frozenset({self.nonsense.question})

    def next_question(
        self, target: Target, replies: Sequence[Reply], identity: Identity, reading: Reading | None = None
    ) -> Question | None:
        """The nonsense path where it decides, else None. To be called when the rules have no question left.

        It decides where a host that claims to be something has answered every path with 200 so far, and either nothing
        but the shape of its answers names it or there is a weak reason to doubt it. A strong one needs no more.
        """
        if not self._all_answered(replies) or identity.server in self.nonsense.honest or identity.server is None:
            return None
        doubt = self._judge(replies, identity, reading)
        weak = identity.confidence is not None and identity.confidence <= WEAK
        if doubt.score == 1 or (doubt.score == 0 and weak):
            return self.nonsense.question
        hostile.make_room(self._early, EARLY_REMEMBERED)
        self._early[id(identity)] = identity, tuple(replies), doubt
        return None

    def _all_answered(self, replies: Sequence[Reply]) -> bool:
        if len(replies) < MIN_ANSWERS:
            return False
        path = self.nonsense.question.path
        for reply in replies:
            if reply.status != 200 or (reply.question.path == path and reply.question == self.nonsense.question):
                return False
        return True

    def plan(self, reading: Reading) -> Plan:
        """The questions of the rules, then the nonsense path where it decides: at most one more."""

        def next_question(target: Target, replies: Sequence[Reply]) -> Question | None:
            if (question := reading.next_question(target, replies)) or not self._all_answered(replies):
                return question
            return self.next_question(target, replies, reading.identify(target, replies), reading)

        return next_question

    # -- What the file claims

    def examples(self) -> tuple[Example, ...]:
        """The examples of all reasons, in the order of the file."""
        return tuple(example for reason in self.reasons for example in reason.examples)

    def check(self, hear: Hear) -> list[str]:
        """Everything wrong with the file as a whole: an example that fails, a reason or a test that nobody needs.

        Every example is judged by all reasons. Raises DataError for an example that cannot be played.
        """
        used = {reason.test for reason in self.reasons}
        problems = [f"test {name!r} is used by no reason" for name in sorted(set(TESTS) - used)]
        problems += [line for example in self.examples() for line in self._failures(example, hear)]
        return problems + [line for reason in self.reasons for line in _lonely(reason)]

    def _failures(self, example: Example, hear: Hear) -> Iterator[str]:
        found = set(self.judge(*hear(example)).reasons)
        for word, ids in (("does not give", example.gives - found), ("gives", found - example.gives)):
            if ids:
                yield f"example {example.name!r} {word} {', '.join(sorted(ids))}"

    def cover(self, hear: Hear) -> Iterator[tuple[Example, int]]:
        """Few examples that together give every reason, in the order of the file, each with its score."""
        left = {reason.id for reason in self.reasons}
        for reason in self.reasons:
            example = next((example for example in reason.examples if example.is_it), None)
            if reason.id in left and example is not None:
                left -= example.gives
                yield example, self.judge(*hear(example)).score


NO_DOUBT: Final = Doubt()


def _applies(reason: Reason, server: str, proxied: bool) -> bool:
    return server in (reason.servers or {server}) and (reason.proxied or not proxied)


def _can_hold(reason: Reason, asked: Sequence[str], n_models: int) -> bool:
    """Whether there is what a test looks at: the reply to its question, and enough of at most MANY models."""
    w = reason.parameters
    if "inventories" in w:
        return any(min(len(stock["models"]), MANY) == n_models for stock in w["inventories"])
    if "ask" in w and w["ask"] not in asked:
        return False
    least: int = w.get("at_least", LEAST.get(reason.test, 0))
    return n_models >= min(MANY, least)


def _judged(reasons: Iterable[tuple[int, Reason]]) -> tuple[_Judged, ...]:
    return tuple((place, TESTS[r.test], r.parameters) for place, r in reasons)


def _holding(judged: tuple[_Judged, ...], case: Case) -> tuple[int, ...]:
    return tuple([place for place, test, parameters in judged if test(case, parameters)])


def _lonely(reason: Reason) -> Iterator[str]:
    for is_it, what in ((True, "that gives it"), (False, "that only looks like it")):
        if not any(example.is_it is is_it for example in reason.examples):
            yield f"reason {reason.id!r} needs an example {what}"


# --- Reading the file ------------------------------------------------------------------------------------------------


def _nonsense(file: str, entry: Mapping[str, Any]) -> Nonsense:
    _only(file, "nonsense", entry, ("ask", "source", "honest"))
    try:
        question = Question.parse(entry["ask"])
        return Nonsense(question, entry["source"], frozenset(entry["honest"]))
    except (KeyError, ValueError) as problem:
        raise DataError(f"{file}: nonsense: needs ask, such as 'GET /path', source and honest ({problem})") from None


def _together(file: str, entries: Sequence[dict[str, Any]], reasons: Sequence[Reason]) -> Iterator[Together]:
    seen = {reason.id for reason in reasons}
    for entry in entries:
        try:
            one = Together(**entry)
        except TypeError as problem:
            raise DataError(f"{file}: together {entry.get('id', '?')!r}: {problem}") from None
        if one.id in seen or one.strength not in (1, 2):
            raise DataError(f"{file}: together {one.id!r}: needs an id of its own and a strength of 1 or 2")
        seen.add(one.id)
        yield one


def _reasons(file: str, entries: Sequence[dict[str, Any]], more: With) -> Iterator[Reason]:
    seen: set[str] = set()
    for entry in entries:
        reason = _reason(file, entry, more)
        if reason.id in seen:
            raise DataError(f"{file}: reason {reason.id!r} is there twice")
        seen.add(reason.id)
        yield reason


_KEYS = ("id", "strength", "test", "about", "source", "servers", "proxied", "with", "example")


def _reason(file: str, entry: Mapping[str, Any], more: With) -> Reason:
    name = entry.get("id", "?")
    where = f"reason {name!r}"
    _only(file, where, entry, _KEYS)
    values = {key: value for key, value in entry.items() if key not in ("with", "example")}
    examples = tuple(_example(file, str(name), n, each) for n, each in enumerate(entry.get("example", []), 1))
    own = {key: value for key, value in more.items() if key == "official" or entry.get("test") == "answers-nonsense"}
    values |= {"servers": frozenset(entry.get("servers", ())), "examples": examples}
    try:
        reason = Reason(**values, parameters={**own, **_prepared(file, where, entry.get("with", {}))})
    except TypeError as problem:
        raise DataError(f"{file}: {where}: {problem}") from None
    if reason.test not in TESTS:
        raise DataError(f"{file}: {where}: no test {reason.test!r}; there are {', '.join(sorted(TESTS))}")
    if name := _unseen(reason):
        raise DataError(f"{file}: {where}: {name!r} is nothing that a test may look at (docs/add-a-reason.md)")
    if reason.strength not in (1, 2):
        raise DataError(f"{file}: {where}: strength is 1 or 2, not {reason.strength!r}")
    return reason


def _unseen(reason: Reason) -> str | None:
    """What a test of shape would have to see and does not: a varying header, a field below another than `details`."""
    w = reason.parameters
    paths = (each["field"] for each in w.get("fields", ()))
    deep = [".".join(path) for path in paths if len(path) > 2 or (len(path) == 2 and path[0] != "details")]
    return next(iter([*({w.get("name")} & VARYING), *deep]), None)


def _prepared(file: str, where: str, value: Any) -> Any:
    """Parameters as the tests want them: lists as tuples, paths split, releases as numbers, orders as ranks."""
    if isinstance(value, list):
        return tuple(_prepared(file, where, each) for each in value)
    if not isinstance(value, dict):
        return value
    done = {key: _prepared(file, where, each) for key, each in value.items()}
    for key in done.keys() & {"since", "until"}:
        done[key] = _release(file, where, done[key])
    done |= {"field": tuple(done["field"].split("."))} if "field" in done else {}
    done |= {"rank": {key: place for place, key in enumerate(done["order"])}} if "order" in done else {}
    return done | ({"bytes": tuple(word.encode() for word in done["words"])} if "words" in done else {})


def _release(file: str, where: str, text: str) -> Numbers:
    version = Version.read(text)
    if version is None:
        raise DataError(f"{file}: {where}: {text!r} is no release, such as '0.1.38'")
    return version.numbers


def _example(file: str, reason: str, number: int, entry: Mapping[str, Any]) -> Example:
    name = f"{reason}-{number}"
    _only(file, f"example {name!r}", entry, ("is", "about", "of", "patch", "also"))
    for key, kind in (("is", bool), ("about", str), ("of", str)):
        if not isinstance(entry.get(key), kind):
            raise DataError(f"{file}: example {name!r}: {key!r} must be there, as {kind.__name__}")
    gives = {*entry.get("also", ()), *([reason] if entry["is"] else [])}
    patches = tuple(_patch(file, name, each) for each in entry.get("patch", []))
    return Example(name, entry["about"], entry["is"], entry["of"], patches, frozenset(gives))


def _patch(file: str, name: str, entry: Mapping[str, Any]) -> Patch:
    _only(file, f"example {name!r}: patch", entry, [each.name for each in fields(Patch)])
    if set(entry) not in ({"on", "find", "put"}, {"on", "body"}, {"on", "copy"}):
        raise DataError(
            f"{file}: example {name!r}: a patch has 'on', and either 'find' and 'put', or 'body', or 'copy'"
        )
    return Patch(**entry)


def _only(file: str, where: str, entry: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise DataError(
                f"{file}: {where}: no key is called {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
