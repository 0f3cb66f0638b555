"""A simulated internet in a process of its own, so that a scan by several processes can ask it and cores are shared."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from census.errors import CensusError
from census.simulate.serve import Atlas, Internet
from census.simulate.world import World


@contextmanager
def apart(world: World) -> Iterator[Atlas]:
    """The route to the world's hosts, who answer until the context is left or this process ends.

    To be entered where no event loop runs. Raises CensusError where the system does not let it have the addresses.
    """
    (told, tell), (life, held) = os.pipe(), os.pipe()
    if not (child := os.fork()):
        _live(world, tell, life, (told, held))
    os.close(tell)
    os.close(life)
    try:
        with os.fdopen(told) as lines:
            doors = json.loads(lines.readline() or '"the simulated internet did not open"')
        if isinstance(doors, str):
            raise CensusError(doors)
        yield Atlas(world, doors)
    finally:
        os.close(held)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _live(world: World, tell: int, life: int, others: tuple[int, ...]) -> None:
    try:
        for sign in (signal.SIGINT, signal.SIGTERM):  # to the whole group: who asks still hears its last answers
            signal.signal(sign, signal.SIG_IGN)
        for number in others:
            os.close(number)
        asyncio.run(_serve(world, tell, life))
    except CensusError as problem:
        os.write(tell, json.dumps(str(problem)).encode())
    finally:
        os._exit(0)


async def _serve(world: World, tell: int, life: int) -> None:
    """Until nobody has the other end of `life` any more."""
    over = asyncio.Event()
    async with Internet(world) as internet:
        asyncio.get_running_loop().add_reader(life, over.set)
        os.write(tell, json.dumps(internet.doors).encode() + b"\n")
        os.close(tell)
        await over.wait()
