"""Plan, execute, observe and undo an action as the pipeline does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, Observation, Result
from remediator.playbooks.inventory import Service


def service(name: str = "redis", **parts: Any) -> Service:
    """Return a service of an inventory. Its platform does not answer."""
    platform = parts.pop("platform", {"kind": "supervisor", "url": "unix:///nowhere/s.sock", "program": name})
    return Service.model_validate({"name": name, "platform": platform, **parts})


async def plan(action: Action, target: Service, **given: Any) -> PlannedCall:
    """Plan an action twice, and return the call. If the second call differed, every approval would become outdated."""
    parameters = action.Parameters.model_validate(given)
    made = await action.plan(target, parameters)
    assert (await action.plan(target, parameters)).comparable() == made.comparable(), f"{action.name}: two plans differ"
    return made


async def do(action: Action, target: Service, *, call: PlannedCall | None = None, **given: Any) -> Result:
    """Plan an action, unless a call is given, and execute it."""
    parameters = action.Parameters.model_validate(given)
    return await action.execute(target, parameters, call or await action.plan(target, parameters))


async def observe(
    action: Action, target: Service, call: PlannedCall, *, since: datetime | None = None, **given: Any
) -> Observation:
    """Observe the effect of a call."""
    parameters = action.Parameters.model_validate(given)
    return await action.observe(target, parameters, call, since or datetime.now(UTC))


async def undo(
    action: Action, actions: dict[str, Action], target: Service, call: PlannedCall, result: Result
) -> Result:
    """Execute the call that undoes an action."""
    back = action.undo_call(call, result.output)
    assert back is not None, f"{action.name} cannot be undone"
    return await do(actions[back.action], target, **back.parameters)
