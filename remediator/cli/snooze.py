"""``remediator snooze``: not now: ask again later."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli._decisions import decide, reason_option, token_option
from remediator.cli._options import config_option


@click.command("snooze")
@config_option
@token_option
@reason_option
@click.argument("request_or_run")
def command(config_path: Path, token_file: Path | None, reason: str, request_or_run: str) -> None:
    """End a request; the run sleeps for approvals.snooze, then plans afresh and asks again.

    Exit status 1 if the word did not count, because it was decided already.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator snooze run-1m832pbs91d5nnh4x --reason "we are on it"
    """
    decide(config_path, request_or_run, "snooze", token_file, reason)
