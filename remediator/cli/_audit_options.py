"""Options of the ``remediator audit`` commands, and the files that they name."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from remediator.audit import Verifier, checkpoint
from remediator.audit import keys as audit_keys
from remediator.cli._audit_source import LogPlace
from remediator.cli._options import config_option
from remediator.errors import InputError

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_ANY = click.Path(path_type=Path, exists=True)

database_option = click.option(
    "--db", "database", type=FILE, help="SQLite file to read (default: the database of the settings)."
)
archive_option = click.option(
    "--archive",
    "archived",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with sealed segments (default: from the settings, or archive beside --db).",
)
checkpoints_option = click.option(
    "--checkpoints",
    "points",
    type=_ANY,
    multiple=True,
    help="File or folder with signed checkpoints, or text that contains them; can be repeated (default: the witnesses "
    "in audit.checkpoints that can be read).",
)
keys_option = click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    help="File with a public key to trust; can be repeated (default: the key of the settings).",
)


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name the log. The command gets them as one argument, ``log``."""

    @wraps(command)
    def called(config_path: Path, database: Path | None, archived: Path | None, **others: Any) -> Any:
        return command(log=LogPlace(config_path, database, archived), **others)

    return config_option(database_option(archive_option(called)))


def load_keys(paths: tuple[Path, ...]) -> list[Verifier]:
    """Return the public keys in these files."""
    return [key for path in paths for key in audit_keys.load_verifiers(path)]


def read_notes(paths: tuple[Path, ...]) -> list[str]:
    """Return the signed checkpoints in these files and folders.

    Raises:
        InputError: a file cannot be read, or contains no checkpoint.
    """
    found: list[str] = []
    for path in paths:
        notes: list[str] = []
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            try:
                notes += checkpoint.find_notes(file.read_text(encoding="utf-8", errors="replace"))
            except OSError as error:
                raise InputError(f"{file} cannot be read: {error.strerror}") from error
        if not notes:
            raise InputError(
                f"{path} contains no signed checkpoint; expected the name of the log, the number of entries, the root, "
                f"and a signature line that begins with '—'"
            )
        found += notes
    return found
