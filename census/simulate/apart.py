"""A simulated internet in a process of its own, so that a scan by several processes can ask it and cores are shared."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from census.errors import CensusError, ScannerFault
from census.simulate.serve import Atlas, Internet
from census.simulate.world import World


@contextmanager
def apart(world: World) -> Iterator[Atlas]:
    """The route to the world's hosts, who answer until the context is left or this process ends.

    To be entered where no event loop runs. Raises CensusError where the system does not let it have the addresses, and
    ScannerFault where it has no process to spare or ends the one it gave: what was found since nobody planted.
    """
    child, line = _started(world)
    try:
        yield Atlas(world, _doors(line))
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            child = 0
            raise ScannerFault(_ENDED)
    finally:
        line.close()
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


_ENDED = (
    "the simulated internet was ended while it was asked (for its memory?): what this run has since found is not what "
    "was planted; begin a new one"
)


def _started(world: World) -> tuple[int, Connection]:
    """Fork; returns the process and the line to it. Raises ScannerFault."""
    try:
        ours, theirs = Pipe()
        try:
            if not (child := os.fork()):
                _live(world, ours, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
    except OSError as problem:
        raise ScannerFault(
            f"the simulated internet could not be started: {problem.strerror or problem}; allow more processes and "
            "files (ulimit -u, ulimit -n), or let it live in this process with --workers 1"
        ) from None
    return child, ours


def _doors(line: Connection) -> dict[str, int]:
    try:
        doors = json.loads(line.recv_bytes())
    except EOFError:
        raise ScannerFault("the simulated internet ended before it was open (for its memory?)") from None
    if isinstance(doors, str):
        raise CensusError(doors)
    found: dict[str, int] = doors
    return found


def _live(world: World, parents: Connection, line: Connection) -> None:
    try:
        for sign in (signal.SIGINT, signal.SIGTERM):  # to the whole group: who asks still hears its last answers
            signal.signal(sign, signal.SIG_IGN)
        parents.close()
        asyncio.run(_serve(world, line))
    except Exception as problem:
        words = str(problem) if isinstance(problem, CensusError) else f"the simulated internet broke: {problem!r}"
        line.send_bytes(json.dumps(words).encode())
    finally:
        os._exit(0)


async def _serve(world: World, line: Connection) -> None:
    """Until nobody has the other end of the line any more."""
    over = asyncio.Event()
    async with Internet(world) as internet:
        asyncio.get_running_loop().add_reader(line.fileno(), over.set)
        line.send_bytes(json.dumps(internet.doors).encode())
        await over.wait()
