"""A model's name and metadata -> its lineage: brand, base, weights, origin, size, quantization, role.

The knowledge is in `data/families.toml` (lineages) and `data/families/` (developers, namespaces, architectures,
quantizations, words, the public library's digests), which `taxonomy` reads; `names` takes a name apart. Here
evidence is weighed, and the files are checked.

Order of evidence: a remote marker, the manifest digest, a name with its registry or namespace, a bare name, the
reported metadata. The name sets the brand; the reported architecture sets or vetoes the weights.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from census import hostile, resources
from census.model import Lineage, Model
from census.names import (
    CACHE_SIZE,
    MAX_NAME,
    Finder,
    Name,
    Phrase,
    believable,
    compared,
    parse_size,
    read_name,
    stated_size,
    words_of,
)
from census.taxonomy import (
    LINE,
    ROOT,
    UNDECIDED,
    Architecture,
    Case,
    Developer,
    Entry,
    Example,
    Library,
    Organisation,
    Quantization,
    Quantizations,
    Words,
    read_architecture,
    read_each,
    read_entry,
    read_organisation,
    read_quantization,
    read_toml,
    read_words,
)

DIGESTS_REMEMBERED = 8192
"""Digests kept with what the library knows of them."""

SIZE_TOLERANCE = 0.09
"""Relative distance within which a size counts as one of a lineage's known sizes ("7.6B" is 7, never 8)."""

COUNT_TOLERANCE = 0.02
"""Relative distance within which a counted size tells whose weights it is: 7.2B is Mistral's, 6.7B Llama's."""

CERTAIN, REMOTE, OFFICIAL, REGISTRY, NAMED = 1.0, 0.95, 0.95, 0.9, 0.85
"""Confidence by evidence: digest; a cloud's own name; the developer's own namespace; any namespace; a bare name."""

CONFIRMED, DATED, METADATA, CONFLICT, CLAIM = 0.05, 0.7, 0.6, 0.4, 0.3
"""Added when the architecture agrees; a tag whose meaning moved; metadata alone; name against metadata; hosted-only."""


# --- How evidence is weighed -----------------------------------------------------------------------------------------


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

TOLD_TEXT = 1024
"""Characters of what a model says beyond which its lineage is not kept: what strangers send must not fill memory."""

_Told = tuple[Any, ...]
"""The values of a Model that evidence is made of, as they stand there: the key of the cache."""


def _length(told: Any) -> int:
    """Characters of all texts in it."""
    if isinstance(told, str):
        return len(told)
    return sum(map(_length, told)) if isinstance(told, tuple) else 0


def _weigh(told: _Told) -> _Evidence:
    name, digest, family, families, n_params, size, n_vocab, quantization, capabilities, remote, ancestors, day = told
    counted = believable(n_params / 1e9) if n_params else None
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
        self.quantizations = Quantizations(quantizations)
        self.words = words
        self.library = library
        self._index()

    def _index(self) -> None:
        self._finder = Finder((phrase, at) for at, entry in enumerate(self.entries) for phrase in entry.match)
        self._by_brand: dict[str, Entry] = {}
        for entry in self.entries:
            self._by_brand.setdefault(entry.brand, entry)
        self._spaces = {compared(space): org for org in self.organisations for space in org.namespaces}
        self._own = {entry.id: Finder((phrase, 0) for phrase in _within(entry)) for entry in self.entries}
        vocabularies = (self.words.uncensored, self.words.distill, *self.words.roles)
        self._says = [one.says for one in vocabularies]
        self._words = Finder((phrase, at) for at, one in enumerate(vocabularies) for phrase in one.match)
        self._glued = re.compile("|".join(one.pattern for one in self.words.glued) or "(?!)", re.IGNORECASE)
        self._judged: dict[_Told, Lineage] = {}
        self._turns = lru_cache(CACHE_SIZE)(lambda name: self.library.turns(self.read(name)))
        self._digest = lru_cache(DIGESTS_REMEMBERED)(self._known_digest)

    @classmethod
    def load(cls, path: Path | None = None) -> Families:
        """Read `families.toml` and the folder `families/` beside it; `data/families.toml` when no path is given.

        Raises DataError naming file, entry and reason.
        """
        main = path or resources.data("families.toml")
        beside = main.with_suffix("")
        known = read_toml(beside / "architectures.toml")
        return cls(
            entries=read_each(main, "lineage", "id", read_entry),
            developers=read_each(beside / "developers.toml", "developer", "name", lambda raw: Developer(**raw)),
            organisations=read_each(beside / "organisations.toml", "organisation", "kind", read_organisation),
            architectures=read_each(beside / "architectures.toml", "architecture", "name", read_architecture),
            vocabularies={size: weights for weights, sizes in known["vocabularies"].items() for size in sizes},
            quantizations=read_each(beside / "quantizations.toml", "quantization", "label", read_quantization),
            words=read_words(beside / "words.toml"),
            library=Library.load(beside / "library.tsv"),
        )

    def classify(self, model: Model, *, observed_at: datetime | None = None) -> Lineage:
        """What a model's name and metadata say of where it comes from. Never fails; None is unknown.

        `observed_at` (UTC) tells what a tag such as `:latest` meant; the model's own `modified_at` comes first.
        """
        told = self._told(model, observed_at)
        lineage = self._judged.get(told)
        if lineage is None:
            lineage = self._judge(_weigh(told))
            if _length(told) <= TOLD_TEXT:
                hostile.make_room(self._judged, CACHE_SIZE)
                self._judged[told] = lineage
        return lineage

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
        return (compared(space) for one in self.organisations for space in one.namespaces)

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
        known = (self._spaces.get(compared(folder)) for folder in reversed(name.folders))
        return next((one for one in known if one), None)


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
        said = [token for token in words_of(self.name.model) if not token[0].isdigit() and token not in _SILENT]
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


# --- How the files are checked ---------------------------------------------------------------------------------------


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
