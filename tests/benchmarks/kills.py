"""`make kills`: one census killed 200 times; prints what happened and writes it into docs/robustness.md."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.exactly_once import LIVES_S, Tally, torment
from tests.robustness import write_section

KILLS = 200
TIMES = 8.0
"""How many times the default scenario: as many blocks as 200 scanners commit in their short lives."""


def table(tally: Tally, seconds: float) -> list[str]:
    """The section of docs/robustness.md."""
    steps = sum(later > earlier for earlier, later in zip(tally.lives, tally.lives[1:], strict=False))
    rows = [
        ("targets, in blocks", f"{tally.targets:,}, {tally.blocks}"),
        ("scanners killed with `kill -9`", f"{tally.kills}"),
        ("… before the run could be resumed", f"{tally.beginnings}"),
        ("… while the run was being published", f"{tally.publishings}"),
        ("scanners that lived to commit a block", f"{steps}"),
        ("hosts asked by more than one scanner, times", f"{tally.asked_again:,}"),
        ("hosts asked although their block was committed", f"{len(tally.asked_after_commit)}"),
        ("hosts never asked", f"{len(tally.unasked)}"),
        ("rounds of a reader over all Parquet files meanwhile", f"{tally.reads:,}"),
        ("files that it could not read", f"{len(tally.unreadable)}"),
        ("tables that differ from an undisturbed census", f"{len(tally.differences)}"),
        ("problems that `census verify` finds", f"{len(tally.problems)}"),
        ("seconds", f"{seconds:.0f}"),
    ]
    words = f"Each scanner lives {LIVES_S[0]:g} to {LIVES_S[1]:g} s; the requests are those that the hosts received."
    return [words, "", "| what | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows)]


def main() -> None:
    """Run, print, write; exit code 1 when anything was lost, doubled or half-written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--times", type=float, default=TIMES)
    given = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="census-kills-") as folder:
        tally = torment(Path(folder), given.kills, given.times)
    lines = table(tally, time.monotonic() - start)
    print("\n".join(lines))
    if tally.wrong:
        raise SystemExit("\n".join(tally.wrong))
    write_section("kills", lines)


if __name__ == "__main__":
    main()
