"""Numbers -> estimates with intervals: pure functions, each after the method it names. No SQL, no files, no runs.

All intervals are of 95 %. An interval says how far chance alone could move a figure, were the hosts another draw from
the same population; never how far the hosts that were not asked differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

from census.errors import UsageError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Z = 1.959964
"""Of a 95 % interval."""

ALPHA = 0.05
"""What an interval or a test may be wrong of."""

RESAMPLES = 200
"""Resamples of hosts for an interval."""

PERMUTATIONS = 999
"""Permutations of a test."""

SHORTEST = 4
"""Weekly changes on each side of a bend, at least."""

RULE_OF_THREE = 3
"""Events that may have been expected, at most, with 95 % confidence, where none was seen: -ln 0.05, rounded."""

_FIT_STEPS = 3000
_FIT_CLOSE = 1e-9


def scipy_stats() -> Any:
    """The module scipy.stats. Raises UsageError where it is not installed."""
    try:
        from scipy import stats
    except ImportError:
        raise UsageError("this report needs scipy: install census[study]") from None
    return stats


# --- shares and rates ------------------------------------------------------------------------------------------------


def wilson(k: float, n: float) -> tuple[float | None, float | None]:
    """(low, high) of the share k / n, by Wilson (1927); unknown where n is 0."""
    if not n:
        return None, None
    p, spread = k / n, Z * Z / n
    middle = (p + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * float(np.sqrt(p * (1 - p) / n + spread / (4 * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


def poisson_rate(events: int, exposure: float) -> tuple[float | None, float | None]:
    """(low, high) of the rate events / exposure, by chi-square (Garwood 1936); unknown where exposure is 0."""
    if not exposure:
        return None, None
    quantile = scipy_stats().chi2.ppf
    low = float(quantile(ALPHA / 2, 2 * events)) / 2 if events else 0.0
    return low / exposure, float(quantile(1 - ALPHA / 2, 2 * events + 2)) / 2 / exposure


# --- families together -----------------------------------------------------------------------------------------------


def lift_interval(both: float, a: float, b: float, n: int) -> tuple[float | None, float | None, float | None]:
    """(low, lift, high) of P(ab) / (P(a) P(b)): the delta method on its logarithm, cells multinomial."""
    if not both:
        return None, 0.0 if a and b else None, None
    cells = np.array([both, a - both, b - both]) / n
    slope = np.array([n / both - n / a - n / b, -n / a, -n / b])
    error = np.sqrt(max((cells * slope**2).sum() - (cells * slope).sum() ** 2, 0) / n)
    lift = both * n / (a * b)
    return float(lift * np.exp(-Z * error)), float(lift), float(lift * np.exp(Z * error))


def pairs_of_sizes(sizes: Ints, single: Floats) -> tuple[Floats, Floats]:
    """Expected hosts of each pair, and their standard deviation, were families given at random to hosts of these sizes.

    The maximum-entropy model whose hosts have the expected sizes and whose families the expected hosts (Saracco et al.
    2015): logit P = size effect + family effect, fitted by alternating scaling; hosts of one size are alike.
    """
    size, hosts = np.unique(sizes, return_counts=True)
    x, y = size / max(single.sum(), 1.0) + _FIT_CLOSE, single + _FIT_CLOSE
    for _ in range(_FIT_STEPS):
        before = x
        x = size / (y[None, :] / (1 + x[:, None] * y[None, :])).sum(axis=1)
        y = single / (hosts[:, None] * x[:, None] / (1 + x[:, None] * y[None, :])).sum(axis=0)
        if np.allclose(before, x, rtol=_FIT_CLOSE):
            break
    p = x[:, None] * y[None, :] / (1 + x[:, None] * y[None, :])
    expected = (p * hosts[:, None]).T @ p
    return expected, np.sqrt(np.maximum(expected - (p**2 * hosts[:, None]).T @ p**2, 0))


# --- concentration ---------------------------------------------------------------------------------------------------


def herfindahl(counts: Floats) -> float:
    """Herfindahl-Hirschman index of the shares of `counts`: 1 for one alone, 1/n for n equal ones."""
    return float(((counts / counts.sum()) ** 2).sum())


def gini(ordered: npt.NDArray[Any], weights: Floats) -> float:
    """Gini coefficient of values in ascending order, each there `weights` times."""
    share = np.concatenate([[0.0], np.cumsum(ordered * weights)])
    people = np.concatenate([[0.0], np.cumsum(weights)])
    area = ((share[1:] + share[:-1]) * np.diff(people)).sum() / (share[-1] * people[-1])
    return float(1 - area)


def resampled(figure: Callable[[Floats], float], n: int, times: int = RESAMPLES) -> tuple[float, float, float]:
    """(figure, low, high): `figure` of weights of n hosts, and its percentiles over Poisson bootstraps."""
    drawn = [figure(weights) for weights in poisson_weights(n, times) if weights.any()]
    low, high = np.percentile(drawn, [100 * ALPHA / 2, 100 - 100 * ALPHA / 2])
    return figure(np.ones(n)), float(low), float(high)


def poisson_weights(n: int, times: int) -> Iterator[Floats]:
    """Weights of n hosts in Poisson bootstraps: how often each is drawn. A table of 65,536 quantiles makes it quick."""
    rng, chances = np.random.default_rng(0), np.cumsum([np.exp(-1) / factorial(k) for k in range(12)])
    table = np.searchsorted(chances, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(float)
    for _ in range(times):
        yield table[rng.integers(0, 1 << 16, n, dtype=np.uint16)]


# --- lives -----------------------------------------------------------------------------------------------------------


def survival(days: Floats, gone: npt.NDArray[np.bool_], grid: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """(day, share still there, low, high) for the days of `grid`, by Kaplan and Meier, bands by Greenwood, log-log."""
    stats = scipy_stats()
    curve = stats.ecdf(stats.CensoredData.right_censored(days, ~gone)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of days on which all or none are left: no interval, as told
        band = curve.confidence_interval(method="log-log")
    for day in grid:
        value, low, high = (float(one.evaluate(day)) for one in (curve, band.low, band.high))
        yield day, value, low if np.isfinite(low) else None, high if np.isfinite(high) else None


def recaptured(strata: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Population of one day from (answered, answered among those known to be there, silent among them) by stratum.

    Those known to be there, for they answer the day before and the day after (Manly and Parr 1968), are the marked ones
    of Chapman's (1951) estimator; variance by Seber (1970). Strata are summed; the interval is that of the silent ones,
    on the logarithm (Burnham et al. 1987), for they cannot be fewer than none. Where none of the marked was silent, up
    to RULE_OF_THREE / marked of the hosts may be (Hanley and Lippman-Hand 1983); with none marked, nothing is known.
    """
    total, variance = 0.0, 0.0
    for n, both, missed in strata:
        marked = both + missed
        total += (n + 1) * (marked + 1) / (both + 1) - 1
        variance += (n + 1) * (marked + 1) * (n - both) * missed / ((both + 1) ** 2 * (both + 2))
    answered, everyone = sum(n for n, _, _ in strata), sum(both + missed for _, both, missed in strata)
    if not everyone:
        return {"answered": answered, "hosts": None, "low": None, "high": None}
    silent = max(total - answered, 0.0)
    if not silent:
        return {"answered": answered, "hosts": total, "low": float(answered), "high": _none_silent(answered, everyone)}
    factor = float(np.exp(Z * np.sqrt(np.log1p(variance / silent**2))))
    return {"answered": answered, "hosts": total, "low": answered + silent / factor, "high": answered + silent * factor}


def _none_silent(answered: int, marked: int) -> float | None:
    """How many hosts there may be when none of `marked` was silent; unknown when three or fewer were marked."""
    return answered / (1 - RULE_OF_THREE / marked) if marked > RULE_OF_THREE else None


# --- change ----------------------------------------------------------------------------------------------------------


def kendall(one: Floats, other: Floats) -> float:
    """Kendall's tau-b of two lists."""
    return float(scipy_stats().kendalltau(one, other).statistic)


def logits(part: Floats, whole: Floats) -> Floats:
    """Logit of part / whole, with half a count added to both sides (Haldane 1956), so that 0 has one."""
    result: Floats = np.log((part + 0.5) / (whole - part + 0.5))
    return result


def breaks(series: Floats, size: Floats, alpha: float = ALPHA) -> list[tuple[int, str]]:
    """(index, "step" or "bend") at which a series breaks: the first value after the break. Ordered by index.

    A step is an outlier among the changes from one value to the next (Grubbs 1950), found again without those found; a
    bend is another mean of the changes before and after, by the largest studentized difference against permutations.
    Each of the two is wrong for half of `alpha` of the series that never break, if their changes are normal and alike;
    so that they are, each is weighted by the `size` (observations) of its two values.
    """
    changes = np.diff(series) / np.sqrt(1 / size[1:] + 1 / size[:-1])
    steps = _outliers(changes, alpha / 2)
    calm = np.delete(changes, steps)
    at = np.delete(np.arange(len(changes)), steps)
    bends = [int(at[k]) for k in _bends(calm, 0, alpha / 2, np.random.default_rng(0))]
    return sorted([(k + 1, "step") for k in steps] + [(k + 1, "bend") for k in bends])


def _outliers(changes: Floats, alpha: float) -> list[int]:
    left = list(range(len(changes)))
    found: list[int] = []
    while len(left) > 2 * SHORTEST:
        values = changes[left]
        spread = values.std(ddof=1)
        worst = int(np.argmax(np.abs(values - values.mean())))
        if not spread or abs(values[worst] - values.mean()) / spread <= _grubbs(len(left), alpha):
            break
        found.append(left.pop(worst))
    return found


def _grubbs(n: int, alpha: float) -> float:
    """The critical value of Grubbs' two-sided test."""
    t = float(scipy_stats().t.isf(alpha / (2 * n), n - 2))
    return float((n - 1) / np.sqrt(n) * np.sqrt(t * t / (n - 2 + t * t)))


def _bends(changes: Floats, start: int, alpha: float, rng: np.random.Generator) -> list[int]:
    """Indices at which the mean of the changes is another, by binary segmentation; `start` is added to all."""
    n = len(changes)
    if n < 2 * SHORTEST:
        return []
    score, k = _largest_split(changes[None, :])
    drawn, _ = _largest_split(rng.permuted(np.tile(changes, (PERMUTATIONS, 1)), axis=1))
    if (1 + (drawn >= score[0]).sum()) / (1 + PERMUTATIONS) > alpha:
        return []
    split = int(k[0])
    left, right = _bends(changes[:split], start, alpha, rng), _bends(changes[split:], start + split, alpha, rng)
    return [*left, start + split, *right]


def _largest_split(rows: Floats) -> tuple[Floats, Ints]:
    """Of each row the largest difference of means over its standard error, and how many values are before it."""
    n = rows.shape[1]
    k = np.arange(SHORTEST, n - SHORTEST + 1)
    before = np.cumsum(rows, axis=1)[:, k - 1]
    total = rows.sum(axis=1, keepdims=True)
    difference = np.abs(before / k - (total - before) / (n - k)) * np.sqrt(k * (n - k) / n)
    best = difference.argmax(axis=1)
    return difference[np.arange(len(rows)), best], k[best]
