"""The guard ``managed_by``: Argo CD, Flux or an autoscaler would revert a change of what it manages."""

from __future__ import annotations

import msgspec
import pytest

from remediator.errors import Unreachable
from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import STEP, House, plan_of, status

pytestmark = pytest.mark.promise(12)


async def ask(house: House, settings: object = None, **more: object):  # type: ignore[no-untyped-def]
    return await house.verdict("managed_by", settings, target="shop", name="shop-errors", **more)


async def test_it_blocks_what_an_owner_would_undo(house: House) -> None:
    """Argo CD manages the target: the guard blocks, and its text says where to make the change."""
    house.platform.services["shop"] = status(3, 3, owner={"kind": "argocd", "name": "shop-prod"})

    assert (await ask(house)).sentence == (
        "blocked: shop is managed by argocd shop-prod, which would revert service.restart; make the change there"
    )


@pytest.mark.parametrize(
    ("owner", "settings"),
    [
        (None, None),
        ({"kind": "hpa", "name": "shop", "undoes": ["service.scale"]}, None),
        ({"kind": "flux", "name": "shop"}, {"allow": ["flux"]}),
    ],
)
async def test_it_allows_what_nobody_undoes(house: House, owner: object, settings: object) -> None:
    """The guard allows without a manager, with an autoscaler that does not revert restarts, and with an allowed
    manager."""
    house.platform.services["shop"] = status(3, 3, owner=owner)

    assert (await ask(house, settings)).answer is GuardAnswer.ALLOW


async def test_a_plan_is_judged_by_all_its_steps(house: House) -> None:
    """At planning, every mutating action of the plan is judged; read-only actions are not."""
    house.platform.services["shop"] = status(3, 3, owner={"kind": "hpa", "undoes": ["service.scale"]})
    logs = msgspec.structs.replace(STEP, action="service.logs", mutates=False)
    scale = msgspec.structs.replace(STEP, action="service.scale", mutates=True)

    assert (await ask(house, step=None, plan=plan_of(logs, scale))).answer is GuardAnswer.BLOCK
    assert (await ask(house, step=None, plan=plan_of(logs))).answer is GuardAnswer.ALLOW


async def test_a_silent_platform_is_unknown(house: House) -> None:
    """If the platform does not answer, the manager is unknown, and so is the answer."""
    house.platform.services["shop"] = Unreachable("no answer")

    assert ((await ask(house)).answer, (await ask(house)).reason) == (GuardAnswer.UNKNOWN, "platform_silent")


async def test_an_owner_that_is_not_understood_is_unknown(house: House) -> None:
    """An answer in an unexpected form is unknown, not *no manager*."""
    house.platform.services["shop"] = status(3, 3, owner="somebody")

    assert (await ask(house)).reason == "owner_unclear"


async def test_platforms_without_owners_are_not_asked(house: House) -> None:
    """A program of supervisord has no manager, so the guard allows without a query."""
    assert (await house.verdict("managed_by")).answer is GuardAnswer.ALLOW
