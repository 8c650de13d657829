"""``remediator report``: what the records show."""

from __future__ import annotations

import json
from pathlib import Path

import click

from remediator.cli._options import config_option, format_option, output_option, writing
from remediator.config import Config
from remediator.core.clock import SystemClock, before, parse_duration
from remediator.playbooks.loader import load_config
from remediator.reporting.period import promotion, render, statistics
from remediator.reporting.period.history import from_prometheus
from remediator.service import read_only_connection


@click.group("report", invoke_without_command=True)
@config_option
@click.option("--since", "age", default="30d", show_default=True, metavar="DURATION", help="How far back.")
@click.option("--format", "format_", type=click.Choice(["html", "md", "json"]), default="md", show_default=True)
@click.option(
    "--minutes-per-incident",
    "minutes",
    type=click.FloatRange(0, 10_000),
    default=30.0,
    show_default=True,
    help="What an incident costs a person: the assumption behind the toil saved.",
)
@output_option
@click.pass_context
def command(ctx: click.Context, config_path: Path, age: str, format_: str, minutes: float, output: Path) -> None:
    """What was healed, how fast against the time before, what was refused, and which causes are left to fix.

    \b
    Example:
      remediator report --since 30d --format html --output report.html
    """
    if ctx.invoked_subcommand is not None:
        return
    config, now, span = load_config(config_path, Config), SystemClock().now(), parse_duration(age)
    history = None if config.prometheus is None else from_prometheus(config.prometheus, span)
    asked = statistics.ReportRequest(before(now, age), now, config.environment, minutes, history)
    with read_only_connection(config) as connection:
        report = statistics.build_report(connection, asked)
    with writing(output) as file:
        file.write(_FORMATS[format_](report).encode())


_FORMATS = {
    "html": render.html,
    "md": render.markdown,
    "json": render.as_json,
}


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
    since = before(SystemClock().now(), length)
    with read_only_connection(load_config(config_path, Config)) as connection:
        found = promotion.evidence(connection, since, playbook)
    if format_ == "json":
        click.echo(json.dumps([promotion.as_json(item) for item in found], indent=2))
        return
    lines = [line for item in found for line in promotion.as_text(item)]
    click.echo("\n".join(lines) or f"no runs in the last {length}")
