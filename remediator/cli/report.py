"""``remediator report``: what the records show."""

from __future__ import annotations

import json
from pathlib import Path

import click

from remediator.cli.options import config_option, format_option
from remediator.clock import SystemClock, parse_duration
from remediator.config import Config
from remediator.loader import load_config
from remediator.report import promotion
from remediator.service import read_only


@click.group("report")
def command() -> None:
    """What the records show."""


@command.command("promotion")
@config_option
@format_option
@click.option("--since", "length", default="30d", show_default=True, metavar="DURATION", help="How far back.")
@click.option("--playbook", help="Only this one.")
def promotion_(config_path: Path, format_: str, length: str, playbook: str | None) -> None:
    """What speaks for the next rung of each playbook: shadow decisions and approvals against what people did.

    \b
    Example:
      remediator report promotion --since 90d --playbook redis-down
    """
    since = SystemClock().now() - parse_duration(length)
    with read_only(load_config(config_path, Config)) as connection:
        found = promotion.evidence(connection, since, playbook)
    if format_ == "json":
        click.echo(json.dumps([promotion.as_json(item) for item in found], indent=2))
        return
    lines = [line for item in found for line in promotion.as_text(item)]
    click.echo("\n".join(lines) or f"no runs in the last {length}")
