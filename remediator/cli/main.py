"""The ``remediator`` command: its subcommands, its errors and its exit status.

A subcommand's module is imported only when the command is called, so that ``--help`` is fast.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from types import ModuleType

import click

from remediator import __version__
from remediator.cli import _output
from remediator.errors import InputError, RemediatorError

COMMANDS = {
    "completion": "Print the script that completes commands in a shell.",
    "doctor": "Show the problems of this installation, and how to fix them.",
    "explain": "Show the plan for an alert, and the reasons; change nothing.",
    "init": "Write a first installation for the services on this host.",
    "lint": "Find all errors in playbooks, inventory and settings.",
    "rbac": "Print the Kubernetes roles that the inventory and the playbooks need.",
    "report": "Report the healed incidents, the recovery times, and the refused actions.",
    "serve": "Run the service.",
    "status": "Show what blocks actions now, and the state of the service.",
    "test": "Run the tests of playbooks on a virtual clock.",
}
GROUPS = {
    "approval": "Decide on approval requests.",
    "audit": "Verify, read and export the audit log.",
    "config": "Check and show the settings.",
    "db": "Migrate, back up and restore the database; grant rights on it.",
    "host": "Prepare other hosts for actions by SSH.",
    "incident": "List and show incidents: runs whose alerts belong together.",
    "inventory": "List and show services, and compare discovered targets.",
    "keys": "Create and show the signing keys.",
    "memory": "List and clear the memory of releases and remedies.",
    "playbook": "Write, document and replay playbooks; change their modes.",
    "run": "List, show, start, undo, cancel and retry runs; comment on them.",
    "session": "List and end the sessions of people who signed in.",
    "stop": "Create, list and release stops.",
}
EXIT_CODES = {
    0: "success",
    1: "findings, a failed expectation, an active stop, or a decision that did not count",
    2: "wrong usage or settings",
    3: "the command could not do its work",
    4: "no finding in the audit log, but no checkpoint from outside of the database was compared",
}
VARIABLES = {
    "REMEDIATOR_CONFIG": "Settings file of every command with --config (default: remediator.yaml in this folder).",
    "REMEDIATOR_SERVER": "URL of the server of commands with --server; without it, they use the database.",
    "REMEDIATOR_TOKEN": "Operator token of commands that decide, instead of --token-file.",
    "REMEDIATOR_BUILD": "Build in --version; the container image sets it.",
    "TZ": "Time zone of times in messages and reports, such as Europe/Berlin (default: the time zone of the host).",
}
"""Environment variables that the command reads."""
EXIT_STATUS = (
    f"Exit status: {'; '.join(f'{code} {text}' for code, text in EXIT_CODES.items())}. "
    f"Environment: REMEDIATOR_CONFIG: {VARIABLES['REMEDIATOR_CONFIG']}"
)

NOT_AT_THE_START = ("rich", "pygments", "opentelemetry")
"""Packages that httpx, structlog and redis import if they are installed, for consoles and tracing. No command needs
them when it starts; they would cost a tenth of its start time, and a service 6 MB (``bench/footprint``)."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *GROUPS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS and name not in GROUPS:
            return None
        with _without(NOT_AT_THE_START):
            module = _load(f"remediator.cli.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in (("Commands", COMMANDS), ("Groups of commands", GROUPS)):
            with formatter.section(title):
                formatter.write_dl(list(names.items()))


def _load(name: str) -> ModuleType:
    """Import a module, and exempt its definitions from garbage collection.

    They stay until the command ends. The collector would trace them while they are imported, once more as soon as it is
    enabled, and again in each full collection. That takes a fifth of the time in which the service starts.
    """
    if name in sys.modules:
        return sys.modules[name]
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Hide these packages from code that imports them only if they are installed."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # None makes the interpreter refuse the import
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import platform  # noqa: PLC0415 - only for this option, so that help for all commands stays fast
        import sqlite3  # noqa: PLC0415

        build = importlib.import_module("remediator.runtime.build").build_id()
        _output.echo(f"remediator {__version__}{f' (build {build})' if build else ''}")
        _output.echo(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}")
        ctx.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_STATUS)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print version and build, and exit.",
)
def cli() -> None:
    """Run known remedies for alerts: safely, with approval where needed, and with an audit log of every step."""
    # import this after parsing the command, so that help for all commands stays fast
    structlog = importlib.import_module("structlog")
    # The default is standard output, where a warning would be mixed with the rows or the JSON of the command.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def main() -> None:
    """Run a command. An expected error ends as one line on standard error and an exit status, never as a traceback."""
    os.umask(0o077)  # databases, backups and exports are for this user only, in whatever folder they are
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a closed stream is None
            stream.reconfigure(errors="backslashreplace")  # escape characters that the terminal cannot show
    try:
        status = cli(prog_name="remediator", standalone_mode=False)
    except click.Abort:
        _fail("interrupted", 1)
    except click.UsageError as error:
        _fail(usage_message(error), error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except InputError as error:
        _fail(str(error), 2)
    except RemediatorError as error:
        _fail(str(error), 3)
    except OSError as error:  # a full disk or missing permissions are faults of this machine, not defects
        _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), 3)
    sys.exit(status if isinstance(status, int) else 0)


def usage_message(error: click.UsageError) -> str:
    """Return the error of a command line, with the nearest valid name, or otherwise the help command."""
    text = error.format_message()
    near: list[str] = []
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        text = f"no such option {error.option_name!r}"
        options = {name.strip("-"): name for item in error.ctx.command.params for name in item.opts}
        near = [options[name] for name in get_close_matches(error.option_name.strip("-"), options)]
    elif isinstance(error, click.exceptions.NoSuchCommand) and error.ctx is not None:
        text = f"no such command {error.command_name!r}"
        near = _nearest_commands(error.ctx, error.command_name)
    if near:
        return f"{text}; did you mean {near[0]!r}?"
    path = error.ctx.command_path if error.ctx else "remediator"
    return f"{text[:1].lower()}{text[1:].rstrip('.')}; see '{path} --help'"


def _nearest_commands(ctx: click.Context, name: str) -> list[str]:
    """Return similar names, and before them the same name in a group, such as ``db migrate`` for ``migrate``."""
    group = ctx.command
    assert isinstance(group, click.Group)
    near = get_close_matches(name, group.list_commands(ctx))
    if group is not cli:
        return near
    inner = {each: cli.get_command(ctx, each) for each in GROUPS}
    return [f"{each} {name}" for each, found in inner.items() if name in getattr(found, "commands", ())] + near


def _fail(message: str, status: int) -> None:
    _output.echo(f"remediator: {message}", err=True)
    sys.exit(status)
