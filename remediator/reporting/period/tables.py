"""The report's tables and sentences, once for both HTML and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from remediator.core.clock import format_duration
from remediator.reporting.formatting import length, plural, share
from remediator.reporting.period.statistics import OUTCOMES, Report

LONGEST = 25
"""Rows of a table; what follows is summed up in one."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with what it says in a sentence."""

    title: str
    lead: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int]


def title(report: Report) -> str:
    """What the report is called."""
    return f"Remediation, {report.since:%-d %B} to {report.until:%-d %B %Y}"


def lead(report: Report) -> str:
    """The report in one sentence or two."""
    if not report.incidents:
        return "No playbook was called upon in this time."
    healed, helped = report.outcomes["healed"], report.outcomes["helped"]
    people = report.outcomes["escalated"] + report.outcomes["failed"]
    said = (
        f"Of {plural(report.incidents, 'incident')}, {healed} ({share(healed, report.incidents)}) healed without a "
        f"person and {helped} after one approved; {people} went to people unhealed."
    )
    if report.proved.median is None:
        return said
    return (
        f"{said} In the middle, proof of recovery came {length(report.proved.median)} after the alert, for nine in ten "
        f"within {length(report.proved.p90)}."
    )


def tables(report: Report) -> list[Table]:
    """All tables that have something to say, in the report's order."""
    made = [
        _outcomes(report),
        _playbooks(report),
        _recurring(report),
        _ineffective(report),
        _remedies(report),
        _refusals(report),
        _approvals(report),
        _alerts(report),
    ]
    return [table for table in made if table.rows]


def _cut(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    if len(rows) <= LONGEST:
        return list(rows)
    rest = [f"… {len(rows) - LONGEST} more; --format json has all"] + [""] * (len(rows[0]) - 1)
    return [*rows[:LONGEST], rest]


def _outcomes(report: Report) -> Table:
    rows = [
        (words[0].upper() + words[1:], str(report.outcomes[name]), share(report.outcomes[name], report.incidents))
        for name, words in OUTCOMES.items()
        if report.outcomes[name]
    ]
    return Table("What became of the incidents", "", ("Outcome", "Incidents", "Share"), rows, (1, 2))


def _playbooks(report: Report) -> Table:
    rows = [
        (
            item.playbook,
            str(item.incidents),
            str(item.outcomes.get("healed", 0)),
            f"{length(item.proved.median)} / {length(item.proved.p90)}",
            f"{length(item.alert.median)} / {length(item.alert.p90)}",
            f"{length(item.before.median)} / {length(item.before.p90)}",
            "-" if item.speedup is None else f"{item.speedup:.1f} times",
        )
        for item in report.playbooks
    ]
    words = (
        "Median / 90th percentile. “Proved” ends with the proof; “alert lasted” ends when Alertmanager said resolved, "
        "and is what can be compared with the alerts before the playbook first acted by itself."
    )
    head = ("Playbook", "Incidents", "Unaided", "Proved after", "Alert lasted", "Before", "Shorter by")
    return Table("Time to recovery, by playbook", words, head, _cut(rows), (1, 2, 3, 4, 5, 6))


def _recurring(report: Report) -> Table:
    rows = [(item.playbook, item.target, str(item.healed), length(item.every)) for item in report.recurring]
    words = "Healed again and again: the remedy works and the cause is still there. Fix the cause."
    return Table("Still auto-fixing this", words, ("Playbook", "Target", "Healed", "Every"), _cut(rows), (2, 3))


def _ineffective(report: Report) -> Table:
    rows = [
        (item.playbook, item.target, str(item.acted), str(item.not_healed), share(item.not_healed, item.acted))
        for item in report.ineffective
    ]
    words = "They acted, and people were needed all the same."
    head = ("Playbook", "Target", "Acted", "Not healed", "Share")
    return Table("Ineffective remedies", words, head, _cut(rows), (2, 3, 4))


def _remedies(report: Report) -> Table:
    rows = [
        (item.action, item.target, item.playbook, str(item.attempts), str(item.ok), str(item.failed), str(item.unknown))
        for item in report.remedies
    ]
    head = ("Action", "Target", "Playbook", "Calls", "Ok", "Failed", "Unknown")
    return Table("Most frequent actions", "", head, _cut(rows), (3, 4, 5, 6))


def _refusals(report: Report) -> Table:
    rows = [
        (
            item.guard,
            (item.reason or "").replace("_", " "),
            "cannot tell" if item.answer == "unknown" else "no",
            str(item.runs),
        )
        for item in report.refusals
    ]
    words = "How many incidents each guard held, at least for a while. One incident may be held by several."
    return Table("Refused by guards", words, ("Guard", "Reason", "Answer", "Incidents"), _cut(rows), (3,))


def _approvals(report: Report) -> Table:
    asked = report.approvals
    words = (
        f"People were asked {plural(asked.asked, 'time')}. They decided after {length(asked.latency.median)} in the "
        f"middle, {length(asked.latency.p90)} for nine in ten."
    )
    rows = [(status, str(count), share(count, asked.asked)) for status, count in asked.by_status.items()]
    return Table("Approvals", words, ("Answer", "Requests", "Share"), rows, (1, 2))


def _alerts(report: Report) -> Table:
    rows = [
        (item.alertname, str(item.episodes), str(item.flaps), share(item.with_run, item.episodes))
        for item in report.alerts
    ]
    words = (
        "Episodes are stretches of firing; flaps are new firings within the quiet time. Many of either, or few that "
        "a playbook answers, mean an alert to be fixed, or a playbook to be written."
    )
    return Table("Noisy alerts", words, ("Alert", "Episodes", "Flaps", "Answered"), _cut(rows), (1, 2, 3))


def toil(report: Report) -> str:
    """What was saved, with the assumption."""
    hours = report.toil.minutes / 60
    return f"About {hours:.1f} hours of people's time saved. {report.toil.assumption}"


def foot(report: Report) -> str:
    """Where the figures come from."""
    environment = f" in the environment {report.environment}" if report.environment else ""
    span = format_duration(report.until - report.since)
    return (
        f"{report.since:%Y-%m-%d %H:%M}Z to {report.until:%Y-%m-%d %H:%M}Z ({span}){environment}; days are UTC. Times "
        f"before automatic remediation come {_sources(report)}. An incident counts on the day on which its run was "
        "created."
    )


def _sources(report: Report) -> str:
    counted = Counter(each.before_from for each in report.playbooks)
    words = {"records": "from our own records", "prometheus": "from Prometheus"}
    said = [f"{text} for {counted[name]} playbooks" for name, text in words.items() if counted[name]]
    return ", ".join(said) or "from nowhere: there are none"
