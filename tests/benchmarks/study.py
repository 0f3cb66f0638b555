"""The study at full scale: calibrated populations are made, summed and reported, and `docs/study.md` is written.

`make bench-study` runs it: less than half an hour on two cores. `--scale 0.02` is a quick look that writes nothing into docs/.
`--parameters FILE --seed N` are of the second population, which must be recovered as well; without a file its parameters
are drawn from the seed. What is there already (populations and measurements, below OUT) is not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from census import duck, inference, report, resources, study, summaries
from census.manifest import Run, published, table_sql
from census.schema import tables
from census.simulate import calibrate
from tests.benchmarks import coverage
from tests.pages import DOCS

FULL = 175_108
FRACTIONS = (1 / 16, 1 / 4, 1.0)
COMMAND = "make bench-study"
STORED = ("hosts", "models", "probes")
SECOND = 0.1
"""Hosts of the second population, as a fraction of the first."""

Figures = dict[str, Any]


def _timed(*words: str) -> dict[str, float]:
    """Wall and CPU seconds and peak memory (MB) of a command in a process of its own.

    The peak is VmHWM: what getrusage calls the largest resident set begins with that of the parent.
    """
    code = (
        "import sys, time; from census.cli import main\n"
        "sys.argv = ['census', *sys.argv[1:]]\n"
        "try: main(standalone_mode=False)\n"
        "finally:\n"
        "    lines = dict(line.split(':', 1) for line in open('/proc/self/status', encoding='utf-8'))\n"
        "    print('PEAK', int(lines['VmHWM'].split()[0]) / 1e3, time.process_time(), file=sys.stderr)"
    )
    before = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    peak, cpu = map(float, done.stderr.rpartition("PEAK ")[2].split()[:2])
    return {"seconds": round(time.perf_counter() - before, 1), "cpu": round(cpu, 1), "peak_mb": round(peak)}


def _noted(note: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives, kept in a file so that a benchmark that was stopped goes on where it was."""
    if not note.is_file():
        made = make()
        note.write_text(json.dumps(made, indent=1), encoding="utf-8")
    return json.loads(note.read_text(encoding="utf-8"))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- populations -----------------------------------------------------------------------------------------------------


def _made(folder: Path, hosts: int, *more: str) -> dict[str, float]:
    """What making the population took: now, or when it was made."""
    note = folder / "truth" / "made.json"
    if not note.is_file():
        _say(f"making {hosts:,} hosts in {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        made = _timed("simulate", "population", "--hosts", str(hosts), "-q", "-o", str(folder), *more)
        note.write_text(json.dumps(made), encoding="utf-8")
    found: dict[str, float] = json.loads(note.read_text(encoding="utf-8"))
    return found


def drawn_parameters(seed: int, path: Path) -> Path:
    """Write parameters drawn from `seed`, each published share moved by up to a fifth; they are in no repository."""
    rng, text = random.Random(seed), resources.data("simulate", "population.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text)
    lines = []
    for line in text.splitlines():
        name, _, rest = line.partition(" = { value = ")
        value, comma, source = rest.partition(",")
        if name in MOVED and comma:
            value = f"{float(value) * rng.uniform(*MOVED[name]):.5f}"
        lines.append(f"{name} = {{ value = {value},{source}" if comma and name in MOVED else line)
    assert set(MOVED) <= {key for table in raw.values() for key in table}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


MOVED = {
    "core": (0.8, 1.2), "once": (0.8, 1.2), "core_observations": (0.95, 1.05), "multi_family": (0.9, 1.1),
    "pair": (0.92, 1.05), "q4_k_m": (0.9, 1.1), "four_bit": (0.95, 1.05), "sixteen_bit": (0.85, 1.15),
    "band_8_14": (0.9, 1.2), "tools": (0.92, 1.05), "exactly_tools": (0.92, 1.05), "vision": (0.85, 1.15),
    "thinking": (0.85, 1.15), "prompts": (0.8, 1.2), "harmful": (0.7, 1.3),
}  # fmt: skip
"""Parameters of the second population that are drawn, and between which factors of the first one's."""

PLANTED = (
    ("S6:share", "persistence", "core", 100), ("S7", "persistence", "core_observations", 100), ("S8", "persistence", "once", 100),
    ("F10:share", "portfolio", "multi_family", 100), ("F9", "portfolio", "pair", 100), ("Q1", "portfolio", "q4_k_m", 100),
    ("Q2", "portfolio", "four_bit", 100), ("Q3", "portfolio", "sixteen_bit", 100), ("P1", "portfolio", "band_8_14", 100),
    ("C1", "portfolio", "tools", 100), ("C2", "portfolio", "exactly_tools", 100), ("C3", "portfolio", "vision", 100),
    ("C4", "portfolio", "thinking", 100), ("U2", "behaviour", "prompts", 100), ("U3", "behaviour", "harmful", 100),
)  # fmt: skip
"""A statistic, the parameter that it has to give back, and what a fraction is in its unit."""

COUNTED = {
    "C1": "tools",
    "C2": "exact",
    "C3": "vision",
    "C4": "thinking",
    "Q1": "q4km",
    "Q2": "n4",
    "Q3": "n16",
    "P1": "band:3",
    "F10:share": "multi",
}
"""Statistics whose true value the generator counted from who its hosts are."""


def _recovered(out: Path, parameters: Path, seed: int, hosts: int) -> list[tuple[str, str, float, float | None, float]]:
    """(id, name, parameter, counted truth, found by the study) of the second population."""
    folder = out / f"second-{seed}-{hosts}"
    _made(folder, hosts, "--parameters", str(parameters), "--seed", str(seed))
    _say("asking the second population")
    found = {row["id"]: row for row in study.ask(folder).rows}
    asked = calibrate.value_of(tomllib.loads(parameters.read_text(encoding="utf-8")))
    truth = json.loads((folder / "truth" / "figures.json").read_text(encoding="utf-8"))
    return [
        (key, found[key]["name"], factor * asked[table][name],
         100 * truth[COUNTED[key]] if key in COUNTED else None, found[key]["value"])
        for key, table, name, factor in PLANTED
    ]  # fmt: skip


# --- costs -----------------------------------------------------------------------------------------------------------


def _measured(folder: Path, hosts: int, singles: bool) -> Figures:
    made = _made(folder, hosts)
    runs = published(folder)
    shutil.rmtree(folder / summaries.FOLDER, ignore_errors=True)
    _say(f"summing {hosts:,} hosts")
    first, added = _last_apart(folder, runs[-1].folder)
    _say(f"asking {hosts:,} hosts")
    asked = _timed("report", "study", "-o", str(folder), "--format", "csv")
    single = (
        {name: _timed("report", name, "--since", "2025", "-o", str(folder)) for name in _single()} if singles else {}
    )
    rows, size = _stored(runs)
    kept = sum(path.stat().st_size for path in (folder / summaries.FOLDER).rglob("*.parquet"))
    return {"hosts": hosts, "made": made, "summed": first, "added": added, "study": asked, "singles": single,
            "rows": rows, "bytes": size, "kept": kept}  # fmt: skip


def _stored(runs: Sequence[Run]) -> tuple[dict[str, int], dict[str, int]]:
    rows = {table: sum(f.rows for run in runs for f in run.files if f.table == table) for table in STORED}
    return rows, {table: sum(f.bytes for run in runs for f in run.files if f.table == table) for table in STORED}


def _single() -> list[str]:
    return sorted({*report.reports(), *inference.estimates()} - {"compare"})


def _last_apart(folder: Path, last: Path) -> tuple[dict[str, float], dict[str, float]]:
    """What it takes to sum all runs but the last, and then to add the last one."""
    aside = folder / last.name
    last.rename(aside)
    try:
        first = _timed("summarize", "-o", str(folder))
    finally:
        aside.rename(last)
    return first, _timed("summarize", "-o", str(folder))


def _compacted(folder: Path) -> dict[str, tuple[int, int, float]]:
    """(bytes as written daily, bytes of one sorted file, seconds) of each table of one month, by the measured order."""
    month = [run for run in published(folder) if run.run_id.startswith("202508")]
    order = {"hosts": "ip, port, observed_at", "models": "ip, port, digest, run_id"}
    found = {}
    for table, keys in order.items():
        target = folder / f".{table}.parquet"
        before = time.perf_counter()
        with duck.open_duckdb(memory_limit="2500MB") as connection:
            connection.execute(
                f"COPY (FROM ({table_sql(tables()[table], month)}) ORDER BY {keys}) TO {duck.text(str(target))} "
                "(FORMAT parquet, COMPRESSION zstd)"
            )
        daily = sum(f.bytes for run in month for f in run.files if f.table == table)
        found[table] = (daily, target.stat().st_size, round(time.perf_counter() - before, 1))
        target.unlink()
    return found


# --- the page --------------------------------------------------------------------------------------------------------


def _rows(answer: study.Study) -> Iterator[str]:
    yield "| id | figure | published | ours | unit | of | within rounding |"
    yield "|---|---|--:|--:|---|---|---|"
    for row in answer.rows:
        if row["published"] is not None:
            cells = (
                row["id"],
                row["name"],
                row["published"],
                _shown(row["value"]),
                row["unit"],
                row["denominator"] or "",
            )
            yield f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} | {_verdict(row)} |"


def _verdict(row: Any) -> str:
    """Whether our figure, rounded as the published one is, is the published one."""
    said, value = row["published"], row["value"]
    if isinstance(value, str):
        return "yes" if said == value else "**no**"
    digits = len(said.partition(".")[2])
    unit = ROUNDED.get(row["id"], 10.0**-digits)
    return "yes" if abs(float(value) - float(said)) <= unit / 2 + 1e-9 else "**no**"


ROUNDED = {"S2": 10_000, "S6": 1000, "S10": 40, "F10": 1505, "U1": 1, "H1": 1000}
"""Half of it is how far off the published figure can be: 7.23 million, 23,000, quotients of rounded figures."""


def _variants(answer: study.Study) -> Iterator[str]:
    yield "| id | variant | ours | unit | of |"
    yield "|---|---|--:|---|---|"
    for row in answer.rows:
        if row["published"] is None and not row["id"].endswith(f":{study.CLEAN}"):
            cells = (row["id"], row["name"], _shown(row["value"]), row["unit"], row["denominator"] or "")
            yield f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _shown(value: Any) -> str:
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _definitions() -> Iterator[str]:
    yield "| id | definition | weighting |"
    yield "|---|---|---|"
    for one in study.statistics().values():
        yield f"| [{one.id}](../data/reports/study/{one.id}.sql) | {one.definition} | {one.weighting} |".replace(
            "\n", " "
        )


def _scale(found: Sequence[Figures]) -> Iterator[str]:
    names = ("made", "summed", "added", "study")
    yield "| hosts | observations | rows of models | rows of probes | make | sum up | one day more | study | summaries |"
    yield "|--:" * 9 + "|"
    for one in found:
        rows = [f"{one['rows'][table]:,}" for table in STORED]
        cells = [f"{one['hosts']:,}", *rows, *(_cost(one[name]) for name in names), f"{one['kept'] / 1e6:.1f} MB"]
        yield f"| {' | '.join(cells)} |"


def _cost(one: dict[str, float]) -> str:
    return f"{one['seconds']:.1f} s, {one['cpu']:.1f} CPU s, {one['peak_mb']:.0f} MB"


def _linear(found: Sequence[Figures]) -> str:
    """Costs a million observations, largest over smallest population: 1 is linear, less is better."""

    def each(one: Figures, name: str) -> float:
        return float(one[name]["cpu"]) / one["rows"]["hosts"]

    ratios = [f"{name} {each(found[-1], name) / each(found[0], name):.2f}" for name in ("made", "summed", "study")]
    return ", ".join(ratios)


def _bytes(one: Figures) -> Iterator[str]:
    yield "| table | rows | MB | B/row | B/observation |"
    yield "|---|--:|--:|--:|--:|"
    for table in STORED:
        n, size = one["rows"][table], one["bytes"][table]
        yield f"| {table} | {n:,} | {size / 1e6:.1f} | {size / n:.1f} | {size / one['rows']['hosts']:.1f} |"


def _single_table(one: Figures) -> Iterator[str]:
    yield "| report | seconds | CPU seconds | MB |"
    yield "|---|--:|--:|--:|"
    for name, found in one["singles"].items():
        yield f"| {name} | {found['seconds']} | {found['cpu']} | {found['peak_mb']:.0f} |"


def _compaction(found: dict[str, tuple[int, int, float]]) -> Iterator[str]:
    yield "| table of August | daily files, MB | one sorted file, MB | seconds |"
    yield "|---|--:|--:|--:|"
    for table, (daily, sorted_, seconds) in found.items():
        yield f"| {table} | {daily / 1e6:.1f} | {sorted_ / 1e6:.1f} | {seconds} |"


def _second(rows: Sequence[tuple[str, str, float, float | None, float]]) -> Iterator[str]:
    yield "| id | figure | parameter | counted in the truth | found | off |"
    yield "|---|---|--:|--:|--:|--:|"
    for key, name, asked, counted, value in rows:
        known = "" if counted is None else f"{counted:.2f}"
        off = value - (asked if counted is None else counted)
        yield f"| {key} | {name} | {asked:.2f} | {known} | {value:.2f} | {off:+.2f} |"


def page(
    found: Sequence[Figures], answer: study.Study, second: Sequence[Any], covered: str, compact: Any, seed: int
) -> str:
    """The whole of `docs/study.md`."""
    parts: list[str] = [_HEAD, *_rows(answer), _DEFINITIONS, _VARIANTS, *_variants(answer), _DEFINED, *_definitions()]
    parts += [_SECOND.format(seed=seed, hosts=f"{round(found[-1]['hosts'] * SECOND):,}"), *_second(second)]
    parts += [_COVERAGE, covered, _COST, *_scale(found), _LINEAR.format(_linear(found)), *_bytes(found[-1])]
    parts += [
        _COMPACT,
        *_compaction(compact),
        _SINGLE.format(hosts=f"{found[-1]['hosts']:,}"),
        *_single_table(found[-1]),
        _OPEN,
    ]
    return "\n".join(parts)


_HEAD = f"""<!-- Written by `{COMMAND}`; edit tests/benchmarks/study.py, not this page. -->

# The study, reproduced on a population that is known

Published: SentinelLABS and Censys, *Silent Brothers*, 29 January 2026: 175,108 hosts, 293 days, 7.23 million observations.
Ours: **a synthetic population, calibrated to those figures** (`data/simulate/population.toml`, every value with its source). That the
figures agree shows that the instrument gives back what was put in, at full scale; it is evidence of nothing else. On runs of
your own, the same command prints the same rows of what was measured.

```sh
census simulate population -o synthetic
census report study -o synthetic --format csv
```

All figures on this page are synthetic. Suspect hosts are in, as the study names no filter; the command prints every row again
without them (`:{study.CLEAN}`).

## Every published figure
"""

_DEFINITIONS = """
Rounding is that of the published figure; of S2, S6, S10, F10 and H1 it is that of the rounded figures they are or follow from.
F8 is published to the host, so the calibration exchanges a few hosts at its end until it comes out to the host as well.

## Definitions under which the published figures hold together

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
- **201 templates**: the entry `system_class` of the column `extra`; the census itself does not ask for system prompts by default.
"""

_VARIANTS = """## Variants, and what the study does not publish
"""

_DEFINED = """
## Definitions
"""

_SECOND = """
## A second population, with other parameters

{hosts} hosts with seed {seed} and parameters that are in no repository (`--parameters FILE --seed N`; without a file they are drawn
from the seed, every share up to a fifth off). *Parameter* is what was asked of the generator, *counted* what it counted of its
own hosts without any report, *found* what `census report study` says, *off* the difference of found to counted, or to the
parameter where nothing else is known.
"""

_COVERAGE = """
## Do the intervals cover?

Each interval of 95 %, over small populations that are drawn anew for each seed (`python -m tests.benchmarks.coverage`), through the
same SQL as the reports. The interval of the observed rate is Wilson's.
"""

_COST = f"""
## Cost

`{COMMAND}`. Each command in a process of its own, on two cores that others used at the same time: seconds on the clock are upper
bounds, CPU seconds are what the work took. Summaries are made once and grow by the day; *one day more* is the last of all days
added to the others and everything written again, and reads no file of an older run (a test holds this).
"""

_LINEAR = """
CPU for each observation, of the largest population over the smallest (1 is linear, fixed costs make it less): {}.
"""

_COMPACT = """
## Would monthly compaction pay?

Files of one month in one, sorted by (ip, port, time) and (ip, port, digest, run):
"""

_SINGLE = """
It saves disk, much of it in the models, and no time: over many runs reports read the summaries and not the rows. Compaction
would give up that a run is one folder that never changes after it was published, which verification, derivation and
summaries rest on. So there is none; whoever archives can make these files with one `COPY`.

## Single reports

Over all 293 days of {hosts} hosts. `sensitivity` asks the study three times: of all, without suspects, and without a tenth of the days.
"""

_OPEN = """
## What this does not show

The absent are asked for 14 scan days after their last answer and then no more, as a target list would have it; asking all addresses on all days
would be 51 million rows. Hosts that keep silent in spells make the recaptured population too small: the row of the coverage table that
plants such spells shows how much is lost. An interval says how far chance could move a figure, not how far the hosts that were never
asked differ.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".cache/study"), help="Folder of the populations.")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="Fraction of the published hosts; below 1 nothing is written."
    )
    parser.add_argument("--parameters", type=Path, help="Parameters of the second population.")
    parser.add_argument("--seed", type=int, default=20260129, help="Seed of the second population.")
    parser.add_argument("--seeds", type=int, default=100, help="Populations of the coverage tables.")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    sizes = [round(FULL * chosen.scale * fraction) for fraction in FRACTIONS]
    folders = [chosen.out / str(hosts) for hosts in sizes]
    found = [
        _noted(chosen.out / f"measured-{n}.json", lambda n=n: _measured(chosen.out / str(n), n, n == sizes[-1]))
        for n in sizes
    ]
    answer = study.ask(folders[-1])
    compact = _noted(chosen.out / f"compacted-{sizes[-1]}.json", lambda: _compacted(folders[-1]))
    parameters = chosen.parameters or drawn_parameters(chosen.seed, chosen.out / f"second-{chosen.seed}.toml")
    second = _recovered(chosen.out, parameters, chosen.seed, round(sizes[-1] * SECOND))
    covered = _noted(chosen.out / f"coverage-{chosen.seeds}.json", lambda: coverage.table(chosen.seeds, _say))
    text = page(found, answer, second, covered, compact, chosen.seed)
    target = DOCS / "study.md" if chosen.scale == 1 else chosen.out / "study.md"
    target.write_text(text, encoding="utf-8")
    _say(f"wrote {target}")


if __name__ == "__main__":
    main()
