"""The post-incident document of one run: alerts, decisions with reasons, actions, and observations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.clients.prometheus.client import Prometheus
from remediator.core.run import EpisodeKind, Status
from remediator.core.text import MAX_LABEL, label_text, shorten
from remediator.errors import RemediatorError
from remediator.reporting import charts
from remediator.reporting.alert_series import query_alert
from remediator.reporting.charts import Line, Mark
from remediator.reporting.document import Figure, Section, to_html, to_markdown
from remediator.reporting.formatting import format_datetime, length, local
from remediator.reporting.request_text import origin
from remediator.reporting.run_timeline import RunTimeline, archived_hint

_RESULTS: Mapping[Status, str] = {
    Status.SUCCEEDED: "healed",
    Status.ESCALATED: "escalated",
    Status.FAILED: "failed and escalated",
    Status.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class AlertSeries:
    """The values of the alert's expression before, during and after the run."""

    alertname: str
    lines: Sequence[Line]
    limit: float | None


def document(timeline: RunTimeline, series: AlertSeries | None = None) -> list[Section]:
    """Return the sections of the document in reading order. Render them with :mod:`remediator.reporting.document`."""
    begin = _begin(timeline)
    names = ", ".join(sorted({shorten(item.alertname, MAX_LABEL) for item in timeline.alerts}))
    names = names or timeline.run.playbook
    title = f"{names} on {timeline.run.target}, {local(begin):%Y-%m-%d %H:%M %Z}"
    time = f"Time ({local(begin):%Z})"
    alerts = [
        (
            f"{shorten(item.alertname, MAX_LABEL)}{origin(item)}",
            label_text(item.labels, ("alertname",)),
            format_datetime(item.started_at),
            "-" if item.resolved_at is None else format_datetime(item.resolved_at),
        )
        for item in timeline.alerts
    ]
    events = [(_clock(event.at), length((event.at - begin).total_seconds()), event.text) for event in timeline.events]
    evidence = [
        (_clock(item.at), item.phase, item.name, item.status, item.summary)
        for item in timeline.evidence
        if item.phase != "conclude"
    ]
    sections = [
        Section(title, _summary(timeline), ("Property", "Value"), _properties(timeline), level=1),
        Section("Alerts", (), ("Alert", "Labels", "Fired", "Resolved"), alerts),
        Section("Timeline", (), (time, "After", "Event"), events),
        Section("Decisions", (), (time, "By", "Decision", "Reason"), list(_decisions(timeline))),
        Section("Actions", (), ("Step", "Call", "Outcome", time, "Duration"), list(_actions(timeline))),
        Section("Evidence", (), (time, "Phase", "Check", "Status", "Observed"), evidence),
    ]
    if series is not None and any(series.lines):
        sections.insert(2, _chart(timeline, series))
    return [section for section in sections if not section.empty]


def _begin(timeline: RunTimeline) -> datetime:
    return min((item.started_at for item in timeline.alerts), default=timeline.run.created_at)


def _clock(at: datetime) -> str:
    return f"{local(at):%H:%M:%S}"


def _summary(timeline: RunTimeline) -> list[str]:
    run = timeline.run
    result = _RESULTS.get(run.status, run.status.value.replace("_", " "))
    after = "" if run.finished_at is None else f" after {length((run.finished_at - _begin(timeline)).total_seconds())}"
    people = sorted({event.actor for event in timeline.events if event.kind == "approval.decided"})
    requested = any(event.kind == "approval.requested" for event in timeline.events)
    decided = f" Decided by: {', '.join(people)}." if people else ""
    if timeline.complete and not requested:
        decided = " No approval was requested."
    paragraphs = [f"Playbook {run.playbook} (mode {run.mode}) for {run.target}: {result}{after}.{decided}"]
    if not timeline.complete:
        paragraphs.append(archived_hint(run.id))
    causes = list(dict.fromkeys(item.summary for item in timeline.evidence if item.phase == "conclude"))
    return paragraphs + ([f"Likely cause: {' '.join(causes)}"] if causes else [])


def _properties(timeline: RunTimeline) -> list[Sequence[str]]:
    run = timeline.run
    times = {"First alert": _begin(timeline), "First action": run.first_action_at, "End": run.finished_at}
    return [
        ("Run", run.id),
        ("Playbook", f"{run.playbook}, version {run.playbook_hash[:12]}"),
        ("Plan", (run.plan_hash or "none")[:12]),
        *((name, "-" if at is None else format_datetime(at)) for name, at in times.items()),
        ("Reason", run.reason or "-"),
    ]


def _decisions(timeline: RunTimeline) -> Iterator[Sequence[str]]:
    """Yield the decisions of guards (those that did not allow) and of people, ordered by time."""
    found: list[tuple[datetime, str, str, str]] = [
        (item.at, f"guard {item.guard}", item.answer, str(item.inputs.get("text") or item.reason or ""))
        for item in timeline.verdicts
        if item.answer != "allow"
    ]
    for event in timeline.events:
        if event.kind == "approval.decided":
            verb, _, why = event.text.partition(f" by {event.actor}")
            found.append((event.at, event.actor, verb, why.removeprefix(": ")))
        elif event.kind.startswith("approval."):
            found.append((event.at, "remediator", event.text, ""))
    for at, *words in sorted(found, key=lambda item: item[0]):
        yield (_clock(at), *words)


def _actions(timeline: RunTimeline) -> Iterator[Sequence[str]]:
    for item in timeline.attempts:
        took = None if item.outcome_at is None else (item.outcome_at - item.intent_at).total_seconds()
        step = f"{item.step} (undo)" if item.is_undo else item.step
        summary = (item.result or {}).get("summary", "")
        outcome = f"{item.outcome or 'in progress'}: {summary}".rstrip(": ")
        yield (step, str(item.call.get("text", "")), outcome, _clock(item.intent_at), length(took))


def _chart(timeline: RunTimeline, series: AlertSeries) -> Section:
    times = [at for line in series.lines for at, _ in line]
    marks = [Mark(item.intent_at, f"{item.step} begins") for item in timeline.attempts if not item.is_undo]
    if timeline.run.finished_at is not None:
        marks.append(Mark(timeline.run.finished_at, timeline.run.status.value))
    limit = "" if series.limit is None else f"; the limit of the alert is {series.limit:g}"
    caption = f"The expression of {series.alertname} before, during and after the run{limit}."
    chart = charts.line_chart(series.lines, min(times), max(times), series.limit, marks, caption)
    return Section("Before and after", figures=[Figure(chart, caption)])


FORMATS = {"md": "text/markdown; charset=utf-8", "html": "text/html; charset=utf-8"}
"""The formats of :func:`render`, with their media types."""
CHART_MARGIN = timedelta(minutes=15)
"""How much of the alert's series a chart shows before and after the run."""
CHART_POINTS = 120


def render(timelines: Sequence[tuple[RunTimeline, AlertSeries | None]], format_: str) -> str:
    """Return one document about these runs, each with the series of its alert for a chart, if that is known."""
    sections = [section for each, measured in timelines for section in document(each, measured)]
    return (to_html if format_ == "html" else to_markdown)(sections)


async def measure(
    prometheus: Prometheus | None,
    timeline: RunTimeline,
    now: datetime,
    report: Callable[[RemediatorError], None] = lambda error: None,
) -> AlertSeries | None:
    """Return the series of the alert's expression for the chart; None if Prometheus does not have it.

    Args:
        prometheus: where to ask, or None.
        timeline: of the run.
        now: the time.
        report: called with the reason if Prometheus does not have the series.
    """
    alerts = [item for item in timeline.alerts if item.kind is EpisodeKind.ALERT]
    if prometheus is None or not alerts:
        return None
    begin = min(item.started_at for item in alerts) - CHART_MARGIN
    end = min((timeline.run.finished_at or now) + CHART_MARGIN, now)
    try:
        lines, limit = await query_alert(prometheus, alerts[0].alertname, begin, end, CHART_POINTS)
    except RemediatorError as error:
        report(error)
        return None
    return AlertSeries(alerts[0].alertname, lines, limit)
