"""The post-incident document: all events in order, and safe to paste."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from remediator.authoring.testing.execute import execute
from remediator.authoring.testing.model import Case, Suite
from remediator.cli.run import timeline as command
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_playbooks, read
from remediator.reporting import document, incident_document
from remediator.reporting.run_timeline import RunTimeline, load_timeline
from remediator.storage.repositories import runs

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
KINDS = Registry()


def timeline_of(name: str, test: str, **changes: object) -> RunTimeline:
    """Return the timeline of a run of a playbook test."""
    suite = read(ROOT / "playbooks" / f"{name}.test.yaml", Suite)
    known = load_playbooks([ROOT / "playbooks"], Registry().catalogue(), None).playbooks
    playbook = next(item for item in known if item.name == name)
    [case] = [suite.merged(item) for item in suite.tests if item.name == test]
    timelines: list[RunTimeline] = []

    def look(connection: object) -> None:
        for run in runs.list_page(connection, 1):  # type: ignore[arg-type]
            timelines.append(load_timeline(connection, run.id))  # type: ignore[arg-type]

    execute(Case.model_validate({**case.model_dump(by_alias=True), **changes}), suite, playbook, KINDS, look)
    return timelines[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("redis-down", "it is restarted once, and proved healthy"),
        ("redis-down", "after a start that fails on damaged data, a person decides about a backup"),
        ("app-down", "another process has its port"),
    ],
)
def test_document_is_the_golden_file(name: str, test: str) -> None:
    """``GOLDEN=write`` rewrites the files; read them before you commit them."""
    made = re.sub(
        r"\b[0-9a-f]{12}\b", "HASH", document.to_markdown(incident_document.document(timeline_of(name, test)))
    )
    golden = GOLDEN / f"{name}.{test.split(',')[0].replace(' ', '-')}.md"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(made, encoding="utf-8")
    assert made == golden.read_text(encoding="utf-8")


def test_text_of_an_alert_is_escaped() -> None:
    """Labels that contain Markdown, links or HTML are shown as plain text in both formats."""
    label = "[x](http://evil) <img src=x onerror=alert(1)> | `a`"
    alerts = [{"labels": {"alertname": "RedisDown", "where": label}}]
    timeline = timeline_of("redis-down", "it is restarted once, and proved healthy", alerts=alerts)
    pieces = incident_document.document(timeline)
    assert r"\[x\](http:&#8203;//evil) \<img src=x onerror=alert(1)\> \| \`a\`" in document.to_markdown(pieces)
    assert "<img" not in document.to_html(pieces) and "&lt;img" in document.to_html(pieces)


def test_html_contains_the_chart() -> None:
    """The chart has the expression of the alert, with marks at the start of each step and the end of the run; nothing
    is fetched."""
    timeline = timeline_of("redis-down", "it is restarted once, and proved healthy")
    begun = timeline.run.created_at
    line = [(begun + timedelta(seconds=second), float(second > 5)) for second in range(-60, 60, 5)]
    made = document.to_html(
        incident_document.document(timeline, incident_document.AlertSeries("RedisDown", [line], 0.0))
    )
    assert "<polyline" in made and "restart begins" in made and "the limit of the alert is 0" in made
    assert "<script" not in made and 'src="' not in made and 'href="' not in made


def test_unknown_run_is_an_error_message(tmp_path: Path) -> None:
    """Without a store, the error is a message, not a traceback."""
    result = CliRunner().invoke(command, ["run-none", "--config", str(tmp_path / "remediator.yaml")])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
