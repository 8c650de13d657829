"""The undo of a finished run by a person, on a real Redis: declared by the action, guarded, audited, and done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from remediator.core.identity import hash_token, make_token
from tests.runtime.test_scheduled_undo import MEASURE, command, playbook, policy
from tests.runtime.test_scheduled_undo import started as started
from tests.support.servers import until
from tests.support.servers.remediator import Stack

TOKEN = make_token()
PEOPLE = {"kind": "People", "people": {"oscar": {"roles": ["operator"], "tokens": [hash_token(TOKEN)]}}}
MEASURE_ONCE = {name: value for name, value in MEASURE.items() if name != "undo"}


@pytest.fixture
def stack(started: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stack:
    """Start a stack with an operator."""
    monkeypatch.setenv("REMEDIATOR_TOKEN", TOKEN)
    people = tmp_path / "people.yaml"
    people.write_text(yaml.safe_dump(PEOPLE))
    return started(playbook(MEASURE_ONCE), access={"people": str(people), "anonymous_role": "viewer"})


@pytest.mark.promise(3)
def test_start_and_undo_by_hand(stack: Stack) -> None:
    """A person starts a run without an alert, the run changes Redis, and the person undoes it; a second undo is
    refused."""
    assert policy(stack) == "noeviction"
    told = command(stack, "run", "start", "redis-memory", "--service", "redis", "--reason", "memory is full")
    run_id = told.split()[0]
    stack.remediator.wait_for("succeeded")
    assert policy(stack) == "allkeys-lru"

    assert "policy is being undone" in command(stack, "run", "undo", "@latest", "--reason", "wrong policy")
    until(lambda: policy(stack) == "noeviction", "it is undone")
    until(lambda: stack.remediator.audit_has("action.undone"), "it is on record")
    after = stack.remediator.get(f"/api/v1/runs/{run_id}")
    assert [(step["action"], step["outcome"]) for step in after["steps"]] == [("redis.config_set", "ok")] * 2
    assert after["holds_target"] is False and after["undoable"] == []
    assert any("undo by oscar: wrong policy" in event["text"] for event in after["timeline"])
    assert "it was undone before" in command(stack, "run", "undo", run_id, status=2)


@pytest.mark.promise(10)
def test_a_stop_prevents_an_undo_by_hand(stack: Stack) -> None:
    """While a stop is active, the undo is refused and this is recorded; after the release, it can be requested
    again."""
    command(stack, "run", "start", "redis-memory", "--service", "redis")
    run = stack.remediator.wait_for("succeeded")
    stop = command(stack, "stop", "create", "--reason", "we look at it ourselves").split(":")[0]
    command(stack, "run", "undo", run["id"])

    def events() -> str:
        return " ".join(event["text"] for event in stack.remediator.get(f"/api/v1/runs/{run['id']}")["timeline"])

    until(lambda: "undo of step policy not tried" in events(), "it is on record")
    assert policy(stack) == "allkeys-lru"
    command(stack, "stop", "release", stop)
    command(stack, "run", "undo", run["id"])
    until(lambda: policy(stack) == "noeviction", "it is undone")
