"""A personal e-mail link is not an identity: decisions that it allows and decisions that need a sign-in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.security.test_removed_authority import sign_in
from tests.support.web_service import WebService, submit_decision

pytestmark = pytest.mark.promise(6)


async def test_a_personal_link_never_allows_break_glass(web: WebService) -> None:
    """With a link and no sign-in, an operator cannot use break-glass over a quorum of two."""
    asked = await web.request_approval(quorum=2)
    async with web.client() as client:
        link = web.link(asked, "person:oscar")
        page = await client.get(link)
        assert 'value="break_glass"' not in page.text
        answer = await submit_decision(client, link, "break_glass", typed="redis", reason="shop is down")
    assert (answer.status_code, (await web.state(asked)).status) == (403, "pending")


@pytest.mark.parametrize(
    "plan", [{"destructive": True}, {"quorum": 2}, {"groups": ("sre",)}], ids=["destructive", "quorum", "group"]
)
async def test_a_personal_link_approves_only_plans_of_low_risk(web: WebService, plan: dict[str, Any]) -> None:
    """Plans that destroy, need two people or name groups need a sign-in for approval, but not for rejection."""
    asked = await web.request_approval(**plan)
    async with web.client() as client:
        link = web.link(asked, "person:ann")
        answer = await submit_decision(client, link, "approve", typed="redis")
        assert (answer.status_code, (await web.state(asked)).status) == (403, "pending")
        assert (await submit_decision(client, link, "reject", typed="redis")).status_code == 303


async def test_the_record_names_the_sign_in_method_of_each_person(web: WebService) -> None:
    """Decisions, page and audit log state link or token, also for break-glass."""
    asked = await web.request_approval()
    async with web.client() as client:
        await submit_decision(client, web.link(asked, "person:ann"), "approve", typed="redis")
        other = await web.request_approval(quorum=2)
        said = {"token": web.tokens["oscar"], "reason": "shop is down"}
        await submit_decision(client, web.link(other), "break_glass", **said)
        page = (await client.get(web.link(other))).text
    assert "identified by token" in page and "break-glass" in page
    text = await web.audit_text()
    assert '"break_glass":false,"how":"link"' in text
    assert '"break_glass":true,"how":"token"' in text


async def test_break_glass_needs_a_recent_sign_in(web: WebService) -> None:
    """Break-glass needs a recent sign-in or the token again. A session of an hour ago is not enough."""
    asked = await web.request_approval(quorum=2)
    async with web.client() as browser:
        await sign_in(browser, web.tokens["oscar"])
        web.clock.time += timedelta(minutes=6)
        said = {"reason": "shop is down"}
        stale = await submit_decision(browser, f"/approvals/{asked.id}", "break_glass", **said)
        assert (stale.status_code, "sign-in of the last 5 minutes" in stale.text) == (403, True)
        again = await submit_decision(
            browser, f"/approvals/{asked.id}", "break_glass", token=web.tokens["oscar"], **said
        )
    assert (again.status_code, (await web.state(asked)).status) == (303, "approved")
