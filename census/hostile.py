"""What servers send is hostile: the one place where it is bounded on the way in and escaped on the way out.

A noun's helper, not a stage: any stage may import it, and it imports nothing of ours.
"""

from __future__ import annotations

import html
import json
import re
from functools import lru_cache
from typing import Any

MAX_JSON_DEPTH = 64
"""Levels of nesting read before a body counts as unreadable. Real answers need fewer than ten."""

MAX_TEXT = 1024
"""Characters kept of any one string a server sends (names, versions, families)."""

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
"""Integers beyond these are unreadable: no column can hold them."""

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


JSON_REMEMBERED = 8
"""Bodies whose values are kept, since several stages read the same ones: more than one conversation has."""

JSON_REMEMBERED_BYTES = 64 << 10
"""Longer bodies are read anew each time: what strangers send must not stay in memory."""


class Unreadable(ValueError):
    """A body that is not JSON, or is JSON beyond our bounds."""


def _whole(text: str) -> int:
    if len(text) < 19:
        return int(text)
    if len(text) > 20 or not MIN_INTEGER <= (value := int(text)) <= MAX_INTEGER:
        raise Unreadable("an integer beyond 64 bits")
    return value


def _no_constant(text: str) -> Any:
    raise Unreadable(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_constant=_no_constant)
"""Built once: `json.loads` with these arguments would build one for every body."""


def _decoded(text: str) -> Any:
    """As the decoder has it, but for its two searches for white space, which most bodies have not."""
    if text[:1] in _OPENING:
        value, end = _DECODER.raw_decode(text)
        if end == len(text) or not text[end:].strip(" \t\n\r"):
            return value
    return _DECODER.decode(text)


_OPENING = frozenset({"{", "["})


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more levels than these. Level by level: recursion would be at risk."""
    layer = [value]
    for _ in range(levels):
        layer = [
            item
            for outer in layer
            if type(outer) in _NESTED
            for item in (outer.values() if type(outer) is dict else outer)
            if type(item) in _NESTED
        ]
        if not layer:
            return False
    return True


_NESTED = frozenset({dict, list})


def read_json(body: bytes) -> Any:
    """A JSON body as Python values, objects in key order; not to be changed. Raises Unreadable.

    UTF-8 only; NaN and Infinity, integers beyond 64 bits and more than MAX_JSON_DEPTH levels are refused.
    """
    return _remembered(body) if len(body) <= JSON_REMEMBERED_BYTES else _read_json(body)


def _read_json(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
        value = _decoded(text)
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable(f"deeper than {MAX_JSON_DEPTH} levels") from None
    except ValueError as problem:
        raise Unreadable(str(problem)[:MAX_TEXT]) from None
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _deeper(value, MAX_JSON_DEPTH):
        raise Unreadable(f"deeper than {MAX_JSON_DEPTH} levels")
    return value


_remembered = lru_cache(JSON_REMEMBERED)(_read_json)


def make_room(remembered: dict[Any, Any], most: int) -> None:
    """Begin anew where it is full: simpler than forgetting the oldest, and as rare."""
    if len(remembered) >= most:
        remembered.clear()


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


_RUN = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with, also in full width, which spreadsheets of East Asia take for the same."""


def csv_cell(value: str) -> str:
    r"""A string that no spreadsheet runs and no terminal obeys; JSON and Parquet have it as it is.

    Control, bidi and zero-width characters are `\u202e`, as in `printable`; what a formula could begin with gets an
    apostrophe before it.
    """
    shown = printable(value, len(value))
    return "'" + shown if shown.startswith(_RUN) else shown


def html_text(value: str) -> str:
    """A string fit for HTML text and attributes."""
    return html.escape(printable(value), quote=True)
