"""The answers of the API about runs, incidents and alerts, as types of its OpenAPI document.

Times are RFC 3339 in UTC; spans of time are seconds.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from remediator.playbooks.target_identity import Side
from remediator.web.decision_answers import AlertFields
from remediator.web.openapi import Time


class RunSummary(TypedDict):
    """A run in a list."""

    id: str
    incident: str
    status: str
    reason: str | None
    detail: dict[str, Any]
    blocked_by: str | None
    playbook: str
    target: str
    mode: str
    plan_hash: str | None
    holds_target: bool
    created_at: Time
    updated_at: Time
    first_action_at: Time | None
    finished_at: Time | None


class Alert(AlertFields):
    """An alert of a run, or the manual start of it."""

    episode: str
    resolved_at: Time | None


class Attempt(TypedDict):
    """One attempt of a step, or of its undo."""

    id: str
    step: str
    number: int
    action: str
    call: dict[str, Any]
    outcome: str | None
    intent_at: Time
    outcome_at: Time | None
    result: dict[str, Any] | None


class Evidence(TypedDict):
    """The result of a check or a diagnosis."""

    at: Time
    phase: str
    name: str
    status: str
    summary: str


class Event(TypedDict):
    """One event of a timeline; its kind is the kind of its audit entry."""

    time: Time
    kind: str
    text: str


class Comment(TypedDict):
    """A comment of a person about a run."""

    id: str
    run: str
    kind: Literal["comment", "acknowledgement"]
    person: str
    at: Time
    text: str


class UndoableStep(TypedDict):
    """A step that can be undone, or is being undone."""

    step: str
    how: str


class Section(TypedDict):
    """A heading with its lines, as people read it. Exact lines are shown unchanged."""

    heading: str
    lines: list[str]
    exact: bool


class Run(RunSummary):
    """A run with its timeline."""

    alerts: list[Alert]
    steps: list[Attempt]
    plan: dict[str, Any] | None
    evidence: list[Evidence]
    comments: list[Comment]
    undoable: list[UndoableStep]
    timeline: list[Event]
    sections: list[Section]
    request: str | None
    """ID of the open approval request."""
    url: str
    complete: bool
    """False if entries of the run are only in the archive of the audit log."""


class UndoRequested(TypedDict):
    """The steps that are being undone, in this order."""

    run: str
    steps: list[UndoableStep]


class Result(TypedDict):
    """The effect, in one sentence."""

    result: str


class IncidentRun(TypedDict):
    """A run of an incident."""

    id: str
    playbook: str
    target: str
    status: str
    reason: str | None
    created_at: Time
    alerts: list[str]
    fires: bool
    line: str
    acknowledged_by: str | None


class Note(TypedDict):
    """A note about an incident that notified no person."""

    run: str
    at: Time
    text: str


class Incident(TypedDict):
    """The runs whose alerts belong together."""

    id: str
    began_at: Time
    over: bool
    severity: str
    causes: list[str]
    runs: list[IncidentRun]
    notes: list[Note]


class About(TypedDict):
    """Whether an alert is about the target."""

    relation: str
    text: str
    labels: list[Side]
    any: str | None


class Call(TypedDict):
    """The planned call of a step."""

    summary: str


class ExplainedStep(TypedDict):
    """A step of the plan with its cost."""

    id: str
    call: Call
    cost: str
    losses: list[str]


class Verdict(TypedDict):
    """The current answer of a guard."""

    guard: str
    answer: Literal["allow", "block", "unknown"]
    reason: str
    text: str
    inputs: dict[str, Any]
    until: str | None


class Explanation(TypedDict):
    """The explanation of one playbook."""

    playbook: str
    matches: bool
    missing: list[str]
    target: str
    mode: str
    about: About | None
    plan: dict[str, Any] | None
    steps: list[ExplainedStep]
    error: str
    guards: list[Verdict]
    next_step: str


class ExplainedAlert(TypedDict):
    """The explanation of every playbook for an alert."""

    labels: dict[str, str]
    playbooks: list[Explanation]
