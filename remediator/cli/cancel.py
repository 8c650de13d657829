"""``remediator cancel``: stop a run, whatever state it is in."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli import _direct_store
from remediator.cli._decisions import reason_option, token_option, who
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.pipeline import decisions
from remediator.playbooks.loader import load_config


@click.command("cancel")
@config_option
@token_option
@reason_option
@click.argument("run_id")
def command(config_path: Path, token_file: Path | None, reason: str, run_id: str) -> None:
    """Cancel a run: at once while it waits, after the step that is under way while it acts.

    A run that is over and still holds its target, because nobody knows what its last call did, lets go of it: by
    cancelling it you say that nothing of it acts there any more.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator cancel run-1m832pbs91d5nnh4x --reason "false alarm"
    """
    config = load_config(config_path, Config)
    person = who(config, token_file)
    click.echo(_direct_store.write(config, lambda tx: decisions.cancel(tx, person, run_id, reason)))
