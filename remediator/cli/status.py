"""The ``remediator status`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli import _output
from remediator.cli._options import config_option, format_option
from remediator.cli.stop import stop_data, stop_text
from remediator.config import Config
from remediator.core.clock import SystemClock, format_duration, rfc3339
from remediator.errors import ConfigurationError
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_config
from remediator.runtime.maintenance import REPLICA_TIMEOUT
from remediator.runtime.notification_reach import reach_problem
from remediator.service import read_only_connection, watchdog_max_silence
from remediator.storage.repositories import approvals, autonomy, breakers, key_values, replicas, runs, stops
from remediator.storage.repositories.approvals import Approval


@click.command("status")
@config_option
@format_option("text", "json")
def command(config_path: Path, format_: str) -> None:
    """Show what blocks actions now.

    That is: stops, open requests, changed modes, open circuit breakers, the Watchdog, playbooks that were not
    reloaded, and the number of runs in each state. Exit status 1 if a stop is active.

    \b
    Example:
      remediator status
    """
    config = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        found = {**_status(connection, config), "notification_problem": _notification_problem(config)}
    if format_ == "json":
        _output.data(found)
    else:
        _output.lines(_text(found))
    if found["stops"] or found["stop_file"]:
        raise SystemExit(1)


def _notification_problem(config: Config) -> str:
    """Return why no message reaches a person; an empty text if one can."""
    try:
        return reach_problem(Registry.for_settings(config).make_channels(config.channels))
    except ConfigurationError as error:  # for example a secret file that only the service may read
        return str(error)


def _status(connection: Connection, config: Config) -> dict[str, Any]:
    now = SystemClock().now()
    received = key_values.get(connection, key_values.WATCHDOG)
    stop_file = read_stop_file(config.state)
    open_runs: dict[str, int] = {}
    for run in runs.list_page(connection, 10_000, open_only=True):
        why = run.blocked_by or run.reason
        key = run.status.value if why is None else f"{run.status.value} ({why})"
        open_runs[key] = open_runs.get(key, 0) + 1
    return {
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
            for item in replicas.list_alive(connection, now - REPLICA_TIMEOUT)
        ],
        "runs": open_runs,
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


def _text(found: dict[str, Any]) -> list[str]:
    stop_file, stopped = found["stop_file"], found["stop_file"] or found["stops"]
    lines = [] if stopped else ["no stop is active"]
    if stop_file:
        lines.append(f"stop     everything stopped by the file {stop_file['path']}: {stop_file['reason']}")
    for stop in found["stops"]:
        lines += [f"stop     {stop_text(stop)}", f"         to release it: remediator stop release {stop['id']}"]
    for replica, findings in found["not_reloaded"].items():
        lines.append(f"reload   ATTENTION: {replica} could not reload the playbooks and keeps the last valid version:")
        lines += [f"         {finding}" for finding in findings]
    for item in found["requests"]:
        missing = item["quorum"] - item["approvals"]
        lines += [
            f"request  {item['playbook']} on {item['target']} ({item['run']}) needs {missing} more "
            f"{'approval' if missing == 1 else 'approvals'} until {item['expires_at']}",
            f"         to see the plan: remediator run show {item['run']}",
        ]
    lines += [
        f"mode     {name}: {place['mode']}, set by {place['actor']}: {place['reason']}"
        for name, place in found["autonomy"].items()
    ]
    lines += [
        f"breaker  {name}: open since {item['opened_at']} ({item['reason']}, {item['scope']})"
        for name, item in found["circuit_breakers"].items()
    ]
    problem = found["watchdog"]["problem"]
    lines.append(f"watchdog {f'ATTENTION: {problem}' if problem else found['watchdog']['received_at'] or 'off'}")
    if found["notification_problem"]:
        lines.append(f"notify   ATTENTION: {found['notification_problem']}")
    lines += [f"replica  {item['id']} ({item['role']}) seen {item['seen_at']}" for item in found["replicas"]]
    if not found["replicas"]:
        lines.append(
            f"replica  ATTENTION: none in the last {format_duration(REPLICA_TIMEOUT)}; check that the service runs"
        )
    return lines + [f"runs     {count} {status}" for status, count in sorted(found["runs"].items())]
