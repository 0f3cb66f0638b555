"""One reply as the rules see it: head and body, read at most once; the proxy that shows; recorded bytes -> Reply.

A part of `identify`: it knows no server and no rule.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from census import hostile
from census.model import Question, Reply, Scheme

TITLE_WITHIN: Final = 65_536
"""Bytes at the start of a page in which its title is looked for."""

Check = Callable[["View"], bool]


# --- One reply, read at most once ------------------------------------------------------------------------------------


class _Missing:
    """No such value: neither a JSON value nor null."""


MISSING: Final = _Missing()

VARYING: Final = frozenset({"date", "content-length"})
"""Headers whose value differs from reply to reply: rules may only ask whether they are there."""

VARYING_NAMES: Final = frozenset({"Date", "date", "Content-Length", "content-length"})
"""The same as servers write them."""


class Head:
    """What stands above a body. `Rules` reads a head once for all the replies that have it."""

    __slots__ = ("asked", "bits", "blocks", "headers", "media_type", "proxy", "reply", "signer")

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked = str(reply.question)
        self.headers: dict[str, str] = {}
        for name, value in reply.headers:
            self.headers.setdefault(name.lower(), value)
        self.media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.proxy = _proxy(self.headers)
        self.signer = _signer(self.headers.get("server"), self.proxy)
        self.bits = 0
        """What the head alone decides, as `_Index` counts."""
        self.blocks: tuple[Block, ...] = ()
        """What the body decides: a check, the bits that are set where it holds, and what then is to be checked."""


class View:
    """A reply with its headers indexed and its JSON parsed at most once. Where it is short, shared between replies that
    differ in nothing that is judged: then its times are another's."""

    __slots__ = ("_bits", "_json", "body", "head")

    def __init__(self, head: Head, body: bytes) -> None:
        self.head, self.body = head, body
        self._json: Any = self
        self._bits: int | None = None

    @classmethod
    def of(cls, reply: Reply) -> View:
        """One reply alone, of which nothing is decided yet."""
        return cls(Head(reply), reply.body)

    @property
    def bits(self) -> int:
        """What is decided by this reply, as `_Index` counts."""
        if self._bits is None:
            self._bits = self.head.bits | _passing(self.head.blocks, self)
        return self._bits

    @property
    def json(self) -> Any:
        """The parsed body, or `MISSING` when it is not JSON within our bounds."""
        if self._json is self:
            try:
                self._json = hostile.read_json(self.body)
            except hostile.Unreadable:
                self._json = MISSING
        return self._json

    @property
    def value(self) -> Any:
        """The parsed body; None where it is null or unreadable."""
        value = self.json
        return None if value is MISSING else value

    @property
    def title(self) -> str | None:
        """The text of the first `<title>` near the start of the body, or None."""
        page = self.body[:TITLE_WITHIN]
        start = page.lower().find(b"<title")
        opened = page.find(b">", start) + 1 if start >= 0 else 0
        end = page.find(b"<", opened) if opened else -1
        return html.unescape(page[opened:end].decode("utf-8", "replace")).strip() if end >= 0 else None

    @property
    def text(self) -> str:
        """A short body as text without white space around it; "" beyond MAX_TEXT bytes, where no rule's text is."""
        body = self.body if len(self.body) <= hostile.MAX_TEXT else b""
        return body.decode("utf-8", "replace").strip()


def dig(value: Any, path: Iterable[str]) -> Any:
    """The value below `path`, or `MISSING`."""
    for step in path:
        if type(value) is not dict or step not in value:
            return MISSING
        value = value[step]
    return value


# --- Proxies ---------------------------------------------------------------------------------------------------------


SIGNERS: Final = ("nobody", "proxy", "other")
"""Whose Server header a reply has: none, with no sign of a proxy; a proxy's, or none where a proxy shows; another's."""

_PROXIES: Final = (
    ("cf-ray", "", "cloudflare"),
    ("x-amz-cf-id", "", "cloudfront"),
    ("fly-request-id", "", "fly.io"),
    ("x-kong-upstream-latency", "", "kong"),
    ("x-kong-proxy-latency", "", "kong"),
    ("ngrok-trace-id", "", "ngrok"),
    ("x-vercel-id", "", "vercel"),
    ("x-nf-request-id", "", "netlify"),
    ("x-fastly-request-id", "", "fastly"),
    ("x-varnish", "", "varnish"),
    ("x-akamai-transformed", "", "akamai"),
    ("x-akamai-request-id", "", "akamai"),
    ("akamai-grn", "", "akamai"),
    ("x-azure-ref", "", "azure"),
    ("x-iinfo", "", "imperva"),
    ("server", "openresty", "openresty"),
    ("server", "nginx", "nginx"),
    ("server", "angie", "angie"),
    ("server", "freenginx", "nginx"),
    ("server", "caddy", "caddy"),
    ("server", "cloudflare", "cloudflare"),
    ("server", "cloudfront", "cloudfront"),
    ("server", "apisix", "apisix"),
    ("server", "apachetrafficserver", "traffic-server"),
    ("server", "ats", "traffic-server"),
    ("server", "apache", "apache"),
    ("server", "envoy", "envoy"),
    ("server", "istio-envoy", "envoy"),
    ("server", "tengine", "tengine"),
    ("server", "kong", "kong"),
    ("server", "lighttpd", "lighttpd"),
    ("server", "litespeed", "litespeed"),
    ("server", "openlitespeed", "litespeed"),
    ("server", "h2o", "h2o"),
    ("server", "haproxy", "haproxy"),
    ("server", "traefik", "traefik"),
    ("server", "varnish", "varnish"),
    ("server", "squid", "squid"),
    ("server", "bunnycdn", "bunnycdn"),
    ("server", "akamai", "akamai"),
    ("server", "vercel", "vercel"),
    ("server", "netlify", "netlify"),
    ("server", "fly/", "fly.io"),
    ("server", "railway", "railway"),
    ("server", "ddos-guard", "ddos-guard"),
    ("server", "sucuri", "sucuri"),
    ("server", "big-ip", "big-ip"),
    ("server", "bigip", "big-ip"),
    ("server", "awselb", "aws-elb"),
    ("server", "microsoft-iis", "iis"),
    ("server", "microsoft-httpapi", "iis"),
    ("server", "microsoft-azure-application-gateway", "azure"),
    ("server", "google frontend", "google"),
    ("x-powered-by", "arr/", "iis"),
    ("via", "1.1 caddy", "caddy"),
    ("via", "2.0 caddy", "caddy"),
    ("via", "1.1 google", "google"),
    ("via", "1.1 varnish", "varnish"),
    ("via", "1.1 kong", "kong"),
    ("via", "1.1 fly.io", "fly.io"),
    ("x-envoy-upstream-service-time", "", "envoy"),
    ("via", "", "other"),
    ("x-cache", "", "other"),
)
"""Header, start of its value in lower case, the proxy it gives away. The first row that fits decides.

The one list of proxies: rules ask for it by `signed_by`, and doubts by the proxy that was named. Source: each product's
documented default headers. What stands in a `Via` beyond that may be a host's name, so it is "other".
"""


def _proxy(headers: Mapping[str, str]) -> str | None:
    for header, start, name in _PROXIES:
        value = headers.get(header)
        if value is not None and value.lower().startswith(start):
            return name
    return None


def _signer(server: str | None, proxy: str | None) -> str:
    """One of SIGNERS. A proxy may leave the header of the program behind it, which is then another's."""
    if server is None:
        return "proxy" if proxy else "nobody"
    return "proxy" if _proxy({"server": server}) else "other"


# --- Checks of many blocks at once -----------------------------------------------------------------------------------


Block = tuple[Check, int, tuple["Block", ...]]
"""A check, the bits of the blocks of conditions that it completes, and the blocks that go on after it."""


def _passing(blocks: tuple[Block, ...], view: View) -> int:
    """The bits of the blocks that hold."""
    bits = 0
    for check, bit, rest in blocks:
        if check(view):
            bits |= bit | _passing(rest, view) if rest else bit
    return bits


def joined(conditions: Iterable[tuple[int, tuple[Check, ...]]]) -> tuple[Block, ...]:
    """Blocks, of which each has a bit and its checks in order, as a tree: those that begin alike begin once."""
    by_first: dict[Check, list[tuple[int, tuple[Check, ...]]]] = {}
    for bit, (first, *rest) in conditions:
        by_first.setdefault(first, []).append((bit, tuple(rest)))
    return tuple(
        (first, sum(bit for bit, rest in mine if not rest), joined(one for one in mine if one[1]))
        for first, mine in by_first.items()
    )


# --- Raw bytes -------------------------------------------------------------------------------------------------------


_STATUS_LINE = re.compile(r"HTTP/\d\.\d (\d{3})(?: .*)?")


def parse_reply(question: Question, raw: bytes, scheme: Scheme = "http") -> Reply:
    """A reply from the bytes of a recording or an example: Content-Length, chunked, or to the end.

    Raises ValueError when the bytes are not an HTTP reply.
    """
    head, body = _split(raw)
    lines = [line.rstrip("\r") for line in head.decode("latin-1").split("\n")]
    found = _STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise ValueError(f"not the status line of an HTTP reply: {lines[0][:80]!r}")
    headers = tuple(
        (name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:]) if name
    )
    return Reply(question, scheme, int(found[1]), lines[0], headers, _body(headers, body))


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Head and body, whichever line ends the head has."""
    ends = [(at, len(end)) for end in (b"\r\n\r\n", b"\n\n") if (at := raw.find(end)) >= 0]
    if not ends:
        return raw.rstrip(b"\r\n"), b""
    at, length = min(ends)
    return raw[:at], raw[at + length :]


def _body(headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    lower = {name.lower(): value for name, value in headers}
    if "chunked" in lower.get("transfer-encoding", "").lower():
        return b"".join(_chunks(body))
    length = lower.get("content-length", "")
    return body[: int(length)] if length.isascii() and length.isdigit() else body


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        line, _, rest = body.partition(b"\r\n")
        size = int(line.partition(b";")[0].strip() or b"0", 16)
        if size <= 0:
            return
        yield rest[:size]
        body = rest[size + 2 :]
