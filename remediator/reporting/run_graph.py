"""The state graph of a run: the stages of the pipeline and the steps of the plan, with states and durations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from remediator.core.run import Run, Status
from remediator.reporting.formatting import length
from remediator.reporting.request_text import sanitize
from remediator.reporting.run_timeline import Event, RunTimeline
from remediator.storage.repositories.attempts import Attempt


class NodeState(StrEnum):
    """The state of a stage or step."""

    DONE = "done"
    NOW = "now"
    WAITING = "waiting"
    FAILED = "failed"
    SKIPPED = "not needed"
    AHEAD = "not reached"


@dataclass(frozen=True, slots=True)
class Node:
    """A stage of the pipeline, or a step or an attempt of the plan."""

    name: str
    state: NodeState
    began_at: datetime | None = None
    seconds: float | None = None
    """How long it took; None if it has not begun or goes on."""
    text: str = ""
    """What happened, in a few words."""
    steps: tuple[Node, ...] = ()

    @property
    def duration(self) -> str:
        """Return the duration as text; empty if it has not ended."""
        return "" if self.seconds is None else length(self.seconds)


_OUTCOME_STATES = {"ok": NodeState.DONE, "failed": NodeState.FAILED, "unknown": NodeState.FAILED}
_END_STATES = {Status.SUCCEEDED: NodeState.DONE, Status.CANCELLED: NodeState.SKIPPED}


def run_graph(timeline: RunTimeline, now: datetime) -> tuple[Node, ...]:
    """Return the stages of a run, in the order of the pipeline.

    Args:
        timeline: the run with its events.
        now: the current time.
    """
    return tuple(_stages(timeline, now))


def _stages(timeline: RunTimeline, now: datetime) -> Iterator[Node]:
    run, events = timeline.run, timeline.events
    end = run.finished_at or now
    planned = _first(events, "run.planned")
    asked, decided = _first(events, "approval.requested"), _last(events, "approval.decided", "approval.expired")
    acted = min((item.intent_at for item in timeline.attempts if not item.is_undo), default=None)
    done = max((item.outcome_at or end for item in timeline.attempts if not item.is_undo), default=None)
    guarded = asked or acted
    planned = planned or guarded  # its entry may be in the archive
    yield _stage(run, "plan", run.created_at, planned or (end if run.finished_at else None), Status.MATCHED)
    yield _stage(run, "guard", planned, guarded or (end if run.finished_at else None), Status.PLANNED, Status.BLOCKED)
    yield _stage(run, "approve", asked, decided or (end if run.finished_at else None), Status.AWAITING_APPROVAL)
    act = _stage(run, "act", acted, done, Status.RUNNING, Status.UNKNOWN_OUTCOME)
    yield Node(act.name, act.state, act.began_at, act.seconds, act.text, tuple(_steps(timeline, now)))
    yield _stage(run, "verify", done, end if run.finished_at else None, Status.VERIFYING)
    state = NodeState.AHEAD if run.finished_at is None else _END_STATES.get(run.status, NodeState.FAILED)
    total = None if run.finished_at is None else (run.finished_at - run.created_at).total_seconds()
    yield Node("result", state, run.finished_at, total, "" if run.finished_at is None else run.status.value)


_WAITING = (Status.BLOCKED, Status.AWAITING_APPROVAL)


def _stage(run: Run, name: str, began: datetime | None, ended: datetime | None, *statuses: Status) -> Node:
    if run.status in statuses:
        state = NodeState.WAITING if run.status in _WAITING else NodeState.NOW
        return Node(name, state, began or run.updated_at, None, sanitize(run.detail.summary, 200))
    if began is None:
        return Node(name, NodeState.SKIPPED if run.finished_at is not None else NodeState.AHEAD)
    seconds = None if ended is None else max(0.0, (ended - began).total_seconds())
    return Node(name, NodeState.DONE, began, seconds)


def _steps(timeline: RunTimeline, now: datetime) -> Iterator[Node]:
    run = timeline.run
    if run.plan is None:
        return
    for step in run.plan.steps:
        tried = [item for item in timeline.attempts if item.step == step.id]
        if not tried:
            yield Node(step.title, NodeState.SKIPPED if run.finished_at is not None else NodeState.AHEAD)
            continue
        last = tried[-1]
        seconds = None if last.outcome_at is None else (last.outcome_at - tried[0].intent_at).total_seconds()
        state = NodeState.NOW if last.outcome is None else _OUTCOME_STATES.get(last.outcome, NodeState.DONE)
        yield Node(step.title, state, tried[0].intent_at, seconds, _said(tried, now))


def _said(tried: Sequence[Attempt], now: datetime) -> str:
    last = tried[-1]
    many = f"attempt {last.number}, " if len(tried) > 1 else ""
    if last.outcome is None:
        return f"{many}running for {length((now - last.intent_at).total_seconds())}"
    return sanitize(f"{many}{last.outcome}: {(last.result or {}).get('summary', '')}".rstrip(": "), 200)


def _first(events: Sequence[Event], kind: str) -> datetime | None:
    return next((event.at for event in events if event.kind == kind), None)


def _last(events: Sequence[Event], *kinds: str) -> datetime | None:
    return next((event.at for event in reversed(events) if event.kind in kinds), None)
