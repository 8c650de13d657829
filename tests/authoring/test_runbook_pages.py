"""``remediator playbook docs`` writes what the playbooks do, and the pages in the repository are current."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from remediator.authoring import runbook_pages
from remediator.authoring.flowchart import flow
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_playbooks
from remediator.playbooks.model import Playbook
from tests.support import commands
from tests.support.servers.remediator import ROOT

pytestmark = pytest.mark.process

CATALOGUE = Registry().catalogue()
SHIPPED = load_playbooks([ROOT / "playbooks"], CATALOGUE, None).playbooks
TRICKY = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "tricky",
    "summary": 'Holds <b>, | and " where they hurt.',
    "match": {"matchers": ['job=~"a|b"']},
    "target": "app",
    "steps": [
        {"id": "look", "action": "service.status", "on_success": {"goto": "act"}, "when": 'target.name == "<a|b>"'},
        {"id": "skipped", "action": "service.restart", "on_failure": "abort"},
        {"id": "act", "action": "service.restart", "approval": "required"},
    ],
}


def test_the_pages_in_the_repository_are_current() -> None:
    """``docs/playbooks`` has the current page of every playbook, and no other page."""
    made = commands.remediator("playbook", "docs", "playbooks", "--output-dir", "docs/playbooks", "--check")
    assert made.returncode == 0, f"remediator playbook docs --output-dir docs/playbooks; {made.stdout}{made.stderr}"


@pytest.mark.parametrize("playbook", SHIPPED, ids=lambda each: each.name)
def test_the_page_has_every_step_diagnosis_and_check(playbook: Playbook) -> None:
    """Pages in both formats contain every step, diagnosis and check."""
    for _, make in runbook_pages.FORMATS.values():
        page = make(playbook, CATALOGUE)
        for step in playbook.steps:
            assert step.id in page
            assert step.action in page
        for look in playbook.diagnose:
            assert look.id in page
        for call in playbook.verify.checks:
            assert call.check in page


@pytest.mark.parametrize("playbook", [*SHIPPED, Playbook.model_validate(TRICKY)], ids=lambda each: each.name)
def test_the_diagram_is_valid(playbook: Playbook) -> None:
    """Every arrow connects two boxes, every box can be reached, and the SVG is well-formed and needs no other file."""
    made = flow(playbook, CATALOGUE)
    ids = {node.id for node in made.nodes}
    assert all(edge.start in ids and edge.end in ids for edge in made.edges)
    reached, before = {"alert"}, set[str]()
    while reached != before:
        before = set(reached)
        reached |= {edge.end for edge in made.edges if edge.start in reached}
    assert ids - reached <= {"step_skipped"}, "only what lint calls unreachable is not reached"

    page = runbook_pages.html(playbook, CATALOGUE)
    drawing = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert drawing is not None
    ElementTree.fromstring(drawing.group())
    assert not re.search(r'(src|href)="', page)


def test_a_destructive_step_needs_approval_without_saying_so() -> None:
    """The page and the diagram name the approval of a destructive action, though the step does not require it."""
    steps = [{"id": "restore", "action": "redis.restore_backup"}, {"id": "restart", "action": "service.restart"}]
    playbook = Playbook.model_validate(TRICKY | {"mode": "auto", "steps": steps})

    details = {node.id: node.detail for node in flow(playbook, CATALOGUE).nodes}
    rows = [line for line in runbook_pages.markdown(playbook, CATALOGUE).splitlines() if line.startswith("| ")]

    assert details["step_restore"] == "redis.restore_backup, needs approval"
    assert details["step_restart"] == "service.restart"
    assert any("`restore`" in row and "destructive, needs approval" in row for row in rows)
    assert not any("`restart`" in row and "needs approval" in row for row in rows)


def test_special_characters_are_escaped() -> None:
    """Angle brackets are escaped in HTML, and bars in Markdown tables."""
    playbook = Playbook.model_validate(TRICKY)
    assert "<b>," not in runbook_pages.html(playbook, CATALOGUE)
    row = next(line for line in runbook_pages.markdown(playbook, CATALOGUE).splitlines() if "`look`" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 8


def test_a_stale_page_fails_the_check(tmp_path: Path) -> None:
    """``--check`` reports a page that differs and a page without a playbook, and writes nothing."""
    argv = ("playbook", "docs", "playbooks", "--output-dir", str(tmp_path))
    assert commands.remediator(*argv).returncode == 0
    (tmp_path / "redis-down.md").write_text("old")
    (tmp_path / "gone.md").write_text("old")

    made = commands.remediator(*argv, "--check")

    assert made.returncode == 1
    assert "redis-down.md: not current" in made.stdout
    assert "gone.md: no playbook has this name" in made.stdout
    assert (tmp_path / "redis-down.md").read_text() == "old"
