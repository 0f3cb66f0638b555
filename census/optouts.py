"""Exclusions that stay up to date: who opts out while a scan runs is not asked any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from census.exclusions import Exclusions, read_blocklists
from census.target_lines import Network

OPT_OUTS_S = 1.0
"""Seconds between two looks at the blocklist files: so late at most an opt-out takes effect."""

PATIENCE_S = 10.0
"""Seconds for which a blocklist may be unreadable, as it is while somebody writes it, before the scan stops."""


class OptOuts:
    """The exclusions, read again when a blocklist file has changed: by time, as a target may wait long for its turn.

    A file may be seen while it is written: empty, gone, or in the middle of a line. So what could be read of it counts
    at once, and what it has held for two looks in a row counts to the end of the scan, whatever becomes of the file.
    """

    def __init__(
        self, files: Sequence[Path], say: Callable[[str], None], *, allow_private: bool, allow_simulated: bool
    ) -> None:
        """`say` is told what the operator should know. Raises TargetError when a blocklist cannot be read."""
        self._files, self._say = files, say
        self._lifted = {"allow_private": allow_private, "allow_simulated": allow_simulated}
        self._lasting: dict[Network, str] = {}
        self._unreadable_since: float | None = None
        self._read()
        if self._problem is not None:
            raise self._problem
        self._settle()

    def reason(self, ip: str) -> str | None:
        """Why this address must not be asked. Raises TargetError when a blocklist stays unreadable."""
        if time.monotonic() - self._looked >= OPT_OUTS_S:
            self._look()
        return self._exclusions.reason(ip)

    def _look(self) -> None:
        self._looked = time.monotonic()
        if self._problem is not None or self._now() != self._stamp:
            self._read()
            self._tell()
        elif not self._settled:
            self._settle()

    def _now(self) -> list[tuple[int, ...]]:
        """What changes with each blocklist."""
        return [_stamp_of(path) for path in self._files]

    def _read(self) -> None:
        self._looked, self._stamp, self._settled = time.monotonic(), self._now(), False
        rows, self._problem = read_blocklists(self._files)
        self._rows = dict(rows)
        self._exclusions = Exclusions.beside(list((self._lasting | self._rows).items()), **self._lifted)

    def _settle(self) -> None:
        self._settled = True
        if gone := len(self._lasting.keys() - self._rows.keys()):
            self._say(f"networks in no blocklist any more, {gone} of them, stay excluded to the end of this scan")
        self._lasting |= self._rows

    def _tell(self) -> None:
        if self._problem is None:
            if self._unreadable_since is not None:
                self._say("all of the blocklists can be read again")
            self._unreadable_since = None
        elif self._unreadable_since is None:
            self._unreadable_since = self._looked
            self._say(
                f"{self._problem}. What is known of it so far holds, and the scan stops if that lasts {PATIENCE_S:g} s"
            )
        elif self._looked - self._unreadable_since >= PATIENCE_S:
            raise self._problem


def _stamp_of(path: Path) -> tuple[int, ...]:
    """Nothing for a file that is gone, which reading it then tells."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
