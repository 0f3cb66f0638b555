"""Why the census says what it says of one endpoint of a run.

An account is plain data, ready for JSON; everything a stranger sent is escaped where it becomes text. The rules are
today's: where they say something else than the run does, the account tells both.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from census import __version__, derive, query, resources
from census.classify import because, verdict, verdict_lines
from census.errors import SnapshotError, UsageError
from census.families import Families
from census.hostile import Unreadable, printable, read_json
from census.identify import Rules
from census.model import Conversation, Doubt, Finding, Lineage, Model, Question, Reply, Together
from census.rederive import rules_of, run_row
from census.replies import View
from census.scan import Stages
from census.server_files import Match, Rule
from census.suspect import Reason, Suspicions

BODY_SHOWN = 600
"""Characters of a body in an account."""

SEEN_SHOWN = 100
"""Characters of what a condition looked at."""

NEAR_SHOWN = 12
"""Rules that nearly matched: beyond a dozen they have little in common with what was sent."""

MODELS_SHOWN = 50
"""Models in the text of an account; JSON has all."""

Row = dict[str, Any]


# --- one endpoint of a run -------------------------------------------------------------------------------------------


def explain(out: Path, run_name: str, address: str) -> list[Row]:
    """The whole chain of every endpoint of an address (`ADDRESS`, `ADDRESS:PORT`, `[V6]:PORT`) in a run.

    Raises UsageError for what is no address, SnapshotError for a run or endpoint that is not there.
    """
    ip, port = _endpoint(address.strip())
    (run,) = derive.chosen(out, [run_name])
    ran = run_row(run)
    with closing(query.connect(run.folder)) as connection:
        found = _Found(connection, ip, port)
        if not found.probes:
            raise SnapshotError(f"{run.run_id}: {_shown(ip, port)} was not asked{_elsewhere(connection, ip)}")
        stages = derive.todays_stages(derive.Kept())
        return [_account(stages, ran, *found.of(probe)) for probe in found.probes]


def _endpoint(text: str) -> tuple[str, int | None]:
    host, _, port = text.rpartition(":") if text.startswith("[") or text.count(":") == 1 else (text, "", "")
    if text.startswith("[") and text.endswith("]"):
        host, port = text, ""
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), int(port) if port else None
    except ValueError:
        raise UsageError(
            f"{printable(text)!r} is no address; write 192.0.2.1, 192.0.2.1:11434 or [2001:db8::1]:11434"
        ) from None


def _shown(ip: str, port: int | None) -> str:
    host = f"[{ip}]" if ":" in ip and port else ip
    return f"{host}:{port}" if port else host


def _elsewhere(connection: Any, ip: str) -> str:
    ports = [str(port) for (port,) in connection.execute(_PORTS, [ip]).fetchall()]
    return f" on that port; it was on {', '.join(ports)}" if ports else " in this run"


_PORTS = "SELECT DISTINCT port FROM probes WHERE ip = ? ORDER BY port"


class _Found:
    """The rows of a run that are about some endpoints of one address."""

    def __init__(self, connection: Any, ip: str, port: int | None) -> None:
        where = "WHERE ip = $ip AND ($port IS NULL OR port = $port)"
        values = {"ip": ip, "port": port}

        def rows(table: str, order: str) -> list[Row]:
            sql = f"SELECT * FROM {table} {where} ORDER BY port, domain{order}"
            found: list[Row] = connection.sql(sql, params=values).to_arrow_table().to_pylist()
            return found

        self.probes, self.hosts = rows("probes", ""), rows("hosts", "")
        self.models, self.replies = rows("models", ", position"), rows("replies_with_body", ", seq")

    def of(self, probe: Row) -> tuple[Conversation, Row | None, list[Row]]:
        """Conversation, row of hosts, rows of models of one endpoint."""
        key = (probe["port"], probe["domain"])
        hosts, models, replies = (
            [row for row in rows if (row["port"], row["domain"]) == key]
            for rows in (self.hosts, self.models, self.replies)
        )
        talk = derive.conversation_of(probe, tuple(map(_reply, replies)))
        return talk, hosts[0] if hosts else None, models


def _reply(row: Row) -> Reply:
    headers = tuple((pair["name"], pair["value"]) for pair in row["headers"])
    return Reply(
        Question(row["method"], row["path"]),
        row["scheme"],
        row["status"],
        row["status_line"],
        headers,
        row["body"],
        row["truncated"],
        row["asked_at"],
        row["elapsed_ms"],
    )


def _account(stages: Stages, ran: Row, talk: Conversation, host: Row | None, models: Sequence[Row]) -> Row:
    if host is not None and isinstance(stages.locator, derive.Kept):
        stages.locator.here = derive.place_of(host)
    finding = _with_together(stages.suspicions, stages.conclude(talk), host)
    return {
        "run": ran["run_id"],
        "endpoint": talk.target.endpoint,
        "domain": talk.target.domain or None,
        "tag": talk.target.tag,
        "conversation": _told_of(talk),
        "replies": [_told_reply(reply) for reply in talk.replies],
        "identity": _told_identity(stages.rules, finding),
        "models": [_told_model(stages.families, *pair) for pair in _pairs(finding)],
        "doubt": _told_doubt(stages.suspicions, finding),
        "place": _told_place(finding, ran, host),
        "rules": dict(zip(("census_version", "data_version"), (__version__, resources.data_version()), strict=True)),
        "rules_of_run": dict(zip(("census_version", "data_version"), rules_of(ran), strict=True)),
        "differs": list(_differences(finding, host, models)),
    }


def _pairs(finding: Finding) -> Iterator[tuple[Model, Lineage]]:
    return zip(finding.identity.models or (), finding.lineages, strict=True)


def _told_of(talk: Conversation) -> Row:
    certificate = talk.certificate
    return {
        "outcome": str(talk.outcome),
        "error": talk.error,
        "scheme": talk.scheme,
        "asked_at": talk.asked_at,
        "latency_ms": talk.latency_ms,
        "requests": talk.requests,
        "connections": talk.connections,
        "certificate": certificate and {name: getattr(certificate, name) for name in certificate.__slots__},
    }


def _told_reply(reply: Reply) -> Row:
    body = reply.body[: 4 * BODY_SHOWN].decode("utf-8", "replace")
    return {
        "question": str(reply.question),
        "scheme": reply.scheme,
        "asked_at": reply.asked_at,
        "elapsed_ms": reply.elapsed_ms,
        "status_line": reply.status_line,
        "headers": [list(pair) for pair in reply.headers],
        "body": body[:BODY_SHOWN],
        "body_bytes": len(reply.body),
        "body_cut": len(body) > BODY_SHOWN or len(reply.body) > 4 * BODY_SHOWN,
        "truncated": reply.truncated,
    }


# Which rule, and why not another.


@dataclass(frozen=True, slots=True)
class _Condition:
    """One condition of a rule, whether it holds, and the bytes it looked at, in words."""

    words: str
    holds: bool
    seen: str

    def told(self) -> Row:
        return {"condition": self.words, "holds": self.holds, "seen": self.seen}


def _told_identity(rules: Rules, finding: Finding) -> Row:
    identity = finding.identity
    views = {reply.question: View.of(reply) for reply in finding.conversation.replies}
    known = sorted(
        (rule for server in rules.servers.values() for rule in server.rules if rule.verdict != "lead"),
        key=lambda rule: (-rule.precedence, -rule.confidence, rule.id),
    )
    judged = [(rule, _conditions(rule, views)) for rule in known]
    deciding = next(((rule, found) for rule, found in judged if rule.id == identity.rule), None)
    plain = ("server", "version", "version_source", "api", "auth", "rule", "confidence", "proxy")
    return {name: getattr(identity, name) for name in plain} | {
        "about": deciding[0].about if deciding else None,
        "conditions": [one.told() for one in deciding[1]] if deciding else [],
        "also": [rule.id for rule, found in judged if rule.id != identity.rule and all(one.holds for one in found)],
        "nearly": [_told_near(rule, found) for rule, found in islice(_near(judged), NEAR_SHOWN)],
    }


def _near(judged: Iterable[tuple[Rule, list[_Condition]]]) -> Iterator[tuple[Rule, list[_Condition]]]:
    """Rules of which all conditions but one hold, and at least one does; those with most conditions first."""
    near = ((rule, found) for rule, found in judged if len(found) > 1 and sum(not one.holds for one in found) == 1)
    return iter(sorted(near, key=lambda pair: -len(pair[1])))


def _told_near(rule: Rule, conditions: Sequence[_Condition]) -> Row:
    (failed,) = (one for one in conditions if not one.holds)
    return {"rule": rule.id, "about": rule.about, "held": len(conditions) - 1, "failed": failed.told()}


def _conditions(rule: Rule, views: Mapping[Question, View]) -> list[_Condition]:
    return [one for match in rule.matches for one in _of_match(match, views)]


def _of_match(match: Match, views: Mapping[Question, View]) -> Iterator[_Condition]:
    """The conditions of one block; of any reply, those of the reply that fits best."""
    if match.ask is None:
        fit = max(views.values(), key=lambda view: sum(check(view) for check in match.checks), default=None)
    else:
        fit = views.get(match.ask)
    if fit is None:
        yield _Condition(
            f"{match.ask or 'any reply'}: answered" if match.answered else match.words[0],
            not match.answered,
            "no reply",
        )
    elif not match.answered:
        yield _Condition(match.words[0], False, fit.head.reply.status_line)
    else:
        for words, check in zip(match.words, match.checks, strict=True):
            yield _Condition(words, check(fit), _seen(words.partition(": ")[2], fit))


def _seen(words: str, view: View) -> str:
    """The bytes of a reply that a condition is about, from its words."""
    kind, _, rest = words.partition(" ")
    if kind == "json":
        return _seen_json(rest.removeprefix("some ").partition(" ")[0], view)
    if kind == "header" and not rest.startswith("names "):
        return _seen_header(rest.partition(" ")[0], view)
    if kind == "content":
        return _seen_header("content-type", view)
    if kind == "signed":
        return f"{_seen_header('server', view)}; proxy {view.head.proxy or 'none'}"
    told = {"header": " ".join(name for name, _ in view.head.reply.headers), "title": view.title or "no title"}
    head = words.startswith(("status", "HTTP/"))
    return _cut(view.head.reply.status_line if head else told.get(kind, view.text or "no body"))


def _seen_header(name: str, view: View) -> str:
    lines = [f"{key}: {value}" for key, value in view.head.reply.headers if key.lower() == name]
    return _cut(", ".join(lines) or f"no header {name}")


def _seen_json(path: str, view: View) -> str:
    try:
        values: list[tuple[list[str], Any]] = [([], read_json(view.body))]
    except Unreadable as problem:
        return _cut(f"no readable JSON: {problem}")
    for step in [] if path == "body" else path.split("."):
        values = [below for where, value in values[:2] for below in _below(where, value, step)]
    return _cut("; ".join(f"{'.'.join(where) or 'body'} = {_json(value)}" for where, value in values) or f"no {path}")


def _below(where: list[str], value: Any, step: str) -> Iterator[tuple[list[str], Any]]:
    if step == "*" and isinstance(value, list):
        yield from (([*where, str(i)], item) for i, item in enumerate(value[:2]))
    elif isinstance(value, dict) and step in value:
        yield [*where, step], value[step]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cut(text: str) -> str:
    return text if len(text) <= SEEN_SHOWN else text[: SEEN_SHOWN - 1] + "…"


# Models, doubt, place.


def _told_model(families: Families, model: Model, lineage: Lineage) -> Row:
    said = {name: value for name in model.__slots__ if (value := getattr(model, name)) not in (None, ())}
    return {"said": said, "verdict": verdict(model, lineage), "because": because(families, model, lineage)}


def _with_together(suspicions: Suspicions, finding: Finding, host: Row | None) -> Finding:
    """What only all hosts of the run beside each other show is taken from the run."""
    said = (host or {}).get("suspect_reasons", ())
    more = [one for one in suspicions.together if one.id in said]
    score = max(finding.doubt.score, *(one.strength for one in more), 0)
    return replace(finding, doubt=Doubt(score, (*finding.doubt.reasons, *(one.id for one in more))))


def _told_doubt(suspicions: Suspicions, finding: Finding) -> Row:
    known: dict[str, Reason | Together] = {one.id: one for one in suspicions.reasons}
    known |= {one.id: one for one in suspicions.together}
    reasons = [known[id_] for id_ in finding.doubt.reasons if id_ in known]
    return {
        "score": finding.doubt.score,
        "reasons": [{name: getattr(one, name) for name in ("id", "strength", "about", "source")} for one in reasons],
    }


def _told_place(finding: Finding, ran: Row, host: Row | None) -> Row:
    rule = finding.place.network_rule
    listed = bool(rule) and rule == f"as{finding.place.asn}"
    names = ("country", "region", "city", "asn", "as_name", "place_source", "network_type", "tier", "network_rule")
    return {name: getattr(finding.place, name) for name in names} | {
        "network_rule_in": rule and f"data/networks/{'known.csv' if listed else 'names.toml'}",
        "databases": [
            f"{one['file']} ({one['database_type']}, built {one['built_at']:%Y-%m-%d})" for one in ran["geo"]
        ],
        "known": host is not None,
    }


def _differences(finding: Finding, host: Row | None, models: Sequence[Row]) -> Iterator[str]:
    """Where today's rules say something else than the run does."""
    identity, was = finding.identity, host or {}
    pairs: list[tuple[str, Any, Any]] = [
        ("server", was.get("server"), identity.server),
        ("version", was.get("server_version"), identity.version),
        ("rule", was.get("rule"), identity.rule),
        ("auth", was.get("auth"), identity.auth),
        ("suspect", was.get("suspect", 0), finding.doubt.score),
        ("reasons for doubt", list(was.get("suspect_reasons", ())), list(finding.doubt.reasons)),
        ("models", [row["name"] for row in models], [model.name for model in identity.models or ()]),
        ("brands", [row["brand_family"] for row in models], [lineage.brand_family for lineage in finding.lineages]),
        (
            "weights",
            [row["weights_family"] for row in models],
            [lineage.weights_family for lineage in finding.lineages],
        ),
    ]
    yield from (f"{what}: the run says {said!r}, today's rules {now!r}" for what, said, now in pairs if said != now)


# --- an account as text ----------------------------------------------------------------------------------------------


def render(accounts: Sequence[Row], format_: str) -> str:
    """Accounts as `text` for a terminal or as `json`: one array, times as ISO 8601."""
    if format_ == "json":
        return json.dumps(accounts, indent=1, default=_plain).replace("\x7f", "\\u007f") + "\n"
    return "\n".join(line for account in accounts for line in (*_lines(account), "")).rstrip("\n") + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _lines(account: Row) -> Iterator[str]:
    talk, domain, tag = account["conversation"], account["domain"], account["tag"]
    named = (f" as {domain}" if domain else "") + (f" [{tag}]" if tag else "")
    yield printable(f"{account['endpoint']}{named} in {account['run']}")
    certificate = talk.pop("certificate")
    yield from _block("conversation", talk)
    yield from _block("certificate", certificate or {})
    for reply in account["replies"]:
        yield from _reply_lines(reply)
    yield from _identity_lines(account["identity"])
    yield from _model_lines(account["models"])
    yield from _doubt_lines(account["doubt"])
    if account["place"].pop("known"):
        yield from _block("place", account["place"])
    yield from _end(account)


def _block(title: str, values: Row) -> Iterator[str]:
    known = {name: value for name, value in values.items() if value not in (None, "", [], ())}
    if known:
        yield from ("", title)
    yield from (_field(name, value) for name, value in known.items())


def _field(name: str, value: Any, indent: str = "  ") -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else _plain(value)
    return f"{indent}{name.replace('_', ' '):18} {printable(shown)}"


def _reply_lines(reply: Row) -> Iterator[str]:
    took = f" ({reply['elapsed_ms']:.1f} ms)" if reply["elapsed_ms"] is not None else ""
    yield from (
        "",
        printable(f"{reply['question']} by {reply['scheme']}{took}"),
        f"  {printable(reply['status_line'])}",
    )
    yield from (f"  {printable(name)}: {printable(value)}" for name, value in reply["headers"])
    yield "" if reply["body"] else "  (no body)"
    if reply["body"]:
        yield from (f"  {printable(line)}" for line in reply["body"].removesuffix("\n").split("\n"))
    if reply["body_cut"] or reply["truncated"]:
        more = "; the server had more to say" if reply["truncated"] else ""
        yield f"  … {reply['body_bytes']:,} bytes in all{more}"


def _identity_lines(identity: Row) -> Iterator[str]:
    conditions, also, nearly = (identity.pop(name) for name in ("conditions", "also", "nearly"))
    yield from _block("identified as", identity) if identity["server"] else ("", "not identified: no rule holds")
    for one in conditions:
        yield f"  {'because':18} {printable(one['condition'])}"
        yield f"  {'':18}   {printable(one['seen'])}"
    yield from (_field("also holds", rule) for rule in also)
    for one in nearly:
        yield f"  {'nearly':18} {one['rule']}: {one['held']} of {one['held'] + 1} conditions hold, all but"
        yield f"  {'':18}   {printable(one['failed']['condition'])}"
        yield f"  {'':18}   {printable(one['failed']['seen'])}"


def _model_lines(models: Sequence[Row]) -> Iterator[str]:
    for model in models[:MODELS_SHOWN]:
        said = model["said"]
        yield from ("", f"model {printable(said['name'])}")
        yield from (_field(name, value) for name, value in said.items() if name != "name")
        yield from verdict_lines(model["verdict"], model["because"])
    if len(models) > MODELS_SHOWN:
        yield from ("", f"… and {len(models) - MODELS_SHOWN:,} models more (--format json has all)")


def _doubt_lines(doubt: Row) -> Iterator[str]:
    yield from ("", f"doubt: {doubt['score']} of 2" + ("" if doubt["reasons"] else ", no reason"))
    for one in doubt["reasons"]:
        yield f"  {one['id']} (strength {one['strength']}): {one['about']}"
        yield f"    source: {one['source']}"


def _end(account: Row) -> Iterator[str]:
    if account["differs"]:
        yield from ("", "today's rules conclude otherwise; census derive brings the run up to date")
        yield from (f"  {printable(line)}" for line in account["differs"])
