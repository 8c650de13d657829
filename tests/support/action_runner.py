"""Doing an action as the engine does: parameters checked, planned, then executed, or observed when nobody answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, Observation, Result
from remediator.playbooks.inventory import Service


def service(name: str = "redis", **parts: Any) -> Service:
    """A service of an inventory; without a platform that could be asked."""
    platform = parts.pop("platform", {"kind": "supervisor", "url": "unix:///nowhere/s.sock", "program": name})
    return Service.model_validate({"name": name, "platform": platform, **parts})


async def plan(action: Action, target: Service, **given: Any) -> PlannedCall:
    """What it would do; the same when it is planned again, or no approval of it could ever hold."""
    parameters = action.Parameters.model_validate(given)
    made = await action.plan(target, parameters)
    assert (await action.plan(target, parameters)).core() == made.core(), (
        f"{action.name} plans something else each time"
    )
    return made


async def do(action: Action, target: Service, *, call: PlannedCall | None = None, **given: Any) -> Result:
    """Plan it, unless that was done, and do it."""
    parameters = action.Parameters.model_validate(given)
    return await action.execute(target, parameters, call or await action.plan(target, parameters))


async def observe(
    action: Action, target: Service, call: PlannedCall, *, since: datetime | None = None, **given: Any
) -> Observation:
    """What a look says of it afterwards."""
    parameters = action.Parameters.model_validate(given)
    return await action.observe(target, parameters, call, since or datetime.now(UTC))


async def undo(
    action: Action, actions: dict[str, Action], target: Service, call: PlannedCall, result: Result
) -> Result:
    """Do what it says puts it back."""
    back = action.back(call, result.output)
    assert back is not None, f"{action.name} has no way back"
    return await do(actions[back.action], target, **back.parameters)
