"""The answers of the API about requests, stops, sessions and the audit log, as types of its OpenAPI document.

Times are RFC 3339 in UTC; spans of time are seconds.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from remediator.web.openapi import Time


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
    """Whether the plan of a request is still current; null if this is unknown."""

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


class AlertFields(TypedDict):
    """The data of an alert, or of the manual start of a run."""

    kind: Literal["alert", "manual"]
    alertname: str
    source: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    started_at: Time


class Episode(AlertFields):
    """An open episode."""

    id: str


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
