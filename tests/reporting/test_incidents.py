"""Incidents as they are shown: the best cause, the state and the severity, from the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remediator.reporting.incidents import Incident, highest_severity, load_incident
from tests.support.guard_history import alert
from tests.support.sample_incident import BETTER, EARLY, INCIDENT, NOTE, end_incident, write_incident
from tests.support.web_service import WebService, web_service


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a service with its store."""
    async with web_service(tmp_path) as made:
        yield made


async def loaded(web: WebService) -> Incident:
    """Return the incident from the store."""
    found = await web.context.store.read(lambda connection: load_incident(connection, INCIDENT))
    assert found is not None
    return found


async def test_the_later_cause_replaces_the_earlier(web: WebService) -> None:
    """The run for Redis began later and explains why the app waits: only its cause is shown."""
    await write_incident(web)
    found = await loaded(web)
    assert len(found.causes) == 1 and found.causes[0].startswith("The process of Redis has ended")
    assert EARLY not in found.causes


async def test_the_run_that_needs_people_leads(web: WebService) -> None:
    """An escalated run whose alert fires has priority over a run in progress; both are listed, oldest first."""
    await write_incident(web)
    found = await loaded(web)
    assert found.lead.run.id == "run-app" and [item.run.id for item in found.runs] == ["run-app", "run-redis"]
    assert "run-app" not in " ".join(found.other_lines("run-app"))
    assert any("redis-down on redis: running" in line for line in found.other_lines("run-app"))
    assert any(NOTE in line and "no person was notified" in line for line in found.other_lines("run-app"))


async def test_it_is_over_when_all_runs_are_and_no_alert_needs_people(web: WebService) -> None:
    """An incident is open while a run is in progress or the alert of an escalated run fires, and over after the fix."""
    await write_incident(web)
    assert not (await loaded(web)).over
    await end_incident(web)
    assert (await loaded(web)).over


async def test_its_data_is_complete(web: WebService) -> None:
    """The API and the command show the same data: runs with status and alerts, causes, notes, severity and start."""
    await write_incident(web)
    data = (await loaded(web)).to_data()
    assert (data["id"], data["over"], data["severity"]) == (INCIDENT, False, "critical")
    assert [(run["id"], run["status"], run["alerts"], run["fires"]) for run in data["runs"]] == [
        ("run-app", "escalated", ["AppDown"], True),
        ("run-redis", "running", ["RedisDown"], True),
    ]
    assert [note["text"] for note in data["notes"]] == [NOTE]
    assert data["began_at"] == "2026-03-04T11:58:00.000000Z" and BETTER in data["causes"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["warning", "critical"], "critical"),
        (["page"], "critical"),
        (["low", "high"], "error"),
        (["none"], "info"),
        (["purple", ""], "warning"),
        ([], "warning"),
    ],
)
def test_the_highest_severity_counts(labels: list[str], expected: str) -> None:
    """Severity names of teams are mapped to the names of pagers; an unknown name counts as a warning."""
    assert highest_severity([alert(number, severity=name) for number, name in enumerate(labels)]) == expected
