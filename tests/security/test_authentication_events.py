"""Failed authentications are throttled, counted, logged and audited."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.alert import ALERTMANAGER
from remediator.pipeline.receive import Credentials
from remediator.web import sign_in_guard
from tests.support.servers import require
from tests.support.servers.remediator import ROOT
from tests.support.web_service import WebService, nonce_of, submit_decision, web_service

pytestmark = pytest.mark.promise(9)
NOTIFICATION = json.dumps({"version": "4", "receiver": "remediator", "alerts": []}).encode()
RIGHT = {"Authorization": "Bearer the-token-of-the-webhook"}
WRONG = {"Authorization": "Bearer another-token-of-the-webhook"}


@pytest.fixture
def guarded(web: WebService) -> WebService:
    """Make the webhook accept one token only."""
    rules = web.service.access.rules
    credentials = {ALERTMANAGER: Credentials({"token": b"the-token-of-the-webhook"})}
    web.service.access.rules = replace(rules, credentials=credentials)
    return web


async def attempt(client: object, web: WebService, token: str) -> int:
    """Try to sign in with a token."""
    assert hasattr(client, "get") and hasattr(client, "post")
    page = await client.get("/sign-in")
    return int((await client.post("/sign-in", data={"nonce": nonce_of(page.text), "token": token})).status_code)


async def test_wrong_sign_ins_are_throttled_and_leave_a_trace(web: WebService) -> None:
    """After ten failures, an address gets 429 even with a right token. Audit log and metrics record the failures."""
    async with web.client() as client:
        statuses = [await attempt(client, web, f"rmo_guess{number}") for number in range(15)]
        assert statuses == [403] * sign_in_guard.MAX_FAILURES + [429] * 5
        assert await attempt(client, web, web.tokens["ann"]) == 429
        assert (await client.get("/api/v1/runs", headers=web.bearer("ann"))).status_code == 429
        metrics = (await client.get("/metrics")).text
    assert 'remediator_authentications_total{method="token",result="failed"} 10.0' in metrics
    assert 'result="throttled"' in metrics
    text = await web.audit_text()
    assert text.count('"kind":"access.refused"') == 10 and '"address":"192.0.2.7"' in text


async def test_other_addresses_are_not_locked_out(web: WebService) -> None:
    """After failures of one address, a person at another address can still sign in."""
    async with web.client() as attacker, web.client(client=("198.51.100.1", 1)) as person:
        for number in range(12):
            await attempt(attacker, web, f"rmo_guess{number}")
        assert await attempt(person, web, web.tokens["ann"]) == 303
    assert "session.started" in await web.audit_kinds()


async def test_a_notification_from_a_throttled_address_is_accepted(guarded: WebService) -> None:
    """A notification with a right token is accepted after any failures from its address.

    Alertmanager drops a notification that gets 401 or 429, and may share its address with people behind one proxy.
    """
    async with guarded.client() as client:
        for number in range(sign_in_guard.MAX_FAILURES + 2):
            await attempt(client, guarded, f"rmo_guess{number}")
            assert (await client.post("/api/v1/alerts", content=NOTIFICATION, headers=WRONG)).status_code == 401
        assert await attempt(client, guarded, guarded.tokens["ann"]) == 429
        answer = await client.post("/api/v1/alerts", content=NOTIFICATION, headers=RIGHT)
        assert answer.status_code == 200, answer.text


async def test_wrong_webhook_tokens_do_not_lock_people_out(guarded: WebService) -> None:
    """A wrong webhook token does not count as a guess at the token of a person."""
    async with guarded.client() as client:
        for _ in range(sign_in_guard.MAX_FAILURES + 2):
            assert (await client.post("/api/v1/alerts", content=NOTIFICATION, headers=WRONG)).status_code == 401
        assert await attempt(client, guarded, guarded.tokens["ann"]) == 303


async def test_wrong_bearer_tokens_and_tokens_of_forms_count(web: WebService) -> None:
    """Every place that accepts an operator token is throttled."""
    asked = await web.request_approval()
    async with web.client() as client:
        for _ in range(5):
            wrong = await client.get("/api/v1/runs", headers={"Authorization": "Bearer rmo_x"})
            assert wrong.status_code == 401 and "no person has this operator token" in wrong.text
            await submit_decision(client, web.link(asked), "approve", token="rmo_x")
        answer = await submit_decision(client, web.link(asked), "approve", token=web.tokens["ann"])
    assert (answer.status_code, (await web.state(asked)).status) == (429, "pending")


async def test_a_flood_of_failures_does_not_fill_the_audit_log(web: WebService) -> None:
    """With failures from many addresses, the records are limited, and the next one states how many were left out."""
    for number in range(40):
        async with web.client(client=(f"198.51.100.{number}", 1)) as client:
            await client.get("/api/v1/runs", headers={"Authorization": "Bearer rmo_x"})
    assert (await web.audit_text()).count('"kind":"access.refused"') == sign_in_guard.MAX_RECORDS


def test_the_shipped_alert_rules_fire() -> None:
    """The rules about failed authentications and refused connections pass their tests."""
    argv = [require("promtool"), "test", "rules", "remediator_test.yml"]
    done = subprocess.run(argv, cwd=ROOT / "alerting", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_all_addresses_of_an_ipv6_network_count_as_one(web: WebService) -> None:
    """All addresses of an IPv6 /64 count as one client, because one host can have all of them."""
    for number in range(sign_in_guard.MAX_FAILURES):
        async with web.client(client=(f"2001:db8::{number + 1:x}", 1)) as client:
            assert await attempt(client, web, "rmo_guess") == 403
    async with web.client(client=("2001:db8::ffff", 1)) as client:
        assert await attempt(client, web, "rmo_guess") == 429
    async with web.client(client=("2001:db8:0:1::1", 1)) as client:
        assert await attempt(client, web, web.tokens["ann"]) == 303


PROXY = {"proxy": {"addresses": ["192.0.2.7"], "header": "", "address_header": "X-Forwarded-For"}}


async def test_a_client_behind_the_proxy_does_not_lock_out_the_others(tmp_path: Path) -> None:
    """Behind a proxy, the address that the proxy appended counts, and the audit log has it."""
    async with web_service(tmp_path, access=PROXY) as web, web.client() as client:
        attacker, person = {"X-Forwarded-For": "198.51.100.9"}, {"X-Forwarded-For": "203.0.113.5, 198.51.100.7"}
        for _ in range(sign_in_guard.MAX_FAILURES + 1):
            last = await client.get("/api/v1/runs", headers={"Authorization": "Bearer rmo_x", **attacker})
        assert last.status_code == 429
        assert (await client.get("/api/v1/runs", headers={**web.bearer("ann"), **person})).status_code == 200
        assert '"address":"198.51.100.9"' in await web.audit_text()


@pytest.mark.parametrize("spoofed", ["198.51.100.{}, 203.0.113.5", "not an address {}", ""])
async def test_a_client_cannot_choose_its_address(tmp_path: Path, spoofed: str) -> None:
    """Only the last address from the proxy counts. Headers of a client or a direct connection do not."""
    async with web_service(tmp_path, access=PROXY) as web:
        for peer in ("192.0.2.7", "198.51.100.200"):
            async with web.client(client=(peer, 1)) as client:
                statuses = []
                for number in range(sign_in_guard.MAX_FAILURES + 1):
                    headers = {"Authorization": "Bearer rmo_x", "X-Forwarded-For": spoofed.format(number)}
                    statuses.append((await client.get("/api/v1/runs", headers=headers)).status_code)
            assert statuses[-1] == 429, peer


async def test_an_empty_header_of_the_proxy_identifies_no_person(tmp_path: Path) -> None:
    """A proxy that the settings trust only for addresses cannot sign people in."""
    async with web_service(tmp_path, access={**PROXY, "anonymous_role": "none"}) as web, web.client() as client:
        for name in ("X-Forwarded-User", ""):
            answer = await client.get("/api/v1/runs", headers={name: "ann"} if name else {})
            assert answer.status_code == 401
