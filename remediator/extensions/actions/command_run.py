"""``command.run``: Run a command that the settings file allows by name, without a shell.

The settings declare the effect of each command: ``read_only``, ``idempotent``, ``destructive``, ``interrupts``,
``risk`` and ``undo``. Every effect that is not declared is assumed, so such a command always needs an approval. A
read-only command can be used in ``diagnose``. If the settings allow no command, the action does nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions.actions import _remote_calls
from remediator.extensions.actions.base import Action, Observation, Result, UndoCall
from remediator.extensions.allowed_calls import (
    COMMAND_FACTS,
    CommandParameters,
    allowed_command,
    argv_of,
    declared_commands,
    host_for,
    run_command,
    shown,
    traits_from,
)
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.catalogue import ActionTraits, DeclaredCalls
from remediator.playbooks.inventory import Service

_UNKNOWN_RISK = "The settings do not declare the possible damage of this command."


class CommandRunParameters(CommandParameters):
    """Parameters of ``command.run``."""


class CommandRun(Action):
    """Run a command that the settings allow, without a shell and without the environment of the service."""

    name = "command.run"
    Parameters = CommandRunParameters
    interrupts = True
    destructive = True
    reversible = True
    timeout = timedelta(seconds=60)
    facts = COMMAND_FACTS

    @classmethod
    def declared_calls(cls, clients: ClientSet) -> DeclaredCalls:
        return declared_commands(clients.commands, cls.declared_traits())

    def traits_for(self, parameters: CommandParameters) -> ActionTraits:
        allowed, assumed = self.clients.commands.get(parameters.command), self.declared_traits()
        return assumed if allowed is None else traits_from(allowed, assumed)

    async def plan(self, service: Service, parameters: CommandParameters) -> PlannedCall:
        allowed = allowed_command(self.clients.commands, parameters)
        argv = argv_of(allowed, parameters)
        where = f" on {host_for(service, allowed, parameters)}" if allowed.on_host else ""
        return PlannedCall(
            text=f"run{where}: {shlex.join(argv)}",
            arguments={"argv": list(argv), "command": parameters.command, "values": dict(parameters.values)},
            pin=_declared(allowed),
            undo=None if allowed.undo is None else f"run the command {allowed.undo!r} of the settings",
            risk=None if allowed.read_only else allowed.risk or _UNKNOWN_RISK,
        )

    async def execute(self, service: Service, parameters: CommandParameters, call: PlannedCall) -> Result:
        allowed = allowed_command(self.clients.commands, parameters)
        argv = argv_of(allowed, parameters)
        if not allowed.read_only and (list(argv) != call.arguments.get("argv") or _declared(allowed) != call.pin):
            raise TargetError(
                f"the command {parameters.command!r} was changed in the settings after planning; it was not run"
            )
        ended = await run_command(service, allowed, parameters, argv)
        return Result(Outcome.OK if ended.status == 0 else Outcome.FAILED, *shown(ended, argv[0]))

    async def observe(
        self, service: Service, parameters: CommandParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Ask the host for the outcome of a command with ``on_host``. Other commands leave no trace to check."""
        allowed = allowed_command(self.clients.commands, parameters)
        if not allowed.on_host:
            return await super().observe(service, parameters, call, since)
        return await _remote_calls.outcome(host_for(service, allowed, parameters), self.clients.clock.now() - since)

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall | None:
        """Return the command that the settings name as the undo, with the values that it takes."""
        allowed = self.clients.commands.get(str(call.arguments.get("command")))
        undo = None if allowed is None or allowed.undo is None else self.clients.commands.get(allowed.undo)
        if allowed is None or undo is None:
            return None
        values = {name: value for name, value in call.arguments["values"].items() if name in undo.parameters}
        return UndoCall(self.name, {"command": allowed.undo, "values": values})


def _declared(allowed: AllowedCommand) -> Mapping[str, Any]:
    """Return the declaration that the approver relied on: with another declaration, the approved call differs."""
    return {"destructive": allowed.destructive, "interrupts": allowed.interrupts, "read_only": allowed.read_only} | (
        {"on_host": True} if allowed.on_host else {}
    )
