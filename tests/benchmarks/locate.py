"""How fast addresses become places: `python tests/benchmarks/locate.py DB.mmdb [DB.mmdb ...]`.

Looks up COUNT distinct random global IPv4 addresses, so that the cache never helps, and classifies their networks.
Times are of the processor, so that a busy machine does not blur them.
"""

from __future__ import annotations

import random
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path

from census.locate import Locator, Networks

COUNT = 175_000
SEED = 1
REPEATS = 3


def _addresses() -> list[str]:
    chance = random.Random(SEED)
    drawn = (IPv4Address(chance.getrandbits(32)) for _ in range(2 * COUNT))
    return [str(address) for address in drawn if address.is_global and not address.is_multicast][:COUNT]


def main(paths: list[Path]) -> None:
    """Print look-ups a second, with the share of addresses that got a country and an AS."""
    addresses, networks = _addresses(), Networks.load()
    for _ in range(REPEATS):
        with Locator.open(paths) as locator:
            began = time.process_time()
            places = [locator.locate(address) for address in addresses]
            looked = time.process_time()
            for place in places:
                networks.classify(place.asn, place.as_name)
            done = time.process_time()
        print(f"{len(places) / (looked - began):,.0f} places/s, {len(places) / (done - began):,.0f} with the class")
    for name in ("country", "city", "asn"):
        print(f"{name}: {sum(getattr(place, name) is not None for place in places) / len(places):.1%} of addresses")


if __name__ == "__main__":
    main([Path(path) for path in sys.argv[1:]])
