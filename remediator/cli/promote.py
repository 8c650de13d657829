"""``remediator promote``: put a playbook on another rung of the ladder, and let its breaker try again."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli import _direct_store
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.errors import InputError
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load, load_config
from remediator.playbooks.model import Playbook
from remediator.storage import Tx
from remediator.storage.repositories import autonomy, breakers


@click.command("promote")
@config_option
@click.argument("playbook")
@click.option("--to", "mode", type=click.Choice(autonomy.MODES), required=True, help="The rung; lower ones demote.")
@click.option("--reason", required=True, help="Why; it stands in the audit log.")
@click.option("--as", "who", help="Who says so; default: the user at this terminal.")
def command(config_path: Path, playbook: str, mode: str, reason: str, who: str | None) -> None:
    """Let a playbook do more, or less, by itself. Nothing but a person promotes; its breaker is reset with it.

    It counts in this environment until the mode in the playbook's file is changed.

    \b
    Examples:
      remediator report promotion
      remediator promote redis-down --to auto --reason "30 of 30 approved, none failed"
    """
    config = load_config(config_path, Config)
    chosen = _playbook(config, playbook)
    written = chosen.mode_in(config.environment)
    person = who or _direct_store.person()

    def put(tx: Tx) -> str:
        before = autonomy.effective_mode(tx.connection, playbook, written)
        autonomy.set_mode(tx, playbook, mode, written, person, reason)
        if autonomy.lower_mode(before, mode) == before and breakers.list_tripped(tx.connection).get(playbook):
            breakers.reset(tx, playbook, person, reason)
        return before

    before = _direct_store.write(config, put)
    click.echo(f"{playbook}: {before} -> {mode} (its file says {written})")


def _playbook(config: Config, name: str) -> Playbook:
    loaded = load(config.playbooks, config.inventory, Registry.load(config.plugins).catalogue())
    for playbook in loaded.playbooks:
        if playbook.name == name:
            return playbook
    known = ", ".join(sorted(playbook.name for playbook in loaded.playbooks))
    raise InputError(f"there is no playbook {name!r}; there are: {known}")
