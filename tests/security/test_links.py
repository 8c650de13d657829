"""Possession of a link is not an identity: what a personal e-mail link alone can and cannot do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.security.test_removed_authority import sign_in
from tests.support.web_service import WebService, submit_decision

pytestmark = pytest.mark.promise(6)


async def test_a_personal_link_never_breaks_the_glass(web: WebService) -> None:
    """An operator's link without a sign-in approves nothing over a quorum of two."""
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
    """A plan that destroys, needs two people or names groups needs a sign-in. To reject it, the link is sufficient."""
    asked = await web.request_approval(**plan)
    async with web.client() as client:
        link = web.link(asked, "person:ann")
        answer = await submit_decision(client, link, "approve", typed="redis")
        assert (answer.status_code, (await web.state(asked)).status) == (403, "pending")
        assert (await submit_decision(client, link, "reject", typed="redis")).status_code == 303


async def test_the_record_says_how_each_person_was_known(web: WebService) -> None:
    """Decisions, the page and the audit log name link and token; break-glass does not hide it."""
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
    """A session of an hour ago is not enough; the token, entered again, is."""
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
