"""`data/families.toml` and `data/families/` read: lineages, developers, architectures, quantizations, words, library.

The nouns of those files and their reading; what follows from them for a model is judged in `families`.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from census import resources
from census.errors import DataError
from census.model import Lineage, Model
from census.names import CACHE_SIZE, MAX_NAME, Finder, Name, Phrase, any_holds

LINE, ROOT, HOSTED = 1, 2, 3
"""Ranks of entries: a line published on another's weights; weights of its own; served by its owner only."""

UNDECIDED = "unknown"
"""As a case's base: built on another line's weights, but the name does not say whose."""


# --- The nouns of the files ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantization:
    """One way to store weights: its label, nominal bits a weight (None when mixed), and its spellings."""

    label: str
    bits: int | None
    spellings: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class Developer:
    """Who publishes: name and country (ISO 3166-1 alpha-2, None when not known), with the reason for doubt."""

    name: str
    country: str | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Organisation:
    """A namespace of a registry: whose it is, or what it does to the models of others."""

    namespaces: tuple[str, ...]
    kind: str
    developer: str | None = None
    uncensored: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """A `general.architecture` that servers report as a model's family.

    Attributes:
        weights: the one family whose weights report it, or None where several do.
        sizes: (billions, weights) that tell them apart when a server counts them; named_sizes: when only the
            name states them, rounded. generation: of the brand `weights`, when it tells it.
    """

    name: str
    weights: str | None = None
    generation: str | None = None
    role: str | None = None
    sizes: tuple[tuple[float, str], ...] = ()
    named_sizes: tuple[tuple[float, str], ...] = ()
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What is so when its conditions hold. The first case that sets a field wins.

    Attributes:
        match: phrases of which one must hold. mentions: a brand the name must also mention.
        size: billions, one of which the size must be near.
        architecture: reported values, one of which must be reported.
        sets: the fields it sets: generation, base, weights, developer, role, distill, uncensored, hosted,
            params (billions, when neither server nor name states them), total (even when the name does),
            reports (all architectures that this part of the line reports), at_least (billions that a server counts).
    """

    match: tuple[Phrase, ...] = ()
    unless: tuple[Phrase, ...] = ()
    mentions: str | None = None
    size: tuple[float, ...] = ()
    architecture: tuple[str, ...] = ()
    sets: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """A name that is (or is not) an entry's, with the metadata beside it and the fields it must get."""

    model: Model
    observed_at: datetime | None
    expected: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One lineage of `data/families.toml`; the schema there describes every field."""

    id: str
    brand: str
    rank: int
    match: tuple[Phrase, ...]
    unless: tuple[Phrase, ...] = ()
    developer: str | None = None
    bases: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()
    weights: str | None = None
    architectures: tuple[str, ...] = ()
    role: str | None = None
    bare: str | None = None
    distill: bool = False
    uncensored: bool = False
    hosted: bool = False
    generation: str | None = None
    generations: tuple[tuple[str, tuple[Phrase, ...]], ...] = ()
    cases: tuple[Case, ...] = ()
    examples: tuple[Example, ...] = ()
    counterexamples: tuple[Example, ...] = ()
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Phrases that say one thing of any name they stand in, with names that say it and names that do not."""

    says: str
    match: tuple[Phrase, ...]
    examples: tuple[str, ...]
    counterexamples: tuple[str, ...] = ()

    def holds(self, name: Name) -> bool:
        """Whether the name says it."""
        return any_holds(self.match, name)


@dataclass(frozen=True, slots=True)
class Glued:
    """A line whose generation and size are written as one number, with names that are so and names that are not."""

    line: str
    sizes: tuple[str, ...]
    examples: Mapping[str, str]
    counterexamples: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """The line with its generation, one of its sizes at once after it, and what keeps that from the rest."""
        return rf"({self.line.replace('.', '[.]?')})({'|'.join(self.sizes)})(?!its?(?![^\W\d_]))[-_. ]?"


@dataclass(frozen=True, slots=True)
class Words:
    """Words that mean the same in any name: roles in the order in which they count."""

    registries: frozenset[str]
    uncensored: Vocabulary
    distill: Vocabulary
    roles: tuple[Vocabulary, ...]
    glued: tuple[Glued, ...]


# --- Their reading ---------------------------------------------------------------------------------------------------


_SETTINGS = frozenset(
    {"generation", "base", "weights", "developer", "role", "distill", "uncensored", "hosted", "params", "total"}
    | {"reports", "at_least"}
)

_CONDITIONS = ("match", "unless", "mentions", "size", "architecture")


def _phrases(raw: Iterable[str]) -> tuple[Phrase, ...]:
    return tuple(Phrase.parse(text) for text in raw)


def _read_case(raw: dict[str, Any]) -> Case:
    sets = {key: value for key, value in raw.items() if key not in _CONDITIONS}
    if unknown := set(sets) - _SETTINGS:
        raise ValueError(f"a case has no '{min(unknown)}'")
    given = {key: value for key, value in raw.items() if key in _CONDITIONS}
    for key in ("match", "unless"):
        given[key] = _phrases(given.get(key, ()))
    for key in ("size", "architecture"):
        given[key] = tuple(given.get(key, ()))
    return Case(**given, sets=sets)


_EXAMPLE_METADATA = ("digest", "family_raw", "parameter_size", "quantization", "remote_model", "n_vocab", "parent")


def _read_example(raw: str | dict[str, Any]) -> Example:
    given: dict[str, Any] = {"name": raw} if isinstance(raw, str) else dict(raw)
    metadata: dict[str, Any] = {key: given.pop(key) for key in _EXAMPLE_METADATA if key in given}
    model = Model(name=given.pop("name"), **metadata)
    observed_at = given.pop("observed_at", None)
    if unknown := set(given) - {one.name for one in fields(Lineage)}:
        raise ValueError(f"the example '{model.name}' expects '{min(unknown)}', which no verdict has")
    return Example(model, observed_at, given)


def read_entry(raw: dict[str, Any]) -> Entry:
    """One `[[lineage]]`."""
    given = dict(raw)
    examples = tuple(_read_example(item) for item in given.pop("is", ()))
    counterexamples = tuple(_read_example(item) for item in given.pop("is_not", ()))
    cases = tuple(_read_case(item) for item in given.pop("case", ()))
    spelled = given.pop("generations", {})
    generations = tuple((name, _phrases(texts)) for name, texts in spelled.items())
    for key in ("bases", "sometimes", "architectures"):
        given[key] = tuple(given.get(key, ()))
    given.setdefault("rank", HOSTED if given.get("hosted") else LINE if given["bases"] else ROOT)
    match, unless = _phrases(given.pop("match")), _phrases(given.pop("unless", ()))
    return Entry(
        **given,
        match=match,
        unless=unless,
        generations=generations,
        cases=cases,
        examples=examples,
        counterexamples=counterexamples,
    )


def read_organisation(raw: dict[str, Any]) -> Organisation:
    """One `[[organisation]]`."""
    return Organisation(tuple(raw["namespaces"]), raw["kind"], raw.get("developer"), raw.get("uncensored", False))


def read_architecture(raw: dict[str, Any]) -> Architecture:
    """One `[[architecture]]`."""
    given = dict(raw)
    for key in ("sizes", "named_sizes"):
        told = given.pop(key, {})
        given[key] = tuple((float(size), weights) for weights, sizes in told.items() for size in sizes)
    return Architecture(**given)


def read_quantization(raw: dict[str, Any]) -> Quantization:
    """One `[[quantization]]`."""
    return Quantization(raw["label"], raw.get("bits"), _phrases([raw["label"], *raw.get("spellings", ())]))


def _read_vocabulary(says: str, raw: dict[str, Any]) -> Vocabulary:
    return Vocabulary(says, _phrases(raw["match"]), tuple(raw["is"]), tuple(raw.get("is_not", ())))


def _read_glued(raw: dict[str, Any]) -> Glued:
    return Glued(raw["line"], tuple(raw["sizes"]), dict(raw["is"]), tuple(raw.get("is_not", ())))


def read_words(path: Path) -> Words:
    """All of `words.toml`. Raises DataError."""
    raw = read_toml(path)
    try:
        uncensored, distill = (_read_vocabulary(says, raw[says]) for says in ("uncensored", "distill"))
        registries = frozenset(host.casefold() for host in raw["registries"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DataError(f"{path}: {problem}") from None
    roles = read_each(path, "role", "role", lambda item: _read_vocabulary(item["role"], item))
    glued = read_each(path, "glued", "line", _read_glued)
    return Words(registries, uncensored, distill, roles, glued)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file. Raises DataError when it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise DataError(f"{path}: {problem}") from None


_T = TypeVar("_T")


def read_each(path: Path, table: str, label: str, read: Callable[[dict[str, Any]], _T]) -> tuple[_T, ...]:
    """Every `[[table]]` of a file. Raises DataError with file, entry and reason."""
    found = []
    for number, raw in enumerate(read_toml(path).get(table, ()), start=1):
        try:
            found.append(read(raw))
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            named = raw.get(label, f"number {number}") if isinstance(raw, dict) else f"number {number}"
            reason = f"{problem.args[0]!r} is missing" if isinstance(problem, KeyError) else problem
            raise DataError(f"{path}: {table} '{named}': {reason}") from None
    return tuple(found)


# --- Quantizations ---------------------------------------------------------------------------------------------------


class Quantizations:
    """All quantizations, ready to be found in names and labels."""

    def __init__(self, known: Sequence[Quantization]) -> None:
        self.known = tuple(known)
        self._finder = Finder((phrase, at) for at, one in enumerate(self.known) for phrase in one.spellings)
        self.declared = lru_cache(CACHE_SIZE)(self._declared)

    def stated(self, name: Name) -> Quantization | None:
        """What a name states: in its tag rather than before it, at an end rather than within, the longest, the last."""
        ends = (name.stem, len(name.letters.chars))
        hits = [
            (place >= name.stem, place + len(phrase.head) in ends, len(phrase.head), place, at)
            for at, phrase, place in self._finder.hits(name)
        ]
        return self.known[max(hits)[-1]] if hits else None

    def _declared(self, label: str) -> Quantization | None:
        """What a server declares, None when it is none we know."""
        return self.stated(Name(label, (), label[:MAX_NAME], "", False, False))


# --- The public library: what its tags meant, and when ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """One digest of the library: the model, its tags of that digest, and when it was first and last listed."""

    digest: str
    model: str
    first: date
    last: date
    tags: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> Listed:
        digest, model, first, last, tags = line.split("\t")
        return cls(digest, model, date.fromisoformat(first), date.fromisoformat(last), tuple(tags.split(" ")))


class Library:
    """The history of the public library: digest -> model and tags, and name -> digest at a time."""

    def __init__(self, rows: Iterable[Listed]) -> None:
        self._tags: dict[str, dict[str, set[str]]] = {}
        self._history: dict[str, list[tuple[date, date, str]]] = {}
        for row in rows:
            self._tags.setdefault(row.digest, {}).setdefault(row.model, set()).update(row.tags)
            for tag in row.tags:
                self._history.setdefault(f"{row.model}:{tag}".casefold(), []).append((row.first, row.last, row.digest))
        for moves in self._history.values():
            moves.sort()

    @classmethod
    def load(cls, path: Path) -> Library:
        """Read `library.tsv`. Raises DataError with the line."""
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                if not line.startswith("#"):
                    rows.append(Listed.parse(line))
            except ValueError as problem:
                raise DataError(f"{path}:{number}: {problem}") from None
        return cls(rows)

    def named(self, digest: str) -> Name | None:
        """The library's own name behind a manifest digest (its first 12 digits), with its most telling tag."""
        models = self._tags.get(digest)
        if not models:
            return None
        model = min(models)
        telling = max(models[model], key=lambda tag: (tag != "latest", len(tag), tag))
        return Name(f"{model}:{digest}", (), model, telling, False, False)

    def knows(self, digest: str) -> bool:
        """Whether a manifest digest (its first 12 digits) is listed."""
        return digest in self._tags

    def turns(self, name: Name) -> tuple[date, ...]:
        """The days on which a name got a new meaning, ascending; () for a name that is not the library's."""
        moves = self._history.get(f"{name.model}:{name.tag}".casefold(), ())
        return tuple(first for first, *_ in moves) if name.is_library else ()

    def digest(self, name: Name, day: date | None) -> tuple[str, bool] | None:
        """What a library name meant on a day (None: lately), and whether it ever meant something else."""
        moves = self._history.get(f"{name.model}:{name.tag}".casefold())
        if not moves or not name.is_library:
            return None
        at = len(moves) if day is None else max(1, bisect_right(moves, day, key=lambda move: move[0]))
        return moves[at - 1][2], len({digest for *_, digest in moves}) > 1


@lru_cache(maxsize=1)
def _shipped_quantizations() -> Quantizations:
    path = resources.data("families", "quantizations.toml")
    return Quantizations(read_each(path, "quantization", "label", read_quantization))


def quant_bits(label: str | None) -> int | None:
    """Nominal bits a weight of a quantization label, in any of its spellings; None when unknown or mixed."""
    found = _shipped_quantizations().declared(label) if label else None
    return found.bits if found else None
