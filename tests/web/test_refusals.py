"""A refused notification leaves a log line, an audit entry and a count, at a limited rate."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from remediator.core.alert import ALERTMANAGER
from remediator.errors import PayloadError
from remediator.pipeline.receive import Credentials
from remediator.storage.schema import audit
from remediator.web.refusals import INTERVAL, MAX_RECORDS, Refusals
from tests.support.web_service import WebService

REFUSED = {
    "not JSON": (b"{", {"Authorization": "Bearer secret"}, 400),
    "no token": (b"{}", {}, 401),
    "too long": (b" " * 2_000, {"Authorization": "Bearer secret"}, 413),
}


async def entries(web: WebService) -> list[dict[str, Any]]:
    """Return the audit entries about refused notifications."""
    query = select(audit.c.canonical).where(audit.c.kind == "notification.refused").order_by(audit.c.seq)
    found = await web.context.store.read(lambda connection: connection.execute(query).scalars().all())
    return [json.loads(text) for text in found]


@pytest.mark.parametrize("body, headers, status", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_is_logged_audited_and_counted(
    web: WebService, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Two equal refusals give two answers and a count of two, but one log line and one audit entry."""
    config = web.service.config
    limited = config.model_copy(update={"webhook": config.webhook.model_copy(update={"max_body": 1_000})})
    credentials = {ALERTMANAGER: Credentials({"test": b"secret"})}
    web.service.access.rules = replace(web.service.access.rules, credentials=credentials)
    web.service = replace(web.service, config=limited)
    with structlog.testing.capture_logs() as logged:
        async with web.client() as client:
            answers = [await client.post("/api/v1/alerts", content=body, headers=headers) for _ in range(2)]
            metrics = (await client.get("/metrics", headers=web.bearer("ann"))).text

    assert [answer.status_code for answer in answers] == [status, status]
    [line] = [item for item in logged if item["event"] == "notification refused"]
    assert (line["sender"], line["status"], line["log_level"]) == ("192.0.2.7", status, "warning")
    [entry] = await entries(web)
    assert (entry["data"]["sender"], entry["data"]["status"]) == ("192.0.2.7", status)
    assert entry["data"]["message"] == answers[0].json()["error"]
    assert f'remediator_notifications_total{{code="{status}",result="rejected",source="alertmanager"}} 2.0' in metrics


async def test_the_rate_is_limited_for_each_sender_and_for_all(web: WebService) -> None:
    """The number of records is limited, and the next record states how many were left out."""
    seconds = 0.0
    refusals = Refusals(web.context.store, "test", lambda: seconds)
    error = PayloadError("malformed JSON")
    for _ in range(3):
        await refusals.record("192.0.2.1", error)
    assert len(await entries(web)) == 1

    seconds = INTERVAL
    await refusals.record("192.0.2.1", error)
    assert [item["data"]["unrecorded"] for item in await entries(web)] == [0, 2]

    for number in range(2 * MAX_RECORDS):
        await refusals.record(f"198.51.100.{number}", error)
    assert len(await entries(web)) == 1 + MAX_RECORDS
