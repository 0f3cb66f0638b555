"""What an operator sees while a scan runs."""

from __future__ import annotations

from collections import Counter

import pytest

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
