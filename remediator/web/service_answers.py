"""The answers of the API about the service, its playbooks and its results, as types of its OpenAPI document.

Times are RFC 3339 in UTC; spans of time are seconds.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from remediator.web.decision_answers import Stop
from remediator.web.openapi import Time


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


class Service(TypedDict):
    """A service of the inventory."""

    name: str
    platform: str
    source: str
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
    """The time of the last Watchdog alert, and its problem."""

    received_at: Time | None
    problem: str | None


class Replica(TypedDict):
    """A replica that runs."""

    id: str
    role: str
    version: str
    seen_at: Time


class Status(TypedDict):
    """What blocks actions now, and the state of the service."""

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
