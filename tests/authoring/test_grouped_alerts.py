"""Alerts of a playbook test that begin together arrive in one notification, as a group of Alertmanager does."""

from __future__ import annotations

from pathlib import Path

from remediator.authoring.testing.runner import run
from remediator.extensions.registry import Registry

PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: restart-web
summary: Restart web.
match: {alertname: WebDown}
mode: auto
target: web
steps: [{id: restart, action: service.restart, on_failure: escalate}]
verify: {settle: 1s, within: 1m, checks: [{check: service.running}]}
escalate: {to: [ops], message: Web is not well.}
"""
TEST = """\
apiVersion: remediator/v1
kind: PlaybookTest
playbook: restart-web
given: {checks: {service.running: ok}}
tests:
  - name: most instances alert at once
    alerts:
      - {labels: {alertname: WebDown, instance: 'a:1'}}
      - {labels: {alertname: WebDown, instance: 'b:1'}}
      - {labels: {alertname: WebDown, instance: 'c:1'}}
    platform: {web: [{state: running, instances: 4, healthy: 1}]}
    lasts: 25m
    expect: {guards: {storm: block}, steps: {}, messages: [{to: ops}]}
  - name: one after the other, and each is over before the next one begins
    alerts:
      - {labels: {alertname: WebDown, instance: 'a:1'}, until: 5m}
      - {labels: {alertname: WebDown, instance: 'b:1'}, at: 10m, until: 15m}
      - {labels: {alertname: WebDown, instance: 'c:1'}, at: 20m}
    platform: {web: [{state: running, instances: 4, healthy: 3}]}
    expect: {guards: {storm: allow}, steps: {}}
"""


def test_alerts_that_begin_together_are_seen_together(tmp_path: Path) -> None:
    """The guard `storm` counts all alerts that begin together before it decides about one."""
    (tmp_path / "restart-web.yaml").write_text(PLAYBOOK)
    (tmp_path / "restart-web.test.yaml").write_text(TEST)
    report = run(tmp_path / "restart-web.test.yaml", Registry())
    assert not report.errors
    assert [str(item) for test in report.tests for item in test.diagnostics] == []
