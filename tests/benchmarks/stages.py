"""Where the processor's time for one live host goes, stage by stage: `python -m tests.benchmarks.stages --port P`.

Each stage is timed alone over the same conversations, had once with live servers; the probe is timed with a plan that
asks the same questions without reading the answers. With `--run RUN` in the place of a port the conversations are those
that a finished run kept, so that no host is like another, and only the stages that conclude are timed. Prints JSON:
microseconds a host by stage.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from census import derive, scan
from census.identify import Reading, Rules
from census.manifest import read_run
from census.model import Conversation, Finding, Question, Reply, Target
from census.pace import Pace
from census.probe import Prober
from census.rows import derived_rows
from census.snapshot import Draft
from tests.benchmarks.clients import SENDERS, address, cpu, settings_for

REPEATS = 3
PORT = 11434


def _converse(prober: Prober, plan: Callable[[], Any], n: int) -> list[Conversation]:
    async def all_of_them() -> list[Conversation]:
        todo, found = iter(range(n)), []

        async def sender() -> None:
            for index in todo:
                found.append(await prober.converse(Target(address(index), PORT), plan()))

        await asyncio.gather(*(sender() for _ in range(100)))
        return found

    return scan.run(all_of_them())


def _best(work: Callable[[], object], n: int) -> float:
    """Microseconds a host of the best of several rounds."""
    times = []
    for _ in range(REPEATS):
        began = cpu()
        work()
        times.append((cpu() - began) / n * 1e6)
    return round(min(times), 1)


def _identified(rules: Rules, conversation: Conversation) -> Reading:
    """The plan of a whole conversation, as it was asked reply by reply, and the verdict."""
    reading = Reading(rules)
    for length in range(len(conversation.replies) + 1):
        reading.next_question(conversation.target, conversation.replies[:length])
    reading.identify(conversation.target, conversation.replies)
    return reading


def _understood(found: scan.Stages, conversation: Conversation) -> Finding:
    """All that a scan thinks about a host: after each reply the plan, doubt's own question with it, then the rest."""
    reading = Reading(found.rules)
    plan = found.suspicions.plan(reading)
    for length in range(len(conversation.replies) + 1):
        plan(conversation.target, conversation.replies[:length])
    return found.conclude(conversation, reading)


def concluding(run: Path) -> dict[str, float]:
    """Stage -> microseconds a host over the conversations of a finished run, each with its stage alone."""
    found = scan.Stages.load()
    with tempfile.TemporaryDirectory() as name:
        told = [each for each, _ in derive.conversations(read_run(run), Path(name))]
    gc.freeze()
    readings = [_identified(found.rules, one) for one in told]
    findings = [found.conclude(one) for one in told]
    n, pairs = len(told), list(zip(findings, readings, strict=True))
    return {
        "conversations": n,
        "identify, with the plan": _best(lambda: [_identified(found.rules, one) for one in told], n),
        "families": _best(lambda: [_lineages(found, one) for one in findings], n),
        "suspect": _best(lambda: [_judged(found, one, reading) for one, reading in pairs], n),
        "all, as in a scan": _best(lambda: [_understood(found, one) for one in told], n),
        "all, as in derive": _best(lambda: [found.conclude(one) for one in told], n),
        "rows": _best(lambda: derived_rows("run", findings, b"salt"), n),
    }


def _planned(found: scan.Stages, conversation: Conversation) -> Reading:
    """The plan of a whole conversation, as a scan asks it reply by reply, doubts included."""
    reading = Reading(found.rules)
    plan = found.suspicions.plan(reading)
    for length in range(len(conversation.replies) + 1):
        plan(conversation.target, conversation.replies[:length])
    return reading


def _verdicts(readings: Sequence[Reading], told: Sequence[Conversation]) -> object:
    """The verdict, where the plan has read the replies already."""
    return [reading.identify(one.target, one.replies) for reading, one in zip(readings, told, strict=True)]


def _admitted(targets: Sequence[Target]) -> None:
    async def admit_all() -> None:
        async with Pace(10.0**6, 10.0**6, SENDERS) as pace:
            todo = iter(targets)

            async def sender() -> None:
                for target in todo:
                    await pace.admit(target.ip)

            await asyncio.gather(*(sender() for _ in range(100)))

    scan.run(admit_all())


def _committed(draft: Draft, findings: Sequence[Finding], numbers: Iterator[int]) -> None:
    for start in range(0, len(findings), scan.BLOCK_SIZE):
        draft.commit(next(numbers), findings[start : start + scan.BLOCK_SIZE])


def stages(n: int, port: int) -> dict[str, float]:
    """Stage -> microseconds a host."""
    with tempfile.TemporaryDirectory() as name:
        settings = settings_for(Path(name), n)
        found = scan.Stages.load(settings.geo)
        route = lambda ip, _: (ip, port)  # noqa: E731
        prober = Prober(found.rules.questions(), user_agent="census/0 (+mailto:bench@example.org)", route=route)
        told = _converse(prober, lambda: found.rules.next_question, n)
        asked: tuple[Question, ...] = tuple(reply.question for reply in told[0].replies)

        def blind(target: Target, replies: Sequence[Reply]) -> Question | None:
            return asked[len(replies)] if len(replies) < len(asked) else None

        readings = [_planned(found, one) for one in told]
        findings = [found.conclude(one) for one in told]
        pairs = list(zip(findings, readings, strict=True))
        draft = scan.draft_of(settings, scan.load_targets(settings), Path(name) / "out")
        numbers = iter(range(10**6))
        times = {
            "pace": _best(lambda: _admitted([one.target for one in told]), n),
            f"probe, {len(asked)} questions": _best(lambda: _converse(prober, lambda: blind, n), n),
            "plan: the next question, and whether to doubt": _best(lambda: [_planned(found, one) for one in told], n),
            "identify": _best(lambda: _verdicts(readings, told), n),
            "families": _best(lambda: [_lineages(found, one) for one in findings], n),
            "suspect, alone": _best(lambda: [_judged(found, *pair) for pair in pairs], n),
            "locate": _best(lambda: [_placed(found, one) for one in told], n),
            "snapshot: blocks": _best(lambda: _committed(draft, findings, numbers), n),
        }
        draft.close()
    return times


def _lineages(found: scan.Stages, finding: Finding) -> object:
    seen = finding.conversation.asked_at
    return [found.families.classify(model, observed_at=seen) for model in finding.identity.models or ()]


def _judged(found: scan.Stages, finding: Finding, reading: Reading | None) -> object:
    return found.suspicions.judge(finding.conversation, finding.identity, reading)


def _placed(found: scan.Stages, conversation: Conversation) -> object:
    place = found.locator.locate(conversation.target.ip)
    kind, tier, rule = found.networks.classify(place.asn, place.as_name)
    return replace(place, network_type=kind, tier=tier, network_rule=rule)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=2000)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int)
    where.add_argument("--run", type=Path, help="the folder of a finished run")
    options = parser.parse_args()
    if options.run:
        return print(json.dumps(concluding(options.run)))
    scan.raise_descriptor_limit(SENDERS)
    print(json.dumps(stages(options.n, options.port)))


if __name__ == "__main__":
    main()
