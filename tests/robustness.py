"""Writes one section of docs/robustness.md: each of `make kills`, `make fuzz` and `make rehearsal` writes its own."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "robustness.md"


def write_section(name: str, lines: Sequence[str]) -> None:
    """Put `lines` between the markers of a section, with the day and the machine below them."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    body = "\n".join([*lines, "", _where()])
    changed, found = section.subn(lambda match: f"{match[1]}\n{body}\n\n{match[2]}", text)
    if not found:
        raise SystemExit(f"{PAGE.name} has no section '{name}'")
    PAGE.write_text(changed, encoding="utf-8")


def _where() -> str:
    load = os.getloadavg()[0]
    return (
        f"_{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load average {load:.1f} at the end._"
    )
