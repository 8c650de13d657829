"""A playbook test can set the costs of a step, and lint finds costs that an action does not measure."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from remediator.authoring.testing.runner import run
from remediator.cli.main import cli
from remediator.extensions.registry import Registry

PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: redis-sick
summary: Redis is sick; restart it.
match: {alertname: RedisSick}
mode: auto
target: redis
conclude: [{id: sick, when: "true", cause: Redis is sick.}]
steps:
  - id: restart
    for: sick
    action: service.restart
    tolerance: {unsaved_writes: 100}
    WHEN
verify: {settle: 1s, within: 1m, checks: [{check: redis.ping}]}
escalate: {to: [sre], message: Redis is still sick.}
"""
TEST = """\
apiVersion: remediator/v1
kind: PlaybookTest
playbook: redis-sick
given: {checks: {redis.ping: [{answer: fail}, {answer: ok, after: service.restart}]}}
tests:
  - name: a tolerated loss needs nobody
    alerts: [{labels: {alertname: RedisSick}}]
    costs: {service.restart: {unsaved_writes: 100}}
    expect: {steps: {restart: ok}, outcome: succeeded}
  - name: a greater loss asks, and the request shows it
    alerts: [{labels: {alertname: RedisSick}}]
    costs: {service.restart: {unsaved_writes: 3100}}
    people: [{decide: reject}]
    expect:
      steps: {}
      reason: rejected
      messages: [{kind: approval, contains: "unsaved writes: 3,100, tolerated: 100"}]
  - name: an unknown loss asks
    alerts: [{labels: {alertname: RedisSick}}]
    costs: {service.restart: {unsaved_writes: unknown}}
    expect: {steps: {}, outcome: escalated, reason: approval_expired}
  - name: a person accepts the loss
    alerts: [{labels: {alertname: RedisSick}}]
    costs: {service.restart: {unsaved_writes: 3100}}
    people: [{decide: approve}]
    expect: {steps: {restart: ok}, outcome: succeeded}
  - name: a loss that grows after the approval is asked about again
    alerts: [{labels: {alertname: RedisSick}}]
    costs: {service.restart: [{cost: {unsaved_writes: 3100}}, {cost: {unsaved_writes: 9000}, at: 20s}]}
    people: [{decide: approve}, {decide: reject}]
    expect: {steps: {}, reason: rejected}
"""


@pytest.mark.slow
def test_costs_of_a_test_decide_as_measured_ones_do(tmp_path: Path) -> None:
    """The pipeline decides on a test's costs: tolerated, too high, unknown, accepted, or risen since approval."""
    (tmp_path / "redis-sick.yaml").write_text(PLAYBOOK.replace("    WHEN\n", ""))
    (tmp_path / "redis-sick.test.yaml").write_text(TEST)
    report = run(tmp_path / "redis-sick.test.yaml", Registry())
    assert not report.errors
    assert [str(item) for test in report.tests for item in test.diagnostics] == []


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("cost.unsaved_writes < 100", ""),
        ("cost.unsaved_write < 100", "service.restart does not measure cost.unsaved_write"),
        ("cost.deleted_bytes < 100", "service.restart does not measure cost.deleted_bytes"),
    ],
)
def test_lint_knows_what_an_action_measures(tmp_path: Path, condition: str, said: str) -> None:
    """Lint reports a condition on a cost that the action does not measure, because it never holds."""
    (tmp_path / "redis-sick.yaml").write_text(PLAYBOOK.replace("WHEN", f'when: "{condition}"'))
    done = CliRunner().invoke(cli, ["lint", str(tmp_path)])
    assert (said in done.output) if said else ("unknown-fact" not in done.output), done.output


def test_a_conclusion_cannot_use_a_cost(tmp_path: Path) -> None:
    """A conclusion that uses a cost is an error, because conclusions are drawn before a step is planned."""
    text = PLAYBOOK.replace("    WHEN\n", "").replace('when: "true"', 'when: "cost.clients > 3"')
    (tmp_path / "redis-sick.yaml").write_text(text)
    done = CliRunner().invoke(cli, ["lint", str(tmp_path)])
    assert "cost is known in the conditions of steps only" in done.output


def test_a_misspelt_limit_is_an_error(tmp_path: Path) -> None:
    """The error about an unknown limit lists the existing limits."""
    text = PLAYBOOK.replace("    WHEN\n", "").replace("{unsaved_writes: 100}", "{unsaved_wirtes: 100}")
    (tmp_path / "redis-sick.yaml").write_text(text)
    done = CliRunner().invoke(cli, ["lint", str(tmp_path)])
    assert "unknown key 'unsaved_wirtes'" in done.output
    assert "unsaved_writes" in done.output.partition("unsaved_wirtes'")[2]
