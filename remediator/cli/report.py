"""The ``remediator report`` command."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli import _output
from remediator.cli._options import format_option, output_option, since_option, writing
from remediator.cli._source import Source, source_options
from remediator.core.clock import SystemClock
from remediator.runtime.store_access import read_only_connection
from remediator.web.api_service import promotion_data, report


@click.group("report", invoke_without_command=True)
@source_options
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
def command(ctx: click.Context, source: Source, since: str, format_: str, minutes: float, output: Path) -> None:
    """Report the healed incidents, the recovery times, and the refused actions.

    'remediator report promotion' shows the evidence for raising the mode of each playbook.

    \b
    Example:
      remediator report --since 30d --format html --output report.html
    """
    if ctx.invoked_subcommand is not None:
        return

    def local() -> str:
        with read_only_connection(source.config) as connection:
            return report(connection, source.config, since, SystemClock().now(), minutes, format_)

    with _output.working("reading the history"):
        text = source.text("report", local, since=since, format=format_, minutes_per_incident=minutes)
    with writing(output) as file:
        file.write(text.encode())


@command.command("promotion")
@source_options
@format_option("text", "json")
@since_option
@click.option("--playbook", help="Only this playbook (default: all).")
def promotion_(source: Source, format_: str, since: str, playbook: str | None) -> None:
    """Show the evidence for raising the mode of each playbook.

    For each playbook: how many shadow runs would have acted, how many of those alerts resolved without the service,
    how many requests were approved or rejected, and how many runs healed. The last line is advice about the mode.

    \b
    Example:
      remediator report promotion --since 90d --playbook redis-down
    """
    now = SystemClock().now()
    found = source.get(
        "report/promotion",
        lambda connection: promotion_data(connection, since, playbook, now),
        since=since,
        playbook=playbook,
    )
    if format_ == "json":
        _output.data([{name: value for name, value in item.items() if name != "text"} for item in found])
        return
    _output.lines((line for item in found for line in item["text"]), f"no runs in the last {since}")
