"""Incidents in the API and on the console group related runs under one cause."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.browser import Browser, chromium, picture, serving
from tests.support.sample_incident import BETTER, EARLY, INCIDENT, NOTE, end_incident, write_incident
from tests.support.web_service import WebService

NARROW = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


async def test_the_api_lists_and_shows_incidents(web: WebService) -> None:
    """An incident is found by its ID or a run's ID, and a list can have only open ones. An unknown ID gets 404."""
    await write_incident(web)
    async with web.client() as client:
        [listed] = (await client.get("/api/v1/incidents?open=true")).json()
        assert listed["id"] == INCIDENT and len(listed["runs"]) == 2
        assert (await client.get("/api/v1/incidents/run-app")).json() == listed
        assert (await client.get(f"/api/v1/incidents/{INCIDENT}")).json() == listed
        missing = await client.get("/api/v1/incidents/incident-9")
        assert missing.status_code == 404 and "\n" not in missing.json()["error"]
        await end_incident(web)
        assert (await client.get("/api/v1/incidents?open=true")).json() == []
        [ended] = (await client.get("/api/v1/incidents")).json()
        assert ended["over"] is True


@pytest.mark.parametrize("limit", ["0", "-1", "501", "x"])
async def test_a_wrong_limit_is_an_error(web: WebService, limit: str) -> None:
    """The error is one line that names the parameter."""
    async with web.client() as client:
        answer = await client.get(f"/api/v1/incidents?limit={limit}")
        assert answer.status_code == 400 and "limit" in answer.json()["error"]


async def test_the_page_shows_one_cause_and_all_runs(web: WebService) -> None:
    """The page has state, severity, best cause with escaped markup, a link to each run, and the note."""
    await write_incident(web)
    async with web.client() as client:
        text = (await client.get(f"/incidents/{INCIDENT}")).text
        assert (await client.get("/incidents/run-redis")).text.count(INCIDENT) >= 1
        missing = await client.get("/incidents/incident-9")
    assert "The process of Redis has ended" in text and EARLY not in text.split('id="h-runs"')[0]
    assert "<script>alert(1)" not in text
    assert all(part in text for part in (">open<", "Severity: critical", '"/runs/run-app"', '"/runs/run-redis"', NOTE))
    assert missing.status_code == 404 and "There is no incident" in missing.text


async def test_the_page_of_a_run_leads_to_its_incident(web: WebService) -> None:
    """The page of a run links its incident, where a person finds the other alerts."""
    await write_incident(web)
    async with web.client() as client:
        assert f'href="/incidents/{INCIDENT}"' in (await client.get("/runs/run-app")).text


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Return a running Chromium."""
    async with chromium() as made:
        yield made


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_page_fits_a_phone(web: WebService, browser: Browser) -> None:
    """At 390 px, the page does not scroll sideways, runs no script of an alert, and opens each run."""
    await write_incident(web)
    async with serving(web) as address:
        page = await browser.new_page(**NARROW)
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await page.goto(f"{address}/incidents/{INCIDENT}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        assert BETTER in await page.inner_text("main") and not dialogs
        await picture(page, "incident-phone")
        await page.click('a[href="/runs/run-redis"]')
        await page.wait_for_url("**/runs/run-redis")
