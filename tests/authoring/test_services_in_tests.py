"""A playbook test can describe its services: the workload of the alerts, and the Jobs of the inventory."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.authoring.testing.runner import Report, run
from remediator.extensions.registry import Registry

PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: index-broken
summary: The index is broken; build it again.
match: {alertname: IndexBroken}
mode: auto
target: shop
conclude: [{id: broken, when: "true", cause: The index is broken.}]
steps: [{id: reindex, for: broken, action: job.run, with: {job: reindex}}]
verify: {settle: 1s, within: 1m, checks: [{check: http.ok}]}
"""
TEST = """\
apiVersion: remediator/v1
kind: PlaybookTest
playbook: index-broken
services: {shop: SHOP}
given: {checks: {http.ok: [{answer: fail}, {answer: ok, after: job.run}]}}
tests: [{name: it runs, alerts: [{labels: {alertname: IndexBroken, LABELS}}], expect: {EXPECT}}]
"""
HARMLESS = "{reindex: {manifest: reindex.yaml, destructive: false, interrupts: false}}"
ON_KUBERNETES = "platform: {kind: kubernetes, namespace: shop, deployment: shop}"


def report_of(folder: Path, service: str, labels: str, expect: str) -> Report:
    """Run a test with this service, these labels and this expectation, and return the report."""
    (folder / "index-broken.yaml").write_text(PLAYBOOK)
    path = folder / "index-broken.test.yaml"
    path.write_text(TEST.replace("SHOP", service).replace("LABELS", labels).replace("EXPECT", expect))
    return run(path, Registry())


@pytest.mark.parametrize(
    ("service", "labels", "expect"),
    [
        (f"{{{ON_KUBERNETES}, jobs: {HARMLESS}}}", "namespace: shop, deployment: shop", "outcome: succeeded"),
        (f"{{{ON_KUBERNETES}, jobs: {HARMLESS}}}", "namespace: test", "reason: not_about_target, steps: {}"),
        (f"{{{ON_KUBERNETES}}}", "namespace: shop", "reason: approval_expired, steps: {}"),
        ("{alerts_as: {job: shop}}", "job: other", "reason: not_about_target, steps: {}"),
        ("{alert_label_values: {zone: [eu-*]}}", "service: shop, zone: us-1", "reason: not_about_target, steps: {}"),
        ("{}", "service: shop", "reason: approval_expired, steps: {}"),
    ],
    ids=["harmless", "other namespace", "undeclared", "other labels", "other value", "unknown"],
)
def test_the_services_of_a_test_file_decide_approval_and_target(
    tmp_path: Path, service: str, labels: str, expect: str
) -> None:
    """A Job that is declared harmless needs no approval. An alert about another workload is escalated."""
    report = report_of(tmp_path, service, labels, expect)
    assert [*report.errors, *(item for test in report.tests for item in test.diagnostics)] == []


def test_jobs_without_a_cluster(tmp_path: Path) -> None:
    """The error about jobs without a platform names the place and the correction."""
    (error,) = report_of(tmp_path, f"{{jobs: {HARMLESS}}}", "service: shop", "outcome: succeeded").errors
    assert "index-broken.test.yaml:4:" in str(error)
    assert "jobs need a platform" in str(error)
    assert error.hint == "add platform: {kind: kubernetes, …} beside jobs"
