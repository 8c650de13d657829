"""Options that several commands share, and the writing of output files."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from remediator.cli import _output
from remediator.core.local_files import replacing
from remediator.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("remediator.yaml"),
    envvar="REMEDIATOR_CONFIG",
    help="Settings file (default: remediator.yaml, or the variable REMEDIATOR_CONFIG).",
)

output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=Path("-"),
    help="File to write (default: -, which is standard output).",
)

since_option = click.option(
    "--since", default="30d", metavar="DURATION", help="How far back to look, such as 12h or 7d (default: 30d)."
)

actor_option = click.option(
    "--actor",
    help="Person for whom you act, such as user:ann; the audit log also records your own user (default: none).",
)

watch_option = click.option(
    "--watch",
    is_flag=False,
    flag_value=2.0,
    default=None,
    type=click.FloatRange(0.2, 3600),
    metavar="[SECONDS]",
    help="Show it again every SECONDS, or every 2 s without a number, until you press Ctrl-C (default: once).",
)


def format_option(*formats: str) -> Callable[[F], F]:
    """Return ``--format`` with these formats; the first is the default."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(formats),
        default=formats[0],
        help=f"Output format (default: {formats[0]}).",
    )


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open the file of ``--output`` for the duration of the block.

    A regular file is replaced only after the block succeeds; after an error, the old file is unchanged. Devices and
    pipes are written to directly and never replaced.

    Raises:
        InputError: the folder does not exist, or the file cannot be written.
    """
    if str(path) == "-":
        if sys.stdout.isatty():  # standard output is a terminal, so a person reads it
            shown = io.BytesIO()
            yield shown
            _output.echo(shown.getvalue().decode("utf-8", "backslashreplace"), nl=False)
            return
        stream: IO[bytes] = sys.stdout.buffer
        yield stream
        stream.flush()
        return
    path = path.resolve()
    with ExitStack() as opened:
        try:
            regular = path.is_file() or not path.exists()
            file = opened.enter_context(replacing(path) if regular else path.open("wb"))
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error
        yield file
