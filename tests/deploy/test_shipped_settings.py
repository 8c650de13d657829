"""All shipped files pass lint without a warning, with the settings of each deployment."""

from __future__ import annotations

import pytest

from tests.support import commands

SETTINGS = (
    "deploy/compose/remediator.yaml",
    "deploy/compose/remediator.prod.yaml",
    "deploy/kubernetes/remediator/remediator.yaml",
)


@pytest.mark.parametrize("settings", SETTINGS)
def test_lint_finds_nothing(settings: str) -> None:
    """Lint finds nothing in playbooks, their tests, alert rules, inventory and settings."""
    done = commands.remediator("lint", "playbooks", "--config", settings, "--alerting", "alerting")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" not in done.stdout and "warning" not in done.stdout, done.stdout
    assert "not checked" not in done.stdout, done.stdout
