"""Errors outside handlers give browsers a page and programs JSON, never a traceback."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from remediator.storage.repositories import episodes
from remediator.web.application import Application
from tests.support.web_service import BASE, WebService

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/nowhere", 404, "Page not found"),
        ("GET", "/static/nowhere.css", 404, "Page not found"),
        ("POST", "/playbooks", 405, "/playbooks accepts"),
        ("GET", "/stop", 405, "/stop accepts POST, not GET."),
        ("GET", "/<script>alert(1)</script>", 404, "&lt;script&gt;"),
    ],
)
async def test_a_browser_gets_a_page(web: WebService, method: str, path: str, status: int, told: str) -> None:
    """Browsers get an error page with the usual security policy."""
    async with web.client() as client:
        answer = await client.request(method, path, headers=BROWSER)
    assert answer.status_code == status and told in answer.text, answer.text
    assert answer.headers["content-type"].startswith("text/html") and "<script>alert" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (status == 405) == ("allow" in answer.headers)


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/api/v1/nowhere", 404, "There is no page /api/v1/nowhere."),
        ("GET", "/api/v1/alerts", 405, "/api/v1/alerts accepts POST, not GET."),
        ("DELETE", "/api/v1/runs", 405, "not DELETE."),
    ],
)
async def test_a_program_gets_json(web: WebService, method: str, path: str, status: int, told: str) -> None:
    """Programs get JSON with the key `error`, whatever type they accept."""
    for headers in ({}, BROWSER):
        async with web.client() as client:
            answer = await client.request(method, path, headers=headers)
        assert answer.status_code == status
        assert told in answer.json()["error"]


async def test_an_internal_error_shows_no_traceback(web: WebService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page shows no details of the error."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret-of-the-inside")

    monkeypatch.setattr(episodes, "list_open", broken)
    transport = httpx.ASGITransport(Application(web.service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        answer = await client.get("/")
    assert answer.status_code == 500 and "Internal error" in answer.text
    assert "secret-of-the-inside" not in answer.text and "Traceback" not in answer.text
