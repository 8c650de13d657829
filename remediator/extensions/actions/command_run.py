"""``command.run``: Run a command that the settings file allows by name. If the settings allow no command, it does
nothing.
"""

from __future__ import annotations

import shlex
from datetime import timedelta

from pydantic import Field

from remediator.clients.host import process
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import InputError, TargetError
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_KEPT = 4000


class CommandParameters(Parameters):
    """Parameters of ``command.run``."""

    command: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the command under commands in the settings."
    )
    values: dict[str, str] = Field(
        default={}, description="Values for its named placeholders; each must match its pattern."
    )


class CommandRun(Action):
    """Run a command that the settings allow, without a shell and without the environment of the service."""

    name = "command.run"
    Parameters = CommandParameters
    interrupts = True
    destructive = True
    timeout = timedelta(seconds=60)
    facts = (
        Fact("status", "integer", "Exit status."),
        Fact("output", "string", "End of the output."),
    )

    def __init__(self, clients: ClientSet) -> None:
        self._commands = clients.commands

    async def plan(self, service: Service, parameters: CommandParameters) -> PlannedCall:
        argv = _argv(self._allowed(parameters), parameters)
        return PlannedCall(
            text=f"run: {shlex.join(argv)}",
            arguments={"argv": list(argv)},
            risk="The remediator does not know the effect of the command and cannot undo it.",
        )

    def _allowed(self, parameters: CommandParameters) -> AllowedCommand:
        allowed = self._commands.get(parameters.command)
        if allowed is None:
            known = ", ".join(sorted(self._commands)) or "none"
            raise TargetError(f"the settings do not allow the command {parameters.command!r}; allowed: {known}")
        return allowed

    async def execute(self, service: Service, parameters: CommandParameters, call: PlannedCall) -> Result:
        allowed = self._allowed(parameters)
        argv = _argv(allowed, parameters)
        if list(argv) != call.arguments["argv"]:
            raise TargetError(
                f"the command {parameters.command!r} was changed in the settings after planning; it was not run"
            )
        ended = await process.run(argv, seconds=allowed.timeout.total_seconds())
        outcome = Outcome.OK if ended.status == 0 else Outcome.FAILED
        last = ended.output.strip().rpartition("\n")[2][:200]
        text = f"{argv[0]} exited with status {ended.status}" + (f": {last}" if last else "")
        return Result(outcome, text, {"status": ended.status, "output": ended.output[-_KEPT:]})


def _argv(allowed: AllowedCommand, parameters: CommandParameters) -> tuple[str, ...]:
    try:
        return allowed.filled(parameters.values)
    except InputError as error:
        raise TargetError(str(error)) from None
