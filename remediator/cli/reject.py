"""``remediator reject``: say no: the run ends, nothing is done."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli._decisions import decide, reason_option, token_option
from remediator.cli._options import config_option


@click.command("reject")
@config_option
@token_option
@reason_option
@click.argument("request_or_run")
def command(config_path: Path, token_file: Path | None, reason: str, request_or_run: str) -> None:
    """Reject a request, by its id or its run's; one rejection is enough.

    Exit status 1 if the word did not count, because it was decided already.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator reject run-1m832pbs91d5nnh4x --reason "we are on it"
    """
    decide(config_path, request_or_run, "reject", token_file, reason)
