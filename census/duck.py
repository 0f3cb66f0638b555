"""The one way to open DuckDB, and to write its literals and names. Nothing else lives here.

DuckDB by default downloads and loads extensions when a query seems to need one; here it calls nobody.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import duckdb

_NO_CALLS = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}


def open_duckdb(path: Path | str = ":memory:", **settings: str | int | bool) -> duckdb.DuckDBPyConnection:
    """A connection that neither installs nor loads extensions by itself; `settings` are DuckDB's own, by name.

    What does not fit in memory goes to the system's folder for temporary files, not to the current folder.
    """
    spill = Path(tempfile.gettempdir(), f"census-duckdb-{os.getpid()}")
    return duckdb.connect(str(path), config={**_NO_CALLS, "temp_directory": str(spill), **settings})


def text(value: str) -> str:
    """An SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + value.replace('"', '""') + '"'
