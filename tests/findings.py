"""Findings made up for the tests of the storage: deterministic, in 240.0.0.0/4, one for each number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from census.model import (
    Certificate,
    Conversation,
    Doubt,
    Finding,
    Identity,
    Lineage,
    Model,
    Outcome,
    Place,
    Question,
    Reply,
    Target,
)
from census.snapshot import Draft

RUN = "20261122T150932Z-7f3a"
NOON = datetime(2026, 11, 22, 12)
FAMILIES = ("qwen2", "llama", "gemma3", "Qwen2", None)
BRANDS = {"qwen2": "Qwen", "llama": "Llama", "gemma3": "Gemma"}
HEADERS = (("Content-Type", "application/json"), ("server", "uvicorn"))


def target(number: int) -> Target:
    return Target(f"240.0.{number >> 8}.{number & 255}", 11434, domain="ai.example" if number % 7 == 0 else "")


def model(number: int, place: int) -> Model:
    family = FAMILIES[(number + place) % len(FAMILIES)]
    return Model(
        f"model-{place}:latest",
        hashlib.sha256(f"{number % 3}/{place}".encode()).hexdigest() if place % 4 != 3 else None,
        size_bytes=10**9 + number,
        modified_at=NOON - timedelta(days=number),
        family_raw=family,
        families_raw=(family, "clip") if family else None,
        capabilities=("completion",) if place else None,
        is_running=place == 0,
        extra=(("license", "mit"),),
    )


def lineage(of: Model) -> Lineage:
    brand = BRANDS.get((of.family_raw or "").lower())
    return Lineage(brand, params_b=7.6, quant_bits=4, rules=("by-name",) if brand else ())


def reply(path: str, body: bytes) -> Reply:
    return Reply(Question("GET", path), "http", 200, "HTTP/1.1 200 OK", HEADERS, body, asked_at=NOON, elapsed_ms=1.5)


def server(number: int, n_models: int | None = None) -> Finding:
    """An open Ollama with `n_models` models (default: 0 to 4 by number)."""
    models = tuple(model(number, i) for i in range(number % 5 if n_models is None else n_models))
    replies = (reply("/", b"Ollama is running"), reply("/api/tags", repr((number, models)).encode()))
    return Finding(
        Conversation(target(number), Outcome.SUCCESS, NOON, replies, latency_ms=2.5, requests=2, scheme="http"),
        Identity("ollama", "0.6.1", "GET /api/version", "ollama", "open", "ollama-root", 1.0, models=models),
        tuple(map(lineage, models)),
        Doubt(number % 3, ("clone",) if number % 3 else ()),
        Place("DE", asn=64512, as_name="Example", network_type="hosting"),
    )


def silent(number: int) -> Finding:
    """A target that nothing answers at."""
    at = NOON + timedelta(milliseconds=number)
    return Finding(Conversation(target(number), Outcome.CONNECTION_TIMEOUT, at, error="timed out", connections=1))


def tls(number: int) -> Finding:
    """A web server over TLS that is no AI server."""
    certificate = Certificate("ab" * 32, "CN=ai.example", names=("ai.example",), not_after=NOON)
    replies = (reply("/", b"<html></html>"),)
    talk = Conversation(target(number), Outcome.SUCCESS, NOON, replies, scheme="https", certificate=certificate)
    return Finding(talk)


def finding(number: int) -> Finding:
    """Two servers, a silent target and a web server in turn."""
    return (server, silent, server, tls)[number % 4](number)


def block(number: int, size: int) -> list[Finding]:
    return [finding(i) for i in range(number * size, (number + 1) * size)]


def run_row(draft: Draft, **changes: Any) -> dict[str, Any]:
    outcomes = [{"name": name, "n": n} for name, n in sorted(draft.counts().items())]
    began = datetime.strptime(draft.run_id.partition("-")[0], "%Y%m%dT%H%M%SZ")
    row = {
        "run_id": draft.run_id, "started_at": began, "finished_at": began, "census_version": "0.1.0",
        "data_version": "0", "schema_version": 1, "is_simulated": True, "contact": None, "user_agent": "census",
        "settings": "{}", "questions": ["GET /"], "seed": 0, "shard": 0, "shards": 1, "target_set": "0",
        "n_targets": draft.counts().total(), "n_excluded": 2, "n_invalid": 0, "n_duplicates": 0, "outcomes": outcomes,
        "exclusions": [{"name": "loopback", "n": 2}], "geo": [], "n_resumed": 0, "notes": None,
    }  # fmt: skip
    return row | changes


def publish(out: Path, findings: Iterable[Finding], run_id: str = RUN, **changes: Any) -> Path:
    """A finished run of these findings, in one block; returns its folder."""
    with Draft.create(out, run_id, {}, lambda folder: None) as draft:
        draft.commit(0, list(findings))
        return draft.publish(run_row(draft, **changes))
