"""Lint compares playbooks with a running Prometheus: its alerts, their labels, and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from remediator.cli.main import cli
from tests.support.servers import until
from tests.support.servers.prometheus import Prometheus

PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: target-up
summary: A target is up; look at it.
match: {alertname: ALERT, matchers: ['LABEL="x"']}
mode: {default: observe}
target: redis
diagnose: [{id: up, check: promql, with: {query: 'METRIC > 0'}}]
escalate: {to: [sre], message: The target is up.}
"""
RULES = """\
groups:
  - name: own
    rules:
      - {alert: TargetUp, expr: up == 1, labels: {severity: info}}
      - {alert: TeamUp, expr: sum by (team) (up) > 0}
"""
SCRAPE = """
scrape_configs:
  - job_name: self
    static_configs: [{targets: [SELF], labels: {team: shop}}]
"""


@pytest.fixture
def live(make_prometheus: Callable[..., Prometheus]) -> str:
    """Return the URL of a Prometheus that scrapes itself and has two alerts."""
    server = make_prometheus(rules=RULES, configuration=SCRAPE)
    until(lambda: bool(server.query("up == 1")), "it scraped itself")
    return server.url


def lint(folder: Path, url: str, *, alert: str, label: str, metric: str = "up") -> Result:
    """Lint a playbook for this alert and label against a running Prometheus."""
    text = PLAYBOOK.replace("ALERT", alert).replace("LABEL", label).replace("METRIC", metric)
    (folder / "target-up.yaml").write_text(text)
    return CliRunner().invoke(cli, ["lint", str(folder), "--prometheus", url])


def test_alerts_labels_and_metrics_are_those_of_prometheus(live: str, tmp_path: Path) -> None:
    """Names that Prometheus has are not reported. Other names are reported with the closest name."""
    folder = tmp_path / "playbooks"
    folder.mkdir()
    for alert, label in (("TargetUp", "team"), ("TargetUp", "severity"), ("TeamUp", "team")):
        assert "(unknown-" not in lint(folder, live, alert=alert, label=label).output

    out = lint(folder, live, alert="TagetUp", label="team").output
    assert "no rule file defines the alert 'TagetUp'" in out and "did you mean 'TargetUp'?" in out
    out = lint(folder, live, alert="TargetUp", label="taem").output
    assert "label 'taem'" in out and "did you mean 'team'?" in out
    out = lint(folder, live, alert="TargetUp", label="up").output  # a word of the expression, not a label of a series
    assert "label 'up'" in out
    out = lint(folder, live, alert="TeamUp", label="pod").output
    assert "label 'pod'" in out
    out = lint(folder, live, alert="TargetUp", label="team", metric="process_cpu_second_total").output
    assert "has no metric 'process_cpu_second_total'" in out and "process_cpu_seconds_total" in out


def test_a_prometheus_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    """If Prometheus does not answer, nothing was compared, so lint reports an error instead of a clean result."""
    done = lint(tmp_path, "http://127.0.0.1:1", alert="TargetUp", label="team")
    assert done.exit_code != 0 and "nothing was checked" in (done.output + str(done.exception))
    done = lint(tmp_path, "localhost:9090", alert="TargetUp", label="team")
    assert done.exit_code == 2 and "http://127.0.0.1:9090" in done.output
