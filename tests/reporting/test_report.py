"""The report: its numbers match the store, and its HTML page is self-contained."""

from __future__ import annotations

import json
import os
import statistics
from datetime import UTC, datetime, timedelta
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
    """Return a store with a generated month."""
    path = tmp_path_factory.mktemp("past") / "past.db"
    make(path, 400, 30)
    return path


@pytest.fixture(scope="module")
def report(past: Path) -> Report:
    """Return the report of that month."""
    context = open_(past)
    with context.connect() as connection:
        made = figures.build_report(connection, figures.ReportRequest(SINCE, END, "bench", 30))
    context.dispose()
    return made


def counted(past: Path, statement: str) -> int:
    """Return a number by plain SQL, independent of the code under test."""
    context = open_(past)
    with context.connect() as connection:
        number = connection.execute(text(statement)).scalar_one()
    context.dispose()
    return int(number)


def test_markdown_is_the_golden_file(report: Report) -> None:
    """``GOLDEN=write`` rewrites the file; read it before you commit it."""
    made = render.markdown(report)
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(made, encoding="utf-8")
    assert made == GOLDEN.read_text(encoding="utf-8")


def test_numbers_match_the_store(past: Path, report: Report) -> None:
    """Incidents, outcomes, approvals and actions are counted again with SQL."""
    data = json.loads(render.as_json(report))
    ended = "SELECT count(*) FROM runs WHERE status = '{}'"
    assert sum(data["outcomes"].values()) == counted(past, "SELECT count(*) FROM runs")
    healed = data["outcomes"]["healed"] + data["outcomes"]["healed_after_approval"]
    assert healed == counted(past, ended.format("succeeded"))
    assert data["outcomes"]["escalated"] == counted(past, ended.format("escalated"))
    assert data["outcomes"]["failed"] == counted(past, ended.format("failed"))
    asked = "SELECT run_id FROM approvals"
    assert data["outcomes"]["healed_after_approval"] == counted(
        past, f"{ended.format('succeeded')} AND id IN ({asked})"
    )
    calls = sum(item["attempts"] for item in data["actions"])
    assert calls == counted(past, "SELECT count(*) FROM attempts WHERE mutates AND NOT is_undo")


@pytest.mark.parametrize("length", [timedelta(days=30), timedelta(days=366_000)])
def test_a_period_longer_than_a_year_has_the_days_since_its_first_incident(past: Path, length: timedelta) -> None:
    """A shorter period has all its days. No incident is left out."""
    first = counted(past, "SELECT min(created_at) FROM runs") / 1e6
    context = open_(past)
    with context.connect() as connection:
        made = figures.build_report(connection, figures.ReportRequest(END - length, END, "bench", 30))
    context.dispose()
    begins = max(END - length, datetime.fromtimestamp(first, UTC)) if length.days > 366 else END - length
    assert made.days[0].start == begins.replace(hour=0, minute=0, second=0, microsecond=0)
    assert made.days[-1].start.date() == (END - timedelta(microseconds=1)).date() and len(made.days) < 40
    assert sum(sum(day.outcomes.values()) for day in made.days) == made.incidents


def test_recovery_ends_with_the_proof(past: Path, report: Report) -> None:
    """The recovery time ends with the verification; the median of a playbook is the median over its runs."""
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
    assert found.recovery.median == pytest.approx(statistics.median(rows), rel=0.05)


class _Outside(HTMLParser):
    """A parser that collects everything that a page would fetch or execute."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a reference to the outside of the page."""
        if tag in ("script", "link", "iframe", "img", "object"):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href") or name.startswith("on")]


def test_page_is_self_contained(report: Report) -> None:
    """The page fetches nothing and has no script, and each chart has a label."""
    made = render.html(report)
    outside = _Outside()
    outside.feed(made)
    assert outside.found == []
    assert made.count("<svg") >= 3
    assert made.count("<svg") == made.count('role="img" aria-label="')


def test_empty_period_has_a_report(tmp_path: Path) -> None:
    """A new installation can create a report."""
    context = open_(tmp_path / "new.db")
    with context.connect() as connection:
        made = figures.build_report(connection, figures.ReportRequest(SINCE, END, "bench", 30))
    context.dispose()
    assert "There were no incidents with a playbook in this period." in render.markdown(made)
    assert "There were no incidents with a playbook in this period." in render.html(made)
