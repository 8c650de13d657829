"""The ``remediator session`` commands: the sessions of people who signed in. With ``--server``: its API."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy import Connection

from remediator.cli import _output
from remediator.cli._decisions import terminal_operator
from remediator.cli._options import format_option
from remediator.cli._source import Source, source_options
from remediator.core.approval import Person
from remediator.core.clock import SystemClock
from remediator.pipeline import decisions
from remediator.reporting.formatting import plural
from remediator.storage import Tx
from remediator.web.status import sessions_data


@click.group("session")
def command() -> None:
    """List and end the sessions of people who signed in."""


@command.command("list")
@source_options
@format_option("text", "json")
def list_(source: Source, format_: str) -> None:
    """List the sessions that are not over, newest first.

    \b
    Example:
      remediator session list
    """
    now = SystemClock().now()

    def local(connection: Connection) -> list[dict[str, Any]]:
        return sessions_data(connection, now, source.config.access.session_idle)

    found = source.get("sessions", local)
    if format_ == "json":
        _output.data(found)
        return
    rows = ((item["person"], item["how"], item["address"], item["started_at"], item["used_at"]) for item in found)
    _output.table(("PERSON", "HOW", "ADDRESS", "STARTED", "USED"), rows, "no session")


@command.command("end")
@source_options
@click.option("--reason", default="", help="Reason, for the audit log (default: none).")
@click.argument("person")
def end(source: Source, reason: str, person: str) -> None:
    """End all sessions of a person, on all replicas, at once.

    To take the rights away as well, remove the person or the operator token from the people file.

    \b
    Example:
      remediator session end ann@example.com --reason "laptop lost"
    """

    def local(tx: Tx, who: Person) -> dict[str, Any]:
        return {"ended": decisions.end_sessions(tx, who, person, reason)}

    ended = source.post("sessions/end", local, {"person": person, "reason": reason}, terminal_operator)["ended"]
    _output.echo(f"{plural(ended, 'session')} of {person} ended")
