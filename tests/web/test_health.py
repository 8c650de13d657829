"""The endpoints for probes distinguish between ready, degraded and alive."""

from __future__ import annotations

import pytest

from remediator.runtime.health import STALL
from remediator.storage.repositories import inbox
from tests.support.web_service import WebService

pytestmark = pytest.mark.promise(14)
TOKEN = "a token for the webhook"
BODY = {"version": "4", "receiver": "remediator", "alerts": []}


async def statuses(web: WebService) -> dict[str, int]:
    """Return the status of each probe."""
    async with web.client() as client:
        return {path: (await client.get(path)).status_code for path in ("/livez", "/readyz", "/healthz")}


async def test_a_service_that_works_is_alive_ready_and_healthy(web: WebService) -> None:
    """All three endpoints for probes answer 200."""
    assert await statuses(web) == {"/livez": 200, "/readyz": 200, "/healthz": 200}


async def test_the_probe_leaves_nothing_in_the_inbox(web: WebService) -> None:
    """The endpoints for probes add no notification to the inbox."""
    await statuses(web)
    assert await web.context.store.read(inbox.count_pending) == 0


async def test_a_degraded_service_stays_ready(web: WebService) -> None:
    """A service with a failed chat is degraded but ready, so a load balancer keeps the replica."""
    web.service.health.lost("channel ops", "connection refused by https://hooks.example.com/secret")
    assert await statuses(web) == {"/livez": 200, "/readyz": 200, "/healthz": 503}
    async with web.client() as client:
        answer = await client.get("/healthz")
        metrics = (await client.get("/metrics")).text
    assert answer.json() == {"healthy": False, "degraded": ["channel ops"]}, "nobody signed in: names, no details"
    assert 'remediator_degraded{component="channel ops"} 1.0' in metrics
    assert 'remediator_observer_losses_total{observer="channel ops"} 1.0' in metrics
    assert "remediator_intake_ready 1.0" in metrics


async def test_a_service_with_a_blocked_inbox_is_not_ready(web: WebService) -> None:
    """If the oldest notification is not processed in time, the service is alive, not ready, and a metric shows it."""
    now = 0.0
    web.service.health.monotonic = lambda: now
    await web.context.store.accept("webhook", b"{}")
    web.service.health.inbox_is(await web.context.store.read(inbox.oldest_pending))
    assert (await statuses(web))["/readyz"] == 200
    now += STALL + 1
    assert await statuses(web) == {"/livez": 200, "/readyz": 503, "/healthz": 503}
    async with web.client() as client:
        metrics = (await client.get("/metrics")).text
    assert "remediator_intake_ready 0.0" in metrics


async def test_an_inbox_without_progress_refuses_notifications(web: WebService) -> None:
    """If the inbox does not move, notifications get 503, because Alertmanager repeats only those."""
    now = 0.0
    web.service.health.monotonic = lambda: now
    web.service.health.inbox_is((1, 0))
    async with web.client() as client:
        accepted = await client.post("/api/v1/alerts", json=BODY)
        now += STALL + 1
        refused = await client.post("/api/v1/alerts", json=BODY)
        web.service.health.inbox_is(None)
        again = await client.post("/api/v1/alerts", json=BODY)
    assert (accepted.status_code, refused.status_code, again.status_code) == (200, 503, 200)


async def test_the_console_says_what_is_degraded(web: WebService) -> None:
    """The overview page shows each loss with its number and error."""
    web.service.health.lost("log", "No space left on device")
    async with web.client() as client:
        page = (await client.get("/")).text
    assert "This replica is degraded" in page
    assert "log: 1 lost since the start: No space left on device" in page
