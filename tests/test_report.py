"""The reports: their headers, their figures on a world small enough for paper, and their formats byte for byte."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from census import formats, report
from census.choices import FAMILIES, REPORT_FORMATS
from census.errors import DataError, QueryError, SnapshotError
from tests import findings
from tests import report_world as world

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden" / "reports"
ONE_RUN = sorted(name for name in report.reports() if name != "compare")
TEXT_FORMATS = {"table": "txt", "csv": "csv", "json": "json", "markdown": "md", "html": "html"}
RUNS = {"before": world.JANUARY, "after": world.FEBRUARY}


@pytest.fixture(scope="module")
def january() -> Iterator[duckdb.DuckDBPyConnection]:
    with world.connect(world.january()) as connection:
        yield connection


@pytest.fixture(scope="module")
def both() -> Iterator[duckdb.DuckDBPyConnection]:
    with world.connect(world.joined(world.january(), world.february())) as connection:
        yield connection


def golden(name: str) -> str:
    return (GOLDEN / name).read_bytes().decode()


def rows(answer: report.Answer, *columns: str) -> list[tuple[object, ...]]:
    return [tuple(row[column] for column in columns) for row in answer.rows.to_pylist()]


def pairs(answer: report.Answer) -> dict[tuple[str, str], dict[str, float]]:
    return {(row["family_a"], row["family_b"]): row for row in answer.rows.to_pylist()}


# --- figures, against expectations computed on paper -----------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_RUN)
def test_every_report_gives_the_figures_computed_by_hand(name: str, january: duckdb.DuckDBPyConnection) -> None:
    assert report.render(report.ask(january, name), "csv") == golden(f"{name}.csv")


def test_every_report_has_its_golden_figures() -> None:
    assert {path.stem for path in GOLDEN.glob("*.csv")} == set(report.reports())


def test_compare_counts_absence_only_where_the_second_run_asked(both: duckdb.DuckDBPyConnection) -> None:
    answer = report.ask(both, "compare", parameters=RUNS)
    assert report.render(answer, "csv") == golden("compare.csv")
    assert (answer.facts["there_before"], answer.facts["there_after"]) == (14, 6)
    gone = [row for row in answer.rows.to_pylist() if row["kind"] == "gone"]
    assert [(row["reason"], row["endpoints"]) for row in gone] == [("connection-refused", 1)]


def test_compare_names_endpoints_only_when_asked(both: duckdb.DuckDBPyConnection) -> None:
    hidden = report.render(report.ask(both, "compare", parameters=RUNS), "csv")
    listed = report.ask(both, "compare", parameters=RUNS | {"list": "yes"})
    assert "192.0.2." not in str(hidden)
    assert ("gone", "192.0.2.5:11434") in rows(listed, "kind", "endpoint")
    assert sum(row["endpoints"] for row in listed.rows.to_pylist()) == listed.rows.num_rows == 16


def test_codeployment_on_paper(january: duckdb.DuckDBPyConnection) -> None:
    """llama on 8 hosts (.1 to .5, .7, .8, .12), qwen2 on 7 (.1 to .4, .6, .9, .12), both on 5; 10 hosts have a family.

    Seven have two (.1 to .6, .12); of these llama is on 6 and qwen2 on 6.
    """
    answer = report.ask(january, "codeployment")
    assert (answer.facts["hosts_with_family"], answer.facts["multi_family_hosts"]) == (10, 7)
    pair = pairs(answer)["llama", "qwen2"]
    assert pair["hosts"] == 5
    assert pair["pair_share"] == pytest.approx(5 / 7)
    assert pair["expected_hosts"] == pytest.approx(8 * 7 / 10)
    assert pair["expected_pair_share"] == pytest.approx(5.6 / 7)
    assert pair["lift"] == pytest.approx(5 / 5.6)
    assert pair["lift_in_multi_family"] == pytest.approx((5 / 7) / (6 / 7 * 6 / 7))


def test_a_pairs_share_is_not_a_familys_share(january: duckdb.DuckDBPyConnection) -> None:
    pair = pairs(report.ask(january, "codeployment"))["llama", "qwen2"]
    family = {row["family"]: row for row in report.ask(january, "families").rows.to_pylist()}["qwen2"]
    assert pair["share_b"] == family["share_of_multi_family"] == pytest.approx(6 / 7)
    assert pair["pair_share"] < pair["share_b"]
    assert family["share_of_hosts"] == pytest.approx(7 / 13)
    assert family["share_of_known"] == pytest.approx(7 / 10)


def test_derivatives_on_paper(january: duckdb.DuckDBPyConnection) -> None:
    """Of 23 models: a distil on .2 and .9, an uncensored Llama and a Gemma without a brand on .5, a Dolphin on .8."""
    found = {(row[0], row[1]): row[2] for row in rows(report.ask(january, "derivatives"), "kind", "weights", "models")}
    assert found["distil", "all"] == found["distil", "Qwen"] == 2
    assert found["fine-tune", "all"] == 3
    assert {weights for kind, weights in found if kind == "fine-tune"} == {"all", "Llama", "Gemma", "Yi"}
    assert found["nothing known", "all"] == 1
    assert sum(models for (_, weights), models in found.items() if weights == "all") == 23


def test_suspects_out_in_or_alone(january: duckdb.DuckDBPyConnection) -> None:
    """Without .12: both on 4, llama 7, qwen2 6, 9 hosts with a family, 6 with two."""
    answer = report.ask(january, "codeployment", suspects="exclude")
    pair = pairs(answer)["llama", "qwen2"]
    assert (pair["hosts"], pair["pair_share"]) == (4, pytest.approx(4 / 6))
    assert pair["lift"] == pytest.approx(4 * 9 / (7 * 6))
    assert answer.suspects == "left out (1 of 13 hosts)"
    only = report.ask(january, "families", suspects="only")
    assert [row[0] for row in rows(only, "family", "hosts")] == ["gemma2", "llama", "qwen2"]
    assert only.suspects == "only these (1 of 13 hosts; the other 12 are left out)"


def test_embedding_families_can_be_left_out(january: duckdb.DuckDBPyConnection) -> None:
    answer = report.ask(january, "codeployment", parameters={"embeddings": "exclude"})
    assert answer.facts["multi_family_hosts"] == 6
    assert not any("nomic-bert" in pair for pair in pairs(answer))


def test_projectors_and_cloud_models_make_no_pair(january: duckdb.DuckDBPyConnection) -> None:
    for by in FAMILIES:
        names = {name for pair in pairs(report.ask(january, "codeployment", by=by)) for name in pair}
        assert not names & {"clip", "deepseek2"}
    assert ("Dolphin", "Qwen") in pairs(report.ask(january, "codeployment", by="lineage"))
    assert ("Qwen", "Yi") in pairs(report.ask(january, "codeployment", by="weights"))


def test_a_server_program_alone(january: duckdb.DuckDBPyConnection) -> None:
    answer = report.ask(january, "families", by="lineage", parameters={"server": "vllm"})
    assert rows(answer, "family", "hosts", "share_of_hosts") == [("Qwen", 1, 1.0)]


def test_a_host_counts_once_over_several_runs(both: duckdb.DuckDBPyConnection) -> None:
    """In February .2 has gemma2 too: one more gemma2 pair, and no other pair moves."""
    answer = report.ask(both, "codeployment")
    counts = {pair: row["hosts"] for pair, row in pairs(answer).items()}
    assert (counts["llama", "qwen2"], counts["gemma2", "llama"], counts["gemma2", "qwen2"]) == (5, 4, 3)
    assert answer.facts["hosts"] == 15
    assert any(note.startswith("Union of 2 runs") for note in answer.footnotes)


def test_places_and_versions_are_those_of_the_latest_observation() -> None:
    january, february = world.january(), world.february()
    february["hosts"][0] |= {"country": "JP"}
    with world.connect(world.joined(january, february)) as connection:
        countries = dict(rows(report.ask(connection, "countries"), "country", "hosts"))
        versions = dict(rows(report.ask(connection, "versions", parameters={"server": "ollama"}), "version", "hosts"))
    assert (countries["US"], countries["JP"]) == (2, 1)
    assert (versions["0.12.0"], versions["0.9.0"]) == (1, 13)


def test_a_ledger_that_does_not_balance_shows() -> None:
    broken = world.january()
    del broken["probes"][0]
    with world.connect(broken) as connection:
        answer = report.ask(connection, "outcomes")
    assert answer.facts["unbalanced_runs"] == 1
    assert rows(answer, "name", "targets", "recorded")[0] == ("success", 14, 15)


def test_the_ledger_without_suspects_counts_targets_of_the_others(january: duckdb.DuckDBPyConnection) -> None:
    """Of 15 targets that answered one, .12, is of a suspect."""
    without = report.ask(january, "outcomes", suspects="exclude")
    assert rows(without, "name", "targets", "recorded")[0] == ("success", 14, None)
    assert rows(report.ask(january, "outcomes", suspects="only"), "name", "targets")[0] == ("success", 1)
    assert without.suspects == "left out (1 of 13 hosts)"


def test_a_band_is_the_floor_of_the_printed_size() -> None:
    """7.94 is printed as 7.9 and is of 4-7; 7.96 is printed as 8.0."""
    sizes = {
        "<1": [0.94],
        "1-3": [0.97, 3.2, 3.8],
        "4-7": [4.0, 7.94],
        "8-14": [7.96, 14.8],
        "35-79": [70.6],
        "80+": [671],
    }
    hosts = enumerate(size for band in sizes.values() for size in band)
    models = [world.model(world.JANUARY, last, 0, "llama", params_b=size) for last, size in hosts]
    tables = {"runs": [world.run(world.JANUARY)], "models": models}
    tables["hosts"] = [world.host(world.JANUARY, last, 1) for last in range(len(models))]
    with world.connect(tables) as connection:
        found = rows(report.ask(connection, "sizes"), "band", "hosts")
    assert {band: hosts for band, hosts in found if hosts} == {band: len(size) for band, size in sizes.items()}


FAMILY = st.sampled_from(["llama", "qwen2", "Qwen2", "gemma2", "bert", "clip", "", None])
HOSTS = st.lists(st.lists(st.tuples(FAMILY, st.booleans()), max_size=5), max_size=8)


@settings(max_examples=12, deadline=None)
@given(HOSTS)
def test_pairs_equal_a_brute_force_count(hosts: list[list[tuple[str | None, bool]]]) -> None:
    tables = {"runs": [world.run(world.JANUARY)], "hosts": [], "models": []}
    for last, models in enumerate(hosts):
        tables["hosts"].append(world.host(world.JANUARY, last, len(models)))
        for position, (family, remote) in enumerate(models):
            changes = {"family_raw": family, "is_remote": remote, "name": f"m{position}"}
            tables["models"].append(world.model(world.JANUARY, last, position, "llama", **changes))
    sets = [{f.lower() for f, remote in models if f and not remote} - {"clip"} for models in hosts]
    expected = Counter(pair for served in sets for pair in itertools.combinations(sorted(served), 2))
    with world.connect(tables) as connection:
        answer = report.ask(connection, "codeployment")
    assert {pair: row["hosts"] for pair, row in pairs(answer).items()} == expected
    known, multi = sum(bool(s) for s in sets), sum(len(s) > 1 for s in sets)
    assert (answer.facts["hosts_with_family"], answer.facts["multi_family_hosts"]) == (known, multi)
    for (a, b), row in pairs(answer).items():
        of_a, of_b = (sum(family in served for served in sets) for family in (a, b))
        assert row["lift"] == pytest.approx(expected[a, b] * known / (of_a * of_b))
        assert row["share_a"] == pytest.approx(sum(a in s and len(s) > 1 for s in sets) / multi)


def test_no_figure_depends_on_the_order_of_rows(january: duckdb.DuckDBPyConnection) -> None:
    shuffled = {name: random.Random(7).sample(table, len(table)) for name, table in world.january().items()}
    with world.connect(shuffled) as connection:
        for name in ONE_RUN:
            mixed, sorted_ = report.ask(connection, name), report.ask(january, name)
            for format in REPORT_FORMATS:
                assert report.render(mixed, format) == report.render(sorted_, format)


def test_a_run_that_found_nobody_is_an_answer_too() -> None:
    with world.connect({"runs": [world.run(world.JANUARY)]}) as connection:
        answers = {name: report.ask(connection, name) for name in ONE_RUN}
    assert all(report.render(answer, format) for answer in answers.values() for format in REPORT_FORMATS)
    assert "(no rows)" in str(report.render(answers["families"], "table"))


# --- the page's own SQL --------------------------------------------------------------------------------------------


def _sql_of(page: str) -> list[str]:
    return re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def test_codeployment_equals_the_hand_written_sql_over_parquet(
    both: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in (world.JANUARY, world.FEBRUARY):
        folder = tmp_path / "runs" / run_id / "models"
        folder.mkdir(parents=True)
        found = both.sql("SELECT * FROM models WHERE run_id = $run", params={"run": run_id}).to_arrow_table()
        pq.write_table(found, folder / "part.parquet")
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as plain:
        expected = plain.execute(_sql_of("add-a-report.md")[1]).fetchall()
    assert len(expected) == 5
    assert rows(report.ask(both, "codeployment"), "family_a", "family_b", "hosts", "pair_share", "lift") == expected


def test_the_report_that_the_page_adds_works(tmp_path: Path, january: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "ports.sql").write_text(_sql_of("add-a-report.md")[0], encoding="utf-8")
    assert report.check(folder=tmp_path) == []
    answer = report.ask(january, "ports", folder=tmp_path)
    assert rows(answer, "port", "endpoints", "hosts") == [(11434, 13, 13), (8000, 1, 1)]
    assert "of 14 endpoints" not in report.render(answer, "csv")
    assert "share_of_endpoints: 14 endpoints" in report.render(answer, "table")


def test_the_page_of_reports_is_the_headers() -> None:
    assert (ROOT / "docs" / "reports.md").read_text(encoding="utf-8") == report.reports_page()


def test_every_report_is_listed_with_its_question() -> None:
    lines = report.listing().splitlines()
    assert [line.split()[0] for line in lines] == sorted(report.reports())
    assert all(line.endswith("?") for line in lines)


# --- runs ----------------------------------------------------------------------------------------------------------


def _runs(*runs: world.Row) -> duckdb.DuckDBPyConnection:
    return world.connect({"runs": list(runs)})


def _day(day: int, shard: int = 0, **changes: object) -> world.Row:
    return world.run(f"202601{day:02}T00000{shard}Z-r{shard}", shard=shard, **changes)


def test_the_newest_census_is_the_default() -> None:
    with _runs(_day(1), _day(3), _day(2)) as connection:
        assert report.select_runs(connection) == ["20260103T000000Z-r0"]


def test_the_newest_census_has_all_its_shards_and_no_older_one() -> None:
    shards = [_day(day, shard, shards=3) for day in (1, 2) for shard in range(3)]
    with _runs(*shards) as connection:
        assert report.select_runs(connection) == [f"20260102T00000{shard}Z-r{shard}" for shard in range(3)]
        connection.execute("DELETE FROM runs WHERE run_id IN ('20260102T000001Z-r1', '20260102T000002Z-r2')")
        assert report.select_runs(connection) == ["20260102T000000Z-r0"]


def test_shards_of_two_censuses_at_the_same_time_stay_apart() -> None:
    mine = [_day(1, shard, shards=2) for shard in range(2)]
    other = [world.run(f"20260101T00001{shard}Z-o", shards=2, shard=shard, seed=9) for shard in range(2)]
    with _runs(mine[0], other[0], mine[1], other[1]) as connection:
        assert report.select_runs(connection) == ["20260101T000010Z-o", "20260101T000011Z-o"]


def test_a_census_that_lacks_a_shard_says_so() -> None:
    with _runs(_day(1, 0, shards=2)) as connection:
        assert "only 1 of 2 shards are covered" in report.render(report.ask(connection, "outcomes"), "table")


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        ("2026-01-02", None, [2, 3]),
        (None, "2026-01-02", [1, 2]),
        ("2026-01-02", "2026-01-02", [2]),
        (datetime(2026, 1, 3), None, [3]),
        (None, "2026-01-02T23:59", [1, 2]),
        ("2026-01", "2026", [1, 2, 3]),
    ],
)
def test_runs_of_a_time(since: str | datetime | None, until: str | None, days: list[int]) -> None:
    with _runs(_day(1), _day(2), _day(3)) as connection:
        assert report.select_runs(connection, since, until) == [f"202601{day:02}T000000Z-r0" for day in days]


def test_runs_by_name() -> None:
    with _runs(_day(1), _day(2)) as connection:
        assert report.select_runs(connection, runs=["20260101T000000Z-r0"]) == ["20260101T000000Z-r0"]
        with pytest.raises(QueryError, match=r"no finished run '20260101T000000Z'; did you mean '20260101T000000Z-r0'"):
            report.select_runs(connection, runs=["20260101T000000Z"])
        with pytest.raises(QueryError, match="is not a time; write 2026"):
            report.select_runs(connection, since="yesterday")
        with pytest.raises(QueryError, match="no finished run started from 2027 to now; they are of 2026-01-01"):
            report.select_runs(connection, since="2027")


def test_no_run_is_an_error() -> None:
    with _runs() as connection, pytest.raises(QueryError, match="no finished run to report on"):
        report.ask(connection, "families")


def test_simulated_and_real_runs_never_mix() -> None:
    told = r"'20260102T000000Z-r0' is of a simulated internet and others are real"
    with _runs(_day(1), _day(2, is_simulated=True)) as connection, pytest.raises(QueryError, match=told):
        report.ask(connection, "families")


@pytest.mark.parametrize("format", ["table", "markdown", "json"])
def test_a_simulated_internet_is_no_measurement(format: str) -> None:
    with _runs(_day(1, is_simulated=True)) as simulated, _runs(_day(1)) as real:
        marks = [str(report.render(report.ask(c, "families"), format)) for c in (simulated, real)]
    flag = '"synthetic": true' if format == "json" else formats.SYNTHETIC
    assert [flag in mark for mark in marks] == [True, False]


def test_a_sample_and_the_credits_of_databases_are_told() -> None:
    geo = world.run(world.JANUARY)["geo"][0] | {"attribution": "Places by Somebody"}
    with _runs(_day(1, settings='{"max_targets": "10%"}', geo=[geo]), _day(2, geo=[])) as connection:
        told = report.ask(connection, "countries").footnotes
        silent = report.ask(connection, "families").footnotes
    assert any(note.startswith("Only a sample of the target list") for note in told)
    assert "Places by Somebody" in told and "Places by Somebody" not in silent
    assert any("no geolocation database" in note for note in told)


def test_answer_reads_the_newest_census_of_a_folder(tmp_path: Path) -> None:
    """Two finished runs on disk: server 2 has two models, server 4 has four, and 0 is empty."""
    first, second = "20261101T000000Z-0001", "20261102T000000Z-0002"
    findings.publish(tmp_path, [findings.server(n) for n in (0, 2, 4)], first)
    findings.publish(tmp_path, [findings.server(2), findings.silent(4)], second)
    newest = report.answer(tmp_path, "families")
    assert (newest.runs, newest.facts["hosts"]) == ((second,), 1)
    assert report.answer(tmp_path, "families", since="2026-11").runs == (first, second)
    assert report.answer(tmp_path, "families", runs=[first]).facts["empty_hosts"] == 1
    without = report.answer(tmp_path, "families", ["server=vllm"])
    assert (without.parameters["server"], without.facts["hosts"]) == ("vllm", 0)
    compared = report.answer(tmp_path, "compare", [first, second])
    told = rows(compared, "kind", "reason", "endpoints")
    absent, same = ("not asked again", "absence says nothing", 1), ("same", "nothing differs", 1)
    assert told == [("gone", "connection-timeout", 1), same, absent]
    with pytest.raises(QueryError, match="report 'families' has no use for 'qwen2'"):
        report.answer(tmp_path, "families", ["qwen2"])


# --- asking wrongly ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("codeploiment", {}, "no report 'codeploiment'; did you mean 'codeployment'"),
        ("families", {"by": "linage"}, "'linage' is no choice of --by; did you mean 'lineage'"),
        ("families", {"suspects": "out"}, "'out' is no choice of --suspects"),
        ("families", {"parameters": {"embedings": "x"}}, "no parameter 'embedings'; did you mean 'embeddings'"),
        ("families", {"parameters": {"embeddings": "maybe"}}, "'maybe' is no choice of embeddings"),
        ("countries", {"parameters": {"by": "lineage"}}, "no parameter 'by'"),
        ("compare", {}, "report 'compare' needs 'before'"),
        ("compare", {"parameters": {"before": "x", "after": "y"}}, "no finished run 'x'"),
    ],
)
def test_a_wrong_question_says_what_to_ask(
    name: str, options: dict[str, object], told: str, january: duckdb.DuckDBPyConnection
) -> None:
    with pytest.raises(QueryError, match=re.escape(told)):
        report.ask(january, name, **options)  # type: ignore[arg-type]


def test_what_the_asker_types_is_a_value_and_never_sql(january: duckdb.DuckDBPyConnection) -> None:
    answer = report.ask(january, "families", parameters={"server": "x' OR '1' = '1"})
    assert (answer.facts["hosts"], answer.rows.num_rows) == (0, 0)


# --- headers -------------------------------------------------------------------------------------------------------

GOOD = """-- How many?
-- definition: all of them,
--   wherever they are
-- unit: host
-- denominator: {hosts} hosts
-- weighting: once
-- parameter: server = any | TEXT; which
SELECT count(*) AS hosts FROM host;

SELECT count(*) AS hosts FROM host
"""


def _edited(old: str, new: str) -> Callable[[Path], None]:
    assert old in GOOD
    return lambda folder: (folder / "many.sql").write_text(GOOD.replace(old, new), encoding="utf-8") and None


def test_a_header_is_read(tmp_path: Path) -> None:
    _edited("How", "How")(tmp_path)
    many = report.reports(tmp_path)["many"]
    assert (many.question, many.definition) == ("How many?", "all of them, wherever they are")
    assert many.parameters == (report.Parameter("server", ("any",), "text", "which"),)
    assert report.check(folder=tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("-- How many?", "SELECT 1", "many.sql:1: the first line is the question"),
        ("How many?", "How many", "the first line is the question"),
        ("-- unit: host\n", "", "the header lacks '-- unit: …'"),
        ("-- unit: host", "-- unity: host", "'-- unity: host' is no header line"),
        ("-- unit: host", "-- unit: host\n-- unit: IP", "the header says 'unit' twice"),
        ("{hosts} hosts", "all hosts", "the denominator names no {number}"),
        ("server = any | TEXT; which", "server any", "is not 'name = choice | choice; what it does'"),
        ("FROM host;\n", "FROM host\n", "two statements are needed"),
    ],
)
def test_an_incomplete_header_is_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    _edited(old, new)(tmp_path)
    with pytest.raises(DataError, match=re.escape(told)):
        report.reports(tmp_path)
    assert any(told in problem for problem in report.check(folder=tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("SELECT count(*) AS hosts FROM host\n", "SELECT no_such_column FROM host\n", "no_such_column"),
        ("SELECT count(*) AS hosts FROM host\n", "SELECT 1 AS hosts WHERE $x = 1\n", "uses $x, which no"),
        ("{hosts} hosts", "{nobody} hosts", "names {nobody}, which the first statement does not compute"),
        (
            "-- parameter: server",
            "-- parameter: unused = a | b; x\n-- parameter: server",
            "'unused' is declared and not used",
        ),
    ],
)
def test_check_binds_the_sql(old: str, new: str, told: str, tmp_path: Path) -> None:
    _edited(old, new)(tmp_path)
    assert [told in problem for problem in report.check(folder=tmp_path)] == [True]


def test_all_reports_bind_against_the_schema() -> None:
    assert report.check() == []


def test_every_choice_of_every_parameter_answers(both: duckdb.DuckDBPyConnection) -> None:
    for name, asked in report.reports().items():
        base = RUNS if name == "compare" else {}
        for parameter in asked.parameters:
            for choice in parameter.choices:
                by = choice if parameter.name == "by" else "family_raw"
                answer = report.ask(both, name, parameters={**base, parameter.name: choice}, by=by)
                assert answer.parameters[parameter.name] == choice


# --- formats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_codeployment_byte_for_byte(format: str, january: duckdb.DuckDBPyConnection) -> None:
    assert report.render(report.ask(january, "codeployment"), format) == golden(f"codeployment.{TEXT_FORMATS[format]}")


def test_parquet_carries_its_definition(january: duckdb.DuckDBPyConnection) -> None:
    answer = report.ask(january, "codeployment")
    data = report.render(answer, "parquet")
    assert isinstance(data, bytes) and data == report.render(report.ask(january, "codeployment"), "parquet")
    table = pq.read_table(io.BytesIO(data))
    about = json.loads(table.schema.metadata[b"census"])
    assert table.to_pylist() == answer.rows.to_pylist()
    assert about["runs"] == [world.JANUARY] and about["facts"]["multi_family_hosts"] == 7
    assert about["denominator"].startswith("pair_share, share_a, share_b: 7 hosts")


def test_columns_have_types_that_every_reader_knows(january: duckdb.DuckDBPyConnection) -> None:
    known = {pa.string(), pa.int16(), pa.int32(), pa.int64(), pa.float64()}
    for name in ONE_RUN:
        assert set(report.ask(january, name).rows.schema.types) <= known, name


def test_a_limit_says_what_it_cut(january: duckdb.DuckDBPyConnection) -> None:
    answer = report.ask(january, "codeployment", limit=2)
    assert answer.rows.num_rows == 2
    assert answer.footnotes == ("The first 2 of 5 rows.",)
    assert report.ask(january, "codeployment", limit=5).footnotes == ()


HOSTILE = ["=cmd()", "\x1b[31mred", "a|b", "[x](http://evil)", "\u202eright", "x" * 900, 'quo"te\r\nnew', "<b>&amp;"]


@pytest.fixture(scope="module")
def hostile_world() -> Iterator[duckdb.DuckDBPyConnection]:
    models = [
        world.model(world.JANUARY, 1, i, "llama", family_raw=text, name=f"m{i}") for i, text in enumerate(HOSTILE)
    ]
    tables = {
        "runs": [world.run(world.JANUARY)],
        "hosts": [world.host(world.JANUARY, 1, len(models))],
        "models": models,
    }
    with world.connect(tables) as connection:
        yield connection


@pytest.mark.parametrize("format", ["table", "markdown", "html", "json"])
def test_hostile_names_do_nothing_to_a_terminal(format: str, hostile_world: duckdb.DuckDBPyConnection) -> None:
    text = str(report.render(report.ask(hostile_world, "families"), format))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert len(text.splitlines()) < 120 and (format == "json" or max(map(len, text.splitlines())) < 900)


def test_hostile_names_do_nothing_to_markdown(hostile_world: duckdb.DuckDBPyConnection) -> None:
    text = str(report.render(report.ask(hostile_world, "families"), "markdown"))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {8}
    assert "[x](" not in text and "http://" not in text and "<b>" not in text


def test_hostile_names_do_nothing_to_a_spreadsheet(hostile_world: duckdb.DuckDBPyConnection) -> None:
    text = str(report.render(report.ask(hostile_world, "families"), "csv"))
    table = list(csv.reader(io.StringIO(text, newline="")))
    assert len(table) == 1 + len(HOSTILE) and all(len(row) == 7 for row in table)
    assert {row[1] for row in table[1:]} == {"'=cmd()", *(name.lower() for name in HOSTILE[1:])}
    assert text.endswith("\r\n")


def test_any_table_in_every_format() -> None:
    kinds = {
        "n": [1, None],
        "when": [datetime(2026, 1, 1), None],
        "raw": [b"\x00\xff", None],
        "list": [["a", "\x1b"], None],
    }
    table = pa.table({**kinds, "share": [0.123456, float("nan")]})
    text = str(formats.table(table, "table"))
    assert text.splitlines()[2].split() == ["1", "2026-01-01T00:00:00Z", "00ff", '["a",', '"\\u001b"]', "0.123456"]
    assert json.loads(formats.table(table, "json"))[1]["share"] == "nan"
    assert str(formats.table(table, "csv")).splitlines()[2] == ",,,,nan"
    assert str(formats.table(table, "markdown")).count("\n") == 4
    read = pq.read_table(io.BytesIO(formats.table(table, "parquet")))  # type: ignore[arg-type]
    assert read.column("list").to_pylist() == [["a", "\x1b"], None]


def test_sums_are_numbers_and_no_column_is_lost() -> None:
    sql = "SELECT sum(i) AS a, -1.50 AS a, -i AS a_1, '-1' AS text FROM range(1, 4) AS t(i) GROUP BY i ORDER BY i"
    with duckdb.connect() as connection:
        table = connection.sql(sql).to_arrow_table()
    assert json.loads(formats.table(table, "json"))[1] == {"a": 2, "a_2": -1.5, "a_1": -2, "text": "-1"}
    assert str(formats.table(table, "csv")).splitlines()[:2] == ["a,a_2,a_1,text", "1,-1.50,-1,'-1"]
    assert str(formats.table(table, "table")).splitlines()[2].split() == ["1", "-1.50", "-1", "-1"]
    read = pq.read_table(io.BytesIO(formats.table(table, "parquet")))  # type: ignore[arg-type]
    assert read.column_names == ["a", "a_2", "a_1", "text"]


def test_a_number_in_csv_gets_no_apostrophe() -> None:
    table = pa.table({"n": [-1.5, float("-inf")], "text": ["-1.5", "=1"]})
    assert str(formats.table(table, "csv")).splitlines()[1:] == ["-1.5,'-1.5", "-inf,'=1"]


@pytest.mark.parametrize(("sql", "format"), [("INTERVAL 1 DAY", "parquet"), ("DATE '294247-01-10'", "json")])
def test_a_value_that_a_format_has_no_type_for_is_told(sql: str, format: str) -> None:
    with duckdb.connect() as connection:
        table = connection.sql(f"SELECT {sql} AS x").to_arrow_table()
    with pytest.raises(QueryError, match=f"{format} cannot hold this: .* cast the column to VARCHAR"):
        formats.table(table, format)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two finished runs, the first of them damaged."""
    damaged = findings.publish(tmp_path, [findings.server(1)]) / "hosts" / "part-0000.parquet"
    findings.publish(tmp_path, [findings.server(2)], "20261123T080000Z-0001")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    return tmp_path


def test_a_damaged_run_is_left_out_of_an_answer_with_a_note(two: Path) -> None:
    said: list[str] = []
    answer = report.answer(two, "outcomes", since="2026", say=said.append)
    assert answer.runs == ("20261123T080000Z-0001",)
    assert said[0].startswith(f"{findings.RUN} is left out") and answer.footnotes[0].startswith(
        f"Damaged: {findings.RUN} is left out"
    )


def test_a_run_asked_for_by_name_is_answered_from_alone(two: Path) -> None:
    said: list[str] = []
    answer = report.answer(two, "outcomes", runs=["20261123T080000Z-0001"], say=said.append)
    assert (answer.runs, said) == (("20261123T080000Z-0001",), [])
    assert not [note for note in answer.footnotes if "Damaged" in note]
    with pytest.raises(SnapshotError, match="damaged: "):
        report.answer(two, "outcomes", runs=[findings.RUN])
    with pytest.raises(SnapshotError, match=f"no finished run x; there are: {findings.RUN}"):
        report.answer(two, "outcomes", runs=["x"])


def test_wide_characters_stay_aligned() -> None:
    text = str(formats.table(pa.table({"name": ["模型", "ab"], "n": [1, 22]}), "table"))
    assert text.splitlines() == ["name   n", "────  ──", "模型   1", "ab    22"]
