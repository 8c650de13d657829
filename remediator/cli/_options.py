"""Options that several commands share, and how a command writes a file."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from remediator.errors import InputError

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("remediator.yaml"),
    envvar="REMEDIATOR_CONFIG",
    show_default=True,
    help="The settings file.",
)

format_option = click.option(
    "--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For whom."
)

output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=Path("-"),
    help="A file; otherwise standard output.",
)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Where ``--output`` says, for as long as the block runs. A file appears whole or not at all: if the command fails,
    what was there stays. What is no plain file, such as a device or a pipe, is written to and never replaced.

    Raises:
        InputError: there is no such folder, or nothing may be written there.
    """
    if str(path) == "-":
        stream: IO[bytes] = sys.stdout.buffer
        yield stream
        stream.flush()
        return
    path = path.resolve()
    plain = path.is_file() or not path.exists()
    place = path.with_name(f".{path.name}.{secrets.token_hex(8)}") if plain else path
    try:
        file = place.open("xb" if plain else "wb")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file
        if plain:
            _keep_mode(path, place)
            place.replace(path)
    finally:
        if plain:
            place.unlink(missing_ok=True)


def _keep_mode(path: Path, draft: Path) -> None:
    """Who may read a file that is written anew stays as it was."""
    if path.exists():
        draft.chmod(path.stat().st_mode & 0o7777)
