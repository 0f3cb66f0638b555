"""The generated pages of docs/: `python -m tests.pages` writes them, `test_docs.py` fails when they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from census import check, inference, report, schema
from census.cli import main
from census.identify import Rules
from census.model import Outcome
from census.suspect import Suspicions

STOPPED = ("| 130 | A second Ctrl-C stopped the scan at once. |", "| 143 | A second SIGTERM did. |")
SETTINGS = """\
## Settings

From the command line first, then from environment variables, then from `census.toml` in the working directory (or
`--config FILE`). An option has one name in all three; in the environment it stands behind `CENSUS_` and its command,
in the file below its command:

```sh
census scan targets.txt --rate 100
CENSUS_SCAN_RATE=100 census scan targets.txt
```

```toml
[scan]
rate = 100
contact = "mailto:me@example.org"

[geo.install]
folder = "databases"
```

A command, an option or a variable `CENSUS_…` that census does not have is refused, with the nearest that it has. Of no
option, and known: `CENSUS_GEO`, the folder of geolocation databases. `CENSUS_API_KEY` belongs
to others and is left alone.
"""
DECISIONS = "## Decisions, each with its reasons and figures"
DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTE = "<!-- Written by `make docs`; edit the source it names, not this page. -->\n"


def cli_page() -> str:
    """Every command with its help, as click prints it."""
    parts = [NOTE, "# The command line\n", "Source: `census/cli.py`.\n", SETTINGS]
    parts += _commands("census", main, None)
    parts.append("## Exit codes\n\n" + _exit_codes())
    return "\n".join(parts)


def _commands(name: str, command: click.Command, parent: click.Context | None) -> list[str]:
    shape: dict[str, Any] = {"max_content_width": 110, "terminal_width": 110, "help_option_names": ["-h", "--help"]}
    context = click.Context(command, info_name=name.split()[-1], parent=parent, **shape)
    parts = [f"## {name}\n", f"```text\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            parts += _commands(f"{name} {child}", command.commands[child], context)
    return parts


def _exit_codes() -> str:
    from census import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CensusError)]
    rows = [f"| {kind.exit_code} | {(kind.__doc__ or '').splitlines()[0]} |" for kind in kinds]
    head = ["| code | meaning |", "|---|---|", "| 0 | Done; also when nothing was found. |"]
    return "\n".join([*head, *rows, *STOPPED, ""])


def outcomes_page() -> str:
    """The closed list of outcomes, from the docstrings beside them."""
    import ast
    import inspect

    body = ast.parse(inspect.getsource(Outcome)).body[0]
    assert isinstance(body, ast.ClassDef)
    rows, name = [], ""
    for node in body.body[1:]:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            name = str(node.value.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            rows.append(f"| `{name}` | {node.value.value} |")
    words = "Every target asked has exactly one; the words are zgrab2's. Source: `census/model.py`.\n"
    return "\n".join([NOTE, "# Outcomes\n", words, "| outcome | meaning |", "|---|---|", *rows, ""])


def servers_page() -> str:
    """Every server program the census knows, and every question it may send."""
    rules = Rules.load()
    parts = [NOTE, "# Servers\n", "Source: `data/servers/`. `docs/add-a-server.md` says how to add one.\n"]
    parts += ["| id | name | ports | rules | examples |", "|---|---|---|---|---|"]
    for server in sorted(rules.servers.values(), key=lambda s: s.id):
        ports = ", ".join(map(str, server.ports))
        examples = sum(example.is_it for example in server.examples), sum(not e.is_it for e in server.examples)
        shown = f"{examples[0]} it, {examples[1]} look-alikes"
        parts.append(f"| `{server.id}` | [{server.name}]({server.home}) | {ports} | {len(server.rules)} | {shown} |")
    parts += ["", "## What may be sent, and nothing else\n", f"```text\n{check.plan()}\n```", ""]
    return "\n".join(parts)


def suspicion_page() -> str:
    """Every reason to doubt a host."""
    known = Suspicions.load()
    rows = [
        f"| `{r.id}` | {r.strength} | {', '.join(sorted(r.servers)) or 'any'} | {r.about} | {r.source} |"
        for r in known.reasons
    ]
    rows += [f"| `{r.id}` | {r.strength} | any | {r.about} | {r.source} |" for r in known.together]
    words = "A doubt never removes a host: reports count with and without. Source: `data/suspicion.toml`.\n"
    head = ["| reason | strength | of claims to be | what it means | source |", "|---|---|---|---|---|"]
    return "\n".join([NOTE, "# Reasons to doubt a host\n", words, *head, *rows, ""])


def index_page() -> str:
    """The index as it stands, with every decision listed by its title."""
    head, _, _ = (DOCS / "index.md").read_text(encoding="utf-8").partition(DECISIONS)
    files = sorted((DOCS / "decisions").glob("*.md"))
    titles = [(path.name, path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")) for path in files]
    return head + DECISIONS + "\n\n" + "".join(f"- [{title}](decisions/{name})\n" for name, title in titles)


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "estimates.md": inference.estimates_page,
    "index.md": index_page,
    "outcomes.md": outcomes_page,
    "reports.md": report.reports_page,
    "servers.md": servers_page,
    "suspicion.md": suspicion_page,
    "tables.md": schema.tables_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
