"""How often the families are right: `accuracy.py [LABELLED.csv] [--write PAGE.md] [--errors COLUMN]`.

Reads a file with the columns of `names_labelled.csv`, classifies every name twice, alone and with the reported
architecture beside it, and prints the share of right answers by source and column. Abstention counts: where the label
is `unknown`, any answer is wrong. Rules are written by hand, so the honest figure is that of the stems nobody looked
at while writing them: half of all stems, drawn by HELD_OUT_SEED before the first rule existed.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from census.families import Families
from census.model import Lineage, Model

HELD_OUT_SEED = 20261122
"""Draws the stems whose labels and errors were not looked at."""

SHIPPED = Path(__file__).with_name("names_labelled.csv")
"""1,567 real names with hand-made labels: one third of a set whose other thirds no author of rules has seen."""

PARAMS_TOLERANCE = 0.15
"""Relative distance within which a size is right: names round, servers count."""

Row = dict[str, str]
Check = Callable[[Row, Lineage], "bool | None"]

_TRIMMED = re.compile(
    r"(\d+x)?\d+(\.\d+)?[bmkt]|a\d+(\.\d+)?b|i?q\d.*|f16|bf16|fp16|fp8|gguf|awq|gptq|int[48]|[kms]|xl|\d*bit|mlx|i1|ud|bnb|nf4|latest"
)


def stem(name: str) -> str:
    """A name without namespace, tag, sizes and quantization: `hf.co/x/Qwen3-8B-GGUF:Q4_0` gives `qwen3`."""
    model = name.casefold().rstrip("/").rsplit("/", 1)[-1].split(":", 1)[0].removesuffix(".gguf")
    words = [word for word in re.split(r"[-_ @]+", model) if word and not _TRIMMED.fullmatch(word)]
    return "-".join(words) or model


def held_out(names: Iterable[str]) -> frozenset[str]:
    """The half of the stems that no rule was written by."""
    stems = sorted({stem(name) for name in names})
    random.Random(HELD_OUT_SEED).shuffle(stems)
    return frozenset(stems[: len(stems) // 2])


def _same(column: str, field: str) -> Check:
    def check(row: Row, lineage: Lineage) -> bool | None:
        return (getattr(lineage, field) or "unknown") == (row[column] or "unknown")

    return check


def _accepted(column: str, accept: str, field: str) -> Check:
    def check(row: Row, lineage: Lineage) -> bool | None:
        found = getattr(lineage, field) or "unknown"
        return found == (row[column] or "unknown") or found in row[accept].split("|")

    return check


def _flag(column: str, field: str) -> Check:
    def check(row: Row, lineage: Lineage) -> bool | None:
        return bool(getattr(lineage, field)) == (row[column] == "true")

    return check


def _params(row: Row, lineage: Lineage) -> bool | None:
    if row["params_source"] not in ("name", "library_hash"):
        return None
    allowed = [float(text) for text in [row["params_b"], *row["params_accept"].split("|")] if text]
    found = lineage.params_b or 0.0
    return any(abs(found - size) <= PARAMS_TOLERANCE * size for size in allowed)


def _quant(row: Row, lineage: Lineage) -> bool | None:
    return lineage.quant == row["quant"] if row["quant_source"] == "name" else None


def _bits(row: Row, lineage: Lineage) -> bool | None:
    stated = row["quant_source"] == "name" and row["quant_bits"]
    return lineage.quant_bits == int(float(row["quant_bits"])) if stated else None


def _generation(row: Row, lineage: Lineage) -> bool | None:
    return lineage.generation == row["generation"] if row["generation"] else None


def _abstains(row: Row, lineage: Lineage) -> bool | None:
    return lineage.brand_family is None if row["brand_family"] == "unknown" else None


def _no_size(row: Row, lineage: Lineage) -> bool | None:
    return lineage.params_b is None if not row["params_b"] else None


def _no_quant(row: Row, lineage: Lineage) -> bool | None:
    return lineage.quant is None if not row["quant"] else None


CHECKS: dict[str, Check] = {
    "brand": _same("brand_family", "brand_family"),
    "weights": _same("weights_family", "weights_family"),
    "base": _accepted("base_family", "base_accept", "base_family"),
    "developer": _same("developer", "developer"),
    "country": _same("country", "developer_country"),
    "weights country": _same("weights_country", "weights_country"),
    "generation": _generation,
    "params": _params,
    "quant": _quant,
    "bits": _bits,
    "role": _accepted("role", "role_accept", "role"),
    "distill": _flag("is_distill", "is_distill"),
    "uncensored": _flag("uncensored", "uncensored"),
    "remote": _flag("cloud_proxied", "remote"),
    "no false brand": _abstains,
    "no false params": _no_size,
    "no false quant": _no_quant,
}
"""Column of the report -> whether a verdict is right; None where the label does not tell."""


@dataclass(frozen=True)
class Scored:
    """One labelled row with the verdict on it."""

    row: Row
    lineage: Lineage


def score(families: Families, rows: Sequence[Row], with_architecture: bool) -> list[Scored]:
    """Judge every row, by its name alone or with the first spelling of its architecture as the declared family."""

    def model(row: Row) -> Model:
        reported = row["gguf_arch"].split("|")[0] if with_architecture else ""
        return Model(name=row["name"], family_raw=reported or None)

    return [Scored(row, families.classify(model(row))) for row in rows]


def share(scored: Iterable[Scored], check: Check) -> tuple[int, int]:
    """How many are right, of how many that can be judged."""
    told = [right for one in scored if (right := check(one.row, one.lineage)) is not None]
    return sum(told), len(told)


def _cell(right: int, total: int) -> str:
    return f"{100 * right / total:.1f}" if total else "–"


def _table(title: str, groups: dict[str, list[Scored]]) -> list[str]:
    lines = [f"## {title}", "", "| | rows | " + " | ".join(CHECKS) + " |", "|---|" + "--:|" * (len(CHECKS) + 1)]
    for name, scored in groups.items():
        cells = [_cell(*share(scored, check)) for check in CHECKS.values()]
        lines.append(f"| {name} | {len(scored)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _groups(scored: list[Scored], unseen: frozenset[str]) -> dict[str, list[Scored]]:
    groups: dict[str, list[Scored]] = {"**all**": scored}
    exposed = [one for one in scored if one.row["source"].startswith("exposed_hosts")]
    groups["**exposed hosts**"] = exposed
    for kind, wanted in (("stems looked at", False), ("stems held out", True)):
        groups[f"**{kind}**"] = [one for one in scored if (stem(one.row["name"]) in unseen) is wanted]
        groups[f"**{kind}, exposed hosts**"] = [one for one in exposed if (stem(one.row["name"]) in unseen) is wanted]
    by_source: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        by_source[one.row["source"]].append(one)
    return groups | dict(sorted(by_source.items()))


def _origin(scored: list[Scored]) -> list[str]:
    """The share of Chinese origin weighted by hosts, labelled and found: the error of the figure itself."""

    def weighted(tells: Callable[[Scored], bool]) -> float:
        hosts = [(int(one.row["exposed_max_hosts"] or 1), tells(one)) for one in exposed]
        return 100 * sum(count for count, yes in hosts if yes) / sum(count for count, _ in hosts)

    exposed = [one for one in scored if one.row["source"] == "exposed_hosts"]
    if not exposed:
        return []
    lines = ["| share of Chinese origin, weighted by hosts | labelled % | found % |", "|---|--:|--:|"]
    for title, column, field in (
        ("brand", "country", "developer_country"),
        ("weights", "weights_country", "weights_country"),
    ):
        labelled = weighted(lambda one, column=column: one.row[column] == "CN")  # type: ignore[misc]
        found = weighted(lambda one, field=field: getattr(one.lineage, field) == "CN")  # type: ignore[misc]
        lines.append(f"| by {title} | {labelled:.1f} | {found:.1f} |")
    return [*lines, ""]


PREFACE = """<!-- Written by tests/benchmarks/accuracy.py; do not edit. -->

# Accuracy of the families

Shares of right answers in per cent, on labelled real names. A label `unknown` is right only when nothing is answered;
*no false brand* is the share of such rows that got no brand; *no false params* and
*no false quant* are the same for labels without size or quantization. Sizes count as right within 15 % and, like
quantization, only where the name states them or the library's listing proves them.

Rules are written by hand, so accuracy on names their author saw says little. Half of all name stems were drawn by lot
and put aside before the first rule existed. Their labels and errors were never looked at, only totals: **stems held
out** is the estimate for names never seen, a little flattered, since the list of brands was known and some of these
names are also in public lists of exposed names. (Stem: the name without namespace, tag, size and quantization.)
"""


def report(families: Families, rows: Sequence[Row]) -> str:
    """The page: names alone, then with the reported architecture, then the shares of origin."""
    unseen = held_out(row["name"] for row in rows)
    lines = [PREFACE]
    for title, fed in (("Names alone", False), ("With the reported architecture", True)):
        scored = score(families, rows, fed)
        lines += _table(title, _groups(scored, unseen))
        lines += _origin(scored)
    return "\n".join(lines)


def errors(families: Families, rows: Sequence[Row], column: str, fed: bool) -> Iterable[str]:
    """The wrong answers of a column, without those of the held-out stems."""
    unseen = held_out(row["name"] for row in rows)
    for one in score(families, rows, fed):
        if stem(one.row["name"]) not in unseen and CHECKS[column](one.row, one.lineage) is False:
            yield f"{one.row['source'][:12]}\t{one.row['name']}\t{one.row['brand_family']}\t{one.lineage}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("labelled", type=Path, nargs="?", default=SHIPPED, help="default: names_labelled.csv beside")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page there too")
    parser.add_argument("--errors", choices=list(CHECKS), help="list the wrong answers of a column instead")
    parser.add_argument("--architecture", action="store_true", help="with --errors: feed in the architecture")
    given = parser.parse_args(arguments)
    with given.labelled.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    families = Families.load()
    if given.errors:
        print(*errors(families, rows, given.errors, given.architecture), sep="\n")
        return 0
    page = report(families, rows)
    print(page)
    if given.write:
        given.write.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
