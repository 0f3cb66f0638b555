"""The gate over `data/` and `schemas/`: every file's contract, and the whole of what may be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from census import report, schema
from census.errors import CensusError, DataError
from census.families import Families
from census.identify import Rules
from census.locate import Networks
from census.model import Lineage, Model
from census.probe import allowed
from census.suspect import Suspicions


def problems() -> list[str]:
    """Everything wrong with the files of `data/` and `schemas/`, as `file or part: what`."""
    parts: Sequence[tuple[str, Callable[[], Iterable[str]]]] = (
        ("schemas", schema.check),
        ("servers", lambda: Rules.load().check()),
        ("questions", _questions),
        ("families", lambda: Families.load().check()),
        ("networks", lambda: Networks.load().check()),
        ("suspicion", lambda: Suspicions.load().check()),
        ("reports", report.check),
    )
    return [line for name, look in parts for line in _told(name, look)]


def _told(name: str, look: Callable[[], Iterable[str]]) -> Iterator[str]:
    try:
        yield from (f"{name}: {line}" for line in look())
    except CensusError as problem:
        yield f"{name}: {problem}"


def _questions() -> list[str]:
    allowed(Rules.load().questions())
    return []


def plan() -> str:
    """Every question a census may ask, with its source, and the most that one endpoint can get."""
    rules = Rules.load()
    lines = ["questions that may be sent, and no other:"]
    sources = {str(q.question): q.source for server in rules.servers.values() for q in server.questions}
    lines += [f"  {question}\n      {sources[question]}" for question in sorted(sources)]
    return "\n".join([*lines, "", "the most that one endpoint is asked:", *_worst(rules)])


def _worst(rules: Rules) -> list[str]:
    return [f"  {n} {kind}" for kind, n in sorted(rules.worst_case().items(), key=lambda item: (-item[1], item[0]))]


def broken(found: Sequence[str]) -> DataError:
    """One error for all problems."""
    return DataError("\n".join([f"{len(found)} problems in data/ and schemas/:", *found]))


_SHOWN = (
    *("brand_family", "generation", "base_family", "weights_family", "developer", "developer_country"),
    *("weights_country", "params_b", "quant", "quant_bits", "role", "is_distill", "uncensored", "remote"),
    *("claimed_brand", "resolved_by", "confidence"),
)


def verdicts(names: Sequence[str]) -> str:
    """What each name says of its model, with the entries that decided."""
    families = Families.load()
    return "\n".join(_verdict(name, families.classify(Model(name))) for name in names)


def _verdict(name: str, lineage: Lineage) -> str:
    known = [(field, getattr(lineage, field)) for field in _SHOWN]
    lines = [name, *(f"  {field:18} {value}" for field, value in known if value not in (None, False))]
    return "\n".join([*lines, *(f"  {'because':18} {rule}" for rule in lineage.rules)])
