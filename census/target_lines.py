"""Lines of a list -> addresses and networks, or the reason why a line is neither, with the nearest right form."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from census import hostile
from census.intervals import V4_BITS, V4_TOP, Array
from census.model import Scheme

MAX_LINE_CHARS = 1024
"""Characters of one line of a list; a longer one is not a target."""

SHOWN_CHARS = 80
"""Characters of a bad line that a message repeats."""

MAX_HINT_NETWORKS = 4
"""Networks that a message offers in place of an address range."""

MAX_PORT = 65535
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadLine(ValueError):
    """Why a line is not a target, with the nearest right form."""


class Line(NamedTuple):
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
HEADERS = frozenset({b"saddr", b"ip"})


def quoted(text: str) -> str:
    """A part of a line as a message shows it."""
    return f"'{hostile.printable(text, SHOWN_CHARS)}'"


def printable_line(text: str) -> str:
    """A line that can be shown as it is. Raises BadLine."""
    if len(text) > MAX_LINE_CHARS:
        raise BadLine(f"{quoted(text)} is longer than {MAX_LINE_CHARS} characters; one target a line")
    if not text.isprintable() or "\ufffd" in text:
        raise BadLine(f"{quoted(text)} holds characters that do not print; a list is plain UTF-8 text")
    return text


def read_line(body: bytes) -> Line:
    """Read one line without its comment. Raises BadLine."""
    text = printable_line(body.decode("utf-8", "replace").replace("\t", " "))
    if "://" in text:
        return _url(text)
    if "," in text:
        return _fields(text)
    network, port = _endpoint(text)
    return Line(network, port)


def _url(text: str) -> Line:
    match = _URL.fullmatch(text)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in _DEFAULT_PORTS:
        raise BadLine(f"{quoted(text)} is not an http or https URL of an address; write http://192.0.2.7:11434")
    if "@" in match[2]:
        raise BadLine(f"{quoted(_hide_user(text))} carries credentials, which the census never sends; leave them out")
    network, port = _endpoint(match[2])
    kept: Scheme = "https" if scheme == "https" else "http"
    return Line(network, port or _DEFAULT_PORTS[scheme], scheme=kept, has_path=match[3] not in ("", "/"))


def _hide_user(url: str) -> str:
    return re.sub(r"//.*@", "//…@", url)


def _fields(text: str) -> Line:
    """zgrab2's `IP, DOMAIN, TAG, PORT`; LZR's lines are of this form."""
    ip, domain, tag, port, *more = [part.strip() for part in text.split(",")] + [""] * 3
    if any(more):
        raise BadLine(f"{quoted(text)} has more than the four fields ADDRESS, DOMAIN, TAG, PORT")
    if not ip:
        raise BadLine(f"{quoted(text)} has no address, and no name is resolved; write `ADDRESS, {domain or 'DOMAIN'}`")
    network, own_port = _endpoint(ip)
    if own_port and port:
        raise BadLine(f"{quoted(text)} states a port twice; write {network},{domain},{tag},{own_port}")
    return Line(network, own_port or (read_port(port) if port else None), _domain(domain), None, tag or None)


def _domain(text: str) -> str:
    """A host name in lower case without its final dot, or "". Raises BadLine."""
    name = text.lower().removesuffix(".")
    if not text:
        return ""
    if not name.isascii():
        raise BadLine(f"{quoted(text)} is not an ASCII host name; write its `xn--` form")
    if not _DOMAIN.fullmatch(name) or not _HAS_LETTER.search(name):
        raise BadLine(f"{quoted(text)} is not a host name; the second field is the name to ask for, as example.org")
    return name


def _endpoint(text: str) -> tuple[Network, int | None]:
    """An address or network, perhaps with `:port`; IPv6 with a port stands in brackets."""
    if text.startswith("["):
        return _bracketed(text)
    head, colon, port = text.rpartition(":")
    if colon and (":" not in head or "/" in head):
        return _asked(head), read_port(port)
    return _asked(text), None


def _bracketed(text: str) -> tuple[Network, int | None]:
    match = _BRACKETED.fullmatch(text)
    if match is None or ":" not in match[1]:
        raise BadLine(f"{quoted(text)} is not an IPv6 address in brackets; write [2001:db8::7]:11434")
    return _asked(match[1] + (match[2] or "")), None if match[3] is None else read_port(match[3])


def read_port(text: str) -> int:
    """A port from 1 to MAX_PORT. Raises BadLine."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_PORT):
        raise BadLine(f"{quoted(text)} is not a port; ports are 1 to {MAX_PORT}")
    return int(text)


def _asked(text: str) -> Network:
    """A network that can be a target: an IPv4-mapped one would be asked twice, under two names."""
    network = read_network(text)
    low = int(network.network_address)
    if network.version == 6 and low >> V4_BITS == 0xFFFF:
        raise BadLine(f"{quoted(text)} is IPv4 in IPv6 form; write {ipaddress.IPv4Address(low & V4_TOP)}")
    return network


def read_network(text: str) -> Network:
    """An address or CIDR network, strictly spelled. Raises BadLine with the nearest right form."""
    address, slash, length = text.partition("/")
    if ":" not in address and not _V4.fullmatch(address):
        raise BadLine(f"{quoted(text)} is neither an address nor a network; {_hint(text)}")
    if "%" in address:
        raise BadLine(
            f"{quoted(text)} has a zone, which means nothing to another machine; write {address.split('%')[0]}"
        )
    if slash and not (length.isascii() and length.isdigit()):
        raise BadLine(f"{quoted(text)} is neither an address nor a network; {_hint(text)}")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadLine(f"{quoted(text)} is neither an address nor a network; {_hint(text)}") from None
    return _checked(text, address, network)


def _checked(text: str, address: str, network: Network) -> Network:
    first = ipaddress.ip_address(address)
    if first != network.network_address:
        raise BadLine(f"{quoted(text)} has bits set beyond its length; did you mean {network} or {first}?")
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


def read_many(chunk: bytes) -> tuple[Array, Array, list[tuple[int, bytes]], int]:
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
