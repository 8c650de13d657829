"""``remediator runs``: what is being done and was done. Reads the store directly; the service need not run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from remediator.cli._options import config_option, format_option
from remediator.config import Config
from remediator.core.clock import format_duration
from remediator.core.run import Run, Status
from remediator.errors import InputError
from remediator.playbooks.loader import load_config
from remediator.reporting import messages, run_timeline
from remediator.reporting.run_timeline import RunTimeline
from remediator.runtime.settings import archive_folder
from remediator.service import read_only_connection
from remediator.storage.repositories import runs

T = TypeVar("T")


@click.group("runs")
def command() -> None:
    """What is being done and was done."""


@command.command("list")
@config_option
@format_option
@click.option("--open", "open_only", is_flag=True, help="Only those that are not over.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
def list_(config_path: Path, format_: str, open_only: bool, limit: int) -> None:
    """Runs, newest first.

    \b
    Example:
      remediator runs list --open
    """
    found = _read(config_path, lambda connection: runs.list_page(connection, limit, open_only=open_only))
    if format_ == "json":
        click.echo(json.dumps([run_timeline.summary(run) for run in found], indent=2))
        return
    if not found:
        click.echo("no runs")
    for run in found:
        click.echo(_line(run))


def _line(run: Run) -> str:
    end = run.finished_at or run.updated_at
    took = format_duration(end - run.created_at)
    reason = f" ({run.reason})" if run.reason else ""
    what = f"{run.status.value}{reason}  {run.playbook} on {run.target}"
    return f"{run.id}  {run.created_at:%Y-%m-%d %H:%M:%S}Z  {what}  {took}"


@command.command("show")
@config_option
@format_option
@click.argument("run_id")
def show(config_path: Path, format_: str, run_id: str) -> None:
    """One run: its alerts, plan, verdicts, steps and proof, in order."""
    folder = archive_folder(load_config(config_path, Config))
    told = _read(config_path, lambda connection: run_timeline.load_timeline(connection, run_id, folder))
    if told is None:
        raise InputError(run_timeline.missing_run_hint(run_id, folder))
    if format_ == "json":
        click.echo(json.dumps(run_timeline.as_data(told), indent=2))
        return
    for line in _tell(told):
        click.echo(line)


def _tell(told: RunTimeline) -> list[str]:
    run = told.run
    lines = [_line(run), ""]
    for alert in told.alerts:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()) if name != "alertname")
        lines.append(f"alert   {alert.alertname} {{{labels}}} {alert.status.value} since {alert.started_at:%H:%M:%S}Z")
    lines += ["", *_decision(told), ""] if run.status is Status.AWAITING_APPROVAL else [""]
    lines += [f"{event.at:%H:%M:%S.%f}"[:-3] + f"Z  {event.text}" for event in told.events]
    return lines if told.complete else [*lines, "", run_timeline.archived_hint(run.id)]


def _decision(told: RunTimeline) -> Iterator[str]:
    """What somebody has to know who is about to say yes or no."""
    run = told.run
    if run.plan is None:
        return
    plan = run.plan
    yield from (f"do      {text}" for text in messages.calls(plan, seen=told.evidence))
    yield from (f"risk    {text}" for text in messages.risks(plan))
    yield f"decide  remediator approve {run.id}; or reject, or snooze"


def _read(config_path: Path, work: Callable[[Connection], T]) -> T:
    config: Any = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        return work(connection)
