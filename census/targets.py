"""Text -> Targets: read target lists, leave out what must not be asked, and hold the rest packed.

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
import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from census.errors import SnapshotError, TargetError, UsageError
from census.exclusions import PRIVATE, Exclusions
from census.intervals import (
    ADDRESS,
    DOMAIN_SHIFT,
    IS_V6,
    PORT_SHIFT,
    WIDE_BYTES,
    Array,
    Space,
    bounds_of,
    packed,
    sorted_unique,
)
from census.model import Scheme, Target
from census.target_lines import HEADERS, MAX_PORT, BadLine, Line, quoted, read_line, read_many, read_port

CHUNK_BYTES = 1 << 20
"""Bytes of a list read at a time."""

MAX_CARRY_BYTES = 1 << 16
"""Bytes kept of a line that spans chunks; enough to show that it is too long."""

MOST_INDEXED = 1 << 62
"""Targets in a set up to which numpy can number them."""

COMPACT_BYTES = 1 << 26
"""Bytes of packed lines after which duplicates are dropped while reading."""

# ---- gathering ----

Label = tuple[Scheme | None, str | None]
"""Scheme and tag: what a list says of an endpoint beyond where it is."""


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

    def add(self, line: Line, ports: Sequence[int]) -> None:
        low, high = int(line.network.network_address), int(line.network.broadcast_address)
        if line.network.version == 6 or line.domain:
            v6 = IS_V6 if line.network.version == 6 else 0
            asked = (line.port,) if line.port else ports
            self.rows += [(line.domain, port << PORT_SHIFT | v6, low, high) for port in asked]
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
                kept = bytearray(sorted_unique(np.frombuffer(buffer, dtype)).tobytes())
                setattr(self, name, kept)
                self.limits[name] = max(COMPACT_BYTES, 2 * len(kept))

    def spaces(self, ports: Sequence[int]) -> dict[int, Space]:
        """Port -> the plain IPv4 addresses to ask on it. Empties the buffers; ports with equal lines share one set."""
        bare, self.bare = np.frombuffer(self.bare, np.uint32), bytearray()
        shared = Space.of(bare, *bounds_of(self.bare_networks, np.uint32))
        del bare
        own = dict(self._own_values())
        spaces = {port: shared for port in ports if shared.size and port not in own}
        for port in list(own):
            values = own.pop(port)
            lo, hi = bounds_of(self.ported_networks.get(port, []), np.uint32)
            if port in ports and shared.size:
                values = np.append(values, shared.lone)
                lo, hi = np.append(lo, shared.lo), np.append(hi, shared.hi)
            spaces[port] = Space.of(values, lo, hi)
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

    def wide(self, domain_ids: Mapping[str, int]) -> Space:
        """IPv6 and named targets as one set of integers: domain, port, is IPv6, address."""
        prefixes = [(domain_ids[domain] << DOMAIN_SHIFT | prefix, lo, hi) for domain, prefix, lo, hi in self.rows]
        self.rows = []
        single = [prefix | lo for prefix, lo, hi in prefixes if lo == hi]
        return Space.of(
            np.array(single, object), *bounds_of([(p | lo, p | hi) for p, lo, hi in prefixes if lo != hi], object)
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
            bare, ported, others, n_lines = read_many(chunk)
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
        if not body or (number == 1 and body.lower() in HEADERS):
            return
        try:
            line = read_line(body)
        except BadLine as problem:
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
    used = sorted({key >> DOMAIN_SHIFT for part in parts for key in part.domain_keys()} | {0})
    if len(used) == len(domains):
        return tuple(parts), tuple(domains)
    shift = {old: (new - old) << DOMAIN_SHIFT for new, old in enumerate(used)}
    return tuple(part.renumbered(shift) for part in parts), tuple(domains[old] for old in used)


def _same_spaces(
    by_port: Mapping[Label, Mapping[int, Space]],
) -> Iterator[tuple[tuple[int, ...], list[tuple[Label, Space]]]]:
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
        self._kept: dict[tuple[Label, bool, str], tuple[list[int], Space]] = {}
        self.left_out: Counter[str] = Counter()
        self.n_distinct = self.n_private = 0

    def add(self, ports: tuple[int, ...], spaces: Iterable[tuple[Label, Space]]) -> None:
        """Sets in the order of their labels' rank. `ports` is () for wide sets, whose values name the port."""
        taken: list[Space] = []
        times, wide = len(ports) or 1, not ports
        for label, space in spaces:
            for earlier in taken:
                space = space.without(earlier)
            taken.append(space)
            kept, left_out = self._exclusions.subtract(space, wide)
            self.n_distinct += space.size * times
            self.n_private += PRIVATE.count(kept, wide) * times
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
        raise TargetError(f"{quoted(source)} cannot be read: {said}") from None


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
    space: Space

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
            np.array([key + shift[key >> DOMAIN_SHIFT] for key in keys], object)
            for keys in (self.space.lone, self.space.lo, self.space.hi)
        )
        return _Part(self.label, self.ports, Space(*moved))

    def target(self, index: int, domains: Sequence[str]) -> Target:
        scheme, tag = self.label
        if self.ports:
            where, port = divmod(index, len(self.ports))
            ip = socket.inet_ntoa(self.space.at(where).to_bytes(4, "big"))
            return Target(ip, self.ports[port], "", scheme, tag)
        key = self.space.at(index)
        port = key >> PORT_SHIFT & MAX_PORT
        return Target(_text(key), port, domains[key >> DOMAIN_SHIFT], scheme, tag)

    def targets(self, indices: Array, domains: Sequence[str]) -> list[Target]:
        """What `target` gives for each."""
        if not self.ports:
            return [self.target(index, domains) for index in indices.tolist()]
        scheme, tag = self.label
        where, which = np.divmod(indices, len(self.ports))
        packed = self.space.each_at(where).astype(">u4").tobytes()
        ips = [socket.inet_ntoa(packed[at : at + 4]) for at in range(0, len(packed), 4)]
        return [Target(ip, self.ports[i], "", scheme, tag) for ip, i in zip(ips, which.tolist(), strict=True)]


def _text(key: int) -> str:
    """The canonical address of a wide value."""
    address = key & ADDRESS
    return str(ipaddress.IPv6Address(address) if key & IS_V6 else ipaddress.IPv4Address(address))


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

    def some(self, indices: Sequence[int]) -> list[Target]:
        """The targets at some indices: what `[]` gives, in half the time for many."""
        if self.size > MOST_INDEXED:
            return [self[index] for index in indices]
        wanted = np.array(indices, np.int64)
        found: dict[int, Target] = {}
        where = np.searchsorted(self._starts, wanted, "right") - 1
        for number in sorted(set(where.tolist())):
            mine = np.flatnonzero(where == number)
            targets = self._parts[number].targets(wanted[mine] - self._starts[number], self._domains)
            found.update(zip(mine.tolist(), targets, strict=True))
        return [found[place] for place in range(len(wanted))]

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
        except Exception as problem:  # of a damaged file, zipfile and numpy raise whatever they came upon
            raise SnapshotError(f"{path}: the saved target set cannot be read ({problem})") from None
        if not intact:
            raise SnapshotError(f"{path}: the saved target set is damaged (its digest differs)")
        return targets


def _storable(values: Array) -> Array:
    return values if values.dtype != object else np.frombuffer(packed(values), np.uint8)


def _restored(file: Mapping[str, Array], part: int, plain: bool) -> Space:
    lone, lo, hi = (file[f"{part}_{name}"] for name in ("lone", "lo", "hi"))
    return Space(lone, lo, hi) if plain else Space(_wide(lone), _wide(lo), _wide(hi))


def _wide(packed: Array) -> Array:
    data = packed.tobytes()
    steps = range(0, len(data), WIDE_BYTES)
    return np.array([int.from_bytes(data[at : at + WIDE_BYTES], "little") for at in steps], object)


# ---- ports and size of a scan ----


def parse_ports(text: str) -> tuple[int, ...]:
    """`11434,8000,8080-8082` -> sorted distinct ports. Raises UsageError."""
    ports: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = read_port(first.strip()), read_port((last if dash else first).strip())
        except BadLine as problem:
            raise UsageError(f"--ports {quoted(text)}: {problem}; write 11434,8000,8080-8082") from None
        if high < low:
            raise UsageError(f"--ports {quoted(text)}: did you mean {high}-{low}?")
        ports.update(range(low, high + 1))
    return tuple(sorted(ports))


_AMOUNT = re.compile(r"(\d{1,40}(?:\.\d{1,20})?)(%?)", re.ASCII)


def sample_size(text: str, n: int) -> int:
    """How many of n targets `1000` or `2.5%` asks for: at most n; a share is rounded down. Raises UsageError."""
    match = _AMOUNT.fullmatch(text.strip())
    amount = Fraction(match[1]) if match else Fraction(0)
    whole = match is not None and (bool(match[2]) or "." not in match[1])
    if not whole or amount <= 0 or (match is not None and match[2] and amount > 100):
        raise UsageError(f"--max-targets {quoted(text)} is neither a count nor a share; write 1000 or 2.5%")
    return min(n, int(n * amount / 100) if match is not None and match[2] else int(amount))
