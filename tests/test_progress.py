"""What an operator sees while a scan runs."""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest

from census import progress
from census.progress import Display
from tests.findings import server, silent


def test_a_resumed_scan_counts_the_servers_of_earlier_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    display.begin("x", 10, Counter({"success": 4}), hits=3)
    display.finding(server(1))
    display.finding(silent(2))
    assert (display.tally.done, display.tally.hits) == (6, 4)
    assert display.tally.summary() == "4 servers, 5 success, 1 connection-timeout"
    assert "10 targets, 4 done before" in capsys.readouterr().err


def test_who_reads_stderr_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", -1.0)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Display() as display:
            display.begin("x", 2, Counter())
            os.close(reader)
            display.finding(silent(1))
            display.say("a word")
            display.finding(silent(2))
        assert display.tally.done == 2
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # what stayed in the stream's buffer can go


def test_a_terminal_may_be_closed_under_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, stderr = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "REFRESH_PER_SECOND", 1e6)
    with os.fdopen(stderr, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Display() as display:
            display.begin("x", 2, Counter())
            assert display._bar is not None
            os.close(terminal)
            display.finding(silent(1))
            display.say("a word")
        os.dup2(os.open(os.devnull, os.O_WRONLY), stderr)
