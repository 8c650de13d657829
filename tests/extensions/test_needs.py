"""An action or check needs exactly the parts of the inventory that it declares; lint and the reference use the
declaration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from remediator.errors import RemediatorError, TargetError
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check, CheckAnswer
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import Platform
from remediator.extensions.platforms.supervisor import SupervisorPlatform
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support import reference_pages
from tests.support.action_runner import service
from tests.support.servers.redis import MakeRedis, Redis

MISSING = "in the inventory; add it"


async def refusal(action: type[Action], target: Service) -> str:
    """Return the error for a missing part of the inventory; empty if there is another error or none."""
    parameters = action.Parameters.model_validate(reference_pages.example_values("action", action))
    made = Registry().make_actions(ClientSet(platforms=Registry().make_platforms()))[action.name]
    try:
        async with asyncio.timeout(20):
            call = await made.plan(target, parameters)
            if not action.mutates:  # a read-only action may fail only when it reads
                await made.execute(target, parameters, call)
    except TargetError as error:
        return str(error) if MISSING in str(error) else ""
    except (RemediatorError, OSError, TimeoutError):
        pass
    return ""


def parts(redis: Redis, folder: Path) -> dict[str, Any]:
    """Return parts of an inventory entry that can be used on this host."""
    return {
        "redis": {"host": "127.0.0.1", "port": redis.port},
        "disk": {"path": str(folder)},
        "backups": {"path": str(folder)},
    }


@pytest.mark.parametrize("action", Registry().actions, ids=lambda action: action.name)
async def test_an_action_needs_what_it_declares(action: type[Action], make_redis: MakeRedis, tmp_path: Path) -> None:
    """Without a declared part, the action is refused, and the error names the part."""
    said = await refusal(action, service())
    needs = action.needs or (SupervisorPlatform.needs.get(action.name, ()) if said else ())
    assert [name for name in needs if f"'{name}'" in said] or (not needs and not said), said

    usable = parts(make_redis("appendonly yes"), tmp_path)
    for name in action.needs if usable.keys() >= set(action.needs) else ():
        others = {key: value for key, value in usable.items() if key != name}
        assert f"'{name}'" in await refusal(action, service(**others))


@pytest.mark.parametrize("check", [each for each in Registry().checks if each.needs], ids=lambda check: check.name)
async def test_a_check_is_unknown_without_what_it_declares(check: type[Check]) -> None:
    """Without a declared part, the answer is unknown."""
    made = Registry().make_checks(ClientSet())[check.name]
    parameters = check.Parameters.model_validate(reference_pages.example_values("check", check))
    assert (await made.ask(service(), parameters)).answer is CheckAnswer.UNKNOWN


@pytest.mark.parametrize("platform", Registry().platforms, ids=lambda platform: platform.kind)
async def test_a_platform_refuses_what_it_does_not_support(platform: type[Platform]) -> None:
    """An action that lint reports as unsupported is refused by the platform before any call."""
    made, target = platform(), service()
    if "service.scale" in platform.unsupported():
        with pytest.raises(TargetError, match="does not support it"):
            made.describe_scale(target, 2)
    if "service.rollback" in platform.unsupported():
        with pytest.raises(TargetError, match="does not record them"):
            made.describe_rollback(target, "v1")
    await made.aclose()
