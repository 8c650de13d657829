"""The state graph of a run: the stages of the pipeline and the steps of the plan, with states and durations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from remediator.core.run import Run, Status
from remediator.reporting.formatting import length
from remediator.reporting.request_text import sanitize
from remediator.reporting.run_timeline import Event, RunTimeline


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
    """Duration; None if the stage has not begun or not ended."""
    text: str = ""
    """The event, in a few words."""
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
    run, events = timeline.run, timeline.events
    over = run.finished_at
    planned = _first(events, "run.planned")
    asked = _first(events, "approval.requested")
    answers = [event.at for event in events if event.kind in ("approval.decided", "approval.expired")]
    decided = answers[-1] if answers else None
    acted = min((item.intent_at for item in timeline.attempts if not item.is_undo), default=None)
    done = max((item.outcome_at or over or now for item in timeline.attempts if not item.is_undo), default=None)
    guarded = asked or acted
    planned = planned or guarded  # the entry may be in the archive
    act = _stage(run, "act", acted, done, Status.RUNNING, Status.UNKNOWN_OUTCOME)
    state = NodeState.AHEAD if over is None else _END_STATES.get(run.status, NodeState.FAILED)
    total = None if over is None else (over - run.created_at).total_seconds()
    return (
        _stage(run, "plan", run.created_at, planned or over, Status.MATCHED),
        _stage(run, "guard", planned, guarded or over, Status.PLANNED, Status.BLOCKED),
        _stage(run, "approve", asked, decided or over, Status.AWAITING_APPROVAL),
        replace(act, steps=tuple(_steps(timeline, now))),
        _stage(run, "verify", done, over, Status.VERIFYING),
        Node("result", state, over, total, "" if over is None else run.status.value),
    )


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
        text = f"attempt {last.number}, " if len(tried) > 1 else ""
        if last.outcome is None:
            text += f"running for {length((now - last.intent_at).total_seconds())}"
        else:
            text = sanitize(f"{text}{last.outcome}: {(last.result or {}).get('summary', '')}".rstrip(": "), 200)
        yield Node(step.title, state, tried[0].intent_at, seconds, text)


def _first(events: Sequence[Event], kind: str) -> datetime | None:
    return next((event.at for event in events if event.kind == kind), None)
