"""The ``remediator run`` commands. They read and write the database directly; the service need not run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from remediator.cli import _direct_store, _output
from remediator.cli._decisions import authenticate, reason_option, token_option
from remediator.cli._options import config_option, format_option, output_option, writing
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config
from remediator.core.clock import SystemClock, format_duration
from remediator.core.run import Run
from remediator.errors import InputError, RemediatorError
from remediator.extensions.registry import Registry
from remediator.pipeline import decisions
from remediator.playbooks.loader import load, load_config
from remediator.reporting import (
    alert_series,
    document,
    incident_document,
    outcome_text,
    request_text,
    run_timeline,
)
from remediator.reporting.request_view import RequestView
from remediator.reporting.run_timeline import RunTimeline
from remediator.runtime.settings import archive_folder
from remediator.service import read_only_connection
from remediator.storage import Tx
from remediator.storage.repositories import approvals, autonomy, episodes, runs

T = TypeVar("T")

CHART_MARGIN = timedelta(minutes=15)
"""How much of the alert's series a chart shows before and after the run."""
CHART_POINTS = 120

run_argument = click.argument("run_id", metavar="RUN")


@click.group("run")
def command() -> None:
    """List, show, cancel and retry runs."""


@command.command("list")
@config_option
@format_option("text", "json")
@click.option("--open", "open_only", is_flag=True, help="List only runs that have not ended.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="Most runs to list (default: 20).")
def list_(config_path: Path, format_: str, open_only: bool, limit: int) -> None:
    """List runs, newest first.

    \b
    Example:
      remediator run list --open
    """
    found = _read(config_path, lambda connection: runs.list_page(connection, limit, open_only=open_only))
    if format_ == "json":
        _output.data([run_timeline.summary(run) for run in found])
    else:
        _output.lines(map(_line, found), "no runs")


def _line(run: Run) -> str:
    took = format_duration((run.finished_at or run.updated_at) - run.created_at)
    reason = f" ({run.reason})" if run.reason else ""
    what = f"{run.status.value}{reason}  {run.playbook} on {run.target}"
    return f"{run.id}  {run.created_at:%Y-%m-%d %H:%M:%S}Z  {what}  {took}"


@command.command("show")
@config_option
@format_option("text", "json")
@run_argument
def show(config_path: Path, format_: str, run_id: str) -> None:
    """Show a run: its alerts, plan, verdicts, steps and proof, in order.

    \b
    Example:
      remediator run show run-1m832pbs91d5nnh4x
    """
    folder = archive_folder(load_config(config_path, Config))
    found = _read(config_path, lambda connection: _load(connection, run_id, folder))
    if found is None:
        raise InputError(run_timeline.missing_run_hint(run_id, folder))
    timeline, request = found
    if format_ == "json":
        _output.data(run_timeline.as_data(timeline))
    else:
        _output.lines(_timeline_lines(timeline, request, load_config(config_path, Config)))


def _load(connection: Connection, run_id: str, folder: Path | None) -> tuple[RunTimeline, RequestView | None] | None:
    """Return the timeline of a run with its latest approval request; None if there is no such run."""
    timeline = run_timeline.load_timeline(connection, run_id, folder)
    if timeline is None:
        return None
    latest = approvals.get_latest(connection, run_id)
    return timeline, None if latest is None else RequestView.load(connection, latest, timeline.run)


def _timeline_lines(timeline: RunTimeline, request: RequestView | None, config: Config) -> list[str]:
    run = timeline.run
    lines = [_line(run), ""]
    if request is not None:
        lines += _request_lines(request, config)
    else:
        now = SystemClock().now()
        lines += [f"alert   {text}" for text in request_text.alert_lines(timeline.alerts, now)]
        lines += [f"cause   {text}" for text in request_text.cause_lines(timeline.evidence)]
        result = outcome_text.result_lines(timeline.run, timeline.attempts, timeline.evidence)
        lines += [f"result  {text}" for text in result]
    lines.append("")
    lines += [f"{event.at:%H:%M:%S.%f}"[:-3] + f"Z  {event.text}" for event in timeline.events]
    return lines if timeline.complete else [*lines, "", run_timeline.archived_hint(run.id)]


def _request_lines(request: RequestView, config: Config) -> Iterator[str]:
    """Yield what the message about the latest request says, and the command to decide."""
    now, run = SystemClock().now(), request.run
    for section in request.sections(now):
        yield section.heading
        yield from (f"  {line}" for line in section.lines)
    if request.pending(now):
        yield f"To decide, run: remediator approval approve {run.id} (or reject, or snooze)"
    if config.public_url:
        yield f"Show the run: {config.public_url}/runs/{run.id}"


def _read(config_path: Path, work: Callable[[Connection], T]) -> T:
    config: Any = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        return work(connection)


@command.command("timeline")
@click.argument("name", metavar="RUN|EPISODE")
@config_option
@format_option("md", "html")
@output_option
def timeline(name: str, config_path: Path, format_: str, output: Path) -> None:
    """Write the post-incident document of a run, or of all runs of an episode.

    It says what fired, what was decided and why, what was done, and what was observed. With --format html and
    Prometheus in the settings, it contains a chart of the alert's expression.

    \b
    Examples:
      remediator run timeline run-1m83e2z0syfkm9t4r
      remediator run timeline RUN --format html --output incident.html
    """
    config = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        timelines = _timelines(connection, name, archive_folder(config))
    sections: list[document.Section] = []
    for each in timelines:
        measured = _measured(config, each) if format_ == "html" else None
        sections += incident_document.document(each, measured)
    render = document.to_html if format_ == "html" else document.to_markdown
    with writing(output) as file:
        file.write(render(sections).encode())


def _timelines(connection: Connection, name: str, folder: Path | None) -> list[RunTimeline]:
    ids = [name]
    if episodes.get(connection, name) is not None:
        ids = episodes.run_ids_by_episode(connection, [name]).get(name, [])
        if not ids:
            raise InputError(f"episode {name[:64]!r} has no run: no playbook matched its alert")
    found = [run_timeline.load_timeline(connection, run_id, folder) for run_id in ids]
    timelines = [each for each in found if each is not None]
    if not timelines:
        raise InputError(run_timeline.missing_run_hint(name, folder))
    return timelines


def _measured(config: Config, timeline: RunTimeline) -> incident_document.AlertSeries | None:
    """Return the series of the alert's expression for the chart; None if Prometheus does not have it."""
    if config.prometheus is None or not timeline.alerts:
        return None
    name = timeline.alerts[0].alertname
    begin = min(item.started_at for item in timeline.alerts) - CHART_MARGIN
    end = min((timeline.run.finished_at or SystemClock().now()) + CHART_MARGIN, SystemClock().now())

    async def query(prometheus: Prometheus) -> incident_document.AlertSeries:
        try:
            lines, limit = await alert_series.query_alert(prometheus, name, begin, end, CHART_POINTS)
        finally:
            await prometheus.aclose()
        return incident_document.AlertSeries(name, lines, limit)

    try:
        return asyncio.run(query(Prometheus(config.prometheus)))
    except RemediatorError as error:
        _output.echo(f"the document has no chart: {error}", err=True)
        return None


@command.command("cancel")
@config_option
@token_option
@reason_option
@run_argument
def cancel(config_path: Path, token_file: Path | None, reason: str, run_id: str) -> None:
    """Cancel a run: at once while it waits, or after the current step.

    If the run has ended with an unknown outcome, this releases its target lock. Check the target first: you confirm
    that no call of the run still has an effect there.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator run cancel run-1m832pbs91d5nnh4x --reason "false alarm"
    """
    config = load_config(config_path, Config)
    person = authenticate(config, token_file)
    _output.echo(_direct_store.write(config, lambda tx: decisions.cancel(tx, person, run_id, reason)))


@command.command("retry")
@config_option
@token_option
@reason_option
@run_argument
def retry(config_path: Path, token_file: Path | None, reason: str, run_id: str) -> None:
    """Start another run for an incident that still fires, with the active playbook.

    All guards are evaluated. Another person must approve the new run.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator run retry run-1m832pbs91d5nnh4x --reason "disk was replaced"
    """
    config = load_config(config_path, Config)
    person = authenticate(config, token_file)
    loaded = load(config.playbooks, config.inventory, Registry.for_settings(config).catalogue())

    def begin(tx: Tx) -> Run:
        old = runs.get(tx.connection, run_id)
        if old is None:
            raise InputError(f"no run {run_id!r}; 'remediator run list' lists the runs")
        playbook = next((item for item in loaded.playbooks if item.name == old.playbook), None)
        if playbook is None:
            raise InputError(f"playbook {old.playbook!r} of run {run_id!r} is not active any more")
        mode = autonomy.effective_mode(tx.connection, playbook.name, playbook.mode_in(config.environment))
        return decisions.retry(tx, person, run_id, playbook.content_hash, mode, reason)

    _output.echo(f"{_direct_store.write(config, begin).id} started")
