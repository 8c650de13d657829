"""A mutating step needs an approval if its condition is unknown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediator.authoring.testing.runner import run
from remediator.extensions.registry import Registry
from remediator.pipeline.condition_scope import variables
from remediator.playbooks import cel
from remediator.storage.repositories.evidence import EvidenceRecord

PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: kick
match: {alertname: Down}
mode: auto
target: thing
diagnose:
  - {id: ping, check: redis.ping}
  - {id: logs, action: service.logs}
conclude:
  - {id: down, when: "true", cause: It does not run.}
steps:
  - {id: first, for: down, action: service.restart, when: "!evidence.ping.ok", on_failure: next}
  - {id: other, action: redis.bgrewriteaof}
verify: {settle: 1s, within: 5s, checks: [{check: service.running}]}
escalate: {to: [oncall], message: Look at the thing.}
"""
HEAD = """\
apiVersion: remediator/v1
kind: PlaybookTest
playbook: kick
given:
  platform:
    thing: [{state: exited}, {state: running, after: service.restart}, {state: running, after: redis.bgrewriteaof}]
tests:
  - name: case
    alerts: [{labels: {alertname: Down}}]
"""
CASES = {
    "a step with an unknown condition waits for an approval, and no other step runs": """\
    checks: {redis.ping: unknown}
    lasts: 5m
    expect:
      outcome: awaiting_approval
      reason: condition_unknown
      steps: {}
      messages: [{kind: approval, contains: is unknown}]
""",
    "an approval counts for this step": """\
    checks: {redis.ping: unknown}
    people: [{decide: approve}]
    expect: {steps: {first: ok}, outcome: succeeded}
""",
    "a rejection ends the run": """\
    checks: {redis.ping: unknown}
    people: [{decide: reject}]
    expect: {steps: {}, outcome: cancelled}
""",
    "an expired request is no approval": """\
    checks: {redis.ping: unknown}
    lasts: 25m
    expect: {steps: {}, outcome: escalated, reason: approval_expired}
""",
    "a step whose condition is false is skipped": """\
    checks: {redis.ping: ok}
    expect: {skipped: [first], steps: {other: ok}}
""",
}


@pytest.mark.parametrize("case", CASES)
def test_conditions_decide_about_steps(case: str, tmp_path: Path) -> None:
    """An unknown condition counts neither as true nor as false."""
    (tmp_path / "kick.yaml").write_text(PLAYBOOK)
    (tmp_path / "kick.test.yaml").write_text(HEAD + CASES[case])
    kinds = Registry()
    report = run(tmp_path / "kick.test.yaml", kinds)
    assert [str(item) for item in report.errors] == []
    assert [str(item) for test in report.tests for item in test.diagnostics] == []


WAITS = PLAYBOOK.replace("mode: auto", "mode: approve").replace(
    """\
  - {id: first, for: down, action: service.restart, when: "!evidence.ping.ok", on_failure: next}
  - {id: other, action: redis.bgrewriteaof}
""",
    """\
  - {id: wait, action: redis.wait, with: {states: [loading], within: 2m}, when: evidence.ping.status == "fail"}
  - id: close
    action: redis.client_kill
    with: {idle_over: 5m}
    when: "!evidence.ping.ok && evidence.wait.status == 'fail'"
""",
)
"""A step that only waits, and a mutating step after it, whose condition is known only after the wait."""
WAITING = {
    "no step applies, so nobody is asked to approve nothing": """\
    checks: {redis.ping: ok}
    expect: {outcome: escalated, reason: diagnosed, messages: [{kind: escalation, contains: does not run}]}
""",
    "a wait needs no approval, and what follows it does": """\
    checks: {redis.ping: fail}
    lasts: 5m
    expect:
      outcome: awaiting_approval
      reason: step_needs_approval
      steps: {}
      messages: [{kind: approval, contains: was not due when the plan was approved}]
""",
}


@pytest.mark.promise(13)
def test_shadow_reports_only_the_steps_that_are_due(tmp_path: Path) -> None:
    """A step whose condition does not hold is not part of the shadow decision."""
    (tmp_path / "kick.yaml").write_text(WAITS.replace("mode: approve", "mode: shadow"))
    case = """\
    checks: {redis.ping: ok}
    expect: {outcome: succeeded}
"""
    (tmp_path / "kick.test.yaml").write_text(HEAD + case)
    report = run(tmp_path / "kick.test.yaml", Registry())
    assert [str(item) for item in report.errors] == []
    [unmet] = report.tests[0].diagnostics  # the error says how the run ended
    assert "blocked (mode shadow: would have changed nothing: no step is due)" in str(unmet)


@pytest.mark.promise(6)
@pytest.mark.parametrize("case", WAITING)
def test_people_are_asked_only_about_a_step_that_changes_something(case: str, tmp_path: Path) -> None:
    """If no mutating step is due, there is nothing to approve, and no request is sent."""
    (tmp_path / "kick.yaml").write_text(WAITS)
    (tmp_path / "kick.test.yaml").write_text(HEAD + WAITING[case])
    report = run(tmp_path / "kick.test.yaml", Registry())
    assert [str(item) for item in report.errors] == []
    assert [str(item) for test in report.tests for item in test.diagnostics] == []


@pytest.mark.promise(5)
@pytest.mark.parametrize(
    "condition",
    [
        'evidence.ping.facts.state != "down"',
        'evidence.ping.facts.state == "down"',
        '!(evidence.ping.facts.state == "down")',
        '!(evidence.ping.facts.state in ["down", "silent"])',
        "evidence.ping.facts.clients < 5",
        "!(evidence.ping.facts.clients >= 5)",
        "evidence.ping.facts.clients + 1 > 0",
        "evidence.ping.facts.clients * 0 == 0",
        "evidence.ping.facts.recent != true",
        "!evidence.ping.facts.recent",
        "evidence.ping.facts.disk.free != 0",
        'evidence.ping.facts.state != "down" || evidence.ping.facts.clients != 5',
        'steps.first.output.count != 3 || evidence.ping.facts.state != "down"',
        "!evidence.gone.ok",
        'evidence.gone.status != "ok"',
    ],
)
def test_a_missing_value_satisfies_no_condition(condition: str) -> None:
    """A missing or null value makes a condition unknown, whatever the operator."""
    facts = {"state": None, "clients": None, "recent": None, "disk": {"free": None}}
    seen = [EvidenceRecord("diagnose", "ping", "fail", "said nothing", facts, datetime(2026, 1, 1, tzinfo=UTC))]
    found = cel.compile(condition).evaluate(variables({}, ("redis", "supervisor"), seen))
    assert isinstance(found, cel.Unknown), found
