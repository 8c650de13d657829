"""The report: its figures are those of the store, its words are read by people, its page stands alone."""

from __future__ import annotations

import json
import os
import statistics
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import text

from bench.history_fixture import END, make, open_
from remediator.reporting.period import render
from remediator.reporting.period import statistics as figures
from remediator.reporting.period.statistics import Report

GOLDEN = Path(__file__).parent / "golden" / "report.md"
SINCE = END - timedelta(days=30)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a made-up month."""
    path = tmp_path_factory.mktemp("past") / "past.db"
    make(path, 400, 30)
    return path


@pytest.fixture(scope="module")
def report(past: Path) -> Report:
    """The report of that month."""
    context = open_(past)
    with context.connect() as connection:
        made = figures.gather(connection, figures.Asked(SINCE, END, "bench", 30))
    context.dispose()
    return made


def counted(past: Path, statement: str) -> int:
    """A number by plain SQL, beside the code that is tested."""
    context = open_(past)
    with context.connect() as connection:
        number = connection.execute(text(statement)).scalar_one()
    context.dispose()
    return int(number)


def test_the_words_are_what_people_read(report: Report) -> None:
    """Golden: with GOLDEN=write it is written anew, and read by whoever commits it."""
    made = render.markdown(report)
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(made, encoding="utf-8")
    assert made == GOLDEN.read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_store(past: Path, report: Report) -> None:
    """Incidents, outcomes, approvals, refusals and actions, counted again by hand."""
    data = json.loads(render.as_json(report))
    ended = "SELECT count(*) FROM runs WHERE status = '{}'"
    assert sum(data["outcomes"].values()) == counted(past, "SELECT count(*) FROM runs")
    healed = data["outcomes"]["healed"] + data["outcomes"]["helped"]
    assert healed == counted(past, ended.format("succeeded"))
    assert data["outcomes"]["escalated"] == counted(past, ended.format("escalated"))
    assert data["outcomes"]["failed"] == counted(past, ended.format("failed"))
    asked = "SELECT run_id FROM approvals"
    assert data["outcomes"]["helped"] == counted(past, f"{ended.format('succeeded')} AND id IN ({asked})")
    calls = sum(item["attempts"] for item in data["remedies"])
    assert calls == counted(past, "SELECT count(*) FROM attempts WHERE mutates AND NOT is_undo")


def test_recovery_is_measured_to_the_proof(past: Path, report: Report) -> None:
    """The median of a playbook is the median of its runs' own times."""
    context = open_(past)
    with context.connect() as connection:
        rows = (
            connection.execute(
                text(
                    "SELECT (r.finished_at - min(e.started_at)) / 1e6 FROM runs r "
                    "JOIN run_episodes j ON j.run_id = r.id JOIN episodes e ON e.id = j.episode_id "
                    "WHERE r.playbook = 'redis-down' AND r.status = 'succeeded' "
                    "GROUP BY r.id"
                )
            )
            .scalars()
            .all()
        )
    context.dispose()
    [found] = [item for item in report.playbooks if item.playbook == "redis-down"]
    assert found.proved.median == pytest.approx(statistics.median(rows), rel=0.05)


class _Outside(HTMLParser):
    """Everything that a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what comes from elsewhere."""
        if tag in ("script", "link", "iframe", "img", "object"):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href") or name.startswith("on")]


def test_the_page_stands_alone(report: Report) -> None:
    """One file: charts inside, nothing fetched, no script, and every chart says what it shows."""
    made = render.html(report)
    outside = _Outside()
    outside.feed(made)
    assert outside.found == []
    assert made.count("<svg") >= 3
    assert made.count("<svg") == made.count('role="img" aria-label="')


def test_an_empty_past_is_no_error(tmp_path: Path) -> None:
    """A new installation has a report too."""
    context = open_(tmp_path / "new.db")
    with context.connect() as connection:
        made = figures.gather(connection, figures.Asked(SINCE, END, "bench", 30))
    context.dispose()
    assert "No playbook was called upon in this time." in render.markdown(made)
    assert "No playbook was called upon in this time." in render.html(made)
