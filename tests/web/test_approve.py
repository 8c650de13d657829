"""The approval page: viewing changes nothing, and a decision applies to exactly one plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from remediator.core.reason import Reason
from remediator.storage import Tx
from remediator.storage.repositories import approvals, runs, stops
from remediator.storage.repositories.approvals import Approval
from remediator.storage.schema import attempts as attempts_table
from remediator.storage.schema import episodes as episodes_table
from remediator.storage.schema import runs as runs_table
from tests.support.web_service import WebService, nonce_of, submit_decision, text_of, web_service

pytestmark = pytest.mark.promise(6)


async def test_get_and_head_change_nothing(web: WebService) -> None:
    """After 100 GET and HEAD requests, the audit log is unchanged and the link still works."""
    asked = await web.request_approval()
    before = await web.head()
    async with web.client() as client:
        for _ in range(50):
            assert (await client.get(web.link(asked))).status_code == 200
            assert (await client.head(web.link(asked))).status_code == 200

        assert await web.head() == before
        assert (await submit_decision(client, web.link(asked), "approve", token=web.tokens["ann"])).status_code == 303
    assert (await web.state(asked)).status == "approved"


async def test_the_page_shows_all_facts_for_a_decision(web: WebService) -> None:
    """The page shows alert, exact call, risk, evidence, approvers and expiry."""
    asked = await web.request_approval(groups=("sre",))
    async with web.client() as client:
        page = (await client.get(web.link(asked))).text

    for text in (
        "RedisDiskFull",
        "move 3 files of /backups to quarantine",
        "the oldest backups go",
        "move them back",
        "97 % of 1 GiB used",
        "embers of sre",
        "Expires at 2026-03-04 12:15:00 UTC (in 15m)",
    ):
        assert text in page, text


async def test_headers_protect_the_link(web: WebService) -> None:
    """All pages forbid referrers, caching, frames and inline scripts."""
    asked = await web.request_approval()
    async with web.client() as client:
        paths = [
            "/",
            "/runs",
            f"/runs/{asked.run_id}",
            "/playbooks",
            "/audit",
            "/inventory",
            web.link(asked),
            "/sign-in",
        ]
        for path in paths:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cache-control"] == "no-store"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert "unsafe-inline" not in answer.headers["content-security-policy"]
            assert " style=" not in answer.text and " onclick=" not in answer.text
            assert "<script>" not in answer.text


@pytest.mark.parametrize("cut", [1, 10, 40])
async def test_a_forged_token_is_not_valid(web: WebService, cut: int) -> None:
    """A truncated, changed or foreign token gets the same 404 page without details."""
    asked = await web.request_approval()
    link = web.link(asked)
    async with web.client() as client:
        for broken in (
            link[:-cut],
            link[:-cut] + ("E" if link.endswith("A") else "A") * cut,
            link + "x" * cut,
            "/approve/a.b.c",
            "/approve/%00",
            "/approve/é",
        ):
            answer = await client.get(broken)
            assert answer.status_code == 404, broken
            assert "This link is not valid" in answer.text
            assert asked.run_id not in answer.text


async def test_a_form_of_another_site_or_browser_decides_nothing(web: WebService) -> None:
    """A form without nonce, with a foreign nonce or from another site is rejected. The link still works."""
    asked = await web.request_approval()
    link = web.link(asked)
    said = {"verb": "approve", "token": web.tokens["ann"]}
    async with web.client() as client, web.client() as other:
        foreign = nonce_of((await other.get(link)).text)
        own = nonce_of((await client.get(link)).text)
        assert (await client.post(link, data=said)).status_code == 403
        assert (await client.post(link, data={**said, "nonce": foreign})).status_code == 403
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        assert (await client.post(link, data={**said, "nonce": own}, headers=elsewhere)).status_code == 403
        web.clock.time += timedelta(hours=3)
        assert (await client.post(link, data={**said, "nonce": own})).status_code in (403, 410)
    assert (await web.state(asked)).status == "pending"


async def test_a_link_alone_identifies_no_person(web: WebService) -> None:
    """The link of a channel decides nothing without an identified person."""
    asked = await web.request_approval()
    async with web.client() as client:
        for verb in ("approve", "reject", "snooze", "pause"):
            assert (await submit_decision(client, web.link(asked), verb, typed="redis")).status_code == 403
    assert (await web.state(asked)).status == "pending"


async def test_a_personal_link_needs_the_targets_name(web: WebService) -> None:
    """A scanner that submits forms decides nothing. The person who types the name is recorded."""
    asked = await web.request_approval()
    link = web.link(asked, "person:ann")
    async with web.client() as client:
        for verb in ("approve", "reject", "snooze", "pause"):
            assert (await submit_decision(client, link, verb)).status_code == 422
            assert (await submit_decision(client, link, verb, typed="yes")).status_code == 422
        assert (await web.state(asked)).status == "pending"
        assert (await submit_decision(client, link, "approve", typed=" Redis ")).status_code == 303
    said = await web.context.store.read(lambda connection: approvals.list_decisions(connection, asked.id))
    assert [(item.identity, item.how) for item in said] == [("ann", "link")]
    assert '"actor":"ann"' in await web.audit_text()


async def test_a_personal_link_of_a_removed_person_is_rejected(web: WebService) -> None:
    """The old link of a person who was removed from the people file decides nothing."""
    asked = await web.request_approval()
    async with web.client() as client:
        assert (
            await submit_decision(client, web.link(asked, "person:gone"), "approve", typed="redis")
        ).status_code == 403


async def test_double_clicks_count_once(web: WebService) -> None:
    """The same form sent twice records one decision. The page shows who made it."""
    asked = await web.request_approval()
    async with web.client() as client:
        nonce = nonce_of((await client.get(web.link(asked))).text)
        said = {"nonce": nonce, "verb": "approve", "token": web.tokens["ann"]}
        assert [(await client.post(web.link(asked), data=said)).status_code for _ in range(2)] == [303, 303]
        page = (await client.get(web.link(asked))).text
    assert (await web.audit_text()).count('"kind":"approval.decided"') == 1
    assert "Approved at 2026-03-04 12:00:00Z by ann" in text_of(page)


async def test_an_expired_link_decides_nothing_and_explains_it(web: WebService) -> None:
    """After its expiry, the link decides nothing, and the page shows what happened."""
    asked = await web.request_approval()
    link = web.link(asked)
    async with web.client() as client:
        nonce = nonce_of((await client.get(link)).text)
        web.clock.time += timedelta(minutes=16)
        said = {"nonce": nonce, "verb": "approve", "token": web.tokens["ann"]}
        assert (await client.post(link, data=said)).status_code == 410
        page = (await client.get(link)).text
    assert "No decision was made before" in page or "expired" in page
    assert '<button name="verb"' not in page
    assert (await web.state(asked)).status == "pending"  # only the engine sets the status expired, never a link


async def test_a_link_for_another_plan_is_outdated(web: WebService) -> None:
    """The page of a link with another plan hash has no form, and the link decides nothing."""
    asked = await web.request_approval()
    other = web.link(replace(asked, plan_hash="0" * 64))
    async with web.client() as client:
        page = await client.get(other)
        assert "This link is for another plan" in page.text
        nonce = nonce_of((await client.get(web.link(asked))).text)
        await client.post(other, data={"nonce": nonce, "verb": "approve", "token": web.tokens["ann"]})
    assert (await web.state(asked)).status == "pending"


async def test_a_destructive_plan_always_needs_the_targets_name(web: WebService) -> None:
    """A signed-in person must type the name of the target too."""
    asked = await web.request_approval(destructive=True)
    async with web.client() as client:
        said = {"token": web.tokens["ann"]}
        refused = await submit_decision(client, web.link(asked), "approve", **said)
        assert refused.status_code == 403
        assert "DESTROYS DATA" in refused.text
        assert (await submit_decision(client, web.link(asked), "approve", typed="redis", **said)).status_code == 303
    assert (await web.state(asked)).status == "approved"


async def test_a_quorum_counts_distinct_people(web: WebService) -> None:
    """Two decisions of one person count once. The page shows the count."""
    asked = await web.request_approval(quorum=2)
    async with web.client() as client:
        for _ in range(2):
            await submit_decision(client, web.link(asked), "approve", token=web.tokens["ann"])
        assert (await web.state(asked)).status == "pending"
        assert "1 of 2 approved" in (await client.get(web.link(asked))).text
        await submit_decision(client, web.link(asked), "approve", token=web.tokens["bob"])
    assert (await web.state(asked)).status == "approved"


async def test_group_role_and_requester_are_checked(web: WebService) -> None:
    """People outside the group, viewers and the requester cannot approve. A rejection needs no group."""
    asked = await web.request_approval(groups=("sre",))
    await web.context.store.write(lambda tx: approvals.set_requester(tx, asked.run_id, "bob"))
    async with web.client() as client:
        for name in ("eve", "victor", "bob"):
            refused = await submit_decision(client, web.link(asked), "approve", token=web.tokens[name])
            assert refused.status_code == 403, name
        assert (await web.state(asked)).status == "pending"
        assert (await submit_decision(client, web.link(asked), "reject", token=web.tokens["eve"])).status_code == 303
        page = (await client.get(web.link(asked))).text
    assert (await web.state(asked)).status == "rejected"
    assert "Rejected at" in page and "<b>eve</b>: reject" in page


async def test_break_glass_is_announced(web: WebService) -> None:
    """An operator approves alone with a reason. It is recorded as break-glass, and all approvers are notified."""
    asked = await web.request_approval(quorum=3, groups=("dba",))
    async with web.client() as client:
        said = {"token": web.tokens["oscar"]}
        assert (await submit_decision(client, web.link(asked), "break_glass", **said)).status_code == 403
        assert (
            await submit_decision(client, web.link(asked), "break_glass", reason="shop is down", **said)
        ).status_code == 303
        weak = await submit_decision(
            client, web.link(await web.request_approval()), "break_glass", reason="long enough", token=web.tokens["ann"]
        )
        assert weak.status_code == 403
    assert (await web.state(asked)).status == "approved"
    text = await web.audit_text()
    assert '"break glass"' in text and '"break_glass":true,"how":"token"' in text and "shop is down" in text
    told = [item for item in await web.outbox(asked.run_id) if item.kind == "notice"]
    assert {item.channel for item in told} == {"approvals", "oncall"}


async def test_snooze_and_pause_are_on_the_same_page(web: WebService) -> None:
    """Snooze ends the request for a time. Pause creates a stop with a reason."""
    asked = await web.request_approval()
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "pause", token=web.tokens["ann"], reason="let me look")
        assert (await web.state(asked)).status == "pending"
        await submit_decision(client, web.link(asked), "snooze", token=web.tokens["ann"])
    standing = await web.context.store.read(lambda connection: stops.list_active(connection, web.clock.now()))
    assert [(stop.created_by, stop.reason) for stop in standing] == [("ann", "let me look")]
    after = await web.state(asked)
    assert (after.status, after.reason) == ("void", "snoozed by ann")
    until = after.snoozed_until
    assert until is not None and until > web.clock.now()


async def test_link_holders_approve_only_low_risk_and_if_enabled(tmp_path: Path) -> None:
    """If enabled, a link alone approves plans of low risk, as 'link holder'."""
    async with web_service(tmp_path, approvals={"allow_link_only": True}) as web:
        async with web.client() as client:
            for asked in (
                await web.request_approval(destructive=True),
                await web.request_approval(quorum=2),
                await web.request_approval(groups=("sre",)),
                await web.request_approval(reason=Reason.GUARD_UNKNOWN),
            ):
                assert (await submit_decision(client, web.link(asked), "approve", typed="redis")).status_code == 403
            asked = await web.request_approval()
            assert (await submit_decision(client, web.link(asked), "approve")).status_code == 422
            assert (await submit_decision(client, web.link(asked), "approve", typed="redis")).status_code == 303
        assert (await web.state(asked)).status == "approved"
        assert '"actor":"link holder"' in await web.audit_text()


async def test_alert_text_is_escaped(web: WebService) -> None:
    """Markup in labels is escaped on every page."""
    bad = "<script>alert(1)</script>{{ 7*7 }}\"'><img src=x onerror=alert(2)>"
    asked = await web.request_approval(labels={"path": bad})
    async with web.client() as client:
        for path in ("/", f"/runs/{asked.run_id}", web.link(asked), "/runs", "/audit"):
            page = (await client.get(path)).text
            assert "<script>alert" not in page and "<img src=x" not in page and ">49<" not in page, path


@pytest.mark.parametrize(
    ("reason", "heading", "told"),
    [
        (
            "resolved",
            "Outdated (the alert was resolved)",
            "outdated: the alert was resolved.",
        ),
        ("cancelled", "Outdated (the run was cancelled)", "outdated: the run was cancelled."),
        (
            "deadline",
            "Outdated (the run reached its time limit)",
            "outdated: the run reached its time limit.",
        ),
        ("the playbook has changed", "Outdated (the playbook has changed)", "outdated: the playbook has changed."),
    ],
)
async def test_an_outdated_request_shows_the_outcome(web: WebService, reason: str, heading: str, told: str) -> None:
    """The page of an outdated request explains the outcome and has no buttons."""
    asked = await web.request_approval()

    def void(tx: Tx) -> None:
        run = runs.get(tx.connection, asked.run_id)
        assert run is not None
        approvals.void(tx, run, reason, "test")

    await web.context.store.write(void)
    async with web.client() as client:
        page = (await client.get(web.link(asked))).text
    assert heading in page and told in page and "<button" not in page.partition("<main")[2].partition("</main>")[0]


async def test_a_snoozed_request_shows_when_it_asks_again(web: WebService) -> None:
    """The page shows who snoozed the request, and until when."""
    asked = await web.request_approval()
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "snooze", token=web.tokens["ann"])
        page = (await client.get(web.link(asked))).text
    assert "Snoozed by ann" in page and "you are asked again at 2026-03-04 12:30:00Z" in text_of(page)


async def test_the_page_of_a_healed_request_shows_each_fact_once(web: WebService) -> None:
    """The page shows person and reason once, and offers no action for a fixed fault."""
    asked = await web.request_approval()
    said = "the backups are old"

    def heal(tx: Tx) -> None:
        approvals.decide(tx, asked, asked.plan_hash, approvals.Decision("ann", "approve", tx.now, said, "token"))
        ended = {
            "status": "succeeded",
            "reason": "verified",
            "detail": {"proof": ["it answers"]},
            "finished_at": tx.now,
        }
        tx.connection.execute(update(runs_table).where(runs_table.c.id == asked.run_id).values(**ended))

    await web.context.store.write(heal)
    async with web.client(headers={"accept": "text/html", **web.bearer("ann")}) as client:
        page = (await client.get(f"/approvals/{asked.id}")).text
    assert page.count(said) == 1 and "Proof: it answers" in page
    assert "Nothing has to be done: it is healed" in page and "To run the remedy" not in page


async def _end(web: WebService, run_id: str, **values: Any) -> None:
    ended = {"status": "cancelled", "reason": "rejected", "detail": {"by": ["ann"]}, "incident_open": True}
    ended |= {"finished_at": web.started, **values}
    await web.context.store.write(
        lambda tx: tx.connection.execute(update(runs_table).where(runs_table.c.id == run_id).values(**ended))
    )


async def _page_of(web: WebService, asked: Approval) -> str:
    async with web.client(headers={"accept": "text/html", **web.bearer("ann")}) as client:
        return text_of((await client.get(f"/approvals/{asked.id}")).text)


async def test_a_rejected_request_for_a_later_step_does_not_say_that_nothing_was_done(web: WebService) -> None:
    """The page says that nothing was done only if the run made no call that changes anything."""
    asked = await web.request_approval()
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "reject", token=web.tokens["ann"])
    assert "Nothing was done." in await _page_of(web, asked)
    made = {"id": "attempt-1", "run_id": asked.run_id, "step": "first", "number": 1, "action": "service.restart"}
    made |= {"playbook": "redis-disk-full", "target": "redis", "mutates": True, "is_undo": False, "call": {"text": "x"}}
    made |= {"fence": 1, "intent_at": web.started, "outcome": "ok", "outcome_at": web.started, "result": {}}
    await web.context.store.write(lambda tx: tx.connection.execute(insert(attempts_table), made))
    shown = await _page_of(web, asked)
    assert "Nothing was done because of this request." in shown and "Nothing was done." not in shown


@pytest.mark.parametrize(
    ("values", "alert", "next_step"),
    [
        ({}, "firing", "The alert still fires. To run the remedy, start a new run"),
        ({"incident_open": False}, "firing", "The alert still fires, and a newer run handles it."),
        ({"holds_target": True}, "firing", "Check redis: did the last call take effect?"),
        ({}, "resolved", "Nothing has to be done: no alert of this run fires"),
        ({"incident_open": False}, "closed", "Nothing has to be done: no alert of this run fires"),
        ({"status": "succeeded", "detail": {"ineffective": True}}, "firing", "It was healed, and the fault came back."),
    ],
)
async def test_the_next_step_of_a_decided_request_is_one_that_is_possible(
    web: WebService, values: dict[str, Any], alert: str, next_step: str
) -> None:
    """The page offers a new run only if it can be started, and says that an alert is over only if it is."""
    asked = await web.request_approval()
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "reject", token=web.tokens["ann"])
    await _end(web, asked.run_id, **values)
    await web.context.store.write(lambda tx: tx.connection.execute(update(episodes_table).values(status=alert)))
    shown = await _page_of(web, asked)
    steps = ("To run the remedy", "a newer run handles it", "Check redis", "Nothing has to be", "the fault came back")
    assert next_step in shown and sum(text in shown for text in steps) == 1
    async with web.client(headers=web.bearer("oscar")) as client:
        retried = await client.post(f"/api/v1/runs/{asked.run_id}/retry", json={"reason": "again"})
    if values.get("status") != "succeeded":
        assert ("To run the remedy" in shown) == (retried.status_code == 200)
