"""``postgres.diagnose``: Read the state of PostgreSQL: connections, locks, transactions, replication and sizes.

Queries are shown without their values, because these may be personal data or passwords.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from remediator.clients.postgres.client import Postgres
from remediator.core.clock import format_duration
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.sizes import format_size
from remediator.core.types import PositiveDuration
from remediator.errors import ClientError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.postgres_sessions import by_application, root_blockers, session_facts
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

Part = Literal["connections", "locks", "transactions", "replication", "size"]
_WRAPAROUND = 1_500_000_000
"""Age of transaction IDs at which a problem is reported. PostgreSQL stops writing near 2.1 billion."""


class PostgresDiagnoseParameters(Parameters):
    """Parameters of ``postgres.diagnose``."""

    parts: tuple[Part, ...] = Field(
        default=("connections", "locks", "transactions", "replication"),
        min_length=1,
        description="Parts to read. No default: size, because it reads the sizes of all files.",
    )
    top: int = Field(default=10, ge=1, le=100, description="Number of entries to report from each list.")
    max_percent: int = Field(default=90, ge=1, le=100, description="More connections, in percent of a limit, are full.")
    idle_over: PositiveDuration = Field(
        default=timedelta(minutes=5), description="Time after which an idle session or transaction is a problem."
    )
    waiting_over: PositiveDuration = Field(
        default=timedelta(seconds=30), description="Time after which a wait for a lock is a problem."
    )
    lag_over: PositiveDuration = Field(
        default=timedelta(minutes=1), description="Time after which the lag of a standby is a problem."
    )
    kept_over: int = Field(
        default=8 * 1024**3, ge=1, description="WAL kept by a replication slot, in bytes, from which it is a problem."
    )


class PostgresDiagnose(Action):
    """Read the state of PostgreSQL. Fails if a part shows a problem. Reports which parts cannot be read. Read-only."""

    name = "postgres.diagnose"
    needs = ("postgres",)
    Parameters = PostgresDiagnoseParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("connections", "object", "Values of the part connections."),
        Fact("connections.limit", "string", "The limit that is used most: server, database NAME or role NAME."),
        Fact("connections.used", "integer", "Connections that count for this limit."),
        Fact("connections.most", "integer", "Connections that the most used limit allows to non-superusers."),
        Fact("connections.percent", "number", "Used part of the most used limit.", unit="%"),
        Fact("connections.full", "boolean", "Whether more than max_percent is used."),
        Fact("connections.active", "integer", "Sessions that run a query."),
        Fact("connections.idle", "integer", "Sessions that are idle without a transaction for longer than idle_over."),
        Fact("connections.idle_in_transaction", "integer", "Sessions idle in a transaction for longer than idle_over."),
        Fact("connections.top_application", "string", "Application with the most sessions."),
        Fact("connections.top_share", "number", "Its part of all client sessions.", unit="%"),
        Fact("connections.by_application", "list", "Client sessions by application and role, most first."),
        Fact("connections.error", "string", "Reason why this part cannot be read."),
        Fact("locks", "object", "Values of the part locks."),
        Fact("locks.waiting", "integer", "Sessions that wait for a lock for longer than waiting_over."),
        Fact("locks.longest_wait", "number", "Longest wait for a lock.", unit="s"),
        Fact("locks.root_state", "string", "State of the root of the longest chain; empty without one."),
        Fact("locks.root_idle", "number", "Time since this root has been in its state.", unit="s"),
        Fact("locks.root_blocks", "integer", "Sessions that wait for this root, directly or behind others."),
        Fact("locks.root_protected", "string", "Reason why this root is never ended; empty if it can be ended."),
        Fact("locks.roots", "list", "Roots of the chains: pid, state, seconds, application, query, blocks."),
        Fact("locks.error", "string", "Reason why this part cannot be read."),
        Fact("transactions", "object", "Values of the part transactions."),
        Fact("transactions.open", "integer", "Client sessions with a transaction."),
        Fact("transactions.oldest", "number", "Age of the oldest transaction of a client.", unit="s"),
        Fact("transactions.idle", "list", "Sessions idle in a transaction for longer than idle_over, longest first."),
        Fact("transactions.prepared", "integer", "Prepared transactions."),
        Fact("transactions.oldest_prepared", "number", "Age of the oldest prepared transaction.", unit="s"),
        Fact("transactions.xid_age", "integer", "Age of the oldest row that is not frozen, in transaction IDs."),
        Fact("transactions.error", "string", "Reason why this part cannot be read."),
        Fact("replication", "object", "Values of the part replication."),
        Fact("replication.role", "string", "Role of this server.", values=("primary", "standby")),
        Fact("replication.standbys", "list", "Standbys: application, client, state, sync, lag_bytes, lag_seconds."),
        Fact("replication.lag_seconds", "number", "Longest lag of a standby, or of this standby.", unit="s"),
        Fact("replication.lag_bytes", "integer", "Greatest lag of a standby, or of this standby.", unit="bytes"),
        Fact("replication.lagging", "boolean", "Whether the lag is longer than lag_over."),
        Fact("replication.receiving", "boolean", "On a standby: whether it receives WAL; null on a primary."),
        Fact("replication.paused", "boolean", "On a standby: whether the replay is paused; null on a primary."),
        Fact(
            "replication.conflicting", "boolean", "On a standby: whether a query delays the replay; null on a primary."
        ),
        Fact("replication.slots", "list", "Replication slots: name, active, wal_status, kept_bytes."),
        Fact("replication.kept_bytes", "integer", "Most WAL that a slot without a reader keeps.", unit="bytes"),
        Fact("replication.error", "string", "Reason why this part cannot be read."),
        Fact("size", "object", "Values of the part size."),
        Fact("size.databases", "list", "Databases by size: name and size in bytes."),
        Fact("size.total", "integer", "Size of all databases.", unit="bytes"),
        Fact("size.wal", "integer", "Size of the WAL files.", unit="bytes"),
        Fact("size.error", "string", "Reason why this part cannot be read."),
        Fact("problems", "list", "Problems, as sentences. The action fails if it finds a problem."),
    )

    async def plan(self, service: Service, parameters: PostgresDiagnoseParameters) -> PlannedCall:
        return PlannedCall(text=f"read from PostgreSQL of {service.name}: {', '.join(parameters.parts)}")

    async def execute(self, service: Service, parameters: PostgresDiagnoseParameters, call: PlannedCall) -> Result:
        postgres = bindings.postgres(service)
        await postgres.identity()  # report a server that does not answer as unreachable, not as empty
        facts: dict[str, Any] = {}
        for part in parameters.parts:
            try:
                facts[part] = await _PARTS[part](postgres, parameters)
            except ClientError as error:
                facts[part] = {"error": str(error)}
        problems = list(_problems(facts, parameters))
        facts["problems"] = problems
        return Result(Outcome.FAILED if problems else Outcome.OK, _summary(facts, problems), facts)

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=False)


async def _connections(postgres: Postgres, parameters: PostgresDiagnoseParameters) -> Mapping[str, Any]:
    limit = (await postgres.limits())[0]
    clients = [session for session in await postgres.sessions() if session.is_client]
    longer = [session for session in clients if session.in_state > parameters.idle_over.total_seconds()]
    groups = by_application(clients)
    return {
        "limit": limit.name,
        "used": limit.used,
        "most": limit.most,
        "percent": limit.percent,
        "full": limit.percent > parameters.max_percent,
        "active": sum(session.state == "active" for session in clients),
        "idle": sum(session.state == "idle" for session in longer),
        "idle_in_transaction": sum(session.is_idle_in_transaction for session in longer),
        "top_application": groups[0]["application"] if groups else "",
        "top_share": round(100 * groups[0]["connections"] / len(clients), 1) if groups else 0.0,
        "by_application": groups[: parameters.top],
    }


async def _locks(postgres: Postgres, parameters: PostgresDiagnoseParameters) -> Mapping[str, Any]:
    sessions = await postgres.sessions()
    waits = [session.waiting for session in sessions if session.waiting is not None]
    roots = [
        {
            **(
                {"pid": each.pid, "state": "ended meanwhile" if each.pid else "prepared transaction"}
                if each.session is None
                else session_facts(each.session, postgres.endpoint)
            ),
            "blocks": each.waiting,
            "longest_wait": round(each.longest, 1),
        }
        for each in root_blockers(sessions)
    ]
    first: Mapping[str, Any] = roots[0] if roots else {}
    return {
        "waiting": sum(wait > parameters.waiting_over.total_seconds() for wait in waits),
        "longest_wait": round(max(waits, default=0.0), 1),
        "root_state": first.get("state", ""),
        "root_idle": first.get("seconds", 0.0),
        "root_blocks": first.get("blocks", 0),
        "root_protected": first.get("protected", ""),
        "roots": roots[: parameters.top],
    }


async def _transactions(postgres: Postgres, parameters: PostgresDiagnoseParameters) -> Mapping[str, Any]:
    clients = [session for session in await postgres.sessions() if session.is_client]
    ages = [session.in_transaction for session in clients if session.in_transaction is not None]
    longer = [
        session
        for session in clients
        if session.is_idle_in_transaction and session.in_state > parameters.idle_over.total_seconds()
    ]
    prepared = await postgres.prepared()
    ordered = sorted(longer, key=lambda each: -each.in_state)[: parameters.top]
    return {
        "open": len(ages),
        "oldest": round(max(ages, default=0.0), 1),
        "idle": [session_facts(session, postgres.endpoint) for session in ordered],
        "prepared": prepared.count,
        "oldest_prepared": round(prepared.oldest, 1),
        "xid_age": prepared.xid_age,
    }


async def _replication(postgres: Postgres, parameters: PostgresDiagnoseParameters) -> Mapping[str, Any]:
    found = await postgres.replication()
    followers = found.standbys if found.replay is None else (found.replay,)
    seconds = max((each.lag_seconds for each in followers if each.lag_seconds is not None), default=0.0)
    return {
        "role": "standby" if found.standby else "primary",
        "standbys": [
            {
                "application": each.application,
                "client": each.client,
                "state": each.state,
                "sync": each.sync,
                "lag_bytes": each.lag_bytes,
                "lag_seconds": each.lag_seconds,
            }
            for each in found.standbys[: parameters.top]
        ],
        "lag_seconds": round(seconds, 1),
        "lag_bytes": max((each.lag_bytes for each in followers if each.lag_bytes is not None), default=0),
        "lagging": seconds > parameters.lag_over.total_seconds(),
        "receiving": None if found.replay is None else found.replay.receiving,
        "paused": None if found.replay is None else found.replay.paused,
        "conflicting": None if found.replay is None else found.replay.conflicting,
        "slots": [
            {"name": each.name, "active": each.active, "wal_status": each.wal_status, "kept_bytes": each.kept_bytes}
            for each in found.slots[: parameters.top]
        ],
        "kept_bytes": max((each.kept_bytes or 0 for each in found.slots if not each.active), default=0),
    }


async def _size(postgres: Postgres, parameters: PostgresDiagnoseParameters) -> Mapping[str, Any]:
    found = await postgres.sizes()
    return {
        "databases": [{"name": each.name, "size": each.size} for each in found.databases[: parameters.top]],
        "total": sum(each.size for each in found.databases),
        "wal": found.wal,
    }


_PARTS: Mapping[Part, Callable[[Postgres, PostgresDiagnoseParameters], Awaitable[Mapping[str, Any]]]] = {
    "connections": _connections,
    "locks": _locks,
    "transactions": _transactions,
    "replication": _replication,
    "size": _size,
}


def _problems(facts: Mapping[str, Any], parameters: PostgresDiagnoseParameters) -> Iterator[str]:
    """Yield the problems that the parts show."""
    connections, locks = facts.get("connections", {}), facts.get("locks", {})
    if connections.get("full"):
        limit = f"{connections['used']} of {connections['most']} connections of the {connections['limit']}"
        share = f"{connections['top_share']:g} % of all by {connections['top_application'] or 'clients without a name'}"
        yield f"{limit} are used, {share}"
    if locks.get("waiting"):
        root = locks["roots"][0] if locks["roots"] else {"pid": 0, "state": "unknown"}
        yield (
            f"{locks['waiting']} sessions wait for locks, the longest for {locks['longest_wait']:.0f} s; the root is "
            f"session {root['pid']} ({root['state']})"
        )
    transactions = facts.get("transactions", {})
    if idle := transactions.get("idle"):
        over = format_duration(parameters.idle_over)
        yield f"{len(idle)} sessions are idle in a transaction for longer than {over}, the first is {idle[0]['pid']}"
    if transactions.get("oldest_prepared", 0) > parameters.idle_over.total_seconds():
        yield f"{transactions['prepared']} prepared transactions hold locks"
    if transactions.get("xid_age", 0) > _WRAPAROUND:
        yield f"the age of transaction IDs is {transactions['xid_age']:,}: VACUUM does not keep up"
    found = facts.get("replication", {})
    if found.get("paused"):
        yield "the replay of this standby is paused"
    if found.get("receiving") is False:
        yield "this standby receives nothing"
    if found.get("lagging"):
        yield f"the replication lag is {found['lag_seconds']:.0f} s"
    if found.get("kept_bytes", 0) > parameters.kept_over:
        yield f"a replication slot without a reader keeps {format_size(found['kept_bytes'])} of WAL"


def _summary(facts: Mapping[str, Any], problems: Sequence[str]) -> str:
    parts = [*problems]
    if "used" in facts.get("connections", {}):
        found = facts["connections"]
        parts.append(f"{found['used']} of {found['most']} connections ({found['limit']})")
    if "role" in facts.get("replication", {}):
        parts.append(facts["replication"]["role"])
    if "total" in facts.get("size", {}):
        parts.append(f"databases {format_size(facts['size']['total'])}, WAL {format_size(facts['size']['wal'])}")
    failed = [part for part, value in facts.items() if isinstance(value, dict) and "error" in value]
    text = "; ".join(parts) or "no details"
    return f"PostgreSQL: {text}" + (f"; not readable: {', '.join(failed)}" if failed else "")
