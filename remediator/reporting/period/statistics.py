"""The statistics of a period: outcomes of its incidents, times to recovery, and likely causes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.core.approval import ApprovalStatus
from remediator.core.clock import from_micros, rfc3339
from remediator.core.run import OPEN
from remediator.storage.repositories import reports
from remediator.storage.repositories.reports import AlertRow, CauseRow, GuardRefusal, Remedy, RunRow

OUTCOMES: Mapping[str, str] = {
    "healed": "healed automatically",
    "healed_after_approval": "healed after an approval",
    "resolved": "resolved without an action",
    "reported": "only reported (observe, shadow)",
    "blocked": "blocked by a guard",
    "in_progress": "in progress",
    "declined": "rejected or not answered",
    "cancelled": "cancelled",
    "failed": "failed",
    "escalated": "escalated",
}
"""The outcomes of incidents with their descriptions. Every incident has exactly one."""

BINS = (10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
"""Upper bounds of the histogram columns in seconds. The last column holds everything longer."""

_YEAR = timedelta(days=366)

MIN_RECURRING = 3
"""A target that one playbook healed this many times in the period is listed as a recurring fix."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution of durations in seconds."""

    count: int
    median: float | None
    p90: float | None
    longest: float | None
    bins: tuple[int, ...]
    """Number of durations in each column of :data:`BINS`, and in the last column."""

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Distribution:
        """Return the distribution of durations. Negative ones (a clock was set back) count as 0."""
        ordered = sorted(max(0.0, value) for value in seconds)
        bins = [0] * (len(BINS) + 1)
        for value in ordered:
            bins[next((place for place, end in enumerate(BINS) if value <= end), len(BINS))] += 1
        longest = ordered[-1] if ordered else None
        return cls(len(ordered), _quantile(ordered, 0.5), _quantile(ordered, 0.9), longest, tuple(bins))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return a quantile by the nearest-rank method: it is always one of the measured values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


@dataclass(frozen=True, slots=True)
class PlaybookStatistics:
    """The recovery times of one playbook, now and before it acted automatically."""

    playbook: str
    incidents: int
    outcomes: Mapping[str, int]
    recovery: Distribution
    """From the arrival of the alert to the proof of success, for healed incidents."""
    alert: Distribution
    """Duration of the alerts of healed incidents, until Alertmanager reported them as resolved."""
    before: Distribution
    """Duration of alerts of the same names before the first automatic action."""
    before_source: str
    """The source of ``before``: ``records``, ``prometheus`` or ``none``."""
    automatic_since: datetime | None

    @property
    def speedup(self) -> float | None:
        """Return the median alert duration before, divided by the median now; None if a median is missing."""
        if not self.before.median or not self.alert.median:
            return None
        return self.before.median / self.alert.median


@dataclass(frozen=True, slots=True)
class RecurringFix:
    """A target that one playbook healed repeatedly."""

    playbook: str
    target: str
    healed: int
    interval: float | None
    """Mean time between two fixes, in seconds."""


@dataclass(frozen=True, slots=True)
class IneffectiveRemedy:
    """A playbook that acted on a target, but often did not heal it."""

    playbook: str
    target: str
    acted: int
    not_healed: int


@dataclass(frozen=True, slots=True)
class Day:
    """The incidents of one day (UTC) by outcome."""

    start: datetime
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Approvals:
    """The requests for approval."""

    requested: int
    by_status: Mapping[str, int]
    latency: Distribution
    """From the request to the decision, for requests that were approved or rejected."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long one part of the way to a healed incident took."""

    name: str
    times: Distribution


@dataclass(frozen=True, slots=True)
class Toil:
    """An estimate of the manual work that was saved."""

    incidents: int
    minutes_each: float
    minutes: float
    assumption: str


@dataclass(frozen=True, slots=True)
class Report:
    """All statistics of a period."""

    since: datetime
    until: datetime
    environment: str
    incidents: int
    outcomes: Mapping[str, int]
    acted: int
    recovery: Distribution
    playbooks: Sequence[PlaybookStatistics]
    days: Sequence[Day]
    guard_blocks: Sequence[GuardRefusal]
    approvals: Approvals
    actions: Sequence[Remedy]
    recurring: Sequence[RecurringFix]
    ineffective: Sequence[IneffectiveRemedy]
    alerts: Sequence[AlertRow]
    toil: Toil
    stages: Sequence[StageTime]
    """The parts of the time to recovery, of healed incidents, in order."""
    causes: Sequence[CauseRow]


DurationSource = Callable[[Sequence[str], datetime], Sequence[float]]
"""Returns how long alerts of these names lasted before an instant, in seconds."""


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """The scope of a report."""

    since: datetime
    until: datetime
    environment: str
    minutes: float
    """Assumed minutes of manual work for one incident. The report states the assumption."""
    history: DurationSource | None = None
    """Prometheus, if it is configured."""


MIN_RECORDS = 5
"""With fewer earlier alerts than this in the store, Prometheus is queried too."""


def build_report(connection: Connection, request: ReportRequest) -> Report:
    """Compute the statistics of a period."""
    since, until = request.since, request.until
    runs = reports.runs_between(connection, since, until)
    outcomes = Counter(outcome(run) for run in runs)
    requests = reports.approvals_between(connection, since, until)
    latency = Distribution.of(
        (item.decided - item.requested) / 1e6
        for item in requests
        if item.status in (ApprovalStatus.APPROVED, ApprovalStatus.REJECTED) and item.decided is not None
    )
    by_status = dict(sorted(Counter(item.status for item in requests).items()))
    saved = outcomes["healed"]
    return Report(
        since=since,
        until=until,
        environment=request.environment,
        incidents=len(runs),
        outcomes={name: outcomes[name] for name in OUTCOMES},
        acted=sum(run.first_action is not None for run in runs),
        recovery=_recovery(runs),
        playbooks=_playbooks(connection, request, runs),
        days=_days(runs, since, until),
        guard_blocks=reports.refusals_between(connection, since, until),
        approvals=Approvals(len(requests), by_status, latency),
        actions=reports.remedies_between(connection, since, until),
        recurring=_recurring(runs),
        ineffective=_ineffective(runs),
        alerts=reports.alerts_between(connection, since, until),
        toil=Toil(
            saved,
            request.minutes,
            saved * request.minutes,
            f"Assumption: without automatic remediation, one of these incidents costs {request.minutes:g} minutes of "
            "manual work, from the page to the check of the result. Only incidents that were healed automatically "
            "count.",
        ),
        stages=_stages(runs),
        causes=reports.causes_between(connection, since, until),
    )


def outcome(run: RunRow) -> str:
    """Return the outcome of a run: a key of :data:`OUTCOMES`."""
    reason = run.reason or ""
    if run.status == "succeeded":
        return "healed_after_approval" if run.approved else "healed"
    if reason in ("observe", "shadow") or run.mode in ("observe", "shadow"):
        return "reported"
    if reason == "resolved":
        return "resolved"
    if reason in ("rejected", "approval_expired"):
        return "declined"
    if run.status in ("blocked", "cancelled", "failed", "escalated"):
        return run.status
    return "in_progress" if run.status in OPEN else "escalated"


def _stages(runs: Iterable[RunRow]) -> list[StageTime]:
    healed = [run for run in runs if run.status == "succeeded" and run.finished is not None]
    parts: dict[str, list[float]] = {"alert to run": [], "plan, guards, approval": [], "act and verify": []}
    for run in healed:
        if run.alert_started is not None:
            parts["alert to run"].append((run.created - run.alert_started) / 1e6)
        if run.first_action is not None and run.finished is not None:
            parts["plan, guards, approval"].append((run.first_action - run.created) / 1e6)
            parts["act and verify"].append((run.finished - run.first_action) / 1e6)
    return [StageTime(name, Distribution.of(seconds)) for name, seconds in parts.items()]


def _recovery(runs: Iterable[RunRow]) -> Distribution:
    return Distribution.of(
        (run.finished - (run.created if run.alert_started is None else run.alert_started)) / 1e6
        for run in runs
        if run.status == "succeeded" and run.finished is not None
    )


def _playbooks(connection: Connection, request: ReportRequest, runs: Iterable[RunRow]) -> list[PlaybookStatistics]:
    automatic_since = reports.automatic_since(connection)
    grouped: dict[str, list[RunRow]] = {}
    for run in runs:
        grouped.setdefault(run.playbook, []).append(run)
    found = []
    for playbook in sorted(grouped, key=lambda name: (-len(grouped[name]), name)):
        begun, own = automatic_since.get(playbook), grouped[playbook]
        source, before = _durations_before(connection, request, playbook, begun or request.until)
        alert = Distribution.of(
            (run.alert_over - run.alert_started) / 1e6
            for run in own
            if run.status == "succeeded" and run.alert_over is not None and run.alert_started is not None
        )
        outcomes = dict(Counter(outcome(run) for run in own))
        found.append(
            PlaybookStatistics(
                playbook, len(own), outcomes, _recovery(own), alert, Distribution.of(before), source, begun
            )
        )
    return found


def _durations_before(
    connection: Connection, request: ReportRequest, playbook: str, until: datetime
) -> tuple[str, Sequence[float]]:
    """Return the source and the durations of alerts before an instant; the longer of both sources wins."""
    names = reports.alertnames_of(connection, playbook, request.since, request.until)
    stored = reports.durations_before(connection, names, until) if names else []
    if len(stored) < MIN_RECORDS and names and request.history is not None:
        queried = request.history(names, until)
        if len(queried) > len(stored):
            return "prometheus", queried
    return ("records" if stored else "none"), stored


def _days(runs: Iterable[RunRow], since: datetime, until: datetime) -> list[Day]:
    """Return every day of the period, including those without incidents. Days are in UTC.

    A period of more than a year begins with its first incident here: each reader can ask for the last 999 years.
    """
    counted: dict[datetime, Counter[str]] = {}
    for run in runs:
        day = from_micros(run.created).replace(hour=0, minute=0, second=0, microsecond=0)
        counted.setdefault(day, Counter())[outcome(run)] += 1
    if until - since > _YEAR:
        since = max(since, min(counted, default=until - _YEAR))
    day, days = since.replace(hour=0, minute=0, second=0, microsecond=0), []
    while day < until:
        days.append(Day(day, dict(counted.get(day, {}))))
        day += timedelta(days=1)
    return days


def _recurring(runs: Iterable[RunRow]) -> list[RecurringFix]:
    fixes: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        if run.status == "succeeded":
            fixes.setdefault((run.playbook, run.target), []).append(run.created)
    often = [(place, times) for place, times in fixes.items() if len(times) >= MIN_RECURRING]
    often.sort(key=lambda item: (-len(item[1]), item[0]))
    return [RecurringFix(*place, len(times), (times[-1] - times[0]) / 1e6 / (len(times) - 1)) for place, times in often]


def _ineffective(runs: Iterable[RunRow]) -> list[IneffectiveRemedy]:
    acted, missed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for run in runs:
        if run.first_action is not None and run.finished is not None:
            acted[run.playbook, run.target] += 1
            missed[run.playbook, run.target] += run.status in ("failed", "escalated")
    ordered = sorted((place for place in missed if missed[place]), key=lambda place: (-missed[place], place))
    return [IneffectiveRemedy(*place, acted[place], missed[place]) for place in ordered]


def as_data(report: Report) -> dict[str, Any]:
    """Return the report for ``--format json``: times in RFC 3339, durations in seconds."""
    data: dict[str, Any] = _to_json(asdict(report))
    for plain, item in zip(data["playbooks"], report.playbooks, strict=True):
        plain["speedup"] = item.speedup
    for name in ("guard_blocks", "actions", "alerts", "causes"):
        data[name] = [row._asdict() for row in getattr(report, name)]
    return {**data, "bins": list(BINS)}


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    return [_to_json(item) for item in value] if isinstance(value, list | tuple) else value
