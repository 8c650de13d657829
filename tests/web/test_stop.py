"""Stops from the console and the API, for everything, one service or one playbook, have reason, person and duration.

A stop is active as soon as the request is answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from remediator.core.identity import hash_token, make_token
from remediator.extensions.notifiers.base import Delivery, Message
from remediator.storage.repositories import stops
from remediator.storage.repositories.stops import Stop
from tests.support.servers import DEADLINE
from tests.support.servers.remediator import Stack
from tests.support.web_service import WebService, nonce_of, text_of

OSCAR = make_token()


async def _standing(web: WebService) -> list[Stop]:
    return await web.context.store.read(lambda connection: stops.list_active(connection, web.clock.now()))


async def _press(web: WebService, client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    page = await client.get("/")
    return await client.post("/stop", data={"nonce": nonce_of(page.text), "confirm": "yes", **fields})


@pytest.mark.promise(10)
async def test_the_console_stops_everything_a_service_or_a_playbook(web: WebService) -> None:
    """Page and audit log have the reason, the person and the end of each stop."""
    async with web.client(headers=web.bearer("oscar")) as client:
        chosen = (("global", "", ""), ("service", "redis", "1h"), ("playbook", "redis-disk-full", "15m"))
        for scope, name, duration in chosen:
            answer = await _press(
                web, client, scope=scope, name=name, reason=f"looking at {name}", duration=duration, next="/runs"
            )
            assert answer.status_code == 303 and answer.headers["location"] == "/runs", answer.text
        for path in ("/", "/runs", "/audit", "/nothing-here"):
            page = (await client.get(path, headers={"Accept": "text/html"})).text
            told = text_of(page)
            assert "Stopped: everything" in told and "Stopped: service redis" in told and "Ends at 2026" in told, path
        for stop in await _standing(web):
            released = await client.post(f"/stops/{stop.id}/release", data={"nonce": nonce_of(page)})
            assert released.status_code == 303
    assert await _standing(web) == []
    log = await web.audit_text()
    assert log.count('"kind":"stop.set"') == log.count('"kind":"stop.cleared"') == 3
    assert log.count("looking at") >= 3


async def test_a_stop_needs_a_confirmation_and_loses_nothing_typed(web: WebService) -> None:
    """Without the confirmation nothing is stopped, and the form keeps the input."""
    async with web.client(headers=web.bearer("oscar")) as client:
        refused = await _press(
            web, client, reason="database move", confirm="", scope="service", name="redis", next="/runs"
        )
        assert refused.status_code == 422 and "not confirmed" in text_of(refused.text)
        assert 'href="/runs">Go back to the form' in refused.text
        page = (await client.get("/runs")).text
        assert 'value="database move"' in page and 'value="redis"' in page
        assert (await _press(web, client, reason="database move", scope="service", name="redis")).status_code == 303
        assert 'value="database move"' not in (await client.get("/runs")).text
    assert [(stop.subject, stop.reason) for stop in await _standing(web)] == [("service redis", "database move")]


async def test_stop_and_release_are_sent_to_all_approval_channels(web: WebService) -> None:
    """Every approval channel gets a message about a stop and its release, with reason, person and end."""
    async with web.client(headers=web.bearer("oscar")) as client:
        assert (await _press(web, client, reason="database move", duration="1h")).status_code == 303
        (stop,) = await _standing(web)
        page = (await client.get("/")).text
        await client.post(f"/stops/{stop.id}/release", data={"nonce": nonce_of(page)})
    sent: dict[str, list[str]] = {"chat": [], "mail": []}
    channels = {name: {"kind": "log"} for name in sent}
    post = web.post(channels, *sent)
    for name, notifier in post.channels.items():
        notifier.send = partial(_record, sent[name])  # type: ignore[method-assign]
    for _ in range(4):
        await web.deliver(post)
        web.clock.time += timedelta(minutes=1)  # passes the rate limit of a channel
    for said in sent.values():
        released, stopped = sorted(said)
        assert released == "Stop released by oscar: everything. It was: database move"
        assert stopped == "Stopped by oscar: everything, until 2026-03-04 13:00:00Z: database move"


async def _record(said: list[str], message: Message) -> Delivery:
    said.append(message.title)
    return Delivery({})


@pytest.mark.promise(10)
async def test_a_stop_ends_automatically_only_with_a_duration(web: WebService) -> None:
    """A stop with a duration ends automatically. Another one lasts until a person releases it."""
    headers = web.bearer("ann")
    async with web.client(headers=headers) as client:
        for body in (
            {"reason": "for good"},
            {"reason": "a while", "scope": "service", "name": "app", "duration": "1h"},
        ):
            assert (await client.post("/api/v1/stops", json=body)).status_code == 200
        told = (await client.get("/api/v1/stops")).json()
        assert [(item["what"], item["created_by"], item["expires_at"] is None) for item in told] == [
            ("everything", "ann", True),
            ("service app", "ann", False),
        ]
        web.clock.time += timedelta(days=400)
        assert [item["reason"] for item in (await client.get("/api/v1/stops")).json()] == ["for good"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "  "},
        {"reason": "x", "scope": "playbook", "name": "redis-disk-fool"},
        {"reason": "x", "scope": "service", "name": "redi"},
        {"reason": "x", "scope": "service"},
        {"reason": "x", "scope": "world"},
        {"reason": "x", "name": "redis"},
        {"reason": "x", "duration": "soon"},
        {"reason": "x", "duration": "0s"},
        {"reason": "x", "duration": "9000w"},
    ],
)
async def test_an_invalid_stop_is_rejected(web: WebService, body: dict[str, Any]) -> None:
    """A stop without a reason, or with a wrong name or duration, gives one error, and nothing is recorded."""
    before = await web.head()
    async with web.client(headers=web.bearer("ann")) as client:
        answer = await client.post("/api/v1/stops", json=body)
        unknown = body.get("name") in ("redis-disk-fool", "redi")
        assert answer.status_code == (404 if unknown else 400) and answer.json()["error"]
        if unknown:
            assert "did you mean 'redis" in answer.json()["error"]
        fields = {"scope": body.get("scope", "global"), "name": body.get("name", "")}
        page = await _press(web, client, reason=body.get("reason", ""), duration=body.get("duration", ""), **fields)
        assert page.status_code == 422
    assert await web.head() == before


async def test_roles_for_creating_and_releasing_stops(web: WebService) -> None:
    """Approvers can create stops but not release them. Anonymous callers and viewers can do neither."""
    async with web.client() as client:
        assert (await client.post("/api/v1/stops", json={"reason": "x"})).status_code == 401
        assert (
            await client.post("/api/v1/stops", json={"reason": "x"}, headers=web.bearer("victor"))
        ).status_code == 403
        form = {"nonce": nonce_of((await client.get("/sign-in")).text), "reason": "x"}
        assert (await client.post("/stop", data=form)).headers["location"] == "/sign-in?next=/&ended=1"
    async with web.client(headers=web.bearer("ann")) as client:
        assert (await _press(web, client, reason="x")).status_code == 303
        page = await client.get("/")
        assert "Release this stop" not in page.text
        (stop,) = await _standing(web)
        refused = await client.post(f"/stops/{stop.id}/release", data={"nonce": nonce_of(page.text)})
        assert refused.status_code == 403
    assert len(await _standing(web)) == 1


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stack]:
    """Return a real stack with an operator."""
    made = Stack(tmp_path)
    made.remediator.settings["access"] = {"people": "people.yaml"}
    people = {"oscar": {"roles": ["operator"], "tokens": [hash_token(OSCAR)]}}
    (made.remediator.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": people}))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.promise(10)
@pytest.mark.parametrize(
    "body",
    [
        {"scope": "global"},
        {"scope": "service", "name": "redis"},
        {"scope": "playbook", "name": "redis-down"},
    ],
    ids=["everything", "the service", "the playbook"],
)
def test_a_stop_works_in_a_real_process(running: Stack, body: dict[str, str]) -> None:
    """After the answer, no action starts. After the release, the run continues automatically."""
    headers = {"Authorization": f"Bearer {OSCAR}"}
    with httpx.Client(base_url=running.remediator.url, headers=headers, timeout=DEADLINE) as operator:
        pressed = operator.post("/api/v1/stops", json={**body, "reason": "an operator looks first"})
        assert pressed.status_code == 200, pressed.text
        running.kill_redis()
        running.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
        run = running.remediator.wait_for("blocked")
        assert (run["blocked_by"], run["detail"]["guard_reason"]) == ("kill_switch", "stopped") and not run["steps"]
        assert "stopped by oscar" in json.dumps(run) and running.redis()["statename"] != "RUNNING"

        assert operator.post(f"/api/v1/stops/{pressed.json()['id']}/release").status_code == 200
        assert len(running.remediator.wait_for("succeeded")["steps"]) == 1
    assert running.redis()["statename"] == "RUNNING"
