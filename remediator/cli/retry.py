"""``remediator retry``: another run for an incident that still fires."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli import _direct_store
from remediator.cli._decisions import reason_option, token_option, who
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.core.run import Run
from remediator.errors import InputError
from remediator.extensions.registry import Registry
from remediator.pipeline import decisions
from remediator.playbooks.loader import load, load_config
from remediator.storage import Tx
from remediator.storage.repositories import autonomy, runs


@click.command("retry")
@config_option
@token_option
@reason_option
@click.argument("run_id")
def command(config_path: Path, token_file: Path | None, reason: str, run_id: str) -> None:
    """Begin another run for the alerts of a run that is over, by the playbook that is in force now.

    Every guard is asked as always. Whoever retries may not approve.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator retry run-1m832pbs91d5nnh4x --reason "disk was replaced"
    """
    config = load_config(config_path, Config)
    person = who(config, token_file)
    loaded = load(config.playbooks, config.inventory, Registry.load(config.plugins).catalogue())

    def begin(tx: Tx) -> Run:
        old = runs.get(tx.connection, run_id)
        playbook = next((item for item in loaded.playbooks if old is not None and item.name == old.playbook), None)
        if playbook is None:
            raise InputError(f"there is no run {run_id}, or its playbook is not in force any more")
        mode = autonomy.effective_mode(tx.connection, playbook.name, playbook.mode_in(config.environment))
        return decisions.retry(tx, person, run_id, playbook.content_hash, mode, reason)

    click.echo(f"{_direct_store.write(config, begin).id} begins")
