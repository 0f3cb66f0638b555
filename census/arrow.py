"""How pyarrow is kept from importing pandas in processes that are the census's own. Nothing else lives here."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import Any

import pyarrow as pa


def without_pandas() -> None:
    """Let pyarrow find no pandas when it first looks for it: more than a second and 50 MB for what nobody here uses.

    pyarrow looks once, at the first array made of Python objects, and remembers the answer; what wants pandas by name
    (`import pandas`, `to_pandas`) still gets it. A pandas that is loaded already stays known. To be called only where
    the process is ours alone: a notebook's may want arrays of its own pandas objects.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(finder)


class _NoPandas:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ImportError("pyarrow needs no pandas here")
        return None
