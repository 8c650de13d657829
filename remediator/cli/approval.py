"""The ``remediator approval`` commands: decide on approval requests, and create operator tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import click
from sqlalchemy import Connection

from remediator.authoring.explain import ReadOnlyStore
from remediator.cli import _direct_store, _output
from remediator.cli._decisions import authenticate, reason_option, terminal_operator
from remediator.cli._options import format_option, watch_option
from remediator.cli._source import Source, segment, source_options
from remediator.config import Config
from remediator.core.approval import ApprovalStatus, Person
from remediator.core.identity import hash_token, make_token
from remediator.errors import InputError
from remediator.pipeline import decisions
from remediator.pipeline.approval_validity import check_validity
from remediator.pipeline.decisions import DecisionRequest
from remediator.service import read_only_context
from remediator.storage import Tx
from remediator.storage.repositories import approvals, lookup, runs
from remediator.storage.repositories.approvals import Approval
from remediator.web.api import list_requests

request_argument = click.argument("request_or_run", metavar="REQUEST|RUN")
CHECK_TIMEOUT = 10.0
"""Seconds to wait for the target's state before the plan is compared."""


@click.group("approval")
def command() -> None:
    """Decide on approval requests."""


@command.command("list")
@source_options
@format_option("text", "json")
@watch_option
def list_(source: Source, format_: str, watch: float | None) -> None:
    """List the open requests.

    \b
    Example:
      remediator approval list --watch
    """

    def shown() -> None:
        found = source.get("approvals", list_requests)
        if format_ == "json":
            _output.data(found)
            return
        rows = ((item["id"], item["run"], item["playbook"], item["target"], item["expires_at"]) for item in found)
        _output.table(("REQUEST", "RUN", "PLAYBOOK", "TARGET", "EXPIRES"), rows, "no open request")

    _output.repeat(watch, shown)


@command.command("approve")
@source_options
@reason_option
@request_argument
@click.option(
    "--confirm", default="", metavar="TARGET", help="Name of the target, if the plan can destroy data (default: none)."
)
@click.option("--break-glass", is_flag=True, help="Decide alone in an emergency; needs a reason, notifies everyone.")
def approve(source: Source, reason: str, request_or_run: str, confirm: str, break_glass: bool) -> None:
    """Approve the plan of a request.

    'remediator run show RUN' shows the plan. Exit status 1 if the request was already decided.

    \b
    Examples:
      REMEDIATOR_TOKEN=… remediator approval approve run-1m832pbs91d5nnh4x --reason "checked"
      remediator approval approve RUN --break-glass --reason "second approver cannot be reached, shop is down"
    """
    _decide(source, request_or_run, "approve", reason, confirm, break_glass=break_glass)


@command.command("reject")
@source_options
@reason_option
@request_argument
def reject(source: Source, reason: str, request_or_run: str) -> None:
    """Reject a request: its run ends and nothing is done.

    One rejection is enough. Exit status 1 if the request was already decided.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator approval reject run-1m832pbs91d5nnh4x --reason "we fix it manually"
    """
    _decide(source, request_or_run, "reject", reason)


@command.command("snooze")
@source_options
@reason_option
@request_argument
def snooze(source: Source, reason: str, request_or_run: str) -> None:
    """Close a request for now; its run plans and asks again later.

    The setting approvals.snooze_duration defines the delay. Exit status 1 if the request was already decided.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator approval snooze run-1m832pbs91d5nnh4x --reason "after the deployment"
    """
    _decide(source, request_or_run, "snooze", reason)


@command.command("refresh")
@source_options
@request_argument
def refresh(source: Source, request_or_run: str) -> None:
    """Replace an outdated request; its run plans and asks again now.

    A request is outdated if its playbook, the inventory or the target has changed. A request that is up to date is
    left unchanged. Exit status 1 if the request was already decided.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator approval refresh run-1m832pbs91d5nnh4x
    """
    if source.server:
        found = source.call(f"approvals/{segment(request_or_run)}/refresh", dict, {})
    else:
        config, person = source.config, authenticate(source.config, source.token_file)
        approval, reason = asyncio.run(_outdated(config, request_or_run))
        refreshed = approval.status == ApprovalStatus.PENDING and _direct_store.write(
            config, lambda tx: decisions.refresh(tx, person, approval.id, reason, config.approvals)
        )
        found = {
            "id": approval.id,
            "status": approval.status,
            "refreshed": refreshed,
            "by": person.id,
            "reason": reason,
        }
    if not found["refreshed"]:
        _exit_unchanged(found["id"], found["status"])
    _output.echo(f"request {found['id']} refreshed by {found['by']}: {found['reason']}")


async def _outdated(config: Config, name: str) -> tuple[Approval, str]:
    """Return the request, and the reason why it is outdated; no reason if it is not open."""
    async with read_only_context(config, ReadOnlyStore(config)) as context:
        approval = await context.store.read(lambda connection: _find(connection, name))
        if approval.status != ApprovalStatus.PENDING:
            return approval, ""
        run = await context.store.read(lambda connection: runs.get(connection, approval.run_id))
        assert run is not None
        return approval, (await check_validity(context, approval, run, patience=CHECK_TIMEOUT)).refresh_reason()


def _find(connection: Connection, name: str) -> Approval:
    """Return the request that a name means: its ID or beginning, ``@latest``, or a run.

    Raises:
        InputError: there is no such request.
    """
    found = approvals.get(connection, lookup.approval_id(connection, name))
    if found is None:
        if runs.get(connection, name) is not None:
            raise InputError(f"run {name!r} has no approval request")
        raise InputError(f"no request or run {name!r}; 'remediator approval list' lists the open requests")
    return found


def _decide(source: Source, name: str, verb: str, reason: str, confirm: str = "", *, break_glass: bool = False) -> None:
    """Record a decision on a request and print the result; exit with 1 if the request was already decided.

    Raises:
        InputError: there is no such request.
        PermissionDenied: this person may not decide on it.
    """

    def local(tx: Tx, person: Person) -> Mapping[str, Any]:
        found = _find(tx.connection, name)
        request = DecisionRequest(found.id, found.plan_hash, verb, person, reason, confirm, break_glass)
        result = decisions.decide(tx, request, source.config.approvals)
        return {"id": found.id, "status": result.status, "counted": result.counted, "by": person.id}

    body = {"reason": reason, "confirm": confirm, "break_glass": break_glass}
    if source.server:  # the plan that the person saw is the one of this request
        shown = source.get(f"approvals/{segment(name)}", lambda connection: None)
        name, body["plan_hash"] = shown["id"], shown["plan_hash"]
    who = terminal_operator if break_glass and not source.has_token else None
    result = source.post(f"approvals/{segment(name)}/{verb}", local, body, who)
    if not result["counted"]:
        _exit_unchanged(result["id"], result["status"])
    _output.echo(f"{verb} by {result['by']} recorded; request {result['id']} is {result['status']}")


def _exit_unchanged(approval_id: str, status: str) -> None:
    """Print that the request was decided before, and exit with 1."""
    _output.echo(f"nothing was changed: request {approval_id} is already {status}")
    raise SystemExit(1)


@command.command("token")
def token() -> None:
    """Create an operator token, and its hash for the people file.

    The token is stored nowhere: give it to its owner now.

    \b
    Example:
      remediator approval token
    """
    made = make_token()
    _output.echo(f"token (shown once, for its owner):    {made}")
    _output.echo(f"hash (for 'tokens' in the people file): {hash_token(made)}")
