"""``command.check``: Run a read-only command of the settings and judge its exit status."""

from __future__ import annotations

from pydantic import Field

from remediator.errors import TargetError
from remediator.extensions.allowed_calls import (
    COMMAND_FACTS,
    CommandParameters,
    allowed_command,
    argv_of,
    declared_commands,
    run_command,
    shown,
)
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.catalogue import ActionTraits, DeclaredCalls
from remediator.playbooks.inventory import Service


class CommandCheckParameters(CommandParameters):
    """Parameters of ``command.check``."""

    fail_status: tuple[int, ...] = Field(
        default=(1,),
        min_length=1,
        description="Exit statuses that mean fail. 0 means ok; any other status is unknown. "
        "Monitoring plugins use 1 and 2.",
    )


class CommandCheck(Check):
    """Run a command that the settings declare as read-only, and judge its exit status.

    A command that did not start, that did not end in time, or that ended with another status gives *unknown*.
    """

    name = "command.check"
    Parameters = CommandCheckParameters
    facts = COMMAND_FACTS

    @classmethod
    def declared_calls(cls, clients: ClientSet) -> DeclaredCalls:
        return declared_commands(clients.commands, ActionTraits())

    async def observe(self, service: Service, parameters: CommandCheckParameters) -> Evidence:
        allowed = allowed_command(self.clients.commands, parameters)
        if not allowed.read_only:
            raise TargetError(
                f"the settings do not declare the command {parameters.command!r} as read_only; it was not run"
            )
        argv = argv_of(allowed, parameters)
        ended = await run_command(service, allowed, parameters, argv)
        text, facts = shown(ended, argv[0])
        if ended.status == 0:
            return Evidence(CheckAnswer.OK, text, facts)
        failed = ended.status in parameters.fail_status
        return Evidence(CheckAnswer.FAIL if failed else CheckAnswer.UNKNOWN, text, facts)
