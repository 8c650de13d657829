"""The ``remediator report`` command."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli import _output
from remediator.cli._options import config_option, format_option, output_option, since_option, writing
from remediator.config import Config
from remediator.core.clock import SystemClock, before, parse_duration
from remediator.playbooks.loader import load_config
from remediator.reporting.period import promotion, render, statistics
from remediator.reporting.period.history import from_prometheus
from remediator.service import read_only_connection


@click.group("report", invoke_without_command=True)
@config_option
@since_option
@format_option("md", "html", "json")
@click.option(
    "--minutes-per-incident",
    "minutes",
    type=click.FloatRange(0, 10_000),
    default=30.0,
    help="Minutes of manual work per incident, to estimate the toil saved (default: 30).",
)
@output_option
@click.pass_context
def command(ctx: click.Context, config_path: Path, since: str, format_: str, minutes: float, output: Path) -> None:
    """Report what was healed, how fast, and what was refused.

    'remediator report promotion' shows the evidence for raising the mode of each playbook.

    \b
    Example:
      remediator report --since 30d --format html --output report.html
    """
    if ctx.invoked_subcommand is not None:
        return
    config, now, span = load_config(config_path, Config), SystemClock().now(), parse_duration(since)
    history = None if config.prometheus is None else from_prometheus(config.prometheus, span)
    asked = statistics.ReportRequest(before(now, since), now, config.environment, minutes, history)
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
@format_option("text", "json")
@since_option
@click.option("--playbook", help="Only this playbook (default: all).")
def promotion_(config_path: Path, format_: str, since: str, playbook: str | None) -> None:
    """Show the evidence for raising the mode of each playbook.

    The evidence compares shadow decisions and approvals with what approvers and on-call engineers did.

    \b
    Example:
      remediator report promotion --since 90d --playbook redis-down
    """
    with read_only_connection(load_config(config_path, Config)) as connection:
        found = promotion.evidence(connection, before(SystemClock().now(), since), playbook)
    if format_ == "json":
        _output.data([promotion.as_json(item) for item in found])
        return
    lines = [line for item in found for line in promotion.as_text(item)]
    _output.lines(lines, f"no runs in the last {since}")
