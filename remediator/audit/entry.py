"""What one entry of the audit log says, and the bytes that it is hashed as."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from msgspec import Raw, Struct, field

VERSION: Literal[1] = 1
"""Of the entry's form; written into every entry as ``v``."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

D = TypeVar("D")


class Kind(StrEnum):
    """Everything that an entry can be about. The list is closed; a new kind is added here, and documented."""

    NOTIFICATION_RECEIVED = "notification.received"
    NOTIFICATION_REJECTED = "notification.rejected"
    WATCHDOG_LOST = "watchdog.lost"
    WATCHDOG_RETURNED = "watchdog.returned"
    EPISODE_OPENED = "episode.opened"
    EPISODE_CONTINUED = "episode.continued"
    EPISODE_RESOLVED = "episode.resolved"
    EPISODE_CLOSED = "episode.closed"
    RUN_MATCHED = "run.matched"
    RUN_PLANNED = "run.planned"
    RUN_TRANSITION = "run.transition"
    RUN_FENCED = "run.fenced"
    RUN_INEFFECTIVE = "run.ineffective"
    RUN_RELEASED = "run.released"
    GUARD_VERDICT = "guard.verdict"
    BREAKER_TRIPPED = "breaker.tripped"
    BREAKER_RESET = "breaker.reset"
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
    OPERATOR_COMMAND = "operator.command"
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
    """An entry that is not yet numbered. ``data`` may hold what :class:`remediator.audit.canonical.Plain` takes."""

    kind: Kind
    actor: str
    """Who: ``remediator/<replica>``, ``alertmanager``, ``user:<id>``, ``link holder``."""
    run: str | None = None
    episode: str | None = None
    playbook: str | None = None
    playbook_hash: str | None = None
    plan_hash: str | None = None
    reason: str | None = None
    """Why, as one of the closed reasons or a sentence."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Verdicts with their inputs, exact calls, outcomes, digests of evidence."""


class Written(Struct, Generic[D], frozen=True, forbid_unknown_fields=True, gc=False):
    """An entry as it is written. The fields stand in RFC 8785's order, so that encoding need not sort them."""

    actor: str
    data: D
    episode: str | None
    kind: str
    plan_hash: str | None
    playbook: str | None
    playbook_hash: str | None
    prev: str
    """Hash of the entry before, in hex; 64 zeros in the first."""
    reason: str | None
    run: str | None
    seq: int
    """1 for the first; no number is ever missing."""
    written: str = field(name="time")
    v: Literal[1]

    @property
    def time(self) -> datetime:
        """When it was written, by the store's clock."""
        return datetime.fromisoformat(self.written)


Entry = Written[dict[str, Any]]
"""An entry with all that it says."""
Frame = Written[Raw]
"""An entry whose data is only passed over."""


class SealedEntry(Struct, frozen=True, gc=False):
    """An entry with its number, its bytes and its hash: what is stored, and what is verified.

    ``time``, ``kind``, ``run`` and ``episode`` repeat what ``canonical`` says, for the database's indexes.
    """

    seq: int
    time: datetime
    kind: str
    run: str | None
    episode: str | None
    canonical: bytes
    hash: bytes
    """SHA-256 over a zero byte and ``canonical``: the link of the chain and the leaf of the tree at once."""
