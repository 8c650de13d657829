"""The guard ``managed_by``: Argo CD, Flux or an autoscaler would revert a change of what it manages."""

from __future__ import annotations

import msgspec
import pytest

from remediator.errors import Unreachable
from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import STEP, Harness, plan_of, status

pytestmark = pytest.mark.promise(12)


async def ask(harness: Harness, settings: object = None, **more: object):  # type: ignore[no-untyped-def]
    return await harness.verdict("managed_by", settings, target="shop", name="shop-errors", **more)


async def test_it_blocks_an_action_that_a_manager_would_revert(harness: Harness) -> None:
    """Argo CD manages the target: the guard blocks, and its text says where to make the change."""
    harness.platform.services["shop"] = status(3, 3, owner={"kind": "argocd", "name": "shop-prod"})

    assert (await ask(harness)).sentence == (
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
async def test_it_allows_an_action_that_no_manager_reverts(harness: Harness, owner: object, settings: object) -> None:
    """The guard allows without a manager, with an autoscaler that does not revert restarts, and with an allowed
    manager."""
    harness.platform.services["shop"] = status(3, 3, owner=owner)

    assert (await ask(harness, settings)).answer is GuardAnswer.ALLOW


async def test_a_plan_is_judged_by_all_its_steps(harness: Harness) -> None:
    """At planning, every mutating action of the plan is judged; read-only actions are not."""
    harness.platform.services["shop"] = status(3, 3, owner={"kind": "hpa", "undoes": ["service.scale"]})
    logs = msgspec.structs.replace(STEP, action="service.logs", mutates=False)
    scale = msgspec.structs.replace(STEP, action="service.scale", mutates=True)

    assert (await ask(harness, step=None, plan=plan_of(logs, scale))).answer is GuardAnswer.BLOCK
    assert (await ask(harness, step=None, plan=plan_of(logs))).answer is GuardAnswer.ALLOW


async def test_a_platform_that_does_not_answer_is_unknown(harness: Harness) -> None:
    """If the platform does not answer, the manager is unknown, and so is the answer."""
    harness.platform.services["shop"] = Unreachable("no answer")

    assert ((await ask(harness)).answer, (await ask(harness)).reason) == (GuardAnswer.UNKNOWN, "platform_silent")


async def test_an_invalid_answer_about_the_manager_is_unknown(harness: Harness) -> None:
    """An answer in an unexpected form is unknown, not *no manager*."""
    harness.platform.services["shop"] = status(3, 3, owner="somebody")

    assert (await ask(harness)).reason == "owner_unclear"


async def test_platforms_without_owners_are_not_asked(harness: Harness) -> None:
    """A program of supervisord has no manager, so the guard allows without a query."""
    assert (await harness.verdict("managed_by")).answer is GuardAnswer.ALLOW
