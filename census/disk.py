"""Small acts on files that last, or are taken back as a whole. Nothing here knows what a file is for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

TEMPORARY = "."
"""Names that begin so are works in progress: no reader looks at them, and the next owner of the folder removes them."""


def sync(file: IO[bytes]) -> None:
    """Have what was written to an open file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Have a folder with all that is in it on the disk."""
    for path in (root, *root.rglob("*")):
        sync_path(path)


def write_text(path: Path, text: str) -> None:
    """Replace a small file as a whole."""
    new = path.with_name(f"{TEMPORARY}{path.name}")
    with new.open("wb") as file:
        file.write(text.encode())
        sync(file)
    new.rename(path)
    sync_path(path.parent)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_all(paths: Iterable[Path]) -> None:
    """Files that are no longer needed; one that cannot be removed now is found again when the draft is resumed."""
    with suppress(OSError):
        for path in paths:
            path.unlink()


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    """Leave no file behind that was not finished."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise
