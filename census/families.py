"""A model's name and metadata -> its lineage: brand, base, weights, origin, size, quantization, role.

The knowledge is in `data/families.toml` (lineages) and `data/families/` (developers, namespaces, architectures,
quantizations, words, the public library's digests); here is only the reading of it. In order: how text is compared,
how a name is taken apart, how the files are read, how evidence is weighed, and how the files are checked.

Order of evidence: a remote marker, the manifest digest, a name with its registry or namespace, a bare name, the
reported metadata. The name sets the brand; the reported architecture sets or vetoes the weights.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from census import resources
from census.errors import DataError
from census.model import Lineage, Model

MAX_NAME = 256
"""Characters of a name that are looked at; the longest name seen on an exposed host has fewer."""

CACHE_SIZE = 65_536
"""Verdicts kept in memory, one for each distinct name and metadata; models repeat massively."""

DIGESTS_REMEMBERED = 8192
"""Digests kept with what the library knows of them."""

MAX_PARAMS_B = 20_000.0
"""Billions of parameters beyond which a stated size is not believed."""

SIZE_TOLERANCE = 0.09
"""Relative distance within which a size counts as one of a lineage's known sizes ("7.6B" is 7, never 8)."""

COUNT_TOLERANCE = 0.02
"""Relative distance within which a counted size tells whose weights it is: 7.2B is Mistral's, 6.7B Llama's."""

CERTAIN, REMOTE, OFFICIAL, REGISTRY, NAMED = 1.0, 0.95, 0.95, 0.9, 0.85
"""Confidence by evidence: digest; a cloud's own name; the developer's own namespace; any namespace; a bare name."""

CONFIRMED, DATED, METADATA, CONFLICT, CLAIM = 0.05, 0.7, 0.6, 0.4, 0.3
"""Added when the architecture agrees; a tag whose meaning moved; metadata alone; name against metadata; hosted-only."""

LINE, ROOT, HOSTED = 1, 2, 3
"""Ranks of entries: a line published on another's weights; weights of its own; served by its owner only."""

UNDECIDED = "unknown"
"""As a case's base: built on another line's weights, but the name does not say whose."""


# --- How text is compared: separators and case never matter, the edges of words and numbers do. ---

_SIZE_WORD = r"(?:[0-9]+x)?[0-9]+(?:\.[0-9]+)?(?:b[0-9]?|[mt])(?![^\W_])"
_TOKEN = re.compile(rf"{_SIZE_WORD}|[0-9]+p[0-9]+(?![^\W_])|[0-9]+(?:\.[0-9]+)*|[^\W\d_]+")
_UNDERSCORE_POINT = re.compile(r"(?<![^\W_])([0-9]+)_([0-9]+)(?=b(?![^\W_]))")
_FIVE_P = re.compile(r"(?<=[0-9])p(?=[0-9])")


_EDGE, _POINT = 1, 2
"""Between two words, numbers or sizes; within a number, where a decimal point stood."""

START = 4
"""Letters by which phrases are kept: of those that begin so, few do not hold."""

_EDGES = re.compile(bytes([_EDGE]))


def _pointed(text: str) -> str:
    """Case folded, and decimal points where an underscore stands for one (`1_5b`, `0___6B`)."""
    folded = text.casefold()
    return _UNDERSCORE_POINT.sub(r"\1.\2", folded.replace("___", ".")) if "_" in folded else folded


def _tokens(text: str) -> list[str]:
    """Words, numbers and sizes of a text: `Qwen2.5-VL-7B` gives qwen, 2.5, vl, 7b."""
    found: list[str] = _TOKEN.findall(_pointed(text))
    return [_FIVE_P.sub(".", token) if "p" in token and token[0].isdigit() else token for token in found]


def _edges(token: str) -> bytes:
    """One byte for each letter and digit of a token: what lies before it."""
    marks = bytearray([_EDGE])
    if "." not in token:
        return bytes(marks.ljust(len(token), b"\0"))
    marks += bytes(_POINT if before == "." else 0 for before, char in pairwise(token) if char != ".")
    return bytes(marks)


@dataclass(frozen=True, slots=True)
class _Letters:
    """A text without its separators, and where words, numbers and sizes begin and end in it."""

    chars: str
    edges: bytes
    """One more than there are characters: _EDGE where a match may begin or end."""
    after_publisher: int = 0
    """Where the name begins if what stands before its first underscore is a publisher (`TheDrummer_Cydonia`)."""
    stem: int = 0
    """How many of the letters are the model's, not the tag's."""
    starts: frozenset[str] = frozenset()
    """What stands at the edges, up to START letters of it."""

    @classmethod
    def of(cls, text: str, tag: str = "") -> _Letters:
        model, behind = _tokens(text), _tokens(tag) if tag else []
        publisher, underscore, _ = text.partition("_")
        begins = _length(_tokens(publisher)) if underscore else 0
        tokens = model + behind
        chars, edges = "".join(tokens).replace(".", ""), b"".join(map(_edges, tokens)) + bytes([_EDGE])
        return cls(chars, edges, begins, _length(model), _starts(chars, edges))


def _starts(chars: str, edges: bytes) -> frozenset[str]:
    places = [match.start() for match in _EDGES.finditer(edges)]
    return frozenset([chars[at : at + length] for at in places for length in range(1, START + 1)])


@lru_cache(CACHE_SIZE)
def _chars(space: str) -> str:
    """A namespace as it is compared: its letters and digits."""
    return "".join(_tokens(space)).replace(".", "")


def _length(tokens: Sequence[str]) -> int:
    return sum(len(token) - token.count(".") for token in tokens)


def _numbers(letters: _Letters) -> tuple[int, ...]:
    """Where a number ends and a word begins."""
    borders = enumerate(pairwise(letters.chars), start=1)
    return tuple(at for at, (a, b) in borders if a.isdigit() and b.isalpha() and letters.edges[at] == _EDGE)


@dataclass(frozen=True, slots=True)
class _Word:
    """One piece of a phrase: where its letters must stand."""

    chars: str
    starts: bool
    ends: bool
    prefix: bool
    inner: bool
    numbers: tuple[int, ...] = ()
    """Where a number ends within it: `4bit` is not in `gemma-3-4b-it`, where `4b` is one piece."""

    @classmethod
    def parse(cls, text: str) -> _Word:
        if text.endswith("-*"):
            raise ValueError(
                f"'{text}': separators do not matter, so this is '{text[:-2]}*'; write that or '{text[:-2]}'"
            )
        first, last = text[:1], text[-1:]
        body = text.strip().lstrip("^*").rstrip("$*")
        letters, inner = _Letters.of(body), first == "*" and bool(body)
        return cls(letters.chars, first == "^", last == "$", last == "*", inner, _numbers(letters))

    def find(self, letters: _Letters, end: int) -> int:
        """Where this word begins in the letters, -1 if nowhere. `end`: length of the name without its tag."""
        at = letters.chars.find(self.chars)
        while at >= 0:
            if self.fits(letters, at, end):
                return at
            at = letters.chars.find(self.chars, at + 1)
        return -1

    def fits(self, letters: _Letters, at: int, end: int) -> bool:
        stop = at + len(self.chars)
        if (letters.edges[at] != _EDGE and not self.inner) or (self.starts and at not in (0, letters.after_publisher)):
            return False
        if any(letters.edges[at + inside] != _EDGE for inside in self.numbers):
            return False
        whole = letters.edges[stop] == _EDGE or (self.prefix and (letters.edges[stop] or not self.chars[-1:].isdigit()))
        return bool(whole) and (not self.ends or stop in (end, len(letters.chars)))


@dataclass(frozen=True, slots=True)
class Phrase:
    """One thing to look for in a name, in the matching language of `docs/add-a-family.md`.

    `llama-guard`   these words in this order; case and separators do not matter, `llamaguard3` has them too
    `qwen*`         a word that begins so; `*qwen*` has it inside a word too
    `^solar`, `r1$` at the beginning of the model's name; at its end, or at the end of its tag
    `r1 + llama`    both, anywhere
    `xai/grok`      only below that namespace; `xai/*` anything below it
    """

    text: str
    words: tuple[_Word, ...]
    namespace: str | None = None
    head: str = ""
    """The letters of the first word: a name without them need not be looked at."""

    @classmethod
    def parse(cls, text: str) -> Phrase:
        """Read one phrase. Raises ValueError when it looks for fewer than two letters or digits."""
        namespace, slash, rest = text.rpartition("/")
        words = tuple(_Word.parse(part) for part in rest.split(" + "))
        if not slash and any(len(word.chars) < 2 for word in words):
            raise ValueError(f"'{text}' is too short to look for")
        return cls(text, words, _chars(namespace) if slash else None, words[0].chars)

    def find(self, name: Name) -> int:
        """Where the first word stands in the name, -1 when the phrase does not hold."""
        if self.namespace is not None and self.namespace not in name.spaces:
            return -1
        place = self.words[0].find(name.letters, name.stem)
        if place >= 0 and any(word.find(name.letters, name.stem) < 0 for word in self.words[1:]):
            return -1
        return place


class _Finder:
    """Which of many phrases hold in a name: looks only at those whose first letters stand at an edge of it."""

    def __init__(self, phrases: Iterable[tuple[Phrase, int]]) -> None:
        self._by_start: dict[str, list[tuple[Phrase, int]]] = {}
        self._by_space: dict[str, list[tuple[Phrase, int]]] = {}
        self._inner: list[tuple[Phrase, int]] = []
        for phrase, owner in phrases:
            self._kept_with(phrase).append((phrase, owner))

    def _kept_with(self, phrase: Phrase) -> list[tuple[Phrase, int]]:
        if phrase.namespace is not None:
            return self._by_space.setdefault(phrase.namespace, [])
        return self._inner if phrase.words[0].inner else self._by_start.setdefault(phrase.head[:START], [])

    def hits(self, name: Name) -> list[tuple[int, Phrase, int]]:
        """(owner, phrase, place) of every phrase that holds, in no particular order, an owner perhaps twice."""
        chars, possible = name.letters.chars, self._inner
        for start in name.letters.starts & self._by_start.keys():
            possible = possible + self._by_start[start]
        for space in name.spaces & self._by_space.keys():
            possible = possible + self._by_space[space]
        placed = [(owner, one, one.find(name)) for one, owner in possible if one.head in chars]
        return [hit for hit in placed if hit[2] >= 0]

    def held(self, name: Name) -> frozenset[str]:
        """The texts of the phrases that hold."""
        return frozenset([phrase.text for _, phrase, _ in self.hits(name)])


# --- How a name is taken apart. ---

_CACHE_FOLDER = re.compile(r"models--(?P<org>[^/]+?)--(?P<repo>[^/]+)")
_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}")
_FILE_END = re.compile(r"(?:\.(?:gguf|ggml|bin|safetensors|ollama|llamafile|pt|pth)|[-_.]gguf)$", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A model's name taken apart: namespaces before it, the model, the tag behind the colon."""

    text: str
    folders: tuple[str, ...]
    model: str
    tag: str
    registry: bool
    remote: bool

    @cached_property
    def letters(self) -> _Letters:
        return _Letters.of(self.model, self.tag)

    @property
    def stem(self) -> int:
        """How many of the letters are the model's, not the tag's."""
        return self.letters.stem

    @cached_property
    def spaces(self) -> frozenset[str]:
        return frozenset(_chars(folder) for folder in self.folders)

    @property
    def is_library(self) -> bool:
        """Could be a name of the public library: nothing before the model but the library's own prefix."""
        return not self.folders or self.folders == ("library",)


def _split_folders(text: str, registries: frozenset[str]) -> tuple[list[str], bool]:
    parts = [part for part in text.replace("\\", "/").split("/") if part]
    known = [part for part in parts if part.casefold() not in registries]
    return known or parts or [""], len(known) < len(parts)


def _split_tag(text: str) -> tuple[str, str]:
    model, _, tag = text.partition(":")
    return (model, tag) if model else (tag, "")


def read_name(text: str, registries: frozenset[str] = frozenset()) -> Name:
    """Take a declared name apart; never fails. `registries` are host names that stand before a namespace."""
    cut = text.strip()[:MAX_NAME]
    if cached := _CACHE_FOLDER.search(cut):
        return Name(cut, (cached["org"],), cached["repo"], "", True, False)
    parts, registry = _split_folders(cut, registries)
    model, tag = _split_tag(_SHARD.sub("", parts[-1]))
    remote = tag.casefold() == "cloud" or tag.casefold().endswith("-cloud")
    tag = tag[: -len("cloud")].rstrip("-") if remote else tag
    return Name(cut, tuple(parts[:-1]), _FILE_END.sub("", model), tag, registry, remote)


# --- Sizes and quantizations. ---

_DISPLAY_SIZE = re.compile(r"\s*([0-9]{1,16}(?:\.[0-9]{1,9})?)\s*([KMBT]?)\s*", re.IGNORECASE)
_UNIT = {"": 1e-9, "K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}
_NAME_SIZE = re.compile(
    r"(?<![0-9.])(?P<experts>[0-9]{1,3}x)?(?P<number>[0-9]{1,4}(?:\.[0-9]{1,3})?)"
    r"(?:(?P<unit>[mbt])|(?P<after>b[0-9](?![0-9])))(?![^\W_])"
)
_GLUED_SIZE = re.compile(r"(?<![0-9.])(?P<number>[0-9]{1,3}(?:\.[0-9]{1,2})?)b(?=[a-z0-9])(?!its?(?![^\W\d_]))")
_ACTIVE = re.compile(r"(?<![^\W\d_])a$")
EXPERT_SHARE = 0.82
"""Total of N experts of size S, over N*S: Mixtral 8x7B has 46.7 of 56, 8x22B 141 of 176 (their model cards)."""

MIN_MILLIONS = 2.5
"""A number with `m` below this is a context length (`1M`), not a size."""


def parse_size(text: str | None) -> float | None:
    """Billions of parameters from display text: "8.0B", "494.03M", "119K", "1.04T", a plain count; None if none.

    Zero, empty and unreadable text are unknown, as is anything beyond MAX_PARAMS_B.
    """
    match = _DISPLAY_SIZE.fullmatch(text or "")
    if match is None:
        return None
    return _believable(float(match[1]) * _UNIT[match[2].upper()])


def _believable(billions: float) -> float | None:
    return round(billions, 9) if 0 < billions <= MAX_PARAMS_B else None


def _in_billions(match: re.Match[str]) -> float | None:
    number, unit = float(match["number"]), match["unit"] or "b"
    if match["after"]:
        number += int(match["after"][1]) / 10
    if unit == "m" and number < MIN_MILLIONS:
        return None
    experts = int(match["experts"][:-1]) * EXPERT_SHARE if match["experts"] else 1.0
    return _believable(number * experts * _UNIT[unit.upper()])


def stated_size(text: str) -> float | None:
    """The total size in billions that a name states: `30B-A3B` gives 30, `8x7b` 45.9, `E4B` 4, `1M` none."""
    spelled = _FIVE_P.sub(".", _pointed(text))
    for match in _NAME_SIZE.finditer(spelled):
        if not _ACTIVE.search(spelled, 0, match.start()) and (size := _in_billions(match)) is not None:
            return size
    glued = _GLUED_SIZE.search(spelled)
    return _believable(float(glued["number"])) if glued and not _ACTIVE.search(spelled, 0, glued.start()) else None


@dataclass(frozen=True, slots=True)
class Quantization:
    """One way to store weights: its label, nominal bits a weight (None when mixed), and its spellings."""

    label: str
    bits: int | None
    spellings: tuple[Phrase, ...]


# --- The files. ---


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
        return _holds(self.match, name)


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


def _read_entry(raw: dict[str, Any]) -> Entry:
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


def _read_organisation(raw: dict[str, Any]) -> Organisation:
    return Organisation(tuple(raw["namespaces"]), raw["kind"], raw.get("developer"), raw.get("uncensored", False))


def _read_architecture(raw: dict[str, Any]) -> Architecture:
    given = dict(raw)
    for key in ("sizes", "named_sizes"):
        told = given.pop(key, {})
        given[key] = tuple((float(size), weights) for weights, sizes in told.items() for size in sizes)
    return Architecture(**given)


def _read_quantization(raw: dict[str, Any]) -> Quantization:
    return Quantization(raw["label"], raw.get("bits"), _phrases([raw["label"], *raw.get("spellings", ())]))


def _read_vocabulary(says: str, raw: dict[str, Any]) -> Vocabulary:
    return Vocabulary(says, _phrases(raw["match"]), tuple(raw["is"]), tuple(raw.get("is_not", ())))


def _read_glued(raw: dict[str, Any]) -> Glued:
    return Glued(raw["line"], tuple(raw["sizes"]), dict(raw["is"]), tuple(raw.get("is_not", ())))


def _read_words(path: Path) -> Words:
    raw = _toml(path)
    try:
        uncensored, distill = (_read_vocabulary(says, raw[says]) for says in ("uncensored", "distill"))
        registries = frozenset(host.casefold() for host in raw["registries"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DataError(f"{path}: {problem}") from None
    roles = _read_each(path, "role", "role", lambda item: _read_vocabulary(item["role"], item))
    glued = _read_each(path, "glued", "line", _read_glued)
    return Words(registries, uncensored, distill, roles, glued)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise DataError(f"{path}: {problem}") from None


_T = TypeVar("_T")


def _read_each(path: Path, table: str, label: str, read: Callable[[dict[str, Any]], _T]) -> tuple[_T, ...]:
    """Every `[[table]]` of a file. Raises DataError with file, entry and reason."""
    found = []
    for number, raw in enumerate(_toml(path).get(table, ()), start=1):
        try:
            found.append(read(raw))
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            named = raw.get(label, f"number {number}") if isinstance(raw, dict) else f"number {number}"
            reason = f"{problem.args[0]!r} is missing" if isinstance(problem, KeyError) else problem
            raise DataError(f"{path}: {table} '{named}': {reason}") from None
    return tuple(found)


class _Quantizations:
    """All quantizations, ready to be found in names and labels."""

    def __init__(self, known: Sequence[Quantization]) -> None:
        self.known = tuple(known)
        self._finder = _Finder((phrase, at) for at, one in enumerate(self.known) for phrase in one.spellings)
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


# --- The public library: what its tags meant, and when. ---


@dataclass(frozen=True, slots=True)
class _Listed:
    """One digest of the library: the model, its tags of that digest, and when it was first and last listed."""

    digest: str
    model: str
    first: date
    last: date
    tags: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> _Listed:
        digest, model, first, last, tags = line.split("\t")
        return cls(digest, model, date.fromisoformat(first), date.fromisoformat(last), tuple(tags.split(" ")))


class Library:
    """The history of the public library: digest -> model and tags, and name -> digest at a time."""

    def __init__(self, rows: Iterable[_Listed]) -> None:
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
                    rows.append(_Listed.parse(line))
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


# --- How evidence is weighed. ---


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Everything of a Model that a verdict depends on, and nothing else."""

    name: str
    digest: str | None
    architecture: str | None
    projector: bool
    params_b: float | None
    n_vocab: int | None
    quantization: str | None
    capabilities: frozenset[str]
    remote: bool
    remote_model: str | None
    ancestors: tuple[str, ...]
    day: date | None


_PROJECTORS = frozenset({"clip", "mllama"})
"""Second entries of the declared families that mean a vision projector is attached."""

_ANCESTOR_KEYS = ("root", "parent")
"""Names of extra fields that hold the model behind an alias (vLLM)."""


_SAID = attrgetter(
    "family_raw", "families_raw", "n_params", "parameter_size", "n_vocab", "quantization", "capabilities"
)

_Told = tuple[Any, ...]
"""The values of a Model that evidence is made of, as they stand there: the key of the cache."""


def _weigh(told: _Told) -> _Evidence:
    name, digest, family, families, n_params, size, n_vocab, quantization, capabilities, remote, ancestors, day = told
    counted = _believable(n_params / 1e9) if n_params else None
    return _Evidence(
        name=name,
        digest=digest,
        architecture=(family or "").casefold() or None,
        projector=bool(_PROJECTORS.intersection(item.casefold() for item in families or ())),
        params_b=counted or parse_size(size),
        n_vocab=n_vocab,
        quantization=quantization or None,
        capabilities=frozenset(capabilities or ()),
        remote=remote[0],
        remote_model=remote[1] or None,
        ancestors=ancestors,
        day=day,
    )


def _ancestors(model: Model) -> tuple[str, ...]:
    if not model.extra and not model.parent:
        return ()
    extra = (text for key, text in model.extra if key in _ANCESTOR_KEYS)
    return tuple(text for text in (*extra, model.parent) if text and text != model.name)


@dataclass(frozen=True, slots=True)
class _Hit:
    """An entry that a name speaks of: the phrase, and where it stands."""

    entry: Entry
    phrase: Phrase
    place: int

    @property
    def order(self) -> tuple[int, int, int, str]:
        return (self.entry.rank, self.place, -len(self.phrase.words[0].chars), self.phrase.text)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A name to read, what it rests on, and how far that is to be trusted."""

    name: Name
    resolved_by: str
    confidence: float
    rule: str | None = None


def _near(size: float | None, known: Sequence[float], tolerance: float = SIZE_TOLERANCE) -> bool:
    return size is not None and any(abs(size - one) <= tolerance * one for one in known)


def _apart(glued: re.Match[str]) -> str:
    return "-".join([*filter(None, glued.groups()), ""])


def _within(entry: Entry) -> Iterator[Phrase]:
    """Every phrase of an entry but those by which a name is its own, each once."""
    phrases = [phrase for case in entry.cases for phrase in (*case.match, *case.unless)]
    phrases += [phrase for _, generation in entry.generations for phrase in generation]
    return iter({phrase.text: phrase for phrase in phrases}.values())


class Families:
    """The taxonomy, ready to judge models. `entries` are its lineages, in the order of the file."""

    def __init__(
        self,
        entries: Sequence[Entry],
        developers: Sequence[Developer],
        organisations: Sequence[Organisation],
        architectures: Sequence[Architecture],
        vocabularies: Mapping[int, str],
        quantizations: Sequence[Quantization],
        words: Words,
        library: Library,
    ) -> None:
        self.entries = tuple(entries)
        self.developers = {one.name: one for one in developers}
        self.organisations = tuple(organisations)
        self.architectures = {one.name: one for one in architectures}
        self.vocabularies = dict(vocabularies)
        self.quantizations = _Quantizations(quantizations)
        self.words = words
        self.library = library
        self._index()

    def _index(self) -> None:
        self._finder = _Finder((phrase, at) for at, entry in enumerate(self.entries) for phrase in entry.match)
        self._by_brand: dict[str, Entry] = {}
        for entry in self.entries:
            self._by_brand.setdefault(entry.brand, entry)
        self._spaces = {_chars(space): org for org in self.organisations for space in org.namespaces}
        self._own = {entry.id: _Finder((phrase, 0) for phrase in _within(entry)) for entry in self.entries}
        vocabularies = (self.words.uncensored, self.words.distill, *self.words.roles)
        self._says = [one.says for one in vocabularies]
        self._words = _Finder((phrase, at) for at, one in enumerate(vocabularies) for phrase in one.match)
        self._glued = re.compile("|".join(one.pattern for one in self.words.glued) or "(?!)", re.IGNORECASE)
        self._cached = lru_cache(CACHE_SIZE)(lambda told: self._judge(_weigh(told)))
        self._turns = lru_cache(CACHE_SIZE)(lambda name: self.library.turns(self.read(name)))
        self._digest = lru_cache(DIGESTS_REMEMBERED)(self._known_digest)

    @classmethod
    def load(cls, path: Path | None = None) -> Families:
        """Read `families.toml` and the folder `families/` beside it; `data/families.toml` when no path is given.

        Raises DataError naming file, entry and reason.
        """
        main = path or resources.data("families.toml")
        beside = main.with_suffix("")
        known = _toml(beside / "architectures.toml")
        return cls(
            entries=_read_each(main, "lineage", "id", _read_entry),
            developers=_read_each(beside / "developers.toml", "developer", "name", lambda raw: Developer(**raw)),
            organisations=_read_each(beside / "organisations.toml", "organisation", "kind", _read_organisation),
            architectures=_read_each(beside / "architectures.toml", "architecture", "name", _read_architecture),
            vocabularies={size: weights for weights, sizes in known["vocabularies"].items() for size in sizes},
            quantizations=_read_each(beside / "quantizations.toml", "quantization", "label", _read_quantization),
            words=_read_words(beside / "words.toml"),
            library=Library.load(beside / "library.tsv"),
        )

    def classify(self, model: Model, *, observed_at: datetime | None = None) -> Lineage:
        """What a model's name and metadata say of where it comes from. Never fails; None is unknown.

        `observed_at` (UTC) tells what a tag such as `:latest` meant; the model's own `modified_at` comes first.
        """
        return self._cached(self._told(model, observed_at))

    def _told(self, model: Model, observed_at: datetime | None) -> _Told:
        """What a model says for itself.

        A digest that the library does not know is left out, and one day stands for all on which the name meant the
        same: many hosts have a model, and these two would make nearly each of them a case of its own.
        """
        name, digest, ancestors = model.name[:MAX_NAME], self._digest(model.digest), _ancestors(model)
        pulled = model.modified_at or observed_at if ":" in model.name else None
        day = pulled and self._day(name, pulled, bool(ancestors))
        remote = bool(model.is_remote or model.remote_model or model.remote_host), model.remote_model
        return name, digest, *_SAID(model), remote, ancestors, day

    def _day(self, name: str, pulled: datetime, exactly: bool) -> date | None:
        if exactly:
            return pulled.date()
        turns = self._turns(name)
        return self._turn(turns, pulled.date()) if turns else None

    def _known_digest(self, digest: str | None) -> str | None:
        """The digits by which the library knows a digest, None where it does not."""
        digits = (digest or "").removeprefix("sha256:")[:12].casefold()
        return digits if self.library.knows(digits) else None

    def _turn(self, turns: Sequence[date], day: date) -> date | None:
        """The first of the days on which a name meant what it meant on this one; None for the last of its meanings."""
        at = bisect_right(turns, day)
        if at == len(turns):
            return None
        return turns[at - 1] if at else date.min

    # Which name to believe.

    def read(self, text: str) -> Name:
        """A declared name taken apart, a known publisher before an underscore counted as a namespace.

        A generation and a size written as one number come apart.
        """
        name = read_name(text, self.words.registries)
        if self._glued.search(name.model):
            name = replace(name, model=self._glued.sub(_apart, name.model).rstrip("-"))
        publisher, mark, rest = name.model.partition("_")
        if mark and rest and name.letters.chars[: name.letters.after_publisher] in self._spaces:
            return replace(name, folders=(*name.folders, publisher), model=rest)
        return name

    def _candidates(self, name: Name, evidence: _Evidence) -> Iterator[_Candidate]:
        remote = evidence.remote or name.remote
        if remote and evidence.remote_model:
            yield _Candidate(self.read(evidence.remote_model), "remote", REMOTE, "remote-model")
        if evidence.digest and (listed := self.library.named(evidence.digest)):
            yield _Candidate(listed, "digest", CERTAIN, f"digest:{evidence.digest}")
        yield self._plain(name, evidence, remote)
        for text in evidence.ancestors:
            yield self._plain(self.read(text), evidence, False)
        if len(name.folders) > 1:
            for folder in reversed(name.folders[1:]):
                yield _Candidate(replace(name, folders=(), model=folder, tag=""), "name", NAMED)

    def _plain(self, name: Name, evidence: _Evidence, remote: bool) -> _Candidate:
        if remote:
            return _Candidate(name, "remote", REMOTE, "remote")
        if found := self.library.digest(name, evidence.day):
            digest, moved = found
            listed = self.library.named(digest) or name
            return _Candidate(listed, "name", DATED if moved else NAMED, f"library:{digest}")
        official = any(self._spaces[space].kind == "official" for space in name.spaces if space in self._spaces)
        if name.registry or name.folders:
            return _Candidate(name, "registry", OFFICIAL if official else REGISTRY)
        return _Candidate(name, "name", NAMED)

    def _hits(self, name: Name) -> list[_Hit]:
        """What a name speaks of, the strongest first: lowest rank, then leftmost, then longest."""
        found = [_Hit(self.entries[at], phrase, place) for at, phrase, place in self._finder.hits(name)]
        kept = [hit for hit in found if not any(veto.find(name) >= 0 for veto in hit.entry.unless)]
        return sorted(kept, key=lambda hit: hit.order)

    def _judge(self, evidence: _Evidence) -> Lineage:
        name = self.read(evidence.name)
        remote = evidence.remote or name.remote
        for candidate in self._candidates(name, evidence):
            if hits := self._hits(candidate.name):
                return _Judgement(self, evidence, candidate, hits).lineage(remote)
        plain = _Candidate(name, "remote" if remote else "metadata", METADATA)
        return _Judgement(self, evidence, plain, []).lineage(remote)

    def check(self) -> list[str]:
        """What is wrong with the files, one line each: entry and reason. Empty when nothing is."""
        return [*_unknown_names(self), *_failing_examples(self), *_needless(self), *_wrong_words(self)]

    # Facts, for the judgement.

    @property
    def brands(self) -> Collection[str]:
        """Every brand that has an entry."""
        return self._by_brand.keys()

    def namespaces(self) -> Iterator[str]:
        """Every known namespace as it is compared, one listed twice coming twice."""
        return (_chars(space) for one in self.organisations for space in one.namespaces)

    def entry_of(self, brand: str | None) -> Entry | None:
        """The entry of a brand, None when there is none."""
        return self._by_brand.get(brand) if brand else None

    def weights_of(self, brand: str | None) -> str | None:
        """Whose pre-training a brand rests on when nothing more is known: itself, its only base's, or unknown."""
        entry = self.entry_of(brand)
        if entry is None:
            return brand
        if entry.weights or not entry.bases:
            return entry.weights or entry.brand
        return self.weights_of(entry.bases[0]) if len(entry.bases) == 1 else None

    def held(self, entry: Entry | None, name: Name) -> frozenset[str]:
        """The phrases of an entry's cases and generations that hold."""
        return self._own[entry.id].held(name) if entry else frozenset()

    def said(self, name: Name) -> frozenset[str]:
        """What the words of a name say of any model: a role, uncensored, distilled."""
        return frozenset([self._says[at] for at, _, _ in self._words.hits(name)])

    def country_of(self, developer: str | None) -> str | None:
        """ISO 3166-1 alpha-2 of a developer, None when not known."""
        known = self.developers.get(developer) if developer else None
        return known.country if known else None

    def organisation_of(self, name: Name) -> Organisation | None:
        """The organisation of the nearest known namespace."""
        known = (self._spaces.get(_chars(folder)) for folder in reversed(name.folders))
        return next((one for one in known if one), None)


def _holds(phrases: Iterable[Phrase], name: Name) -> bool:
    return any(phrase.find(name) >= 0 for phrase in phrases)


_ROLES_SAID: dict[str | None, tuple[str, ...] | None] = {
    "embedding": ("rerank",),
    "chat": None,
    "code": ("base",),
    None: None,
}
"""Usual role of a line -> roles that words of a name may give instead; None is any. Other lines stay what they are."""

_SILENT = frozenset(
    {"v", "k", "hf", "gguf", "ggml", "gptq", "awq", "q", "m", "s", "l", "fp", "bf", "f", "int", "bit", "mlx"}
)
"""Words of a repository's name that tell format and version, not training."""


class _Judgement:
    """One verdict in the making: an entry, a name and the metadata beside it."""

    def __init__(self, families: Families, evidence: _Evidence, candidate: _Candidate, hits: list[_Hit]) -> None:
        self.families, self.evidence, self.candidate = families, evidence, candidate
        self.name = candidate.name
        self.entry = hits[0].entry if hits else None
        self.mentioned = [hit.entry.brand for hit in hits[1:]]
        self.held = families.held(self.entry, self.name)
        self.said = families.said(self.name)
        self.architecture = families.architectures.get(evidence.architecture or "")
        stated = stated_size(self.name.model) or stated_size(self.name.tag)
        self.size = evidence.params_b or stated
        self.cases = [(at, case) for at, case in enumerate(self.entry.cases if self.entry else (), 1) if self._is(case)]
        self.rules = [rule for rule in (candidate.rule, self.entry.id if self.entry else None) if rule]

    def _is(self, case: Case) -> bool:
        return (
            (not case.match or self._holds(case.match))
            and not self._holds(case.unless)
            and (case.mentions is None or case.mentions in self.mentioned)
            and (not case.size or _near(self.size, case.size))
            and (not case.architecture or self.evidence.architecture in case.architecture)
        )

    def _holds(self, phrases: Sequence[Phrase]) -> bool:
        return bool(phrases and self.held) and any(phrase.text in self.held for phrase in phrases)

    def _set(self, key: str) -> Any:
        """What the first case that holds sets a field to, None when no case does."""
        for at, case in self.cases:
            if key in case.sets:
                self._note(f"{self.entry.id}/{at}" if self.entry else None)
                return case.sets[key]
        return None

    def _note(self, rule: str | None) -> None:
        if rule and rule not in self.rules:
            self.rules.append(rule)

    # Brand and weights.

    @cached_property
    def agrees(self) -> bool:
        """The reported architecture is one that the brand, or this part of its line, is known to report."""
        if self.entry is None or self.architecture is None:
            return False
        return self.architecture.name in (self._set("reports") or self.entry.architectures)

    @cached_property
    def hosted(self) -> bool:
        """Nobody but its owner can serve it, unless an architecture of the brand shows that weights are there."""
        return bool(self.entry and not self.agrees and (self.entry.hosted or self._set("hosted")))

    @property
    def conflict(self) -> bool:
        """The brand has weights of its own and never reports this architecture, nor does any other in the name."""
        entry = self.entry
        if entry is None or self.candidate.resolved_by in ("digest", "remote"):
            return False
        if self.architecture is None or self._too_small():
            return self._too_small()
        foreign = entry.rank != LINE and bool(entry.architectures or self.hosted)
        return foreign and not self.agrees and not any(self._could_be_base(brand) for brand in self.mentioned)

    def _too_small(self) -> bool:
        """The server counted fewer parameters than the smallest model of that name has."""
        counted = self.evidence.params_b
        return counted is not None and counted < (self._set("at_least") or 0.0)

    def base(self) -> str | None:
        """The immediate parent line: as a case says, as the name mentions, the only one left, as reported."""
        entry = self.entry
        if entry is None:
            return None
        told = self._set("base")
        reporting = [brand for brand in entry.bases if self._reports(brand)]
        if told is not None and (told in ("", UNDECIDED) or self._reports(told) or (self.agrees and not reporting)):
            return str(told) or None
        possible = reporting or list(entry.bases if self.agrees else ())
        named = [brand for brand in self.mentioned if brand in (*possible, *entry.sometimes)]
        named = named or [brand for brand in self.mentioned if entry.bases and self._could_be_base(brand)]
        if named or len(possible) == 1:
            return named[0] if named else possible[0]
        reported = self.architecture.weights if self.architecture else None
        return reported if reported in entry.sometimes or (entry.bases and not possible) else None

    def _could_be_base(self, brand: str) -> bool:
        """A line with weights of its own that a derived one mentions, and that the architecture does not exclude."""
        known = self.families.entry_of(brand)
        return known is not None and known.rank == ROOT and not known.hosted and self._reports(brand)

    def _reports(self, brand: str) -> bool:
        """Whether a model of that brand can report the architecture that was reported."""
        known = self.families.entry_of(brand)
        if self.architecture is None or known is None or not known.architectures:
            return True
        return self.architecture.name in known.architectures

    def weights(self, base: str | None) -> str | None:
        entry = self.entry
        if entry is None:
            return None
        if (found := self._set("weights")) is not None:
            return str(found) or None
        if base == UNDECIDED:
            return self._reported()
        if base and (not entry.weights or base not in entry.bases):
            return self._inherited(base)
        return (entry.weights or self._reported()) if entry.bases or entry.weights else entry.brand

    def _inherited(self, base: str) -> str | None:
        return self.families.weights_of(base) or self._reported()

    def _reported(self) -> str | None:
        """Whose weights the metadata speak of: by vocabulary, by architecture, by size within it."""
        by_vocabulary = self.families.vocabularies.get(self.evidence.n_vocab or 0)
        known = self.architecture
        if known is None:
            return by_vocabulary
        told = known.sizes if self.evidence.params_b else known.named_sizes
        by_size = [weights for size, weights in told if _near(self.size, (size,), COUNT_TOLERANCE)]
        return known.weights or by_vocabulary or (by_size[0] if by_size else None)

    # The rest.

    def generation(self, brand: str | None) -> str | None:
        entry = self.entry
        if entry is None or brand is None:
            return None
        held = [
            (len(phrase.text), -at, name)
            for at, (name, phrases) in enumerate(entry.generations)
            for phrase in phrases
            if phrase.text in self.held
        ]
        told = self.architecture.generation if self.architecture and self.architecture.weights == brand else None
        return max(held)[2] if held else self._set("generation") or told or entry.generation

    def params(self) -> float | None:
        total = self._set("total")
        known = self.evidence.params_b or total or self.size or self._set("params")
        return float(known) if known else None

    def quantization(self) -> tuple[str | None, int | None]:
        declared = self.evidence.quantization
        known = self.families.quantizations
        stated = (known.declared(declared) if declared else None) or known.stated(self.name)
        return (stated.label, stated.bits) if stated else (None, None)

    def role(self) -> str | None:
        if "embedding" in self.evidence.capabilities:
            return "embedding"
        role = self._set("role") or self._worded_role()
        own = self.entry is None or self.entry.rank == ROOT
        if role in ("chat", None) and own and self.architecture and self.architecture.role:
            return self.architecture.role
        if role in ("chat", None) and (self.evidence.projector or "vision" in self.evidence.capabilities):
            return "vision"
        return role

    def _worded_role(self) -> str | None:
        """By words of the name, as far as the usual role of the line lets them speak."""
        usual = (self.entry.role or "chat") if self.entry else None
        roles = _ROLES_SAID.get(usual, ())
        if self.entry and self.entry.hosted and roles is None:
            roles = ("rerank", "embedding", "other", "code")
        for words in self.families.words.roles:
            if words.says in self.said and (roles is None or words.says in roles):
                return words.says
        if self.entry is None:
            return self._usual_role()
        return self.entry.bare if self.entry.bare and self._is_bare() else usual

    def _usual_role(self) -> str | None:
        """Of a name that tells nothing: what most models of the reported weights are for."""
        root = self.families.entry_of(self._reported())
        return (root.role or "chat") if root else None

    def _is_bare(self) -> bool:
        """A repository's name that says nothing but line, version and size, as base models are named."""
        if not self.name.folders or (self.name.tag and not self.name.registry) or self.entry is None:
            return False
        said = [token for token in _tokens(self.name.model) if not token[0].isdigit() and token not in _SILENT]
        spoken = "".join(said)
        return "chat" not in said and any(spoken and spoken in phrase.words[0].chars for phrase in self.entry.match)

    def uncensored(self) -> bool | None:
        organisation = self.families.organisation_of(self.name)
        if self.families.words.uncensored.says in self.said or (organisation and organisation.uncensored):
            return True
        known = self.entry and (self.entry.uncensored or self._set("uncensored"))
        return bool(known) if self.entry else None

    def distilled(self) -> bool | None:
        if self.entry is None:
            return None
        told = self._set("distill")
        return bool(self.entry.distill or told or (told is None and self.families.words.distill.says in self.said))

    def lineage(self, remote: bool) -> Lineage:
        """The verdict. A name that its architecture contradicts gives no brand; the metadata give the weights."""
        if self.entry is None or self.conflict:
            return self._without_brand(remote)
        base = self.base()
        weights = self.weights(base)
        base = None if base == UNDECIDED else base
        brand = self.entry.brand
        developer = self._set("developer") or self.entry.developer
        return Lineage(
            **self._common(brand, remote),
            brand_family=brand,
            base_family=base,
            weights_family=weights,
            developer=developer,
            developer_country=self.families.country_of(developer),
            weights_country=self._weights_country(weights),
            is_distill=self.distilled(),
            claimed_brand=brand if self.hosted and not remote else None,
            resolved_by=self.candidate.resolved_by,
            confidence=self._confidence(remote),
            rules=self._all_rules(base),
        )

    def _common(self, brand: str | None, remote: bool) -> dict[str, Any]:
        """The fields that a model has with and without a brand."""
        quant, bits = self.quantization()
        return {
            "generation": self.generation(brand),
            "params_b": self.params(),
            "quant": quant,
            "quant_bits": bits,
            "role": self.role(),
            "uncensored": self.uncensored(),
            "remote": remote,
        }

    def _without_brand(self, remote: bool) -> Lineage:
        """What remains when there is no brand, or the metadata contradict it: a claim, and whose weights they are."""
        if self.entry is not None:
            plain = _Judgement(self.families, self.evidence, self.candidate, [])
            plain.rules = [*self.rules, "conflict"]
            claimed = self.entry.brand if self.hosted else None
            return replace(plain._without_brand(remote), claimed_brand=claimed, confidence=CONFLICT)
        weights = self._reported()
        return Lineage(
            **self._common(None, remote),
            base_family=weights,
            weights_family=weights,
            weights_country=self._weights_country(weights),
            resolved_by="remote" if remote else "metadata" if weights else None,
            confidence=METADATA if weights else None,
            rules=(*self.rules, *self._reporting(weights)),
        )

    def _reporting(self, weights: str | None) -> tuple[str, ...]:
        """Ids of the metadata that told whose weights they are."""
        if weights is None:
            return ()
        known = self.architecture is not None and self.architecture.weights is not None
        by_vocabulary = self.evidence.n_vocab in self.families.vocabularies and not known
        return (
            f"vocabulary:{self.evidence.n_vocab}" if by_vocabulary else f"architecture:{self.evidence.architecture}",
        )

    def _weights_country(self, weights: str | None) -> str | None:
        root = self.families.entry_of(weights)
        return self.families.country_of(root.developer) if root else None

    def _confidence(self, remote: bool) -> float:
        if self.hosted and not remote:
            return CLAIM
        return min(CERTAIN, round(self.candidate.confidence + (CONFIRMED if self.agrees else 0.0), 2))

    def _all_rules(self, base: str | None) -> tuple[str, ...]:
        below = self.families.entry_of(base)
        self._note(below.id if below else None)
        self._note(f"architecture:{self.architecture.name}" if self.architecture else None)
        return tuple(self.rules)


@lru_cache(maxsize=1)
def _shipped_quantizations() -> _Quantizations:
    path = resources.data("families", "quantizations.toml")
    return _Quantizations(_read_each(path, "quantization", "label", _read_quantization))


def quant_bits(label: str | None) -> int | None:
    """Nominal bits a weight of a quantization label, in any of its spellings; None when unknown or mixed."""
    found = _shipped_quantizations().declared(label) if label else None
    return found.bits if found else None


# --- How the files are checked. ---


def _twice(names: Iterable[str]) -> list[str]:
    counted = Counter(names)
    return sorted(name for name, times in counted.items() if times > 1)


def _unknown_names(families: Families) -> Iterator[str]:
    """Ids and brands used twice; brands, developers and architectures that no entry defines."""
    yield from (f"lineage '{one}': two entries have this id" for one in _twice(e.id for e in families.entries))
    yield from (f"brand '{one}': two entries have it" for one in _twice(e.brand for e in families.entries))
    yield from (f"namespace '{one}': listed twice" for one in _twice(families.namespaces()))
    for entry in families.entries:
        for brand in sorted(_brands_named(entry) - set(families.brands) - {"", UNDECIDED}):
            yield f"lineage '{entry.id}': no entry has the brand '{brand}'"
        for name in sorted({*entry.architectures, *(a for c in entry.cases for a in c.architecture)}):
            if name not in families.architectures:
                yield f"lineage '{entry.id}': no architecture '{name}' in architectures.toml"
        for developer in sorted(_developers_named(entry) - set(families.developers)):
            yield f"lineage '{entry.id}': no developer '{developer}' in developers.toml"
    yield from _unknown_beside(families)


def _unknown_beside(families: Families) -> Iterator[str]:
    for organisation in families.organisations:
        if organisation.developer and organisation.developer not in families.developers:
            yield f"namespace '{organisation.namespaces[0]}': no developer '{organisation.developer}'"
    for architecture in families.architectures.values():
        told = {architecture.weights, *(weights for _, weights in architecture.sizes + architecture.named_sizes)}
        for weights in sorted(filter(None, told - set(families.brands))):
            yield f"architecture '{architecture.name}': no entry has the brand '{weights}'"
    used = {developer for entry in families.entries for developer in _developers_named(entry)}
    used |= {one.developer for one in families.organisations if one.developer}
    yield from (f"developer '{name}': no entry has it" for name in families.developers if name not in used)


def _brands_named(entry: Entry) -> set[str]:
    by_cases = {str(case.sets[key]) for case in entry.cases for key in ("base", "weights") if key in case.sets}
    mentioned = {case.mentions for case in entry.cases if case.mentions}
    return {*entry.bases, *entry.sometimes, *by_cases, *mentioned, entry.weights or ""}


def _developers_named(entry: Entry) -> set[str]:
    named = {entry.developer, *(case.sets.get("developer") for case in entry.cases)}
    return {str(one) for one in named if one}


def _failing_examples(families: Families) -> Iterator[str]:
    for entry in families.entries:
        for example in entry.examples:
            found = families.classify(example.model, observed_at=example.observed_at)
            wanted = {"brand_family": entry.brand, **example.expected}
            wrong = {key: getattr(found, key) for key, value in wanted.items() if getattr(found, key) != value}
            for key, value in wrong.items():
                yield f"lineage '{entry.id}': '{example.model.name}' is {key} {wanted[key]!r}, but comes out {value!r}"
        for example in entry.counterexamples:
            if families.classify(example.model, observed_at=example.observed_at).brand_family == entry.brand:
                yield f"lineage '{entry.id}': '{example.model.name}' is not it, but is taken for it"


def _needless(families: Families) -> Iterator[str]:
    """Phrases, generations and cases without which every example would come out the same."""
    for entry in families.entries:
        if not entry.examples:
            yield f"lineage '{entry.id}': no example is it"
        needed = _Needed()
        for example in entry.examples:
            needed.add(families, entry, example)
        yield from (f"lineage '{entry.id}': no example needs {what}" for what in needed.missing(entry))


@dataclass
class _Needed:
    """Which parts of an entry its examples need."""

    phrases: set[str] = field(default_factory=set)
    generations: set[str | None] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)

    def add(self, families: Families, entry: Entry, example: Example) -> None:
        name = families.read(example.model.name)
        holding = [phrase.text for phrase in entry.match if phrase.find(name) >= 0]
        self.phrases |= set(holding) if len(holding) == 1 else set()
        found = families.classify(example.model, observed_at=example.observed_at)
        self.generations.add(found.generation)
        self.rules |= set(found.rules)

    def missing(self, entry: Entry) -> Iterator[str]:
        yield from (f"the phrase '{one.text}'" for one in entry.match if one.text not in self.phrases)
        yield from (f"the generation '{one}'" for one, _ in entry.generations if one not in self.generations)
        numbers = range(1, len(entry.cases) + 1)
        yield from (f"case {at}" for at in numbers if f"{entry.id}/{at}" not in self.rules)


def _wrong_words(families: Families) -> Iterator[str]:
    """Words whose examples do not hold, or that no example needs; spellings of two quantizations at once."""
    words = families.words
    for vocabulary in (words.uncensored, words.distill, *words.roles):
        names = [families.read(text) for text in vocabulary.examples]
        yield from (f"words '{vocabulary.says}': '{n.text}' does not say it" for n in names if not vocabulary.holds(n))
        others = [families.read(text) for text in vocabulary.counterexamples]
        yield from (f"words '{vocabulary.says}': '{n.text}' is taken to say it" for n in others if vocabulary.holds(n))
        held = [[phrase.text for phrase in vocabulary.match if phrase.find(name) >= 0] for name in names]
        alone = {texts[0] for texts in held if len(texts) == 1}
        needless = [phrase.text for phrase in vocabulary.match if phrase.text not in alone]
        yield from (f"words '{vocabulary.says}': no example needs the phrase '{text}'" for text in needless)
    yield from _wrong_glued(families)
    for twice in _twice(phrase.text for one in families.quantizations.known for phrase in one.spellings):
        yield f"quantization spelling '{twice}': listed twice"


def _wrong_glued(families: Families) -> Iterator[str]:
    """Names that do not come apart as their examples say, or come apart and should not."""
    for glued in families.words.glued:
        for text, apart in glued.examples.items():
            if (found := families.read(text).model) != apart:
                yield f"glued '{glued.line}': '{text}' comes apart as '{found}', not as '{apart}'"
        for text in glued.counterexamples:
            if re.search(glued.pattern, read_name(text).model, re.IGNORECASE):
                yield f"glued '{glued.line}': '{text}' is taken apart"
