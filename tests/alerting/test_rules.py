"""The alert rules and the routing of Alertmanager, checked by promtool and amtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.runtime.metrics import Metrics
from tests.support.servers import require
from tests.support.servers.remediator import ROOT

RULES = ROOT / "alerting/rules.yml"
OWN_RULES = ROOT / "alerting/remediator.yml"
"""The file with alerts about remediator itself."""


def rules() -> list[dict[str, Any]]:
    """Return all rules."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def run(*argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a tool, and return its output."""
    return subprocess.run([require(argv[0]), *argv[1:]], cwd=cwd, capture_output=True, text=True, check=False)


def test_prometheus_accepts_the_rules() -> None:
    """``promtool check rules`` has no finding."""
    checked = run("promtool", "check", "rules", "--lint-fatal", str(RULES))

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_rule_fires_when_it_should_and_only_then() -> None:
    """The promtool tests have a case that fires, a case that does not fire, and the boundary of each rule."""
    tested = run("promtool", "test", "rules", "rules_test.yml", cwd=RULES.parent)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_rule_is_tested() -> None:
    """Each rule has a unit test that expects it to fire, and a unit test that expects it not to fire.

    The Watchdog always fires.
    """
    tests = yaml.safe_load((RULES.parent / "rules_test.yml").read_text())["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]

    assert {rule["alert"] for rule in rules()} == {name for name, fires in cases if fires}
    assert {rule["alert"] for rule in rules()} - {"Watchdog"} == {name for name, fires in cases if not fires}


def test_the_rules_about_remediator_itself_work() -> None:
    """promtool accepts the rules, each rule fires in a unit test, and their metrics exist."""
    checked = run("promtool", "check", "rules", "--lint-fatal", str(OWN_RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = run("promtool", "test", "rules", "remediator_test.yml", cwd=RULES.parent)
    assert tested.returncode == 0, tested.stdout + tested.stderr

    own = [rule for group in yaml.safe_load(OWN_RULES.read_text())["groups"] for rule in group["rules"]]
    tests = yaml.safe_load((RULES.parent / "remediator_test.yml").read_text())["tests"]
    fires = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert {rule["alert"] for rule in own} == fires
    families = list(Metrics().registry.collect())  # a metric with labels has no sample before its first event
    known = {sample.name for family in families for sample in family.samples}
    known |= {f"{family.name}_total" for family in families if family.type == "counter"}
    known |= {family.name for family in families if family.type == "gauge"}
    used = {name for rule in own for name in re.findall(r"remediator_\w+", rule["expr"])}
    assert used - known == set()


def test_no_playbook_is_for_an_alert_about_remediator_itself() -> None:
    """The remedy would run in the process that has the fault."""
    for path in (*(ROOT / "playbooks").glob("*.yaml"), *(ROOT / "cookbook").rglob("*.yaml")):
        names = yaml.safe_load(path.read_text()).get("match", {}).get("alertname", [])
        assert not [name for name in [names, *list(names)] if str(name).startswith("Remediator")], path.name
    assert "Never send them to remediator" in OWN_RULES.read_text()


def test_playbooks_are_for_alerts_that_exist() -> None:
    """Each alert for which a shipped playbook waits has a rule."""
    known = {rule["alert"] for rule in rules()}
    for path in (ROOT / "playbooks").glob("*.yaml"):
        wanted = yaml.safe_load(path.read_text()).get("match", {}).get("alertname", [])

        assert ({wanted} if isinstance(wanted, str) else set(wanted)) <= known, path.name


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_rule_says_what_a_person_needs(rule: dict[str, Any]) -> None:
    """A rule has a severity, a service (or its series has), a summary, a description, and the URL of an existing
    runbook."""
    assert rule["labels"]["severity"] in ("none", "warning", "high", "critical")
    assert "service" in rule["labels"] or rule["alert"] == "TargetDown"
    assert {"summary", "description", "runbook_url"} <= rule["annotations"].keys()
    page, _, heading = rule["annotations"]["runbook_url"].partition("#")
    assert heading in headings(ROOT / page), f"{page} has no heading for #{heading}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a Markdown page, in the form of GitHub."""
    titles = [line.lstrip("#").strip() for line in page.read_text().splitlines() if line.startswith("#")]
    kept = ["".join(c for c in title.lower() if c.isalnum() or c in " -") for title in titles]
    return {title.replace(" ", "-") for title in kept}


def test_alertmanager_accepts_its_settings() -> None:
    """``amtool check-config`` has no finding."""
    checked = run("amtool", "check-config", "alertmanager.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_is_routed_to_the_remediator(rule: dict[str, Any]) -> None:
    """``amtool config routes test`` routes each alert, also the Watchdog, to the webhook."""
    labels = [f"alertname={rule['alert']}", *(f"{name}={value}" for name, value in rule["labels"].items())]
    checked = run(
        "amtool", "config", "routes", "test", "--config.file=alertmanager.yml", "--verify.receivers=remediator", *labels
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_accepts_its_settings(tmp_path: Path) -> None:
    """``promtool check config`` has no finding, and the jobs have the names in the runbook."""
    checked = run("promtool", "check", "config", "prometheus.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr
    jobs = yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]
    assert {"fastapi-app", "redis-exporter"} <= {job["job_name"] for job in jobs}
    # TargetDown has the label service from its target
    assert all(static["labels"]["service"] for job in jobs for static in job["static_configs"])
