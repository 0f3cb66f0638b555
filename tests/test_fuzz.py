"""Every harness of `tests/fuzz` with real answers, mutated ones and plain bytes; what fuzzers found, by name."""

from __future__ import annotations

import base64
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from census import exclusions, hostile, resources, targets
from census.errors import DataError, SnapshotError, TargetError
from census.identify import Rules
from census.model import Outcome
from census.simulate import World
from tests.fuzz.harnesses import HARNESSES, SCENARIO, Server, seeds, unsafe

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


@pytest.mark.parametrize("status", ["000", "042", "099"])
def test_a_status_that_http_does_not_have_is_no_answer(status: str) -> None:
    """The parser wants three digits and nothing more of them; such a reply was a success."""
    told = Server.here().answered_with(f"HTTP/1.1 {status} OK\r\nContent-Length: 0\r\n\r\n".encode())
    assert (told.outcome, told.replies) == (Outcome.PROTOCOL_ERROR, ())
    assert f"status {status}" in (told.error or "")


def test_a_control_character_of_a_blocklist_is_shown_and_not_sent(tmp_path: Path) -> None:
    """Escape sequences of a list that somebody sends went to the operator's terminal."""
    path = tmp_path / "opt-outs.txt"
    path.write_text("192.0.2.0\x1b[2J%25\n", encoding="utf-8")
    with pytest.raises(TargetError, match=r"opt-outs\.txt:1: '192\.0\.2\.0\\x1b\[2J%25' holds characters") as refused:
        exclusions.Exclusions.load([path])
    assert not unsafe(str(refused.value))


def test_a_kept_target_set_of_another_kind_of_zip_is_damaged(tmp_path: Path) -> None:
    """zipfile and numpy raise more than they say: here NotImplementedError."""
    whole = seeds("saved_targets")[0]
    at = whole.index(b"PK\x01\x02") + 6
    path = tmp_path / "targets.npz"
    path.write_bytes(whole[:at] + b"\x72\x00" + whole[at + 2 :])
    with pytest.raises(
        SnapshotError, match=r"targets\.npz: the saved target set cannot be read \(zip file version 11\.4"
    ):
        targets.TargetSet.load(path)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ((b"size = [2, 5]", b"size = [2]"), "inventory 'some': ValueError"),
        ((b'[[inventory]]\nname = "some"', b'[inventory]\nname = "some"'), "top: "),
        ((b"count = 3", b'count = "3"'), "group 'c': TypeError"),
        ((b'"refused" = 1', b'"refused" = "1"'), "group 'c': TypeError"),
    ],
)
def test_a_scenario_says_where_a_value_is_of_the_wrong_type(
    tmp_path: Path, wrong: tuple[bytes, bytes], where: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(SCENARIO.replace(*wrong))
    with pytest.raises(DataError, match=f"^data/simulate/mine.toml: {where}"):
        World.load(path)


def test_an_example_may_not_be_asked_what_no_server_may_be_asked(tmp_path: Path) -> None:
    whole = (resources.data("servers", "exo.toml")).read_text("utf-8")
    (tmp_path / "exo.toml").write_text(whole.replace('"GET /v1/models" =', '"GET1v/ /models" =', 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"exo\.toml: example\[0\]\.replies\.GET1v/ /models: .* may not be asked"):
        Rules.load(tmp_path)


LOOPED_TREE = (
    "eNpdzElOwzAUANBPGigzLRQICyRfAA7BIEqjnICF5dhuMDR25AGRnKZlyyk4AHcAdqzYsGND+Asm6+vpjwZIAObgywigg0mMzqMLaPdXfwld"
    "RlfQVXQNXUc30B7aRzfRLXSAbqM7aBu7AENM/r4zboL2th4qZyg3Qh6dnD6TRdI/Zk7ffby/ECADsjfdv398y9htprQ45KZ8Hel2l+LxQ5Ja"
    "yY0V1KlGzpKRquiNtE4ZPYszwTzLmZPU15VMudQuuINxaJrzCdNFYIV0EF/kSjNb07GxJfO0ZFfGfv8R/Z8q/TOdpkI6blXl2+IpzYOaCCor"
    "wy/j6LpT1J+z7l1S"
)
"""A geolocation database whose damaged tree leads back to itself: iterating over it, the library's C code wrote beyond
its memory and ended the process."""


NAMELESS = (
    "eNpdzL1OwzAQB/BrGyB8UygQBiRvTPAQfAholI2NwXLsa2to7MhOKpKnoUxIPAUPwDsAGxMLGwvtCYHgdPrpfzrdAUQADZjaBGhRCABCgBnK"
    "s+QcGZLz5AK5SC6Ry+QKuUqukW1yndwgO+QmuUVOehvgjMLfOpW2NBeuanzPeHh88sJC1j7a8+bu8+OVAeuwHbb78PSeiJtEG3UgbfbWNVYh"
    "nx4Xj1HsUFqnuNc1jqOuzvkIndfWjINEiUKkwiMvqhxjicaXfr9X1vX5UJh+KfroIbhMtRGu4j3rMlHwTFxZ9/Oj+X+rze/2NlbopdN5MRme"
    "47TUQ8Uxt3IQNK9bg/svYGtZdQ=="
)
"""One whose record has a number for a name: looking it up, the same C code read where there was no text."""


@pytest.mark.parametrize("packed", [LOOPED_TREE, NAMELESS], ids=["looped tree", "nameless"])
def test_a_damaged_geolocation_database_ends_no_process(packed: str) -> None:
    HARNESSES["place_database"](zlib.decompress(base64.b64decode(packed)))
