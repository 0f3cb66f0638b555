"""Every harness of `tests/fuzz` with real answers, mutated ones and plain bytes; what fuzzers found, by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from census import hostile
from tests.fuzz.harnesses import HARNESSES, seeds, unsafe

EXAMPLES = {"answer": 25, "sql": 25, "conclude": 12}
"""Inputs for a harness that costs milliseconds; the others get 80."""


@pytest.fixture(autouse=True)
def _back() -> Iterator[None]:
    """The harness of SQL works in a folder of its own."""
    here = os.getcwd()  # noqa: PTH109
    yield
    os.chdir(here)


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """Seeds with pieces overwritten, doubled and lost, or just bytes."""
    piece = st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12))
    base = st.sampled_from(seeds(name))
    return st.one_of(st.builds(_mutate, base, st.lists(piece, max_size=4)), st.binary(max_size=200))


def _mutate(data: bytes, pieces: list[tuple[float, int, bytes]]) -> bytes:
    for where, length, by in pieces:
        at = int(where * len(data))
        data = data[:at] + by + data[at + length :]
    return data


@pytest.mark.parametrize("name", HARNESSES)
def test_the_seeds_pass(name: str) -> None:
    for seed in seeds(name)[:: 10 if name == "conclude" else 4]:
        HARNESSES[name](seed)


@pytest.mark.parametrize("name", HARNESSES)
def test_nothing_breaks(name: str) -> None:
    @settings(
        deadline=None, max_examples=EXAMPLES.get(name, 80), suppress_health_check=list(HealthCheck), database=None
    )
    @given(mutated(name))
    def holds(data: bytes) -> None:
        HARNESSES[name](data)

    holds()


# --- What the fuzzers found ------------------------------------------------------------------------------------------


def test_every_invisible_character_is_shown() -> None:
    """Musical, shorthand and hieroglyphic format characters went through unseen: two names could look alike."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert not unsafe(hostile.printable(everything, len(everything)))
