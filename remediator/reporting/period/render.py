"""A report as HTML and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from remediator.reporting import charts
from remediator.reporting.formatting import bin_names, length, share
from remediator.reporting.period import html as page
from remediator.reporting.period import statistics, tables
from remediator.reporting.period.statistics import BINS, Report, Spread

PILES: Mapping[str, tuple[str, Sequence[str]]] = {
    "good": ("healed without a person", ("healed",)),
    "help": ("healed after approval", ("helped",)),
    "quiet": ("nothing done", ("by_itself", "said", "cancelled")),
    "held": ("held or waiting", ("refused", "waiting", "declined")),
    "bad": ("failed or escalated", ("failed", "escalated")),
}
"""The colours of the daily chart, and which outcomes each stands for."""


def html(report: Report) -> str:
    """One self-contained file."""
    name = tables.title(report)
    body = [page.heading(name, 1), page.text(tables.lead(report)), _cards(report)]
    charted = {
        "What became of the incidents": _daily(report),
        "Time to recovery, by playbook": Markup("").join((_histogram(report), _spans(report))),
    }
    for table in tables.tables(report):
        body += [page.heading(table.title), charted.get(table.title, Markup(""))]
        body += [page.text(table.lead, "dim")] if table.lead else []
        body.append(page.table(table.head, table.rows, table.numbers))
    body += [page.heading("Toil"), page.text(tables.toil(report))]
    body.append(Markup("<footer>{}</footer>").format(tables.foot(report)))
    return page.page(name, body)


def as_json(report: Report) -> str:
    """For programs: instants in RFC 3339, durations in seconds."""
    return json.dumps(statistics.as_data(report), indent=2) + "\n"


def _cards(report: Report) -> Markup:
    healed, people = report.outcomes["healed"], report.outcomes["failed"] + report.outcomes["escalated"]
    refused = report.outcomes["refused"]
    return page.cards(
        [
            (report.incidents, "incidents", ""),
            (share(healed, report.incidents), f"healed without a person ({healed})", "good"),
            (length(report.proved.median), f"to proof, median; p90 {length(report.proved.p90)}", ""),
            (report.approvals.asked, "times a person was asked", ""),
            (refused, "held by a guard now", "held" if refused else ""),
            (people, "failed or escalated", "bad" if people else ""),
            (f"{report.toil.minutes / 60:.1f} h", "toil saved (estimate)", ""),
        ]
    )


def _daily(report: Report) -> Markup:
    columns = [
        (
            f"{day.start:%-d %b}",
            {kind: sum(day.outcomes.get(name, 0) for name in names) for kind, (_, names) in PILES.items()},
        )
        for day in report.days
    ]
    key = {kind: words for kind, (words, _) in PILES.items()}
    label = f"Incidents a day by outcome, {len(columns)} days"
    return page.figure(charts.stacked(columns, key, label), "Incidents a day, by outcome.", key)


def _histogram(report: Report) -> Markup:
    now = _sum([item.alert for item in report.playbooks])
    before = _sum([item.before for item in report.playbooks if item.alert.count])
    series: dict[str, tuple[str, Sequence[int]]] = {}
    if sum(before):
        series["was"] = (f"before automatic remediation ({sum(before)} alerts)", before)
    if sum(now):
        series["now"] = (f"now, healed ({sum(now)} incidents)", now)
    if not series:
        return Markup("")
    drawn = charts.compared(bin_names(BINS), series, "How long alerts lasted, before and now")
    key = {kind: words for kind, (words, _) in series.items()}
    return page.figure(drawn, "How long alerts lasted, in percent of each group.", key)


def _sum(spreads: Sequence[Spread]) -> list[int]:
    return [sum(spread.bins[place] for spread in spreads) for place in range(len(BINS) + 1)]


def _spans(report: Report) -> Markup:
    rows = []
    for item in report.playbooks[:12]:
        marks = [
            (kind, words, spread.median, spread.p90)
            for kind, words, spread in (("was", "before", item.before), ("now", "now", item.alert))
            if spread.median is not None and spread.p90 is not None
        ]
        if item.alert.count:
            rows.append((item.playbook, marks))
    if not rows:
        return Markup("")
    drawn = charts.spans(rows, "How long alerts lasted, by playbook, before and now")
    caption = "How long alerts lasted: the dot is the median, the bar reaches to the 90th percentile; logarithmic."
    return page.figure(drawn, caption, {"was": "before", "now": "now"})


def markdown(report: Report) -> str:
    """For a wiki or an issue."""
    parts = [f"# {tables.title(report)}", tables.lead(report)]
    for table in tables.tables(report):
        parts += [f"## {table.title}", *([table.lead] if table.lead else []), as_markdown(table)]
    parts += ["## Toil", tables.toil(report), f"*{tables.foot(report)}*"]
    return "\n\n".join(parts) + "\n"


def as_markdown(table: tables.Table) -> str:
    """A table; what others named cannot break out of its cell."""
    rule = ["--:" if place in table.numbers else "---" for place in range(len(table.head))]
    rows = [table.head, rule, *([escape(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|#"} | {"\n": " ", "\r": " "})


def escape(words: str) -> str:
    """Words of others as Markdown that shows them as they are."""
    return words.translate(_SPECIAL)
