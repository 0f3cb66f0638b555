"""`make bench`: what the census costs the processor, beside others in the same run: one table.

The machine may be busy, so what counts are ratios: the clients take turns, and each figure is the median of its rounds.
`wrk` and `zgrab2` are measured where they are on the PATH. Everything happens on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.clients import SENDERS, TIMEOUT_S, address
from tests.benchmarks.live import PATHS

ROUNDS = 2
LIVE, REFUSED, SILENT = 8000, 8000, 2000
"""Hosts asked in one round of each kind: enough that what a scan costs once, however many they are, is lost in it."""

FAST = 16_000
"""Live hosts over which hosts a second are counted: with fewer, forking and publishing would be most of it."""

FEW, MANY = 10_000, 1_000_000
"""Targets of the two scans whose highest memory is compared."""

PASSES = 4
"""Runs of zgrab2 that give what it has no single run for: one path a run; `/`, version, tags, ps."""

WORKERS = 2
"""Processes of the census in its second row: as many as the machine has processors that nobody else uses, at best."""

WRK_S, WRK_CONNECTIONS = 2, 50


@dataclass(frozen=True)
class Cost:
    """What one round cost: processor seconds, seconds on the clock, hosts, highest memory in bytes (0: not read)."""

    cpu: float
    wall: float
    hosts: int
    rss: int = 0

    @property
    def ms(self) -> float:
        """Milliseconds of the processor for one host."""
        return 1000 * self.cpu / self.hosts


@contextmanager
def _servers() -> Iterator[dict[str, int]]:
    command = [sys.executable, "-m", "tests.benchmarks.live"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def _child(command: list[str], **more: Any) -> tuple[bytes, float, float]:
    """Run to the end: what it wrote, its processor seconds, and seconds on the clock."""
    before, began = os.times(), os.times().elapsed
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **more)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout, used, after.elapsed - began


# ---- the clients -----------------------------------------------------------------------------------------------------


def ours(client: str, n: int, port: int, workers: int = 1) -> Cost:
    """The census or bare aiohttp, in a process that reads its own clock once everything is loaded."""
    options = {"--n": n, "--port": port, "--workers": workers}
    words = [str(word) for pair in options.items() for word in pair]
    told = json.loads(_child([sys.executable, "-m", "tests.benchmarks.clients", client, *words])[0])
    return Cost(told["cpu"], told["wall"], n, max(told["rss"], told["worker_rss"]))


def zgrab2(n: int, port: int) -> Cost:
    """One pass over one path, its records thrown away."""
    with tempfile.TemporaryDirectory() as name:
        (folder := Path(name)).joinpath("targets").write_text("".join(f"{address(i)}\n" for i in range(n)))
        (folder / "empty").touch()
        options = {
            "--port": port, "--endpoint": "/api/tags", "-s": SENDERS, "--server-rate-limit": 10**6, "-o": os.devnull,
            "--connect-timeout": f"{TIMEOUT_S:g}s", "-f": folder / "targets", "-b": folder / "empty",
        }  # fmt: skip
        command = ["zgrab2", "http", *(str(word) for pair in options.items() for word in pair)]
        _, cpu, wall = _child(command, env=os.environ | {"HOME": name})
    return Cost(cpu, wall, n)


def wrk(port: int) -> Cost:
    """A client in C that asks again and again, on a new connection whenever the server has closed."""
    command = ["wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{WRK_S}s", f"http://{address(0)}:{port}{PATHS[1]}"]
    said, cpu, wall = _child(command)
    requests = int(said.decode().split(" requests in ")[0].split()[-1])
    return Cost(cpu, wall, max(1, requests // len(PATHS)))


def _round(ports: Mapping[str, int]) -> Iterator[tuple[str, Cost]]:
    for kind, n, port in (("live", LIVE, "open"), ("refused", REFUSED, "refused"), ("silent", SILENT, "silent")):
        yield f"census {kind}", ours("census", n, ports[port])
        yield f"census-{WORKERS} {kind}", ours("census", n, ports[port], WORKERS)
        yield f"floor {kind}", ours("floor", n, ports[port])
        yield f"aiohttp {kind}", ours("aiohttp", n, ports[port])
        if shutil.which("zgrab2"):
            yield f"zgrab2 {kind}", zgrab2(n, ports[port])
    if shutil.which("wrk"):
        yield "wrk live", wrk(ports["short"])


# ---- the table -------------------------------------------------------------------------------------------------------

_CLIENTS = {
    "census": "the census, whole pipeline to published Parquet",
    f"census-{WORKERS}": f"the same by {WORKERS} workers and their parent",
    "floor": "system calls from Python and nothing else",
    "aiohttp": "bare aiohttp, answers thrown away",
    "zgrab2": "zgrab2, one pass over one path",
    "wrk": "wrk, answers thrown away",
}


def _line(client: str, kind: str, costs: Mapping[str, list[Cost]]) -> str:
    mine = costs[f"{client} {kind}"]
    ratios = [_ratio(mine, costs.get(f"{other} {kind}")) for other in ("aiohttp", "zgrab2")]
    return f"| {kind} | {_CLIENTS[client]} | {median(cost.ms for cost in mine):.3f} | {' | '.join(ratios)} |"


def _ratio(mine: list[Cost], others: list[Cost] | None) -> str:
    """The median of the ratios within each round, so that what slows a round slows both."""
    if others is None:
        return ""
    return f"{median(a.ms / b.ms for a, b in zip(mine, others, strict=True)):.2f}"


def table(costs: Mapping[str, list[Cost]]) -> str:
    """One row for each kind of host and client, in Markdown."""
    rows = [
        "| host | client | CPU ms a host | of bare aiohttp | of one zgrab2 pass |",
        "|---|---|---|---|---|",
    ]
    kinds = ("live", "refused", "silent")
    return "\n".join(rows + [_line(c, kind, costs) for kind in kinds for c in _CLIENTS if f"{c} {kind}" in costs])


def _verdicts(costs: Mapping[str, list[Cost]]) -> Iterator[str]:
    if "zgrab2 live" in costs:
        ratio = float(_ratio(costs["census live"], costs["zgrab2 live"]))
        yield f"A live host costs {ratio / PASSES:.2f} of the {PASSES} passes that zgrab2 needs for the same answers"
        yield f"({ratio / len(PATHS):.2f} of {len(PATHS)}, one for each question that the census asks it)."


def _memory(ports: Mapping[str, int], n_many: int) -> str:
    few, many = (ours("census", n, ports["refused"], WORKERS).rss for n in (FEW, n_many))
    slope = (many - few) / (n_many - FEW)
    return (
        f"Highest memory of any process, {WORKERS} workers and their parent: {few / 2**20:.0f} MiB for {FEW:,} refused "
        f"targets, {many / 2**20:.0f} MiB for {n_many:,}: "
        f"{slope:.0f} bytes for each further target."
    )


def _speed(port: int) -> str:
    """Hosts a second on the clock, each client alone with the servers."""
    clients = {"census": ours("census", FAST, port), f"census-{WORKERS}": ours("census", FAST, port, WORKERS)}
    if shutil.which("zgrab2"):
        clients["zgrab2"] = zgrab2(FAST, port)
    rows = [f"| {_CLIENTS[name]} | {cost.hosts / cost.wall:,.0f} |" for name, cost in clients.items()]
    return "\n".join([f"| client, {FAST:,} live hosts | hosts a second |", "|---|---|", *rows])


def _stages(port: int) -> str:
    told = json.loads(_child([sys.executable, "-m", "tests.benchmarks.stages", "--port", str(port)])[0])
    rows = [f"| {stage} | {time:.0f} |" for stage, time in told.items()]
    return "\n".join(["| stage, each alone | µs of the processor for one live host |", "|---|---|", *rows])


def report(rounds: int, n_many: int = MANY) -> str:
    """Measure everything: the text of `docs/performance.md`."""
    costs: dict[str, list[Cost]] = {}
    with _servers() as ports:
        for number in range(rounds):
            for name, cost in _round(ports):
                costs.setdefault(name, []).append(cost)
                print(f"{number + 1}/{rounds} {name}: {cost.ms:.3f} ms", file=sys.stderr)
        parts = [table(costs), "\n".join(_verdicts(costs)), _speed(ports["open"]), _stages(ports["open"])]
        parts.append(_memory(ports, n_many))
    about = (
        f"Written by `make bench`: medians of {rounds} rounds in which the clients take turns, on {os.cpu_count()} "
        f"processors shared with the servers. A live host answers {len(PATHS)} questions on one connection; times are "
        "of the client's processes, without what is loaded once. Compare ratios, not times: the machine may be busy."
    )
    return "\n\n".join(["# Performance", about, *filter(None, parts)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--many", type=int, default=MANY, help="targets of the large scan whose memory is read")
    parser.add_argument("--write", type=Path, help="write the page here too")
    options = parser.parse_args()
    text = report(options.rounds, options.many)
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
