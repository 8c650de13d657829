"""Cookies and sessions: their attributes, their origin, and the record of a denied request."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest

from remediator.core.identity import hash_token
from remediator.web.site import HERE
from tests.security.test_removed_authority import sign_in, who
from tests.support.web_service import WebService, nonce_of, submit_decision, web_service

pytestmark = pytest.mark.promise(6)
CLOSED: dict[str, Any] = {"anonymous_role": "none"}


def cookies_of(*answers: httpx.Response) -> SimpleCookie:
    """Return the cookies that these answers set, with their attributes."""
    found = SimpleCookie()
    for answer in answers:
        for line in answer.headers.get_list("set-cookie"):
            found.load(line)
    return found


@pytest.mark.parametrize("https", [True, False])
async def test_every_cookie_is_for_this_site_only_and_not_for_scripts(tmp_path: Path, https: bool) -> None:
    """The cookies of session, browser and draft are HttpOnly and SameSite. With HTTPS, they are bound to this host."""
    url = "https://remediator.test" if https else "http://remediator.test"
    async with web_service(tmp_path, access=CLOSED, public_url=url) as web, web.client() as client:
        client.base_url = httpx.URL(url)
        asked = await web.request_approval()
        page = await client.get("/sign-in")
        form = {"nonce": nonce_of(page.text), "token": web.tokens["ann"], "next": "/"}
        done = await client.post("/sign-in", data=form)
        link = await client.get(web.link(asked).removeprefix(url))
        draft = {"nonce": nonce_of(link.text), "verb": "sign_in", "reason": "typed before the sign-in"}
        kept = await client.post(web.link(asked).removeprefix(url), data=draft)
    cookies = cookies_of(page, done, kept)
    assert {name.removeprefix("__Host-") for name in cookies} == {
        "remediator_browser",
        "remediator_session",
        "remediator_draft",
    }
    for name, cookie in cookies.items():
        assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (True, "lax", "/", ""), (
            name
        )
        assert bool(cookie["secure"]) is https and name.startswith("__Host-") is https, name


async def test_a_session_comes_from_the_service_only(tmp_path: Path) -> None:
    """Each sign-in creates a new value, a planted value is not adopted, and no URL carries a session."""
    async with web_service(tmp_path, access=CLOSED) as web, web.client() as client:
        client.cookies.set("remediator_session", "planted" * 6, domain="remediator.test")
        await sign_in(client, web.tokens["ann"])
        first = client.cookies["remediator_session"]
        assert "planted" not in first and len(first) >= 43
        client.cookies.clear()
        await sign_in(client, web.tokens["ann"])
        second = client.cookies["remediator_session"]
        assert second != first and await who(client) == 200
        async with web.client() as other:
            for path in (f"/api/v1/runs?remediator_session={second}", f"/api/v1/runs?token={web.tokens['ann']}"):
                assert (await other.get(path)).status_code == 401
            assert await who(other, Authorization=f"Bearer {second}") == 401
        rows = await web.context.store.read(lambda c: str(list(c.exec_driver_sql("SELECT * FROM sessions"))))
        assert second not in rows and hash_token(web.tokens["ann"]) in rows


async def test_a_denied_request_is_in_the_audit_log_and_the_metrics(tmp_path: Path) -> None:
    """A request without the role is recorded for page, form and API. Many of them do not fill the log."""
    async with web_service(tmp_path) as web, web.client() as client, web.client() as browser:
        asked = await web.request_approval()
        viewer = web.bearer("victor")
        decided = await client.post(f"/api/v1/approvals/{asked.id}/approve", json={}, headers=viewer)
        assert decided.status_code == 403
        denied = await submit_decision(client, web.link(asked), "approve", token=web.tokens["victor"])
        assert denied.status_code == 403
        await sign_in(browser, web.tokens["victor"])
        page = await browser.get("/")
        stopped = await browser.post("/stop", data={"nonce": nonce_of(page.text), "reason": "x", "confirmed": "yes"})
        assert stopped.status_code in (403, 422)
        for _ in range(60):
            await client.post(f"/api/v1/approvals/{asked.id}/approve", json={}, headers=viewer)
        metrics = (await client.get("/metrics")).text
        text = await web.audit_text()
    assert 'remediator_authentications_total{method="token",result="denied"}' in metrics
    assert "needs the role 'approver'" in text and f"/api/v1/approvals/{asked.id}/approve" in text
    assert 2 <= text.count('"kind":"access.refused"') <= 20


async def test_no_answer_names_its_server(web: WebService) -> None:
    """No header has the product or the version."""
    async with web.client() as client:
        for path in ("/", "/livez", "/metrics", "/static/icon.svg", "/api/v1/runs", "/nothing"):
            headers = (await client.get(path)).headers
            assert not {"server", "x-powered-by", "via"} & set(headers), path
            assert not re.search(r"uvicorn|starlette|remediator/", str(headers.raw)), path


def test_the_pages_store_one_preference_and_no_data_in_the_browser() -> None:
    """Pages store only whether keyboard shortcuts are on. All other data is in cookies of the service."""
    code = "".join(path.read_text() for path in (HERE / "static").glob("*.js"))
    assert set(re.findall(r"(?:local|session)Storage\.\w+\(\"(\w+)\"", code)) == {"shortcuts"}
    assert not re.search(r"indexedDB|document\.cookie|caches\.", code)
