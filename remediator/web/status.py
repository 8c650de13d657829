"""The reasons why actions are blocked now, as data: for the API and for ``remediator status``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.config import Config
from remediator.core.clock import rfc3339
from remediator.errors import ConfigurationError
from remediator.extensions.guard_settings import watchdog_max_silence
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.extensions.registry import Registry
from remediator.runtime.maintenance import REPLICA_TIMEOUT
from remediator.runtime.notification_reach import reach_problem
from remediator.storage.repositories import approvals, autonomy, breakers, key_values, replicas, runs, sessions, stops
from remediator.storage.repositories.approvals import Approval
from remediator.storage.repositories.stops import Stop


def _notification_problem(config: Config) -> str:
    """Return why no message reaches a person; an empty text if one can."""
    try:
        return reach_problem(Registry.for_settings(config).make_channels(config.channels))
    except ConfigurationError as error:  # for example a secret file that only the service may read
        return str(error)


def status_data(connection: Connection, config: Config, now: datetime) -> dict[str, Any]:
    """Return what blocks actions now, and the state of the service."""
    received = key_values.get(connection, key_values.WATCHDOG)
    stop_file = read_stop_file(config.state)
    open_runs: dict[str, int] = {}
    for run in runs.list_page(connection, 10_000, only=runs.OPEN_ONLY):
        why = run.blocked_by or run.reason
        key = run.status.value if why is None else f"{run.status.value} ({why})"
        open_runs[key] = open_runs.get(key, 0) + 1
    alive = replicas.list_alive(connection, now - REPLICA_TIMEOUT)
    return {
        "notification_problem": _notification_problem(config),
        "stop_file": None if stop_file is None else {"path": str(stop_file.path), "reason": stop_file.reason},
        "stops": [stop_data(stop) for stop in stops.list_active(connection, now)],
        "autonomy": {
            name: {"mode": place.mode, "actor": place.who, "reason": place.reason, "changed_at": rfc3339(place.at)}
            for name, place in sorted(autonomy.list_overrides(connection).items())
        },
        "circuit_breakers": {
            name: {"reason": why, "scope": scope, "opened_at": rfc3339(at)}
            for name, (why, scope, at) in sorted(breakers.list_tripped(connection).items())
        },
        "requests": [_request(connection, item) for item in approvals.list_pending(connection)],
        "watchdog": {
            "received_at": None if received is None else rfc3339(received.at),
            "problem": key_values.watchdog_problem(connection, now, watchdog_max_silence(config)),
        },
        "replicas": [
            {"id": item.id, "role": item.role, "version": item.version, "seen_at": rfc3339(item.seen_at)}
            for item in alive
        ],
        "runs": open_runs,
        "degraded": {item.id: dict(item.problems) for item in alive if item.problems},
        "not_reloaded": {
            item.id: item.rejected_config for item in replicas.list_all(connection) if item.rejected_config
        },
    }


def _request(connection: Connection, item: Approval) -> dict[str, Any]:
    run = runs.get(connection, item.run_id)
    return {
        "id": item.id,
        "run": item.run_id,
        "playbook": "" if run is None else run.playbook,
        "target": "" if run is None else run.target,
        "expires_at": rfc3339(item.expires_at),
        "quorum": item.quorum,
        "approvals": sum(decision.verb == "approve" for decision in approvals.list_decisions(connection, item.id)),
    }


def stop_data(stop: Stop) -> dict[str, Any]:
    """Return a stop as data."""
    return {
        "id": stop.id,
        "what": stop.subject,
        "scope": stop.scope,
        "name": stop.name,
        "reason": stop.reason,
        "created_by": stop.created_by,
        "created_at": rfc3339(stop.created_at),
        "expires_at": None if stop.expires_at is None else rfc3339(stop.expires_at),
    }


def sessions_data(connection: Connection, now: datetime, idle: timedelta) -> list[dict[str, Any]]:
    """Return the sessions of all people that are not over, as data."""
    return [
        {
            "person": item.person,
            "how": item.how,
            "address": item.address,
            "started_at": rfc3339(item.created_at),
            "used_at": rfc3339(item.seen_at),
            "expires_at": rfc3339(item.expires_at),
        }
        for item in sessions.list_open(connection)
        if item.is_active(now, idle)
    ]
