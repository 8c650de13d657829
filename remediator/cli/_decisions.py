"""Shared parts of the commands that decide: the person and the request."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from remediator.cli import _direct_store
from remediator.config import Config, read_secret
from remediator.core.approval import Person, Role
from remediator.errors import InputError
from remediator.runtime.access import load_people

TOKEN_VARIABLE = "REMEDIATOR_TOKEN"  # noqa: S105 - the name of the variable

token_option = click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with your operator token (default: the variable {TOKEN_VARIABLE}).",
)
reason_option = click.option("--reason", default="", help="Reason, shown to other users (default: none).")


def authenticate(config: Config, token_file: Path | None) -> Person:
    """Return the person whose operator token was given.

    Raises:
        InputError: no token was given, or the token is of no person in the people file.
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
        actor: the person for whom this user acts; recorded in addition to the user, never instead of the user.
    """
    user = _direct_store.terminal_user()
    return Person(f"{user} for {actor}" if actor else user, "terminal", frozenset({Role.ADMIN}))
