"""How fast addresses become places: `python tests/benchmarks/locate.py DB.mmdb [DB.mmdb ...]`.

Looks up COUNT distinct random global IPv4 addresses, so that the cache never helps, and classifies their networks.
Times are of the processor, so that a busy machine does not blur them.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path

from census.locate import Locator, Networks

COUNT = 175_000
SEED = 1
REPEATS = 5
FIELDS = ("country", "city", "asn")


def _addresses() -> list[str]:
    chance = random.Random(SEED)
    drawn = (IPv4Address(chance.getrandbits(32)) for _ in range(2 * COUNT))
    return [str(address) for address in drawn if address.is_global and not address.is_multicast][:COUNT]


def _rate(locator: Locator, networks: Networks, addresses: list[str], known: Counter[str]) -> str:
    began = time.process_time()
    for address in addresses:
        locator.locate(address)
    looked = time.process_time() - began
    began = time.process_time()
    for address in addresses:
        place = locator.locate(address)
        networks.classify(place.asn, place.as_name)
    classed = time.process_time() - began
    known.update(name for address in addresses[:10_000] for name in FIELDS if getattr(locator.locate(address), name))
    return f"{len(addresses) / looked:,.0f} places/s, {len(addresses) / classed:,.0f} with the class of the network"


def main(paths: list[Path]) -> None:
    """Print look-ups a second, and the share of the first addresses of which each field is known."""
    addresses, networks, known = _addresses(), Networks.load(), Counter[str]()
    with Locator.open(paths) as locator:
        for _ in range(REPEATS):
            print(_rate(locator, networks, addresses, known))
    print({name: f"{known[name] / REPEATS / 10_000:.1%}" for name in FIELDS})


if __name__ == "__main__":
    main([Path(path) for path in sys.argv[1:]])
