"""What servers send is hostile: the one place where it is bounded on the way in and escaped on the way out.

A noun's helper, not a stage: any stage may import it, and it imports nothing of ours.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

MAX_JSON_DEPTH = 64
"""Levels of nesting read before a body counts as unreadable. Real answers need fewer than ten."""

MAX_TEXT = 1024
"""Characters kept of any one string a server sends (names, versions, families)."""

MAX_INTEGER = 2**63 - 1
"""Integers beyond this are unreadable: no column can hold them."""

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)


_TOKENS = re.compile(r'"(?:[^"\\]+|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
"""A whole string, closed or not (so that every quote is passed once: linear), or one bracket."""


class Unreadable(ValueError):
    """A body that is not JSON, or is JSON beyond our bounds."""


def _whole(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) > MAX_INTEGER:
        raise Unreadable("an integer beyond 64 bits")
    return value


def _no_constant(text: str) -> Any:
    raise Unreadable(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_constant=_no_constant)
"""Built once: `json.loads` with these arguments would build one for every body."""


def _depth(body: str) -> int:
    """Deepest nesting of brackets outside strings; linear in the length of the body."""
    depth = deepest = 0
    for match in _TOKENS.finditer(body):
        first = match.group()[0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


def read_json(body: bytes) -> Any:
    """A JSON body as Python values, objects in key order. Raises Unreadable.

    UTF-8 only; NaN and Infinity, integers beyond 64 bits and more than MAX_JSON_DEPTH levels are refused.
    """
    try:
        text = body.decode("utf-8")
        if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _depth(text) > MAX_JSON_DEPTH:
            raise Unreadable(f"deeper than {MAX_JSON_DEPTH} levels")
        return _DECODER.decode(text)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as problem:
        raise Unreadable(str(problem)[:MAX_TEXT]) from None


def text(value: object, limit: int = MAX_TEXT) -> str | None:
    """A string fit to be stored: cut to `limit` characters, lone surrogates replaced; None if not a string."""
    if not isinstance(value, str):
        return None
    return value[:limit].encode("utf-8", "replace").decode("utf-8")


def printable(value: str, limit: int = MAX_TEXT) -> str:
    r"""A string fit for a terminal or a Markdown page: control, bidi and zero-width characters as `\u202e`."""
    cut = value if len(value) <= limit else value[: limit - 1] + "…"
    return _UNPRINTABLE.sub(_escape, cut)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def csv_cell(value: str) -> str:
    """A string that no spreadsheet runs: a leading `= + - @`, tab or return gets an apostrophe before it."""
    return "'" + value if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def html_text(value: str) -> str:
    """A string fit for HTML text and attributes."""
    return html.escape(printable(value), quote=True)
