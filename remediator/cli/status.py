"""``remediator status``: what holds the remediator back right now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli._options import config_option, format_option
from remediator.config import Config
from remediator.core.clock import SystemClock, format_duration, rfc3339
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.playbooks.loader import load_config
from remediator.runtime.maintenance import REPLICA_TIMEOUT
from remediator.service import read_only_connection, watchdog_within
from remediator.storage.repositories import approvals, autonomy, breakers, key_values, replicas, runs, stops
from remediator.storage.repositories.approvals import Approval


@click.command("status")
@config_option
@format_option
def command(config_path: Path, format_: str) -> None:
    """Stops, requests that wait for people, demotions, tripped breakers, the Watchdog, and how many runs wait for what.

    Exit status 1 if a stop stands.
    """
    config = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        found = state(connection, config)
    if format_ == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n".join(_lines(found)))
    if found["stops"] or found["stop_file"]:
        raise SystemExit(1)


def state(connection: Connection, config: Config) -> dict[str, Any]:
    """What is so, as JSON."""
    now = SystemClock().now()
    heard = key_values.get(connection, key_values.WATCHDOG)
    said = read_stop_file(config.state)
    open_runs = runs.list_page(connection, 10_000, open_only=True)
    waiting: dict[str, int] = {}
    for run in open_runs:
        why = run.blocked_by or run.reason
        key = run.status.value if why is None else f"{run.status.value} ({why})"
        waiting[key] = waiting.get(key, 0) + 1
    return {
        "stop_file": None if said is None else {"path": str(said.path), "reason": said.reason},
        "stops": [
            {
                "id": stop.id,
                "stops": stop.subject,
                "reason": stop.reason,
                "who": stop.created_by,
                "since": rfc3339(stop.created_at),
                "until": None if stop.expires_at is None else rfc3339(stop.expires_at),
            }
            for stop in stops.list_active(connection, now)
        ],
        "autonomy": {
            name: {"mode": place.mode, "who": place.who, "reason": place.reason, "since": rfc3339(place.at)}
            for name, place in sorted(autonomy.list_overrides(connection).items())
        },
        "breakers": {
            name: {"why": why, "scope": scope, "tripped": rfc3339(at)}
            for name, (why, scope, at) in sorted(breakers.list_tripped(connection).items())
        },
        "asks": [_ask(connection, item) for item in approvals.list_pending(connection)],
        "watchdog": {
            "heard": None if heard is None else rfc3339(heard.at),
            "silence": key_values.watchdog_problem(connection, now, watchdog_within(config)),
        },
        "service": [
            {"replica": item.id, "role": item.role, "version": item.version, "seen": rfc3339(item.seen_at)}
            for item in replicas.list_alive(connection, now - REPLICA_TIMEOUT)
        ],
        "runs": waiting,
        "unusable": {item.id: item.rejected_config for item in replicas.list_all(connection) if item.rejected_config},
    }


def _ask(connection: Connection, item: Approval) -> dict[str, Any]:
    run = runs.get(connection, item.run_id)
    return {
        "request": item.id,
        "run": item.run_id,
        "playbook": "" if run is None else run.playbook,
        "target": "" if run is None else run.target,
        "until": rfc3339(item.expires_at),
        "quorum": item.quorum,
        "agreed": sum(said.verb == "approve" for said in approvals.list_decisions(connection, item.id)),
    }


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    if found["stop_file"]:
        lines.append(f"STOPPED by file {found['stop_file']['path']}: {found['stop_file']['reason']}")
    for stop in found["stops"]:
        until = f" until {stop['until']}" if stop["until"] else ""
        lines.append(f"STOPPED {stop['stops']} by {stop['who']} since {stop['since']}{until}: {stop['reason']}")
        lines.append(f"        resume with: remediator resume {stop['id']}")
    for replica, findings in found["unusable"].items():
        lines.append(f"PLAYBOOKS not reloaded by {replica}, the last good ones stay in force:")
        lines += [f"        {finding}" for finding in findings]
    lines += [
        f"asks     {item['playbook']} on {item['target']} ({item['run']}) waits for {item['quorum'] - item['agreed']} "
        f"to approve, until {item['until']}: look with remediator runs show {item['run']}"
        for item in found["asks"]
    ]
    lines += [
        f"ladder   {name}: {place['mode']}, by {place['who']}: {place['reason']}"
        for name, place in found["autonomy"].items()
    ]
    lines += [
        f"breaker  {name}: tripped {item['tripped']} ({item['why']}, {item['scope']})"
        for name, item in found["breakers"].items()
    ]
    late = found["watchdog"]["silence"]
    lines.append(f"watchdog {f'ATTENTION: {late}' if late else found['watchdog']['heard'] or 'not watched'}")
    lines += [f"service  {item['replica']} ({item['role']}) seen {item['seen']}" for item in found["service"]]
    if not found["service"]:
        lines.append(
            f"service  ATTENTION: none was seen in the last {format_duration(REPLICA_TIMEOUT)}; is it running?"
        )
    lines += [f"runs     {count} {what}" for what, count in sorted(found["runs"].items())]
    return lines if found["stops"] or found["stop_file"] else ["nothing is stopped", *lines]
