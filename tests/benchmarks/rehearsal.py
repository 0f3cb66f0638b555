"""`make rehearsal`: one census of 175,108 simulated hosts; what was planted must come back, exactly.

The simulated internet, the census and this process, which compares, are three: the first two share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from census import crew, manifest, resources, scan, verification
from census.simulate import Atlas, Host, Internet, World
from tests.conftest import Silent
from tests.exactly_once import _children, forked
from tests.robustness import write_section

HOSTS = 175_108

LOOK_S = 0.1
"""Seconds between two looks at the memory of a process, of which the kernel keeps the most."""

PACE = {"rate": 20_000.0, "network_rate": 1e6, "senders": 1000}
"""Connections a second: more than two cores can do, so that the pace is not what is measured."""

TIMEOUTS = {"connect_timeout": 1.0, "read_timeout": 15.0, "target_timeout": 45.0}
"""Seconds. A silent host costs a second; nobody who answers on a busy machine may be late."""


@dataclass(frozen=True)
class Cost:
    """What a process and those it forked needed: seconds of CPU; bytes of memory at most, of it and of one of them."""

    cpu: float
    memory: int
    forked: int


@dataclass(frozen=True)
class Process:
    """A forked process."""

    pid: int

    @classmethod
    def of(cls, work: Callable[[], None]) -> Process:
        return cls(forked(lambda: (_forget_peak(), work())[1]))

    def end(self) -> Cost:
        """Wait for it. Memory is looked at meanwhile: what `wait4` tells of it begins with the most its parent had."""
        own, theirs = 0, 0
        while (ended := os.wait4(self.pid, os.WNOHANG))[0] == 0:
            own = max(own, _peak(self.pid))
            theirs = max([theirs, *map(_peak, _children(self.pid))])
            time.sleep(LOOK_S)
        _, status, used = ended
        if code := os.waitstatus_to_exitcode(status):
            raise SystemExit(f"a process of the rehearsal ended with {code}")
        return Cost(used.ru_utime + used.ru_stime, own, theirs)


def _forget_peak() -> None:
    """The most this process had in memory is what it has now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak(pid: int) -> int:
    """Bytes that a process had in memory at most; 0 when it has ended."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) * 1024
    return 0


def scaled(folder: Path, scale: float) -> Path:
    """The scenario with every count times `scale`."""
    text = resources.data("simulate", "rehearsal.toml").read_text("utf-8")
    text = re.sub(r"(?m)^count = (\d+)$", lambda found: f"count = {max(1, round(scale * int(found[1])))}", text)
    path = folder / "rehearsal.toml"
    path.write_text(text, encoding="utf-8")
    return path


async def serve(world: World, write: int) -> None:
    """The simulated internet, until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with Internet(world) as internet:
        with os.fdopen(write, "w") as told:
            told.write(json.dumps(internet.doors) + "\n")
        await over.wait()


def census(settings: scan.Settings, out: Path, atlas: Atlas) -> None:
    """The census itself, from its settings to its published run."""
    targets, stages = scan.load_targets(settings), scan.Stages.load(settings.geo, simulated=True)
    with scan.draft_of(settings, targets, out) as draft:
        job = scan.Scan(draft, stages, Silent(), atlas)
        crew.run_with(job, crew.usable_cores())
        job.publish()
        (out / "ledger.txt").write_text(job.ledger(), encoding="utf-8")


# --- Comparing -------------------------------------------------------------------------------------------------------

Key = tuple[str, int]


def planted(host: Host) -> dict[str, Any]:
    """What must be found of a host."""
    truth = host.truth
    return {
        "outcome": str(truth.outcome),
        "server": truth.server,
        "version": truth.version,
        "families": list(truth.families),
        "models": None if truth.models is None else sorted((m.name, m.digest or "") for m in truth.models),
        "place": host.place.country,
    }


def found(run: Path) -> dict[Key, dict[str, Any]]:
    """The same of each row of a run."""
    rows: dict[Key, dict[str, Any]] = {}
    for probe in _rows(run, "probes", "ip", "port", "outcome", "server"):
        rows[probe["ip"], probe["port"]] = {"outcome": probe["outcome"], "server": probe["server"]}
    columns = ("ip", "port", "server_version", "families", "n_models", "country")
    for host in _rows(run, "hosts", *columns):
        models = None if host["n_models"] is None else []
        more = {"version": host["server_version"], "families": host["families"], "models": models}
        rows[host["ip"], host["port"]] |= more | {"place": host["country"]}
    for model in _rows(run, "models", "ip", "port", "name", "digest"):
        rows[model["ip"], model["port"]]["models"].append((model["name"], model["digest"] or ""))
    return rows


def _rows(run: Path, table: str, *columns: str) -> Iterator[dict[str, Any]]:
    for path in (run / table).glob("*.parquet"):
        for batch in pq.ParquetFile(path).iter_batches(columns=list(columns)):
            yield from batch.to_pylist()


def differences(world: World, run: Path) -> Iterator[str]:
    """Every endpoint of which not exactly what was planted was found, and pairs of families counted otherwise."""
    rows = found(run)
    if len(rows) != len(world.hosts):
        yield f"{len(rows)} rows for {len(world.hosts)} hosts"
    for host in world.hosts:
        mine, theirs = planted(host), rows.get((host.ip, host.port), {})
        if theirs.get("models"):
            theirs["models"].sort()
        names = mine.keys() if mine["server"] else ("outcome", "server")
        wrong = {name: (mine[name], theirs.get(name)) for name in names if mine[name] != theirs.get(name)}
        if mine["version"] is None:
            wrong.pop("version", None)
        if wrong:
            yield f"{host.endpoint} ({host.plays}): {str(wrong)[:300]}"
    yield from _pairs_differ(world, rows)


def _pairs_differ(world: World, rows: dict[Key, dict[str, Any]]) -> Iterator[str]:
    planted_pairs = Counter(pair for host in world.hosts for pair in combinations(host.truth.families, 2))
    found_pairs = Counter(pair for row in rows.values() for pair in combinations(row.get("families", ()), 2))
    if planted_pairs != found_pairs:
        yield f"pairs: {(planted_pairs - found_pairs) + (found_pairs - planted_pairs)}"


# --- The whole of it -------------------------------------------------------------------------------------------------


def rehearse(folder: Path, scale: float) -> tuple[list[str], list[str]]:
    """Lines of the table, and what was not as planted."""
    world = World.load(scaled(folder, scale))
    settings = _settings(world, folder)
    read, write = os.pipe()
    internet = Process.of(lambda: asyncio.run(serve(world, write)))
    os.close(write)
    with os.fdopen(read) as told:
        atlas = Atlas(world, json.loads(told.readline()))
    before = _memory()
    start = time.monotonic()
    asked = Process.of(lambda: census(settings, folder / "out", atlas)).end()
    seconds = time.monotonic() - start
    os.kill(internet.pid, signal.SIGTERM)
    answered = internet.end()
    (run,) = manifest.run_folders(folder / "out")
    wrong = [*verification.verify(run), *differences(world, run)]
    ledger = (folder / "out" / "ledger.txt").read_text(encoding="utf-8")
    return table(world, ledger, seconds, asked, answered, before, wrong), wrong


def _settings(world: World, folder: Path) -> scan.Settings:
    listing = folder / "targets.txt"
    listing.write_text("\n".join(world.targets()) + "\n", encoding="utf-8")
    places = world.write_geo(folder / "places.mmdb")
    return scan.Settings(sources=(str(listing),), geo=(str(places),), simulated=True, **PACE, **TIMEOUTS)  # type: ignore[arg-type]


def _memory() -> int:
    """Bytes of this process that are in memory now: what a fork of it begins with."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def table(
    world: World, ledger: str, seconds: float, asked: Cost, answered: Cost, before: int, wrong: list[str]
) -> list[str]:
    """The section of docs/robustness.md."""
    outcomes = Counter(str(host.truth.outcome) for host in world.hosts)
    live = sum(host.part is not None for host in world.hosts)
    rows = [
        ("hosts", f"{len(world.hosts):,}"),
        ("… of which live", f"{live:,}"),
        *((f"… planted as {name}", f"{n:,}") for name, n in outcomes.most_common()),
        ("ledger", ledger),
        ("hosts of which anything else was found than planted", f"{len(wrong)}"),
        ("minutes", f"{seconds / 60:.1f}"),
        ("hosts a second", f"{len(world.hosts) / seconds:,.0f}"),
        ("CPU of the census, ms a host", f"{1000 * asked.cpu / len(world.hosts):.2f}"),
        ("CPU of the simulated internet, ms a host", f"{1000 * answered.cpu / len(world.hosts):.2f}"),
        ("most memory of the process that reads the list and publishes, MB", f"{asked.memory / 1e6:.0f}"),
        ("most memory of a worker, MB", f"{asked.forked / 1e6:.0f}"),
        ("… of which the simulated world, for the route, MB", f"{before / 1e6:.0f}"),
    ]
    words = (
        "Compared for each host: outcome, server, version, names and digests of its models, families and country; "
        "and the pairs of families over all hosts."
    )
    return [words, "", "| what | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows)]


def main() -> None:
    """Run, print, write; exit code 1 when anything else was found than planted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="census-rehearsal-") as folder:
        lines, wrong = rehearse(Path(folder), given.scale)
    print("\n".join(lines))
    if wrong:
        raise SystemExit("\n".join([f"{len(wrong)} differences:", *wrong[:40]]))
    if given.scale == 1:
        write_section("rehearsal", lines)


if __name__ == "__main__":
    main()
