"""Owner: what Argo CD, Flux or an autoscaler keeps as it is, they would put back."""

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
    """Argo CD owns it: the change has to be proposed there."""
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
    """No owner, an autoscaler that does not mind a restart, or an owner that is tolerated in writing."""
    house.platform.services["shop"] = status(3, 3, owner=owner)

    assert (await ask(house, settings)).answer is GuardAnswer.ALLOW


async def test_a_plan_is_judged_by_all_its_steps(house: House) -> None:
    """At planning every action of the plan counts, those that only read do not."""
    house.platform.services["shop"] = status(3, 3, owner={"kind": "hpa", "undoes": ["service.scale"]})
    logs = msgspec.structs.replace(STEP, action="service.logs", mutates=False)
    scale = msgspec.structs.replace(STEP, action="service.scale", mutates=True)

    assert (await ask(house, step=None, plan=plan_of(logs, scale))).answer is GuardAnswer.BLOCK
    assert (await ask(house, step=None, plan=plan_of(logs))).answer is GuardAnswer.ALLOW


async def test_a_silent_platform_is_unknown(house: House) -> None:
    """Who owns it cannot be told."""
    house.platform.services["shop"] = Unreachable("no answer")

    assert ((await ask(house)).answer, (await ask(house)).reason) == (GuardAnswer.UNKNOWN, "platform_silent")


async def test_an_owner_that_is_not_understood_is_unknown(house: House) -> None:
    """A platform that says something else than the contract does not say *nobody*."""
    house.platform.services["shop"] = status(3, 3, owner="somebody")

    assert (await ask(house)).reason == "owner_unclear"


async def test_platforms_without_owners_are_not_asked(house: House) -> None:
    """A program of a supervisord is nobody's but its own."""
    assert (await house.verdict("managed_by")).answer is GuardAnswer.ALLOW
