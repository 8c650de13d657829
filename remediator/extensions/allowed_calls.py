"""Commands and requests that the settings allow by name, as actions and checks use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from remediator.clients.allowed_requests import AllowedRequest
from remediator.clients.endpoints import read_secret
from remediator.clients.host import process
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.clients.ssh.client import RemoteHost
from remediator.clients.ssh.settings import Host
from remediator.errors import BadAnswer, InputError, TargetError
from remediator.extensions.parameters import Parameters
from remediator.playbooks.catalogue import ActionTraits, DeclaredCall, DeclaredCalls
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

MAX_OUTPUT = 4000
"""Characters of the end of an output that are kept."""
COMMAND_FACTS = (
    Fact("status", "integer", "Exit status."),
    Fact("output", "string", "End of the output, without its last line break."),
)
REQUEST_FACTS = (Fact("status", "integer", "HTTP status."), Fact("text", "string", "Beginning of the answer."))


class CommandParameters(Parameters):
    """A command of the settings, with its values."""

    command: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the command under commands in the settings."
    )
    values: dict[str, str] = Field(
        default={}, description="Values for its named placeholders; each must match its pattern."
    )


def traits_from(declared: AllowedCommand | AllowedRequest, assumed: ActionTraits) -> ActionTraits:
    """Return the traits of the calls of a command or request: declared values replace the assumed values."""
    changes = not declared.read_only
    return replace(
        assumed,
        mutates=changes,
        idempotent=declared.idempotent or declared.read_only,
        reversible=declared.undo is not None,
        destructive=changes and declared.destructive,
        interrupts=changes and declared.interrupts,
        timeout=declared.timeout + process.GRACE,
    )


def declared_commands(commands: Mapping[str, AllowedCommand], assumed: ActionTraits) -> DeclaredCalls:
    """Return the commands of the settings, for lint and for the traits of ``command.run``."""
    known = {
        name: DeclaredCall(traits_from(each, assumed), dict(each.parameters), True, each.on_host)
        for name, each in commands.items()
    }
    return DeclaredCalls("commands", "command", "values", known)


def declared_requests(requests: Mapping[str, AllowedRequest], assumed: ActionTraits) -> DeclaredCalls:
    """Return the requests of the settings, for lint and for the traits of ``http.request``."""
    known = {
        name: DeclaredCall(traits_from(each, assumed), dict.fromkeys(each.fields, ""))
        for name, each in requests.items()
    }
    return DeclaredCalls("requests", "request", "fields", known)


def allowed_command(commands: Mapping[str, AllowedCommand], parameters: CommandParameters) -> AllowedCommand:
    """Return a command of the settings.

    Raises:
        TargetError: the settings do not allow it.
    """
    allowed = commands.get(parameters.command)
    if allowed is None:
        hint = did_you_mean(parameters.command, commands) or "no command is allowed"
        raise TargetError(f"the settings do not allow the command {parameters.command!r}; {hint}")
    return allowed


def argv_of(allowed: AllowedCommand, parameters: CommandParameters) -> tuple[str, ...]:
    """Return the program and its arguments.

    Raises:
        TargetError: a value is missing, unknown or not allowed.
    """
    try:
        return allowed.filled(parameters.values)
    except InputError as error:
        raise TargetError(str(error)) from None


async def run_command(
    service: Service, allowed: AllowedCommand, parameters: CommandParameters, argv: tuple[str, ...]
) -> process.Ended:
    """Run a command once, with exactly the variables that the settings name.

    Raises:
        TargetError: the file of a variable cannot be read, or the service has no host; nothing was run.
        Unreachable: it could not be started.
        TimedOut: it did not end in time.
    """
    seconds = allowed.timeout.total_seconds()
    if allowed.on_host:
        host = RemoteHost(host_for(service, allowed, parameters))
        call = host.read if allowed.read_only else host.change
        answer = await call(
            "command",
            seconds=seconds,
            command=parameters.command,
            values=dict(parameters.values),
            argv=list(argv),
            read_only=allowed.read_only,
        )
        try:
            return process.Ended(int(answer["status"]), str(answer["output"]))
        except (KeyError, TypeError, ValueError):
            raise BadAnswer(f"{service.host}: the answer has no status and output of the command") from None
    try:
        secret = {name: read_secret(path) for name, path in allowed.environment_files.items()}
    except (OSError, ValueError) as error:
        raise TargetError(f"cannot read a file of environment_files: {error}; nothing was run") from None
    return await process.run(argv, seconds=seconds, environment={**allowed.environment, **secret})


def host_for(service: Service, allowed: AllowedCommand, parameters: CommandParameters) -> Host:
    """Return the host on which a command with ``on_host`` runs.

    Raises:
        TargetError: the inventory does not name it.
    """
    if service.host is None:
        raise TargetError(
            f"the command {parameters.command!r} runs on the host of its target, but service {service.name!r} has no "
            "'host' in the inventory; add it"
        )
    return service.host


def shown(ended: process.Ended, program: str) -> tuple[str, dict[str, Any]]:
    """Return the result of a command as a summary and as facts."""
    last = ended.output.strip().rpartition("\n")[2][:200]
    text = f"{program} exited with status {ended.status}" + (f": {last}" if last else "")
    return text, {"status": ended.status, "output": ended.output[-MAX_OUTPUT:].rstrip("\n")}
