"""The list of commands. Each is imported only when it is called, so that ``--help`` is quick.

Exit status: 0 all well, 1 findings or a failed expectation, 2 wrong usage or settings, 3 could not run.
"""

from __future__ import annotations

import gc
import importlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import click

from remediator import __version__
from remediator.errors import ClientError, InputError, RemediatorError

COMMANDS = {
    "approve": "Say yes to the plan that a run waits with.",
    "audit": "The audit log: verify, tail, search, export, prove.",
    "backtest": "What playbooks would have done, from the alerts that Prometheus remembers.",
    "backup": "A copy of the store, taken while it is in use.",
    "cancel": "Stop a run, whatever state it is in.",
    "docs": "A runbook page for people, made from each playbook.",
    "explain": "What would be done for an alert, and why not.",
    "lint": "Every mistake in playbooks and inventory, before 3 a.m.",
    "migrate": "Bring the database to this version's schema.",
    "new": "A commented start for a new playbook.",
    "pause": "The stop button: start no action any more.",
    "promote": "Let a playbook do more, or less, by itself.",
    "reject": "Say no: the run ends, nothing is done.",
    "renew": "Ask people anew, where a plan is not what would be done now.",
    "replay": "What playbooks would have done with the notifications that are stored.",
    "report": "What the records show.",
    "restore": "Put a backup of the store in place.",
    "resume": "Release the stop button.",
    "retry": "Another run for an incident that still fires.",
    "runs": "What is being done and was done.",
    "schema": "JSON Schema of playbooks, inventory and settings, for editors.",
    "serve": "Run the service.",
    "snooze": "Not now: the run asks again later.",
    "status": "What holds the remediator back right now.",
    "test": "Playbooks' tests, on a virtual clock.",
    "timeline": "The post-incident document of a run or an episode.",
    "token": "Make an operator token.",
}

NOT_IN_A_SERVICE = ("rich", "pygments", "opentelemetry")
"""What httpx, structlog and redis load only if it is there, for consoles and tracing that a service does not have: a
tenth of its start and 6 MB (``bench/footprint``)."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        with _without(NOT_IN_A_SERVICE if name == "serve" else ()):
            module = _load(f"remediator.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


def _load(name: str) -> ModuleType:
    """A module, imported without the garbage collector: what is defined stays, and looking through it takes a fifth
    of the start."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """As if these packages were not installed, for those who would load them only if they are."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None is the interpreter's own sign for that
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


STATUS = (
    "Exit status: 0 all well; 1 findings, a failed expectation, a stop that stands, or a word that did not count; "
    "2 wrong usage or settings; 3 it could not be done."
)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=STATUS)
@click.version_option(__version__, prog_name="remediator")
def cli() -> None:
    """Alert-driven remediation that asks when it is not sure, and proves what it did."""


def main() -> None:
    """Run a command; what goes wrong on purpose is a sentence and an exit status, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it is closed
            stream.reconfigure(errors="backslashreplace")  # what this terminal's alphabet lacks is spelled out
    try:
        cli(prog_name="remediator")
    except InputError as error:
        _fail(error, 2)
    except ClientError as error:
        _fail(error, 3)
    except RemediatorError as error:
        _fail(error, 3)
    except OSError as error:  # a full disk, a folder that may not be read: of this machine, and no defect of ours
        _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), 3)


def _fail(error: RemediatorError | str, status: int) -> None:
    click.echo(f"remediator: {error}", err=True)
    sys.exit(status)
