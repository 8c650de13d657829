"""The entries of the audit log: drafts, decoded entries, and stored entries with bytes and hash."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from msgspec import Raw, Struct, field

VERSION: Literal[1] = 1
"""Version of the entry format. Every entry contains it as ``v``."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

D = TypeVar("D")


class Kind(StrEnum):
    """The kinds of entries. The list is closed: add a new kind here and to the documentation."""

    NOTIFICATION_RECEIVED = "notification.received"
    NOTIFICATION_REJECTED = "notification.rejected"
    NOTIFICATION_REFUSED = "notification.refused"
    WATCHDOG_LOST = "watchdog.lost"
    WATCHDOG_RETURNED = "watchdog.returned"
    EPISODE_OPENED = "episode.opened"
    EPISODE_CONTINUED = "episode.continued"
    EPISODE_RESOLVED = "episode.resolved"
    EPISODE_RESOLVE_IGNORED = "episode.resolve_ignored"
    EPISODE_CLOSED = "episode.closed"
    RUN_MATCHED = "run.matched"
    RUN_PLANNED = "run.planned"
    RUN_TRANSITION = "run.transition"
    RUN_FENCED = "run.fenced"
    RUN_INEFFECTIVE = "run.ineffective"
    RUN_RELEASED = "run.released"
    GUARD_VERDICT = "guard.verdict"
    CIRCUIT_BREAKER_TRIPPED = "circuit_breaker.tripped"
    CIRCUIT_BREAKER_RESET = "circuit_breaker.reset"
    MEMORY_RECORDED = "memory.recorded"
    MEMORY_CLEARED = "memory.cleared"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_DECIDED = "approval.decided"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_VOID = "approval.void"
    ACTION_INTENDED = "action.intended"
    ACTION_OUTCOME = "action.outcome"
    ACTION_OBSERVED = "action.observed"
    ACTION_UNDONE = "action.undone"
    EVIDENCE = "evidence"
    VERIFICATION = "verification"
    CONFIG_LOADED = "config.loaded"
    CONFIG_REJECTED = "config.rejected"
    INCIDENT_NOTED = "incident.noted"
    OPERATOR_COMMAND = "operator.command"
    ACCESS_CHANGED = "access.changed"
    ACCESS_REFUSED = "access.refused"
    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    STOP_SET = "stop.set"
    STOP_CLEARED = "stop.cleared"
    MESSAGE_SENT = "message.sent"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_CHART = "message.chart"
    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    CHECKPOINT_SIGNED = "checkpoint.signed"
    CHECKPOINT_PUBLISHED = "checkpoint.published"
    CHECKPOINT_FAILED = "checkpoint.failed"
    ARCHIVE_SEALED = "archive.sealed"
    HISTORY_PRUNED = "history.pruned"


class Draft(Struct, frozen=True, gc=False):
    """An entry without a number. ``data`` may hold the types that :meth:`remediator.audit.canonical.Normalizer.value`
    accepts."""

    kind: Kind
    actor: str
    """Who acted: ``remediator/<replica>``, ``alertmanager``, ``user:<id>`` or ``link holder``."""
    run: str | None = None
    episode: str | None = None
    playbook: str | None = None
    playbook_hash: str | None = None
    plan_hash: str | None = None
    reason: str | None = None
    """Why: a reason code or a sentence."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """For example verdicts with their inputs, exact calls, outcomes, digests of evidence."""


class Written(Struct, Generic[D], frozen=True, forbid_unknown_fields=True, gc=False):
    """An entry as written. The fields are in the order of RFC 8785, so that encoding need not sort them."""

    actor: str
    data: D
    episode: str | None
    kind: str
    plan_hash: str | None
    playbook: str | None
    playbook_hash: str | None
    prev: str
    """Hash of the previous entry in hex; 64 zeros in the first entry."""
    reason: str | None
    run: str | None
    seq: int
    """Number of the entry, from 1, without gaps."""
    written: str = field(name="time")
    v: Literal[1]

    @property
    def time(self) -> datetime:
        """Return when the entry was written, by the clock of the store."""
        return datetime.fromisoformat(self.written)


Entry = Written[dict[str, Any]]
"""An entry with decoded data."""
Frame = Written[Raw]
"""An entry with data that is not decoded."""


class SealedEntry(Struct, frozen=True, gc=False):
    """A stored entry: its number, canonical bytes and hash.

    ``time``, ``kind``, ``run`` and ``episode`` repeat values of ``canonical`` for the indexes of the database.
    """

    seq: int
    time: datetime
    kind: str
    run: str | None
    episode: str | None
    canonical: bytes
    hash: bytes
    """SHA-256 over a zero byte and ``canonical``. It is both the link of the chain and the leaf hash of the tree."""
