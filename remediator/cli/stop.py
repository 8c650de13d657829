"""The ``remediator stop`` commands: stop actions on all replicas, and release stops."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from remediator.cli import _direct_store, _output
from remediator.cli._decisions import terminal_operator
from remediator.cli._options import actor_option, config_option, format_option
from remediator.config import Config
from remediator.core.clock import SystemClock, parse_duration, rfc3339
from remediator.errors import ConfigurationError, InputError
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.pipeline import decisions
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_config, read
from remediator.service import read_only_connection
from remediator.storage import Tx
from remediator.storage.repositories import playbooks, stops
from remediator.storage.repositories.stops import Stop


@click.group("stop")
def command() -> None:
    """Create, list and release stops."""


@command.command("create")
@config_option
@click.option("--playbook", default="", help="Stop only this playbook (default: all).")
@click.option("--service", default="", help="Stop only actions on this service of the inventory (default: all).")
@click.option("--reason", required=True, help="Reason, which is shown wherever the stop blocks.")
@click.option("--duration", metavar="DURATION", help="When the stop expires, such as 2h (default: when released).")
@actor_option
def create(
    config_path: Path, playbook: str, service: str, reason: str, duration: str | None, actor: str | None
) -> None:
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
    config = load_config(config_path, Config)
    services = _services(config) if service else ()

    def write(tx: Tx) -> Stop | None:
        if services is not None:
            decisions.require_known(scope, playbook or service, playbooks.list_names(tx.connection), services)
        stop_id = decisions.create_stop(tx, terminal_operator(actor), reason, scope, playbook or service, lasts)
        return stops.get(tx.connection, stop_id)

    stop = _direct_store.write(config, write)
    assert stop is not None
    until = "" if stop.expires_at is None else f" until {rfc3339(stop.expires_at)}"
    _output.echo(f"{stop.id}: {stop.subject} stopped{until}; to release it: remediator stop release {stop.id}")


def _services(config: Config) -> Collection[str] | None:
    """Return the services of the inventory; None if it cannot be read, because a stop must not depend on a file."""
    try:
        return list(read(config.inventory, Inventory).services)
    except ConfigurationError:
        _output.echo("the inventory cannot be read: the name of the service is not checked", err=True)
        return None


@command.command("list")
@config_option
@format_option("text", "json")
def list_(config_path: Path, format_: str) -> None:
    """List the active stops, oldest first.

    \b
    Example:
      remediator stop list
    """
    with read_only_connection(load_config(config_path, Config)) as connection:
        found = [stop_data(stop) for stop in stops.list_active(connection, SystemClock().now())]
    if format_ == "json":
        _output.data(found)
    else:
        _output.lines((f"{stop['id']}  {stop_text(stop)}" for stop in found), "no active stop")


def stop_data(stop: Stop) -> dict[str, Any]:
    """Return a stop as JSON data."""
    return {
        "id": stop.id,
        "scope": stop.scope,
        "name": stop.name,
        "reason": stop.reason,
        "actor": stop.created_by,
        "created_at": rfc3339(stop.created_at),
        "expires_at": None if stop.expires_at is None else rfc3339(stop.expires_at),
    }


def stop_text(stop: dict[str, Any]) -> str:
    """Return what :func:`stop_data` says in one line."""
    what = "everything" if stop["scope"] == "global" else f"{stop['scope']} {stop['name']}"
    until = f" until {stop['expires_at']}" if stop["expires_at"] else ""
    return f"{what} stopped by {stop['actor']} since {stop['created_at']}{until}: {stop['reason']}"


@command.command("release")
@config_option
@actor_option
@click.argument("stop_id", metavar="STOP")
def release(config_path: Path, actor: str | None, stop_id: str) -> None:
    """Release a stop; the runs that it blocked continue within one second.

    'remediator stop list' lists the active stops.

    \b
    Example:
      remediator stop release stop-1m832pbs91d5nnh4x
    """
    config = load_config(config_path, Config)
    stop_file = read_stop_file(config.state)
    if stop_file is not None:
        raise InputError(f"the stop file {stop_file.path} still exists ({stop_file.reason}); remove it first")
    if not _direct_store.write(config, lambda tx: decisions.release_stop(tx, terminal_operator(actor), stop_id)):
        raise InputError(f"stop {stop_id!r} is not active; 'remediator stop list' lists the active stops")
    _output.echo(f"{stop_id} released")
