"""The ``remediator memory`` commands: the memory of releases and remedies. With ``--server``: its API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from remediator.cli import _output
from remediator.cli._decisions import terminal_operator
from remediator.cli._options import actor_option, format_option
from remediator.cli._source import Source, segment, source_options
from remediator.core.approval import Person
from remediator.pipeline import decisions
from remediator.storage import Tx
from remediator.storage.repositories import remedy_memory
from remediator.web.api_service import memory_data

_MEANING = {"bad": "was rolled back", "good": "was restored and proved", "no_help": "did not help"}


@click.group("memory")
def command() -> None:
    """List and clear the memory of releases and remedies."""


@command.command("list")
@source_options
@click.option("--target", metavar="SERVICE", help="Only entries about this service (default: all services).")
@format_option("text", "json")
def list_(source: Source, target: str | None, format_: str) -> None:
    """List the releases that were rolled back and the remedies that did not help, the newest first.

    \b
    Example:
      remediator memory list --target app
    """
    found = source.get(
        "memory",
        lambda connection: [memory_data(item) for item in remedy_memory.list_entries(connection, target)],
        target=target,
    )
    if format_ == "json":
        _output.data(found)
    else:
        _output.lines(map(_text, found), "no entry")


def _text(entry: Mapping[str, Any]) -> str:
    meaning = _MEANING.get(entry["verdict"], entry["verdict"])
    about = f"{entry['id']}  {entry['target']}: {entry['kind']} {entry['name']!r} {meaning}"
    return f"{about} at {entry['at'][:19]}Z: {entry['reason']}"


@command.command("clear")
@source_options
@click.option("--reason", required=True, help="Reason, which is in the audit log.")
@actor_option
@click.argument("entry_id", metavar="ENTRY")
def clear(source: Source, reason: str, actor: str | None, entry_id: str) -> None:
    """Allow a release to be restored again, or a remedy to run automatically again.

    'remediator memory list' lists the entries.

    \b
    Example:
      remediator memory clear memory-1m832pbs91d5nnh4x --reason "the cause was the network"
    """

    def local(tx: Tx, person: Person) -> Mapping[str, Any]:
        return memory_data(decisions.clear_memory(tx, person, entry_id, reason))

    body = source.body({"reason": reason}, actor)
    entry = source.post(f"memory/{segment(entry_id)}/clear", local, body, lambda: terminal_operator(actor))
    _output.echo(f"{entry['id']} cleared: {entry['kind']} {entry['name']!r} of {entry['target']}")
