"""The commands that list playbooks and change their modes. With ``--server`` they use its API."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli import _output
from remediator.cli._completion import complete_playbooks
from remediator.cli._decisions import terminal_operator
from remediator.cli._options import actor_option, format_option
from remediator.cli._source import Source, segment, source_options
from remediator.config import Config
from remediator.core.approval import Person
from remediator.extensions.registry import Registry
from remediator.pipeline import decisions
from remediator.pipeline.context import PlaybookSet
from remediator.playbooks.loader import load
from remediator.runtime.live_inventory import with_stored_targets
from remediator.storage import Tx
from remediator.storage.repositories import autonomy
from remediator.web.api_service import find_playbook, playbooks_data


def loaded_playbooks(config: Config, connection: Connection) -> PlaybookSet:
    """Return the playbooks and the inventory of this host, with the discovered targets that the store has."""
    loaded = load(config.playbooks, config.inventory, Registry.for_settings(config).catalogue())
    return PlaybookSet(loaded.playbooks, with_stored_targets(connection, loaded.inventory), config.environment)


@click.command("list")
@source_options
@format_option("text", "json")
def list_(source: Source, format_: str) -> None:
    """List the active playbooks with their mode and the results of their last runs.

    \b
    Example:
      remediator playbook list
    """
    found = source.get(
        "playbooks", lambda connection: playbooks_data(connection, loaded_playbooks(source.config, connection))
    )
    if format_ == "json":
        _output.data(found)
        return
    rows = (
        (
            item["name"],
            item["mode"],
            item["target"],
            ", ".join(f"{count} {status}" for status, count in sorted(item["results"].items())) or "no run",
        )
        for item in found
    )
    _output.table(("PLAYBOOK", "MODE", "TARGET", "LAST RUNS"), rows, "no playbook")


@click.command("set-mode")
@source_options
@click.argument("name", shell_complete=complete_playbooks)
@click.option("--mode", type=click.Choice(autonomy.MODES), required=True, help="New mode.")
@click.option("--reason", required=True, help="Reason, for the audit log.")
@actor_option
def set_mode(source: Source, name: str, mode: str, reason: str, actor: str | None) -> None:
    """Change a playbook's mode in this environment. Only an operator can raise it.

    The change is valid until the mode in the playbook's file changes. Raising the mode also resets the circuit breaker
    of the playbook.

    \b
    Examples:
      remediator playbook set-mode redis-down --mode auto --reason "30 of 30 approved, none failed"
      remediator playbook set-mode redis-down --mode approve --reason "two failures last night"
    """

    def local(tx: Tx, person: Person) -> dict[str, Any]:
        loaded = loaded_playbooks(source.config, tx.connection)
        written = find_playbook(loaded, name).mode_in(loaded.environment)
        return {"before": decisions.set_mode(tx, person, name, mode, written, reason), "written": written}

    body = source.body({"mode": mode, "reason": reason}, actor)
    changed = source.post(f"playbooks/{segment(name)}/mode", local, body, lambda: terminal_operator(actor))
    _output.echo(f"{name}: {changed['before']} -> {mode} (mode in its file: {changed['written']})")
