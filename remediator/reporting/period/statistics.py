"""A period's figures: what became of its incidents, how long they took, what it says about causes. As data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.core.clock import from_micros, rfc3339
from remediator.core.run import OPEN
from remediator.storage.repositories import reports
from remediator.storage.repositories.reports import AlertRow, ApprovalRow, GuardRefusal, Remedy, RunRow

OUTCOMES: Mapping[str, str] = {
    "healed": "healed without a person",
    "helped": "healed after a person approved",
    "by_itself": "over without any action",
    "said": "only said what it would do",
    "refused": "held by a guard",
    "waiting": "under way or waiting",
    "declined": "rejected or not answered",
    "cancelled": "cancelled by a person",
    "failed": "failed",
    "escalated": "escalated to people",
}
"""What can have become of an incident, and how it reads; every incident is counted once."""

BINS = (10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
"""Upper ends of the histograms' columns, in seconds; the last column is everything longer."""

OFTEN = 3
"""Healed so often in the period, one place's fault is no accident any more."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of durations in seconds."""

    count: int
    median: float | None
    p90: float | None
    longest: float | None
    bins: tuple[int, ...]
    """How many fall into each column of :data:`BINS`, and beyond."""

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        """Of these durations; those of less than nothing (clocks that were set back) count as nothing."""
        ordered = sorted(max(0.0, value) for value in seconds)
        bins = [0] * (len(BINS) + 1)
        for value in ordered:
            bins[next((place for place, end in enumerate(BINS) if value <= end), len(BINS))] += 1
        longest = ordered[-1] if ordered else None
        return cls(len(ordered), _quantile(ordered, 0.5), _quantile(ordered, 0.9), longest, tuple(bins))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that so large a share does not exceed: always one that was really measured."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How long one playbook's alerts last, now and before it acted by itself."""

    playbook: str
    incidents: int
    outcomes: Mapping[str, int]
    proved: Spread
    """From the alert's arrival to the proof that it is healed, of the healed ones."""
    alert: Spread
    """How long the alerts of the healed ones lasted, until Alertmanager called them resolved."""
    before: Spread
    """How long alerts of the same names lasted before the first automatic action."""
    before_from: str
    """Where ``before`` comes from: ``records``, ``prometheus`` or ``none``."""
    automatic_since: datetime | None

    @property
    def speedup(self) -> float | None:
        """How many times as long the alerts lasted before, in the middle."""
        if not self.before.median or not self.alert.median:
            return None
        return self.before.median / self.alert.median


@dataclass(frozen=True, slots=True)
class Recurring:
    """A target that one playbook heals again and again."""

    playbook: str
    target: str
    healed: int
    every: float | None
    """Mean seconds from one to the next."""


@dataclass(frozen=True, slots=True)
class Ineffective:
    """A remedy that was tried and often did not heal."""

    playbook: str
    target: str
    acted: int
    not_healed: int


@dataclass(frozen=True, slots=True)
class Day:
    """One day's incidents by outcome."""

    start: datetime
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Approvals:
    """The questions to people."""

    asked: int
    by_status: Mapping[str, int]
    latency: Spread
    """From the question to the decision, of those that a person decided."""


@dataclass(frozen=True, slots=True)
class Toil:
    """What people did not have to do."""

    incidents: int
    minutes_each: float
    minutes: float
    assumption: str


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one period."""

    since: datetime
    until: datetime
    environment: str
    incidents: int
    outcomes: Mapping[str, int]
    acted: int
    proved: Spread
    playbooks: Sequence[Comparison]
    days: Sequence[Day]
    refusals: Sequence[GuardRefusal]
    approvals: Approvals
    remedies: Sequence[Remedy]
    recurring: Sequence[Recurring]
    ineffective: Sequence[Ineffective]
    alerts: Sequence[AlertRow]
    toil: Toil


Lasted = Callable[[Sequence[str], datetime], Sequence[float]]
"""How long alerts of these names lasted before an instant, where the records do not reach that far back."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report shall be about."""

    since: datetime
    until: datetime
    environment: str
    minutes: float
    """A person's minutes that one incident takes: an assumption, stated in the report."""
    history: Lasted | None = None
    """Prometheus, if it can be asked."""


FEW = 5
"""With fewer alerts than this from before, Prometheus is asked too."""


def gather(connection: Connection, asked: Asked) -> Report:
    """Count a period."""
    since, until = asked.since, asked.until
    found = reports.runs_between(connection, since, until)
    outcomes = Counter(outcome(run) for run in found)
    saved = outcomes["healed"]
    return Report(
        since=since,
        until=until,
        environment=asked.environment,
        incidents=len(found),
        outcomes={name: outcomes[name] for name in OUTCOMES},
        acted=sum(run.first_action is not None for run in found),
        proved=_proved(found),
        playbooks=_compared(connection, asked, found),
        days=_days(found, since, until),
        refusals=reports.refusals_between(connection, since, until),
        approvals=_approvals(reports.approvals_between(connection, since, until)),
        remedies=reports.remedies_between(connection, since, until),
        recurring=_recurring(found),
        ineffective=_ineffective(found),
        alerts=reports.alerts_between(connection, since, until),
        toil=Toil(saved, asked.minutes, saved * asked.minutes, _assumption(asked.minutes)),
    )


def _assumption(minutes: float) -> str:
    return (
        f"Assumes that an incident which nobody had to touch would have cost a person {minutes:g} minutes: being "
        "called, finding the way in, diagnosing, acting, looking whether it helped. Incidents that a person approved, "
        "or that were over by themselves, count nothing."
    )


def outcome(run: RunRow) -> str:
    """What became of a run: one of :data:`OUTCOMES`."""
    reason = run.reason or ""
    if run.status == "succeeded":
        return "helped" if run.approved else "healed"
    if reason in ("observe", "shadow") or run.mode in ("observe", "shadow"):
        return "said"
    if reason == "resolved":
        return "by_itself"
    if reason in ("rejected", "approval_expired"):
        return "declined"
    if run.status == "blocked":
        return "refused"
    if run.status in ("cancelled", "failed", "escalated"):
        return run.status
    return "waiting" if run.status in OPEN else "escalated"


def _healed(found: Iterable[RunRow]) -> list[RunRow]:
    return [run for run in found if run.status == "succeeded"]


def _proved(found: Iterable[RunRow]) -> Spread:
    return Spread.of(
        (run.finished - (run.created if run.alert_started is None else run.alert_started)) / 1e6
        for run in _healed(found)
        if run.finished is not None
    )


def _compared(connection: Connection, asked: Asked, found: Sequence[RunRow]) -> list[Comparison]:
    begun = reports.automatic_since(connection)
    grouped: dict[str, list[RunRow]] = {}
    for run in found:
        grouped.setdefault(run.playbook, []).append(run)
    ordered = sorted(grouped, key=lambda name: (-len(grouped[name]), name))
    return [_comparison(connection, asked, name, grouped[name], begun.get(name)) for name in ordered]


def _comparison(
    connection: Connection, asked: Asked, playbook: str, found: Sequence[RunRow], begun: datetime | None
) -> Comparison:
    source, before = _before(connection, asked, playbook, begun)
    return Comparison(
        playbook=playbook,
        incidents=len(found),
        outcomes=dict(Counter(outcome(run) for run in found)),
        proved=_proved(found),
        alert=Spread.of(
            (run.alert_over - run.alert_started) / 1e6
            for run in _healed(found)
            if run.alert_over is not None and run.alert_started is not None
        ),
        before=Spread.of(before),
        before_from=source,
        automatic_since=begun,
    )


def _before(connection: Connection, asked: Asked, playbook: str, begun: datetime | None) -> tuple[str, Sequence[float]]:
    names = reports.alertnames_of(connection, playbook, asked.since, asked.until)
    until = begun or asked.until
    own = reports.durations_before(connection, names, until) if names else []
    if len(own) < FEW and names and asked.history is not None:
        told = asked.history(names, until)
        if len(told) > len(own):
            return "prometheus", told
    return ("records" if own else "none"), own


def _days(found: Iterable[RunRow], since: datetime, until: datetime) -> list[Day]:
    """Every day of the period, also those without incidents; days are UTC."""
    counted: dict[datetime, Counter[str]] = {}
    for run in found:
        day = from_micros(run.created).replace(hour=0, minute=0, second=0, microsecond=0)
        counted.setdefault(day, Counter())[outcome(run)] += 1
    day, days = since.replace(hour=0, minute=0, second=0, microsecond=0), []
    while day < until:
        days.append(Day(day, dict(counted.get(day, {}))))
        day += timedelta(days=1)
    return days


def _approvals(found: Sequence[ApprovalRow]) -> Approvals:
    decided = [item for item in found if item.status in ("approved", "rejected") and item.decided is not None]
    latency = Spread.of((item.decided - item.requested) / 1e6 for item in decided if item.decided is not None)
    return Approvals(len(found), dict(sorted(Counter(item.status for item in found).items())), latency)


def _recurring(found: Iterable[RunRow]) -> list[Recurring]:
    places: dict[tuple[str, str], list[int]] = {}
    for run in _healed(found):
        places.setdefault((run.playbook, run.target), []).append(run.created)
    often = [(place, at) for place, at in places.items() if len(at) >= OFTEN]
    often.sort(key=lambda item: (-len(item[1]), item[0]))
    return [Recurring(*place, len(at), (at[-1] - at[0]) / 1e6 / (len(at) - 1)) for place, at in often]


def _ineffective(found: Iterable[RunRow]) -> list[Ineffective]:
    acted, missed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for run in found:
        if run.first_action is not None and run.finished is not None:
            acted[run.playbook, run.target] += 1
            missed[run.playbook, run.target] += run.status in ("failed", "escalated")
    ordered = sorted((place for place in missed if missed[place]), key=lambda place: (-missed[place], place))
    return [Ineffective(*place, acted[place], missed[place]) for place in ordered]


def as_data(report: Report) -> dict[str, Any]:
    """For ``--format json``: instants in RFC 3339, durations in seconds."""
    data: dict[str, Any] = _plain(asdict(report))
    for plain, item in zip(data["playbooks"], report.playbooks, strict=True):
        plain["speedup"] = item.speedup
    for name in ("refusals", "remedies", "alerts"):
        data[name] = [row._asdict() for row in getattr(report, name)]
    return {**data, "bins": list(BINS)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
