"""The ``remediator run`` commands that read: list, show and timeline. With ``--server`` they use its API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli import _output
from remediator.cli._options import format_option, output_option, watch_option, writing
from remediator.cli._run_changes import CHANGES, run_argument
from remediator.cli._source import Source, segment, source_options
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config, configure_clients
from remediator.core.clock import SystemClock, format_duration, parse_moment, rfc3339
from remediator.core.run import Status
from remediator.core.severity import SEVERITIES
from remediator.errors import InputError, RemediatorError
from remediator.reporting import incident_document, run_timeline
from remediator.reporting.run_timeline import RunTimeline
from remediator.reporting.run_view import run_view
from remediator.runtime.settings import archive_folder
from remediator.runtime.store_access import read_only_connection
from remediator.storage.repositories import lookup
from remediator.web.paging import query_runs


@click.group("run")
def command() -> None:
    """List, show, start, undo, cancel and retry runs; comment on them.

    RUN is an ID, its beginning, or @latest.
    """


for change in CHANGES:
    command.add_command(change)


@command.command("list")
@source_options
@format_option("text", "json")
@watch_option
@click.option("--open", "open_only", is_flag=True, help="List only runs that have not ended.")
@click.option("--playbook", help="Only runs of this playbook (default: all).")
@click.option("--target", metavar="SERVICE", help="Only runs on this service (default: all).")
@click.option("--status", type=click.Choice([item.value for item in Status]), help="Only this status (default: all).")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only this severity (default: all).")
@click.option("--since", metavar="TIME", help="Only runs since then, such as 2h or 2026-01-31T08:00Z (default: all).")
@click.option("--until", metavar="TIME", help="Only runs before then, such as 1h (default: all).")
@click.option("--limit", type=click.IntRange(1, 500), default=20, help="Maximum number of runs to list (default: 20).")
def list_(source: Source, format_: str, watch: float | None, open_only: bool, limit: int, **filters: Any) -> None:
    """List runs, newest first.

    \b
    Examples:
      remediator run list --open --watch
      remediator run list --playbook redis-down --since 7d
    """
    query = {name: value for name, value in filters.items() if value is not None}

    def local(connection: Connection) -> list[dict[str, Any]]:
        asked = {**query, "open": open_only, "limit": limit}
        return [run_timeline.summary(run) for run in query_runs(connection, asked, SystemClock().now())]

    def shown() -> None:
        now = SystemClock().now()
        times = {name: rfc3339(parse_moment(query[name], now)) for name in ("since", "until") if name in query}
        found = source.get("runs", local, limit=limit, open=str(open_only).lower(), **(query | times))
        if format_ == "json":
            _output.data(found)
        else:
            _output.table(("RUN", "BEGAN", "STATUS", "PLAYBOOK", "TARGET", "TOOK"), map(_row, found), "no runs")

    _output.repeat(watch, shown)


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    began = datetime.fromisoformat(run["created_at"])
    reason = f" ({run['reason']})" if run["reason"] else ""
    state = f"{run['status']}{reason}"
    return (run["id"], f"{began:%Y-%m-%d %H:%M:%S}Z", state, run["playbook"], run["target"], took(run))


def took(run: Mapping[str, Any]) -> str:
    """Return how long a run took, or has taken so far."""
    began = datetime.fromisoformat(run["created_at"])
    return format_duration(datetime.fromisoformat(run["finished_at"] or run["updated_at"]) - began)


@command.command("show")
@source_options
@format_option("text", "json")
@watch_option
@run_argument
def show(source: Source, format_: str, watch: float | None, run_id: str) -> None:
    """Show a run: its alerts, plan, verdicts, steps and proof, in order.

    With --watch, show it again until it has ended.

    \b
    Examples:
      remediator run show run-1m832pbs91d5nnh4x
      remediator run show @latest --watch
    """

    def local(connection: Connection) -> dict[str, Any]:
        folder, full_id = archive_folder(source.config), lookup.run_id(connection, run_id)
        found = run_view(connection, full_id, folder, SystemClock().now(), source.config.public_url)
        if found is None:
            raise InputError(run_timeline.missing_run_hint(full_id, folder))
        return found

    def shown() -> bool:
        found = source.get(f"runs/{segment(run_id)}", local)
        if format_ == "json":
            _output.data(found)
        else:
            _output.lines(_show_lines(found))
        return found["finished_at"] is not None

    _output.repeat(watch, shown)


def _show_lines(run: Mapping[str, Any]) -> Iterator[str]:
    yield "  ".join(_row(run))
    yield ""
    for section in run["sections"]:
        yield section["heading"]
        yield from (f"  {line}" for line in section["lines"])
    if run["request"]:
        yield f"To decide, run: remediator approval approve {run['id']} (or reject, or snooze)"
    if run["undoable"]:
        yield f"To undo its actions, run: remediator run undo {run['id']}"
    if run["url"]:
        yield f"Show the run: {run['url']}"
    yield ""
    for event in run["timeline"]:
        yield f"{datetime.fromisoformat(event['time']):%H:%M:%S.%f}"[:-3] + f"Z  {event['text']}"
    if not run["complete"]:
        yield from ("", run_timeline.archived_hint(run["id"]))


@command.command("timeline")
@click.argument("name", metavar="RUN|EPISODE")
@source_options
@format_option("md", "html")
@output_option
def timeline(source: Source, name: str, format_: str, output: Path) -> None:
    """Write the post-incident document of a run, or of all runs of an episode.

    The document contains the alerts, the decisions with their reasons, the actions, and the observations. With --format
    html and Prometheus in the settings, it contains a chart of the alert's expression.

    \b
    Examples:
      remediator run timeline run-1m83e2z0syfkm9t4r
      remediator run timeline RUN --format html --output incident.html
    """
    text = source.text(
        f"runs/{segment(name)}/timeline", lambda: _document(source.config, name, format_), format=format_
    )
    with writing(output) as file:
        file.write(text.encode())


def _document(config: Config, name: str, format_: str) -> str:
    now = SystemClock().now()
    with read_only_connection(config) as connection:
        timelines = run_timeline.load_timelines(connection, name, archive_folder(config))

    async def measure() -> list[tuple[RunTimeline, incident_document.AlertSeries | None]]:
        if config.prometheus is None or format_ != "html":
            return [(each, None) for each in timelines]
        configure_clients(config)
        async with aclosing(Prometheus(config.prometheus)) as prometheus:
            return [
                (each, await incident_document.measure(prometheus, each, now, report=_no_chart)) for each in timelines
            ]

    return incident_document.render(asyncio.run(measure()), format_)


def _no_chart(error: RemediatorError) -> None:
    _output.echo(f"the document has no chart: {error}", err=True)
