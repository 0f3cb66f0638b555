"""The command line as a person meets it: what is printed where, exit codes, settings, and errors that say what now."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from census import errors, settings
from census.cli import main
from tests.conftest import Census


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CENSUS_GEO", str(tmp_path / "no-databases"))
    return tmp_path


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin, catch_exceptions=False)


def test_a_bad_line_names_file_line_and_the_nearest_right_form(folder: Path) -> None:
    (folder / "targets.txt").write_text("127.0.0.1\n10.0.0.300\n")
    result = run("scan", "targets.txt")
    assert result.exit_code == errors.TargetError.exit_code
    assert "targets.txt:2: '10.0.0.300'" in result.stderr
    assert result.stdout == ""


def test_a_list_of_excluded_networks_says_why_nothing_is_asked(folder: Path) -> None:
    (folder / "targets.txt").write_text("127.0.0.1\n203.0.113.0/29\n")
    result = run("scan", "targets.txt")
    assert result.exit_code == errors.TargetError.exit_code
    assert "8 (RFC 5737 documentation), 1 (RFC 1122 loopback)" in result.stderr
    assert "--allow-private" in result.stderr


def test_a_missing_contact_is_asked_for(folder: Path) -> None:
    (folder / "targets.txt").write_text("2600::1\n")
    result = run("scan", "targets.txt")
    assert result.exit_code == errors.ContactError.exit_code
    assert "--contact" in result.stderr


def test_no_targets_is_a_usage_error(folder: Path) -> None:
    assert run("scan").exit_code == 2


def test_a_dry_run_prints_the_plan_and_sends_nothing(folder: Path) -> None:
    result = run("scan", "-", "--dryrun", "--contact", "mailto:me@example.org", stdin="2600::/64\n# a comment\n")
    assert result.exit_code == 0
    assert f"targets            {2**64}" in result.stdout
    assert "  GET /api/tags" in result.stdout
    assert list(folder.iterdir()) == []


def test_settings_come_from_a_file_then_the_environment_then_the_command_line(folder: Path) -> None:
    (folder / "census.toml").write_text('[scan]\nrate = 7\ncontact = "mailto:me@example.org"\n')

    def pace(*more: str) -> str:
        result = run("scan", "-", "--dryrun", *more, stdin="2600::1\n")
        return next(line for line in result.stdout.splitlines() if line.startswith("pace"))

    assert " 7 new connections" in pace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CENSUS_SCAN_RATE", "8")
        assert " 8 new connections" in pace()
        assert " 9 new connections" in pace("--rate", "9")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[scan]\nrat = 3\n", "[scan] has no option 'rat'"),
        ("[scna]\nrate = 3\n", "[scna] is not a command"),
        ("[scna]\nrate = 3\n", "did you mean scan?"),
        ("rate = 3\n", "[rate] is not a command"),
        ("[geo]\nfolder = 'x'\n", "[geo] has no option 'folder'; it knows [geo.install], [geo.status]"),
        ("[geo.install]\nfodler = 'x'\n", "[geo.install] has no option 'fodler'; it knows folder"),
        ("[geo.instal]\nfolder = 'x'\n", "[geo] has no option 'instal'"),
        ("[scan.rate]\nvalue = 3\n[geo]\ninstall = 3\n", "[geo] has no option 'install'"),
        ("[runs.all]\noutput = 'x'\n", "[runs] has no option 'all'"),
        ("[scan\n", "census.toml"),
    ],
)
def test_a_wrong_settings_file_is_refused(folder: Path, text: str, words: str) -> None:
    (folder / "census.toml").write_text(text)
    result = run("runs")
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize(
    "option",
    [("-r", "nan"), ("-r", "inf"), ("-e", "9" * 30), ("--geo-db", "nowhere"), ("-s", "100000000"), ("--contact", "me")],
)
def test_what_cannot_run_is_refused_before_a_run_is_begun(folder: Path, option: tuple[str, str]) -> None:
    (folder / "targets.txt").write_text("127.0.0.1\n")
    result = run("scan", "targets.txt", "--allow-private", "-p", "9", *option)
    assert result.exit_code not in (0, 1)
    assert run("runs").stdout == ""


@pytest.mark.parametrize("option", ["--rate=5", "--dryrun", "-b=x", "-n=1", "targets.txt"])
def test_a_resumed_run_takes_no_other_settings(folder: Path, option: str) -> None:
    result = run("scan", "--resume", "last", option)
    assert result.exit_code == 2
    assert "cannot be given with it" in result.stderr


def test_every_option_has_the_environment_variable_of_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "blocked.txt").write_text("127.0.0.0/8\n")
    monkeypatch.setenv("CENSUS_SCAN_BLOCKLIST_FILE", "blocked.txt")
    result = run("scan", "-", "--allow-private", "--dryrun", stdin="127.0.0.1\n")
    assert "nothing left to ask" in result.stderr


def _options(command: click.Command, path: str = "census") -> Iterator[tuple[str, click.Option]]:
    yield from ((path, option) for option in command.params if isinstance(option, click.Option))
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _options(child, f"{path} {name}")


@pytest.mark.parametrize(("path", "option"), list(_options(main)), ids=lambda part: getattr(part, "name", None))
def test_an_option_has_one_name_everywhere(path: str, option: click.Option) -> None:
    """So the variable and the key of census.toml are what a reader of the help expects."""
    assert settings.flag(option).replace("-", "_") == option.name


def test_click_and_we_agree_on_the_name_of_every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    known = list(settings.variables(main))
    for path, option in _options(main):
        prefix = path.upper().replace(" ", "_")
        context = click.Context(click.Command("any"), auto_envvar_prefix=prefix)
        variable = f"{prefix}_{option.name}".upper()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, "7")
            assert (option.resolve_envvar_value(context) == "7") is (variable in known), variable


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CENSUS_SCAN_RAET", "did you mean CENSUS_SCAN_RATE?"),
        ("CENSUS_SIMULATE_POPULATION_HOST", "did you mean CENSUS_SIMULATE_POPULATION_HOSTS?"),
        ("CENSUS_VERSION", "sets no option"),
        ("CENSUS_HELP", "sets no option of census; CENSUS_SCAN_RATE is"),
    ],
)
def test_an_unknown_variable_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.setenv(name, "1")
    result = run("runs")
    assert result.exit_code == 2
    assert f"{name} in the environment" in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize("name", ["CENSUS_GEO", "CENSUS_API_KEY", "CENSUSTAKER", "CENSUS_REPORT_RUN"])
def test_a_variable_that_means_something_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, str(folder))
    assert run("runs").exit_code == 0


def test_a_command_below_a_command_has_its_table_and_its_variables(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places of `geo install`, told by the error that names the folder, for none can be made below a file."""
    (folder / "file").touch()
    monkeypatch.setenv("PATH", str(folder))
    (folder / "npm").write_text("#!/bin/sh\n")
    (folder / "npm").chmod(0o755)
    (folder / "census.toml").write_text('[geo.install]\nfolder = "file/in-the-toml"\n')
    assert "file/in-the-toml" in run("geo", "install").stderr
    monkeypatch.setenv("CENSUS_GEO_INSTALL_FOLDER", "file/in-the-environment")
    assert "file/in-the-environment" in run("geo", "install").stderr
    assert "file/on-the-line" in run("geo", "install", "--folder", "file/on-the-line").stderr


HEAVY = ("duckdb", "pyarrow", "pandas", "aiohttp", "numpy", "rich", "cryptography", "mmdb_writer", "asyncio", "ssl")


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        (["--version"], ()),
        (["--help"], ()),
        (["scan", "--help"], ()),
        (["report", "--help"], ()),
        (["simulate", "population", "--help"], ()),
        (["classify", "qwen2.5:7b"], ()),
        (["completion", "bash"], ("asyncio", "ssl")),
        (["geo", "status"], ()),
    ],
    ids=lambda part: " ".join(part) or "nothing",
)
def test_a_command_loads_what_it_needs_and_no_more(folder: Path, arguments: list[str], also: tuple[str, ...]) -> None:
    code = "import sys; from census.cli import main; main(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "census.cli" in loaded
    assert sorted(loaded & set(HEAVY) - set(also)) == []


def test_nothing_to_resume_is_an_error(folder: Path) -> None:
    result = run("scan", "--resume", "last")
    assert result.exit_code == 2
    assert "no unfinished run" in result.stderr


def test_every_kind_of_error_has_an_exit_code_of_its_own() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)


def test_reports_are_listed(folder: Path) -> None:
    assert "codeployment" in run("report").stdout


def test_an_unknown_report_is_refused(census_of_the_world: Census) -> None:
    result = run("report", "codeploymnet", "-o", str(census_of_the_world.out))
    assert result.exit_code == errors.QueryError.exit_code
    assert "codeployment" in result.stderr


def test_compare_is_the_report_of_that_name(census_of_the_world: Census) -> None:
    """With every option of `report`, named or in order, and nothing of its own."""
    one, asked = census_of_the_world.run.name, ("-o", str(census_of_the_world.out), "--format", "json", "--limit", "3")
    short = run("compare", one, one, *asked)
    long = run("report", "compare", f"before={one}", f"after={one}", *asked)
    assert json.loads(short.stdout)["rows"] and short.stdout == long.stdout
    flags = [
        [flag for option in main.commands[name].params for flag in option.opts if flag.startswith("-")]
        for name in ("compare", "report")
    ]
    assert flags[0] == flags[1]


def test_sql_answers_in_json(census_of_the_world: Census) -> None:
    sql = "select server, count(*) as n from hosts group by all order by n desc, server limit 1"
    result = run("sql", sql, "-o", str(census_of_the_world.out), "--format", "json")
    assert json.loads(result.stdout)[0]["server"] == "ollama"


@pytest.mark.parametrize(
    "statement",
    ["drop view hosts", "copy hosts to 'x.csv'", "attach 'x.db'", "install httpfs", "select * from '/etc/passwd'"],
)
def test_sql_only_reads_the_runs(census_of_the_world: Census, statement: str) -> None:
    result = run("sql", statement, "-o", str(census_of_the_world.out))
    assert result.exit_code == errors.QueryError.exit_code
    assert result.stdout == ""


def test_a_database_file_works_for_any_duckdb_client(folder: Path, census_of_the_world: Census) -> None:
    result = run("db", "census.duckdb", "-o", str(census_of_the_world.out))
    assert result.exit_code == 0
    import duckdb

    with duckdb.connect(str(folder / "census.duckdb"), read_only=True) as connection:
        assert connection.sql("select count(*) from hosts").fetchall()[0][0] > 300


def test_verify_names_what_is_whole(census_of_the_world: Census) -> None:
    result = run("verify", "-o", str(census_of_the_world.out))
    assert result.exit_code == 0
    assert f"{census_of_the_world.run.name}: whole" in result.stderr


def test_the_gate_over_data_and_schemas_is_open() -> None:
    result = run("check")
    assert result.exit_code == 0, result.stderr
    assert "GET /api/tags" in result.stdout


def test_a_reader_who_leaves_early_gets_no_traceback(census_of_the_world: Census) -> None:
    command = f"{sys.executable} -m census sql 'from replies' -o {census_of_the_world.out} | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stderr == ""


def test_completion_is_printed_for_each_shell() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_CENSUS_COMPLETE" in run("completion", shell).stdout


# --- Who does not read ------------------------------------------------------------------------------------------------


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_scan_goes_on_when_nobody_reads_what_it_says(folder: Path, unread: int, workers: str) -> None:
    (folder / "targets.txt").write_text("".join(f"127.0.{i}.9\n" for i in range(20)))
    with socket.socket() as closed:
        closed.bind(("0.0.0.0", 0))
        words = ["scan", "targets.txt", "--allow-private", "-p", str(closed.getsockname()[1]), "--workers", workers]
        command = [sys.executable, "-m", "census", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=unread, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.split() == [path.name for path in (folder / "census-data" / "runs").iterdir()]


def test_an_error_nobody_reads_keeps_its_exit_code(folder: Path, unread: int) -> None:
    done = subprocess.run([sys.executable, "-m", "census", "scan"], stderr=unread, timeout=60)
    assert done.returncode == errors.UsageError.exit_code


def test_data_nobody_reads_is_no_error(folder: Path, unread: int) -> None:
    command = [sys.executable, "-m", "census", "check"]
    done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_pipe_that_breaks_is_no_success(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("census.scan.load_targets", broken)
    result = run("scan", "targets.txt")
    assert (result.exit_code, result.stderr) == (1, "census: [Errno 32] Broken pipe\n")
