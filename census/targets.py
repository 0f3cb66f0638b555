"""Text -> Targets: read target lists, leave out what must not be asked, hold the rest packed, and permute it.

No name is ever resolved and no network is ever walked: sets of addresses are intervals, exclusion is subtraction.
`docs/decisions/targets.md` explains the representation and has its measurements.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import ipaddress
import json
import re
import socket
import sys
import zipfile
import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from census import hostile, resources
from census.errors import SnapshotError, TargetError, UsageError
from census.model import Scheme, Target

CHUNK_BYTES = 1 << 20
"""Bytes of a list read at a time."""

MAX_CARRY_BYTES = 1 << 16
"""Bytes kept of a line that spans chunks; enough to show that it is too long."""

MAX_LINE_CHARS = 1024
"""Characters of one line of a list; a longer one is not a target."""

SHOWN_CHARS = 80
"""Characters of a bad line that a message repeats."""

MAX_HINT_NETWORKS = 4
"""Networks that a message offers in place of an address range."""

COMPACT_BYTES = 1 << 26
"""Bytes of packed lines after which duplicates are dropped while reading."""

FEISTEL_ROUNDS = 6
"""Rounds of the permutation: four give the known bounds for random round functions, two are margin for a weak one."""

MAX_PORT = 65535
V4_BITS, V6_BITS = 32, 128
V4_TOP = 2**32 - 1

Array = NDArray[Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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

_ADDRESS = (1 << V6_BITS) - 1
_IS_V6 = 1 << V6_BITS
_PORT_SHIFT = V6_BITS + 2
_DOMAIN_SHIFT = _PORT_SHIFT + 16
"""A wide value is one integer: number of the domain, port, a zero bit (so that no network touches the next port's),
whether it is IPv6, address."""

_WIDE_BYTES = 24
"""Bytes of a wide value in a file: 146 bits, and 46 for the number of the domain."""


# ---- intervals: sorted and disjoint; uint32 for plain IPv4, Python integers (dtype object) for wide values ----


def _overlaps(lo: Array, hi: Array, other_lo: Array, other_hi: Array) -> tuple[Array, Array]:
    """Index pairs (i, j) of the intervals that meet. `other` is sorted and disjoint, the first need not be."""
    first = np.searchsorted(other_hi, lo, "left")
    n = np.searchsorted(other_lo, hi, "right") - first
    i = np.repeat(np.arange(len(lo)), n)
    return i, np.arange(len(i)) + np.repeat(first - (np.cumsum(n) - n), n)


def _bounds(rows: Sequence[tuple[int, int] | tuple[int, int, str]], dtype: Any) -> tuple[Array, Array]:
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


def _covered(values: Array, lo: Array, hi: Array) -> Array:
    """Mask of the sorted values that lie in one of the intervals."""
    change = np.zeros(len(values) + 1, np.int8)
    np.add.at(change, np.searchsorted(values, lo, "left"), 1)
    np.subtract.at(change, np.searchsorted(values, hi, "right"), 1)
    mask: Array = np.cumsum(change[:-1], dtype=np.int8) != 0
    return mask


def _gaps(lo: Array, hi: Array) -> tuple[Array, Array]:
    """What sorted disjoint intervals leave of all values of their dtype."""
    top = (1 << 8 * _WIDE_BYTES) - 1 if lo.dtype == object else V4_TOP
    gap_lo = np.append(np.array([0], lo.dtype), hi[hi != top] + 1)
    gap_hi = np.append(lo[lo != 0] - 1, np.array([top], lo.dtype))
    gap_lo = gap_lo[1:] if len(lo) and lo[0] == 0 else gap_lo
    gap_hi = gap_hi[:-1] if len(hi) and hi[-1] == top else gap_hi
    real = gap_lo <= gap_hi
    return gap_lo[real], gap_hi[real]


@dataclass(frozen=True)
class _Space:
    """A set of integers in the one form it can have: lone values, and the longest possible intervals."""

    lone: Array
    lo: Array
    hi: Array

    @classmethod
    def of(cls, values: Array, lo: Array, hi: Array) -> _Space:
        """Any values and any intervals, in any order, however they overlap."""
        values = _sorted_unique(values)
        lo, hi = _merge(lo, hi)
        touched = _neighbours(values)
        if len(lo):
            touched |= _covered(values, lo - (lo > 0), hi + (hi != V4_TOP))
        moved = values[touched]
        if len(moved):
            values = values[~touched]
            run_lo, run_hi = _runs(moved)
            lo, hi = _merge(np.append(lo, run_lo), np.append(hi, run_hi))
        return cls._split(values, lo, hi)

    @classmethod
    def _split(cls, values: Array, lo: Array, hi: Array) -> _Space:
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

    def minus(self, lo: Array, hi: Array) -> _Space:
        """Without the values of these sorted disjoint intervals."""
        if not len(lo) or not self.size:
            return self
        lone = self.lone[~_covered(self.lone, lo, hi)]
        if not len(self.lo):
            return _Space(lone, self.lo, self.hi)
        gap_lo, gap_hi = _gaps(lo, hi)
        i, j = _overlaps(self.lo, self.hi, gap_lo, gap_hi)
        return self._split(lone, np.maximum(self.lo[i], gap_lo[j]), np.minimum(self.hi[i], gap_hi[j]))

    def without(self, other: _Space) -> _Space:
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
            digest.update(_pack(part))
        return digest.hexdigest()


def _sorted_unique(values: Array) -> Array:
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


# ---- exclusions ----


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

    def count(self, space: _Space, wide: bool) -> int:
        """How many values of a set are excluded."""
        found: Counter[str] = Counter()
        for lo, hi in space.pieces():
            for _ in self._hits(lo, hi, wide, found):
                pass
        return found.total()

    def subtract(self, space: _Space, wide: bool) -> tuple[_Space, Counter[str]]:
        """What may be asked of a set, and how many values are left out for each reason."""
        left_out: Counter[str] = Counter()
        hits = [hit for lo, hi in space.pieces() for hit in self._hits(lo, hi, wide, left_out)]
        for lo, hi in hits:
            space = space.minus(lo, hi)
        return space, left_out

    def _hits(self, lo: Array, hi: Array, wide: bool, left_out: Counter[str]) -> Iterator[tuple[Array, Array]]:
        """The excluded parts of sorted intervals; counts them by reason."""
        for version, table in ((4, self._v4), (6, self._v6)) if wide else ((4, self._v4),):
            mine = _of_version(lo, version) if wide else _within(lo, hi, table)
            prefix = lo[mine] & ~_ADDRESS if wide else lo[mine] * 0
            i, j = _overlaps(lo[mine] - prefix, hi[mine] - prefix, table.lo_array, table.hi_array)
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
        return _covered(lo, table.lo_array, table.hi_array)
    return np.ones(len(lo), bool)


def _flatten(builtin: Sequence[tuple[Network, str]], blocked: Sequence[tuple[Network, str]], version: int) -> _Excluded:
    """Overlapping networks as disjoint intervals, each with the one reason that counts."""
    dtype = np.uint32 if version == 4 else object
    mine = _innermost([row for row in blocked if row[0].version == version])
    rest = _innermost([row for row in builtin if row[0].version == version])
    gap_lo, gap_hi = _gaps(*_bounds(mine, object))
    i, j = _overlaps(*_bounds(rest, object), gap_lo, gap_hi)
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
        return TargetError(f"{where}: {_quoted(body)} does not say why; write `# RFC …` or `# opt-out DATE` after it")
    try:
        return _unmapped(_network(body)), hostile.printable(reason, SHOWN_CHARS)
    except _Bad as problem:
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
        raise ValueError(f"{_quoted(ip)} is not an address") from None


_PRIVATE = Exclusions([(network, "private") for network in LOOPBACK_AND_PRIVATE])


def is_private(ip: str) -> bool:
    """Whether an address is loopback or private-use: those that `--allow-private` lifts and that need no contact."""
    return _PRIVATE.reason(ip) is not None


# ---- one line of a list ----


class _Bad(ValueError):
    """Why a line is not a target, with the nearest right form."""


class _Line(NamedTuple):
    """What one line asks for. `port` is None where the line names none."""

    network: Network
    port: int | None = None
    domain: str = ""
    scheme: Scheme | None = None
    tag: str | None = None
    has_path: bool = False


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_V4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)
_DOTTED = re.compile(r"\d+(?:\.\d+){3}", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_HAS_LETTER = re.compile(r"[a-z]", re.ASCII)
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"(\S+?)\s*-\s*([0-9a-f.:]+)", re.IGNORECASE)
_BRACKETED = re.compile(r"\[([^\]]*)\](/\d+)?(?::(.*))?", re.DOTALL)
_MASSCAN = re.compile(r"open tcp (\d+) (\S+)(?: \d+)?", re.ASCII)
_DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
_HEADERS = frozenset({b"saddr", b"ip"})


def _quoted(text: str) -> str:
    return f"'{hostile.printable(text, SHOWN_CHARS)}'"


def _line(body: bytes) -> _Line:
    """Read one line without its comment. Raises _Bad."""
    text = body.decode("utf-8", "replace").replace("\t", " ")
    if len(text) > MAX_LINE_CHARS:
        raise _Bad(f"{_quoted(text)} is longer than {MAX_LINE_CHARS} characters; one target a line")
    if not text.isprintable() or "\ufffd" in text:
        raise _Bad(f"{_quoted(text)} holds characters that do not print; a list is plain UTF-8 text")
    if "://" in text:
        return _url(text)
    if "," in text:
        return _fields(text)
    network, port = _endpoint(text)
    return _Line(network, port)


def _url(text: str) -> _Line:
    match = _URL.fullmatch(text)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in _DEFAULT_PORTS:
        raise _Bad(f"{_quoted(text)} is not an http or https URL of an address; write http://192.0.2.7:11434")
    if "@" in match[2]:
        raise _Bad(f"{_quoted(_hide_user(text))} carries credentials, which the census never sends; leave them out")
    network, port = _endpoint(match[2])
    kept: Scheme = "https" if scheme == "https" else "http"
    return _Line(network, port or _DEFAULT_PORTS[scheme], scheme=kept, has_path=match[3] not in ("", "/"))


def _hide_user(url: str) -> str:
    return re.sub(r"//.*@", "//…@", url)


def _fields(text: str) -> _Line:
    """zgrab2's `IP, DOMAIN, TAG, PORT`; LZR's lines are of this form."""
    ip, domain, tag, port, *more = [part.strip() for part in text.split(",")] + [""] * 3
    if any(more):
        raise _Bad(f"{_quoted(text)} has more than the four fields ADDRESS, DOMAIN, TAG, PORT")
    if not ip:
        raise _Bad(f"{_quoted(text)} has no address, and no name is resolved; write `ADDRESS, {domain or 'DOMAIN'}`")
    network, own_port = _endpoint(ip)
    if own_port and port:
        raise _Bad(f"{_quoted(text)} states a port twice; write {network},{domain},{tag},{own_port}")
    return _Line(network, own_port or (_port(port) if port else None), _domain(domain), None, tag or None)


def _domain(text: str) -> str:
    """A host name in lower case without its final dot, or "". Raises _Bad."""
    name = text.lower().removesuffix(".")
    if not text:
        return ""
    if not name.isascii():
        raise _Bad(f"{_quoted(text)} is not an ASCII host name; write its `xn--` form")
    if not _DOMAIN.fullmatch(name) or not _HAS_LETTER.search(name):
        raise _Bad(f"{_quoted(text)} is not a host name; the second field is the name to ask for, as example.org")
    return name


def _endpoint(text: str) -> tuple[Network, int | None]:
    """An address or network, perhaps with `:port`; IPv6 with a port stands in brackets."""
    if text.startswith("["):
        return _bracketed(text)
    head, colon, port = text.rpartition(":")
    if colon and (":" not in head or "/" in head):
        return _asked(head), _port(port)
    return _asked(text), None


def _bracketed(text: str) -> tuple[Network, int | None]:
    match = _BRACKETED.fullmatch(text)
    if match is None or ":" not in match[1]:
        raise _Bad(f"{_quoted(text)} is not an IPv6 address in brackets; write [2001:db8::7]:11434")
    return _asked(match[1] + (match[2] or "")), None if match[3] is None else _port(match[3])


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_PORT):
        raise _Bad(f"{_quoted(text)} is not a port; ports are 1 to {MAX_PORT}")
    return int(text)


def _asked(text: str) -> Network:
    """A network that can be a target: an IPv4-mapped one would be asked twice, under two names."""
    network = _network(text)
    low = int(network.network_address)
    if network.version == 6 and low >> V4_BITS == 0xFFFF:
        raise _Bad(f"{_quoted(text)} is IPv4 in IPv6 form; write {ipaddress.IPv4Address(low & V4_TOP)}")
    return network


def _network(text: str) -> Network:
    """An address or CIDR network, strictly spelled. Raises _Bad with the nearest right form."""
    address, slash, length = text.partition("/")
    if ":" not in address and not _V4.fullmatch(address):
        raise _Bad(f"{_quoted(text)} is neither an address nor a network; {_hint(text)}")
    if "%" in address:
        raise _Bad(f"{_quoted(text)} has a zone, which means nothing to another machine; write {address.split('%')[0]}")
    if slash and not (length.isascii() and length.isdigit()):
        raise _Bad(f"{_quoted(text)} is neither an address nor a network; {_hint(text)}")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise _Bad(f"{_quoted(text)} is neither an address nor a network; {_hint(text)}") from None
    return _checked(text, address, network)


def _checked(text: str, address: str, network: Network) -> Network:
    first = ipaddress.ip_address(address)
    if first != network.network_address:
        raise _Bad(f"{_quoted(text)} has bits set beyond its length; did you mean {network} or {first}?")
    return network


def _hint(text: str) -> str:
    """The nearest right form of something that is no address."""
    for guess in (_hint_octets, _hint_mask, _hint_range, _hint_columns, _hint_v6, _hint_name):
        if hint := guess(text):
            return hint
    return "write 192.0.2.7, 192.0.2.0/24, 192.0.2.7:11434 or [2001:db8::7]:11434"


def _hint_octets(text: str) -> str:
    address, slash, length = text.partition("/")
    parts = address.split(".")
    if not 2 <= len(parts) <= 4 or not all(part.isascii() and part.isdigit() for part in parts):
        return ""
    if len(parts) < 4:
        network = ".".join([*(_nearest_octet(part) for part in parts), *["0"] * (4 - len(parts))])
        return f"did you mean {network}/{8 * len(parts)}?"
    nearest = ".".join(map(_nearest_octet, parts))
    if nearest == address:
        return "" if "." in length else f"a length is 0 to 32: did you mean {nearest}/32?"
    reason = "leading zeros are octal to some programs" if len(nearest) < len(address) and _no_big(parts) else ""
    return f"{reason or 'each number is 0 to 255'}: did you mean {nearest}{slash}{length}?"


def _no_big(parts: Sequence[str]) -> bool:
    return all(len(part.lstrip("0")) <= 3 and int(part) <= 255 for part in parts)


def _nearest_octet(part: str) -> str:
    """`300` is most likely a slip of `30`; `010` of `10`."""
    digits = part.lstrip("0")[:3] or "0"
    return digits if int(digits) <= 255 else digits[:2]


def _hint_mask(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return ""
    return f"did you mean {network}?" if "/" in text else ""


def _hint_range(text: str) -> str:
    match = _RANGE.fullmatch(text)
    if match is None:
        return ""
    try:
        first = ipaddress.ip_address(match[1])
        short = match[1].rpartition(".")[0] + "." + match[2] if match[2].isdigit() else match[2]
        networks = [str(n) for n in ipaddress.summarize_address_range(first, ipaddress.ip_address(short))]
    except (ValueError, TypeError):
        return ""
    more = ", …" if len(networks) > MAX_HINT_NETWORKS else ""
    return f"write the range as networks, one a line: {', '.join(networks[:MAX_HINT_NETWORKS])}{more}"


def _hint_columns(text: str) -> str:
    if masscan := _MASSCAN.fullmatch(text):
        return f"did you mean {masscan[2]}:{masscan[1]}?"
    address, space, port = text.partition(" ")
    if space and _V4.fullmatch(address) and port.strip().isdigit():
        return f"did you mean {address}:{port.strip()}?"
    return "one target a line, fields separated by commas: ADDRESS, DOMAIN, TAG, PORT" if space else ""


def _hint_v6(text: str) -> str:
    head, colon, port = text.rpartition(":")
    if not colon or ":" not in head or not port.isdigit():
        return ""
    try:
        return f"did you mean [{ipaddress.IPv6Address(head)}]:{port}?"
    except ValueError:
        return ""


def _hint_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if _DOMAIN.fullmatch(name) and _HAS_LETTER.search(name):
        return f"no name is resolved: write `ADDRESS, {name}` to ask that address for this name"
    return ""


# ---- the common lines, many at a time ----


def _fast(chunk: bytes) -> tuple[Array, Array, list[tuple[int, bytes]], int]:
    """Split whole lines into the plain ones, as arrays, and the rest, as (line index, bytes).

    Returns (addresses of `a.b.c.d` lines as uint32, `port << 32 | address` of `a.b.c.d:port` lines as uint64,
    other lines, number of lines). A line counts as plain only if the slow reader would read it the same.
    """
    text = np.frombuffer(chunk, np.uint8)
    stops = np.flatnonzero((text - np.uint8(48)) > 9)
    kinds = text[stops]
    ends = np.flatnonzero(kinds == 10)
    n_stops = np.diff(ends, prepend=-1)
    starts = np.append(0, stops[ends[:-1]] + 1)
    firsts = ends - n_stops + 1
    dotted = _dotted(kinds, firsts, n_stops)
    bare = np.flatnonzero(dotted & (n_stops == 4))
    colon = dotted & (n_stops == 5)
    colon[colon] = kinds[firsts[colon] + 3] == 58
    ported = np.flatnonzero(colon)
    address, bare_ok = _addresses(text, stops, starts[bare], firsts[bare])
    with_port, address_ok = _addresses(text, stops, starts[ported], firsts[ported])
    port, port_ok = _decimal(text, stops[firsts[ported] + 3] + 1, stops[firsts[ported] + 4], MAX_PORT, 5)
    port_ok &= address_ok & (port > 0)
    rest = np.ones(len(ends), bool)
    rest[bare[bare_ok]] = rest[ported[port_ok]] = False
    packed = with_port[port_ok].astype(np.uint64) | (port[port_ok].astype(np.uint64) << np.uint64(32))
    others = np.flatnonzero(rest)
    finish = stops[ends[others]]
    slow = [(i, chunk[a:b]) for i, a, b in zip(others.tolist(), starts[others].tolist(), finish.tolist(), strict=True)]
    return address[bare_ok].astype(np.uint32), packed, slow, len(ends)


def _dotted(kinds: Array, firsts: Array, n_stops: Array) -> Array:
    """Mask of the lines whose first three characters that are no digits are dots."""
    mask: Array = (n_stops == 4) | (n_stops == 5)
    for k in range(3):
        mask[mask] = kinds[firsts[mask] + k] == 46
    return mask


def _addresses(text: Array, stops: Array, starts: Array, firsts: Array) -> tuple[Array, Array]:
    value = np.zeros(len(starts), np.int64)
    good = np.ones(len(starts), bool)
    for k in range(4):
        end = stops[firsts + k]
        octet, fine = _decimal(text, starts, end, 255, 3)
        value = value << 8 | octet
        good &= fine
        starts = end + 1
    return value, good


def _decimal(text: Array, start: Array, end: Array, top: int, max_digits: int) -> tuple[Array, Array]:
    """Numbers between positions, and which of them are 1 to max_digits digits, no leading zero, at most top."""
    length = end - start
    value = np.zeros(len(start), np.int64)
    for k in range(max_digits):
        digit = text[np.maximum(end - 1 - k, 0)].astype(np.int64) - 48
        value += np.where(length > k, digit * 10**k, 0)
    first = text[np.minimum(start, len(text) - 1)]
    return value, (length >= 1) & (length <= max_digits) & (value <= top) & ((length == 1) | (first != 48))


# ---- gathering ----


Label = tuple[Scheme | None, str | None]
"""Scheme and tag: what a list says of an endpoint beyond where it is."""


def _of_version(keys: Array, version: int) -> Array:
    """Mask of the wide values of one IP version."""
    return np.array([bool(key & _IS_V6) == (version == 6) for key in keys], bool)


def _rank(label: Label) -> tuple[bool, bool, str, str]:
    """The line that says most of an endpoint wins: a scheme before none, then a tag before none, then the alphabet."""
    scheme, tag = label
    return scheme is None, tag is None, scheme or "", tag or ""


@dataclass
class _Label:
    """All lines of one label. Plain IPv4 is packed; IPv6 and named targets are rows, as few lines have them."""

    bare: bytearray = field(default_factory=bytearray)
    ported: bytearray = field(default_factory=bytearray)
    bare_networks: list[tuple[int, int]] = field(default_factory=list)
    ported_networks: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    rows: list[tuple[str, int, int, int]] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=lambda: {"bare": COMPACT_BYTES, "ported": COMPACT_BYTES})

    def add(self, line: _Line, ports: Sequence[int]) -> None:
        low, high = int(line.network.network_address), int(line.network.broadcast_address)
        if line.network.version == 6 or line.domain:
            v6 = _IS_V6 if line.network.version == 6 else 0
            asked = (line.port,) if line.port else ports
            self.rows += [(line.domain, port << _PORT_SHIFT | v6, low, high) for port in asked]
        elif low == high:
            self._add_address(low, line.port)
        elif line.port:
            self.ported_networks[line.port].append((low, high))
        else:
            self.bare_networks.append((low, high))

    def _add_address(self, address: int, port: int | None) -> None:
        if port:
            self.ported += (port << 32 | address).to_bytes(8, sys.byteorder)
        else:
            self.bare += address.to_bytes(4, sys.byteorder)

    def compact(self) -> None:
        """Drop duplicates once they may weigh something, so that memory follows distinct targets and not lines."""
        for name, dtype in (("bare", np.uint32), ("ported", np.uint64)):
            buffer: bytearray = getattr(self, name)
            if len(buffer) > self.limits[name]:
                kept = bytearray(_sorted_unique(np.frombuffer(buffer, dtype)).tobytes())
                setattr(self, name, kept)
                self.limits[name] = max(COMPACT_BYTES, 2 * len(kept))

    def spaces(self, ports: Sequence[int]) -> dict[int, _Space]:
        """Port -> the plain IPv4 addresses to ask on it. Empties the buffers; ports with equal lines share one set."""
        bare, self.bare = np.frombuffer(self.bare, np.uint32), bytearray()
        shared = _Space.of(bare, *_bounds(self.bare_networks, np.uint32))
        del bare
        own = dict(self._own_values())
        spaces = {port: shared for port in ports if shared.size and port not in own}
        for port in list(own):
            values = own.pop(port)
            lo, hi = _bounds(self.ported_networks.get(port, []), np.uint32)
            if port in ports and shared.size:
                values = np.append(values, shared.lone)
                lo, hi = np.append(lo, shared.lo), np.append(hi, shared.hi)
            spaces[port] = _Space.of(values, lo, hi)
        return spaces

    def _own_values(self) -> Iterator[tuple[int, Array]]:
        """(port, addresses) of the lines that name a port."""
        packed, self.ported = np.frombuffer(self.ported, np.uint64), bytearray()
        packed.sort()
        begin, seen = 0, set()
        while begin < len(packed):
            port = int(packed[begin]) >> 32
            end = int(np.searchsorted(packed, np.uint64(port + 1 << 32)))
            seen.add(port)
            yield port, packed[begin:end].astype(np.uint32)
            begin = end
        del packed
        yield from ((port, np.zeros(0, np.uint32)) for port in self.ported_networks if port not in seen)

    def wide(self, domain_ids: Mapping[str, int]) -> _Space:
        """IPv6 and named targets as one set of integers: domain, port, is IPv6, address."""
        prefixes = [(domain_ids[domain] << _DOMAIN_SHIFT | prefix, lo, hi) for domain, prefix, lo, hi in self.rows]
        self.rows = []
        single = [prefix | lo for prefix, lo, hi in prefixes if lo == hi]
        return _Space.of(
            np.array(single, object), *_bounds([(p | lo, p | hi) for p, lo, hi in prefixes if lo != hi], object)
        )


class _Gathering:
    """The lines read so far."""

    def __init__(self, ports: Sequence[int], skip_invalid: bool) -> None:
        self._ports = tuple(sorted(set(ports)))
        self._skip_invalid = skip_invalid
        self._labels: dict[Label, _Label] = defaultdict(_Label)
        self.n_invalid = self.n_named = self.n_urls_with_path = 0

    def read(self, stream: BinaryIO, name: str) -> None:
        """Add the lines of one list. Raises TargetError at the first bad one, unless they are to be skipped."""
        before = 0
        plain = self._labels[None, None]
        for chunk in _line_chunks(stream):
            bare, ported, others, n_lines = _fast(chunk)
            plain.bare += bare.tobytes()
            plain.ported += ported.tobytes()
            self.n_named += len(bare) * len(self._ports) + len(ported)
            for index, raw in others:
                self._slow(raw, name, before + index + 1)
            for label in self._labels.values():
                label.compact()
            before += n_lines

    def _slow(self, raw: bytes, name: str, number: int) -> None:
        body = raw.partition(b"#")[0].strip()
        if not body or (number == 1 and body.lower() in _HEADERS):
            return
        try:
            line = _line(body)
        except _Bad as problem:
            if not self._skip_invalid:
                raise TargetError(f"{name}:{number}: {problem}") from None
            self.n_invalid += 1
            return
        self._labels[line.scheme, line.tag].add(line, self._ports)
        self.n_named += line.network.num_addresses * (1 if line.port else len(self._ports))
        self.n_urls_with_path += line.has_path

    def finish(self, exclusions: Exclusions) -> TargetSet:
        """Everything read, each endpoint once, without what is excluded. Empties the gathering."""
        labels = {label: self._labels.pop(label) for label in sorted(self._labels, key=_rank)}
        domains = sorted({row[0] for gathered in labels.values() for row in gathered.rows} | {""})
        ids = {domain: index for index, domain in enumerate(domains)}
        wide = [(label, gathered.wide(ids)) for label, gathered in labels.items()]
        by_port = {label: gathered.spaces(self._ports) for label, gathered in labels.items()}
        sieve = _Sieve(exclusions)
        for ports, spaces in _same_spaces(by_port):
            sieve.add(ports, spaces)
        sieve.add((), wide)
        counts = _Counts(
            dict(sorted(sieve.left_out.items())),
            self.n_invalid,
            self.n_named - sieve.n_distinct,
            sieve.n_distinct - sum(sieve.left_out.values()) - sieve.n_private,
            self.n_urls_with_path,
        )
        return TargetSet(*_renumbered(sieve.parts(), domains), counts)


def _renumbered(parts: Sequence[_Part], domains: Sequence[str]) -> tuple[tuple[_Part, ...], tuple[str, ...]]:
    """Parts whose wide values number only the domains still in use, so that equal sets are equal values."""
    used = sorted({key >> _DOMAIN_SHIFT for part in parts for key in part.domain_keys()} | {0})
    if len(used) == len(domains):
        return tuple(parts), tuple(domains)
    shift = {old: (new - old) << _DOMAIN_SHIFT for new, old in enumerate(used)}
    return tuple(part.renumbered(shift) for part in parts), tuple(domains[old] for old in used)


def _same_spaces(
    by_port: Mapping[Label, Mapping[int, _Space]],
) -> Iterator[tuple[tuple[int, ...], list[tuple[Label, _Space]]]]:
    """Ports that share all their sets, together: the usual list has one set for all its ports."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for port in sorted({port for spaces in by_port.values() for port in spaces}):
        groups[tuple(id(spaces.get(port)) for spaces in by_port.values())].append(port)
    for ports in groups.values():
        yield tuple(ports), [(label, spaces[ports[0]]) for label, spaces in by_port.items() if ports[0] in spaces]


class _Sieve:
    """Takes each endpoint once, under the label that says most, and leaves out the excluded ones."""

    def __init__(self, exclusions: Exclusions) -> None:
        self._exclusions = exclusions
        self._kept: dict[tuple[Label, bool, str], tuple[list[int], _Space]] = {}
        self.left_out: Counter[str] = Counter()
        self.n_distinct = self.n_private = 0

    def add(self, ports: tuple[int, ...], spaces: Iterable[tuple[Label, _Space]]) -> None:
        """Sets in the order of their labels' rank. `ports` is () for wide sets, whose values name the port."""
        taken: list[_Space] = []
        times, wide = len(ports) or 1, not ports
        for label, space in spaces:
            for earlier in taken:
                space = space.without(earlier)
            taken.append(space)
            kept, left_out = self._exclusions.subtract(space, wide)
            self.n_distinct += space.size * times
            self.n_private += _PRIVATE.count(kept, wide) * times
            self.left_out.update({why: n * times for why, n in left_out.items()})
            if kept.size:
                self._kept.setdefault((label, wide, kept.digest), ([], kept))[0].extend(ports)

    def parts(self) -> tuple[_Part, ...]:
        parts = [_Part(label, tuple(sorted(ports)), space) for (label, _, _), (ports, space) in self._kept.items()]
        return tuple(sorted(parts, key=lambda part: (_rank(part.label), not part.ports, part.ports)))


def _line_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """A stream as chunks of whole lines, each ended by a line feed; of an endless line only the head is kept."""
    carry, mark = b"", b"\xef\xbb\xbf"
    while data := stream.read(CHUNK_BYTES):
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            yield (carry + head + b"\n").removeprefix(mark).replace(b"\r\n", b"\n")
            carry, mark = tail, b""
        else:
            carry = (carry + tail)[:MAX_CARRY_BYTES]
    if carry:
        yield carry.removeprefix(mark).removesuffix(b"\r") + b"\n"


@contextmanager
def _opened(source: str, stdin: BinaryIO | None) -> Iterator[BinaryIO]:
    """A list by path or `-`, unpacked when it is gzip. Raises TargetError when it cannot be read."""
    try:
        if source == "-":
            yield _unpacked(io.BufferedReader(_Unowned(stdin or _standard_input())))
        else:
            with Path(source).open("rb") as file:
                yield _unpacked(file)
    except (OSError, EOFError, zlib.error) as problem:
        said = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
        raise TargetError(f"{_quoted(source)} cannot be read: {said}") from None


def _standard_input() -> BinaryIO:
    """Python has None in place of a standard input that was closed before it began (`census … <&-`)."""
    if cast(object, sys.stdin) is None:
        raise OSError("it is closed; pipe a list into it or name a file")
    return sys.stdin.buffer


class _Unowned(io.RawIOBase):
    """Somebody else's stream: read from, never closed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _unpacked(stream: io.BufferedReader) -> BinaryIO:
    if stream.peek(2)[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    return stream


def read(
    sources: Sequence[str],
    *,
    ports: Sequence[int],
    exclusions: Exclusions,
    skip_invalid: bool = False,
    stdin: BinaryIO | None = None,
) -> TargetSet:
    """Read target lists into one set. Raises TargetError with list, line and the nearest right form.

    Args:
        sources: paths, or "-" for standard input; gzip is recognised by its first bytes.
        ports: for the lines that name no port.
        skip_invalid: count bad lines in `n_invalid` instead of raising.
        stdin: what "-" reads, for tests; by default the process's standard input.
    """
    gathering = _Gathering(ports, skip_invalid)
    for source in sources:
        with _opened(source, stdin) as stream:
            gathering.read(stream, "standard input" if source == "-" else source)
    return gathering.finish(exclusions)


# ---- the set ----


class _Counts(NamedTuple):
    n_excluded: Mapping[str, int]
    n_invalid: int
    n_duplicates: int
    n_public: int
    n_urls_with_path: int


@dataclass(frozen=True)
class _Part:
    """Targets of one label: addresses times ports, or wide values where `ports` is ()."""

    label: Label
    ports: tuple[int, ...]
    space: _Space

    @property
    def size(self) -> int:
        return self.space.size * (len(self.ports) or 1)

    def domain_keys(self) -> Iterator[int]:
        """Wide values among which every domain in use occurs."""
        return iter(() if self.ports else [*self.space.lone, *self.space.lo])

    def renumbered(self, shift: Mapping[int, int]) -> _Part:
        if self.ports:
            return self
        moved = (
            np.array([key + shift[key >> _DOMAIN_SHIFT] for key in keys], object)
            for keys in (self.space.lone, self.space.lo, self.space.hi)
        )
        return _Part(self.label, self.ports, _Space(*moved))

    def target(self, index: int, domains: Sequence[str]) -> Target:
        scheme, tag = self.label
        if self.ports:
            where, port = divmod(index, len(self.ports))
            ip = socket.inet_ntoa(self.space.at(where).to_bytes(4, "big"))
            return Target(ip, self.ports[port], "", scheme, tag)
        key = self.space.at(index)
        port = key >> _PORT_SHIFT & MAX_PORT
        return Target(_text(key), port, domains[key >> _DOMAIN_SHIFT], scheme, tag)


def _text(key: int) -> str:
    """The canonical address of a wide value."""
    address = key & _ADDRESS
    return str(ipaddress.IPv6Address(address) if key & _IS_V6 else ipaddress.IPv4Address(address))


class TargetSet:
    """Every endpoint to ask, once, in canonical order; immutable and packed. Equal sets have equal order and digest.

    The ledger: lines' endpoints = `size` + sum of `n_excluded` + `n_duplicates`; `n_invalid` counts lines.

    Attributes:
        size: number of targets. Use it instead of len(), which Python bounds at 2**63 - 1: one IPv6 /64 is more.
        n_excluded: targets left out, by reason. n_duplicates: endpoints named again.
        n_public: targets outside loopback and private ranges; these need `--contact`.
        n_urls_with_path: lines that were URLs with a path, which is ignored.
        digest: SHA-256, hex, of the canonical set.
    """

    def __init__(self, parts: tuple[_Part, ...], domains: tuple[str, ...], counts: _Counts) -> None:
        self._parts = parts
        self._domains = domains
        self.n_excluded, self.n_invalid, self.n_duplicates, self.n_public, self.n_urls_with_path = counts
        self._starts = [0]
        for part in parts:
            self._starts.append(self._starts[-1] + part.size)
        self.size = self._starts[-1]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Target:
        if not 0 <= index < self.size:
            raise IndexError(f"target {index} of {self.size}")
        where = bisect_right(self._starts, index) - 1
        return self._parts[where].target(index - self._starts[where], self._domains)

    def __iter__(self) -> Iterator[Target]:
        return (target for part in self._parts for target in self._each(part))

    def _each(self, part: _Part) -> Iterator[Target]:
        return (part.target(index, self._domains) for index in range(part.size))

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex: equal sets have equal digests, whatever the order or spelling of the lists."""
        named = [[part.label, part.ports, part.space.digest] for part in self._parts]
        return hashlib.sha256(json.dumps([self._domains, named]).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the set as one npz file without pickles, by one rename; nothing else is needed to resume."""
        meta = {
            "domains": self._domains,
            "parts": [[part.label, part.ports] for part in self._parts],
            "counts": [dict(self.n_excluded), *self._plain_counts()],
            "digest": self.digest,
        }
        arrays = {
            f"{k}_{name}": _storable(getattr(part.space, name))
            for k, part in enumerate(self._parts)
            for name in ("lone", "lo", "hi")
        }
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        partial.replace(path)

    def _plain_counts(self) -> tuple[int, ...]:
        return self.n_invalid, self.n_duplicates, self.n_public, self.n_urls_with_path

    @classmethod
    def load(cls, path: Path) -> TargetSet:
        """Read what `save` wrote. Raises SnapshotError when the file is missing or not what was written."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                meta = json.loads(file["meta"].tobytes())
                parts = tuple(
                    _Part((label[0], label[1]), tuple(ports), _restored(file, k, bool(ports)))
                    for k, (label, ports) in enumerate(meta["parts"])
                )
                targets = cls(parts, tuple(meta["domains"]), _Counts(*meta["counts"]))
            intact = targets.digest == meta["digest"]
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as problem:
            raise SnapshotError(f"{path}: the saved target set cannot be read ({problem})") from None
        if not intact:
            raise SnapshotError(f"{path}: the saved target set is damaged (its digest differs)")
        return targets


def _pack(values: Array) -> bytes:
    if values.dtype != object:
        return values.astype("<u4", copy=False).tobytes()
    return b"".join(value.to_bytes(_WIDE_BYTES, "little") for value in values)


def _storable(values: Array) -> Array:
    return values if values.dtype != object else np.frombuffer(_pack(values), np.uint8)


def _restored(file: Mapping[str, Array], part: int, plain: bool) -> _Space:
    lone, lo, hi = (file[f"{part}_{name}"] for name in ("lone", "lo", "hi"))
    return _Space(lone, lo, hi) if plain else _Space(_wide(lone), _wide(lo), _wide(hi))


def _wide(packed: Array) -> Array:
    data = packed.tobytes()
    steps = range(0, len(data), _WIDE_BYTES)
    return np.array([int.from_bytes(data[at : at + _WIDE_BYTES], "little") for at in steps], object)


# ---- order and size of a scan ----


class Permutation:
    """A seeded order of range(n) that needs no table: position -> index, each index once.

    A Feistel network on the numbers below a * b, the smallest near-square that holds n, walked until the value is below
    n (a chance of about 1 / sqrt(n) each). The order for a seed is a promise: resumed and sharded scans rest on it.
    Use `size` where n may pass 2**63 - 1, which len() cannot say.
    """

    def __init__(self, n: int, seed: int) -> None:
        """Raises ValueError when n is negative."""
        if n < 0:
            raise ValueError(f"a permutation of {n} values")
        self.size = n
        self._a = max(1, _ceil_sqrt(n))
        self._b = max(1, -(-n // self._a))
        self._keys = [_round_keys(seed, number) for number in range(FEISTEL_ROUNDS)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, position: int) -> int:
        if not 0 <= position < self.size:
            raise IndexError(f"position {position} of {self.size}")
        value = self._once(position)
        while value >= self.size:
            value = self._once(value)
        return value

    def __iter__(self) -> Iterator[int]:
        return map(self.__getitem__, range(self.size))

    def _once(self, value: int) -> int:
        a, b = self._a, self._b
        left, right = divmod(value, b)
        for number, (add, multiply) in enumerate(self._keys):
            source = left if number & 1 else right
            mixed = (source + add) * multiply & _ADDRESS
            mixed = (mixed ^ mixed >> 71) * multiply & _ADDRESS
            mixed ^= mixed >> 67
            if number & 1:
                right = (right + mixed) % b
            else:
                left = (left + mixed) % a
        return left * b + right


def _ceil_sqrt(n: int) -> int:
    return isqrt(n - 1) + 1 if n else 0


def _round_keys(seed: int, number: int) -> tuple[int, int]:
    """A 128-bit summand and an odd 128-bit factor for one round."""
    digest = hashlib.sha256(f"census order {seed} {number}".encode()).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:], "big") | 1


def parse_ports(text: str) -> tuple[int, ...]:
    """`11434,8000,8080-8082` -> sorted distinct ports. Raises UsageError."""
    ports: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = _port(first.strip()), _port((last if dash else first).strip())
        except _Bad as problem:
            raise UsageError(f"--ports {_quoted(text)}: {problem}; write 11434,8000,8080-8082") from None
        if high < low:
            raise UsageError(f"--ports {_quoted(text)}: did you mean {high}-{low}?")
        ports.update(range(low, high + 1))
    return tuple(sorted(ports))


_AMOUNT = re.compile(r"(\d{1,40}(?:\.\d{1,20})?)(%?)", re.ASCII)


def sample_size(text: str, n: int) -> int:
    """How many of n targets `1000` or `2.5%` asks for: at most n; a share is rounded down. Raises UsageError."""
    match = _AMOUNT.fullmatch(text.strip())
    amount = Fraction(match[1]) if match else Fraction(0)
    whole = match is not None and (bool(match[2]) or "." not in match[1])
    if not whole or amount <= 0 or (match is not None and match[2] and amount > 100):
        raise UsageError(f"--max-targets {_quoted(text)} is neither a count nor a share; write 1000 or 2.5%")
    return min(n, int(n * amount / 100) if match is not None and match[2] else int(amount))
