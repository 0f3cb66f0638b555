"""Who must not be asked: special-purpose networks, blocklists, and what may be lifted of them."""

from __future__ import annotations

import ipaddress
import socket
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from census import hostile, resources
from census.errors import TargetError
from census.intervals import (
    ADDRESS,
    V4_BITS,
    V4_TOP,
    V6_BITS,
    Array,
    Space,
    bounds_of,
    covered,
    gaps,
    of_version,
    overlaps,
)
from census.target_lines import SHOWN_CHARS, BadLine, Network, printable_line, quoted, read_network

COUNTED_AT_ONCE = 1 << 16
"""Intervals whose excluded values are counted at once: each takes some hundred bytes for that moment."""

LOOPBACK_AND_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    )
)
"""What `--allow-private` lifts, and who needs no `--contact` (RFC 1122, 4291, 1918, 4193). Not link-local."""

SIMULATED = tuple(
    map(
        ipaddress.ip_network,
        ("240.0.0.0/4", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    )
)
"""Where simulated hosts live: reserved (RFC 1112) and documentation networks (RFC 5737, 3849, 9637)."""


class _Excluded(NamedTuple):
    """Sorted disjoint intervals of one IP version, each with its reason: lists for bisecting, arrays for sets."""

    lo: list[int]
    hi: list[int]
    why: list[str]
    lo_array: Array
    hi_array: Array


_LIFTED = ""
"""In place of a reason: the network may be asked, although a larger one around it may not (::1 in ::/96)."""


class Exclusions:
    """The networks that are never asked, and why. Immutable; looked up before every connect."""

    def __init__(self, builtin: Sequence[tuple[Network, str]], blocked: Sequence[tuple[Network, str]] = ()) -> None:
        """`blocked` goes before `builtin`; within each, the smallest network that holds an address names the reason."""
        self._v4 = _flatten(builtin, blocked, 4)
        self._v6 = _flatten(builtin, blocked, 6)

    @classmethod
    def load(
        cls, files: Sequence[Path] = (), *, allow_private: bool = False, allow_simulated: bool = False
    ) -> Exclusions:
        """Read `data/exclusions.txt` and the user's blocklists. Raises TargetError with file and line.

        `allow_private` lifts LOOPBACK_AND_PRIVATE. `allow_simulated` lifts SIMULATED, whose addresses no real host
        has: only the simulated internet passes it, because it maps each of them to loopback before connecting.
        A network of a blocklist stays excluded, whatever is lifted.
        """
        blocked, problem = read_blocklists(files)
        if problem is not None:
            raise problem
        return cls.beside(blocked, allow_private=allow_private, allow_simulated=allow_simulated)

    @classmethod
    def beside(
        cls, blocked: Sequence[tuple[Network, str]], *, allow_private: bool = False, allow_simulated: bool = False
    ) -> Exclusions:
        """As `load`, with blocklists that have been read."""
        lifted = {*(LOOPBACK_AND_PRIVATE if allow_private else ()), *(SIMULATED if allow_simulated else ())}
        rows = _read_networks(resources.data("exclusions.txt"))
        return cls([(network, _LIFTED if network in lifted else why) for network, why in rows], blocked)

    def reason(self, ip: str) -> str | None:
        """Why an address is never asked, or None. Raises ValueError for a text that is no address."""
        table = self._v6 if ":" in ip else self._v4
        value = _number(ip)
        where = bisect_right(table.lo, value) - 1
        return table.why[where] if where >= 0 and value <= table.hi[where] else None

    def count(self, space: Space, wide: bool) -> int:
        """How many values of a set are excluded."""
        found: Counter[str] = Counter()
        for lo, hi in space.pieces():
            for at in range(0, len(lo), COUNTED_AT_ONCE):
                low = lo[at : at + COUNTED_AT_ONCE]
                for _ in self._hits(low, low if lo is hi else hi[at : at + COUNTED_AT_ONCE], wide, found):
                    pass
        return found.total()

    def subtract(self, space: Space, wide: bool) -> tuple[Space, Counter[str]]:
        """What may be asked of a set, and how many values are left out for each reason."""
        left_out: Counter[str] = Counter()
        hits = [hit for lo, hi in space.pieces() for hit in self._hits(lo, hi, wide, left_out)]
        for lo, hi in hits:
            space = space.minus(lo, hi)
        return space, left_out

    def _hits(self, lo: Array, hi: Array, wide: bool, left_out: Counter[str]) -> Iterator[tuple[Array, Array]]:
        """The excluded parts of sorted intervals; counts them by reason."""
        for version, table in ((4, self._v4), (6, self._v6)) if wide else ((4, self._v4),):
            mine = of_version(lo, version) if wide else _within(lo, hi, table)
            prefix = lo[mine] & ~ADDRESS if wide else lo[mine] * 0
            i, j = overlaps(lo[mine] - prefix, hi[mine] - prefix, table.lo_array, table.hi_array)
            hit_lo = np.maximum(lo[mine][i] - prefix[i], table.lo_array[j])
            hit_hi = np.minimum(hi[mine][i] - prefix[i], table.hi_array[j])
            for index, size in zip(j.tolist(), _sizes(hit_lo, hit_hi), strict=True):
                left_out[table.why[index]] += size
            yield hit_lo + prefix[i], hit_hi + prefix[i]


def _sizes(lo: Array, hi: Array) -> list[int]:
    return [high - low + 1 for low, high in zip(lo.tolist(), hi.tolist(), strict=True)]


def _within(lo: Array, hi: Array, table: _Excluded) -> Array:
    """Mask of the intervals that meet an exclusion; lone values are the common, large case."""
    if lo is hi:
        return covered(lo, table.lo_array, table.hi_array)
    return np.ones(len(lo), bool)


def _flatten(builtin: Sequence[tuple[Network, str]], blocked: Sequence[tuple[Network, str]], version: int) -> _Excluded:
    """Overlapping networks as disjoint intervals, each with the one reason that counts."""
    dtype = np.uint32 if version == 4 else object
    mine = _innermost([row for row in blocked if row[0].version == version])
    rest = _innermost([row for row in builtin if row[0].version == version])
    gap_lo, gap_hi = gaps(*bounds_of(mine, object))
    i, j = overlaps(*bounds_of(rest, object), gap_lo, gap_hi)
    kept = [(max(rest[a][0], gap_lo[b]), min(rest[a][1], gap_hi[b]), rest[a][2]) for a, b in zip(i, j, strict=True)]
    rows = sorted(row for row in mine + kept if row[2] != _LIFTED)
    lo, hi, why = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    return _Excluded(lo, hi, why, np.array(lo, dtype), np.array(hi, dtype))


def _innermost(networks: Sequence[tuple[Network, str]]) -> list[tuple[int, int, str]]:
    """Nested networks as disjoint (low, high, reason): the smallest network around an address names the reason."""
    rows: list[tuple[int, int, str]] = []
    open_: list[tuple[int, str]] = []
    position = 0

    def close_until(limit: int) -> None:
        nonlocal position
        while open_ and open_[-1][0] < limit:
            high, why = open_.pop()
            if position <= high:
                rows.append((position, high, why))
            position = max(position, high + 1)
        if open_ and position < limit:
            rows.append((position, limit - 1, open_[-1][1]))

    for network, why in sorted(networks, key=lambda row: (int(row[0].network_address), row[0].prefixlen)):
        low = int(network.network_address)
        close_until(low)
        position = low
        open_.append((int(network.broadcast_address), why))
    close_until(2**V6_BITS)
    return rows


def read_blocklists(files: Sequence[Path]) -> tuple[list[tuple[Network, str]], TargetError | None]:
    """Every network of the user's blocklists that can be read, with its reason, and the first thing that cannot be."""
    found: list[tuple[Network, str]] = []
    problems: list[TargetError] = []
    for path in files:
        for each in _networks(path, f"blocklist {path.name}"):
            (problems if isinstance(each, TargetError) else found).append(each)  # type: ignore[arg-type]
    return found, problems[0] if problems else None


def _read_networks(path: Path) -> list[tuple[Network, str]]:
    """A file of ours, each line of which says why. Raises TargetError."""
    rows = []
    for each in _networks(path, None):
        if isinstance(each, TargetError):
            raise each
        rows.append(each)
    return rows


def _networks(path: Path, default_reason: str | None) -> Iterator[tuple[Network, str] | TargetError]:
    """A file in zmap's blocklist syntax: one network a line, `#` before the reason; and what cannot be read of it."""
    try:
        data = path.read_bytes()
        data.decode("utf-8-sig")
    except OSError as problem:
        yield TargetError(f"{path}: cannot be read: {problem.strerror or problem}; nobody is asked without it")
        return
    except UnicodeDecodeError as problem:
        yield TargetError(f"{path}: cannot be read: {problem}; nobody is asked without it")
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        body, _, comment = line.partition("#")
        if body.strip():
            yield _excluded_line(f"{path}:{number}", body.strip(), comment.strip() or default_reason)


def _excluded_line(where: str, body: str, reason: str | None) -> tuple[Network, str] | TargetError:
    if reason is None:
        return TargetError(f"{where}: {quoted(body)} does not say why; write `# RFC …` or `# opt-out DATE` after it")
    try:
        return _unmapped(read_network(printable_line(body))), hostile.printable(reason, SHOWN_CHARS)
    except BadLine as problem:
        return TargetError(f"{where}: {problem}")


def _unmapped(network: Network) -> Network:
    """An IPv4 network that is written as IPv6: targets have the one form, so the other would exclude nobody."""
    low = int(network.network_address)
    if network.version == 4 or low >> V4_BITS != 0xFFFF or network.prefixlen == V6_BITS - V4_BITS:
        return network
    return ipaddress.IPv4Network((low & V4_TOP, network.prefixlen - (V6_BITS - V4_BITS)))


def _number(ip: str) -> int:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        return int.from_bytes(socket.inet_pton(family, ip), "big")
    except OSError:
        raise ValueError(f"{quoted(ip)} is not an address") from None


PRIVATE = Exclusions([(network, "private") for network in LOOPBACK_AND_PRIVATE])


def is_private(ip: str) -> bool:
    """Whether an address is loopback or private-use: those that `--allow-private` lifts and that need no contact."""
    return PRIVATE.reason(ip) is not None
