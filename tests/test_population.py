"""The synthetic population: runs as a scan writes them, equal for equal seeds; and the study gives back its truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from census import resources, study, verification
from census.errors import DataError, UsageError
from census.manifest import published
from census.simulate import chronicle, population

HOSTS, DAYS = 300, 293
"""All days, for the study's thresholds are of days; few hosts, so that it takes seconds."""

PLANTED = {
    "tools": "C1",
    "exact": "C2",
    "vision": "C3",
    "thinking": "C4",
    "q4km": "Q1",
    "multi": "F10:share",
    "band:3": "P1",
}
"""Figures of the truth, counted from who the hosts are, and the statistic that must find them in the runs."""


def _write(out: Path, seed: int, days: int = DAYS) -> population.Population:
    made = population.populate(population.read_settings(HOSTS, days, seed))
    chronicle.write(made, out, lambda line: None)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("population")
    _write(out, 7)
    yield out


def test_every_run_is_whole_and_says_that_it_is_synthetic(folder: Path) -> None:
    runs = published(folder)
    assert len(runs) == DAYS
    for run in (runs[0], runs[150], runs[-1]):
        assert verification.verify(run.folder) == []
        row = pq.read_table(run.paths("runs")[0]).to_pylist()[0]
        assert row["is_simulated"] and row["notes"] == chronicle.NOTE


def test_the_study_gives_back_what_was_planted(folder: Path) -> None:
    planted = json.loads((folder / chronicle.TRUTH / "figures.json").read_text())
    hosts = pq.read_table(folder / chronicle.TRUTH / "hosts.parquet")
    found = {row["id"]: row["value"] for row in study.ask(folder).rows}
    assert {key: found[name] for key, name in PLANTED.items()} == pytest.approx(
        {key: 100 * planted[key] for key in PLANTED}, rel=0.02, abs=0.4
    )
    assert found["S1"] == HOSTS and found["S2:host-days"] == sum(hosts["observations"].to_pylist())
    assert found["S6"] == sum(hosts["core"].to_pylist())
    assert found["S8"] == pytest.approx(36)
    assert (found["S3"], found["S3:missing"]) == (DAYS, 6)
    assert found["X6"] == pytest.approx(100 * sum(f > 0 for f in hosts["fleet"].to_pylist()) / HOSTS, rel=1e-4)


def test_absence_is_told_only_of_whom_was_asked(folder: Path) -> None:
    runs = published(folder)
    asked = pq.read_table(runs[100].paths("probes")[0], columns=["ip", "server"]).to_pylist()
    answered = {ip for run in runs[86:101] for ip in pq.read_table(run.paths("hosts")[0])["ip"].to_pylist()}
    assert {row["ip"] for row in asked} == answered
    assert any(row["server"] is None for row in asked)


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        _write(tmp_path / name, 3, days=12)
        files = sorted((tmp_path / name).rglob("*.parquet"))
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1]


def test_too_few_hosts_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 200 hosts"):
        population.read_settings(10, 293, 0)


FLEETS = "decoys]\nfleets = { value = 4"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("pair = {", "pear = {", r"p\.toml: \[portfolio\] lacks 'pair'"),
        (f'{FLEETS}, source = "assumed"', FLEETS, "fleets needs a value and a source"),
    ],
)
def test_a_parameter_that_is_missing_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = resources.data("simulate", "population.toml").read_text("utf-8")
    assert old in text
    (tmp_path / "p.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=told):
        population.read_settings(HOSTS, DAYS, 0, tmp_path / "p.toml")
