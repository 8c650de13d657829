"""Every answer of the API has a schema in the OpenAPI document and agrees with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from remediator.web.api import OPERATIONS
from remediator.web.openapi import describe
from tests.support.web_service import WebService

DOCUMENT = describe([operation for operation, _ in OPERATIONS])


def check(method: str, path: str, answer: Any) -> None:
    """Check an answer against the schema of its operation. Unknown keys are errors too."""
    schema = DOCUMENT["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
    whole = {**_closed(schema), "components": _closed(DOCUMENT["components"])}
    errors = [
        f"{'/'.join(map(str, item.path))}: {item.message}" for item in Draft202012Validator(whole).iter_errors(answer)
    ]
    assert not errors, errors[:5]


def _closed(schema: Any) -> Any:
    """Return a schema whose objects allow only the keys that they name."""
    if isinstance(schema, Mapping):
        made = {key: _closed(value) for key, value in schema.items()}
        return (
            {**made, "additionalProperties": False} if "properties" in made and made.get("type") == "object" else made
        )
    return [_closed(item) for item in schema] if isinstance(schema, list) else schema


def test_every_operation_says_what_it_answers() -> None:
    """Every operation has a schema of its answer."""
    gaps = [f"{item.method} {item.path}" for item, _ in OPERATIONS if item.answer is None and not item.media]
    assert gaps == []


async def test_what_is_read_is_as_described(web: WebService) -> None:
    """All answers of GET agree with their schema, with a waiting run and a stop in the store."""
    asked = await web.request_approval()
    ann = web.bearer("ann")
    names = {"run_id": asked.run_id, "incident_id": asked.run_id, "approval_id": asked.id}
    async with web.client() as client:
        await client.post("/api/v1/stops", json={"reason": "look"}, headers=ann)
        comment = await client.post(f"/api/v1/runs/{asked.run_id}/comments", json={"text": "hm"}, headers=ann)
        check("post", "/api/v1/runs/{run_id}/comments", comment.json())
        for operation, _ in OPERATIONS:
            if operation.method != "GET" or operation.answer is None or operation.path.endswith("/sessions"):
                continue
            answer = await client.get(operation.path.format(**names), headers=ann)
            assert answer.status_code == 200, (operation.path, answer.text)
            check("get", operation.path, answer.json())


async def test_what_is_changed_is_as_described(web: WebService) -> None:
    """The answers of start, dry run, decide, refresh, stop, release, set a mode and cancel agree with their schema."""
    ann, oscar = web.bearer("ann"), web.bearer("oscar")

    async def post(path: str, body: Mapping[str, Any], who: Mapping[str, str], **names: str) -> Any:
        async with web.client() as client:
            answer = await client.post(path.format(**names), json=body, headers=who)
        assert answer.status_code == 200, answer.text
        check("post", path, answer.json())
        return answer.json()

    made = await post("/api/v1/runs", {"playbook": "redis-disk-full", "service": "redis"}, oscar)
    await post("/api/v1/runs", {"playbook": "redis-disk-full", "service": "redis", "dry_run": True}, oscar)
    await post("/api/v1/runs/{run_id}/cancel", {"reason": "no"}, oscar, run_id=made["id"])
    other = await web.request_approval()
    body = {"plan_hash": other.plan_hash}
    await post("/api/v1/approvals/{approval_id}/reject", body, ann, approval_id=other.run_id)
    await post("/api/v1/approvals/{approval_id}/refresh", {}, ann, approval_id=other.id)
    stop = await post("/api/v1/stops", {"reason": "look"}, ann)
    await post("/api/v1/stops/{stop_id}/release", {}, oscar, stop_id=stop["id"])
    mode = {"mode": "shadow", "reason": "we look"}
    await post("/api/v1/playbooks/{name}/mode", mode, oscar, name="redis-disk-full")
    await post("/api/v1/explain", {"labels": {"alertname": "RedisDiskFull"}}, ann)


@pytest.mark.promise(6)
async def test_a_start_needs_the_role_and_valid_names(web: WebService) -> None:
    """An approver cannot start a run. A wrong name gives an error of one line. The episode has the kind manual."""
    async with web.client() as client:
        body = {"playbook": "redis-disk-full", "service": "redis", "reason": "it is full"}
        assert (await client.post("/api/v1/runs", json=body)).status_code == 401
        assert (await client.post("/api/v1/runs", json=body, headers=web.bearer("ann"))).status_code == 403
        wrong = await client.post("/api/v1/runs", json={**body, "playbook": "redis"}, headers=web.bearer("oscar"))
        assert wrong.status_code == 404 and "no active playbook 'redis'" in wrong.json()["error"]
        made = (await client.post("/api/v1/runs", json=body, headers=web.bearer("oscar"))).json()
        shown = (await client.get(f"/api/v1/runs/{made['id'][:12]}")).json()
    assert shown["id"] == made["id"] and [item["kind"] for item in shown["alerts"]] == ["manual"]
    assert any("start by oscar: it is full" in event["text"] for event in shown["timeline"])
