"""`schemas/` -> what the tables are: Arrow schemas, DuckDB types, the views, and the tables page of the docs.

Reads `schemas/tables/*.toml` and `schemas/views/*.sql`, the only places where a column or a view is defined.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from census import resources
from census.errors import DataError

SCHEMA_VERSION = 1
"""Version of the table schemas. A new nullable column keeps it; a changed type, name or meaning raises it."""

TABLES = ("runs", "probes", "hosts", "models", "replies", "bodies")
"""The tables of a run, in the order of the documentation; each has a file in `schemas/tables/`."""

_SCALARS: dict[str, tuple[pa.DataType, str]] = {
    "string": (pa.string(), "VARCHAR"),
    "int16": (pa.int16(), "SMALLINT"),
    "int32": (pa.int32(), "INTEGER"),
    "int64": (pa.int64(), "BIGINT"),
    "float64": (pa.float64(), "DOUBLE"),
    "bool": (pa.bool_(), "BOOLEAN"),
    "timestamp": (pa.timestamp("us"), "TIMESTAMP"),
    "binary": (pa.binary(), "BLOB"),
}
"""Type words of the TOML files as Arrow and DuckDB types. No unsigned types: pandas and SQL trip over them."""

_TYPE_TOKEN = re.compile(r"[a-z_][a-z0-9_]*|[<>:,]")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_COLUMN_KEYS = {"name", "type", "null", "unit", "about"}
_TABLE_KEYS = {"about", "key", "sort", "column"}
_RUN_COLUMN = "run_id"
"""Constant within a run, so the order of rows need not name it."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `type` is the TOML word, `arrow` and `sql` its Arrow and DuckDB types; `unit` may be None."""

    name: str
    type: str
    null: bool
    about: str
    unit: str | None
    arrow: pa.DataType
    sql: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns in order, the key that is unique in it, and the order of its rows in a file.

    `arrow` has required columns as non-nullable fields, so that writing a null there is refused.
    """

    name: str
    about: str
    key: tuple[str, ...]
    sort: tuple[str, ...]
    columns: tuple[Column, ...]
    arrow: pa.Schema

    @property
    def fingerprint(self) -> str:
        """Equal for equal names, types and nulls in equal order: 16 hex digits."""
        words = [f"{c.name} {c.type} {c.null}" for c in self.columns]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class View:
    """One view: `contract` is the header comment of its file, `sql` the SELECT under it."""

    name: str
    contract: str
    sql: str


@cache
def tables() -> Mapping[str, Table]:
    """All tables by name, in the order of TABLES. Raises DataError where a file breaks the rules."""
    found: dict[str, Table] = {}
    problems: list[str] = []
    for name in TABLES:
        path = resources.schemas("tables", f"{name}.toml")
        raw = _read(path)
        if broken := [f"{path.name}: {problem}" for problem in _table_problems(raw)]:
            problems += broken
        else:
            found[name] = _table(name, raw)
    if problems:
        raise DataError("\n".join(problems))
    return MappingProxyType(found)


@cache
def views() -> Mapping[str, View]:
    """All views by name, in the order of their names. Raises DataError for one without a header."""
    paths = sorted(resources.schemas("views").glob("*.sql"))
    return MappingProxyType({path.stem: _view(path) for path in paths})


def check() -> list[str]:
    """What is wrong with `schemas/`, one line for each problem; [] when all is well."""
    problems = []
    for load in (tables, views):
        try:
            load()
        except DataError as problem:
            problems += str(problem).splitlines()
    return problems + [f"{path.name}: no such table; the tables are {', '.join(TABLES)}" for path in _strangers()]


def _strangers() -> list[Path]:
    return sorted(path for path in resources.schemas("tables").glob("*") if path.name not in _file_names())


def _file_names() -> set[str]:
    return {f"{name}.toml" for name in TABLES}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise DataError(f"{path.name}: {problem}") from None


def _table(name: str, raw: Mapping[str, Any]) -> Table:
    columns = tuple(_column(entry) for entry in raw["column"])
    arrow = pa.schema([pa.field(c.name, c.arrow, nullable=c.null) for c in columns])
    return Table(name, raw["about"], tuple(raw["key"]), tuple(raw["sort"]), columns, arrow)


def _column(entry: Mapping[str, Any]) -> Column:
    arrow, sql = parse_type(entry["type"])
    return Column(entry["name"], entry["type"], entry["null"], entry["about"], entry.get("unit"), arrow, sql)


def _table_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    """The rules of `schemas/table.schema.json`, and those that a JSON schema cannot say."""
    if set(raw) != _TABLE_KEYS:
        yield f"a table has exactly the keys {', '.join(sorted(_TABLE_KEYS))}; this one has {', '.join(sorted(raw))}"
        return
    names = [entry.get("name") for entry in raw["column"]]
    yield from (f"column {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1}))
    for entry in raw["column"]:
        yield from (f"column {entry.get('name')!r}: {problem}" for problem in _column_problems(entry))
    yield from _order_problems(raw)


def _column_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    if missing := sorted(_COLUMN_KEYS - {"unit"} - set(entry)):
        yield f"{', '.join(missing)} missing"
        return
    if unknown := sorted(set(entry) - _COLUMN_KEYS):
        yield f"unknown key {', '.join(unknown)}; the keys are {', '.join(sorted(_COLUMN_KEYS))}"
    if not _NAME.match(entry["name"]):
        yield "a name has lower-case letters, digits and _"
    if not isinstance(entry["null"], bool):
        yield "null is true or false"
    try:
        parse_type(entry["type"])
    except ValueError as problem:
        yield str(problem)


def _order_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    required = {entry.get("name") for entry in raw["column"] if entry.get("null") is False}
    known = {entry.get("name") for entry in raw["column"]}
    if loose := sorted(set(raw["key"]) - required):
        yield f"the key needs columns that are never null; {', '.join(loose)} may be, or is unknown"
    if unknown := sorted(set(raw["sort"]) - known):
        yield f"sort names unknown columns: {', '.join(unknown)}"
    if ties := sorted(set(raw["key"]) - set(raw["sort"]) - {_RUN_COLUMN}):
        yield f"sort leaves ties: it must hold all of the key, {', '.join(ties)} too"


def parse_type(text: str) -> tuple[pa.DataType, str]:
    """Arrow and DuckDB type of a type word such as `list<struct<name:string,n:int64>>`. Raises ValueError."""
    tokens = _TYPE_TOKEN.findall(text)
    if "".join(tokens) != text:
        raise ValueError(f"{text!r} is not a type")
    result = _parse(tokens, text)
    if tokens:
        raise ValueError(f"{text!r}: {''.join(tokens)!r} is left over")
    return result


def _parse(tokens: list[str], text: str) -> tuple[pa.DataType, str]:
    word = tokens.pop(0) if tokens else ""
    if word in _SCALARS:
        return _SCALARS[word]
    if word == "list":
        _expect(tokens, "<", text)
        arrow, sql = _parse(tokens, text)
        _expect(tokens, ">", text)
        return pa.list_(arrow), f"{sql}[]"
    if word == "struct":
        return _parse_struct(tokens, text)
    raise ValueError(f"{text!r}: {word!r} is no type; the types are {', '.join([*_SCALARS, 'list<>', 'struct<>'])}")


def _parse_struct(tokens: list[str], text: str) -> tuple[pa.DataType, str]:
    fields: list[tuple[str, pa.DataType, str]] = []
    closing = ","
    _expect(tokens, "<", text)
    while closing == ",":
        name = tokens.pop(0) if tokens else ""
        _expect(tokens, ":", text)
        fields.append((name, *_parse(tokens, text)))
        closing = tokens.pop(0) if tokens else ""
    if closing != ">":
        raise ValueError(f"{text!r}: a struct ends with '>'")
    sql = ", ".join(f'"{name}" {kind}' for name, _, kind in fields)
    return pa.struct([(name, arrow) for name, arrow, _ in fields]), f"STRUCT({sql})"


def _expect(tokens: list[str], wanted: str, text: str) -> None:
    if not tokens or tokens.pop(0) != wanted:
        raise ValueError(f"{text!r}: {wanted!r} expected")


def _view(path: Path) -> View:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line.removeprefix("--").removeprefix(" ") for line in lines if line.startswith("--")]
    if not header or not lines[0].startswith("--"):
        raise DataError(f"{path.name}: a view begins with its contract, in lines that begin with --")
    sql = "\n".join(line for line in lines if not line.startswith("--")).strip().removesuffix(";")
    return View(path.stem, "\n".join(header).strip(), sql)


def tables_page() -> str:
    """`docs/tables.md`: every table and view, built from `schemas/`."""
    parts = [_PAGE_HEAD, *map(_table_section, tables().values()), _VIEWS_HEAD, *map(_view_section, views().values())]
    return "\n".join(parts)


_PAGE_HEAD = f"""# Tables

Built from `schemas/` by `census.schema.tables_page()`; a test fails when this page differs. Edit the files there.

Schema version {SCHEMA_VERSION}. Times are UTC without a zone. Null means unknown; unknown is never 0, "" or a guess.
A run is the folder `runs/<run_id>/`, with one folder for each table and a `manifest.json` that lists its files.
"""

_VIEWS_HEAD = """# Views

What `census sql`, `census db` and `census.query.connect` have besides the tables.
Each text is the header of its file in `schemas/views/`.
"""


def _table_section(table: Table) -> str:
    rows = "\n".join(
        f"| `{c.name}` | {_cell(c.type)} | {'yes' if c.null else ''} | {_cell(c.unit or '')} | {_cell(c.about)} |"
        for c in table.columns
    )
    return (
        f"## {table.name}\n\n{table.about}\n\nKey: {_names(table.key)}. Sorted by {_names(table.sort)}.\n\n"
        f"| column | type | null | unit | about |\n|---|---|---|---|---|\n{rows}\n"
    )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def _view_section(view: View) -> str:
    return f"## {view.name}\n\n```text\n{view.contract}\n```\n"
