"""``remediator pause``: the stop button."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import click

from remediator.cli import _direct_store
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.core.clock import parse_duration, rfc3339
from remediator.core.ids import Ids
from remediator.errors import ConfigurationError, InputError
from remediator.pipeline import decisions
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_config, read
from remediator.storage import Tx
from remediator.storage.repositories import playbooks, stops


@click.command("pause")
@config_option
@click.option("--playbook", help="Only this playbook.")
@click.option("--service", help="Only this service of the inventory.")
@click.option("--reason", required=True, help="Why; everybody who meets the stop reads it.")
@click.option("--for", "length", metavar="DURATION", help="Until then; without it, until somebody resumes.")
@click.option("--as", "who", help="Who says so; default: the user at this terminal.")
def command(
    config_path: Path, playbook: str | None, service: str | None, reason: str, length: str | None, who: str | None
) -> None:
    """Start no action any more, on every replica; running steps finish. Only a person resumes.

    \b
    Examples:
      remediator pause --reason "database move"
      remediator pause --playbook redis-down --reason "new version" --for 2h
    """
    if playbook and service:
        raise InputError("give --playbook or --service, not both; two stops can stand at once")
    scope, name = ("playbook", playbook) if playbook else ("service", service) if service else ("global", "")
    lasts = None if length is None else parse_duration(length)
    if not reason.strip() or (lasts is not None and not timedelta(0) < lasts <= decisions.LONGEST_STOP):
        raise InputError("a reason is needed, and --for is longer than nothing and at most a year")
    config = load_config(config_path, Config)
    services = _services(config) if service else ()

    def press(tx: Tx) -> stops.Stop | None:
        if services is not None:
            decisions.require_known(scope, name or "", playbooks.list_names(tx.connection), services)
        stop_id = Ids().new("stop", tx.now)
        until = None if lasts is None else tx.now + lasts
        stops.create(tx, stop_id, scope, name or "", reason.strip(), who or _direct_store.person(), until)
        return stops.get(tx.connection, stop_id)

    stop = _direct_store.write(config, press)
    assert stop is not None
    until = "" if stop.expires_at is None else f" until {rfc3339(stop.expires_at)}"
    click.echo(f"{stop.id}: {stop.subject} stopped{until}; resume with: remediator resume {stop.id}")


def _services(config: Config) -> Collection[str] | None:
    """Those of the inventory; None if it cannot be read: stopping must not depend on that."""
    try:
        return list(read(config.inventory, Inventory).services)
    except ConfigurationError:
        click.echo("the inventory cannot be read, so nobody checks that name", err=True)
        return None
