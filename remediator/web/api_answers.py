"""The answers of the API, as types. The schemas in the OpenAPI document come from them.

Times are RFC 3339 in UTC; spans of time are seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


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


class Alert(TypedDict):
    """An alert of a run, or the manual start of it."""

    episode: str
    kind: Literal["alert", "manual"]
    alertname: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    started_at: Time
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
    """What a check or a diagnosis showed."""

    at: Time
    phase: str
    name: str
    status: str
    summary: str


class Event(TypedDict):
    """One event of a timeline; its kind is that of its audit entry."""

    time: Time
    kind: str
    text: str


class Comment(TypedDict):
    """What a person wrote about a run."""

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
    """What was done, in one sentence."""

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
    """Something about an incident that nobody was notified of."""

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


class ComparedLabel(TypedDict):
    """A label of an alert beside what the target is known by."""

    label: str
    alert: str
    service: str
    same: bool


class About(TypedDict):
    """Whether an alert is about the target."""

    relation: str
    text: str
    labels: list[ComparedLabel]
    any: str | None


class Call(TypedDict):
    """What a step would do."""

    summary: str


class ExplainedStep(TypedDict):
    """A step of the plan with its cost."""

    id: str
    call: Call
    cost: str
    losses: list[str]


class Verdict(TypedDict):
    """What a guard says now."""

    guard: str
    answer: Literal["allow", "block", "unknown"]
    reason: str
    text: str
    inputs: dict[str, Any]
    until: str | None


class Explanation(TypedDict):
    """What one playbook would do."""

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
    """What each playbook would do for an alert."""

    labels: dict[str, str]
    playbooks: list[Explanation]


class ApprovalRequest(TypedDict):
    """An approval request."""

    id: str
    run: str
    playbook: str
    target: str
    plan_hash: str
    step: str | None
    steps: list[str]
    calls: list[str]
    risks: list[str]
    why: str
    status: str
    groups: list[str]
    quorum: int
    requested_at: Time
    expires_at: Time
    decided_at: Time | None
    reason: str | None


class Decision(TypedDict):
    """The decision of one person."""

    person: str
    decision: str
    at: Time
    identified_by: str
    reason: str | None


class Validity(TypedDict):
    """Whether a request is still about what would be done; null if that is unknown."""

    valid: bool | None
    reason: str | None


class ApprovalDetails(ApprovalRequest):
    """An approval request with its decisions."""

    decisions: list[Decision]
    validity: Validity | None


class DecisionResult(TypedDict):
    """The outcome of a decision."""

    id: str
    status: str
    counted: bool
    by: str


class Refreshed(TypedDict):
    """Whether a request was replaced."""

    id: str
    status: str
    refreshed: bool
    by: str
    reason: str


class Stop(TypedDict):
    """An active stop."""

    id: str
    what: str
    scope: str
    name: str
    reason: str
    created_by: str
    created_at: Time
    expires_at: Time | None


class Released(TypedDict):
    """The stop that was released."""

    released: str


class Session(TypedDict):
    """A session of a person."""

    person: str
    how: str
    address: str
    started_at: Time
    used_at: Time
    expires_at: Time


class Ended(TypedDict):
    """How many sessions were ended."""

    ended: int


class Episode(TypedDict):
    """An open episode."""

    id: str
    kind: Literal["alert", "manual"]
    alertname: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    started_at: Time


class PlaybookParameter(TypedDict):
    """A parameter that a person can give when starting a run."""

    type: str
    required: bool
    description: str


class Playbook(TypedDict):
    """An active playbook."""

    name: str
    summary: str
    target: str
    mode: str
    version: str
    parameters: dict[str, PlaybookParameter]
    results: dict[str, int]


class ModeChanged(TypedDict):
    """The mode of a playbook before and after."""

    playbook: str
    before: str
    mode: str
    written: str


class MemoryEntry(TypedDict):
    """What is remembered of a release or a remedy."""

    id: str
    target: str
    kind: str
    subject: str
    name: str
    verdict: str
    reason: str
    run_id: str | None
    at: Time
    cleared_at: NotRequired[str | None]
    cleared_by: NotRequired[str | None]


class Service(TypedDict):
    """A service of the inventory."""

    name: str
    platform: str
    depends_on: list[str]
    needed_by: list[str]
    locked_by: str | None


class StopFile(TypedDict):
    """The file that stops everything."""

    path: str
    reason: str


class ChangedMode(TypedDict):
    """A mode that a person or a circuit breaker changed."""

    mode: str
    actor: str
    reason: str
    changed_at: Time


class OpenBreaker(TypedDict):
    """An open circuit breaker."""

    reason: str
    scope: str
    opened_at: Time


class OpenRequest(TypedDict):
    """An open approval request, in short."""

    id: str
    run: str
    playbook: str
    target: str
    expires_at: Time
    quorum: int
    approvals: int


class Watchdog(TypedDict):
    """When the Watchdog alert arrived, and what is wrong with it."""

    received_at: Time | None
    problem: str | None


class Replica(TypedDict):
    """A replica that runs."""

    id: str
    role: str
    version: str
    seen_at: Time


class Status(TypedDict):
    """What blocks actions now."""

    notification_problem: str
    stop_file: StopFile | None
    stops: list[Stop]
    autonomy: dict[str, ChangedMode]
    circuit_breakers: dict[str, OpenBreaker]
    requests: list[OpenRequest]
    watchdog: Watchdog
    replicas: list[Replica]
    runs: dict[str, int]
    degraded: dict[str, dict[str, str]]
    not_reloaded: dict[str, list[str]]


class Report(TypedDict, total=False):
    """The statistics of a period."""

    since: Time
    until: Time
    environment: str
    incidents: int
    outcomes: dict[str, int]
    acted: int
    recovery: dict[str, Any]
    playbooks: list[dict[str, Any]]
    days: list[dict[str, Any]]
    guard_blocks: list[dict[str, Any]]
    approvals: dict[str, Any]
    actions: list[dict[str, Any]]
    recurring: list[dict[str, Any]]
    ineffective: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    toil: dict[str, Any]
    stages: list[dict[str, Any]]
    causes: list[dict[str, Any]]
    bins: list[float]


class Promotion(TypedDict):
    """The evidence for raising the mode of one playbook."""

    playbook: str
    shadow: int
    would_act: int
    resolved: int
    resolved_after: float | None
    requested: int
    approved: int
    rejected: int
    expired: int
    decided_after: float | None
    acted: int
    healed: int
    not_healed: int
    blocked: dict[str, int]
    agreement: float | None
    advice: str
    text: list[str]


class AuditEntry(TypedDict):
    """An entry of the audit log."""

    actor: str
    data: dict[str, Any]
    episode: str | None
    hash: str
    kind: str
    plan_hash: str | None
    playbook: str | None
    playbook_hash: str | None
    prev: str
    reason: str | None
    run: str | None
    seq: int
    time: Time
    v: int


class DeadMessage(TypedDict):
    """A message that could not be delivered."""

    id: str
    channel: str
    kind: str
    run: str | None
    error: str | None
