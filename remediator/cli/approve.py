"""``remediator approve``: say yes to exactly the plan that a run waits with."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli._decisions import decide, reason_option, token_option
from remediator.cli._options import config_option


@click.command("approve")
@config_option
@token_option
@reason_option
@click.option(
    "--confirm", default="", metavar="TARGET", help="The target's name, where the plan can destroy something."
)
@click.option("--break-glass", is_flag=True, help="This one word is enough; needs a reason, and everybody is told.")
@click.argument("request_or_run")
def command(
    config_path: Path, token_file: Path | None, reason: str, confirm: str, break_glass: bool, request_or_run: str
) -> None:
    """Approve a request, by its id or its run's; 'remediator runs show RUN' shows the plan.

    Exit status 1 if the word did not count, because it was decided already.

    \b
    Examples:
      REMEDIATOR_TOKEN=… remediator approve run-1m832pbs91d5nnh4x
      remediator approve RUN --break-glass --reason "on-call phone is dead, shop is down"
    """
    decide(config_path, request_or_run, "approve", token_file, reason, confirm, break_glass=break_glass)
