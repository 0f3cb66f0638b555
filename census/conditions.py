"""The small language in which server files say what a reply must be: words and values -> checks.

Conditions judge parsed JSON and headers, never text that white space could change. `docs/add-a-server.md` explains
each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, Final

from census import server_toml as toml
from census.replies import MISSING, SIGNERS, VARYING, Check

MAX_PATTERN_TEXT: Final = 256
"""Characters of a value that a `matches` pattern is tried on; longer values do not match."""

ITEMS_JUDGED: Final = 64
"""Items of a list that a `*` looks at, so that a long inventory costs no more than a short one."""

Test = Callable[[Any], bool]


# --- One value -------------------------------------------------------------------------------------------------------


_TYPES: Final[dict[str, Test]] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def _is(names: Any) -> Test:
    tests = tuple(_TYPES[name] for name in toml.one_or_more(toml.word(tuple(_TYPES)))(names))
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _equals(wanted: Any) -> Test:
    kind = type(wanted)
    return lambda value: type(value) is kind and value == wanted


def _one_of(wanted: Any) -> Test:
    tests = tuple(_equals(item) for item in toml.array(wanted))
    return lambda value: any(test(value) for test in tests)


def _prefix(wanted: Any) -> Test:
    start = toml.text(wanted)
    return lambda value: isinstance(value, str) and value.startswith(start)


def _matches(wanted: Any) -> Test:
    try:
        pattern = re.compile(toml.text(wanted))
    except re.error as problem:
        raise ValueError(f"is no regular expression: {problem}") from None
    return lambda value: (
        isinstance(value, str) and len(value) <= MAX_PATTERN_TEXT and pattern.fullmatch(value) is not None
    )


def _keys(wanted: Any) -> Test:
    keys = set(toml.texts(wanted))
    return lambda value: type(value) is dict and value.keys() == keys


def _has(wanted: Any) -> Test:
    keys = set(toml.texts(wanted))
    return lambda value: type(value) is dict and keys.issubset(value)


def _lacks(wanted: Any) -> Test:
    keys = set(toml.texts(wanted))
    return lambda value: isinstance(value, dict) and not value.keys() & keys


def _same(wanted: Any) -> Test:
    first, second = toml.texts(wanted)
    return lambda value: isinstance(value, dict) and first in value and value[first] == value.get(second, MISSING)


VALUE_WORDS: Final[dict[str, Callable[[Any], Test]]] = {
    "is": _is,
    "equals": _equals,
    "one_of": _one_of,
    "prefix": _prefix,
    "matches": _matches,
    "keys": _keys,
    "has": _has,
    "lacks": _lacks,
    "same": _same,
}
"""What a rule may say of one JSON value. `docs/add-a-server.md` explains each."""


def _below(path: tuple[str, ...], test: Test, some: bool, or_empty: bool) -> Test:
    """Whether the value below `path` passes; at a `*`, whether all items (or `some` item) of the list do."""
    if not path:
        return test
    if path[0] == "*":
        key = path[1] if path[1:] and path[1] != "*" else None
        return _of_items(key, _below(path[2 if key else 1 :], test, some, or_empty), some, or_empty)
    key, rest = path[0], _below(path[1:], test, some, or_empty)
    return lambda value: type(value) is dict and key in value and rest(value[key])


def _of_items(key: str | None, test: Test, some: bool, or_empty: bool) -> Test:
    """Whether the items of a list pass, or what they have below a key: here and not below, since lists are long."""

    def holds(value: Any) -> bool:
        if type(value) is not list:
            return False
        for item in value if len(value) <= ITEMS_JUDGED else value[:ITEMS_JUDGED]:
            passes = test(item) if key is None else type(item) is dict and key in item and test(item[key])
            if passes is some:
                return some
        return not some if value else or_empty

    return holds


def json_check(table: toml.Table) -> tuple[str, Check]:
    """One condition on the parsed body, e.g. `{ path = "data.*.owned_by", equals = "vllm" }`."""
    path = toml.path(table.take("path", toml.text, ""))
    some, or_empty = table.take("any", toml.flag, False), table.take("or_empty", toml.flag, False)
    words = [word for word in VALUE_WORDS if word in table]
    if not words:
        raise table.error("", f"needs one of {', '.join(VALUE_WORDS)}")
    said = ", ".join(f"{word} {table.values[word]!r}" for word in words)
    tests = tuple(table.take(word, VALUE_WORDS[word]) for word in words)
    table.done()
    test = tests[0] if len(tests) == 1 else lambda value: all(one(value) for one in tests)
    where = f"{'some ' if some else ''}{'.'.join(path) or 'body'}"
    said += " or no items" if or_empty else ""
    below = _below(path, test, some, or_empty)
    return f"json {where} {said}", _JSON_CHECKS.setdefault((path, some, said), lambda view: below(view.json))


_JSON_CHECKS: Final[dict[Hashable, Check]] = {}
"""One check for what many rules say of a body in the same words, so that it is made once for all of them."""


# --- One reply -------------------------------------------------------------------------------------------------------


def _header_test(wanted: Any) -> Callable[[str | None], bool]:
    """`"absent"`, `"present"`, or a table with `equals`, `prefix`, `matches` or `one_of`."""
    if wanted in ("absent", "present"):
        return lambda value: (value is not None) is (wanted == "present")
    if (
        not isinstance(wanted, dict)
        or len(wanted) != 1
        or not wanted.keys() <= {"equals", "prefix", "matches", "one_of"}
    ):
        raise ValueError('must be "absent", "present" or a table with one of equals, prefix, matches, one_of')
    ((word, value),) = wanted.items()
    return VALUE_WORDS[word](value)


def _header_checks(wanted: Any) -> list[tuple[str, Check]]:
    return [_header_check(name.lower(), value) for name, value in toml.mapping(wanted).items()]


def _header_check(name: str, wanted: Any) -> tuple[str, Check]:
    if name in VARYING and not isinstance(wanted, str):
        raise ValueError(f"'{name}' differs from reply to reply: only 'absent' or 'present' can be asked of it")
    test = _header_test(wanted)
    said = wanted if isinstance(wanted, str) else " ".join(f"{word} {value!r}" for word, value in wanted.items())
    return f"header {name} {said}", lambda view: test(view.head.headers.get(name))


def _status_checks(wanted: Any) -> list[tuple[str, Check]]:
    codes = frozenset(toml.one_or_more(toml.whole)(wanted))
    said = " or ".join(str(code) for code in sorted(codes))
    return [(f"status {said}", lambda view: view.head.reply.status in codes)]


def _type_checks(wanted: Any) -> list[tuple[str, Check]]:
    media = toml.text(wanted).lower()
    return [(f"content type {media}", lambda view: view.head.media_type == media)]


def _http_checks(wanted: Any) -> list[tuple[str, Check]]:
    version = "HTTP/" + toml.word(("1.0", "1.1"))(wanted)
    return [(version, lambda view: view.head.reply.status_line.startswith(version))]


def _case_checks(wanted: Any) -> list[tuple[str, Check]]:
    lower = toml.word(("lower", "mixed"))(wanted) == "lower"
    return [
        (f"header names in {wanted} case", lambda view: all(n.islower() for n, _ in view.head.reply.headers) is lower),
    ]


def _signer_checks(wanted: Any) -> list[tuple[str, Check]]:
    signers = frozenset(toml.one_or_more(toml.word(SIGNERS))(wanted))
    said = " or ".join(sorted(signers))
    return [(f"signed by {said}", lambda view: view.head.signer in signers)]


def _title_checks(wanted: Any) -> list[tuple[str, Check]]:
    titles = frozenset(toml.one_or_more(toml.text)(wanted))
    return [(f"title {' or '.join(map(repr, sorted(titles)))}", lambda view: view.title in titles)]


def _text_checks(wanted: Any) -> list[tuple[str, Check]]:
    texts = frozenset(toml.one_or_more(toml.text)(wanted))
    return [(f"text {' or '.join(map(repr, sorted(texts)))}", lambda view: view.text in texts)]


def _empty_checks(wanted: Any) -> list[tuple[str, Check]]:
    empty = toml.flag(wanted)
    return [("no body" if empty else "a body", lambda view: (not view.body) is empty)]


def _readable_checks(wanted: Any) -> list[tuple[str, Check]]:
    readable = toml.flag(wanted)
    return [("readable JSON" if readable else "no readable JSON", lambda view: (view.json is not MISSING) is readable)]


REPLY_WORDS: Final[dict[str, Callable[[Any], list[tuple[str, Check]]]]] = {
    "status": _status_checks,
    "content_type": _type_checks,
    "http": _http_checks,
    "header": _header_checks,
    "header_case": _case_checks,
    "signed_by": _signer_checks,
    "empty": _empty_checks,
    "text": _text_checks,
    "title": _title_checks,
    "readable": _readable_checks,
}
"""What a rule may say of one reply, cheapest first: they are checked in this order, `json` after them."""

HEAD_WORDS: Final = ("status", "content_type", "http", "header", "header_case", "signed_by")
"""Those that judge the head alone: they come before the others."""
