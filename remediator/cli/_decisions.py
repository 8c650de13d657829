"""Shared parts of the commands that decide: who decides, on which request, and what the settings allow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from remediator.cli import _direct_store, _output
from remediator.cli._options import config_option
from remediator.config import Config, read_secret
from remediator.core.approval import Person, Role
from remediator.errors import InputError
from remediator.pipeline import decisions
from remediator.pipeline.decisions import DecisionPolicy, DecisionRequest, DecisionResult
from remediator.playbooks.loader import load_config
from remediator.runtime.access import load_people
from remediator.storage import Tx
from remediator.storage.repositories import approvals, runs
from remediator.storage.repositories.approvals import Approval

TOKEN_VARIABLE = "REMEDIATOR_TOKEN"  # noqa: S105 - the name of the variable
F = TypeVar("F", bound=Callable[..., Any])

token_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with your operator token (default: the variable {TOKEN_VARIABLE}).",
)
reason_option = click.option("--reason", default="", help="Reason, which others read (default: none).")
request_argument = click.argument("request_or_run", metavar="REQUEST|RUN")


def decision_options(command: F) -> F:
    """Add the options and the argument that every decision on a request has."""
    for option in (request_argument, reason_option, token_option, config_option):
        command = option(command)
    return command


def authenticate(config: Config, token_file: Path | None) -> Person:
    """Return the person whose operator token was given.

    Raises:
        InputError: no token was given, or no person in the people file has it.
    """
    token = read_secret(token_file) if token_file is not None else os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise InputError(
            f"no operator token: set {TOKEN_VARIABLE} or give --token-file; 'remediator approval token' creates a token"
        )
    person = load_people(config).by_token(token)
    if person is None:
        raise InputError("unknown operator token: the people file does not contain its hash")
    return replace(person, authenticated_at=datetime.now(UTC))


def terminal_operator(actor: str | None = None) -> Person:
    """Return the user of this terminal with all rights. Access to the database is the proof.

    Args:
        actor: for whom this user acts; recorded beside the user, never instead of the user.
    """
    user = _direct_store.terminal_user()
    return Person(f"{user} for {actor}" if actor else user, "terminal", frozenset({Role.ADMIN}))


def policy_of(config: Config) -> DecisionPolicy:
    """Return the rules for decisions from the settings."""
    return DecisionPolicy(config.approvals.allow_link_only, config.approvals.snooze_duration)


def find_request(connection: Connection, name: str) -> Approval:
    """Return the request with this ID, or the open request of the run with this ID, or the run's last request.

    Raises:
        InputError: there is no such request.
    """
    found = (
        approvals.get(connection, name)
        or approvals.get_pending(connection, name)
        or approvals.get_latest(connection, name)
    )
    if found is None:
        if runs.get(connection, name) is not None:
            raise InputError(f"run {name!r} has no approval request")
        raise InputError(f"no request or run {name!r}; 'remediator status' lists the open requests")
    return found


def decide(
    config_path: Path,
    name: str,
    verb: str,
    token_file: Path | None,
    reason: str,
    confirm: str = "",
    *,
    break_glass: bool = False,
) -> None:
    """Record a decision on a request and print the result; exit with 1 if the request was already decided.

    Raises:
        InputError: there is no such request.
        PermissionDenied: this person may not decide on it.
    """
    config = load_config(config_path, Config)
    without_token = token_file is None and not os.environ.get(TOKEN_VARIABLE)
    person = terminal_operator() if break_glass and without_token else authenticate(config, token_file)

    def write(tx: Tx) -> tuple[str, DecisionResult]:
        found = find_request(tx.connection, name)
        request = DecisionRequest(found.id, found.plan_hash, verb, person, reason, confirm, break_glass)
        return found.id, decisions.decide(tx, request, policy_of(config))

    approval_id, result = _direct_store.write(config, write)
    if not result.counted:
        exit_unchanged(approval_id, result.status)
    _output.echo(f"{verb} by {person.id} recorded; request {approval_id} is {result.status}")


def exit_unchanged(approval_id: str, status: str) -> None:
    """Print that the request was decided before, and exit with 1."""
    _output.echo(f"nothing was changed: request {approval_id} is already {status}")
    raise SystemExit(1)
