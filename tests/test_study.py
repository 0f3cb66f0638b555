"""The study: every statistic on tables computed by hand, and summaries that equal what they are sums of."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from census import duck, query, report, study, summaries
from census.choices import SUSPECTS
from census.errors import DataError, QueryError, SnapshotError
from census.manifest import published
from tests import findings
from tests.report_world import KINDS, Row, connect, host, model, probe, run

DAYS = [f"202503{day:02}T020000Z-aaaa" for day in (30, 31)] + [f"202504{day:02}T020000Z-aaaa" for day in (1, 3)]
"""Four scan days over two months; 2 April was missed."""

TIERS = {1: "Indie VPS", 2: "Telecom/Residential", 3: "Hyperscaler", 4: "Hyperscaler", 5: None}
TYPES = {1: "hosting", 2: "fixed-access telecom", 3: "fixed-access telecom", 4: None, 5: "fixed-access telecom"}
PLACES = {1: ("US", "Virginia"), 2: ("CN", "Beijing"), 3: ("CN", "Shanghai"), 4: ("US", None), 5: (None, None)}

SERVED: dict[int, dict[int, list[str]]] = {
    1: {0: ["llama"], 1: ["llama"], 2: ["llama", "qwen2"], 3: ["llama", "qwen2"]},
    2: {0: ["llama", "qwen2", "gemma2"]},
    3: {1: [], 2: []},
    4: {2: ["qwen2", "nomic-bert"], 3: ["qwen2", "nomic-bert"]},
    5: {3: ["llama", "qwen2"]},
}
"""What each host listed on which scan day. Host 5 is a decoy. Host 1 was upgraded on the third day.

Observations: 4 + 1 + 2 + 2 + 1 = 10. Models listed: 6 + 3 + 0 + 4 + 2 = 15; in March 1 + 1 + 3 + 0 = 5 of 4 lists.
"""


def _world() -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {"runs": [], "probes": [], "hosts": [], "models": []}
    for day, run_id in enumerate(DAYS):
        rows["runs"].append(run(run_id))
        for last, days in SERVED.items():
            if day in days:
                rows["hosts"].append(_host(run_id, day, last, days[day]))
                rows["models"] += [_model(run_id, last, i, kind, day) for i, kind in enumerate(days[day])]
                rows["probes"].append(probe(run_id, last, server="ollama"))
        rows["probes"].append(probe(run_id, 9, "connection-refused"))
    return rows


def _host(run_id: str, day: int, last: int, kinds: list[str]) -> Row:
    families = sorted({str(KINDS[kind][0]) for kind in kinds})
    changes: Row = {"network_type": TYPES[last], "tier": TIERS[last], "country": PLACES[last][0]}
    changes |= {"region": PLACES[last][1], "asn": 64500 + last % 3, "n_running": int(last == 1 and day < 2)}
    changes |= {"server_version": "0.9.0" if last != 1 or day > 1 else "0.5.7", "families": families}
    return host(run_id, last, len(kinds), suspect=2 if last == 5 else int(last == 4), **changes)


def _model(run_id: str, last: int, position: int, kind: str, day: int) -> Row:
    changes: Row = {"is_running": last == 1 and day < 2, "name": f"{kind}:latest"}
    if last == 1 and day < 2:
        changes["capabilities"] = None
    if last == 2 and kind == "llama":
        changes["extra"] = [{"name": "system_class", "value": "uncensored"}]
    return model(run_id, last, position, kind, **changes)


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Any]]:
    with connect(_world()) as connection:
        yield {row["id"]: row["value"] for row in study.answer(connection).rows}


PAPER: dict[str, Any] = {
    "S1": 5, "S1:endpoints": 5, "S1:clean": 4, "S2": 10, "S2:host-days": 10, "S3": 4, "S3:span": 5, "S3:missing": 1,
    "S4": 2, "S4:unknown": 20, "S5": 3, "S6": 0, "S6:scale-free": 60, "S7": 0, "S7:scale-free": 80, "S8": 40, "S9": 20,
    "S10": 2.5, "S8:clean": 25, "N1": 60, "N1:known": 75, "N2": 20, "N3": 40, "N4": 20, "N5": 20, "N1:clean": 50,
    "N6": "Indie VPS", "N6:indie": 4, "N6:hyperscaler": 2, "N7": "Telecom/Residential", "N7:telecom": 3,
    "N8": "Indie VPS", "N8:indie": 50, "N8:telecom": 0, "N9": None, "N9:indie": 0, "G1": 40, "G2": 40, "G3": "CN US",
    "G4": 50, "G5": 50, "G6": 50,
    # llama on 1, 2, 5; qwen2 on 1, 2, 4, 5; gemma2 on 2; nomic-bert on 4. Observations: 4+1+1, 2+1+2+1, 1, 2.
    "F1:hosts": "qwen2 llama gemma2", "F1:observations": "llama qwen2 nomic-bert",
    "F1": "llama qwen2 nomic-bert / qwen2 llama gemma2", "F2": "nomic-bert", "F3": 80, "F3:1": 80, "F3:2": 60,
    "F5": None, "F5:march": 5 / 4, "F5:month-2": 10 / 6, "F5:hosts": (1.5 + 3 + 0 + 2 + 2) / 5,
    "F6": 80, "F6:filled": 100, "F7": 0, "F8": 3, "F9": 75, "F10": 4, "F10:share": 80, "F11": 100, "F11:llama": 75,
    "F12": 3 * 5 / (3 * 4), "F12:known": 3 * 4 / (3 * 4), "F8:clean": 2, "F9:clean": 100 * 2 / 3,
    # Without nomic-bert host 4 has one family: both on 1, 2, 5, which are all multi-family hosts.
    "F9:no-embeddings": 100, "F10:no-embeddings": 60,
    # Labels: 1 Q4 Q4; 2 Q4 Q4 Q8; 4 Q4 F16; 5 Q4 Q4.
    "Q1": 80, "Q1:filled": 100, "Q2": 100 * 7 / 9, "Q3": 100 / 9, "Q3:no-embeddings": 0, "Q4": 2,
    # Main bands: 1 8.0 and 7.6 is 8-14; 2 8.0, 7.6 and 9.2 is 8-14; 4 7.6 and 0.1 is 4-7; 5 8-14.
    "P1": 60, "P1:any": 60, "P1:first": "8-14B", "P2": 0, "P2:4-7": 20, "P2:any-4-7": 80,
    # Known on 1 (from the third day), 2, 4, 5: tools on all four.
    "C1": 80, "C1:known": 100, "C2": 80, "C2:union": 60 - 0, "C3": 0, "C4": 0, "C5": 20, "C6": 80,
    "U1": 1, "U2": 100 / 9, "U3": 100, "U4": 0, "H1": 0, "H2": None,
    # Pairs of host and family: 4, 3, 1, 1 of 9.
    "X1": 27 / 81, "X1:effective": 3, "X1:top3": 800 / 9,
    # Ordered 1 1 2 2 4: (-4*1 -2*1 +0*2 +2*2 +4*4) / (5*10).
    "X2": 14 / 50, "X3": 100 / 3, "X4": 100, "X5": 0, "X6": 20, "X6:weak": 20,
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_a_figure_is_what_paper_says(name: str, figures: dict[str, Any]) -> None:
    wanted = PAPER[name]
    assert figures[name] == (wanted if isinstance(wanted, str | None) else pytest.approx(wanted, rel=1e-5))


def test_every_statistic_has_a_figure_on_paper() -> None:
    told = {name.partition(":")[0] for name in PAPER}
    assert set(study.statistics()) - told <= {"F4", "H3"}


def test_the_pair_and_qwen2_alone_are_two_rows() -> None:
    pair, alone = study.statistics()["F9"], study.statistics()["F11"]
    assert (pair.parts[0].published, alone.parts[0].published) == ("52", None)
    assert pair.parts[0].name != alone.parts[0].name


def test_every_row_of_a_statistic_is_in_its_header(figures: dict[str, Any]) -> None:
    asked = list(study.statistics().values())
    with connect(_world()) as connection, study.Asker.open(connection, "include") as asker:
        found = study.figures(asker, asked)
    for one in asked:
        unknown = set(found[one.id]) - {part.suffix for part in one.parts}
        assert not unknown, f"{one.id}: {sorted(unknown)}"


def test_the_formats_have_the_same_rows() -> None:
    with connect(_world()) as connection:
        answer = study.answer(connection, only=["S1", "F1", "F9"])
    table = list(csv.DictReader(io.StringIO(str(study.render(answer, "csv")))))
    rows = json.loads(study.render(answer, "json"))["rows"]
    assert list(table[0]) == list(study.COLUMNS) == list(rows[0])
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert {row["id"]: row["value"] for row in rows}["F9"] == 75
    assert "F1" in str(study.render(answer, "table"))


def test_models_are_counted_from_the_first_september_on() -> None:
    """Lists of 1, 2 and 4 models in August, September and the January after it."""
    months = {"20250801T020000Z-aaaa": 1, "20250901T020000Z-aaaa": 2, "20260101T020000Z-aaaa": 4}
    rows = {"runs": [run(name) for name in months], "hosts": [host(name, 1, n) for name, n in months.items()]}
    with connect(rows) as connection:
        told = {row["id"]: row["value"] for row in study.answer(connection, only=["F5"], clean=False).rows}
    assert (told["F5"], told["F5:march"]) == (3, 1)


def test_what_is_not_published_is_not_unknown() -> None:
    with connect(_world()) as connection:
        text = str(study.render(study.answer(connection, only=["S1"], clean=False), "table"))
    first, second = (next(line for line in text.splitlines() if line.startswith(name)) for name in ("S1 ", "S1:endp"))
    assert "175,108" in first and second.split()[-4:] == ["–", "5", "endpoints", "–"]


def test_a_row_may_have_a_definition_of_its_own() -> None:
    parts = {part.suffix: part for part in study.statistics()["X3"].parts}
    assert parts[""].definition is None and "0.6.4" in str(parts["silent"].definition)


def test_a_variant_defines_the_headline_otherwise(tmp_path: Path) -> None:
    kept = {one.id: {part.suffix for part in one.parts if part.is_variant} for one in study.statistics().values()}
    assert (kept["S3"], kept["P2"], kept["C2"]) == (set(), {"any_1_3", "rounded"}, {"known", "union"})
    odd = tmp_path / "S1.sql"
    odd.write_text(
        "-- S1: a\n-- definition: b\n-- row: ; c ; - ; % ; -\n-- row: d ; e ; - ; hosts ; - ; variant\nSELECT"
    )
    with pytest.raises(DataError, match="'d' is no variant"):
        study._read(odd)


def test_what_cannot_be_asked_is_told() -> None:
    with connect(_world()) as connection:
        with pytest.raises(QueryError, match="no statistic 'S99'"):
            study.answer(connection, only=["S99"])
        connection.execute("UPDATE runs SET is_simulated = run_id = (SELECT max(run_id) FROM runs)")
        with pytest.raises(QueryError, match="never in one answer"):
            study.answer(connection)


# --- summaries -------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Five finished runs on five days over two months, with another half of the hosts each."""
    for i in range(5):
        began = datetime(2026, 1, 29) + timedelta(days=i)
        found = [findings.finding(number) for number in range(i, 12 + i)]
        findings.publish(tmp_path, found, f"{began:%Y%m%dT%H%M%SZ}-{i:04x}", started_at=began)
    return tmp_path


def _rows(folder: Path, name: str) -> list[str]:
    with closing(duck.open_duckdb()) as connection:
        rows = connection.execute(f"FROM read_parquet('{folder / name}.parquet')").fetchall()
    return sorted(map(repr, rows))


def _slow(out: Path, name: str) -> list[str]:
    known = {word: one.sql for word, one in summaries.words().items()}
    with closing(query.connect(out, locked=False)) as connection:
        return sorted(map(repr, connection.execute(summaries.composed(f"SELECT * FROM {name}", known)).fetchall()))


def test_summaries_equal_their_definitions(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "CHUNK_RUNS", 2)
    kept = summaries.refresh(runs, published(runs))
    for name in summaries.names():
        assert _rows(kept.folder, name) == _slow(runs, name), name
        assert _rows(kept.folder, name), name


def test_a_new_run_is_added_and_no_row_of_an_old_one_read(runs: Path) -> None:
    """Of the old runs only the manifest and the one row of `runs` are there still, and the study is as before."""
    everything = published(runs)
    summaries.refresh(runs, everything)
    whole = study.ask(runs).rows
    shutil.rmtree(runs / summaries.FOLDER)
    summaries.refresh(runs, everything[:4])
    left = {path for old in everything[:4] for path in old.paths("runs")}
    for path in {path for old in everything[:4] for path in old.folder.rglob("*.parquet")} - left:
        path.unlink()
    assert study.ask(runs).rows == whole
    grown = summaries.refresh(runs, everything)
    assert [name for name, _ in grown.runs] == [run.run_id for run in everything]
    assert [path.name for path in (runs / summaries.FOLDER).iterdir()] == [grown.folder.name]


def test_added_is_as_summed_at_once(runs: Path) -> None:
    everything = published(runs)
    summaries.refresh(runs, everything[:3])
    grown = {name: _rows(summaries.refresh(runs, everything).folder, name) for name in summaries.names()}
    assert grown == {name: _slow(runs, name) for name in summaries.names()}


MANY = sorted(set(report.reports()) - {"compare"})


@pytest.mark.parametrize("suspects", SUSPECTS)
def test_reports_say_the_same_from_summaries(runs: Path, suspects: str) -> None:
    options: dict[str, Any] = {"since": "2026", "suspects": suspects}
    names = [name for name in MANY if name != "outcomes" or suspects == "include"]
    slow = {name: report.answer(runs, name, **options) for name in names}
    kept = summaries.refresh(runs, published(runs))
    assert summaries.find(runs, published(runs)) == kept
    for name in names:
        quick = report.answer(runs, name, **options)
        assert report.render(quick, "json") == report.render(slow[name], "json"), name


def test_two_kinds_of_one_hash_are_not_kept(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the hash had one bit."""
    known = dict(summaries.words())
    weak = known["kinded"].sql.replace("hash(model) AS kind", "hash(name) % 2 AS kind")
    assert weak != known["kinded"].sql
    known["kinded"] = replace(known["kinded"], sql=weak)
    monkeypatch.setattr(summaries, "words", lambda: known)
    for lot in (14, 1):
        monkeypatch.setattr(summaries, "CHUNK_RUNS", lot)
        with pytest.raises(SnapshotError, match="two kinds of models have one hash"):
            summaries.refresh(runs, published(runs))
    assert not (runs / summaries.FOLDER).exists()


def test_damaged_summaries_are_made_anew(runs: Path) -> None:
    kept = summaries.refresh(runs, published(runs))
    kept.path("sightings").write_bytes(b"PAR1")
    again = summaries.refresh(runs, published(runs))
    assert again.is_whole() and _rows(again.folder, "sightings") == _slow(runs, "sightings")


def test_a_damaged_description_is_made_anew(runs: Path) -> None:
    kept = summaries.refresh(runs, published(runs))
    (kept.folder / summaries.ABOUT).write_text("{")
    again = summaries.refresh(runs, published(runs))
    assert again == kept and again.is_whole() and summaries.find(runs, published(runs)) == kept
    names = {path.name for path in (runs / summaries.FOLDER).iterdir()}
    assert kept.folder.name in names and not any(name.startswith(".") for name in names)


def test_an_answer_over_some_runs_leaves_the_summaries_of_all(runs: Path) -> None:
    everything = published(runs)
    whole = summaries.refresh(runs, everything)
    summaries.refresh(runs, everything[3:])
    fewer = summaries.refresh(runs, everything[:2])
    assert summaries.find(runs, everything) == whole
    assert {path.name for path in (runs / summaries.FOLDER).iterdir()} == {whole.folder.name, fewer.folder.name}


def test_what_another_process_is_writing_is_let_alone(runs: Path) -> None:
    (runs / summaries.FOLDER).mkdir()
    ours, left = (runs / summaries.FOLDER / name for name in (".0123-new", ".0123-old"))
    for folder in (ours, left):
        folder.mkdir()
        (folder / summaries.ABOUT).write_text("{}")
    os.utime(left, (0, 0))
    summaries.refresh(runs, published(runs))
    assert ours.exists() and not left.exists()


def test_a_removed_run_is_in_no_summary(runs: Path) -> None:
    summaries.refresh(runs, published(runs))
    fewer = summaries.refresh(runs, published(runs)[1:])
    with duckdb.connect() as connection:
        first = connection.execute(f"SELECT min(first_run) FROM '{fewer.path('listings')}'").fetchall()
    assert first[0][0] >= published(runs)[1].run_id


@pytest.mark.parametrize("name", ["families", "codeployment", "origins"])
def test_a_claimed_brand_is_none_from_summaries_too(name: str) -> None:
    """A hosted-only brand's name on a port of one's own is a claim."""
    world = _world()
    world["models"][0] |= {"claimed_brand": "GPT", "brand_family": "GPT", "developer_country": "US"}
    known = {word: one.sql for word, one in summaries.words().items()}
    with connect(world) as connection:
        for word in summaries.names():
            connection.execute(f"CREATE TABLE {word} AS {summaries.composed(f'SELECT * FROM {word}', known)}")
        slow, quick = (report.ask(connection, name, by="lineage", summed=summed) for summed in (False, True))
    assert report.render(quick, "csv") == report.render(slow, "csv")
