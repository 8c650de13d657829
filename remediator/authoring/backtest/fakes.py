"""Stand-ins for everything that would touch the world: the same names, parameters and traits, and no effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service

_ABOUT_OTHERS = frozenset({"dependencies.ok"})
Told = Callable[[str, str], None]


def current_run() -> str:
    """The run that is being worked on in this task; the worker names its tasks so."""
    task = asyncio.current_task()
    return "" if task is None else task.get_name().removeprefix("run ")


def actions(kinds: Iterable[type[Action]], tell: Told) -> Mapping[str, Action]:
    """One stand-in for each action; ``tell`` hears of each change that would have been made: run, and call."""
    return {kind.name: _action(kind, tell) for kind in kinds}


def _action(kind: type[Action], tell: Told) -> Action:
    class Hypothetical(Action):
        """Says what would be called, and that it went well."""

        name = kind.name
        Parameters = kind.Parameters
        mutates = kind.mutates
        idempotent = kind.idempotent
        reversible = kind.reversible
        destructive = kind.destructive
        requires_approval = kind.requires_approval
        timeout = kind.timeout

        async def plan(self, service: Service, parameters: Any) -> PlannedCall:
            return PlannedCall(f"{self.name} {service.name}")

        async def execute(self, service: Service, parameters: Any, call: PlannedCall) -> Result:
            if self.mutates:
                tell(current_run(), call.text)
            return Result(Outcome.OK, "assumed to go well")

    return Hypothetical(ClientSet())


def checks(kinds: Iterable[type[Check]], acted: Callable[[str], bool]) -> Mapping[str, Check]:
    """One stand-in for each check: it fails until the run that asks has changed something."""
    return {kind.name: _check(kind, acted) for kind in kinds}


def _check(kind: type[Check], acted: Callable[[str], bool]) -> Check:
    class Hypothetical(Check):
        """Holds once something was done."""

        name = kind.name
        Parameters = kind.Parameters

        async def observe(self, service: Service, parameters: Any) -> Evidence:
            well = kind.name in _ABOUT_OTHERS or acted(current_run())
            return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, "assumed")

    return Hypothetical(ClientSet())
