"""The ``remediator incident`` commands. With ``--server`` they use its API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli import _output
from remediator.cli._decisions import reason_option
from remediator.cli._options import format_option, watch_option
from remediator.cli._run_changes import write_comment
from remediator.cli._source import Source, segment, source_options
from remediator.errors import InputError
from remediator.reporting.formatting import format_datetime, plural
from remediator.reporting.incidents import load_incident
from remediator.storage.repositories import incidents, lookup
from remediator.storage.repositories.comments import CommentKind

incident_argument = click.argument("name", metavar="INCIDENT|RUN")


@click.group("incident")
def command() -> None:
    """List and show incidents: runs whose alerts belong together."""


@command.command("list")
@source_options
@format_option("text", "json")
@watch_option
@click.option("--open", "open_only", is_flag=True, help="List only incidents that are not over.")
@click.option(
    "--limit", type=click.IntRange(1, 500), default=20, help="Maximum number of incidents to list (default: 20)."
)
def list_(source: Source, format_: str, watch: float | None, open_only: bool, limit: int) -> None:
    """List incidents; the incident with the newest run comes first.

    \b
    Example:
      remediator incident list --open
    """

    def local(connection: Connection) -> list[dict[str, Any]]:
        newest = incidents.list_recent(connection, limit, open_only=open_only)
        found = (load_incident(connection, run.incident_id) for run in newest)
        return [item.to_data() for item in found if item is not None]

    def shown() -> None:
        found = source.get("incidents", local, limit=limit, open="true" if open_only else None)
        if format_ == "json":
            _output.data(found)
        else:
            _output.table(("INCIDENT", "BEGAN", "STATE", "SEVERITY", "RUNS"), map(_row, found), "no incidents")

    _output.repeat(watch, shown)


def _row(incident: Mapping[str, Any]) -> tuple[str, ...]:
    state, runs = "over" if incident["over"] else "open", plural(len(incident["runs"]), "run")
    return (incident["id"], _time(incident["began_at"]), state, incident["severity"], runs)


@command.command("show")
@source_options
@format_option("text", "json")
@watch_option
@incident_argument
def show(source: Source, format_: str, watch: float | None, name: str) -> None:
    """Show an incident: its runs, the best likely cause, and notes. The ID of a run selects its incident.

    \b
    Example:
      remediator incident show incident-1m832pbs91d5nnh4x
    """

    def local(connection: Connection) -> dict[str, Any]:
        found = load_incident(connection, lookup.incident_id(connection, name))
        if found is None:
            raise InputError(f"no incident or run {name[:64]!r}; 'remediator incident list' lists the incidents")
        return found.to_data()

    def shown() -> bool:
        found = source.get(f"incidents/{segment(name)}", local)
        if format_ == "json":
            _output.data(found)
        else:
            _output.lines(_lines(found))
        return bool(found["over"])

    _output.repeat(watch, shown)


def _lines(incident: Mapping[str, Any]) -> Iterator[str]:
    state = "over" if incident["over"] else "open"
    yield f"{incident['id']}  {state}  {incident['severity']}  since {_time(incident['began_at'])}"
    yield from (f"cause   {text}" for text in incident["causes"])
    yield from (f"run     {item['id']}  {item['line']}" for item in incident["runs"])
    yield from (f"note    {_time(item['at'])} {item['text']}; no person was notified" for item in incident["notes"])


def _time(text: str) -> str:
    return format_datetime(datetime.fromisoformat(text))


@command.command("comment")
@source_options
@incident_argument
@click.argument("text")
def comment(source: Source, name: str, text: str) -> None:
    """Write a comment about the newest run of an incident; all users who open it see the comment.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator incident comment @latest "the provider has an outage"
    """
    write_comment(source, "incidents", name, text, CommentKind.COMMENT)


@command.command("acknowledge")
@source_options
@reason_option
@incident_argument
def acknowledge(source: Source, reason: str, name: str) -> None:
    """Acknowledge an incident: you take care of it.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator incident acknowledge @latest
    """
    write_comment(source, "incidents", name, reason, CommentKind.ACKNOWLEDGEMENT)
