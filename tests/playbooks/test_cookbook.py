"""Every playbook of the cookbook, with its alert, its inventory, its actions, and effects that must not happen."""

from __future__ import annotations

import subprocess
from datetime import date
from pathlib import Path

import pytest
import yaml

from remediator.authoring.lint.runner import Sources, lint
from remediator.authoring.testing.runner import run
from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_config
from tests.support.cookbook import COOKBOOK, PAGE, cookbook_page
from tests.support.servers import require

RECIPES = sorted(path.name for path in COOKBOOK.iterdir() if path.is_dir())
TODAY = date(2026, 11, 28)


def test_all_recipes_are_complete() -> None:
    """Each recipe has a playbook, a test, an inventory, settings, an alert rule, and the Jobs of its inventory."""
    assert len(RECIPES) >= 21
    for name in RECIPES:
        files = {str(path.relative_to(COOKBOOK / name)) for path in (COOKBOOK / name).rglob("*") if path.is_file()}
        expected = {"inventory.yaml", "remediator.yaml", "alerting/rules.yml"}
        inventory = yaml.safe_load((COOKBOOK / name / "inventory.yaml").read_text())
        jobs = [job for service in inventory["services"].values() for job in service.get("jobs", {}).values()]
        expected |= {job["manifest"] for job in jobs}
        assert files == {*expected, f"playbooks/{name}.yaml", f"playbooks/{name}.test.yaml"}


@pytest.mark.parametrize("name", RECIPES)
def test_lint_finds_nothing(name: str) -> None:
    """Lint has no finding, not even an informational one, except for programs that exist only on the target machine."""
    folder = COOKBOOK / name
    registry = Registry.for_settings(load_config(folder / "remediator.yaml", Config))
    sources = Sources(
        [folder / "playbooks"], folder / "inventory.yaml", folder / "remediator.yaml", [folder / "alerting"]
    )
    found = lint(sources, registry.catalogue(), Config, TODAY).diagnostics
    assert [str(item) for item in found if item.rule != "missing-program"] == []


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_its_tests_pass_on_every_branch(name: str) -> None:
    """The tests pass, and at least one of them names effects that must not happen."""
    folder = COOKBOOK / name
    registry = Registry.for_settings(load_config(folder / "remediator.yaml", Config))
    report = run(folder / f"playbooks/{name}.test.yaml", registry)
    assert [str(item) for item in report.errors] == []
    assert [f"{test.name}: {item}" for test in report.tests for item in test.diagnostics] == []
    assert report.untaken == []
    assert any(test.name.startswith("must not") for test in report.tests)


@pytest.mark.process
@pytest.mark.parametrize("name", RECIPES)
def test_prometheus_accepts_its_rule(name: str) -> None:
    """The playbook matches the alert of its rule, and is in mode ``shadow`` until a person raises it."""
    rules = COOKBOOK / name / "alerting/rules.yml"
    checked = subprocess.run([require("promtool"), "check", "rules", str(rules)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    alert = yaml.safe_load(rules.read_text())["groups"][0]["rules"][0]["alert"]
    playbook = yaml.safe_load((COOKBOOK / name / f"playbooks/{name}.yaml").read_text())
    assert (playbook["match"]["alertname"], playbook["mode"]) == (alert, "shadow")


def test_the_page_is_current() -> None:
    """The page matches the recipes. To regenerate it: python -m tests.support.cookbook"""
    assert PAGE.read_text(encoding="utf-8") == cookbook_page()


def test_no_path_is_missing_from_the_page() -> None:
    """Every recipe has a section."""
    page = cookbook_page()
    assert all(f"## {name}\n" in page for name in RECIPES)
    assert Path(PAGE).name == "cookbook.md"
