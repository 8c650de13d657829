"""The post-incident document: everything that happened, in order, and safe to paste."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from remediator.authoring.testing.execute import play
from remediator.authoring.testing.model import Case, Suite
from remediator.cli.timeline import command
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_playbooks, read
from remediator.reporting import incident_document
from remediator.reporting.run_timeline import RunTimeline, load_timeline
from remediator.storage.repositories import runs

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
KINDS = Registry()


def story_of(name: str, test: str, **changes: object) -> RunTimeline:
    """What is on record of a playbook's own test."""
    suite = read(ROOT / "playbooks" / f"{name}.test.yaml", Suite)
    known = load_playbooks([ROOT / "playbooks"], Registry().catalogue(), None).playbooks
    playbook = next(item for item in known if item.name == name)
    [case] = [suite.filled(item) for item in suite.tests if item.name == test]
    stories: list[RunTimeline] = []

    def look(connection: object) -> None:
        for run in runs.list_page(connection, 1):  # type: ignore[arg-type]
            stories.append(load_timeline(connection, run.id))  # type: ignore[arg-type]

    play(Case.model_validate({**case.model_dump(by_alias=True), **changes}), suite, playbook, KINDS, look)
    return stories[0]


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("redis-down", "it is restarted once, and proved well"),
        ("redis-down", "somebody approves, and it is healed"),
        ("app-down", "another process has its port"),
    ],
)
def test_the_document_is_what_people_read(name: str, test: str) -> None:
    """Golden: with GOLDEN=write it is written anew, and read by whoever commits it."""
    made = re.sub(
        r"\b[0-9a-f]{12}\b", "HASH", incident_document.markdown(incident_document.document(story_of(name, test)))
    )
    golden = GOLDEN / f"{name}.{test.split(',')[0].replace(' ', '-')}.md"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(made, encoding="utf-8")
    assert made == golden.read_text(encoding="utf-8")


def test_what_an_alert_says_stays_text() -> None:
    """Labels with Markdown or HTML in them are shown as they are, in both forms."""
    nasty = "[x](http://evil) <img src=x onerror=alert(1)> | `a`"
    alerts = [{"labels": {"alertname": "RedisDown", "where": nasty}}]
    story = story_of("redis-down", "it is restarted once, and proved well", alerts=alerts)
    pieces = incident_document.document(story)
    assert r"\[x\](http://evil) \<img src=x onerror=alert(1)\> \| \`a\`" in incident_document.markdown(pieces)
    assert "<img" not in incident_document.html(pieces) and "&lt;img" in incident_document.html(pieces)


def test_the_chart_shows_before_and_after() -> None:
    """What the alert measures, with a mark where a step began and where the run ended; nothing is fetched."""
    story = story_of("redis-down", "it is restarted once, and proved well")
    begun = story.run.created_at
    line = [(begun + timedelta(seconds=second), float(second > 5)) for second in range(-60, 60, 5)]
    made = incident_document.html(
        incident_document.document(story, incident_document.Measured("RedisDown", [line], 0.0))
    )
    assert "<polyline" in made and "restart begins" in made and "the alert&#39;s limit is 0" in made
    assert "<script" not in made and 'src="' not in made and 'href="' not in made


def test_an_unknown_run_is_a_sentence(tmp_path: Path) -> None:
    """No store, no run: what is wrong, not a traceback."""
    result = CliRunner().invoke(command, ["run-none", "--config", str(tmp_path / "remediator.yaml")])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
