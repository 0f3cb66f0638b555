"""Findings -> the rows of the tables, as Arrow arrays, and what a host's models come to. No files.

Columns are taken one by one over many findings: to make each row for itself, as a dictionary or a tuple, and then turn
all of them into columns, costs twice as much.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np
import pyarrow as pa

from census.model import Conversation, Finding, Lineage, Model, Reply
from census.schema import tables

FOUND = ("probes", "hosts", "models", "replies", "bodies")
"""The tables that findings fill; `runs` has one row, written when the run is published."""

Columns = Mapping[str, Sequence[Any] | pa.Array]
"""Values by column, each of them in the order of the rows."""

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)

_quoted = lru_cache(maxsize=4096)(json.encoder.encode_basestring_ascii)
"""A name or a digest goes into several hashes of its host, and is often on the next host too."""


class Unstorable(ValueError):
    """Rows that do not fit their columns."""


def rows(run_id: str, findings: Sequence[Finding], block: int, salt: bytes | None = None) -> dict[str, pa.RecordBatch]:
    """The rows of some findings by table; a table that is not there has none.

    One row of probes for each; one of replies for each reply, and of bodies for each body that is like no other; and
    the rows of `derived_rows`. Raises Unstorable, and what a finding raises of which no rows can be made.
    """
    talks = [finding.conversation for finding in findings]
    found = {"probes": as_batch("probes", _probes(run_id, findings, talks, block))}
    if replies := [reply for talk in talks for reply in talk.replies]:
        digests = [hashlib.sha256(reply.body).hexdigest() for reply in replies]
        found["replies"] = as_batch("replies", _replies(run_id, talks, replies, digests))
        found["bodies"] = as_batch("bodies", _bodies(run_id, replies, digests))
    return found | derived_rows(run_id, findings, salt)


def derived_rows(run_id: str, findings: Iterable[Finding], salt: bytes | None = None) -> dict[str, pa.RecordBatch]:
    """What is concluded, not observed: where a server was identified, a row of hosts and one of models for each model.

    `salt` is the secret of the installation marks (`snapshot.installation_salt`); without it there are none. Raises
    as `rows` does.
    """
    hosts = [finding for finding in findings if finding.identity.server is not None]
    if not hosts:
        return {}
    inventories = list(map(_listed, hosts))
    marks = [_marks(inventory, salt) for inventory in inventories]
    return {
        "hosts": as_batch("hosts", _hosts(run_id, hosts, inventories, [whole for _, whole in marks])),
        "models": as_batch("models", _models(run_id, hosts, inventories, [mine for mine, _ in marks])),
    }


# --- the columns of each table ---------------------------------------------------------------------------------------

_TALK = ("scheme", "outcome", "error", "asked_at", "latency_ms", "requests", "connections")
_REPLY = ("scheme", "asked_at", "elapsed_ms", "status", "status_line", "headers", "truncated")
_IDENTITY = ("server", "version_source", "api", "auth", "rule", "confidence", "evidence", "near", "proxy")
_PLACE = (
    *("country", "region", "city", "asn", "as_name"),
    *("network_type", "tier", "network_rule", "place_source"),
)
_CERTIFICATE = ("sha256", "subject", "issuer", "names", "not_before", "not_after")
_MODEL = (
    "name", "digest", "size_bytes", "modified_at", "modified_at_raw", "format", "family_raw", "families_raw",
    "parameter_size", "quantization", "context_length", "n_vocab", "capabilities", "is_running", "size_vram",
    "expires_at", "remote_model", "remote_host", "parent", "owned_by", "extra",
)  # fmt: skip
_LINEAGE = (
    "brand_family", "generation", "base_family", "weights_family", "developer", "developer_country", "weights_country",
    "params_b", "quant", "quant_bits", "role", "is_distill", "uncensored", "claimed_brand", "resolved_by", "confidence",
    "rules",
)  # fmt: skip
_INVENTORY = ("n_models", "n_running", "families", "lineages", "inventory_hash")


def _each(things: Sequence[Any], names: Iterable[str]) -> dict[str, list[Any]]:
    """Attributes, by their name, of each of some things."""
    return {name: list(map(attrgetter(name), things)) for name in names}


def _key(run_id: str, talks: Sequence[Conversation], counts: Sequence[int] | None = None) -> Columns:
    """The first columns of every row: once for each conversation, or as often as `counts` says."""
    targets = [talk.target for talk in talks]
    key: dict[str, pa.Array] = {
        "ip": pa.array([target.ip for target in targets], pa.string()),
        "port": pa.array([target.port for target in targets], pa.int32()),
        "domain": pa.array([target.domain for target in targets], pa.string()),
    }
    if counts is not None:
        where = pa.array(np.repeat(np.arange(len(talks)), counts))
        key = {name: values.take(where) for name, values in key.items()}
    return {"run_id": pa.repeat(run_id, len(key["ip"])), **key}


def _probes(run_id: str, findings: Sequence[Finding], talks: Sequence[Conversation], block: int) -> Columns:
    return {
        **_key(run_id, talks),
        **_each(talks, _TALK),
        **_tls(talks),
        "tag": [talk.target.tag for talk in talks],
        "server": [finding.identity.server for finding in findings],
        "block": pa.repeat(block, len(talks)),
    }


def _tls(talks: Sequence[Conversation]) -> Columns:
    shown = [talk.certificate for talk in talks]
    if not any(shown):
        return {f"tls_{name}": pa.nulls(len(talks)) for name in _CERTIFICATE}
    return {f"tls_{name}": [one and getattr(one, name) for one in shown] for name in _CERTIFICATE}


def _replies(run_id: str, talks: Sequence[Conversation], replies: Sequence[Reply], digests: Sequence[str]) -> Columns:
    counts = [len(talk.replies) for talk in talks]
    return {
        **_key(run_id, talks, counts),
        **_each(replies, _REPLY),
        "seq": _positions(counts),
        "method": [reply.question.method for reply in replies],
        "path": [reply.question.path for reply in replies],
        "body_sha256": digests,
        "body_bytes": [len(reply.body) for reply in replies],
    }


def _positions(counts: Iterable[int]) -> list[int]:
    """0, 1, 2 … for each of some lists with so many members, one list after the other."""
    return list(chain.from_iterable(map(range, counts)))


def _bodies(run_id: str, replies: Sequence[Reply], digests: Sequence[str]) -> Columns:
    distinct = {digest: reply.body for digest, reply in zip(digests, replies, strict=True)}
    return {"run_id": pa.repeat(run_id, len(distinct)), "body_sha256": [*distinct], "body": [*distinct.values()]}


_Listed = tuple[Model, Lineage, bool | None]
"""A model, what its name says, and whether it is known to be served by a cloud or by the host itself."""


def _listed(finding: Finding) -> list[_Listed]:
    """The inventory of a host. Raises ValueError when there are lineages, but not one for each model."""
    models = finding.identity.models or ()
    pairs = zip(models, finding.lineages or [Lineage()] * len(models), strict=True)
    return [(model, lineage, True if lineage.remote else model.is_remote) for model, lineage in pairs]


def _hosts(
    run_id: str, hosts: Sequence[Finding], inventories: Sequence[Sequence[_Listed]], marks: Sequence[str | None]
) -> Columns:
    talks = [host.conversation for host in hosts]
    identities = [host.identity for host in hosts]
    sums = [_sums(host, inventory) for host, inventory in zip(hosts, inventories, strict=True)]
    return {
        **_key(run_id, talks),
        **_each(identities, _IDENTITY),
        **_each([host.place for host in hosts], _PLACE),
        **dict(zip(_INVENTORY, zip(*sums, strict=True), strict=True)),
        **_tls(talks),
        "observed_at": [talk.asked_at for talk in talks],
        "scheme": [talk.scheme or talk.replies[-1].scheme for talk in talks],
        "server_version": [identity.version for identity in identities],
        "server_header": [talk.replies[0].header("Server") if talk.replies else None for talk in talks],
        "suspect": [host.doubt.score for host in hosts],
        "suspect_reasons": [host.doubt.reasons for host in hosts],
        "installation": marks,
    }


def _models(
    run_id: str,
    hosts: Sequence[Finding],
    inventories: Sequence[Sequence[_Listed]],
    marks: Iterable[Sequence[str | None]],
) -> Columns:
    listed = [*chain.from_iterable(inventories)]
    counts = [len(inventory) for inventory in inventories]
    return {
        **_key(run_id, [host.conversation for host in hosts], counts),
        **_each([model for model, _, _ in listed], _MODEL),
        **_each([lineage for _, lineage, _ in listed], _LINEAGE),
        "position": _positions(counts),
        "is_remote": [remote for _, _, remote in listed],
        "installation_mark": [*chain.from_iterable(marks)],
    }


# --- what a host's models come to ------------------------------------------------------------------------------------


def _sums(host: Finding, inventory: Sequence[_Listed]) -> tuple[Any, ...]:
    """The values of _INVENTORY."""
    local = [(model, lineage) for model, lineage, remote in inventory if not remote]
    declared = families(model.family_raw for model, _ in local)
    brands = sorted({of.brand_family for _, of in local if of.brand_family and not of.claimed_brand})
    models = host.identity.models
    if models is None:
        return None, None, declared, brands, None
    digest = inventory_hash((model.name, model.digest) for model in models)
    return len(models), _n_running(models), declared, brands, digest


def _n_running(models: Sequence[Model]) -> int | None:
    """Models loaded; None when the server says it of no model. An empty inventory has none loaded."""
    said = [model.is_running for model in models if model.is_running is not None]
    return sum(said) if said or not models else None


def families(declared: Iterable[str | None]) -> list[str]:
    """Distinct declared families in lower case, sorted; an empty one is unknown and left out.

    Lower case of A to Z only, as `verify` can repeat it in SQL: languages and libraries differ on the rest.
    """
    return sorted({_lower(name) for text in declared if text and (name := text.strip(" "))})


def _lower(name: str) -> str:
    return name if name.islower() else name.translate(_LOWER)


def inventory_hash(models: Iterable[tuple[str, str | None]]) -> str:
    """SHA-256 over the sorted (name, digest) pairs as JSON: equal inventories in any order have equal hashes."""
    pairs = sorted([(name, digest or "") for name, digest in models])
    return hashlib.sha256(_json_lists(pairs).encode()).hexdigest()


def _json_lists(lists: Iterable[Iterable[str]]) -> str:
    """Lists of strings as compact JSON: what `json` writes, in a fifth of its time."""
    return "[" + ",".join(map(_json_list, lists)) + "]"


def _json_list(strings: Iterable[str]) -> str:
    return "[" + ",".join(map(_quoted, strings)) + "]"


# --- which installation ----------------------------------------------------------------------------------------------


_Triple = tuple[str, str, str]
"""What tells a file of a model on one disk from all others: name, digest and modified_at as sent."""


def _marks(inventory: Sequence[_Listed], salt: bytes | None) -> tuple[list[str | None], str | None]:
    """The mark of each model that is a file of this host, and that of all of them together."""
    if salt is None:
        return [None] * len(inventory), None
    triples = [None if remote else _triple(model) for model, _, remote in inventory]
    mine = [triple for triple in triples if triple]
    return [model_mark(salt, one) if one else None for one in triples], inventory_mark(salt, mine) if mine else None


def _triple(model: Model) -> _Triple | None:
    """None when the server does not say all of it."""
    name, digest, modified = model.name, model.digest, model.modified_at_raw
    return (name, digest, modified) if name and digest and modified else None


def model_mark(salt: bytes, triple: Sequence[str]) -> str:
    """The mark of a model's file."""
    return _hmac(salt, _json_list(triple))


def inventory_mark(salt: bytes, triples: Iterable[Sequence[str]]) -> str:
    """The mark of an inventory, in whatever order it was listed."""
    return _hmac(salt, _json_lists(sorted(triples, key=tuple)))


def _hmac(salt: bytes, value: str) -> str:
    """HMAC-SHA-256 (RFC 2104) from copies of its two beginnings, in a fifth of the time of `hmac.digest`."""
    inner, outer = _beginnings(salt)
    inner, outer = inner.copy(), outer.copy()
    inner.update(value.encode())
    outer.update(inner.digest())
    return str(outer.hexdigest())


@lru_cache(maxsize=4)
def _beginnings(salt: bytes) -> tuple[Any, Any]:
    """The inner and the outer hash of an HMAC once they have read the key, of at most one block of the hash."""
    key = salt.ljust(hashlib.sha256().block_size, b"\0")
    return hashlib.sha256(bytes(byte ^ 0x36 for byte in key)), hashlib.sha256(bytes(byte ^ 0x5C for byte in key))


# --- columns -> arrays -----------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1)


def as_batch(table: str, columns: Columns) -> pa.RecordBatch:
    """Rows of a table, of which `columns` has all columns. Raises Unstorable."""
    wanted = tables()[table].arrow
    try:
        arrays = [_array(columns[column.name], column) for column in wanted]
    except (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError) as problem:
        raise Unstorable(str(problem)) from None
    for column, array in zip(wanted, arrays, strict=True):
        if array.null_count and not column.nullable:
            raise Unstorable(f"{table}.{column.name} is null, and is required")
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


def _array(values: Sequence[Any] | pa.Array, column: pa.Field) -> pa.Array:
    """Times go by their distance from the epoch, which costs a third of what pyarrow takes for a `datetime`."""
    if isinstance(values, pa.Array):
        return values.cast(column.type)
    if pa.types.is_timestamp(column.type):
        since = [None if value is None else value - _EPOCH for value in values]
        return pa.array(since, pa.duration("us")).view(column.type)
    return pa.array(values, column.type)
