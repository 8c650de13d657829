"""The ``remediator stop`` commands: stop actions on all replicas, and release stops."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli import _output
from remediator.cli._decisions import terminal_operator
from remediator.cli._options import actor_option, format_option
from remediator.cli._source import Source, segment, source_options
from remediator.config import Config
from remediator.core.approval import Person
from remediator.core.clock import SystemClock, format_duration, parse_duration
from remediator.errors import ConfigurationError, InputError
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.pipeline import stop_commands
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import read
from remediator.runtime.live_inventory import with_stored_targets
from remediator.storage import Tx
from remediator.storage.repositories import playbooks, stops
from remediator.web.status import stop_data


@click.group("stop")
def command() -> None:
    """Create, list and release stops."""


@command.command("create")
@source_options
@click.option("--playbook", default="", help="Stop only this playbook (default: all).")
@click.option("--service", default="", help="Stop only actions on this service of the inventory (default: all).")
@click.option("--reason", required=True, help="Reason, which is shown wherever the stop blocks.")
@click.option("--duration", metavar="DURATION", help="When the stop expires, such as 2h (default: when released).")
@actor_option
def create(source: Source, playbook: str, service: str, reason: str, duration: str | None, actor: str | None) -> None:
    """Start no new action, on any replica, until the stop is released.

    Steps that already run finish.

    \b
    Examples:
      remediator stop create --reason "database migration"
      remediator stop create --playbook redis-down --reason "new version" --duration 2h
    """
    if playbook and service:
        raise InputError("give --playbook or --service, not both; to stop both, create two stops")
    scope = "playbook" if playbook else "service" if service else "global"
    lasts = None if duration is None else parse_duration(duration)
    name = playbook or service

    def local(tx: Tx, person: Person) -> dict[str, Any] | None:
        services = _services(source.config, tx.connection) if service else ()
        if services is not None:
            stop_commands.require_known(scope, name, playbooks.list_names(tx.connection), services)
        made = stops.get(tx.connection, stop_commands.create_stop(tx, person, reason, scope, name, lasts))
        return None if made is None else stop_data(made)

    text = "" if lasts is None else format_duration(lasts)
    body = {"scope": scope, "name": name, "reason": reason, "duration": text}
    stop = source.post("stops", local, source.body(body, actor), lambda: terminal_operator(actor))
    until = "" if stop["expires_at"] is None else f" until {stop['expires_at']}"
    _output.echo(f"{stop['id']}: {stop['what']} stopped{until}; to release it: remediator stop release {stop['id']}")


def _services(config: Config, connection: Connection) -> Collection[str] | None:
    """Return the services of the inventory; None if it cannot be read, because a stop must not depend on a file."""
    try:
        return list(with_stored_targets(connection, read(config.inventory, Inventory)).services)
    except ConfigurationError:
        _output.echo("the inventory cannot be read: the name of the service is not checked", err=True)
        return None


@command.command("list")
@source_options
@format_option("text", "json")
def list_(source: Source, format_: str) -> None:
    """List the active stops, oldest first.

    \b
    Example:
      remediator stop list
    """
    now = SystemClock().now()
    found = source.get("stops", lambda connection: [stop_data(item) for item in stops.list_active(connection, now)])
    if format_ == "json":
        _output.data(found)
    else:
        _output.lines((f"{stop['id']}  {stop_text(stop)}" for stop in found), "no active stop")


def stop_text(stop: dict[str, Any]) -> str:
    """Return a stop in one line, from its data."""
    what = "everything" if stop["scope"] == "global" else f"{stop['scope']} {stop['name']}"
    until = f" until {stop['expires_at']}" if stop["expires_at"] else ""
    return f"{what} stopped by {stop['created_by']} since {stop['created_at']}{until}: {stop['reason']}"


@command.command("release")
@source_options
@actor_option
@click.argument("stop_id", metavar="STOP")
def release(source: Source, actor: str | None, stop_id: str) -> None:
    """Release a stop; the runs that it blocked continue within one second.

    'remediator stop list' lists the active stops.

    \b
    Example:
      remediator stop release stop-1m832pbs91d5nnh4x
    """

    def local(tx: Tx, person: Person) -> dict[str, Any]:
        stop_file = read_stop_file(source.config.state)
        if stop_file is not None:
            raise InputError(f"the stop file {stop_file.path} still exists ({stop_file.reason}); remove it first")
        if not stop_commands.release_stop(tx, person, stop_id):
            raise InputError(f"stop {stop_id!r} is not active; 'remediator stop list' lists the active stops")
        return {"released": stop_id}

    body = source.body({}, actor)
    source.post(f"stops/{segment(stop_id)}/release", local, body, lambda: terminal_operator(actor))
    _output.echo(f"{stop_id} released")
