"""A snapshot small enough to compute every report on paper: thirteen hosts in January, a second look in February.

Addresses are of the documentation ranges. `connect()` puts rows into an empty DuckDB with the types of
`schemas/tables/`. What the hosts serve (models of a cloud and projectors in brackets):

    .1   llama, qwen2                  US  hosting      hyperscaler
    .2   llama, qwen2                  CN  fixed        telecom
    .3   llama, qwen2, gemma2          CN  fixed        telecom
    .4   llama, qwen2, nomic-bert      DE  hosting      vps
    .5   llama, gemma2                 US  hosting      hyperscaler
    .6   qwen2, nomic-bert             FR  unknown      unknown
    .7   llama (no tools) [clip]       US  fixed        telecom
    .8   llama (a Dolphin on Yi's weights); a vLLM beside it serves a Qwen without a declared family
    .9   "Qwen2" and "qwen2": one family, two models
    .10  nothing: an empty server
    .11  asks for a key: its list was never read
    .12  llama, qwen2, gemma2; a decoy (suspect = 2)
    .13  [deepseek2, served by a cloud]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from census import schema

JANUARY = "20260110T000000Z-aaaa"
FEBRUARY = "20260210T000000Z-bbbb"

Row = dict[str, Any]
World = dict[str, list[Row]]

PLACES = {
    1: ("US", "hosting", "hyperscaler"),
    2: ("CN", "fixed", "telecom"),
    3: ("CN", "fixed", "telecom"),
    4: ("DE", "hosting", "vps"),
    5: ("US", "hosting", "hyperscaler"),
    7: ("US", "fixed", "telecom"),
    6: ("FR", None, None),
}
"""Country, network type and tier by the last byte of the address; the others are unknown."""

KINDS = {
    "llama": ("llama", "Llama", "Llama", "US", "US", 8.0, "Q4_K_M", 4, "chat", ["completion", "tools"]),
    "qwen2": ("qwen2", "Qwen", "Qwen", "CN", "CN", 7.6, "Q4_K_M", 4, "chat", ["tools", "completion"]),
    "distil": ("qwen2", "DeepSeek", "Qwen", "CN", "CN", 14.8, "Q4_K_M", 4, "chat", None),
    "gemma2": ("gemma2", "Gemma", "Gemma", "US", "US", 9.2, "Q8_0", 8, "chat", ["completion"]),
    "nomic-bert": ("nomic-bert", "Nomic", "Nomic", "US", "US", 0.137, "F16", 16, "embedding", ["embedding"]),
    "clip": ("clip", None, None, None, None, None, None, None, None, None),
    "bare": (None, "Qwen", "Qwen", "CN", "CN", 7.6, None, None, "chat", None),
    "tune": ("llama", "Dolphin", "Yi", "US", "CN", 34.4, "Q5_K_M", 5, "chat", None),
}
"""family_raw, brand, weights, their countries, size, label, bits, role and capabilities of a kind of model."""

SERVED = {
    1: ["llama", "qwen2"],
    2: ["llama", "distil"],
    3: ["llama", "qwen2", "gemma2"],
    4: ["llama", "qwen2", "nomic-bert"],
    5: ["llama", "gemma2"],
    6: ["qwen2", "nomic-bert"],
    7: ["llama", "clip"],
    8: ["tune"],
    9: ["qwen2", "distil"],
    10: [],
    12: ["llama", "qwen2", "gemma2"],
}

FIELDS = ["family_raw", "brand_family", "weights_family", "developer_country", "weights_country"]
FIELDS += ["params_b", "quant", "quant_bits", "role", "capabilities"]


def ip(last: int) -> str:
    return f"192.0.2.{last}"


def run(run_id: str, **changes: Any) -> Row:
    """A row of runs: a real run of a whole target set, unless `changes` say otherwise."""
    started = datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S")
    row = {"run_id": run_id, "started_at": started, "finished_at": started, "census_version": "0.1.0"}
    row |= {"data_version": "d", "schema_version": 1, "is_simulated": False, "user_agent": "census", "settings": "{}"}
    row |= {"questions": ["GET /"], "seed": 0, "shard": 0, "shards": 1, "target_set": "t", "n_targets": 0}
    row |= {"n_excluded": 0, "n_invalid": 0, "n_duplicates": 0, "outcomes": [], "exclusions": [], "n_resumed": 0}
    geo = {
        "file": "geo.mmdb",
        "database_type": "T",
        "built_at": started,
        "sha256": "0",
        "licence": "CC",
        "attribution": None,
    }
    return row | {"geo": [geo]} | changes


def host(run_id: str, last: int, n_models: int | None, **changes: Any) -> Row:
    """A row of hosts: an open Ollama on its port, unless `changes` say otherwise."""
    country, network_type, tier = PLACES.get(last, (None, None, None))
    row = {"run_id": run_id, "observed_at": datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S"), "ip": ip(last)}
    row |= {"port": 11434, "domain": "", "scheme": "http", "server": "ollama", "server_version": "0.9.0"}
    row |= {"auth": "open", "rule": "ollama.tags", "confidence": 0.99, "evidence": [], "near": [], "suspect": 0}
    row |= {"suspect_reasons": [], "country": country, "network_type": network_type, "tier": tier}
    row |= {"n_models": n_models, "families": [], "lineages": [], "inventory_hash": f"hash-{last}"}
    return row | changes


def model(run_id: str, last: int, position: int, kind: str, **changes: Any) -> Row:
    """A row of models of a kind of KINDS."""
    row = {
        "run_id": run_id,
        "ip": ip(last),
        "port": 11434,
        "domain": "",
        "position": position,
        "name": f"{kind}:{last}",
    }
    row |= {"digest": f"{kind}-digest", "is_remote": False, "rules": [], "extra": []}
    return row | dict(zip(FIELDS, KINDS[kind], strict=True)) | changes


def probe(run_id: str, last: int, outcome: str = "success", **changes: Any) -> Row:
    """A row of probes."""
    asked = datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S")
    row = {"run_id": run_id, "ip": ip(last), "port": 11434, "domain": "", "outcome": outcome, "asked_at": asked}
    return row | {"requests": 1, "connections": 1, "block": 0} | changes


def january() -> World:
    """The run of January: hosts .1 to .13, and .20 to .22 that refuse, stay silent and serve something else."""
    models = [model(JANUARY, last, i, kind) for last, kinds in SERVED.items() for i, kind in enumerate(kinds)]
    by_name = {row["name"]: row for row in models}
    by_name["llama:7"] |= {"families_raw": ["llama", "clip"], "capabilities": ["completion"]}
    by_name["distil:9"] |= {"family_raw": "Qwen2 ", "is_distill": True, "base_family": "Qwen"}
    by_name["distil:2"] |= {"is_distill": True, "base_family": "Qwen"}
    by_name["llama:5"] |= {"uncensored": True}
    by_name["gemma2:5"] |= {"brand_family": None, "base_family": "Gemma"}
    models.append(model(JANUARY, 8, 0, "bare", port=8000, digest=None))
    models.append(
        model(JANUARY, 13, 0, "qwen2", name="deepseek:cloud", family_raw="deepseek2", is_remote=True, quant="FP8")
    )
    hosts = [host(JANUARY, last, len(kinds)) for last, kinds in SERVED.items()]
    hosts.append(host(JANUARY, 8, 1, port=8000, server="vllm", server_version="0.8.4", inventory_hash="hash-vllm"))
    hosts.append(host(JANUARY, 11, None, auth="key-required", server_version=None, inventory_hash=None))
    hosts.append(host(JANUARY, 13, 1))
    decoy = next(row for row in hosts if row["ip"] == ip(12))
    decoy |= {"suspect": 2, "suspect_reasons": ["catch-all", "stock-list"]}
    next(row for row in hosts if row["ip"] == ip(7)).update(suspect=1, suspect_reasons=["stock-list"])
    probes = [probe(JANUARY, row["ip"].split(".")[-1], port=row["port"]) for row in hosts]
    probes += [probe(JANUARY, 20, "connection-refused"), probe(JANUARY, 21, "connection-timeout"), probe(JANUARY, 22)]
    return {"runs": [_ledger(run(JANUARY), probes)], "probes": probes, "hosts": hosts, "models": models}


def february() -> World:
    """The run of February: .1 upgraded, .2 has gemma2 too, .5 is gone, .6 was not asked, .21 appeared, .30 is new."""
    hosts = [
        host(FEBRUARY, 1, 2, server_version="0.12.0"),
        host(FEBRUARY, 2, 3, inventory_hash="hash-2b"),
        host(FEBRUARY, 3, 3),
    ]
    hosts += [host(FEBRUARY, 11, None, auth="key-required", server_version=None, inventory_hash=None)]
    hosts += [host(FEBRUARY, 21, 0), host(FEBRUARY, 30, 0)]
    models = [model(FEBRUARY, last, i, kind) for last in (1, 2, 3) for i, kind in enumerate(SERVED[last])]
    models.append(model(FEBRUARY, 2, 2, "gemma2"))
    probes = [probe(FEBRUARY, last) for last in (1, 2, 3, 11, 21, 30)] + [probe(FEBRUARY, 5, "connection-refused")]
    return {"runs": [_ledger(run(FEBRUARY), probes)], "probes": probes, "hosts": hosts, "models": models}


def _ledger(row: Row, probes: list[Row]) -> Row:
    names = sorted({probe["outcome"] for probe in probes})
    outcomes = [{"name": name, "n": sum(probe["outcome"] == name for probe in probes)} for name in names]
    excluded = [{"name": "RFC 1918", "n": 2}, {"name": "opt-out", "n": 1}]
    return row | {
        "n_targets": len(probes),
        "outcomes": outcomes,
        "exclusions": excluded,
        "n_excluded": 3,
        "n_duplicates": 4,
    }


def joined(*worlds: World) -> World:
    """Several runs as one snapshot folder would show them."""
    return {name: [row for world in worlds for row in world[name]] for name in worlds[0]}


def connect(world: Mapping[str, Iterable[Row]]) -> duckdb.DuckDBPyConnection:
    """A DuckDB with the tables of `schemas/tables/`, holding this world."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    for table in schema.tables().values():
        columns = ", ".join(f'"{column.name}" {column.sql}' for column in table.columns)
        connection.execute(f"CREATE TABLE {table.name} ({columns})")
        if rows := list(world.get(table.name, [])):
            batch = pa.Table.from_pylist(rows, schema=_nullable(table.arrow, rows))
            connection.register("batch", batch)
            connection.execute(f"INSERT INTO {table.name} BY NAME SELECT * FROM batch")
            connection.unregister("batch")
    return connection


def _nullable(arrow: pa.Schema, rows: list[Row]) -> pa.Schema:
    known = {key for row in rows for key in row}
    return pa.schema([pa.field(field.name, field.type) for field in arrow if field.name in known])
