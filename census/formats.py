"""Rows -> text or bytes in the reader's format, fit for where it is read: a terminal, a spreadsheet, a browser.

Whatever a server called itself or its models passes through here before anybody sees it. What the rows mean is not
known here.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.cells import cell_len

from census import hostile
from census.choices import REPORT_FORMATS
from census.errors import QueryError

MAX_CELL = 60
"""Characters of one cell of a table or page. Names of models can be a thousand long."""

HEADING = 9
"""Columns of a heading before it goes on in the next line, where the cells below it are not wider anyway."""

WIDTH = 110
"""Columns of prose around a table: fixed, so that output does not depend on the terminal."""

PRECISION = 4
"""Digits that people are shown of an estimate."""

SYNTHETIC = "synthetic: a simulated internet, not a measurement"

Show = Callable[[str, Any, bool], str]
"""Name of a column, a value of it, whether it holds numbers -> the text of a cell."""

_SHARE = re.compile(r"(?:^|_)share(?:_|$)")


# --- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """An answer and its words: `legend` for people, as (label, text), `about` for programs, as JSON has it."""

    title: str
    rows: pa.Table
    legend: Sequence[tuple[str, str]]
    about: Mapping[str, Any]
    synthetic: bool = False
    show: Show = field(default_factory=lambda: shown)

    @property
    def marks(self) -> list[str]:
        """What has to be read before any figure."""
        return [SYNTHETIC] if self.synthetic else []


def write(page: Page, format: str) -> str | bytes:
    """The answer as `table`, `csv`, `json`, `markdown`, `html` (text) or `parquet` (bytes): equal answers, equal bytes.

    CSV is the rows alone, with the line ends of RFC 4180; the other formats carry the words too. Raises QueryError for
    another format.
    """
    writers: dict[str, Callable[[], str | bytes]] = {
        "table": lambda: _as_text(page),
        "csv": lambda: _csv(page.rows),
        "json": lambda: dumped({**page.about, "rows": objects(page.rows)}),
        "markdown": lambda: _as_markdown(page),
        "html": lambda: _as_html(page),
        "parquet": lambda: _parquet(page.rows, page.about),
    }
    return writers[_known(format)]()


def _known(format: str) -> str:
    if format not in REPORT_FORMATS:
        raise QueryError(f"--format {format!r}: one of {', '.join(REPORT_FORMATS)}")
    return format


def _as_text(page: Page) -> str:
    body = _grid(page.rows, page.show) if page.rows.num_rows else ["(no rows)"]
    legend = [line for label, text in page.legend for line in _wrapped(label, hostile.printable(text))]
    return "\n".join([page.title, *page.marks, "", *body, "", *legend]) + "\n"


def _wrapped(label: str, text: str) -> list[str]:
    indent = " " * 13
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<13}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _as_markdown(page: Page) -> str:
    head = [f"## {page.title}", "", *(line for mark in page.marks for line in (f"**{mark}**", ""))]
    body = _markdown(page.rows, page.show) if page.rows.num_rows else ["(no rows)"]
    legend = [f"- **{label}**: {markdown_text(hostile.printable(text))}" for label, text in page.legend]
    return "\n".join([*head, *body, "", *legend]) + "\n"


def _as_html(page: Page) -> str:
    marks = [f"<p><strong>{hostile.html_text(mark)}</strong></p>" for mark in page.marks]
    body = _html_table(page.rows, page.show) if page.rows.num_rows else ["<p>(no rows)</p>"]
    pairs = [f"<dt>{hostile.html_text(label)}</dt><dd>{hostile.html_text(text)}</dd>" for label, text in page.legend]
    return _document(page.title, [*marks, *body, "<dl>", *pairs, "</dl>"])


# --- any table -------------------------------------------------------------------------------------------------------


def table(rows: pa.Table, format: str) -> str | bytes:
    """Any table in the same formats, with no words around it; a name that comes again gets a number.

    Figures are exact, but for decimal fractions in JSON, which are what JSON's readers make of them. Raises QueryError
    for a value that the format or Python has no type for.
    """
    rows = rows.rename_columns(_distinct(rows.column_names))
    writers: dict[str, Callable[[], str | bytes]] = {
        "table": lambda: "\n".join(_grid(rows, plain)) + "\n",
        "csv": lambda: _csv(rows),
        "json": lambda: dumped(objects(rows)),
        "markdown": lambda: "\n".join(_markdown(rows, plain)) + "\n",
        "html": lambda: _document("census", _html_table(rows, plain)),
        "parquet": lambda: _parquet(rows, {}),
    }
    writer = writers[_known(format)]
    try:
        return writer()
    except (pa.ArrowException, ValueError, OverflowError) as problem:
        raise QueryError(f"{format} cannot hold this: {problem}; cast the column to VARCHAR in the query") from None


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, of which one that was there before gets the first free number: a, a_1."""
    given: list[str] = []
    for name in names:
        numbered = chain([name], (f"{name}_{n}" for n in count(1)))
        taken = {*given, *names} - {name}
        given.append(next(new for new in numbered if new not in taken and new not in given))
    return given


@dataclass(frozen=True, slots=True)
class _Column:
    """A column ready to be laid out: its name, its cells as text, and whether it stands at the right."""

    name: str
    cells: list[str]
    right: bool

    @property
    def heading(self) -> list[str]:
        """The name, broken at spaces into lines no wider than the cells or HEADING."""
        width = max(map(cell_len, self.cells), default=0)
        return textwrap.wrap(self.name, max(width, HEADING), break_long_words=False, break_on_hyphens=False) or [""]


def _columns(rows: pa.Table, show: Show) -> list[_Column]:
    pairs = zip(rows.column_names, rows.columns, strict=True)
    return [_column(name, values, show) for name, values in pairs]


def _column(name: str, values: pa.ChunkedArray, show: Show) -> _Column:
    number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)
    cells = [show(name, value, number) for value in values.to_pylist()]
    heading = hostile.printable(name, MAX_CELL)
    return _Column(heading if show is plain else label(heading), cells, number)


def _grid(rows: pa.Table, show: Show) -> list[str]:
    columns = _columns(rows, show)
    height = max((len(column.heading) for column in columns), default=0)
    texts = [[""] * (height - len(column.heading)) + column.heading + column.cells for column in columns]
    widths = [max(map(cell_len, text)) for text in texts]
    padded = [
        [_padded(cell, width, column.right) for cell in text]
        for column, text, width in zip(columns, texts, widths, strict=True)
    ]
    lines = ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
    return [*lines[:height], "  ".join("─" * width for width in widths), *lines[height:]]


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def label(name: str) -> str:
    """The name of a column as a person reads it."""
    return name.replace("_", " ")


def shown(name: str, value: Any, number: bool) -> str:
    """A cell of a report as a person reads it."""
    return figure(name, value) if number else "unknown" if value is None else plain(name, value, number)


def figure(name: str, value: float | int | None) -> str:
    """A figure: shares as per cent with one decimal, other fractions with two, thousands set apart."""
    if value is None:
        return "–"
    if _SHARE.search(name):
        return f"{100 * value:.1f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def precise(name: str, value: Any, number: bool) -> str:
    """A cell of an estimate: PRECISION digits of a fraction, since an interval can be narrower than two decimals."""
    return f"{value:,.{PRECISION}g}" if isinstance(value, float) else shown(name, value, number)


def plain(_name: str, value: Any, _number: bool) -> str:
    """A cell as it is, cut to MAX_CELL and fit for a terminal."""
    return hostile.printable(_text(value), MAX_CELL)


def _text(value: Any) -> str:
    """A cell as text; an unknown one is empty."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    told = simple(value)
    return told if isinstance(told, str) else "" if told is None else json.dumps(told, ensure_ascii=False)


def _markdown(rows: pa.Table, show: Show) -> list[str]:
    columns = _columns(rows, show)
    heading = [markdown_text(column.name) for column in columns]
    rule = ["--:" if column.right else ":--" for column in columns]
    lines = zip(*([markdown_text(cell) for cell in column.cells] for column in columns), strict=True)
    return [f"| {' | '.join(line)} |" for line in [heading, rule, *lines]]


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no link, no image, no HTML, no end of the cell."""
    escaped = re.sub(r"([\\`*_\[\]<>|~&@#])", r"\\\1", text)
    return escaped.replace("://", "\\://").replace("www.", "www\\.")


_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 72em; margin: 2em auto;
  padding: 0 1em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
th { vertical-align: bottom; border-bottom: 2px solid #1b1b1b; }
.n { text-align: right; }
td.n { white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3em 1.2em; margin-top: 2em; font-size: 13px; }
dt { color: #666; }
dd { margin: 0; }"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""A browser loads nothing for a page of ours and runs nothing in it, whatever slipped through."""


def _document(title: str, body: Sequence[str]) -> str:
    """A page that stands alone."""
    named = hostile.html_text(title)
    head = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{named}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<h1>{named}</h1>",
    ]
    return "\n".join([*head, *body, "</body>\n</html>"]) + "\n"


def _html_table(rows: pa.Table, show: Show) -> list[str]:
    columns = _columns(rows, show)
    opened = [' class="n"' if column.right else "" for column in columns]

    def line(tag: str, texts: Sequence[str]) -> str:
        cells = zip(opened, texts, strict=True)
        return f"<tr>{''.join(f'<{tag}{kind}>{hostile.html_text(text)}</{tag}>' for kind, text in cells)}</tr>"

    body = [line("td", texts) for texts in zip(*(column.cells for column in columns), strict=True)]
    return ["<table>", "<thead>", line("th", [column.name for column in columns]), "</thead>", *body, "</table>"]


def _csv(rows: pa.Table) -> str:
    """RFC 4180; text that a spreadsheet would run as a formula is disarmed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([hostile.csv_cell(name) for name in rows.column_names])
    writer.writerows(zip(*([_csv_cell(v) for v in column.to_pylist()] for column in rows.columns), strict=True))
    return out.getvalue()


def _csv_cell(value: Any) -> str:
    return _text(value) if isinstance(value, int | float | Decimal) else hostile.csv_cell(_text(value))


def objects(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows as JSON has them: times as text."""
    return [{name: simple(value) for name, value in row.items()} for row in rows.to_pylist()]


def dumped(value: Any) -> str:
    """ASCII JSON: whatever a server called itself, a terminal shows it as escapes."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def simple(value: Any) -> Any:
    """A value of DuckDB as JSON has it: times in ISO 8601 (UTC as Z), bytes in hex, NaN and infinities as text.

    A sum of integers comes from DuckDB as a decimal without a fraction.
    """
    if isinstance(value, datetime):
        return value.isoformat() + ("Z" if value.tzinfo is None else "")
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): simple(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [simple(item) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value) if isinstance(value, date | time | timedelta) else value


def _parquet(rows: pa.Table, about: Mapping[str, Any]) -> bytes:
    metadata = {b"census": json.dumps(about).encode()} if about else None
    sink = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata(metadata), sink, compression="zstd")
    return sink.getvalue()
