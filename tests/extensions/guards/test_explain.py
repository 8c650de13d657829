"""``explain`` and ``report promotion``: the next action, what blocks it, and the evidence for a higher mode."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from remediator.authoring.explain import read_alert
from remediator.core.alert import fingerprint
from remediator.core.plan import Plan
from remediator.errors import InputError
from remediator.reporting.period import promotion
from remediator.storage.schema import approvals
from tests.support import commands
from tests.support.guard_history import HOUR, MINUTE, NOON, Harness, alert, row
from tests.support.servers import DEADLINE, until
from tests.support.servers.remediator import Stack


def explain(stack: Stack, labels: dict[str, Any], folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    path = folder / "alert.json"
    path.write_text(json.dumps(labels))
    return commands.remediator("explain", "--alert", str(path), "--config", str(stack.remediator.config), *more)


def test_explain_shows_every_stage_and_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    """The output has the match, the plan with exact calls, all verdicts and the next step. No run is created."""
    labels = {"alertname": "RedisDown", "instance": "redis:6379"}
    calm = explain(stack, {"labels": labels}, tmp_path)

    assert "next     do nothing: still_firing blocked: not firing on 1 of 1 peers" in calm.stdout, calm.stderr

    fired = explain(stack, {"alertname": "Nothing"}, tmp_path)
    assert (fired.returncode, "no playbook matches this alert" in fired.stdout) == (1, True)

    shown = explain(stack, labels, tmp_path, "--format", "json")
    line = json.loads(shown.stdout)[0]["playbooks"][0]
    assert (line["matches"], line["target"], line["mode"]) == (True, "redis", "auto")
    assert "stopProcess('redis')" in line["plan"]["steps"][0]["call"]["text"]
    answers = {item["guard"]: item["answer"] for item in line["guards"]}
    assert len(answers) == 17  # the Watchdog guard is off in these tests
    assert {guard for guard, answer in answers.items() if answer != "allow"} == {"still_firing"}
    assert stack.remediator.runs() == []


def test_an_alert_is_found_by_its_fingerprint(stack: Stack) -> None:
    """The fingerprint is searched in Alertmanager and in the store; if neither answers, the command fails."""
    labels = {"alertname": "RedisDown", "ort": 'Köln, "A"', "instance": "redis:6379", "empty_": "\U0001f525"}
    stack.alertmanager.fire(**labels)
    [fired] = httpx.get(f"{stack.alertmanager.url}/api/v2/alerts", timeout=DEADLINE).json()
    assert fingerprint(fired["labels"]) == fired["fingerprint"]
    mine = ("explain", "--config", str(stack.remediator.config), "--alert")

    def explained(wanted: str) -> subprocess.CompletedProcess[str]:
        return commands.remediator(*mine, wanted)

    until(lambda: stack.remediator.runs(), "it is on record")
    assert "match    redis-down, target redis" in explained(fired["fingerprint"]).stdout
    other = {"alertname": "RedisDown", "instance": "elsewhere"}
    stack.alertmanager.stop()
    unheard = explained(fingerprint(other))
    assert unheard.returncode == 2
    assert unheard.stderr.startswith(f"remediator: no firing alert has the fingerprint {fingerprint(other)} (")
    assert "instance=redis:6379" in explained(fired["fingerprint"]).stdout


def test_an_alert_that_only_alertmanager_knows_is_found(stack: Stack) -> None:
    """An alert that is silenced or was never received is found in Alertmanager."""
    stack.remediator.stop()
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    wanted = fingerprint({"alertname": "RedisDown", "instance": "redis:6379"})
    done = commands.remediator("explain", "--config", str(stack.remediator.config), "--alert", wanted)
    assert "match    redis-down, target redis" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"alertname": "A"}', [{"alertname": "A"}]),
        ('{"labels": {"alertname": "A"}}', [{"alertname": "A"}]),
        ('{"alerts": [{"labels": {"a": "1"}}, {"labels": {"a": "2"}}]}', [{"a": "1"}, {"a": "2"}]),
    ],
)
def test_an_alert_is_read_in_three_forms(text: str, expected: list[dict[str, str]]) -> None:
    """The command accepts labels, an alert, or a notification as JSON."""
    assert read_alert(text) == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"labels": {"a": 1}}', '"x"', '{"alerts": ["x"]}'])
def test_an_invalid_alert_is_refused_with_the_expected_form(text: str) -> None:
    """The error names the expected form."""
    with pytest.raises(InputError, match=r"JSON|labels"):
        read_alert(text)


async def approved(harness: Harness, run_id: str, status: str) -> None:
    values = {
        "id": f"approval-{run_id}",
        "run_id": run_id,
        "plan_hash": "0" * 64,
        "plan": Plan("p", "h", "redis", "approve", {}, (), (), 1.0, 30.0, (), "").to_data(),
        "steps": [],
        "asked": "approval_needed",
        "why": "this playbook runs in mode approve",
        "status": status,
        "groups": [],
        "quorum": 1,
        "requested_at": NOON,
        "expires_at": NOON + HOUR,
        "decided_at": NOON + 2 * MINUTE,
    }
    await harness.write(lambda tx: tx.connection.execute(insert(approvals), values))


async def gathered(harness: Harness) -> list[promotion.Evidence]:
    return await harness.store.read(lambda connection: promotion.evidence(connection, NOON - HOUR))


async def test_shadow_decisions_are_compared_with_the_outcome(harness: Harness) -> None:
    """Ten shadow runs would have acted; four of their alerts resolved after three minutes without an action."""
    shadow = row("run", "redis-down", "redis", "blocked", NOON, mode="shadow", reason="shadow")
    for number in range(10):
        await harness.past(shadow | {"id": f"run-{number}", "detail": {"would": "act"}})
    for would in ("ask", "nothing"):
        await harness.past(shadow | {"id": f"run-{would}", "detail": {"would": would}})
    await harness.past(shadow | {"id": "run-over", "reason": "resolved"})  # resolved while a guard blocked it
    held = row("run-held", "redis-down", "redis", "blocked", NOON, mode="shadow", reason="guard_blocked")
    await harness.past(held | {"blocked_by": "freeze"})
    for number in range(4):
        over = alert(number, "resolved")
        await harness.fires(
            type(over)(
                **{**{n: getattr(over, n) for n in over.__dataclass_fields__}, "resolved_at": NOON + 3 * MINUTE}
            ),
            run=f"run-{number}",
        )

    found = (await gathered(harness))[0]

    assert (found.shadow, found.would_act, found.resolved, found.resolved_after) == (14, 10, 4, 180.0)
    assert found.text == [
        "redis-down",
        "  shadow     14 runs, 10 would have acted; 4 of those alerts were resolved without the service (median 3m)",
        "  actions    0 runs acted: 0 healed, 0 did not",
        "  blocked    1 by freeze",
        "  advice     consider approve: it would have acted 10 times; approvers can then confirm its decisions",
    ]


@pytest.mark.parametrize(
    ("yes", "no", "advice"),
    [
        (12, 0, "consider auto: all 12 requests were approved and all 12 runs healed"),
        (12, 1, "keep the mode: 1 rejected, 0 not healed; review those runs first"),
        (3, 0, "keep the mode: too few decisions (3 of at least 10)"),
    ],
)
async def test_approvals_without_a_rejection_suggest_auto(harness: Harness, yes: int, no: int, advice: str) -> None:
    """Approved requests of healed runs count for ``auto``; a single rejection keeps the mode."""
    for number in range(yes):
        await harness.acted(f"run-{number}", NOON)
        await approved(harness, f"run-{number}", "approved")
    for number in range(no):
        await harness.past(row(f"run-no-{number}", "redis-down", "redis", "cancelled", NOON))
        await approved(harness, f"run-no-{number}", "rejected")

    found = (await gathered(harness))[0]

    assert (found.approved, found.rejected, found.advice) == (yes, no, advice)
    assert found.decided_after == 120.0
