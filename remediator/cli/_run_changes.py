"""The ``remediator run`` commands that change something. With ``--server`` they use its API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

import click

from remediator.authoring import explain
from remediator.authoring.explain import ReadOnlyStore
from remediator.cli import _output
from remediator.cli._decisions import authenticate, reason_option
from remediator.cli._explanations import playbook_lines
from remediator.cli._options import format_option
from remediator.cli._playbook_modes import loaded_playbooks
from remediator.cli._source import Source, segment, source_options
from remediator.config import Config
from remediator.core.approval import Person
from remediator.core.ids import Ids
from remediator.errors import InputError
from remediator.pipeline import decisions, manual_start, manual_undo
from remediator.pipeline.manual_start import StartRequest
from remediator.reporting import run_timeline
from remediator.service import read_only_context
from remediator.storage import Tx
from remediator.storage.repositories import lookup
from remediator.storage.repositories.comments import CommentKind

run_argument = click.argument("run_id", metavar="RUN")


@click.command("start")
@click.argument("playbook")
@source_options
@format_option("text", "json")
@click.option(
    "--service", default="", help="Target, a service of the inventory (default: the playbook's fixed target)."
)
@click.option(
    "--param",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of a parameter; can be repeated (default: none).",
)
@click.option("--dry-run", is_flag=True, help="Only show the plan of the run, and the current answers of the guards.")
@reason_option
def start(
    source: Source, playbook: str, format_: str, service: str, given: tuple[str, ...], dry_run: bool, reason: str
) -> None:
    """Start a run by hand, through the same guards, approval and audit as a run that an alert starts.

    If an approval is needed, another person must give it. In the modes observe and shadow, an approval is always
    needed.

    \b
    Examples:
      remediator run start redis-down --service redis --dry-run
      REMEDIATOR_TOKEN=… remediator run start redis-down --service redis --reason "it does not answer"
    """
    request = StartRequest(playbook, service, _parameters(given), reason)
    body = {"playbook": playbook, "service": service, "parameters": dict(request.parameters), "reason": reason}
    if dry_run:
        with _output.working("planning on the target"):
            found = source.call("runs", lambda: _dry_run(source, request), {**body, "dry_run": True})
        if format_ == "json":
            _output.data(found)
        else:
            _output.lines(playbook_lines(found))
        return
    made = source.post("runs", lambda tx, person: _start(tx, person, source.config, request), body)
    if format_ == "json":
        _output.data(made)
    else:
        _output.echo(f"{made['id']} started; to follow it, run: remediator run show {made['id']} --watch")


def _parameters(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError(f"--param: expected NAME=VALUE, for example --param replicas=3, not {text[:64]!r}")
        if name in found:
            raise InputError(f"--param: {name!r} is given twice")
        found[name] = value
    return found


def _start(tx: Tx, person: Person, config: Config, request: StartRequest) -> Mapping[str, Any]:
    window = config.timing.incident_window
    loaded = loaded_playbooks(config, tx.connection)
    return run_timeline.summary(manual_start.start(tx, person, loaded, request, window, Ids()))


def _dry_run(source: Source, request: StartRequest) -> Mapping[str, Any]:
    config, person = source.config, authenticate(source.config, source.token_file)

    async def planned() -> Mapping[str, Any]:
        async with read_only_context(config, ReadOnlyStore(config)) as context:
            return explain.as_json(await explain.explain_start(context, person, request))

    return asyncio.run(planned())


@click.command("undo")
@source_options
@reason_option
@click.option(
    "--confirm",
    default="",
    metavar="TARGET",
    help="Name of the target, if the undo can lose data or costs more than its tolerance (default: none).",
)
@run_argument
def undo(source: Source, reason: str, confirm: str, run_id: str) -> None:
    """Undo the actions of a finished run, as its playbook and actions declare, last step first.

    Each step is undone once. The guards kill_switch, freeze and managed_by are evaluated. The result is in the
    timeline of the run.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator run undo run-1m832pbs91d5nnh4x --reason "the limit is too low"
    """

    def local(tx: Tx, person: Person) -> Mapping[str, Any]:
        found = lookup.run_id(tx.connection, run_id)
        steps = manual_undo.request_undo(tx, person, found, reason, confirm)
        return {"run": found, "steps": [{"step": item.step.id, "how": item.how} for item in steps]}

    asked = source.post(f"runs/{segment(run_id)}/undo", local, {"reason": reason, "confirm": confirm})
    lines = [f"{item['step']} is being undone: {item['how']}" for item in asked["steps"]]
    _output.lines([*lines, f"To see the result, run: remediator run show {asked['run']}"])


@click.command("comment")
@source_options
@run_argument
@click.argument("text")
def comment(source: Source, run_id: str, text: str) -> None:
    """Write a comment about a run; all users who open the run see it.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator run comment run-1m832pbs91d5nnh4x "the disk was full"
    """
    write_comment(source, "runs", run_id, text, CommentKind.COMMENT)


@click.command("acknowledge")
@source_options
@reason_option
@run_argument
def acknowledge(source: Source, reason: str, run_id: str) -> None:
    """Acknowledge a run: you take care of it.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator run acknowledge run-1m832pbs91d5nnh4x
    """
    write_comment(source, "runs", run_id, reason, CommentKind.ACKNOWLEDGEMENT)


def write_comment(source: Source, noun: Literal["runs", "incidents"], name: str, text: str, kind: CommentKind) -> None:
    """Write a comment about a run or an incident, or acknowledge it."""
    find = lookup.run_id if noun == "runs" else lookup.incident_id

    def local(tx: Tx, person: Person) -> Mapping[str, Any]:
        return run_timeline.comment_data(decisions.comment(tx, person, find(tx.connection, name), text, kind))

    acknowledge = kind is CommentKind.ACKNOWLEDGEMENT
    made = source.post(f"{noun}/{segment(name)}/comments", local, {"text": text, "acknowledge": acknowledge})
    _output.echo(f"{made['run']}: {'acknowledged' if acknowledge else 'comment added'} by {made['person']}")


@click.command("cancel")
@source_options
@reason_option
@run_argument
def cancel(source: Source, reason: str, run_id: str) -> None:
    """Cancel a run: at once while it waits, or after the current step.

    If the run has ended with an unknown outcome, this releases its target lock. Check the target first: you confirm
    that no call of the run still has an effect there.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator run cancel run-1m832pbs91d5nnh4x --reason "false alarm"
    """

    def local(tx: Tx, person: Person) -> Mapping[str, Any]:
        return {"result": decisions.cancel(tx, person, lookup.run_id(tx.connection, run_id), reason)}

    _output.echo(source.post(f"runs/{segment(run_id)}/cancel", local, {"reason": reason})["result"])


@click.command("retry")
@source_options
@reason_option
@run_argument
def retry(source: Source, reason: str, run_id: str) -> None:
    """Start another run for an incident that still fires, with the active playbook.

    All guards are evaluated. Another person must approve the new run.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator run retry run-1m832pbs91d5nnh4x --reason "disk was replaced"
    """

    def local(tx: Tx, person: Person) -> Mapping[str, Any]:
        loaded, found = loaded_playbooks(source.config, tx.connection), lookup.run_id(tx.connection, run_id)
        return run_timeline.summary(decisions.retry(tx, person, found, loaded, reason))

    made = source.post(f"runs/{segment(run_id)}/retry", local, {"reason": reason})
    _output.echo(f"{made['id']} started")


CHANGES = (start, undo, comment, acknowledge, cancel, retry)
"""The commands of this module, for the group."""
