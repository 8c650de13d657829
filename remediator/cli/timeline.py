"""``remediator timeline``: the post-incident document of a run or an episode."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import click
from sqlalchemy import Connection

from remediator.cli._options import config_option, output_option, writing
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config
from remediator.core.clock import SystemClock
from remediator.errors import InputError, RemediatorError
from remediator.playbooks.loader import load_config
from remediator.reporting import alert_series, document, incident_document
from remediator.reporting.run_timeline import RunTimeline, load_timeline, missing_run_hint
from remediator.runtime.settings import archive_folder
from remediator.service import read_only_connection
from remediator.storage.repositories import episodes

_MARGIN = timedelta(minutes=15)
_POINTS = 120


@click.command("timeline")
@click.argument("which", metavar="RUN|EPISODE")
@config_option
@click.option("--format", "format_", type=click.Choice(["md", "html"]), default="md", show_default=True)
@output_option
def command(which: str, config_path: Path, format_: str, output: Path) -> None:
    """What fired, what was decided and why, what was done and what was seen: ready to paste.

    For an EPISODE, the documents of all its runs. With --format html and Prometheus in the settings, a chart of what
    the alert measures is in it.

    \b
    Examples:
      remediator timeline run-1m83e2z0syfkm9t4r
      remediator timeline RUN --format html --output incident.html
    """
    config = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        stories = _stories(connection, which, archive_folder(config))
    sections: list[document.Section] = []
    for story in stories:
        measured = _measured(config, story) if format_ == "html" else None
        sections += incident_document.document(story, measured)
    with writing(output) as file:
        file.write((document.to_html(sections) if format_ == "html" else document.to_markdown(sections)).encode())


def _stories(connection: Connection, which: str, folder: Path | None) -> list[RunTimeline]:
    ids = [which]
    if episodes.get(connection, which) is not None:
        ids = episodes.run_ids_by_episode(connection, [which]).get(which, [])
        if not ids:
            raise InputError(f"no playbook has taken {which[:64]}, so there is nothing to tell")
    found = [load_timeline(connection, run_id, folder) for run_id in ids]
    stories = [story for story in found if story is not None]
    if not stories:
        raise InputError(missing_run_hint(which, folder))
    return stories


def _measured(config: Config, story: RunTimeline) -> incident_document.AlertSeries | None:
    """What the alert measures; None where it cannot be had: the document does without."""
    if config.prometheus is None or not story.alerts:
        return None
    name = story.alerts[0].alertname
    begin = min(item.started_at for item in story.alerts) - _MARGIN
    end = min((story.run.finished_at or SystemClock().now()) + _MARGIN, SystemClock().now())

    async def ask(prometheus: Prometheus) -> incident_document.AlertSeries:
        try:
            lines, limit = await alert_series.query_alert(prometheus, name, begin, end, _POINTS)
        finally:
            await prometheus.aclose()
        return incident_document.AlertSeries(name, lines, limit)

    try:
        return asyncio.run(ask(Prometheus(config.prometheus)))
    except RemediatorError as error:
        click.echo(f"no chart: {error}", err=True)
        return None
