"""``remediator token``: make an operator token."""

from __future__ import annotations

import click

from remediator.core.identity import hash_token, make_token


@click.command("token")
def command() -> None:
    """Print a new operator token and what the people file keeps of it. The token itself is kept nowhere.

    \b
    Example:
      remediator token
    """
    token = make_token()
    click.echo(f"token (give it to the person, it is shown once): {token}")
    click.echo(f"for the people file, under tokens:               {hash_token(token)}")
