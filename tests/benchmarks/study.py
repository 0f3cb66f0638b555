"""The study at full scale: a calibrated population is made, summed and reported, and `docs/study.md` is written.

`make bench-study` runs it. A population that is there already (OUT/<hosts>) is not made again.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from census import report, study, summaries
from census.manifest import published
from tests.pages import DOCS

FULL = 175_108
SIZES = (FULL // 16, FULL // 4, FULL)
COMMAND = "make bench-study"
CENSUS = [sys.executable, "-m", "census"]


def _timed(*words: str) -> dict[str, float]:
    """Seconds and peak memory (MB) of a command in a process of its own."""
    before = time.perf_counter()
    code = (
        "import sys, resource; from census.cli import main\n"
        "sys.argv = ['census', *sys.argv[1:]]\n"
        "try: main(standalone_mode=False)\n"
        "finally: print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    peak = float(done.stderr.rpartition("PEAK ")[2].split()[0])
    return {"seconds": round(time.perf_counter() - before, 1), "peak_mb": round(peak)}


def _made(folder: Path, hosts: int) -> dict[str, float]:
    note = folder / "truth" / "made.json"
    if not note.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        made = _timed("simulate", "population", "--hosts", str(hosts), "-q", "-o", str(folder))
        note.write_text(json.dumps(made), encoding="utf-8")
    found: dict[str, float] = json.loads(note.read_text(encoding="utf-8"))
    return found


def _measured(folder: Path, hosts: int) -> dict[str, Any]:
    made = _made(folder, hosts)
    runs = published(folder)
    shutil.rmtree(folder / summaries.FOLDER, ignore_errors=True)
    first, added = _last_apart(folder, runs[-1].folder)
    asked = _timed("report", "study", "-o", str(folder), "--format", "csv")
    singles = {name: _timed("report", name, "--since", "2025", "-o", str(folder)) for name in _single()}
    rows = {
        table: sum(f.rows for run in runs for f in run.files if f.table == table)
        for table in ("hosts", "models", "probes")
    }
    size = {table: sum(f.bytes for run in runs for f in run.files if f.table == table) for table in rows}
    kept = sum(path.stat().st_size for path in (folder / summaries.FOLDER).rglob("*.parquet"))
    return {"hosts": hosts, "made": made, "summed": first, "added": added, "study": asked, "singles": singles,
            "rows": rows, "bytes": size, "kept": kept}  # fmt: skip


def _single() -> list[str]:
    return sorted(set(report.reports()) - {"compare"})


def _last_apart(folder: Path, last: Path) -> tuple[dict[str, float], dict[str, float]]:
    """What it takes to sum all runs but the last, and then to add the last one."""
    aside = folder / last.name
    last.rename(aside)
    try:
        first = _timed("summarize", "-o", str(folder))
    finally:
        aside.rename(last)
    return first, _timed("summarize", "-o", str(folder))


def _page(found: list[dict[str, Any]], answer: study.Study) -> str:
    parts = [_HEAD, _rows(answer), _DEFINITIONS, _scale(found), _single_table(found[-1]), _OPEN]
    return "\n".join(parts)


def _rows(answer: study.Study) -> str:
    lines = ["| id | figure | published | ours | unit | of |", "|---|---|--:|--:|---|---|"]
    for row in answer.rows:
        if not row["id"].endswith(f":{study.CLEAN}") and not row["id"].startswith(("F3:", "F5:month")):
            cells = (
                row["id"],
                row["name"],
                row["published"] or "",
                _shown(row["value"]),
                row["unit"],
                row["denominator"] or "",
            )
            lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _scale(found: list[dict[str, Any]]) -> str:
    lines = [
        "## Cost\n",
        f"Two shared cores; other work ran beside it, so that times are upper bounds. `{COMMAND}`; peak memory in MB.\n",
        "| hosts | observations | rows of models | rows of probes | make | memory | sum up | memory | one day more | study | memory | B/observation | B/model row | B/probe | summaries |",
        "|--:" * 15 + "|",
    ]
    for one in found:
        rows, size = one["rows"], one["bytes"]
        per = [f"{size[table] / rows[table]:.1f}" for table in ("hosts", "models", "probes")]
        cells = [
            f"{one['hosts']:,}", *(f"{rows[t]:,}" for t in ("hosts", "models", "probes")), f"{one['made']['seconds']:.0f} s",
            f"{one['made']['peak_mb']:.0f}", f"{one['summed']['seconds']} s", f"{one['summed']['peak_mb']:.0f}",
            f"{one['added']['seconds']} s", f"{one['study']['seconds']} s", f"{one['study']['peak_mb']:.0f}", *per,
            f"{one['kept'] / 1e6:.1f} MB",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _single_table(one: dict[str, Any]) -> str:
    lines = [
        f"Single reports over the {one['hosts']:,} hosts, each in a process of its own:\n",
        "| report | seconds | memory |",
        "|---|--:|--:|",
    ]
    lines += [f"| {name} | {found['seconds']} | {found['peak_mb']:.0f} |" for name, found in one["singles"].items()]
    return "\n".join(lines) + "\n"


_HEAD = f"""<!-- Written by `{COMMAND}`; edit tests/benchmarks/study.py, not this page. -->

# The study, reproduced on a population that is known

Published: SentinelLABS and Censys, *Silent Brothers*, 29 January 2026: 175,108 hosts, 293 days, 7.23 million observations.
Ours: **a synthetic population, calibrated to those figures** (`data/simulate/population.toml`). It shows that the instrument gives back what
was put in, at full scale; it is evidence of nothing else. On runs of your own, `census report study` prints the same rows.

```sh
census simulate population -o synthetic
census report study -o synthetic --format csv
```

An id with a suffix is a variant of the definition; `:{study.CLEAN}` rows, without suspect hosts, are in the output and left out here.
"""

_DEFINITIONS = """## Definitions under which the published figures hold together

- **Fixed access 56 %, hyperscalers 32 %, unknown type 19 %** are more than 100 % under one classifier. Under two independent ones they hold:
  type and tier, with part of the hyperscalers' networks typed as telecom or not at all.
- **The 5,000 hosts at 87 %.** Over the whole window, 87 % means that they were there in early April 2025, before 0.6.4 let any server report a
  capability. Then most of the persistent core must have been upgraded in place, far more than the 0.43 to 2.9 % a year counted elsewhere.
  With uptime from first to last day (`H2:span`) they could have come later. The population has the upgrades; the cuts are ours (`H1`).
- **8 to 14B on 26 % of hosts, two bands close behind**: one main band a host. Counting every band a host touches gives more (`P1:any`).
- **Exactly completion and tools, 38 %**: a model with exactly that list. As the union over a host's models it is far less (`C2:union`).
- **52 %** is the pair llama and qwen2 (`F9`). Qwen2 alone (`F11`) is a row of its own, and larger.
- **41 % and 1.46 %** are of the last list; families, pairs, labels and capabilities are unions over a host's life; 72 % and 19 % are of
  host-model pairs. Empty hosts and unknown capabilities stay in every denominator of hosts.
- **All hosts, suspects included**, as the study names no filter.
- **201 templates**: the entry `system_class` of the column `extra`; the census itself does not ask for system prompts by default.
"""

_OPEN = """## What this does not show

The absent are asked for 14 scan days after their last answer and then no more, as a target list would have it; asking all addresses on all days
would be 51 million rows. Estimates with intervals (`census report lift`, `survival`, `population` and others) are not yet held against the planted
truth over many seeds. Hosts that keep silent in spells make the recaptured population too small.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".cache/study"), help="Folder of the populations.")
    parser.add_argument("--hosts", type=int, nargs="*", default=SIZES)
    chosen = parser.parse_args()
    found = [_measured(chosen.out / str(hosts), hosts) for hosts in chosen.hosts]
    answer = study.ask(chosen.out / str(chosen.hosts[-1]))
    (DOCS / "study.md").write_text(_page(found, answer), encoding="utf-8")
    print(json.dumps(found, indent=1), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


if __name__ == "__main__":
    main()
