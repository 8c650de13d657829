"""The ``remediator memory`` commands: list and clear what is remembered of releases and remedies."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from remediator.cli import _direct_store, _output
from remediator.cli._decisions import terminal_operator
from remediator.cli._options import actor_option, config_option, format_option
from remediator.config import Config
from remediator.core.clock import rfc3339
from remediator.errors import InputError
from remediator.playbooks.loader import load_config
from remediator.service import read_only_connection
from remediator.storage.repositories import remedy_memory
from remediator.storage.repositories.remedy_memory import MemoryEntry

_MEANING = {"bad": "was rolled back", "good": "was restored and proved", "no_help": "did not help"}


@click.group("memory")
def command() -> None:
    """List and clear what is remembered of releases and remedies."""


@command.command("list")
@config_option
@click.option("--target", metavar="SERVICE", help="Only entries about this service (default: all services).")
@format_option("text", "json")
def list_(config_path: Path, target: str | None, format_: str) -> None:
    """List the releases that were rolled back and the remedies that did not help, the newest first.

    \b
    Example:
      remediator memory list --target app
    """
    with read_only_connection(load_config(config_path, Config)) as connection:
        found = remedy_memory.list_entries(connection, target)
    if format_ == "json":
        entries = [asdict(entry) | {"at": rfc3339(entry.at)} for entry in found]
        _output.echo(json.dumps(entries, indent=2))
    else:
        _output.echo("\n".join(_text(entry) for entry in found) or "no entry")


def _text(entry: MemoryEntry) -> str:
    meaning = _MEANING.get(entry.verdict, entry.verdict)
    return (
        f"{entry.id}  {entry.target}: {entry.kind} {entry.name!r} {meaning} at {rfc3339(entry.at)[:19]}Z: "
        f"{entry.reason}"
    )


@command.command("clear")
@config_option
@click.option("--reason", required=True, help="Reason, which is in the audit log.")
@actor_option
@click.argument("entry_id", metavar="ENTRY")
def clear(config_path: Path, reason: str, actor: str | None, entry_id: str) -> None:
    """Allow a release to be restored again, or a remedy to run automatically again.

    'remediator memory list' lists the entries.

    \b
    Example:
      remediator memory clear memory-1m832pbs91d5nnh4x --reason "the cause was the network"
    """
    if not reason.strip():
        raise InputError("the reason is empty; say why, for example --reason 'the cause was the network'")
    config = load_config(config_path, Config)
    who = terminal_operator(actor).id
    entry = _direct_store.write(config, lambda tx: remedy_memory.clear(tx, entry_id, who, reason))
    _output.echo(f"{entry.id} cleared: {entry.kind} {entry.name!r} of {entry.target}")
