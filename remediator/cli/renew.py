"""``remediator renew``: ask people anew, where what they were asked is not what would be done now."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from remediator.authoring.explain import ReadOnlyStore
from remediator.cli import _direct_store
from remediator.cli._decisions import found_by, rules_of, token_option, who
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.core.approval import Person
from remediator.pipeline import decisions
from remediator.pipeline.approval_validity import look
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.loader import load_config
from remediator.service import read_only_context
from remediator.storage.repositories import runs
from remediator.storage.repositories.approvals import Approval

PATIENCE = 10.0
"""Seconds for the target to say how it is."""


@click.command("renew")
@config_option
@token_option
@click.argument("request_or_run")
def command(config_path: Path, token_file: Path | None, request_or_run: str) -> None:
    """End a request whose plan is not what would be done now; the run plans afresh and asks people again.

    The playbook or the target has changed since people were asked: nobody can approve that request any more. One that
    stands is left alone. Exit status 1 if it was decided already.

    \b
    Example:
      REMEDIATOR_TOKEN=… remediator renew run-1m832pbs91d5nnh4x
    """
    config = load_config(config_path, Config)
    person = who(config, token_file)
    approval, why = asyncio.run(_changed(config, request_or_run))
    if approval.status == "pending" and _renew(config, person, approval, why):
        click.echo(f"{person.id} asks anew; {approval.id} is void: {why}")
        return
    click.echo(f"nothing was changed; {approval.id} is {approval.status} already")
    raise SystemExit(1)


def _renew(config: Config, person: Person, approval: Approval, why: str) -> bool:
    return _direct_store.write(config, lambda tx: decisions.renew(tx, person, approval.id, why, rules_of(config)))


async def _changed(config: Config, name: str) -> tuple[Approval, str]:
    """The request, and why it does not stand; no reason if nobody waits for it."""
    async with read_only_context(config, ReadOnlyStore(config)) as context:
        approval = await context.store.read(lambda connection: found_by(connection, name))
        return approval, await _why(context, approval) if approval.status == "pending" else ""


async def _why(context: PipelineContext, approval: Approval) -> str:
    run = await context.store.read(lambda connection: runs.get(connection, approval.run_id))
    assert run is not None
    return (await look(context, approval, run, patience=PATIENCE)).why_anew()
