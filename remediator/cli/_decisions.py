"""What ``approve``, ``reject``, ``snooze``, ``renew``, ``cancel`` and ``retry`` share: who is at this terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from remediator.cli import _direct_store
from remediator.config import Config, read_secret
from remediator.core.approval import Person, Role
from remediator.errors import InputError
from remediator.pipeline import decisions
from remediator.pipeline.decisions import DecisionPolicy, DecisionRequest, DecisionResult
from remediator.playbooks.loader import load_config
from remediator.service import load_people
from remediator.storage import Tx
from remediator.storage.repositories import approvals, runs
from remediator.storage.repositories.approvals import Approval

TOKEN = "REMEDIATOR_TOKEN"  # noqa: S105 - the variable's name
F = TypeVar("F", bound=Callable[..., Any])

_token_file = click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with your operator token; default: the variable {TOKEN}.",
)
_reason = click.option("--reason", default="", help="Why; others read it.")


def token_option(command: F) -> F:
    """``--token-file``."""
    return _token_file(command)


def reason_option(command: F) -> F:
    """``--reason``."""
    return _reason(command)


def who(config: Config, token_file: Path | None) -> Person:
    """Whose operator token was given.

    Raises:
        InputError: none was, or it is not known.
    """
    token = read_secret(token_file) if token_file is not None else os.environ.get(TOKEN, "")
    if not token:
        raise InputError(f"say who you are: an operator token in {TOKEN} or --token-file; 'remediator token' makes one")
    person = load_people(config).by_token(token)
    if person is None:
        raise InputError("this operator token is not in the people file")
    return person


def at_this_terminal() -> Person:
    """The user of this machine, as one who breaks the glass: whoever may write the database is an operator here."""
    return Person(_direct_store.person(), "terminal", frozenset({Role.OPERATOR}))


def rules_of(config: Config) -> DecisionPolicy:
    """What the settings say about deciding."""
    return DecisionPolicy(config.approvals.allow_link_only, config.approvals.snooze_duration)


def found_by(connection: Connection, name: str) -> Approval:
    """The request with this id, or the one that a run waits for, or its last, which is decided.

    Raises:
        InputError: there is none.
    """
    pending = approvals.get(connection, name) or approvals.get_pending(connection, name)
    found = pending or approvals.get_latest(connection, name)
    if found is None:
        there = runs.get(connection, name) is not None
        raise InputError(f"{name} never asked anybody" if there else f"there is no request or run {name}")
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
    """Say a word on the request with this id, or on the one that a run waits for, and print what came of it.

    Raises:
        InputError: there is no such request.
        NotAllowed: this person may not.
    """
    config = load_config(config_path, Config)
    without_token = token_file is None and not os.environ.get(TOKEN)
    person = at_this_terminal() if break_glass and without_token else who(config, token_file)

    def write(tx: Tx) -> tuple[str, DecisionResult]:
        found = found_by(tx.connection, name)
        word = DecisionRequest(found.id, found.plan_hash, verb, person, reason, confirm, break_glass)
        return found.id, decisions.decide(tx, word, rules_of(config))

    approval_id, heard = _direct_store.write(config, write)
    if heard.counted:
        click.echo(f"{person.id} said {verb}; {approval_id} is {heard.status}")
    else:
        click.echo(f"nothing was changed; {approval_id} is {heard.status} already")
        raise SystemExit(1)
