"""The ``remediator approval`` commands: decide on approval requests, and create operator tokens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from remediator.authoring.explain import ReadOnlyStore
from remediator.cli import _direct_store, _output
from remediator.cli._decisions import (
    authenticate,
    decide,
    decision_options,
    exit_unchanged,
    find_request,
    policy_of,
    request_argument,
    token_option,
)
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.core.identity import hash_token, make_token
from remediator.pipeline import decisions
from remediator.pipeline.approval_validity import check_validity
from remediator.playbooks.loader import load_config
from remediator.service import read_only_context
from remediator.storage.repositories import runs
from remediator.storage.repositories.approvals import Approval

CHECK_TIMEOUT = 10.0
"""Seconds to wait for the target's state before the plan is compared."""


@click.group("approval")
def command() -> None:
    """Decide on approval requests."""


@command.command("approve")
@decision_options
@click.option(
    "--confirm", default="", metavar="TARGET", help="Name of the target, if the plan can destroy data (default: none)."
)
@click.option("--break-glass", is_flag=True, help="Decide alone in an emergency; needs a reason, notifies everyone.")
def approve(
    config_path: Path, token_file: Path | None, reason: str, request_or_run: str, confirm: str, break_glass: bool
) -> None:
    """Approve the plan of a request.

    'remediator run show RUN' shows the plan. Exit status 1 if the request was already decided.

    \b
    Examples:
      REMEDIATOR_TOKEN=… remediator approval approve run-1m832pbs91d5nnh4x --reason "checked"
      remediator approval approve RUN --break-glass --reason "second approver cannot be reached, shop is down"
    """
    decide(config_path, request_or_run, "approve", token_file, reason, confirm, break_glass=break_glass)


@command.command("reject")
@decision_options
def reject(config_path: Path, token_file: Path | None, reason: str, request_or_run: str) -> None:
    """Reject a request: its run ends and nothing is done.

    One rejection is enough. Exit status 1 if the request was already decided.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator approval reject run-1m832pbs91d5nnh4x --reason "we fix it manually"
    """
    decide(config_path, request_or_run, "reject", token_file, reason)


@command.command("snooze")
@decision_options
def snooze(config_path: Path, token_file: Path | None, reason: str, request_or_run: str) -> None:
    """Close a request for now; its run plans and asks again later.

    The setting approvals.snooze_duration says when. Exit status 1 if the request was already decided.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator approval snooze run-1m832pbs91d5nnh4x --reason "after the deployment"
    """
    decide(config_path, request_or_run, "snooze", token_file, reason)


@command.command("refresh")
@config_option
@token_option
@request_argument
def refresh(config_path: Path, token_file: Path | None, request_or_run: str) -> None:
    """Replace an outdated request; its run plans and asks again now.

    A request is outdated if its playbook, the inventory or the target has changed. A request that is up to date is
    left unchanged. Exit status 1 if the request was already decided.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator approval refresh run-1m832pbs91d5nnh4x
    """
    config = load_config(config_path, Config)
    person = authenticate(config, token_file)
    approval, reason = asyncio.run(_outdated(config, request_or_run))
    policy = policy_of(config)
    if approval.status != "pending" or not _direct_store.write(
        config, lambda tx: decisions.refresh(tx, person, approval.id, reason, policy)
    ):
        exit_unchanged(approval.id, approval.status)
    _output.echo(f"request {approval.id} refreshed by {person.id}: {reason}")


async def _outdated(config: Config, name: str) -> tuple[Approval, str]:
    """Return the request, and the reason why it is outdated; no reason if it is not open."""
    async with read_only_context(config, ReadOnlyStore(config)) as context:
        approval = await context.store.read(lambda connection: find_request(connection, name))
        if approval.status != "pending":
            return approval, ""
        run = await context.store.read(lambda connection: runs.get(connection, approval.run_id))
        assert run is not None
        return approval, (await check_validity(context, approval, run, patience=CHECK_TIMEOUT)).refresh_reason()


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
