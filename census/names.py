"""Names of models, compared and taken apart: letters and edges, phrases to find in them, namespaces and tags, sizes.

A part of `families`: it knows no lineage. Separators and case never matter, the edges of words and numbers do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

MAX_NAME = 256
"""Characters of a name that are looked at; the longest name seen on an exposed host has fewer."""

CACHE_SIZE = 16_384
"""Verdicts kept in memory, one for each distinct name and metadata; models repeat massively."""

MAX_PARAMS_B = 20_000.0
"""Billions of parameters beyond which a stated size is not believed."""


# --- How text is compared --------------------------------------------------------------------------------------------


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


def words_of(text: str) -> list[str]:
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
        model, behind = words_of(text), words_of(tag) if tag else []
        publisher, underscore, _ = text.partition("_")
        begins = _length(words_of(publisher)) if underscore else 0
        tokens = model + behind
        chars, edges = "".join(tokens).replace(".", ""), b"".join(map(_edges, tokens)) + bytes([_EDGE])
        return cls(chars, edges, begins, _length(model), _starts(chars, edges))


def _starts(chars: str, edges: bytes) -> frozenset[str]:
    places = [match.start() for match in _EDGES.finditer(edges)]
    return frozenset([chars[at : at + length] for at in places for length in range(1, START + 1)])


@lru_cache(CACHE_SIZE)
def compared(space: str) -> str:
    """A namespace as it is compared: its letters and digits."""
    return "".join(words_of(space)).replace(".", "")


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
        return cls(text, words, compared(namespace) if slash else None, words[0].chars)

    def find(self, name: Name) -> int:
        """Where the first word stands in the name, -1 when the phrase does not hold."""
        if self.namespace is not None and self.namespace not in name.spaces:
            return -1
        place = self.words[0].find(name.letters, name.stem)
        if place >= 0 and any(word.find(name.letters, name.stem) < 0 for word in self.words[1:]):
            return -1
        return place


class Finder:
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


# --- How a name is taken apart ---------------------------------------------------------------------------------------


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
        return frozenset(compared(folder) for folder in self.folders)

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


# --- Sizes -----------------------------------------------------------------------------------------------------------


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
    return believable(float(match[1]) * _UNIT[match[2].upper()])


def believable(billions: float) -> float | None:
    """A size in billions, or None beyond what is believed."""
    return round(billions, 9) if 0 < billions <= MAX_PARAMS_B else None


def _in_billions(match: re.Match[str]) -> float | None:
    number, unit = float(match["number"]), match["unit"] or "b"
    if match["after"]:
        number += int(match["after"][1]) / 10
    if unit == "m" and number < MIN_MILLIONS:
        return None
    experts = int(match["experts"][:-1]) * EXPERT_SHARE if match["experts"] else 1.0
    return believable(number * experts * _UNIT[unit.upper()])


def stated_size(text: str) -> float | None:
    """The total size in billions that a name states: `30B-A3B` gives 30, `8x7b` 45.9, `E4B` 4, `1M` none."""
    spelled = _FIVE_P.sub(".", _pointed(text))
    for match in _NAME_SIZE.finditer(spelled):
        if not _ACTIVE.search(spelled, 0, match.start()) and (size := _in_billions(match)) is not None:
            return size
    glued = _GLUED_SIZE.search(spelled)
    return believable(float(glued["number"])) if glued and not _ACTIVE.search(spelled, 0, glued.start()) else None


def any_holds(phrases: Iterable[Phrase], name: Name) -> bool:
    """Whether one of the phrases holds in a name."""
    return any(phrase.find(name) >= 0 for phrase in phrases)
