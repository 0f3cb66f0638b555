"""Sets of integers as sorted, disjoint intervals: uint32 for plain IPv4, Python integers (object) for wide values.

A wide value holds all that an endpoint is. Nothing here knows where the numbers come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

V4_BITS, V6_BITS = 32, 128
V4_TOP = 2**32 - 1
Array = NDArray[Any]
ADDRESS = (1 << V6_BITS) - 1
IS_V6 = 1 << V6_BITS
PORT_SHIFT = V6_BITS + 2
DOMAIN_SHIFT = PORT_SHIFT + 16
"""A wide value is one integer: number of the domain, port, a zero bit (so that no network touches the next port's),
whether it is IPv6, address."""

WIDE_BYTES = 24
"""Bytes of a wide value in a file: 146 bits, and 46 for the number of the domain."""


def overlaps(lo: Array, hi: Array, other_lo: Array, other_hi: Array) -> tuple[Array, Array]:
    """Index pairs (i, j) of the intervals that meet. `other` is sorted and disjoint, the first need not be."""
    first = np.searchsorted(other_hi, lo, "left")
    n = np.searchsorted(other_lo, hi, "right") - first
    i = np.repeat(np.arange(len(lo)), n)
    return i, np.arange(len(i)) + np.repeat(first - (np.cumsum(n) - n), n)


def bounds_of(rows: Sequence[tuple[int, int] | tuple[int, int, str]], dtype: Any) -> tuple[Array, Array]:
    """Rows that begin with (low, high), as two arrays."""
    return np.array([row[0] for row in rows], dtype), np.array([row[1] for row in rows], dtype)


def _merge(lo: Array, hi: Array) -> tuple[Array, Array]:
    """Any intervals as the fewest that hold the same values."""
    if not len(lo):
        return lo, hi
    order = np.argsort(lo, kind="stable")
    lo, hi = lo[order], np.maximum.accumulate(hi[order])
    starts = np.append(True, (lo[1:] > hi[:-1]) & (lo[1:] - hi[:-1] > 1))
    return lo[starts], hi[np.append(starts[1:], True)]


def covered(values: Array, lo: Array, hi: Array) -> Array:
    """Mask of the sorted values that lie in one of the intervals."""
    change = np.zeros(len(values) + 1, np.int8)
    np.add.at(change, np.searchsorted(values, lo, "left"), 1)
    np.subtract.at(change, np.searchsorted(values, hi, "right"), 1)
    mask: Array = np.cumsum(change[:-1], dtype=np.int8) != 0
    return mask


def gaps(lo: Array, hi: Array) -> tuple[Array, Array]:
    """What sorted disjoint intervals leave of all values of their dtype."""
    top = (1 << 8 * WIDE_BYTES) - 1 if lo.dtype == object else V4_TOP
    gap_lo = np.append(np.array([0], lo.dtype), hi[hi != top] + 1)
    gap_hi = np.append(lo[lo != 0] - 1, np.array([top], lo.dtype))
    gap_lo = gap_lo[1:] if len(lo) and lo[0] == 0 else gap_lo
    gap_hi = gap_hi[:-1] if len(hi) and hi[-1] == top else gap_hi
    real = gap_lo <= gap_hi
    return gap_lo[real], gap_hi[real]


@dataclass(frozen=True)
class Space:
    """A set of integers in the one form it can have: lone values, and the longest possible intervals."""

    lone: Array
    lo: Array
    hi: Array

    @classmethod
    def of(cls, values: Array, lo: Array, hi: Array) -> Space:
        """Any values and any intervals, in any order, however they overlap."""
        values = sorted_unique(values)
        lo, hi = _merge(lo, hi)
        touched = _neighbours(values)
        if len(lo):
            touched |= covered(values, lo - (lo > 0), hi + (hi != V4_TOP))
        moved = values[touched]
        if len(moved):
            values = values[~touched]
            run_lo, run_hi = _runs(moved)
            lo, hi = _merge(np.append(lo, run_lo), np.append(hi, run_hi)) if len(lo) else (run_lo, run_hi)
        return cls._split(values, lo, hi)

    @classmethod
    def _split(cls, values: Array, lo: Array, hi: Array) -> Space:
        single = lo == hi
        if single.any():
            values = np.append(values, lo[single])
            values.sort()
            lo, hi = lo[~single], hi[~single]
        return cls(values, lo, hi)

    @cached_property
    def _ends(self) -> Array:
        """Running count of values in the intervals."""
        wide = self.hi if self.hi.dtype == object else self.hi.astype(np.int64)
        return np.cumsum(wide - self.lo + 1)

    @cached_property
    def size(self) -> int:
        return len(self.lone) + (int(self._ends[-1]) if len(self.lo) else 0)

    def at(self, index: int) -> int:
        """The value at an index: lone values in order, then those of the intervals in order."""
        if index < len(self.lone):
            return int(self.lone[index])
        index -= len(self.lone)
        where = int(np.searchsorted(self._ends, index, "right"))
        return int(self.hi[where]) - (int(self._ends[where]) - 1 - index)

    def each_at(self, indices: Array) -> Array:
        """The values at some indices, for plain IPv4."""
        beyond = indices >= len(self.lone)
        found = np.empty(len(indices), np.int64)
        found[~beyond] = self.lone[indices[~beyond]]
        rest = indices[beyond] - len(self.lone)
        where = np.searchsorted(self._ends, rest, "right")
        found[beyond] = self.hi[where] - (self._ends[where] - 1 - rest)
        return found

    def minus(self, lo: Array, hi: Array) -> Space:
        """Without the values of these sorted disjoint intervals."""
        if not len(lo) or not self.size:
            return self
        lone = self.lone[~covered(self.lone, lo, hi)]
        if not len(self.lo):
            return Space(lone, self.lo, self.hi)
        gap_lo, gap_hi = gaps(lo, hi)
        i, j = overlaps(self.lo, self.hi, gap_lo, gap_hi)
        return self._split(lone, np.maximum(self.lo[i], gap_lo[j]), np.minimum(self.hi[i], gap_hi[j]))

    def without(self, other: Space) -> Space:
        return self.minus(other.lone, other.lone).minus(other.lo, other.hi)

    def pieces(self) -> Iterator[tuple[Array, Array]]:
        """The set as intervals, in two parts that are each sorted and disjoint."""
        yield self.lone, self.lone
        yield self.lo, self.hi

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of the set; equal sets have equal digests."""
        digest = hashlib.sha256()
        for part in (self.lone, self.lo, self.hi):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(packed(part))
        return digest.hexdigest()


def sorted_unique(values: Array) -> Array:
    """The values sorted, in place, and each of them once."""
    values.sort()
    keep = np.append(True, values[1:] != values[:-1]) if len(values) else np.zeros(0, bool)
    return values if keep.all() else values[keep]


def _neighbours(values: Array) -> Array:
    """Mask of the sorted values that have the next or the previous integer beside them."""
    beside = values[1:] - values[:-1] == 1
    mask = np.zeros(len(values), bool)
    mask[1:] |= beside.astype(bool)
    mask[:-1] |= beside.astype(bool)
    return mask


def _runs(values: Array) -> tuple[Array, Array]:
    """Sorted values as intervals of consecutive integers."""
    starts = np.append(True, values[1:] - values[:-1] != 1)
    return values[starts], values[np.append(starts[1:], True)]


def of_version(keys: Array, version: int) -> Array:
    """Mask of the wide values of one IP version."""
    return np.array([bool(key & IS_V6) == (version == 6) for key in keys], bool)


def packed(values: Array) -> bytes:
    """Sorted values as bytes, the same on every machine: what a digest is of, and what is stored."""
    if values.dtype != object:
        return values.astype("<u4", copy=False).tobytes()
    return b"".join(value.to_bytes(WIDE_BYTES, "little") for value in values)
