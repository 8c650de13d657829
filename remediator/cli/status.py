"""The ``remediator status`` command."""

from __future__ import annotations

from typing import Any

import click

from remediator.cli import _output
from remediator.cli._options import format_option, watch_option
from remediator.cli._source import Source, source_options
from remediator.cli.stop import stop_text
from remediator.core.clock import SystemClock, format_duration
from remediator.runtime.maintenance import REPLICA_TIMEOUT
from remediator.web.status import status_data


@click.command("status")
@source_options
@format_option("text", "json")
@watch_option
def command(source: Source, format_: str, watch: float | None) -> None:
    """Show what blocks actions now, and the state of the service.

    The output has the stops, the open approval requests, the changed modes and the open circuit breakers. It also has
    the replicas with their problems, playbooks that were not reloaded, the Watchdog, whether messages reach a person,
    and the number of open runs by status. Exit status 1 if a stop is active; not with --watch.

    \b
    Example:
      remediator status --watch
    """

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = source.get(
            "status", lambda connection: status_data(connection, source.config, SystemClock().now())
        )
        if format_ == "json":
            _output.data(found)
        else:
            _output.lines(_text(found))
        return found

    if watch is not None:
        _output.repeat(watch, shown)
        return
    found = shown()
    if found["stops"] or found["stop_file"]:
        raise SystemExit(1)


def _text(found: dict[str, Any]) -> list[str]:
    stop_file, stopped = found["stop_file"], found["stop_file"] or found["stops"]
    lines = [] if stopped else ["no stop is active"]
    if stop_file:
        lines.append(f"stop     everything stopped by the file {stop_file['path']}: {stop_file['reason']}")
    for stop in found["stops"]:
        lines += [f"stop     {stop_text(stop)}", f"         to release it: remediator stop release {stop['id']}"]
    for replica, problems in found["degraded"].items():
        lines += [f"health   ATTENTION: {replica}: {what}: {text}" for what, text in problems.items()]
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
            f"replica  ATTENTION: no replica in the last {format_duration(REPLICA_TIMEOUT)}; check that the service "
            "runs"
        )
    return lines + [f"runs     {count} {status}" for status, count in sorted(found["runs"].items())]
