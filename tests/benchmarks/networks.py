"""How much of the internet `data/networks/` knows: `python tests/benchmarks/networks.py AS.mmdb [SAMPLE]`.

Counts the IPv4 addresses of each AS in an AS database, classifies every AS, and prints the shares. With SAMPLE, also
prints that many ASes decided by a rule about names, drawn with a fixed seed, for a second look by a person.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import maxminddb

from census.locate import Networks, normalise

HEADS = (100, 300, 500, 1000, 2000)
SEED = 2026


def _addresses(path: Path) -> tuple[Counter[int], dict[int, str | None]]:
    sizes: Counter[int] = Counter()
    names: dict[int, str | None] = {}
    with maxminddb.open_database(path) as reader:
        for network, record in reader:
            place = normalise(record)
            if network.version == 4 and place.asn is not None:
                sizes[place.asn] += network.num_addresses
                names[place.asn] = place.as_name
    return sizes, names


def _heads(ranked: list[int], rules: dict[int, str | None], sizes: Counter[int]) -> None:
    print("ASes by addresses   listed   by name   unknown   unknown share of their addresses")
    for n in (*HEADS, len(ranked)):
        head = ranked[:n]
        kinds = Counter(
            "unknown" if not rules[a] else "name" if rules[a].startswith("name-") else "listed" for a in head
        )
        lost = sum(sizes[a] for a in head if not rules[a]) / sum(sizes[a] for a in head)
        print(f"{n:17,}{kinds['listed']:9,}{kinds['name']:10,}{kinds['unknown']:10,}   {lost:.1%}")


def main(path: Path, sample: int) -> None:
    """Print the tables."""
    sizes, names = _addresses(path)
    networks = Networks.load()
    decided = {asn: networks.classify(asn, names[asn]) for asn in sizes}
    rules = {asn: found[2] for asn, found in decided.items()}
    ranked = [asn for asn, _ in sizes.most_common()]
    _heads(ranked, rules, sizes)
    for column, title in enumerate(("type", "tier")):
        print(f"\naddresses by {title}")
        shares: Counter[str] = Counter()
        for asn, size in sizes.items():
            shares[decided[asn][column] or "unknown"] += size
        for name, size in shares.most_common():
            print(f"  {name:22}{size / sizes.total():7.1%}")
    print("\nASes by rule about names")
    for name, count in Counter(rule for rule in rules.values() if rule and rule.startswith("name-")).most_common():
        print(f"  {name:22}{count:7,}")
    drawn = random.Random(SEED).sample([a for a in ranked if (rules[a] or "").startswith("name-")], sample)
    for asn in drawn:
        print(f"{rules[asn]}\t{asn}\t{names[asn]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
