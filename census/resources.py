"""Where `data/` and `schemas/` are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from census.errors import DataError

_PACKAGE = Path(__file__).resolve().parent


def _find(name: str) -> Path:
    for candidate in (_PACKAGE.parent / name, _PACKAGE / f"_{name}"):
        if candidate.is_dir():
            return candidate
    raise DataError(f"the folder '{name}' of this installation is missing; install census again")


def data(*parts: str) -> Path:
    """Path of a file below `data/`. Raises DataError when the folder is missing."""
    return _find("data").joinpath(*parts)


def schemas(*parts: str) -> Path:
    """Path of a file below `schemas/`. Raises DataError when the folder is missing."""
    return _find("schemas").joinpath(*parts)


@cache
def data_version() -> str:
    """The first 12 hex digits of the SHA-256 over the names and bytes of all files of `data/`."""
    digest = hashlib.sha256()
    root = data()
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
