"""The shape of the house: which file may know which, and what no file may do."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "census").rglob("*.py"))

NOUNS = {"model", "hostile", "errors", "resources", "choices"}
"""What any file may import: nouns and their helpers."""

STAGES = {"targets", "pace", "probe", "identify", "families", "suspect", "locate", "snapshot", "query", "report"}

ALSO = {
    "targets": {"exclusions", "target_lines", "intervals"},
    "exclusions": {"target_lines", "intervals"},
    "target_lines": {"intervals"},
    "optouts": {"exclusions", "target_lines"},
    "probe": {"wire"},
    "classify": {"families"},
    "rows": {"schema"},
    "blocks": {"rows", "manifest", "disk"},
    "publishing": {"blocks", "schema", "manifest", "disk", "duck"},
    "snapshot": {"publishing", "blocks", "rows", "schema", "manifest", "disk"},
    "rederive": {"snapshot", "publishing", "blocks", "rows", "schema", "manifest", "disk", "duck"},
    "verification": {"publishing", "schema", "manifest", "duck"},
    "identify": {"server_files", "replies"},
    "server_files": {"server_toml", "conditions", "replies"},
    "conditions": {"server_toml", "replies"},
    "families": {"taxonomy", "names"},
    "taxonomy": {"names"},
    "manifest": {"schema", "duck"},
    "query": {"schema", "manifest", "duck"},
    "report": {"formats", "query", "schema", "duck", "summaries"},
    "summaries": {"manifest", "schema", "duck"},
    "inference": {"estimators", "formats", "study", "report", "query", "summaries", "manifest", "schema", "duck"},
    "study": {"formats", "report", "query", "summaries", "manifest", "schema", "duck"},
}
"""What a file may import beside the nouns: the probe rests on the wire; storage, queries and reports on each other."""

AT_THE_DOOR = NOUNS | {"settings", "__version__", "__main__"}
"""What the command line may import before it knows the command: a stage is imported by the command that needs it."""

JOINERS = {"scan", "crew", "derive", "explain", "cli", "check", "__main__", "simulate"}
"""The corridor and its processes, the second reading, the account, the command line, the gate over data/, the
simulated internet."""

EDGES = {
    *("0.0.0.1", "1.0.0.0", "9.255.255.255", "11.0.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255"),
    *("192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.100", "192.0.1.0", "8.8.8.8", "9.9.9.9"),
}
"""Addresses that tests of exclusions and parsing name: edges of special-purpose networks, and public resolvers."""

SOCKETS = {"wire", "simulate"}
"""Only the wire, which the probe alone knows, talks to targets; the simulated internet listens."""


def _place(path: Path) -> str:
    parts = path.relative_to(ROOT / "census").with_suffix("").parts
    return parts[0]


def _imports(path: Path) -> set[str]:
    """What a file imports anywhere: at its top, inside functions, and for its annotations alone."""
    return _imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def _imported(nodes: Iterable[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def _ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in _imports(path) if name.startswith("census.") and len(name) > 7}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_stage_imports_nouns_and_nothing_else_of_ours(path: Path) -> None:
    place = _place(path)
    if place in JOINERS or place == "__init__":
        return
    allowed = NOUNS | ALSO.get(place, set()) | {place}
    unknown = _ours(path) - allowed - {"__version__"}
    assert not unknown, f"{place} imports {sorted(unknown)}"


def test_the_command_line_imports_no_stage_before_it_knows_the_command() -> None:
    tree = ast.parse((ROOT / "census" / "cli.py").read_text(encoding="utf-8"))
    at_once = _imported([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)])
    assert {name.split(".")[1] for name in at_once if name.startswith("census.")} <= AT_THE_DOOR


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_probe_opens_connections(path: Path) -> None:
    if _place(path) in SOCKETS:
        return
    assert "wire" not in _ours(path) or _place(path) == "probe"
    assert not _imports(path) & {"ssl", "aiohttp", "urllib.request", "http.client", "requests", "httpx"}
    text = path.read_text(encoding="utf-8")
    openers = ("socket.socket", "create_connection", "open_connection", "getaddrinfo", "gethostby", "sock_connect")
    assert [word for word in openers if word in text] == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_begins_by_saying_what_may_live_in_it(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert (docstring and docstring[0].isupper()) or (docstring and docstring.startswith("`"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare


def test_every_stage_is_in_the_map() -> None:
    text = (ROOT / "census" / "__init__.py").read_text(encoding="utf-8")
    assert [stage for stage in sorted(STAGES) if f"\n    {stage} " not in text] == []


def test_no_address_of_a_real_host() -> None:
    """Documents, data and tests name only addresses that can belong to nobody's server."""
    import ipaddress
    import re

    shapes = re.compile(r"(?<![\d.\w])(\d{1,3}(?:\.\d{1,3}){3})(?![\d.]|/\d)")
    found = []
    for path in [p for f in ("census", "data", "docs", "tests", "schemas") for p in (ROOT / f).rglob("*")]:
        if path.suffix not in {".py", ".toml", ".md", ".sql", ".txt", ".csv", ".json"}:
            continue
        for text in shapes.findall(path.read_text(encoding="utf-8", errors="replace")):
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                continue
            if address.is_global and not address.is_multicast and text not in EDGES:
                found.append(f"{path.relative_to(ROOT)}: {text}")
    assert not found, found
