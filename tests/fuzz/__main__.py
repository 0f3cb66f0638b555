"""`python -m tests.fuzz --seconds 60`: every harness under atheris, one after the other, each in a process of its own.

Without atheris (it has wheels for some Pythons on Linux only) nothing is fuzzed here, and it is said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".cache" / "fuzz-found"
"""Where inputs that break something are kept."""

MAX_BYTES = 4096
CRASH_SECONDS = 20
"""A single input that takes longer is a finding."""


@dataclass(frozen=True)
class Run:
    """What one harness came to."""

    name: str
    executions: int
    edges: int
    found: bool
    words: str


def fuzz_one(name: str, arguments: list[str]) -> None:
    """In a process of its own: never returns."""
    import atheris

    with atheris.instrument_imports(include=["census"]):
        from tests.fuzz import harnesses
    harness = harnesses.HARNESSES[name]
    with tempfile.TemporaryDirectory(prefix="census-corpus-") as corpus:
        for number, seed in enumerate(harnesses.seeds(name)):
            (Path(corpus) / f"{number:03}").write_bytes(seed[:MAX_BYTES])
        atheris.Setup([sys.argv[0], *arguments, corpus], harness)
        atheris.Fuzz()


def run(name: str, seconds: int) -> Run:
    """One harness for so many seconds."""
    KEPT.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-timeout={CRASH_SECONDS}", "-rss_limit_mb=2048"]
    options += ["-print_final_stats=1", f"-artifact_prefix={KEPT}/{name}-"]
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    executed = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr) or re.findall(
        r"#(\d+)\s", done.stderr
    )
    edges = re.findall(r"cov: (\d+)", done.stderr)
    words = f"exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
    return Run(name, int((executed or [0])[-1]), int((edges or [0])[-1]), done.returncode != 0, words)


def table(runs: list[Run], seconds: int) -> list[str]:
    """The section of docs/robustness.md."""
    from tests.fuzz.harnesses import HARNESSES

    rows = [
        f"| `{each.name}` | {(HARNESSES[each.name].__doc__ or '').strip().splitlines()[0]} | {each.executions:,} "
        f"| {each.edges:,} | {'yes' if each.found else 'nothing'} |"
        for each in runs
    ]
    head = ["| harness | what must hold | inputs | edges reached | found |", "|---|---|--:|--:|---|"]
    return [f"atheris (libFuzzer), {seconds} s a harness, beginning with real answers.", "", *head, *rows]


def main() -> None:
    """See the head of this file; exit code 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only")
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris has no wheel for this Python and system; tests/test_fuzz.py runs anywhere")
        return
    from tests.fuzz.harnesses import HARNESSES
    from tests.robustness import write_section

    runs = []
    for name in [given.only] if given.only else HARNESSES:
        runs.append(run(name, given.seconds))
        print(f"{name}: {runs[-1].executions:,} inputs{', FOUND' if runs[-1].found else ''}", flush=True)
    found = [each for each in runs if each.found]
    for each in found:
        print(f"\n=== {each.name}\n{each.words}")
    if found:
        raise SystemExit(f"{len(found)} harnesses found something; the inputs are in {KEPT.relative_to(ROOT)}")
    if not given.only:
        write_section("fuzz", table(runs, given.seconds))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    else:
        main()
