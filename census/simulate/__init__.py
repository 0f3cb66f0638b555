"""A simulated internet: hosts that answer over real sockets on loopback, and the truth about each of them.

    misbehave  what can go wrong at an address, one function each
    players    what a host answers: an example of `data/servers/`, with its own inventory
    world      a scenario of `data/simulate/` -> hosts, and what is planted
    serve      the sockets; apart: in a process of their own
    population a synthetic population over many months, without sockets; calibrate and chronicle are its halves

Tests, documentation, benchmarks and a cautious new user all use it.
"""

from __future__ import annotations

from census.simulate.apart import apart
from census.simulate.serve import Atlas, Internet, Request
from census.simulate.world import Host, Truth, World

__all__ = ["Atlas", "Host", "Internet", "Request", "Truth", "World", "apart"]
