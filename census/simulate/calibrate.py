"""Portfolios of models whose figures come out as wanted: a pool of candidates, weighted by raking. No files, no hosts.

Generalised raking (Deville, Särndal and Sautory 1993): of all weights that meet the targets, those nearest to equal
ones in the sense of entropy. What cannot be met exactly is met as nearly as a small penalty allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from census.simulate.world import Catalogued

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LARGEST = 48
"""Models of the largest portfolio; the catalogue has some more."""

STATES = 3
"""What a server can say of capabilities: 0 nothing, 1 all but thinking, 2 all."""

_STEPS = 20
_PENALTY = 1e-4
_NEVER = 1 << 30
_CLOSE = 1e-5
_SMALLEST_STEP = 1e-4
_BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 15.0))
_SIZE_CLASSES = (0, 1, 2, 3, 4, 20)


@dataclass(frozen=True, slots=True)
class Kinds:
    """The catalogue as arrays, one entry a kind of model: what decides the published figures.

    `since` is days since 1970; `band` 0 to 2 for the published bands, else -1; `order` sorts bands by size.
    """

    family: tuple[str | None, ...]
    since: Ints
    weight: Floats
    local: Flags
    q4km: Flags
    q40: Flags
    four: Flags
    sixteen: Flags
    size_class: Ints
    tools: Flags
    exact: Flags
    exact_early: Flags
    vision: Flags
    thinking: Flags


def kinds_of(catalogue: Sequence[Catalogued], sizes: Sequence[float | None], bits: Sequence[int | None]) -> Kinds:
    """The arrays of a catalogue; `sizes` in billions of parameters, `bits` nominal bits, as the census derives them."""
    said = [set(model.capabilities or ()) if not model.remote_model else set() for model in catalogue]
    local = np.array([not model.remote_model for model in catalogue])
    return Kinds(
        family=tuple(model.family if not model.remote_model else None for model in catalogue),
        since=np.array([(model.since - model.since.fromordinal(719163)).days for model in catalogue]),
        weight=np.array([float(model.weight) for model in catalogue]),
        local=local,
        q4km=local & np.array([model.quantization == "Q4_K_M" for model in catalogue]),
        q40=local & np.array([model.quantization == "Q4_0" for model in catalogue]),
        four=local & np.array([b == 4 for b in bits]),
        sixteen=local & np.array([b == 16 for b in bits]),
        size_class=np.array([_size_class(size) if keep else -1 for size, keep in zip(sizes, local, strict=True)]),
        tools=np.array(["tools" in words for words in said]),
        exact=np.array([words == {"completion", "tools"} for words in said]),
        exact_early=np.array([words - {"thinking"} == {"completion", "tools"} for words in said]),
        vision=np.array(["vision" in words for words in said]),
        thinking=np.array(["thinking" in words for words in said]),
    )


_SIZE_EDGES = (1.0, 4.0, 8.0, 15.0, 35.0, 80.0)


def _size_class(billions: float | None) -> int:
    """0 is below a billion, 1 to 3 the published bands, then larger ones; -1 unknown. By the printed size."""
    if billions is None:
        return -1
    return int(np.searchsorted(_SIZE_EDGES, np.floor(round(billions, 1)), side="right"))


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidate portfolios. `models[i]` has the kinds of candidate i, -1 beyond its `size`."""

    models: npt.NDArray[np.int16]
    size: Ints
    features: Mapping[str, Floats]
    since: Ints
    oldest: Ints
    cell: Ints


def draw_pool(kinds: Kinds, n: int, families: Sequence[str], rng: np.random.Generator) -> Pool:
    """`n` candidates of all sizes, each with a taste of its own for families; `families` become features."""
    size = np.concatenate([rng.choice([0, 1, 2, 3], n // 2, p=[0.02, 0.28, 0.4, 0.3]), _large(n - n // 2, rng)])
    taste = rng.gamma(0.5, 1.0, (n, len(set(kinds.family))))
    names = sorted(set(kinds.family), key=str)
    index = np.array([names.index(family) for family in kinds.family])
    weight = kinds.weight[None, :] ** rng.uniform(0.2, 0.9, (n, 1)) * (taste[:, index] + 1e-4)
    weight = weight * _aversions(kinds, n, rng)
    keys = np.log(weight) + rng.gumbel(size=weight.shape)
    order = np.argsort(-keys, axis=1)[:, :LARGEST].astype(np.int16)
    models = np.where(np.arange(LARGEST)[None, :] < size[:, None], order, np.int16(-1)).astype(np.int16)
    return _described(kinds, models, size.astype(np.int64), families)


_AVERSION = 1e-3


def _aversions(kinds: Kinds, n: int, rng: np.random.Generator) -> Floats:
    """Factors by which candidates shun kinds: half of them shun any one property, so that every mix is in the pool."""
    factors: Floats = np.ones((n, len(kinds.family)))
    sizes = [kinds.size_class == c for c in range(len(_SIZE_EDGES) + 1)]
    newer = kinds.since > np.median(kinds.since)
    properties = (
        kinds.q4km,
        kinds.q40,
        kinds.four,
        kinds.sixteen,
        kinds.tools,
        kinds.vision,
        kinds.thinking,
        newer,
        *sizes,
    )
    for flags in properties:
        shuns = rng.random(n) < 0.5
        factors *= np.where(shuns[:, None] & flags[None, :], _AVERSION, 1.0)
    shuns = rng.random(n) < 0.9
    factors *= np.where(shuns[:, None] & ~kinds.local[None, :], _AVERSION, 1.0)
    return factors


def _large(n: int, rng: np.random.Generator) -> Ints:
    """Sizes from four on: geometric up to 19, then up to LARGEST."""
    size = 4 + np.minimum(rng.geometric(0.3, n) - 1, 15)
    public = rng.random(n) < 0.06
    return np.where(public, np.minimum(20 + rng.geometric(0.1, n) - 1, LARGEST), size)


def _described(kinds: Kinds, models: npt.NDArray[np.int16], size: Ints, families: Sequence[str]) -> Pool:
    there = models >= 0
    at = np.where(there, models, 0)

    def has(flags: Flags) -> Floats:
        return (flags[at] & there).any(axis=1).astype(float)

    def count(flags: Flags) -> Floats:
        found: Floats = (flags[at] & there).sum(axis=1).astype(float)
        return found

    known = sorted({f for f in kinds.family if f})
    member = {family: has(np.array([f == family for f in kinds.family])) for family in known}
    distinct = np.sum(list(member.values()), axis=0)
    multi, pair = (distinct >= 2).astype(float), member["llama"] * member["qwen2"]
    features = {f"family:{family}": member[family] for family in families}
    features |= {
        "multi": multi,
        "pair": pair,
        "q4km": has(kinds.q4km),
        "q40": has(kinds.q40),
        "cloud": has(~kinds.local),
    }
    features |= {"tools": has(kinds.tools), "exact": has(kinds.exact), "exact_early": has(kinds.exact_early)}
    features |= {"vision": has(kinds.vision), "thinking": has(kinds.thinking), "size": size.astype(float)}
    features |= {"n4": count(kinds.four), "n16": count(kinds.sixteen), "labels": count(kinds.local)}
    features["local"] = count(kinds.local)
    main = _main_class(kinds, at, there)
    features |= {f"band:{band}": (main == band).astype(float) for band in (1, 2, 3)}
    cell = (np.searchsorted(_SIZE_CLASSES, size, side="right") - 1) * 4 + multi.astype(int) * 2 + pair.astype(int)
    since = np.where(there, kinds.since[at], 0).max(axis=1)
    oldest = np.where(there & kinds.local[at], kinds.since[at], _NEVER).min(axis=1)
    return Pool(models, size, features, since, oldest, cell)


def _main_class(kinds: Kinds, at: npt.NDArray[np.int16], there: Flags) -> Ints:
    """The class of size with most of a portfolio's models, the larger one of equals; -1 where none is known."""
    counts = np.stack([((kinds.size_class[at] == c) & there).sum(axis=1) for c in range(len(_SIZE_EDGES) + 1)], axis=1)
    best = counts.shape[1] - 1 - np.argmax(counts[:, ::-1], axis=1)
    return np.where(counts.max(axis=1) > 0, best, -1)


def rake(features: Floats, targets: Floats, base: Floats) -> Floats:
    """Weights that sum to 1 with `weights @ features` as near to `targets` as can be; `base` is where they start.

    Newton's method on the dual, with a ridge that keeps it sound where targets contradict each other.
    """
    scale = np.maximum(features.std(axis=0), 1e-6)
    x = (features - targets) / scale
    multipliers = np.zeros(x.shape[1])
    loss, weights = _dual(x, multipliers, base)
    for _ in range(_STEPS):
        mean = weights @ x
        gradient = mean + _PENALTY * multipliers
        if np.abs(gradient).max() < _CLOSE:
            break
        curvature = (x * weights[:, None]).T @ x - np.outer(mean, mean) + _PENALTY * np.eye(len(mean))
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while (trial := _dual(x, multipliers - size * step, base))[0] > loss and size > _SMALLEST_STEP:
            size /= 2
        if trial[0] > loss:
            break
        multipliers = multipliers - size * step
        loss, weights = trial
    return weights


def _dual(x: Floats, multipliers: Floats, base: Floats) -> tuple[float, Floats]:
    """The dual of the raking problem, which is convex, and the weights at `multipliers`."""
    exponent = x @ multipliers
    top = exponent.max()
    weights = base * np.exp(exponent - top)
    total = weights.sum()
    return float(np.log(total) + top + _PENALTY / 2 * multipliers @ multipliers), weights / total


def sample(weights: Floats, cell: Ints, n: int, rng: np.random.Generator) -> Ints:
    """`n` candidates, drawn systematically in the order of `cell`, so that every cell gets its quota to within one."""
    order = np.lexsort((rng.random(len(cell)), cell))
    edges = np.cumsum(weights[order])
    picks = (np.arange(n) + rng.random()) / n * edges[-1]
    result: Ints = order[np.minimum(np.searchsorted(edges, picks), len(order) - 1)]
    return result


def shares_by_odds(shares: Floats, large: Flags, odds: Floats, weight: Floats) -> Floats:
    """Shares by stratum (rows) that average to `shares` by `weight`, with the odds of the `large` classes as given."""
    table = shares[None, :] * np.where(large[None, :], odds[:, None], 1.0)
    for _ in range(100):
        table /= table.sum(axis=1, keepdims=True)
        table *= (shares / (weight @ table))[None, :]
    result: Floats = table / table.sum(axis=1, keepdims=True)
    return result


def value_of(entry: Any) -> Any:
    """A parameter without its source; tables of parameters keep their shape."""
    if isinstance(entry, dict) and "source" in entry:
        return entry["value"]
    return {key: value_of(one) for key, one in entry.items()} if isinstance(entry, dict) else entry
