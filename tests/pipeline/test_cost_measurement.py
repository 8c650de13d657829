"""A failed measurement makes the cost unknown; it neither stops a run nor counts as no cost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from remediator.core.cost import EFFECT, Cost, excess
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import Unreachable
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.clientset import ClientSet
from remediator.pipeline import costs
from remediator.playbooks.inventory import Service
from remediator.playbooks.tolerance import DEFAULT
from tests.support.action_runner import service

PIPELINE: Any = SimpleNamespace(timeouts=SimpleNamespace(probe_timeout=timedelta(seconds=0.2)))


class Plugin(Action):
    """An action of a plugin that interrupts a service and measures nothing."""

    name = "plugin.kick"
    interrupts = True

    async def plan(self, service: Service, parameters: Any) -> PlannedCall:
        return PlannedCall("kick")

    async def execute(self, service: Service, parameters: Any, call: PlannedCall) -> Result:
        return Result(Outcome.OK, "kicked")


class Broken(Plugin):
    """An action whose measurement fails."""

    measures = ("unsaved_writes",)

    def __init__(self, failure: Any) -> None:
        super().__init__(ClientSet())
        self._failure = failure

    async def cost(self, service: Service, parameters: Any, call: PlannedCall) -> Cost:
        if isinstance(self._failure, Exception):
            raise self._failure
        if self._failure == "hang":
            await asyncio.sleep(60)
        return Cost(unsaved_writes=self._failure)


async def measured(action: Action) -> Cost:
    """Return the cost as the pipeline measures it."""
    return await costs.measure(PIPELINE, action, service("redis"), None, PlannedCall("kick"))


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (Unreachable("no route"), "no route"),
        (KeyError("rdb_changes_since_last_save"), "KeyError"),
        ("hang", "no answer within"),
        ("many", "ValidationError"),
    ],
)
async def test_a_failed_measurement_is_unknown(failure: Any, why: str) -> None:
    """An error of a client, a defect, a hanging call, and a value of the wrong type make the cost unknown."""
    cost = await measured(Broken(failure))
    assert why in cost.unknown["unsaved_writes"]
    assert excess(cost, DEFAULT)


async def test_an_interruption_without_a_measurement_asks() -> None:
    """A plugin does not measure what its action interrupts, so no tolerance covers the action."""
    cost = await measured(Plugin(ClientSet()))
    assert list(cost.unknown) == [EFFECT]
    assert excess(cost, {})


async def test_an_action_that_only_adds_something_costs_nothing() -> None:
    """The action neither interrupts nor destroys anything, so its cost is 0."""

    class Harmless(Plugin):
        """An action that interrupts nothing."""

        interrupts = False

    assert await measured(Harmless(ClientSet())) == Cost()


async def test_an_infeasible_step_costs_nothing() -> None:
    """An infeasible step has no call, so nothing is measured."""
    call = PlannedCall("kick", infeasible_reason="nobody is there")
    assert await costs.measure(PIPELINE, Broken(KeyError("x")), service("redis"), None, call) == Cost()
