"""The nouns of the census: what the stages hand to each other. Frozen; no I/O; imports nothing of ours.

Times are UTC `datetime`s without a zone. Unknown is None, never 0, "" or a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from datetime import datetime
from enum import StrEnum
from functools import wraps
from typing import Any, Literal, TypeVar

Scheme = Literal["http", "https"]
Auth = Literal["open", "key-required", "refused", "login-page"]


Noun = TypeVar("Noun")


def _quick(noun: type[Noun]) -> type[Noun]:
    """The same frozen dataclass, made in half the time or less: every host costs a dozen nouns.

    A frozen one sets each field through `object.__setattr__`. Here it is born as an instance of a class with the same
    slots that is not frozen, gets its fields as any object does, and takes its own class last.
    """
    draft = make_dataclass(noun.__name__, [one.name for one in fields(noun)], slots=True)  # type: ignore[arg-type]
    known: dict[str, Any] = {"become": object.__setattr__, "draft": draft, "noun": noun, "MISSING": MISSING}
    lines = [_line(one, known) for one in fields(noun)]  # type: ignore[arg-type]
    heads, sets = ", ".join(head for head, _ in lines), "\n ".join(text for _, text in lines)
    exec(f"def made(self, {heads}):\n become(self, '__class__', draft)\n {sets}\n self.__class__ = noun", known)
    noun.__init__ = wraps(noun.__init__)(known["made"])  # type: ignore[method-assign]
    return noun


def _line(one: Field[Any], known: dict[str, Any]) -> tuple[str, str]:
    """A field as a parameter, and as it is set; its default goes to `known`."""
    name, value = one.name, one.name
    if one.default_factory is not MISSING:
        known[f"new_{name}"] = one.default_factory
        value = f"new_{name}() if {name} is MISSING else {name}"
    elif one.default is MISSING:
        return name, f"self.{name} = {name}"
    known[f"default_{name}"] = one.default
    return f"{name}=default_{name}", f"self.{name} = {value}"


class Outcome(StrEnum):
    """How the conversation with one target ended. The words are zgrab2's (`status.go`).

    Unlike zgrab2, a refused connection is never filed as a timeout.
    """

    SUCCESS = "success"
    """At least one complete HTTP reply that is not a server error (status < 500)."""
    CONNECTION_REFUSED = "connection-refused"
    """The host answered the connect with a reset."""
    CONNECTION_TIMEOUT = "connection-timeout"
    """Nothing answered the connect within the connect timeout."""
    CONNECTION_CLOSED = "connection-closed"
    """Connected, then closed or reset before a complete reply."""
    IO_TIMEOUT = "io-timeout"
    """Connected, but no complete reply within the read or target timeout."""
    PROTOCOL_ERROR = "protocol-error"
    """Bytes that are not HTTP, a broken TLS handshake, or HTTP beyond our bounds."""
    APPLICATION_ERROR = "application-error"
    """HTTP, but every reply is a server error (status >= 500)."""
    BLOCKLISTED_TARGET = "blocklisted-target"
    """Excluded; never connected to."""
    INVALID_INPUTS = "invalid-inputs"
    """The line of the target list could not be read."""
    UNKNOWN_ERROR = "unknown-error"
    """Anything else, with its text: an unreachable network, a fault of our own."""


@_quick
@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint to ask.

    Attributes:
        ip: canonical text of an IPv4 or IPv6 address.
        port: 1 to 65535.
        domain: Host header and SNI to use, or "" to ask by address.
        scheme: the scheme the list asked for, or None to decide by port and answer.
        tag: the list's own label, or None.
    """

    ip: str
    port: int
    domain: str = ""
    scheme: Scheme | None = None
    tag: str | None = None

    @property
    def endpoint(self) -> str:
        """`ip:port`, with brackets around an IPv6 address."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@_quick
@dataclass(frozen=True, slots=True)
class Question:
    """One request the census may send: method and path, nothing else. `str()` gives `GET /api/tags`."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @classmethod
    def parse(cls, text: str) -> Question:
        """Read `GET /api/tags`. Raises ValueError for anything that is not two words."""
        method, path = text.split(" ")
        return cls(method, path)


@_quick
@dataclass(frozen=True, slots=True)
class Reply:
    """What one question was answered with, byte for byte as far as the bounds allow.

    Attributes:
        status_line: as sent, without the line end: `HTTP/1.0 200 `.
        headers: (name, value) in wire case and wire order, Latin-1 decoded.
        body: at most the body cap; undecoded.
        truncated: the server had more to say than the body cap.
        elapsed_ms: from sending the question to the last byte kept.
    """

    question: Question
    scheme: Scheme
    status: int
    status_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    truncated: bool = False
    asked_at: datetime | None = None
    elapsed_ms: float | None = None

    @property
    def head_size(self) -> int:
        """Characters of all headers."""
        return sum([len(name) + len(value) for name, value in self.headers])

    def header(self, name: str) -> str | None:
        """The first value of a header, by case-insensitive name, or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


@_quick
@dataclass(frozen=True, slots=True)
class Certificate:
    """A TLS certificate as presented: recorded, not trusted. Fields are None where it cannot be parsed."""

    sha256: str
    subject: str | None = None
    issuer: str | None = None
    names: tuple[str, ...] = ()
    not_before: datetime | None = None
    not_after: datetime | None = None


@_quick
@dataclass(frozen=True, slots=True)
class Conversation:
    """All that passed between the census and one target.

    Attributes:
        outcome: exactly one for each target.
        error: what went wrong in a few words, or None; never a traceback.
        latency_ms: from the start of the first connect to its completion; None when never connected.
        requests: questions sent, answered or not.
        connections: connections opened or tried.
    """

    target: Target
    outcome: Outcome
    asked_at: datetime
    replies: tuple[Reply, ...] = ()
    error: str | None = None
    latency_ms: float | None = None
    requests: int = 0
    connections: int = 0
    scheme: Scheme | None = None
    certificate: Certificate | None = None


Plan = Callable[[Target, Sequence[Reply]], Question | None]
"""The next question for a target, given the replies so far; None ends the conversation."""


@_quick
@dataclass(frozen=True, slots=True)
class Model:
    """A model as its server declares it. None where this server or version does not say.

    Attributes:
        name: as declared.
        digest: as declared (Ollama: SHA-256 of the manifest, 64 hex digits).
        size_bytes: bytes on disk. modified_at: UTC.
        family_raw: the declared family, an architecture (`general.architecture`), unedited.
        families_raw: the declared list; None when null or missing.
        parameter_size: display text such as "8.0B". n_params: an exact count of parameters.
        capabilities: None means unknown; () means none declared.
        is_running: loaded now; None when the server was not asked or cannot say.
        remote_model, remote_host: where a cloud serves it.
        parent: the base of an adapter or derived model. owned_by: the OpenAI-compatible field.
        size_vram: bytes of the loaded model in GPU memory. expires_at: when it will be unloaded, UTC.
        extra: whatever else the server file extracts, as (name, text) pairs.
    """

    name: str
    digest: str | None = None
    size_bytes: int | None = None
    modified_at: datetime | None = None
    modified_at_raw: str | None = None
    format: str | None = None
    family_raw: str | None = None
    families_raw: tuple[str, ...] | None = None
    parameter_size: str | None = None
    n_params: int | None = None
    n_vocab: int | None = None
    quantization: str | None = None
    context_length: int | None = None
    capabilities: tuple[str, ...] | None = None
    is_running: bool | None = None
    is_remote: bool | None = None
    remote_model: str | None = None
    remote_host: str | None = None
    parent: str | None = None
    owned_by: str | None = None
    size_vram: int | None = None
    expires_at: datetime | None = None
    extra: tuple[tuple[str, str], ...] = ()


@_quick
@dataclass(frozen=True, slots=True)
class Identity:
    """Which server program answers at an endpoint, by which rule, and what it serves.

    Attributes:
        server: id of a file of `data/servers/`, or None when no rule fits.
        version: as the server states it, or None. version_source: the question that told it.
        rule: id of the deciding rule. confidence: 0 to 1, as that rule states it.
        auth: what stands between a stranger and the metadata.
        evidence: the conditions that held, in words, for `explain`.
        proxy: the program in front, if it shows.
        models: None when the inventory could not be read; () when it is empty.
        near: ids of rules that also matched, the strongest first.
    """

    server: str | None = None
    version: str | None = None
    version_source: str | None = None
    api: str | None = None
    auth: Auth | None = None
    rule: str | None = None
    confidence: float | None = None
    evidence: tuple[str, ...] = ()
    proxy: str | None = None
    models: tuple[Model, ...] | None = None
    near: tuple[str, ...] = ()


@_quick
@dataclass(frozen=True, slots=True)
class Lineage:
    """What a model's name and metadata say of where it comes from. None is unknown.

    Attributes:
        brand_family: the line under which its publisher releases it (Qwen, Llama, DeepSeek).
        base_family: the immediate parent line, None when pre-trained by the brand or unknown.
        weights_family: the root of the chain: whose pre-training.
        developer_country, weights_country: ISO 3166-1 alpha-2, of the developer, not the server.
        params_b: total parameters in billions. quant: normalised label. quant_bits: nominal bits.
        role: chat, base, code, vision, embedding, rerank or other.
        claimed_brand: a hosted-only brand's name on a self-hosted port: a claim, not a finding.
        resolved_by: remote, digest, registry, name, metadata or None.
        confidence: 0 to 1. rules: ids of the entries that decided, in order, for `explain`.
    """

    brand_family: str | None = None
    generation: str | None = None
    base_family: str | None = None
    weights_family: str | None = None
    developer: str | None = None
    developer_country: str | None = None
    weights_country: str | None = None
    params_b: float | None = None
    quant: str | None = None
    quant_bits: int | None = None
    role: str | None = None
    is_distill: bool | None = None
    uncensored: bool | None = None
    remote: bool = False
    claimed_brand: str | None = None
    resolved_by: str | None = None
    confidence: float | None = None
    rules: tuple[str, ...] = ()


@_quick
@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is, and what kind of network it is in. All None without a database.

    Attributes:
        country: ISO 3166-1 alpha-2. region, city: as the database spells them.
        asn: number of the autonomous system. as_name: its name in the database.
        network_type, tier: classes of `data/networks/`; None is unknown. network_rule: the rule that decided.
        place_source: file name of the database that named the country; not part of what makes two places equal.
    """

    country: str | None = None
    region: str | None = None
    city: str | None = None
    asn: int | None = None
    as_name: str | None = None
    network_type: str | None = None
    tier: str | None = None
    network_rule: str | None = None
    place_source: str | None = field(default=None, compare=False)


@_quick
@dataclass(frozen=True, slots=True)
class Doubt:
    """How far a host's answers are to be doubted: 0 not, 1 weakly, 2 strongly; and why (reason ids)."""

    score: int = 0
    reasons: tuple[str, ...] = ()


@_quick
@dataclass(frozen=True, slots=True)
class Together:
    """A reason to doubt that no host shows alone: so many hosts of one run, in so many systems, with one inventory.

    One inventory is equal names, digests and times of change, as sent (`hosts.installation`), of two models or more.

    Attributes:
        id: it stays for ever. strength: 1 or 2. hosts, systems: addresses and autonomous systems from which it holds.
    """

    id: str
    strength: int
    hosts: int
    systems: int
    about: str
    source: str


@_quick
@dataclass(frozen=True, slots=True)
class Finding:
    """Everything the census concludes of one conversation: the last noun before the snapshot."""

    conversation: Conversation
    identity: Identity = Identity()
    lineages: tuple[Lineage, ...] = ()
    """One for each of `identity.models`, in their order."""
    doubt: Doubt = Doubt()
    place: Place = Place()
