"""Estimates: figures on paper, and intervals that cover what is known."""

from __future__ import annotations

import numpy as np
import pytest

from census import inference


def test_gini_on_paper() -> None:
    """1 1 2 2 4: (-4*1 - 2*1 + 0*2 + 2*2 + 4*4) / (5 * 10)."""
    assert inference.gini(np.array([1, 1, 2, 2, 4]), np.ones(5)) == pytest.approx(14 / 50)
    assert inference.gini(np.array([1, 2, 4]), np.array([2.0, 2.0, 1.0])) == pytest.approx(14 / 50)


def test_lift_on_paper() -> None:
    low, lift, high = inference.lift_interval(30, 60, 40, 100)
    assert lift == pytest.approx(30 * 100 / (60 * 40))
    assert low is not None and high is not None and low < 1.25 < high
    assert inference.lift_interval(0, 5, 5, 100) == (None, 0.0, None)


def test_the_interval_of_the_lift_covers_at_its_rate() -> None:
    """Two independent families: the lift is 1; 95 % intervals miss it in some 5 % of 1,000 draws."""
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(1000):
        a, b = rng.random(2000) < 0.4, rng.random(2000) < 0.3
        low, _, high = inference.lift_interval(float((a & b).sum()), float(a.sum()), float(b.sum()), 2000)
        missed += not (low is not None and high is not None and low <= 1 <= high)
    assert 25 <= missed <= 80


def test_the_null_model_keeps_sizes_and_families() -> None:
    """Hosts that take families at random have the expected pairs of the null model, whatever their sizes."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 5, 20_000)
    matrix = np.zeros((len(sizes), 6))
    for row, size in enumerate(sizes):
        matrix[row, rng.choice(6, size, replace=False)] = 1
    expected, _ = inference._of_sizes(sizes, matrix.sum(axis=0))
    ratio = (matrix.T @ matrix)[0, 1] / expected[0, 1]
    assert ratio == pytest.approx(0.9, abs=0.12)


def test_recapture_covers_a_population_whose_hosts_answer_alike() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        seen = rng.random((3, 5000)) < 0.8
        around = seen[0] & seen[2]
        found = inference.recaptured(
            [(int(seen[1].sum()), int((around & seen[1]).sum()), int((around & ~seen[1]).sum()))]
        )
        covered += found["low"] <= 5000 <= found["high"]
    assert covered >= 180


def test_the_published_indicators_carry_their_warning() -> None:
    rows = inference.ESTIMATES["context"].run(None).to_pylist()  # type: ignore[arg-type]
    assert {row["id"] for row in rows} >= {"downloads-cn", "misquoted-pair"}
    assert all("not comparable" in row["warning"] and row["publisher"] and row["reported_in"] for row in rows)
