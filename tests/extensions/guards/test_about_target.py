"""The guard ``about_target``: a run acts only for alerts about its target."""

from __future__ import annotations

import pytest

from remediator.extensions.guards.base import GuardAnswer
from tests.support.guard_history import Harness, alert


@pytest.mark.promise(8)
async def test_it_allows_an_alert_that_names_the_target(harness: Harness) -> None:
    """An alert with a label from the inventory entry of the target is allowed."""
    verdict = await harness.verdict("about_target", alerts=[alert(service="redis")], about="target")

    assert verdict.answer is GuardAnswer.ALLOW


@pytest.mark.promise(8)
async def test_it_blocks_for_an_alert_about_something_else(harness: Harness) -> None:
    """One alert of the run has another namespace: the guard blocks, and its text shows both values."""
    labels = {"service": "shop", "namespace": "team-b"}

    verdict = await harness.verdict("about_target", target="shop", alerts=[alert(**labels)], about="target")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.BLOCK, "not_about_target")
    assert "namespace='team-b'" in verdict.text
    assert "namespace='shop'" in verdict.text


@pytest.mark.promise(8)
async def test_it_blocks_an_alert_whose_relation_to_the_target_is_unknown(harness: Harness) -> None:
    """The text shows the labels of the alert and the labels in the inventory. An approval cannot override this
    answer."""
    verdict = await harness.verdict("about_target", alerts=[alert(severity="critical")], about="target")

    assert (verdict.answer, verdict.reason) == (GuardAnswer.BLOCK, "no_identifying_label")
    assert "severity='critical'" in verdict.text
    assert "service='redis'" in verdict.text


async def test_a_playbook_can_say_that_its_alert_names_no_target(harness: Harness) -> None:
    """``about: {any: REASON}`` allows any alert."""
    verdict = await harness.verdict("about_target", alerts=[alert()], about={"any": "the rule has no labels"})

    assert verdict.answer is GuardAnswer.ALLOW
