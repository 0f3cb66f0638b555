"""The gate over `data/` and `schemas/`: every file's contract, and the whole of what may be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from census import inference, report, schema, study
from census.errors import CensusError, DataError
from census.families import Families
from census.identify import Rules
from census.locate import Networks
from census.probe import allowed
from census.simulate.players import Stage
from census.suspect import Suspicions


def problems() -> list[str]:
    """Everything wrong with the files of `data/` and `schemas/`, as `file or part: what`."""
    parts: Sequence[tuple[str, Callable[[], Iterable[str]]]] = (
        ("schemas", schema.check),
        ("servers", lambda: Rules.load().check()),
        ("questions", _questions),
        ("families", lambda: Families.load().check()),
        ("networks", lambda: Networks.load().check()),
        ("suspicion", _doubts),
        ("reports", report.check),
        ("study", _statistics),
        ("estimates", inference.check),
    )
    return [line for name, look in parts for line in _told(name, look)]


def _told(name: str, look: Callable[[], Iterable[str]]) -> Iterator[str]:
    try:
        yield from (f"{name}: {line}" for line in look())
    except CensusError as problem:
        yield f"{name}: {problem}"


def _questions() -> list[str]:
    allowed(Rules.load().questions() | Suspicions.load().questions())
    return []


def _statistics() -> list[str]:
    """Every header can be read; that every statement gives what its header says is for the tests."""
    study.statistics()
    return []


def _doubts() -> list[str]:
    suspicions = Suspicions.load()
    return suspicions.check(Stage(Rules.load(), suspicions).hear)


def plan() -> str:
    """Every question a census may ask, with its source, and the most that one endpoint can get."""
    rules, nonsense = Rules.load(), Suspicions.load().nonsense
    lines = ["questions that may be sent, and no other:"]
    sources = {str(q.question): q.source for server in rules.servers.values() for q in server.questions}
    sources[str(nonsense.question)] = nonsense.source
    lines += [f"  {question}\n      {sources[question]}" for question in sorted(sources)]
    once = f"{nonsense.question} comes on top of these, once, where an endpoint answered everything and is in doubt"
    return "\n".join([*lines, "", "the most that one endpoint is asked:", *_worst(rules), once])


def _worst(rules: Rules) -> list[str]:
    return [f"  {n} {kind}" for kind, n in sorted(rules.worst_case().items(), key=lambda item: (-item[1], item[0]))]


def broken(found: Sequence[str]) -> DataError:
    """One error for all problems."""
    return DataError("\n".join([f"{len(found)} problems in data/ and schemas/:", *found]))
