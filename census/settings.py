"""Settings beside the command line: what a settings file and environment variables may say.

Both are held against the options that the commands have: a name that none has is refused, so that no slip of the pen
is a setting that silently does nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from census.choices import GEO_VARIABLE

PREFIX = "CENSUS"
"""What the names of our environment variables begin with."""

ALIKE = 0.8
"""How alike the name of a variable must be to be suggested (0 to 1): all begin alike."""

NOT_OURS = frozenset({"CENSUS_API_KEY"})
"""Variables of others that share our prefix: the key to the data of the United States' Census Bureau."""


def flag(option: click.Option) -> str:
    """The long name of an option, without dashes."""
    return max(option.opts, key=len).lstrip("-")


def read_file(root: click.Group, path: Path) -> dict[str, Any]:
    """click's default map from a TOML file with one table for each command, `[geo.install]` for one below a command.

    Raises click.UsageError for a file that cannot be read, and for a command or option that is not there.
    """
    import tomllib

    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise click.UsageError(f"{path}: {problem}") from None
    for name, table in settings.items():
        if name not in root.commands or not isinstance(table, dict):
            raise click.UsageError(f"{path}: [{name}] is not a command of census{_nearest(name, root.commands)}")
    return {name: _defaults(path, name, root.commands[name], table) for name, table in settings.items()}


def _defaults(path: Path, place: str, command: click.Command, table: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of one command, and of those below it, by the names that click has for them."""
    below = command.commands if isinstance(command, click.Group) else {}
    names = {flag(option): str(option.name) for option in _options(command)}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key in below and isinstance(value, dict):
            found[key] = _defaults(path, f"{place}.{key}", below[key], value)
        elif key in names:
            found[names[key]] = value
        else:
            known = ", ".join(sorted([*names, *(f"[{place}.{name}]" for name in below)])) or "none"
            raise click.UsageError(f"{path}: [{place}] has no option {key!r}; it knows {known}")
    return found


def require_known(root: click.Group, environment: Iterable[str]) -> None:
    """Raises click.UsageError for the first variable that begins with `CENSUS_` and sets no option."""
    known = {GEO_VARIABLE, *variables(root)}
    for name in sorted(environment):
        if name.startswith(f"{PREFIX}_") and name not in known | NOT_OURS:
            raise click.UsageError(
                f"{name} in the environment sets no option of census{_nearest(name, known, ALIKE)}; "
                "CENSUS_SCAN_RATE is --rate of census scan, and so on: rename it or unset it"
            )


def variables(command: click.Command, prefix: str = PREFIX) -> Iterator[str]:
    """The environment variable of every option of a command and of those below it, as click forms their names."""
    yield from (f"{prefix}_{option.name}".upper() for option in _options(command) if option.allow_from_autoenv)
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from variables(child, f"{prefix}_{name}".upper().replace("-", "_"))


def _options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def _nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    near = difflib.get_close_matches(name, list(known), 1, alike)
    return f"; did you mean {near[0]}?" if near else ""
