"""The report as HTML, Markdown and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from remediator.reporting import charts, document
from remediator.reporting.document import Card, Figure, Section
from remediator.reporting.formatting import length, share
from remediator.reporting.period import statistics, tables
from remediator.reporting.period.statistics import BINS, Distribution, Report

_STACKS: Mapping[str, tuple[str, Sequence[str]]] = {
    "good": ("healed automatically", ("healed",)),
    "help": ("healed after an approval", ("healed_after_approval",)),
    "quiet": ("no action", ("resolved", "reported", "cancelled")),
    "held": ("blocked, declined or in progress", ("blocked", "in_progress", "declined")),
    "bad": ("escalated or failed", ("failed", "escalated")),
}
"""The parts of the daily chart: by colour class, the name and the outcomes."""
_BIN_NAMES = [f"≤ {length(float(end))}" for end in BINS] + [f"> {length(float(BINS[-1]))}"]
_MAX_GUARDS = 8
_MAX_PLAYBOOKS = 12
"""Number of playbooks in the chart of durations."""


def html(report: Report) -> str:
    """Return one self-contained page with charts."""
    return document.to_html(sections(report), tables.footer(report))


def sections(report: Report) -> list[Section]:
    """Return the sections with their charts, the summary first."""
    figures = {
        tables.OUTCOMES_TITLE: [_daily(report)],
        tables.RECOVERY_TITLE: _durations(report),
        tables.STAGES_TITLE: _stages(report),
        tables.APPROVALS_TITLE: _latency(report),
        tables.BLOCKED_TITLE: _blocked(report),
    }
    found = [replace(section, figures=figures.get(section.title, ())) for section in tables.sections(report)]
    head = Section(tables.title(report), tables.summary(report), cards=_cards(report), level=1)
    return [head, *found, tables.toil(report)]


def markdown(report: Report) -> str:
    """Return Markdown for a wiki page or a ticket."""
    head = Section(tables.title(report), tables.summary(report), level=1)
    return document.to_markdown([head, *tables.sections(report), tables.toil(report)], tables.footer(report))


def as_json(report: Report) -> str:
    """Return JSON: times in RFC 3339, durations in seconds."""
    return json.dumps(statistics.as_data(report), indent=2) + "\n"


def _cards(report: Report) -> list[Card]:
    healed, blocked = report.outcomes["healed"], report.outcomes["blocked"]
    escalated = report.outcomes["failed"] + report.outcomes["escalated"]
    return [
        Card(report.incidents, "incidents"),
        Card(share(healed, report.incidents), f"healed automatically ({healed})", "good"),
        Card(length(report.recovery.median), f"time to recovery, median; p90 {length(report.recovery.p90)}"),
        Card(report.approvals.requested, "approvals requested"),
        Card(blocked, "blocked by a guard", "held" if blocked else ""),
        Card(escalated, "escalated or failed", "bad" if escalated else ""),
        Card(f"{report.toil.minutes / 60:.1f} h", "toil saved (estimate)"),
    ]


def _daily(report: Report) -> Figure:
    columns = [
        (
            f"{day.start:%-d %b}",
            {kind: sum(day.outcomes.get(name, 0) for name in names) for kind, (_, names) in _STACKS.items()},
        )
        for day in report.days
    ]
    key = {kind: words for kind, (words, _) in _STACKS.items()}
    label = f"Incidents per day by outcome, {len(columns)} days"
    return Figure(charts.stacked_columns(columns, key, label), "Incidents per day, by outcome.", key)


def _durations(report: Report) -> list[Figure]:
    """Return the histogram of alert durations, and their medians by playbook; each only if there is data."""
    figures = []
    now = _sum([item.alert for item in report.playbooks])
    before = _sum([item.before for item in report.playbooks if item.alert.count])
    series: dict[str, tuple[str, Sequence[int]]] = {}
    if sum(before):
        series["was"] = (f"before automatic remediation ({sum(before)} alerts)", before)
    if sum(now):
        series["now"] = (f"now, healed ({sum(now)} incidents)", now)
    if series:
        drawn = charts.grouped_columns(_BIN_NAMES, series, "Alert durations, before and now")
        key = {kind: words for kind, (words, _) in series.items()}
        figures.append(Figure(drawn, "Alert durations, in percent of each group.", key))
    rows = []
    for item in report.playbooks[:_MAX_PLAYBOOKS]:
        bars = [
            (kind, words, times.median, times.p90)
            for kind, words, times in (("was", "before", item.before), ("now", "now", item.alert))
            if times.median is not None and times.p90 is not None
        ]
        if item.alert.count:
            rows.append((item.playbook, bars))
    if rows:
        drawn = charts.duration_ranges(rows, "Alert durations by playbook, before and now")
        caption = "Alert durations by playbook: the dot is the median, the bar ends at p90. Logarithmic scale."
        figures.append(Figure(drawn, caption, {"was": "before", "now": "now"}))
    return figures


def _stages(report: Report) -> list[Figure]:
    rows = [
        (item.name, [("now", "healed", item.times.median, item.times.p90)])
        for item in report.stages
        if item.times.median is not None and item.times.p90 is not None
    ]
    if not rows:
        return []
    drawn = charts.duration_ranges(rows, "Time to heal by stage, median and p90")
    return [Figure(drawn, "The dot is the median, the bar ends at p90. Logarithmic scale.")]


def _latency(report: Report) -> list[Figure]:
    found = report.approvals.latency
    if not found.count:
        return []
    drawn = charts.grouped_columns(_BIN_NAMES, {"help": ("decisions", found.bins)}, "Time until a decision")
    return [Figure(drawn, f"Time until the decision, {found.count} requests.")]


def _blocked(report: Report) -> list[Figure]:
    by_guard = Counter[str]()
    for item in report.guard_blocks:
        by_guard[item.guard] += item.runs
    if not by_guard:
        return []
    columns = [(name.replace("_", " "), {"held": count}) for name, count in by_guard.most_common(_MAX_GUARDS)]
    drawn = charts.stacked_columns(columns, {"held": "blocked runs"}, "Runs blocked by each guard")
    return [Figure(drawn, "Runs that each guard blocked.")]


def _sum(times: Sequence[Distribution]) -> list[int]:
    return [sum(item.bins[place] for item in times) for place in range(len(BINS) + 1)]
