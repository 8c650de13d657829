"""The sections of the report: titles, sentences and tables, for HTML and Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from remediator.core.clock import format_duration
from remediator.reporting.document import Section
from remediator.reporting.formatting import capital, length, plural, share
from remediator.reporting.period.statistics import OUTCOMES, Distribution, Report

MAX_ROWS = 25
"""Maximum number of rows of a table. A further row shows the number of omitted rows."""

OUTCOMES_TITLE, RECOVERY_TITLE, STAGES_TITLE = "Outcomes", "Time to recovery", "Time to heal by stage"
APPROVALS_TITLE, BLOCKED_TITLE = "Approvals", "Blocked by guards"


def title(report: Report) -> str:
    """Return the title of the report."""
    return f"Remediation report, {report.since:%-d %B} to {report.until:%-d %B %Y}"


def summary(report: Report) -> list[str]:
    """Return the report in one to three sentences."""
    if not report.incidents:
        return ["There were no incidents with a playbook in this period."]
    count = report.outcomes
    said = (
        f"{plural(report.incidents, 'incident')}: {count['healed']} ({share(count['healed'], report.incidents)}) "
        f"healed automatically, {count['healed_after_approval']} healed after an approval, "
        f"{count['escalated'] + count['failed']} escalated or failed."
    )
    if report.recovery.median is not None:
        said += (
            " Time from the alert to the proof of success: "
            f"median {length(report.recovery.median)}, p90 {length(report.recovery.p90)}."
        )
    return [said]


def sections(report: Report) -> list[Section]:
    """Return the sections that have rows, in the order of the report."""
    found = [
        _outcomes(report),
        _stages(report),
        _causes(report),
        _playbooks(report),
        _recurring(report),
        _ineffective(report),
        _actions(report),
        _guard_blocks(report),
        _approvals(report),
        _alerts(report),
    ]
    return [section for section in found if section.rows]


def _stages(report: Report) -> Section:
    rows = [
        (item.name, str(item.times.count), length(item.times.median), length(item.times.p90))
        for item in report.stages
        if item.times.count
    ]
    text = "The parts of the time to recovery, of healed incidents."
    return Section(STAGES_TITLE, (text,), ("Part", "Incidents", "Median", "p90"), rows, (1, 2, 3))


def _causes(report: Report) -> Section:
    rows = [(item.cause, str(item.runs)) for item in report.causes]
    return Section("Top causes", (), ("Likely cause", "Incidents"), _limit(rows), (1,))


def _limit(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    if len(rows) <= MAX_ROWS:
        return list(rows)
    rest = [f"… {len(rows) - MAX_ROWS} more; see --format json"] + [""] * (len(rows[0]) - 1)
    return [*rows[:MAX_ROWS], rest]


def _outcomes(report: Report) -> Section:
    rows = [
        (capital(words), str(report.outcomes[name]), share(report.outcomes[name], report.incidents))
        for name, words in OUTCOMES.items()
        if report.outcomes[name]
    ]
    return Section(OUTCOMES_TITLE, (), ("Outcome", "Incidents", "Share"), rows, (1, 2))


def _playbooks(report: Report) -> Section:
    def both(times: Distribution) -> str:
        return f"{length(times.median)} / {length(times.p90)}"

    rows = [
        (
            item.playbook,
            str(item.incidents),
            str(item.outcomes.get("healed", 0)),
            both(item.recovery),
            both(item.alert),
            both(item.before),
            "-" if item.speedup is None else f"{item.speedup:.1f} times",
        )
        for item in report.playbooks
    ]
    text = (
        "Median / p90. Recovery ends with the proof of success. The alert duration ends when Alertmanager reports the "
        "alert as resolved. Duration before: alerts of the same names before the playbook first acted "
        "automatically."
    )
    head = ("Playbook", "Incidents", "Automatic", "Recovery", "Alert duration", "Duration before", "Shorter")
    return Section(RECOVERY_TITLE, (text,), head, _limit(rows), (1, 2, 3, 4, 5, 6))


def _recurring(report: Report) -> Section:
    rows = [(item.playbook, item.target, str(item.healed), length(item.interval)) for item in report.recurring]
    text = "The same playbook healed the same target repeatedly. The fix works, but the cause remains: fix the cause."
    return Section("Recurring fixes", (text,), ("Playbook", "Target", "Healed", "Mean interval"), _limit(rows), (2, 3))


def _ineffective(report: Report) -> Section:
    rows = [
        (item.playbook, item.target, str(item.acted), str(item.not_healed), share(item.not_healed, item.acted))
        for item in report.ineffective
    ]
    text = "The playbook acted, but the incident was escalated or failed."
    head = ("Playbook", "Target", "Acted", "Not healed", "Share")
    return Section("Ineffective remedies", (text,), head, _limit(rows), (2, 3, 4))


def _actions(report: Report) -> Section:
    rows = [
        (item.action, item.target, item.playbook, str(item.attempts), str(item.ok), str(item.failed), str(item.unknown))
        for item in report.actions
    ]
    head = ("Action", "Target", "Playbook", "Calls", "OK", "Failed", "Unknown")
    return Section("Most frequent actions", (), head, _limit(rows), (3, 4, 5, 6))


def _guard_blocks(report: Report) -> Section:
    rows = [
        (item.guard, (item.reason or "").replace("_", " "), item.answer, str(item.runs)) for item in report.guard_blocks
    ]
    text = "Incidents that each guard blocked, at least for a while. Several guards can block one incident."
    return Section(BLOCKED_TITLE, (text,), ("Guard", "Reason", "Answer", "Incidents"), _limit(rows), (3,))


def _approvals(report: Report) -> Section:
    found = report.approvals
    text = (
        f"{plural(found.requested, 'request')}. Time until the decision: median {length(found.latency.median)}, "
        f"p90 {length(found.latency.p90)}."
    )
    rows = [(status, str(count), share(count, found.requested)) for status, count in found.by_status.items()]
    return Section(APPROVALS_TITLE, (text,), ("Status", "Requests", "Share"), rows, (1, 2))


def _alerts(report: Report) -> Section:
    rows = [
        (item.alertname, str(item.episodes), str(item.flaps), share(item.with_run, item.episodes))
        for item in report.alerts
    ]
    text = (
        "An episode is one continuous firing. A flap is a new firing shortly after the alert was resolved. Many "
        "episodes or flaps: fix the alert. A low share with a playbook: write a playbook."
    )
    head = ("Alert", "Episodes", "Flaps", "With a playbook")
    return Section("Noisy alerts", (text,), head, _limit(rows), (1, 2, 3))


def toil(report: Report) -> Section:
    """Return the section on saved manual work, with its assumption."""
    return Section("Toil saved", (f"About {report.toil.minutes / 60:.1f} hours (estimate). {report.toil.assumption}",))


def footer(report: Report) -> str:
    """Return the period and the sources of the data."""
    environment = f", environment {report.environment}" if report.environment else ""
    count = Counter(item.before_source for item in report.playbooks)
    names = {"records": "the store", "prometheus": "Prometheus"}
    sources = [f"{words} ({plural(count[name], 'playbook')})" for name, words in names.items() if count[name]]
    return (
        f"{report.since:%Y-%m-%d %H:%M} UTC to {report.until:%Y-%m-%d %H:%M} UTC "
        f"({format_duration(report.until - report.since)}){environment}. Days are in UTC. An incident counts on "
        f"the day on which its run was created. Source of the earlier durations: {', '.join(sources) or 'none'}."
    )
