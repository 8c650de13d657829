"""Fakes of actions and checks: the same names, parameters and traits, and no effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.catalogue import ActionTraits
from remediator.playbooks.inventory import Service

_ALWAYS_OK = frozenset({"dependencies.ok"})
OnCall = Callable[[str, str], None]


def current_run() -> str:
    """Return the ID of the run of this task; the worker names its tasks after runs."""
    task = asyncio.current_task()
    return "" if task is None else task.get_name().removeprefix("run ")


def actions(kinds: Iterable[type[Action]], on_call: OnCall, allowed: ClientSet) -> Mapping[str, Action]:
    """Return one fake for each action. ``on_call`` is called with run ID and call for each change."""
    return {kind.name: _action(kind, on_call, allowed) for kind in kinds}


def _action(kind: type[Action], on_call: OnCall, allowed: ClientSet) -> Action:
    real = kind(allowed)

    class Hypothetical(Action):
        """A fake action that always succeeds."""

        name = kind.name
        Parameters = kind.Parameters
        mutates = kind.mutates
        idempotent = kind.idempotent
        reversible = kind.reversible
        destructive = kind.destructive
        interrupts = kind.interrupts
        requires_approval = kind.requires_approval
        timeout = kind.timeout

        def traits_for(self, parameters: Any) -> ActionTraits:
            return real.traits_for(parameters)

        async def plan(self, service: Service, parameters: Any) -> PlannedCall:
            return PlannedCall(f"{self.name} {service.name}")

        async def cost(self, service: Service, parameters: Any, call: PlannedCall) -> Cost:
            if real.measures:
                return Cost()  # a replay has no target to measure
            return await super().cost(service, parameters, call)

        async def execute(self, service: Service, parameters: Any, call: PlannedCall) -> Result:
            if self.traits_for(parameters).mutates:
                on_call(current_run(), call.text)
            return Result(Outcome.OK, "assumed to succeed")

    return Hypothetical(ClientSet())


def checks(kinds: Iterable[type[Check]], acted: Callable[[str], bool]) -> Mapping[str, Check]:
    """Return one fake for each check. It fails until its run has changed something."""
    return {kind.name: _check(kind, acted) for kind in kinds}


def _check(kind: type[Check], acted: Callable[[str], bool]) -> Check:
    class Hypothetical(Check):
        """A fake check that is ok after the first change."""

        name = kind.name
        Parameters = kind.Parameters

        async def observe(self, service: Service, parameters: Any) -> Evidence:
            ok = kind.name in _ALWAYS_OK or acted(current_run())
            return Evidence(CheckAnswer.OK if ok else CheckAnswer.FAIL, "assumed")

    return Hypothetical(ClientSet())
