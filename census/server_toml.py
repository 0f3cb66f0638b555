"""The tables of a server file, read strictly: every key is taken, and every complaint says file and key.

Only the reading of single values lives here; what they mean stands in `conditions` and `server_files`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from census.errors import DataError
from census.model import Question

REQUIRED: Final = object()


class Table:
    """A TOML table being read: every key must be taken, and every complaint says file and key."""

    def __init__(self, file: str, where: str, values: Any) -> None:
        self.file, self.where = file, where
        if not isinstance(values, dict):
            raise self.error("", "must be a table")
        self.values, self.left, self.known = values, set(values), set[str]()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def error(self, key: str, reason: str) -> DataError:
        """A complaint about one key, or about the table itself."""
        place = ".".join(part for part in (self.where, key) if part)
        return DataError(f"data/servers/{self.file}: {place or 'file'}: {reason}")

    def take(self, key: str, read: Callable[[Any], Any], default: Any = REQUIRED) -> Any:
        """The value of a key, read and checked. Raises DataError when it is missing without default, or wrong."""
        self.known.add(key)
        self.left.discard(key)
        if key not in self.values:
            if default is REQUIRED:
                raise self.error(key, "is missing")
            return default
        try:
            return read(self.values[key])
        except ValueError as problem:
            raise self.error(key, str(problem)) from None

    def table(self, key: str) -> Table | None:
        """A table below this one, or None when it is not there."""
        value = self.take(key, mapping, None)
        return None if value is None else Table(self.file, f"{self.where}.{key}".lstrip("."), value)

    def tables(self, key: str) -> Iterator[Table]:
        """The tables of an array below this one."""
        for number, value in enumerate(self.take(key, array, [])):
            yield Table(self.file, f"{self.where}.{key}[{number}]".lstrip("."), value)

    def done(self) -> None:
        """Raises DataError when a key was not taken: a spelling mistake must not pass as a rule."""
        for key in sorted(self.left):
            near = difflib.get_close_matches(key, self.known, 1)
            raise self.error(key, "is no key of this table" + (f"; did you mean '{near[0]}'?" if near else ""))


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def filled(value: Any) -> str:
    """A string that is not blank."""
    if not text(value).strip():
        raise ValueError("must not be empty")
    return text(value)


def whole(value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def port(value: Any) -> int:
    """A port."""
    if not 1 <= whole(value) <= 65_535:
        raise ValueError("must be a port from 1 to 65535")
    return whole(value)


def share(value: Any) -> float:
    """A number above 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError("must be a number above 0 and at most 1")
    return float(value)


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def array(value: Any) -> list[Any]:
    """An array."""
    if not isinstance(value, list):
        raise ValueError("must be an array")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise ValueError("must be a table")
    return value


def many(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads an array whose items `read` reads."""
    return lambda value: tuple(read(item) for item in array(value))


def one_or_more(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads one thing, or an array of them."""
    return lambda value: tuple(read(item) for item in (value if isinstance(value, list) and value else [value]))


texts = many(text)


def word(words: Sequence[str]) -> Callable[[Any], str]:
    """Reads one of these words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return read


def question(value: Any) -> Question:
    """A question that may be asked: GET or HEAD of a path."""
    try:
        question = Question.parse(text(value))
    except ValueError:
        raise ValueError("must be a method and a path, such as 'GET /api/tags'") from None
    if question.method not in ("GET", "HEAD") or not question.path.startswith("/"):
        raise ValueError(f"'{question}' may not be asked: GET or HEAD of a path only")
    return question


def path(value: Any) -> tuple[str, ...]:
    """Keys below one another, with points between them."""
    return tuple(text(value).split(".")) if value else ()
