"""The ``remediator session`` commands: list and end the sessions of people."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.cli import _direct_store, _output
from remediator.cli._decisions import terminal_operator
from remediator.cli._options import config_option, format_option
from remediator.config import Config
from remediator.core.clock import SystemClock, rfc3339
from remediator.pipeline import decisions
from remediator.playbooks.loader import load_config
from remediator.service import read_only_connection
from remediator.storage.repositories import sessions


@click.group("session")
def command() -> None:
    """List and end the sessions of people who signed in."""


@command.command("list")
@config_option
@format_option("text", "json")
def list_(config_path: Path, format_: str) -> None:
    """List the sessions that are not over, newest first.

    \b
    Example:
      remediator session list
    """
    config = load_config(config_path, Config)
    now = SystemClock().now()
    with read_only_connection(config) as connection:
        found = [item for item in sessions.list_open(connection) if item.is_active(now, config.access.session_idle)]
    rows = [
        {
            "person": item.person,
            "how": item.how,
            "address": item.address,
            "started_at": rfc3339(item.created_at),
            "used_at": rfc3339(item.seen_at),
        }
        for item in found
    ]
    if format_ == "json":
        _output.data(rows)
    else:
        _output.lines(("  ".join(row.values()) for row in rows), "no session")


@command.command("end")
@config_option
@click.option("--reason", default="", help="Reason, for the audit log (default: none).")
@click.argument("person")
def end(config_path: Path, reason: str, person: str) -> None:
    """End all sessions of a person, on all replicas, at once.

    To take the rights away as well, remove the person or the operator token from the people file.

    \b
    Example:
      remediator session end ann@example.com --reason "laptop lost"
    """
    config = load_config(config_path, Config)
    ended = _direct_store.write(config, lambda tx: decisions.end_sessions(tx, terminal_operator(), person, reason))
    _output.echo(f"{ended} session{'s' if ended != 1 else ''} of {person} ended")
