"""The ``remediator`` command: a fast ``--help``, and errors about a wrong command line."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from demo.stack.settings import ROOT
from remediator.cli.main import cli, usage_message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("runs list", "no such command 'runs'; did you mean 'run'?"),
        ("run lst", "no such command 'lst'; did you mean 'list'?"),
        ("migrate", "no such command 'migrate'; did you mean 'db migrate'?"),
        ("approve RUN", "no such command 'approve'; did you mean 'approval approve'?"),
        ("deploy", "no such command 'deploy'; see 'remediator --help'"),
        ("stop create --reson x", "no such option '--reson'; did you mean '--reason'?"),
        ("stop create --zone x", "no such option '--zone'; see 'remediator stop create --help'"),
        ("stop create", "missing option '--reason'; see 'remediator stop create --help'"),
        ("run list --limit 0", "invalid value for '--limit': 0 is not in the range 1<=x<=500; see"),
        ("run list --format xml", "invalid value for '--format': 'xml' is not one of 'text', 'json'; see"),
    ],
)
def test_a_wrong_command_line_gets_the_nearest_name_or_the_help(line: str, message: str) -> None:
    """The error is one lower-case line without a full stop, and suggests the nearest name or the help."""
    with pytest.raises(click.UsageError) as caught:
        cli(line.split(), prog_name="remediator", standalone_mode=False)
    assert usage_message(caught.value).startswith(message)


def test_a_wrong_command_line_ends_with_status_2() -> None:
    """The error goes to standard error, and the exit status is 2."""
    done = _run("run", "lst")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "remediator: no such command 'lst'; did you mean 'list'?\n"


def test_help_imports_no_command() -> None:
    """The main help imports neither SQLAlchemy nor the pipeline, so it is fast (``bench/footprint`` measures it)."""
    code = (
        "import sys\n"
        "from remediator.cli.main import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "print(sorted(name for name in ('sqlalchemy', 'pydantic', 'remediator.service') if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "remediator", *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
