"""What a person sees while a scan runs: a bar on a terminal, a plain line now and then elsewhere. On stderr only."""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from census.hostile import printable
from census.model import Finding

PLAIN_INTERVAL = 10.0
"""Seconds between two plain lines when stderr is not a terminal."""

REFRESH_PER_SECOND = 4
"""How often the bar is drawn."""


class Tally:
    """Counts of a running scan: targets by outcome, AI servers found, and the rate over this session."""

    def __init__(self, total: int, done: Counter[str], hits: int = 0) -> None:
        self.total = total
        self.outcomes = Counter(done)
        self.hits = hits
        self.resumed_at = sum(done.values())
        self.began = time.monotonic()

    def add(self, outcomes: Mapping[str, int], hits: int) -> None:
        """Targets by outcome that are done, and AI servers among them."""
        self.outcomes.update(outcomes)
        self.hits += hits

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def rate(self) -> float:
        """Targets a second since this session began."""
        return (self.done - self.resumed_at) / max(time.monotonic() - self.began, 1e-3)

    def summary(self) -> str:
        """`12 servers, 40 success, 3 connection-refused`, the most frequent outcome first."""
        parts = [f"{self.hits} servers"]
        parts += [f"{n} {name}" for name, n in sorted(self.outcomes.items(), key=lambda kv: (-kv[1], kv[0])) if n]
        return ", ".join(parts)


class _Stderr(io.TextIOBase):
    """stderr, silent from the first time it cannot be written: whoever reads it may leave, and the scan goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._stream = None
        return len(text)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What the bar may be drawn with."""
        return getattr(self._stream, "encoding", None) or "utf-8"


class Display:
    """A watcher of one scan (`scan.Watcher`). Use as a context manager: the bar is removed at the end.

    It never raises for a stderr that cannot be written.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.tally = Tally(0, Counter())
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said = time.monotonic()
        self._stderr = cast(TextIO, _Stderr(sys.stderr))
        self._console = Console(file=self._stderr, highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._advance()
            self._bar.stop()

    def begin(self, run_id: str, total: int, done: Counter[str], hits: int = 0) -> None:
        """A scan begins or goes on: `total` targets, of which `done` are committed already, `hits` of them servers."""
        self.tally = Tally(total, done, hits)
        self.say(f"run {run_id}: {total} targets" + (f", {self.tally.done} done before" if done else ""))
        if not self.quiet and self._console.is_terminal:
            self._bar = self._make_bar()
            self._task = self._bar.add_task("", total=total, completed=self.tally.done, rate="", summary="")
            self._bar.start()

    def _make_bar(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[summary]}"),
            console=self._console,
            refresh_per_second=REFRESH_PER_SECOND,
        )

    def finding(self, finding: Finding) -> None:
        """One target is done."""
        self.tally.outcomes[finding.conversation.outcome.value] += 1
        self.tally.hits += finding.identity.server is not None
        self._show()

    def count(self, outcomes: Mapping[str, int], hits: int) -> None:
        """Some targets are done, by outcome; so many of them are AI servers."""
        self.tally.add(outcomes, hits)
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar is not None:
            if now - self._said > 1 / REFRESH_PER_SECOND:
                self._said = now
                self._advance()
        elif now - self._said > PLAIN_INTERVAL:
            self._said = now
            self.say(self._line())

    def _advance(self) -> None:
        if self._bar is not None and self._task is not None:
            rate, summary = f"{self.tally.rate:.0f}/s", self.tally.summary()
            self._bar.update(self._task, completed=self.tally.done, rate=rate, summary=summary)

    def _line(self) -> str:
        left = (self.tally.total - self.tally.done) / max(self.tally.rate, 1e-3)
        return f"{self.tally.done}/{self.tally.total} targets, {self.tally.rate:.0f}/s, {left:.0f} s left; " + (
            self.tally.summary()
        )

    def say(self, text: str) -> None:
        """One line for the operator, safe for a terminal."""
        if self.quiet:
            return
        if self._bar is not None:
            self._console.print(printable(text), markup=False)
        else:
            self._stderr.write(printable(text) + "\n")
