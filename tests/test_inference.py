"""Estimates: figures on paper, from rows as from numbers, and intervals that cover what is known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from census import estimators, formats, inference, report, study, summaries
from census.choices import REPORT_FORMATS, SUSPECTS
from tests.report_world import Row, connect, host, model, probe, run

# --- on paper --------------------------------------------------------------------------------------------------------

START = date(2025, 3, 31)
"""A Monday: the first day of four weeks, of which 16 April is missed."""

DAYS = [START + timedelta(days=i) for i in range(28) if i != 16]

SEEN: dict[int, tuple[range, list[str], str]] = {
    1: (range(28), ["llama", "qwen2"], "Hyperscaler"),
    2: (range(10), ["llama"], "Hyperscaler"),
    3: (range(14, 28), ["qwen2", "gemma2"], "Academic"),
    4: (range(1, 2), [], "Academic"),
}
"""Days since START, models and tier of each host. 2 and 4 are asked in vain until the end; 1 is upgraded on day 20."""


DECOYS: dict[int, tuple[range, list[str], str]] = {
    5: (range(3, 20), ["llama", "gemma2"], "Hyperscaler"),
    6: (range(0, 27, 2), ["gemma2", "qwen2", "nomic-bert"], "Academic"),
    **{last: (range(8, 12), ["llama", "nomic-bert"], "Hyperscaler") for last in range(11, 16)},
}
"""Hosts in doubt: 6 on no day but its first, which is enough; from 11 on a fleet in two networks."""


def _world(seen: Mapping[int, tuple[range, list[str], str]] = SEEN) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {"runs": [], "probes": [], "hosts": [], "models": []}
    for day in DAYS:
        run_id = f"{day:%Y%m%d}T020000Z-aaaa"
        rows["runs"].append(run(run_id))
        for last, (days, kinds, tier) in seen.items():
            since = (day - START).days
            there = since in days
            if since >= days[0]:
                rows["probes"].append(probe(run_id, last, server="ollama" if there else None))
            if there:
                stated = "0.10.0" if last == 1 and since >= 20 else "0.9.0"
                families = sorted(kinds)
                changes: Row = {"tier": tier, "families": families, "server_version": stated, "n_running": 0}
                changes["suspect"] = 2 if last == 5 or last > 10 or (last == 6 and since == 0) else 0
                changes["suspect_reasons"] = ["decoy"] if changes["suspect"] else []
                disk = min(last, 11)
                changes |= {"asn": 64500 + last % 2, "installation": f"inventory-{disk}"}
                rows["hosts"].append(host(run_id, last, len(kinds), **changes))
                rows["models"] += [_model(run_id, last, i, kind, disk) for i, kind in enumerate(kinds)]
    return rows


def _model(run_id: str, last: int, position: int, kind: str, disk: int) -> Row:
    """A model that is on a disk, under a name that does not tell whose."""
    time, mark = f"2025-01-01T00:00:00.{disk:09}Z", f"mark-{disk}-{kind}"
    return model(run_id, last, position, kind, name=f"{kind}:latest", modified_at_raw=time, installation_mark=mark)


@contextmanager
def _summed(seen: Mapping[int, tuple[range, list[str], str]]) -> Iterator[duckdb.DuckDBPyConnection]:
    known = {name: word.sql for name, word in summaries.words().items()}
    with connect(_world(seen)) as connection:
        for name in summaries.names():
            connection.execute(f"CREATE TABLE {name} AS {summaries.composed(f'SELECT * FROM {name}', known)}")
        yield connection


@pytest.fixture(scope="module")
def world() -> Iterator[duckdb.DuckDBPyConnection]:
    with _summed(SEEN) as connection:
        yield connection


@pytest.fixture(scope="module")
def doubted() -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[str, duckdb.DuckDBPyConnection]]]:
    """A world with decoys, and by choice of --suspects the world in which nobody else ever was."""
    with _summed(SEEN | DECOYS) as whole, _summed(DECOYS) as decoys, _summed(SEEN) as clean:
        yield whole, {"include": whole, "exclude": clean, "only": decoys}


def _rows(world: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    return inference.run(world, name).to_pylist()


def test_every_estimate_has_a_file_and_is_tested_here() -> None:
    assert inference.check() == []
    assert set(inference.estimates()) == {
        *("churn", "concentration", "context", "lift", "origins_by_month", "population", "sensitivity", "stability"),
        *("survival", "trends", "upgrades"),
    }
    assert not set(inference.estimates()) & {*report.reports(), study.NAME}


@pytest.mark.parametrize("suspects", SUSPECTS)
@pytest.mark.parametrize("name", [study.NAME, *inference.estimates(), *sorted({*report.reports()} - {"compare"})])
def test_hosts_left_out_might_never_have_been(name: str, suspects: str, doubted: Any) -> None:
    """Every answer without suspects, or of these alone, is that of a world where the others are not."""
    whole, alone = doubted
    told, wanted = _told(whole, name, suspects), _told(alone[suspects], name, "include")
    if name == "sensitivity" and suspects == "only":
        for row in wanted[0]:
            row["without_suspects"] = None
    assert told[0] == wanted[0]
    assert told[0] or (suspects == "exclude" and name in ("fleets", "suspects"))
    n = {"include": "included (7 of 11 hosts)", "exclude": "left out (7 of 11 hosts)"}
    assert told[1] == n.get(suspects, "only these (7 of 11 hosts; the other 4 are left out)")


NOBODY: dict[str, tuple[Mapping[int, tuple[range, list[str], str]], str]] = {
    "no host": ({}, "include"),
    "one empty host": ({1: (range(3), [], "Academic")}, "include"),
    "one empty host, without suspects": ({1: (range(3), [], "Academic")}, "exclude"),
    "suspects only": (DECOYS, "exclude"),
    "suspects asked, none there": (SEEN, "only"),
}


@pytest.mark.parametrize("case", NOBODY)
def test_nobody_to_report_on_is_an_answer(case: str) -> None:
    """Every format can say it, and JSON has no number that is none."""
    seen, suspects = NOBODY[case]
    with _summed(seen) as sparse:
        asked = study.answer(sparse, suspects=suspects)
        assert all(study.render(asked, format) for format in REPORT_FORMATS)
        for one in inference.estimates().values():
            told = inference.Answer(one, inference.run(sparse, one.name, suspects), ("a", "b"), True, suspects)
            assert all(inference.render(told, format) for format in REPORT_FORMATS)


def test_one_day_is_an_answer() -> None:
    """Too short for a missing day, for a follow-up, and for a neighbour."""
    rows = {"runs": [run("20250101T000000Z-aaaa")], "hosts": [host("20250101T000000Z-aaaa", 1, 0)]}
    with connect(rows) as connection:
        told = {name: inference.run(connection, name).to_pylist() for name in inference.estimates()}
    assert told["survival"] == told["population"] == told["lift"] == []
    assert {row["a_tenth_of_days_missing"] for row in told["sensitivity"]} == {None}
    assert told["concentration"][0]["value"] is None


def _told(connection: duckdb.DuckDBPyConnection, name: str, suspects: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a report of any sort, and what it says of suspects."""
    if name == study.NAME:
        answer = study.answer(connection, suspects=suspects, clean=False)
        return [dict(row) for row in answer.rows], answer.suspects
    if name in inference.estimates():
        found = inference.run(connection, name, suspects)
        with study.Asker.open(connection, suspects) as asker:
            return found.to_pylist(), asker.suspects_note()
    told = report.ask(connection, name, suspects=suspects)
    rows = told.rows.drop_columns("recorded") if name == "outcomes" else told.rows
    return rows.to_pylist(), told.suspects


def test_lift(world: duckdb.DuckDBPyConnection) -> None:
    """llama and qwen2 on 1 of 3 hosts with a family, each on 2: 1 * 3 / (2 * 2)."""
    rows = {tuple(sorted((row["family_a"], row["family_b"]))): row for row in _rows(world, "lift")}
    assert rows["llama", "qwen2"]["lift"] == pytest.approx(3 / 4)
    assert rows["gemma2", "qwen2"]["lift"] == pytest.approx(3 / 2)
    assert rows["gemma2", "llama"]["hosts"] == 0


def test_concentration(world: duckdb.DuckDBPyConnection) -> None:
    """Pairs: llama 2, qwen2 2, gemma2 1 of 5: 9/25. Observations 1, 10, 13, 27: (-3*1 -1*10 +1*13 +3*27) / (4*51)."""
    rows = {row["figure"]: row for row in _rows(world, "concentration")}
    assert rows["herfindahl_hirschman"]["value"] == pytest.approx(9 / 25)
    assert rows["effective_families"]["value"] == pytest.approx(25 / 9)
    assert rows["gini_of_observations"]["value"] == pytest.approx(81 / 204)
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values())


def test_survival(world: duckdb.DuckDBPyConnection) -> None:
    """Followed until day 20: lives of 1 and 10 days (gone), 7 and 21 (there): 3/4 beyond a day and beyond seven.

    Nobody was followed for 30 days, and no academic host for more than 7: of that nothing is said.
    """
    rows = {(row["tier"], row["day"]): row for row in _rows(world, "survival")}
    assert rows["all", 1]["still_there_share"] == pytest.approx(3 / 4)
    assert rows["all", 7]["still_there_share"] == pytest.approx(3 / 4)
    assert rows["Academic", 1]["still_there_share"] == pytest.approx(1 / 2)
    assert (rows["all", 1]["hosts"], rows["all", 1]["gone"]) == (4, 2)
    assert set(rows) == {("all", 1), ("all", 7), ("Hyperscaler", 1), ("Hyperscaler", 7), ("Academic", 1)}


def test_where_all_are_gone_none_is_left_for_ever() -> None:
    """Lives of 2 and 7 days, both gone: beyond the longest, nobody, which is known."""
    rows = inference._curve("all", np.array([2.0, 7.0]), np.array([True, True]), np.array([True, True]))
    assert [(row["day"], row["still_there_share"]) for row in rows][:3] == [(1, 1), (7, 0), (30, 0)]


def test_churn(world: duckdb.DuckDBPyConnection) -> None:
    rows = [(r["hosts"], r["new_hosts"], r["back_hosts"], r["last_seen_hosts"]) for r in _rows(world, "churn")]
    assert rows == [(3, 3, 0, 1), (2, 0, 0, 1), (2, 1, 0, 0), (2, 0, 0, 0)]


def test_population(world: duckdb.DuckDBPyConnection) -> None:
    """Everybody answers while there, so that those who answer are all."""
    rows = {row["day"]: row for row in _rows(world, "population")}
    assert len(rows) == len(DAYS) - 2
    assert (rows[START + timedelta(1)]["answered"], rows[START + timedelta(1)]["hosts"]) == (3, 3)
    assert rows[START + timedelta(12)]["answered"] == 1


def test_stability(world: duckdb.DuckDBPyConnection) -> None:
    """March has llama 2 and qwen2 1; April llama 2, qwen2 2, gemma2 1: the second is a tie."""
    (row,) = _rows(world, "stability")
    assert (row["month"], row["families"]) == (date(2025, 4, 1), 2)


def test_upgrades(world: duckdb.DuckDBPyConnection) -> None:
    """One upgrade; spans of 27, 9 and 13 days; 4 was seen on one day alone. Nothing is 90 days old."""
    rows = {row["tier"]: row for row in _rows(world, "upgrades")}
    years = (27 + 9 + 13) / 365.25
    assert (rows["all"]["endpoints"], rows["all"]["upgrades"]) == (3, 1)
    assert rows["all"]["a_year"] == pytest.approx(1 / years)
    assert rows["all"]["a_year_low"] == pytest.approx(0.0253178 / years, rel=1e-4)
    assert rows["all"]["a_year_high"] == pytest.approx(5.5716434 / years, rel=1e-4)
    assert (rows["Academic"]["upgrades"], rows["all"]["judged"], rows["all"]["outdated_share"]) == (0, 0, None)


def test_outdated_is_what_others_had_left_behind_for_ninety_days() -> None:
    """Three endpoints stated 0.10.0 on 1 January; by April, of two more, the one of 0.9.0 is outdated."""
    with connect({}) as connection:
        rows: dict[str, list[Row]] = {"runs": [], "hosts": [], "probes": [], "models": []}
        for day, versions in (
            ("20250101", {1: "0.10.0", 2: "0.10.0", 3: "0.10.0"}),
            ("20250405", {4: "0.9.0", 5: "0.10.0"}),
        ):
            run_id = f"{day}T000000Z-aaaa"
            rows["runs"].append(run(run_id))
            rows["hosts"] += [host(run_id, last, 0, server_version=version) for last, version in versions.items()]
        with connect(rows) as connection:
            told = inference.run(connection, "upgrades").to_pylist()[0]
    assert (told["judged"], told["outdated"], told["outdated_share"]) == (2, 1, 0.5)


def test_trends(world: duckdb.DuckDBPyConnection) -> None:
    rows = {(row["family"], row["month"]): row for row in _rows(world, "trends")}
    april = rows["llama", date(2025, 4, 1)]
    assert (april["hosts"], april["share"], april["change"]) == (2, 2 / 4, "")
    assert rows["qwen2", date(2025, 3, 1)]["share"] == 1 / 2


def test_origins_by_month(world: duckdb.DuckDBPyConnection) -> None:
    rows = {(r["notion"], r["month"], r["country"]): r["hosts"] for r in _rows(world, "origins_by_month")}
    assert rows == {
        ("brand", date(2025, 3, 1), "US"): 2, ("brand", date(2025, 3, 1), "CN"): 1,
        ("brand", date(2025, 4, 1), "US"): 3, ("brand", date(2025, 4, 1), "CN"): 2,
        ("weights", date(2025, 3, 1), "US"): 2, ("weights", date(2025, 3, 1), "CN"): 1,
        ("weights", date(2025, 4, 1), "US"): 3, ("weights", date(2025, 4, 1), "CN"): 2,
    }  # fmt: skip


def test_sensitivity(world: duckdb.DuckDBPyConnection) -> None:
    """Missing are 3 of 27 days; nobody was there on those alone, and two hosts on each: 51 observations become 45."""
    rows = {row["id"]: row for row in _rows(world, "sensitivity")}
    assert rows["S2"]["value"] == 51
    assert (rows["S3"]["value"], rows["S3"]["a_tenth_of_days_missing"]) == (27, 24)
    assert rows["S2"]["a_tenth_of_days_missing"] == 45
    assert (rows["S1"]["value"], rows["S1"]["without_suspects"], rows["S1"]["a_tenth_of_days_missing"]) == (4, 4, 4)


def test_the_published_indicators_stand_beside_what_was_measured(world: duckdb.DuckDBPyConnection) -> None:
    rows = _rows(world, "context")
    by_id = {row["id"]: row for row in rows if row["id"]}
    assert {"downloads-cn", "misquoted-pair", "enterprise-open"} <= set(by_id)
    assert all("not comparable" in row["warning"] for row in rows)
    assert all(
        row["publisher"] and row["population"] and row["period"] and row["reported_in"] for row in by_id.values()
    )
    assert (by_id["downloads-cn"]["measured"], by_id["downloads-cn"]["share_of_models"]) == ("origin CN", 2 / 5)
    assert (by_id["enterprise-llama"]["measured"], by_id["enterprise-llama"]["share_of_hosts"]) == (
        "brand Llama",
        1 / 2,
    )
    assert by_id["enterprise-open"]["measured"] is None
    assert {row["measured"] for row in rows if row["id"] is None} >= {"family gemma2", "brand Gemma"}


def test_people_are_warned_once_and_programs_in_every_row(world: duckdb.DuckDBPyConnection) -> None:
    told = inference.Answer(inference.estimates()["context"], inference.run(world, "context"), ("a", "b"), True, "")
    warning, _ = inference.indicators()
    for format in ("table", "html", "markdown"):
        assert " ".join(str(inference.render(told, format)).split()).count(warning) == 1, format
    assert str(inference.render(told, "csv")).count(warning) == told.rows.num_rows


def test_each_change_has_a_line() -> None:
    breaks = ["step in the week of 2025-03-03: world", "bend in the week of 2025-03-17: rules"]
    rows = pa.Table.from_pylist([{"family": "llama", "change": "; ".join(breaks)}, {"family": "phi3", "change": ""}])
    told = inference.Answer(inference.estimates()["trends"], rows, ("a", "b"), True, "")
    text = str(inference.render(told, "table"))
    assert [text.count(one) for one in breaks] == [1, 1] and text.count("llama") == 2 and text.count("phi3") == 1
    assert "; ".join(breaks) in str(inference.render(told, "csv"))


def test_what_is_printed_says_how_of_whom_and_that_it_is_synthetic(world: duckdb.DuckDBPyConnection) -> None:
    rows = inference.run(world, "churn")
    one = inference.Answer(inference.estimates()["churn"], rows, ("a", "b"), True, "left out (1 of 4 hosts)")
    text = str(inference.render(one, "table", limit=2))
    assert formats.SYNTHETIC in text and one.suspects in text and "2 runs, a to b" in text and "2 of 4 rows" in text
    assert "Wilson (1927)" in str(inference.render(one, "markdown"))
    told = json.loads(inference.render(one, "json"))
    assert (told["synthetic"], told["method"], told["suspects"]) == (True, one.estimate.method, one.suspects)
    assert (told["runs"], len(told["rows"])) == (["a", "b"], 4)


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_gini_on_paper() -> None:
    """1 1 2 2 4: (-4*1 - 2*1 + 0*2 + 2*2 + 4*4) / (5 * 10)."""
    assert estimators.gini(np.array([1, 1, 2, 2, 4]), np.ones(5)) == pytest.approx(14 / 50)
    assert estimators.gini(np.array([1, 2, 4]), np.array([2.0, 2.0, 1.0])) == pytest.approx(14 / 50)


def test_weights_are_poisson() -> None:
    """Mean and variance 1, and the rarest that 65,536 quantiles have."""
    weights = np.concatenate(list(estimators.poisson_weights(10_000, 20)))
    assert (weights.mean(), weights.var()) == pytest.approx((1, 1), abs=0.02)
    assert np.bincount(weights.astype(int))[:3] / len(weights) == pytest.approx(
        [math.exp(-1), math.exp(-1), math.exp(-1) / 2], abs=0.005
    )
    assert weights.max() <= 8


def test_lift_on_paper() -> None:
    low, lift, high = estimators.lift_interval(30, 60, 40, 100)
    assert lift == pytest.approx(30 * 100 / (60 * 40))
    assert low is not None and high is not None and low < 1.25 < high
    assert estimators.lift_interval(0, 5, 5, 100) == (None, 0.0, None)


def test_wilson_on_paper() -> None:
    """10 of 100, as in Newcombe (1998); nothing is known of none."""
    assert estimators.wilson(10, 100) == pytest.approx((0.05523, 0.17437), abs=1e-5)
    assert estimators.wilson(0, 0) == (None, None)
    assert estimators.wilson(0, 20)[0] == 0


def test_the_null_model_keeps_sizes_and_families() -> None:
    """Hosts that take families at random have the expected pairs of the null model, whatever their sizes."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 5, 20_000)
    matrix = np.zeros((len(sizes), 6))
    for row, size in enumerate(sizes):
        matrix[row, rng.choice(6, size, replace=False)] = 1
    expected, _ = estimators.pairs_of_sizes(sizes, matrix.sum(axis=0))
    ratio = (matrix.T @ matrix)[0, 1] / expected[0, 1]
    assert ratio == pytest.approx(0.9, abs=0.12)


def test_a_step_and_a_bend_are_found_where_they_are() -> None:
    rng = np.random.default_rng(3)
    level, size = np.cumsum(rng.normal(0, 0.02, 40)), np.ones(40)
    assert estimators.breaks(level, size) == []
    assert estimators.breaks(level + np.where(np.arange(40) >= 17, 0.3, 0), size) == [(17, "step")]
    ((at, kind),) = estimators.breaks(level + 0.06 * np.maximum(np.arange(40) - 20, 0), size)
    assert kind == "bend" and abs(at - 21) <= 3


def test_recapture_on_paper() -> None:
    """40 answer, of 30 known to be there 24 do: 41 * 31 / 25 - 1; two equal strata are twice one."""
    one, two = estimators.recaptured([(40, 24, 6)]), estimators.recaptured([(40, 24, 6)] * 2)
    assert one["hosts"] == pytest.approx(49.84) and two["hosts"] == pytest.approx(2 * 49.84)
    factor = math.exp(estimators.Z * math.log1p(41 * 31 * 16 * 6 / (25**2 * 26) / 9.84**2) ** 0.5)
    assert (one["low"], one["high"]) == pytest.approx((40 + 9.84 / factor, 40 + 9.84 * factor))
    none_silent = estimators.recaptured([(7, 5, 0)])
    assert (none_silent["hosts"], none_silent["low"], none_silent["high"]) == (7, 7, pytest.approx(7 / (1 - 3 / 5)))
    assert estimators.recaptured([(7, 3, 0)])["high"] is None
    assert estimators.recaptured([(7, 0, 0)]) == {"answered": 7, "hosts": None, "low": None, "high": None}
