"""Servers nobody here wrote, scanned with `census scan`: server, version and models must be right."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real import servers

heavy = pytest.mark.skipif(not os.environ.get("HEAVY"), reason="gigabytes of wheels: make test-real HEAVY=1")

COLUMNS = (
    "server, server_version, auth, rule, n_models, list(name order by position) filter (name is not null) as models"
)


def _census(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "census", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _rows(query: str, folder: Path) -> list[dict[str, Any]]:
    return list(json.loads(_census("sql", query, "--format", "json", folder=folder)))


def scan(port: int, folder: Path) -> dict[str, Any]:
    """Scan one endpoint of loopback and return its host row with the names of its models."""
    (folder / "targets.txt").write_text(f"127.0.0.1:{port}\n")
    _census("scan", "targets.txt", "--allow-private", "--connect-timeout", "10", "--read-timeout", "15", folder=folder)
    _census("verify", folder=folder)
    rows = _rows(f"select {COLUMNS} from hosts left join models using (run_id, ip, port, domain) group by all", folder)
    assert len(rows) == 1, rows
    return dict(rows[0])


def test_llama_server(tmp_path: Path) -> None:
    model = servers.tiny_models() / "tiny.gguf"
    with servers.llama_server("-m", str(model)) as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"]) == ("llama-cpp", "open")
    assert re.fullmatch(r"b\d+(-\w+)?", host["server_version"])
    assert host["models"] == [str(model)]


def test_llama_server_metadata(tmp_path: Path) -> None:
    model = servers.tiny_models() / "tiny.gguf"
    with servers.llama_server("-m", str(model), "--alias", "qwen3-8b-q4_k_m") as port:
        scan(port, tmp_path)
    query = "select name, params_b, n_vocab, context_length, brand_family, size_bytes from models"
    (row,) = json.loads(_census("sql", query, "--format", "json", folder=tmp_path))
    assert row["name"] == "qwen3-8b-q4_k_m"
    assert (row["n_vocab"], row["context_length"]) == (288, 2048)
    assert 0.0001 < row["params_b"] < 0.0002, "the count the server gives outweighs what the alias claims"


def test_llama_server_with_a_key(tmp_path: Path) -> None:
    model = servers.tiny_models() / "tiny.gguf"
    with servers.llama_server("-m", str(model), "--api-key", "secret") as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"], host["n_models"]) == ("llama-cpp", "key-required", None)


def test_llama_server_as_a_router(tmp_path: Path) -> None:
    with servers.llama_server("--models-dir", str(servers.tiny_models())) as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"]) == ("llama-cpp", "open")
    assert host["models"] and any("tiny" in name for name in host["models"])


def test_ollama_without_models(tmp_path: Path) -> None:
    with servers.ollama(tmp_path / "home") as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["server_version"], host["auth"]) == ("ollama", servers.OLLAMA, "open")
    assert (host["n_models"], host["models"]) == (0, None)


def test_ollama(tmp_path: Path) -> None:
    """The server that most of the world's open ones are: every fact, no doubt, and no more requests than promised."""
    with servers.ollama(tmp_path / "home", "qwen3-mine:8b", "someone/tiny") as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["server_version"]) == ("ollama", servers.OLLAMA)
    assert sorted(host["models"]) == ["qwen3-mine:8b", "someone/tiny:latest"]
    (sure,) = _rows(
        "select suspect, suspect_reasons, n_running, installation is not null as marked from hosts", tmp_path
    )
    assert sure == {"suspect": 0, "suspect_reasons": [], "n_running": 1, "marked": True}
    query = "select family_raw, context_length, capabilities, params_b, is_running, is_remote from models order by name"
    facts = {"family_raw": "llama", "context_length": 2048, "capabilities": ["completion"], "is_remote": False}
    listed, loaded = _rows(query, tmp_path)
    assert listed == facts | {"params_b": 0.000119, "is_running": False}
    assert loaded == facts | {"params_b": 0.000119, "is_running": True}
    assert len(_rows("from replies", tmp_path)) <= 4


def test_mlx_lm(tmp_path: Path) -> None:
    with servers.mlx_lm() as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"]) == ("mlx-lm", "open")
    assert host["models"] == [str(servers.tiny_models() / "tiny-hf")]


@heavy
def test_infinity(tmp_path: Path) -> None:
    with servers.infinity() as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"]) == ("infinity", "open")
    assert [name.rpartition("/")[2] for name in host["models"]] == ["tiny-bert"]


@heavy
def test_xinference_as_it_comes(tmp_path: Path) -> None:
    with servers.xinference(tmp_path / "home") as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"], host["n_models"]) == ("xinference", "key-required", None)


def test_fastchat_without_a_worker(tmp_path: Path) -> None:
    """An empty `{"object":"list","data":[]}` names no program: the generic server, and no invented one."""
    with servers.fastchat() as port:
        host = scan(port, tmp_path)
    assert host["server"] in ("fastchat", "openai-compatible")
    assert (host["auth"], host["n_models"]) == ("open", 0)


def test_litellm(tmp_path: Path) -> None:
    with servers.litellm(key=None) as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"], host["models"]) == ("litellm", "open", ["tiny-model"])


def test_litellm_with_a_key(tmp_path: Path) -> None:
    with servers.litellm(key=f"sk-{secrets.token_hex(16)}") as port:
        host = scan(port, tmp_path)
    assert (host["server"], host["auth"], host["n_models"]) == ("litellm", "key-required", None)


def test_two_servers_in_one_scan(tmp_path: Path) -> None:
    model = servers.tiny_models() / "tiny.gguf"
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(servers.llama_server("-m", str(model))) for _ in range(2)]
        (tmp_path / "targets.txt").write_text("".join(f"127.0.0.1:{port}\n" for port in ports))
        _census("scan", "targets.txt", "--allow-private", folder=tmp_path)
    rows = json.loads(_census("sql", "select port, server from hosts", "--format", "json", folder=tmp_path))
    assert sorted((row["port"], row["server"]) for row in rows) == sorted((port, "llama-cpp") for port in ports)
