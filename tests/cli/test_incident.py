"""``remediator incident``: list and show incidents from the database, without the service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from remediator.cli.incident import command
from tests.support.sample_incident import BETTER, INCIDENT, NOTE, end_incident, write_incident
from tests.support.web_service import web_service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with settings and a database with one incident."""

    async def write() -> None:
        async with web_service(tmp_path) as web:
            await write_incident(web)

    asyncio.run(write())
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    """Run the command with the settings of the folder."""
    verb, *rest = arguments
    return CliRunner().invoke(command, [verb, "--config", str(folder / "remediator.yaml"), *rest])


def test_it_lists_incidents(folder: Path) -> None:
    """Each incident has one line with ID, begin, state, severity and number of runs."""
    found = run(folder, "list", "--open")
    assert found.exit_code == 0, found.output
    [line] = found.output.splitlines()
    assert line.startswith(INCIDENT) and line.endswith("open  critical  2 runs")


def test_an_ended_incident_is_not_listed_as_open(folder: Path, tmp_path: Path) -> None:
    """The list of open incidents is then "no incidents"."""

    async def end() -> None:
        async with web_service(tmp_path) as web:
            await end_incident(web)

    asyncio.run(end())
    assert run(folder, "list", "--open").output.strip() == "no incidents"
    assert json.loads(run(folder, "list", "--format", "json").output)[0]["over"] is True


@pytest.mark.parametrize("name", [INCIDENT, "run-app"])
def test_it_shows_an_incident_by_its_id_or_a_run(folder: Path, name: str) -> None:
    """The output has state, best cause, runs and notes, as text or data."""
    found = run(folder, "show", name)
    assert found.exit_code == 0, found.output
    first, *lines = found.output.splitlines()
    assert first.startswith(f"{INCIDENT}  open  critical  since ")
    assert lines[0] == f"cause   {BETTER}"
    assert [line.split()[1] for line in lines if line.startswith("run ")] == ["run-app", "run-redis"]
    assert any(line.startswith("note ") and NOTE in line for line in lines)
    assert json.loads(run(folder, "show", name, "--format", "json").output)["id"] == INCIDENT


def test_an_unknown_name_is_an_error_that_says_what_to_do(folder: Path) -> None:
    """The error names the command that lists the incidents, without a traceback."""
    found = run(folder, "show", "incident-9")
    assert found.exit_code != 0
    assert "no incident or run 'incident-9'" in str(found.exception or found.output)
