"""The data of reports: runs, verdicts, approvals, actions and alerts of a period, read with the indexes on time.

Instants are integers here, in microseconds since the epoch: a report over a year reads a hundred thousand of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, and_, case, func, select, type_coerce

from remediator.core.approval import ApprovalStatus
from remediator.core.run import EpisodeKind
from remediator.storage.repositories import baselines
from remediator.storage.schema import approvals, attempts, episodes, evidence, run_episodes, runs, verdicts

MAX_DURATIONS = 2000
"""Number of alerts from before automatic remediation that are read, the latest first: enough for a distribution."""


class RunRow(NamedTuple):
    """A run of the period."""

    id: str
    playbook: str
    target: str
    mode: str
    status: str
    reason: str | None
    created: int
    first_action: int | None
    finished: int | None
    alert_started: int | None
    """When the first of its alerts began."""
    alert_over: int | None
    """When the last of its alerts was resolved; None while an alert fires."""
    approved: bool
    """Whether a person approved the run, or one of its steps."""


class GuardRefusal(NamedTuple):
    """How many runs a guard blocked for one reason."""

    guard: str
    reason: str | None
    answer: str
    runs: int


class ApprovalRow(NamedTuple):
    """An approval request."""

    playbook: str
    status: str
    requested: int
    decided: int | None


class Remedy(NamedTuple):
    """How often a playbook used a mutating action on a target, with the outcomes."""

    playbook: str
    target: str
    action: str
    attempts: int
    runs: int
    ok: int
    failed: int
    unknown: int


class AlertRow(NamedTuple):
    """An alert name over the period."""

    alertname: str
    episodes: int
    flaps: int
    with_run: int
    """Number of episodes with a run."""


class CauseRow(NamedTuple):
    """A likely cause, and in how many runs it was found."""

    cause: str
    runs: int


def causes_between(connection: Connection, since: datetime, until: datetime) -> list[CauseRow]:
    """Return the 20 most frequent likely causes of the runs created in the period, with the most frequent first."""
    count = func.count(evidence.c.run_id.distinct()).label("count")
    rows = connection.execute(
        select(runs.c.playbook, func.max(evidence.c.summary), count)
        .join(runs, runs.c.id == evidence.c.run_id)
        .where(_between(runs.c.created_at, since, until), evidence.c.phase == "conclude")
        .group_by(runs.c.playbook, evidence.c.name)  # the summary may contain measured values
        .order_by(count.desc(), runs.c.playbook, evidence.c.name)
        .limit(20)
    )
    return [CauseRow(f"{playbook}: {summary}", found) for playbook, summary, found in rows]


def newest_runs_begin_at(connection: Connection, count: int) -> datetime | None:
    """Return when the ``count``-th newest run began; None if there are fewer runs."""
    newest = select(runs.c.created_at).order_by(runs.c.created_at.desc(), runs.c.id.desc())
    return connection.execute(newest.offset(count - 1).limit(1)).scalar()


def _int(column: Column[Any] | ColumnElement[Any]) -> ColumnElement[Any]:
    return type_coerce(column, BigInteger)


def _between(column: Column[Any], since: datetime, until: datetime) -> ColumnElement[bool]:
    return and_(column >= since, column < until)


def runs_between(connection: Connection, since: datetime, until: datetime) -> list[RunRow]:
    """Return the runs created in the period, oldest first."""
    columns = (runs.c.id, runs.c.playbook, runs.c.target, runs.c.mode, runs.c.status, runs.c.reason)
    instants = (_int(runs.c.created_at), _int(runs.c.first_action_at), _int(runs.c.finished_at))
    chosen = _between(runs.c.created_at, since, until)
    joined = runs.join(run_episodes, run_episodes.c.run_id == runs.c.id).join(
        episodes, episodes.c.id == run_episodes.c.episode_id
    )
    firing = func.sum(case((episodes.c.resolved_at.is_(None), 1), else_=0))
    first, last = _int(func.min(episodes.c.started_at)), _int(func.max(episodes.c.resolved_at))
    alerts = connection.execute(
        select(runs.c.id, first, last, firing).select_from(joined).where(chosen).group_by(runs.c.id)
    )
    over = {run: (started, None if fires else resolved) for run, started, resolved, fires in alerts}
    approved = select(approvals.c.run_id).join(runs, runs.c.id == approvals.c.run_id)
    yes = set(connection.execute(approved.where(chosen, approvals.c.status == ApprovalStatus.APPROVED.value)).scalars())
    rows = connection.execute(select(*columns, *instants).where(chosen).order_by(runs.c.created_at, runs.c.id))
    return [RunRow._make((*row, *over.get(row[0], (None, None)), row[0] in yes)) for row in rows]


def refusals_between(connection: Connection, since: datetime, until: datetime) -> list[GuardRefusal]:
    """Return how many runs each guard blocked, and why; the most frequent first."""
    held = func.count(verdicts.c.run_id.distinct()).label("held")
    rows = connection.execute(
        select(verdicts.c.guard, verdicts.c.reason, verdicts.c.answer, held)
        .where(verdicts.c.answer.in_(("block", "unknown")), _between(verdicts.c.at, since, until))
        .group_by(verdicts.c.guard, verdicts.c.reason, verdicts.c.answer)
        .order_by(held.desc(), verdicts.c.guard, verdicts.c.reason)
    )
    return [GuardRefusal(*row) for row in rows]


def approvals_between(connection: Connection, since: datetime, until: datetime) -> list[ApprovalRow]:
    """Return the approval requests of runs created in the period."""
    rows = connection.execute(
        select(runs.c.playbook, approvals.c.status, _int(approvals.c.requested_at), _int(approvals.c.decided_at))
        .join(runs, runs.c.id == approvals.c.run_id)
        .where(_between(runs.c.created_at, since, until))
        .order_by(approvals.c.requested_at)
    )
    return [ApprovalRow(*row) for row in rows]


def remedies_between(connection: Connection, since: datetime, until: datetime) -> list[Remedy]:
    """Return the mutating actions of the period, the most frequent first; undos do not count."""
    begun = func.count().label("begun")
    key = (attempts.c.playbook, attempts.c.target, attempts.c.action)
    outcomes = [func.sum(case((attempts.c.outcome == word, 1), else_=0)) for word in ("ok", "failed", "unknown")]
    rows = connection.execute(
        select(*key, begun, func.count(attempts.c.run_id.distinct()), *outcomes)
        .where(attempts.c.mutates, ~attempts.c.is_undo, _between(attempts.c.intent_at, since, until))
        .group_by(*key)
        .order_by(begun.desc(), *key)
    )
    return [Remedy(*row) for row in rows]


def alerts_between(connection: Connection, since: datetime, until: datetime) -> list[AlertRow]:
    """Return the names of the alerts that began in the period, the most frequent first."""
    answered = select(run_episodes.c.episode_id).where(run_episodes.c.episode_id == episodes.c.id).exists()
    count = func.count().label("count")
    with_run = func.sum(case((answered, 1), else_=0))
    rows = connection.execute(
        select(episodes.c.alertname, count, func.sum(episodes.c.flaps), with_run)
        .where(_between(episodes.c.started_at, since, until), episodes.c.kind == EpisodeKind.ALERT.value)
        .group_by(episodes.c.alertname)
        .order_by(count.desc(), episodes.c.alertname)
    )
    return [AlertRow(*row) for row in rows]


def automatic_since(connection: Connection) -> dict[str, datetime]:
    """Return when each playbook first acted automatically; a playbook that never did is missing."""
    first = func.min(runs.c.first_action_at)
    found = connection.execute(
        select(runs.c.playbook, first)
        .where(runs.c.mode == "auto", runs.c.first_action_at.is_not(None))
        .group_by(runs.c.playbook)
    )
    here = {playbook: at for playbook, at in found}
    gone = baselines.automatic_since(connection)
    return {name: min(at for at in (here.get(name), gone.get(name)) if at) for name in here.keys() | gone.keys()}


def alertnames_of(connection: Connection, playbook: str, since: datetime, until: datetime) -> list[str]:
    """Return the alert names of this playbook's runs in the period."""
    statement = (
        select(episodes.c.alertname)
        .distinct()
        .join(run_episodes, run_episodes.c.episode_id == episodes.c.id)
        .join(runs, runs.c.id == run_episodes.c.run_id)
        .where(runs.c.playbook == playbook, _between(runs.c.created_at, since, until))
    )
    return sorted(connection.execute(statement).scalars())


def durations_before(connection: Connection, alertnames: Sequence[str], until: datetime) -> list[float]:
    """Return how long, in seconds, alerts of these names lasted that began before ``until``, newest first.

    Alerts on which a playbook acted automatically do not count, because the first such alert also began before that
    action.
    """
    acted_on = (
        select(run_episodes.c.episode_id)
        .join(runs, runs.c.id == run_episodes.c.run_id)
        .where(run_episodes.c.episode_id == episodes.c.id, runs.c.mode == "auto", runs.c.first_action_at.is_not(None))
        .exists()
    )
    statement = (
        select(_int(episodes.c.started_at), _int(episodes.c.resolved_at))
        .where(episodes.c.started_at < until, episodes.c.alertname.in_(alertnames), episodes.c.resolved_at.is_not(None))
        .where(~acted_on)
        .order_by(episodes.c.started_at.desc())
        .limit(MAX_DURATIONS)
    )
    here = [(over - started) / 1e6 for started, over in connection.execute(statement)]
    return (here + baselines.list_durations(connection, alertnames, until))[:MAX_DURATIONS]
