"""The documents are true: generated pages are as the code makes them, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from census import report
from census.cli import main
from tests.conftest import Census
from tests.pages import DOCS, PAGES

ROOT = DOCS.parent
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_as_the_code_makes_it(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


EXAMPLE = re.compile(r"<!-- example: census report (\w+) --limit (\d+) -->\n```text\n(.*?)```", re.DOTALL)


def _without_run(text: str) -> str:
    return re.sub(r"(?m)^runs .*$", "runs", text).strip()


def test_the_example_in_the_readme_is_what_the_command_prints(census_of_the_world: Census) -> None:
    """But for the run's name, which has the time in it."""
    name, limit, shown = EXAMPLE.search((ROOT / "README.md").read_text(encoding="utf-8")).groups()  # type: ignore[union-attr]
    printed = report.render(report.answer(census_of_the_world.out, name, (), limit=int(limit)), "table")
    assert _without_run(shown) == _without_run(str(printed))


def _commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.sub(r"^\$ ", "", line).split(" | ")[-1].split(" > ")[0] for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in found if line.startswith("census ")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_documents_exist(path: Path) -> None:
    for words in _commands(path.read_text(encoding="utf-8")):
        command: click.Command = main
        context = click.Context(main)
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            child = command.get_command(context, words[0])
            assert child is not None, f"census {' '.join(words)}"
            command, words = child, words[1:]
        known = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h", "--version"}
        assert {w.split("=")[0] for w in words if w.startswith("-") and w != "-"} <= known, words


def test_every_document_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md")) if path.name != "index.md"]
    assert [page for page in pages if f"({page})" not in index] == []
