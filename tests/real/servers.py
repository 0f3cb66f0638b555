"""Real servers from package registries, started on loopback with the tiny models and stopped by their process.

What is downloaded and built is kept in `.cache/real`; a registry that cannot be reached skips its server, loudly.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "real"

START_TIMEOUT = 180.0
"""Seconds a server may take until it answers; Python servers import for a long time on a busy machine."""

NOWHERE = "http://127.0.0.1:9"
"""A proxy where nobody listens: the way out for whatever a server would ask outside this machine."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "OLLAMA_NO_CLOUD": "1",
    "HTTP_PROXY": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "NO_PROXY": "127.0.0.1,localhost",
}
"""No server started here may look for anything outside this machine."""

OLLAMA = "0.32.15"
"""Its release of 2026-08-19: written in Go but for the two programs of llama.cpp that it starts."""

LLAMA_DEBS = (
    *("llama.cpp-tools", "libllama0", "libggml0", "libc6", "libgcc-s1", "libssl3t64", "libstdc++6"),
    *("libgomp1", "libzstd1", "zlib1g", "gcc-16-base"),
)


def _run(command: Sequence[str], **options: object) -> str:
    """Run a set-up step; a failure skips the tests that need it, with the last lines of its output."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if result.returncode:
        pytest.skip(f"{command[0]} failed, so this server is not tested: {(result.stderr or result.stdout)[-600:]}")
    return str(result.stdout)


def python(name: str, *packages: str) -> Path:
    """The interpreter of a virtual environment that holds `packages`, made on first use."""
    folder = CACHE / "venv" / name
    done = folder / ".installed"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages])
        done.touch()
    return folder / "bin" / "python"


def tiny_models() -> Path:
    """A folder with `tiny.gguf`, `tiny-hf/` and `tiny-bert/`."""
    folder = CACHE / "models"
    if not (folder / "tiny-bert" / "model.safetensors").is_file():
        script = Path(__file__).with_name("tiny_models.py")
        _run([str(python("gguf", "gguf", "numpy")), str(script), str(folder)])
    return folder


def _debian_mirror() -> str:
    """The mirror this machine already uses, or skip: the unstable suite is read from the same place."""
    for path in [*sorted(Path("/etc/apt").glob("sources.list*/*")), Path("/etc/apt/sources.list")]:
        if path.is_file() and (match := re.search(r"^(?:URIs:|deb)\s.*?(\S+/debian)/?\s", path.read_text(), re.M)):
            return match.group(1)
    pytest.skip("this machine has no Debian mirror, so llama.cpp's server is not tested")


def debian_unstable(packages: Sequence[str], folder: Path) -> Path:
    """Unpack `packages` of Debian's unstable suite below `folder`, without touching the system."""
    root = folder / "root"
    if (folder / ".installed").is_file():
        return root
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if not (shutil.which("apt-get") and shutil.which("dpkg") and keyring.is_file()):
        pytest.skip("this machine has no apt, so llama.cpp's server is not tested")
    for part in ("lists/partial", "archives/partial", "debs", "root"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sid.list").write_text(f"deb [signed-by={keyring}] {_debian_mirror()} sid main\n")
    settings = {
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Etc::sourcelist": folder / "sid.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Cache": folder,
    }
    (folder / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    _run(["apt-get", "-q", "update"], env=environment)
    _run(["apt-get", "-q", "download", *packages], env=environment, cwd=folder / "debs")
    for package in sorted((folder / "debs").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)])
    (folder / ".installed").touch()
    return root


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
    except urllib.error.HTTPError as refusal:
        return refusal.code < 500
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(command: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Start a server, wait until it answers on `port`, and end it by its process at the end."""
    log = CACHE / f"{Path(command[0]).name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **OFFLINE, **(environment or {})}, cwd=CACHE
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def llama_cpp(program: str) -> tuple[list[str], dict[str, str]]:
    """The command that starts a program of llama.cpp from Debian, and the environment that it needs."""
    root = debian_unstable(LLAMA_DEBS, CACHE / "debian")
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = libraries / "ld-linux-x86-64.so.2"
    if not loader.exists():
        pytest.skip("llama.cpp is only tested on x86-64")
    command = [str(loader), "--library-path", f"{libraries}:{libraries / 'llama'}", str(root / "usr/bin" / program)]
    return command, {"GGML_BACKEND_PATH": str(libraries / "ggml/backends0/libggml-cpu-x64.so")}


@contextlib.contextmanager
def llama_server(*arguments: str) -> Iterator[int]:
    """llama.cpp's own server from Debian, with `tiny.gguf` unless `arguments` say otherwise."""
    command, environment = llama_cpp("llama-server")
    port = free_port()
    command += ["--host", "127.0.0.1", "--port", str(port), "-c", "512", *arguments]
    with running(command, port, environment) as answering:
        yield answering


def go_install(module: str, version: str, folder: Path, *, version_in: str) -> Path:
    """The program of a Go module, built on first use into `folder`. Its version is linked in, as its makers do."""
    program = folder / Path(module).name
    if not program.is_file():
        if not (shutil.which("go") and shutil.which("gcc")):
            pytest.skip(f"this machine has no Go with a C compiler, so {module} is not tested")
        places = {"GOBIN": folder, "GOPATH": CACHE / "go", "GOCACHE": CACHE / "go" / "build"}
        flags = {"GOFLAGS": "-modcacherw", "CGO_CFLAGS": "-O1 -g0"}
        command = ["go", "install", "-ldflags", f"-X={module}/{version_in}={version}", f"{module}@v{version}"]
        _run(command, env={**os.environ, **flags, **{name: str(path) for name, path in places.items()}})
    return program


def _lend(program: str, folder: Path) -> None:
    """Put a program of llama.cpp where Ollama looks for its own."""
    command, environment = llama_cpp(program)
    folder.mkdir(parents=True, exist_ok=True)
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    (folder / program).write_text(f'#!/bin/sh\n{settings} exec {shlex.join(command)} "$@"\n')
    (folder / program).chmod(0o755)


@contextlib.contextmanager
def ollama(home: Path, *models: str) -> Iterator[int]:
    """Ollama built from its Go module, with `tiny.gguf` under the names `models`, the last of them loaded."""
    folder = CACHE / f"ollama-{OLLAMA}"
    for program in ("llama-quantize", "llama-server"):
        _lend(program, folder / "lib" / "ollama")
    module = "github.com/ollama/ollama"
    program = str(go_install(module, OLLAMA, folder / "bin", version_in="version.Version"))
    port = free_port()
    home.mkdir()
    environment = {"HOME": str(home), "OLLAMA_HOST": f"127.0.0.1:{port}"}
    with running([program, "serve"], port, environment) as answering:
        (home / "Modelfile").write_text(f"FROM {tiny_models() / 'tiny.gguf'}\n")
        for name in models:
            command = [program, "create", name, "-f", str(home / "Modelfile")]
            subprocess.run(command, env={**os.environ, **OFFLINE, **environment}, capture_output=True, check=True)
        if models:
            load = json.dumps({"model": models[-1]}).encode()  # without a prompt it loads and generates nothing
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/generate", load, timeout=START_TIMEOUT).close()
        yield answering


@contextlib.contextmanager
def mlx_lm() -> Iterator[int]:
    """MLX-LM's server from PyPI, with `tiny-hf`."""
    if sys.platform != "linux":
        pytest.skip("mlx[cpu] is tested on Linux")
    port = free_port()
    (CACHE / "hub").mkdir(parents=True, exist_ok=True)
    command = [
        *(str(python("mlx-lm", "mlx-lm", "mlx[cpu]")), "-m", "mlx_lm", "server"),
        *("--model", str(tiny_models() / "tiny-hf"), "--host", "127.0.0.1", "--port", str(port)),
    ]
    with running(command, port, {"HF_HUB_CACHE": str(CACHE / "hub")}) as answering:
        yield answering


@contextlib.contextmanager
def infinity() -> Iterator[int]:
    """Infinity's embedding server from PyPI, with `tiny-bert`. It has no `/v1/models`, so any answer will do."""
    port = free_port()
    command = [
        *(str(python("infinity", "infinity-emb[server,torch]").with_name("infinity_emb")), "v2"),
        *("--model-id", str(tiny_models() / "tiny-bert"), "--engine", "torch", "--device", "cpu"),
        *("--no-bettertransformer", "--host", "127.0.0.1", "--port", str(port)),
    ]
    with running(command, port, {"HF_HOME": str(CACHE / "hub")}) as answering:
        yield answering


@contextlib.contextmanager
def xinference(home: Path) -> Iterator[int]:
    """Xinference from PyPI as it comes: without a model, and with a key wanted."""
    port = free_port()
    program = python("xinference", "xinference").with_name("xinference-local")
    command = [str(program), "--host", "127.0.0.1", "--port", str(port)]
    with running(command, port, {"XINFERENCE_HOME": str(home)}) as answering:
        yield answering


@contextlib.contextmanager
def fastchat() -> Iterator[int]:
    """FastChat's controller and OpenAI-compatible server from PyPI, with no worker: an empty list of models."""
    interpreter = str(python("fastchat", "fschat"))
    controller, port = free_port(), free_port()
    at = ("--host", "127.0.0.1", "--port")
    with (
        running([interpreter, "-m", "fastchat.serve.controller", *at, str(controller)], controller),
        running(
            [
                *(interpreter, "-m", "fastchat.serve.openai_api_server", *at, str(port)),
                *("--controller-address", f"http://127.0.0.1:{controller}"),
            ],
            port,
        ) as answering,
    ):
        yield answering


@contextlib.contextmanager
def litellm(*, key: str | None) -> Iterator[int]:
    """The LiteLLM proxy from PyPI, with one made-up upstream that nobody asks."""
    port = free_port()
    config = CACHE / "litellm.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: tiny-model\n"
        "    litellm_params: {model: openai/tiny, api_base: 'http://127.0.0.1:9', api_key: none}\n"
    )
    access = {"LITELLM_MASTER_KEY": key} if key else {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    interpreter = python("litellm", "litellm[proxy]", "prisma")
    command = [str(interpreter.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--telemetry", "False"]
    with running(command, port, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", **access}) as answering:
        yield answering
