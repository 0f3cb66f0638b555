"""Reasons to doubt a host: decoys, clones, imitations. Reads `data/suspicion.toml`; a doubt never removes a host.

A reason names one of the tests below and its parameters. A test sees one conversation and what was identified in it,
and answers whether the sign is there; it says nothing when the evidence is missing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from functools import cached_property, lru_cache
from itertools import combinations, pairwise
from operator import ne
from pathlib import Path
from typing import Any

from census import resources
from census.errors import DataError
from census.hostile import Unreadable, read_json
from census.model import Conversation, Doubt, Identity, Model, Reply

MAX_PAIRS_OF = 64
"""Models compared with each other at most: the tests over pairs are quadratic."""

_GO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_SPACED = re.compile(rb'^\s*[\[{]\s*"[^"]*": ')
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}

With = Mapping[str, Any]


class Case:
    """One conversation under examination, its bodies parsed at most once."""

    def __init__(self, conversation: Conversation, identity: Identity, body: Callable[[Reply], Any]) -> None:
        self.conversation = conversation
        self.identity = identity
        self._body = body

    @cached_property
    def models(self) -> Sequence[Model]:
        """The local models the host lists; a cloud's are not its own."""
        return [m for m in self.identity.models or () if not m.is_remote]

    @cached_property
    def _bodies(self) -> dict[str, Any]:
        return {str(reply.question): self._body(reply) for reply in self.conversation.replies if reply.status == 200}

    def body(self, ask: str) -> Any:
        """The parsed body of a question answered with 200, or None."""
        return self._bodies.get(ask)

    def entries(self, ask: str, name: str = "models") -> list[dict[str, Any]]:
        """The objects in a list of a body; [] when there is none."""
        body = self.body(ask)
        found = body.get(name) if isinstance(body, dict) else None
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    @cached_property
    def version(self) -> tuple[int, ...] | None:
        """The stated version as numbers; None when unstated or a development build."""
        return _version(self.identity.version)


def _parsed(reply: Reply) -> Any:
    try:
        return read_json(reply.body)
    except Unreadable:
        return None


@lru_cache(maxsize=1024)
def _version(text: str | None) -> tuple[int, ...] | None:
    match = _VERSION.match(text or "")
    numbers = tuple(map(int, match.groups())) if match else None
    return None if numbers == (0, 0, 0) else numbers


def _field(entry: Mapping[str, Any], path: str) -> Any:
    value: Any = entry
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _status_line(case: Case, w: With) -> bool:
    return any(reply.status_line.startswith(tuple(w["prefix"])) for reply in case.conversation.replies)


def _header(case: Case, w: With) -> bool:
    values = (reply.header(w["name"]) for reply in case.conversation.replies)
    return any(value is not None and value.lower().startswith(tuple(w["prefix"])) for value in values)


def _header_spelling(case: Case, w: With) -> bool:
    return any((w["name"], w["value"]) in reply.headers for reply in case.conversation.replies)


def _content_type(case: Case, w: With) -> bool:
    replies = [r for r in case.conversation.replies if r.question.path.startswith(w["path"]) and r.status == 200]
    return any(reply.header("content-type") != w["equals"] for reply in replies)


def _spaced_json(case: Case, w: With) -> bool:
    return any(_SPACED.match(reply.body[:256]) for reply in case.conversation.replies if reply.status == 200)


def _key_order(case: Case, w: With) -> bool:
    rank = {key: place for place, key in enumerate(w["order"])}
    for entry in case.entries(w["ask"], w["list"]):
        known = [rank[key] for key in entry if key in rank]
        if known != sorted(known):
            return True
    return False


def _keys_beside(case: Case, w: With) -> bool:
    body = case.body(w["ask"])
    return isinstance(body, dict) and bool(set(body) - set(w["keys"]))


def _keys_present(case: Case, w: With) -> bool:
    body = case.body(w["ask"])
    seen = set(body) if isinstance(body, dict) else set()
    for entry in case.entries(w["ask"]):
        seen |= set(entry)
    return bool(seen & set(w["keys"]))


def _digest_shape(case: Case, w: With) -> bool:
    return any(m.digest is not None and not _HEX64.fullmatch(m.digest) for m in case.models)


def _digests_near(case: Case, w: With) -> bool:
    digests = sorted({m.digest for m in case.models if m.digest and len(m.digest) >= 64})[:MAX_PAIRS_OF]
    return any(_differing(a, b) <= w["differing"] for a, b in combinations(digests, 2))


def _differing(a: str, b: str) -> int:
    apart: Iterator[bool] = map(ne, a, b)
    return sum(apart) + abs(len(a) - len(b))


def _digest_of_two(case: Case, w: With) -> bool:
    kinds: dict[str, set[tuple[Any, ...]]] = {}
    for m in case.models:
        if m.digest:
            kinds.setdefault(m.digest, set()).add((m.family_raw, m.parameter_size, m.quantization, m.size_bytes))
    return any(len(seen) > 1 for seen in kinds.values())


def _since(case: Case, text: str) -> bool | None:
    """Whether the stated version is at least this one; None when there is no stated version."""
    needed = _version(text)
    return None if case.version is None or needed is None else case.version >= needed


def _field_before(case: Case, w: With) -> bool:
    return any(
        _since(case, f["since"]) is False and _field(entry, f["field"]) is not None
        for f in w["fields"]
        for entry in case.entries(f["ask"])
    )


def _field_missing(case: Case, w: With) -> bool:
    return any(
        _since(case, f["since"]) is True and _field(entry, f["field"]) is None
        for f in w["fields"]
        for entry in case.entries(f["ask"])
    )


def _route_missing(case: Case, w: With) -> bool:
    missing = {str(reply.question) for reply in case.conversation.replies if reply.status == 404}
    return any(route["ask"] in missing and _since(case, route["since"]) is True for route in w["routes"])


def _go_time(case: Case, w: With) -> bool:
    texts = [m.modified_at_raw for m in case.models if m.modified_at_raw]
    return any(not _GO_TIME.fullmatch(text) for text in texts)


def _times_equal(case: Case, w: With) -> bool:
    digests: dict[str, set[str]] = {}
    for m in case.models:
        if m.modified_at_raw and m.digest and "." in m.modified_at_raw:
            digests.setdefault(m.modified_at_raw, set()).add(m.digest)
    return any(len(seen) >= w["at_least"] for seen in digests.values())


def _times_stepped(case: Case, w: With) -> bool:
    times = [m.modified_at for m in case.models if m.modified_at]
    steps = {round((b - a).total_seconds(), 3) for a, b in pairwise(times)}
    return len(times) >= w["at_least"] and len(steps) == 1 and 0 not in steps


def _not_newest_first(case: Case, w: With) -> bool:
    times = [m.modified_at.replace(microsecond=0) for m in case.identity.models or () if m.modified_at]
    return any(later < earlier for later, earlier in pairwise(times))


def _bits_per_weight(case: Case, w: With) -> bool:
    for m in case.models:
        weights = _parameters(m.parameter_size)
        if weights and m.size_bytes and not w["low"] <= 8 * m.size_bytes / weights <= w["high"]:
            return True
    return False


def _parameters(text: str | None) -> float | None:
    """Parameters that a display text such as `8.0B` states; None below a million, where heads outweigh weights."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMBT])", text or "")
    count = float(match[1]) * _UNITS[match[2]] if match else 0.0
    return count if count >= 1e6 else None


def _expired(case: Case, w: With) -> bool:
    limit = case.conversation.asked_at - timedelta(hours=w["hours"])
    return any(m.expires_at is not None and m.expires_at < limit for m in case.models if m.is_running)


def _bait(case: Case, w: With) -> bool:
    words = [word.encode() for word in w["words"]]
    return any(word in reply.body for reply in case.conversation.replies for word in words)


def _created_frozen(case: Case, w: With) -> bool:
    now = case.conversation.asked_at.replace(tzinfo=UTC).timestamp()
    created = [e["created"] for e in case.entries("GET /v1/models", "data") if isinstance(e.get("created"), int)]
    return any(abs(value - now) > w["days"] * 86400 for value in created)


def _names(case: Case, w: With) -> bool:
    names = [m.name.lower() for m in case.models]
    marked = sum(any(part in name for part in w["parts"]) for name in names)
    return bool(names) and marked >= max(1, w["share"] * len(names))


def _official(case: Case, w: With) -> bool:
    known: Mapping[str, Any] = w["official"]
    for m in case.models:
        entry = known.get(m.name.lower())
        if entry and m.family_raw and not (m.family_raw in entry["families"] and m.parameter_size in entry["sizes"]):
            return True
    return False


TESTS: Mapping[str, Callable[[Case, With], bool]] = {
    "status-line": _status_line,
    "header": _header,
    "header-spelling": _header_spelling,
    "content-type": _content_type,
    "spaced-json": _spaced_json,
    "key-order": _key_order,
    "keys-beside": _keys_beside,
    "keys-present": _keys_present,
    "digest-shape": _digest_shape,
    "digests-near": _digests_near,
    "digest-of-two": _digest_of_two,
    "field-before": _field_before,
    "field-missing": _field_missing,
    "route-missing": _route_missing,
    "go-time": _go_time,
    "times-equal": _times_equal,
    "times-stepped": _times_stepped,
    "not-newest-first": _not_newest_first,
    "bits-per-weight": _bits_per_weight,
    "expired": _expired,
    "bait": _bait,
    "created-frozen": _created_frozen,
    "names": _names,
    "official": _official,
}
"""Every test a reason may name."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason to doubt: an entry of `data/suspicion.toml`."""

    id: str
    strength: int
    test: str
    about: str
    source: str
    servers: frozenset[str] = frozenset()
    proxied: bool = False
    parameters: With = field(default_factory=dict)

    def holds(self, case: Case) -> bool:
        """Whether the sign is there, where this reason may be judged at all."""
        if self.servers and case.identity.server not in self.servers:
            return False
        if case.identity.proxy and not self.proxied:
            return False
        return TESTS[self.test](case, self.parameters)


@dataclass(frozen=True)
class Suspicions:
    """All reasons to doubt, loaded once."""

    reasons: tuple[Reason, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> Suspicions:
        """Read `data/suspicion.toml`. Raises DataError with the entry and what is wrong with it."""
        path = path or resources.data("suspicion.toml")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        official = {entry["name"]: entry for entry in content.get("official", [])}
        return cls(tuple(_reasons(path, content.get("reason", []), official)))

    def judge(self, conversation: Conversation, identity: Identity, body: Callable[[Reply], Any] = _parsed) -> Doubt:
        """How far this host is to be doubted. An unidentified host claims nothing, so there is nothing to doubt.

        `body` gives the parsed JSON of a reply, None where there is none; whoever has it already can hand it in.
        """
        if identity.server is None:
            return Doubt()
        case = Case(conversation, identity, body)
        found = [reason for reason in self.reasons if reason.holds(case)]
        return Doubt(max((r.strength for r in found), default=0), tuple(r.id for r in found))

    def check(self) -> list[str]:
        """Tests no reason uses: what varies is the table, so code that no row needs is a mistake."""
        used = {reason.test for reason in self.reasons}
        return [f"test {name!r} is used by no reason" for name in sorted(set(TESTS) - used)]


def _reasons(path: Path, entries: Sequence[dict[str, Any]], official: With) -> Iterator[Reason]:
    seen: set[str] = set()
    for entry in entries:
        reason = _reason(path, dict(entry), official)
        if reason.id in seen:
            raise DataError(f"{path.name}: reason {reason.id!r} is there twice")
        seen.add(reason.id)
        yield reason


def _reason(path: Path, entry: dict[str, Any], official: With) -> Reason:
    name = entry.get("id", "?")
    parameters = {**entry.pop("with", {}), **({"official": official} if entry.get("test") == "official" else {})}
    try:
        reason = Reason(**{**entry, "servers": frozenset(entry.get("servers", ())), "parameters": parameters})
    except TypeError as problem:
        raise DataError(f"{path.name}: reason {name!r}: {problem}") from None
    if reason.test not in TESTS:
        raise DataError(f"{path.name}: reason {name!r}: no test {reason.test!r}; there are {', '.join(sorted(TESTS))}")
    if reason.strength not in (1, 2):
        raise DataError(f"{path.name}: reason {name!r}: strength is 1 or 2, not {reason.strength!r}")
    return reason
