"""The ``remediator incident`` commands. They read the database directly; the service need not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli import _output
from remediator.cli._options import config_option, format_option
from remediator.config import Config
from remediator.errors import InputError
from remediator.playbooks.loader import load_config
from remediator.reporting.formatting import format_datetime, plural
from remediator.reporting.incidents import Incident, load_incident
from remediator.service import read_only_connection
from remediator.storage.repositories import incidents, runs


@click.group("incident")
def command() -> None:
    """List and show incidents: runs whose alerts belong together."""


@command.command("list")
@config_option
@format_option("text", "json")
@click.option("--open", "open_only", is_flag=True, help="List only incidents that are not over.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="Most incidents to list (default: 20).")
def list_(config_path: Path, format_: str, open_only: bool, limit: int) -> None:
    """List incidents, the one with the newest run first.

    \b
    Example:
      remediator incident list --open
    """
    config: Any = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        ids = incidents.list_recent(connection, limit, open_only=open_only)
        found = [item for each in ids if (item := load_incident(connection, each)) is not None]
    if format_ == "json":
        _output.data([item.to_data() for item in found])
    else:
        _output.lines(map(_line, found), "no incidents")


def _line(incident: Incident) -> str:
    state = "over" if incident.over else "open"
    began = format_datetime(incident.began_at)
    return f"{incident.id}  {began}  {state}  {incident.severity}  {plural(len(incident.runs), 'run')}"


@command.command("show")
@config_option
@format_option("text", "json")
@click.argument("name", metavar="INCIDENT|RUN")
def show(config_path: Path, format_: str, name: str) -> None:
    """Show an incident: its runs, the best likely cause, and notes. A run stands for its incident.

    \b
    Example:
      remediator incident show incident-1m832pbs91d5nnh4x
    """
    config: Any = load_config(config_path, Config)
    with read_only_connection(config) as connection:
        found = _find(connection, name)
    if format_ == "json":
        _output.data(found.to_data())
    else:
        _output.lines(_lines(found))


def _find(connection: Connection, name: str) -> Incident:
    run = runs.get(connection, name)
    found = load_incident(connection, name if run is None else run.incident_id)
    if found is None:
        raise InputError(f"no incident or run {name[:64]!r}; 'remediator incident list' lists the incidents")
    return found


def _lines(incident: Incident) -> Iterator[str]:
    state = "over" if incident.over else "open"
    yield f"{incident.id}  {state}  {incident.severity}  since {format_datetime(incident.began_at)}"
    yield from (f"cause   {text}" for text in incident.causes)
    yield from (f"run     {item.run.id}  {item.line()}" for item in incident.runs)
    yield from (f"note    {format_datetime(item.at)} {item.text}; nobody was notified" for item in incident.notes)
