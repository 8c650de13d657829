"""A person's word is asked for where a change's own condition cannot tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.authoring.testing.runner import run
from remediator.extensions.registry import Registry

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
  - name: story
    alerts: [{labels: {alertname: Down}}]
"""
STORIES = {
    "a change whose condition cannot be told is asked for, and nothing else is done meanwhile": """\
    checks: {redis.ping: unknown}
    lasts: 5m
    expect:
      outcome: awaiting_approval
      reason: condition_unknown
      steps: {}
      messages: [{kind: approval, contains: is unknown}]
""",
    "a person's yes is for this step": """\
    checks: {redis.ping: unknown}
    people: [{decide: approve}]
    expect: {steps: {first: ok}, outcome: succeeded}
""",
    "a person's no ends it": """\
    checks: {redis.ping: unknown}
    people: [{decide: reject}]
    expect: {steps: {}, outcome: cancelled}
""",
    "nobody's word is not a yes": """\
    checks: {redis.ping: unknown}
    lasts: 25m
    expect: {steps: {}, outcome: escalated, reason: approval_expired}
""",
    "a condition that does not hold skips its step": """\
    checks: {redis.ping: ok}
    expect: {skipped: [first], steps: {other: ok}}
""",
}


@pytest.mark.parametrize("story", STORIES)
def test_what_conditions_come_to(story: str, tmp_path: Path) -> None:
    """Not knowing is neither yes nor no."""
    (tmp_path / "kick.yaml").write_text(PLAYBOOK)
    (tmp_path / "kick.test.yaml").write_text(HEAD + STORIES[story])
    kinds = Registry()
    report = run(tmp_path / "kick.test.yaml", kinds)
    assert [str(item) for item in report.errors] == []
    assert [str(item) for test in report.tests for item in test.diagnostics] == []
