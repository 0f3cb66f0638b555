"""Names of models -> what they say of family, developer, size and quantization, with the entries that decided.

What a stranger sent is escaped where it becomes text. It needs the families and no other stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import IO, Any

from census.errors import UsageError
from census.families import Families
from census.hostile import Unreadable, printable, read_json
from census.model import Lineage, Model

Row = dict[str, Any]

SAID_SHOWN = 100
"""Characters of a wrong value in an error."""

MAX_LINE = 1 << 20
"""Bytes of a line of names."""

READ_SIZE = 64 << 10
"""Bytes of a list of names in memory at once; what has come so far is answered at once."""

_VERDICT = {
    "brand_family": "brand_family",
    "generation": "generation",
    "base_family": "base_family",
    "weights_family": "weights_family",
    "developer": "developer",
    "country": "developer_country",
    "weights_country": "weights_country",
    "params_b": "params_b",
    "quant": "quant",
    "quant_bits": "quant_bits",
    "role": "role",
    "is_distill": "is_distill",
    "uncensored": "uncensored",
    "remote": "remote",
    "resolved_by": "resolved_by",
    "confidence": "confidence",
}
"""Key of a verdict -> field of `Lineage`, in the order of the keys."""

_SAID = {"family": "family_raw", "digest": "digest", "parameter_size": "parameter_size"} | {
    "quantization_level": "quantization",
    "remote_model": "remote_model",
}
"""Key of a line -> field of `Model`."""


def verdict(model: Model, lineage: Lineage) -> Row:
    """What is concluded of a model, by the names that labelled data has; unknown is None."""
    return {"name": model.name} | {key: getattr(lineage, field) for key, field in _VERDICT.items()}


def verdicts(names: Iterable[str], format_: str) -> Iterator[str]:
    """What each name says of its model: the verdict with the entries that decided, or one JSON object a line."""
    families = _families()
    return (_answer(families, Model(name), None, format_) for name in names)


_families = cache(Families.load)


def _answer(families: Families, model: Model, observed_at: datetime | None, format_: str) -> str:
    lineage = families.classify(model, observed_at=observed_at)
    found = verdict(model, lineage)
    if format_ == "jsonl":
        return json.dumps(found)
    return "\n".join([printable(model.name), *verdict_lines(found, because(families, model, lineage))])


def answers(stream: IO[bytes], place: str, format_: str, *, skip_invalid: bool = False) -> Iterator[str]:
    """The answers to the lines of a stream, in order; several as one text, whenever no more has come.

    A line is a name, or a JSON object with a name and what the server says beside it. An empty line is an empty name.
    `place` is the name of the stream in errors. Raises UsageError for the first line that cannot be read, with its
    number; with `skip_invalid` that line's answer is an object with `error` and `line`.
    """
    families, before = _families(), 0
    for lines in _lines_of(stream):
        told = []
        for number, line in enumerate(lines, before + 1):
            try:
                told.append(_answer(families, *_asked(line), format_))
            except ValueError as problem:
                if not skip_invalid:
                    yield from told
                    raise UsageError(f"{place}:{number}: {problem} (--skip-invalid goes on)") from None
                told.append(_refused(str(problem), number, format_))
        before += len(lines)
        yield "\n".join(told)


def _refused(problem: str, number: int, format_: str) -> str:
    return json.dumps({"error": problem, "line": number}) if format_ == "jsonl" else f"line {number}: {problem}"


def _lines_of(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """Whole lines as they come, never more than one read of them; of a line that is too long, enough to say so."""
    rest = b""
    read = getattr(stream, "read1", stream.read)
    while part := read(READ_SIZE):
        *lines, rest = (rest + part).split(b"\n")
        rest = rest[: MAX_LINE + 1]
        if lines:
            yield lines
    if rest:
        yield [rest]


def _asked(line: bytes) -> tuple[Model, datetime | None]:
    """The model that a line is about. Raises ValueError with what is wrong with it."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} bytes: no name of a model")
    text = line.removesuffix(b"\r").decode("utf-8", "replace")
    if not text.lstrip().startswith("{"):
        return Model(text), None
    try:
        said = read_json(line)
    except Unreadable as problem:
        raise ValueError(f"begins with '{{' but is not JSON: {problem}") from None
    return _model(said), _moment(said.get("observed_at"))


def _model(said: Row) -> Model:
    if not isinstance(said.get("name"), str):
        raise ValueError('has no name: write {"name": "qwen2.5:7b"}')
    plain: dict[str, Any] = {field: _text(said, key) for key, field in _SAID.items()}
    families = said.get("families")
    if families is not None and not (isinstance(families, list) and all(isinstance(one, str) for one in families)):
        raise ValueError("families must be a list of texts or null")
    return Model(said["name"], families_raw=None if families is None else tuple(families), **plain)


def _text(said: Row, key: str) -> str | None:
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be a text or null, not {_shown(value)}")
    return value or None


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))[:SAID_SHOWN]


def _moment(value: Any) -> datetime | None:
    """A time of ISO 8601; UTC where it names no zone."""
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"observed_at is not a time such as 2026-11-22T12:00:00Z: {_shown(value)}") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


# --- why ---


def because(families: Families, model: Model, lineage: Lineage) -> list[Row]:
    """The entries that decided a verdict, in order, each with what it says."""
    return [{"rule": rule, "says": _says(families, model, rule)} for rule in lineage.rules]


_FIXED = {
    "remote": "a cloud serves it: the name or the server says so",
    "remote-model": "the name it has at the cloud that serves it",
    "conflict": "the name's brand never reports this architecture: the name is not believed",
}
_PREFIXED = {
    "digest": "data/families/library.tsv: what the public library listed under this digest",
    "library": "data/families/library.tsv: what this name meant in the public library at that time",
    "architecture": "data/families/architectures.toml: the architecture that the server reports",
    "vocabulary": "data/families/architectures.toml: the size of the vocabulary that the server reports",
}


def _says(families: Families, model: Model, rule: str) -> str:
    prefix, colon, _ = rule.partition(":")
    fixed = _FIXED.get(rule) or (_PREFIXED.get(prefix) if colon else None)
    if fixed:
        return fixed
    id_, _, case = rule.partition("/")
    entry = next((one for one in families.entries if one.id == id_), None)
    if entry is None:
        return "no entry of today's data/"
    name = families.read(model.name)
    phrases = ", ".join(f"'{phrase.text}'" for phrase in entry.match if phrase.find(name) >= 0)
    if case:
        sets = ", ".join(f"{key} {value!r}" for key, value in entry.cases[int(case) - 1].sets.items())
        return f"data/families.toml: case {case} of {entry.brand} holds, so: {sets}"
    return f"data/families.toml: {entry.brand}, by {phrases or 'what the other evidence names'}"


def verdict_lines(verdict: Row, because: Sequence[Row]) -> Iterator[str]:
    """A verdict and the entries that decided, for a person."""
    known = {name: value for name, value in verdict.items() if value not in (None, False) and name != "name"}
    yield from (f"  -> {name.replace('_', ' '):15} {printable(str(value))}" for name, value in known.items())
    if not known:
        yield "  -> unknown"
    yield from (f"     because         {printable(one['rule'])}: {printable(one['says'])}" for one in because)
