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
    """A notification was processed: its alerts, and how many were new."""
    NOTIFICATION_REJECTED = "notification.rejected"
    """An alert could not be processed and was dead-lettered."""
    NOTIFICATION_REFUSED = "notification.refused"
    """The webhook refused a request because of its credentials, its content or its length."""
    WATCHDOG_LOST = "watchdog.lost"
    """The Watchdog alert did not arrive in time, or does not fire."""
    WATCHDOG_RETURNED = "watchdog.returned"
    """The Watchdog alert arrives again."""
    EPISODE_OPENED = "episode.opened"
    """An alert began to fire, or a person started a run."""
    EPISODE_CONTINUED = "episode.continued"
    """An alert fired again before the time of resolve_grace was over."""
    EPISODE_RESOLVED = "episode.resolved"
    """An alert was resolved; the episode closes after resolve_grace."""
    EPISODE_RESOLVE_IGNORED = "episode.resolve_ignored"
    """A resolved alert ended before the known firing began, so its episode stays open."""
    EPISODE_CLOSED = "episode.closed"
    """The time of resolve_grace is over, so the next firing starts a new episode; or a manually started run ended."""
    RUN_MATCHED = "run.matched"
    """A run was created for a playbook and a target."""
    RUN_PLANNED = "run.planned"
    """A plan was made: every call, with the values of this run."""
    RUN_TRANSITION = "run.transition"
    """A run changed its status."""
    RUN_FENCED = "run.fenced"
    """A replica that had lost its claim reported an outcome; the outcome was recorded and changed nothing."""
    RUN_INEFFECTIVE = "run.ineffective"
    """The alert fires on after a successful run."""
    RUN_COMMENTED = "run.commented"
    """A person wrote a comment about a run."""
    RUN_ACKNOWLEDGED = "run.acknowledged"
    """A person takes care of a run."""
    RUN_RELEASED = "run.released"
    """A person released the target lock of an ended run."""
    GUARD_VERDICT = "guard.verdict"
    """A guard answered allow, block or unknown."""
    CIRCUIT_BREAKER_TRIPPED = "circuit_breaker.tripped"
    """A circuit breaker opened, so the playbook no longer acts automatically."""
    CIRCUIT_BREAKER_RESET = "circuit_breaker.reset"
    """A person closed a circuit breaker."""
    MEMORY_RECORDED = "memory.recorded"
    """The result of an ended run was recorded, for later runs on the same target."""
    MEMORY_CLEARED = "memory.cleared"
    """A person cleared recorded results, so that later runs ignore them."""
    APPROVAL_REQUESTED = "approval.requested"
    """People were asked to approve a plan."""
    APPROVAL_DECIDED = "approval.decided"
    """A person approved, rejected or snoozed a request."""
    APPROVAL_EXPIRED = "approval.expired"
    """Nobody decided in time."""
    APPROVAL_VOID = "approval.void"
    """A request became outdated, for example because the plan changed."""
    ACTION_INTENDED = "action.intended"
    """An action is about to start. This entry is durable before the call."""
    ACTION_OUTCOME = "action.outcome"
    """The outcome of a step: ok, failed, unknown or skipped."""
    ACTION_OBSERVED = "action.observed"
    """The target was observed after an outcome that was unknown."""
    ACTION_UNDONE = "action.undone"
    """The outcome of an undo."""
    EVIDENCE = "evidence"
    """The result of a check, of a diagnosis or of a conclusion."""
    VERIFICATION = "verification"
    """Whether the checks proved that the target is healthy."""
    CONFIG_LOADED = "config.loaded"
    """Playbooks and inventory were loaded, with the version of each playbook."""
    CONFIG_REJECTED = "config.rejected"
    """Changed files have errors; the last valid version stays active."""
    DISCOVERY_CHANGED = "discovery.changed"
    """A lookup found other targets than the previous lookup: the added, removed, changed and skipped services."""
    DISCOVERY_REFUSED = "discovery.refused"
    """A lookup failed or exceeded a limit; the last good targets stay."""
    INCIDENT_NOTED = "incident.noted"
    """A note was added to an incident; the note notifies no person."""
    OPERATOR_COMMAND = "operator.command"
    """A person did something with a command, the console or the API."""
    ACCESS_CHANGED = "access.changed"
    """The rules of access changed, for example the people file."""
    ACCESS_REFUSED = "access.refused"
    """A sign-in or a decision was refused."""
    SESSION_STARTED = "session.started"
    """A person signed in to the console."""
    SESSION_ENDED = "session.ended"
    """A session ended."""
    STOP_SET = "stop.set"
    """A person created a stop."""
    STOP_CLEARED = "stop.cleared"
    """A stop was released."""
    MESSAGE_SENT = "message.sent"
    """A message was delivered."""
    MESSAGE_FAILED = "message.failed"
    """A message could not be delivered."""
    MESSAGE_CHART = "message.chart"
    """A chart could not be added to a message."""
    SERVICE_STARTED = "service.started"
    """A replica started."""
    STORE_REPLACED = "store.replaced"
    """The database replaced another database: a failover, or a restored backup. Commits may be missing."""
    CHECKPOINT_SIGNED = "checkpoint.signed"
    """A checkpoint of the audit log was signed."""
    CHECKPOINT_PUBLISHED = "checkpoint.published"
    """A witness stored a checkpoint."""
    CHECKPOINT_FAILED = "checkpoint.failed"
    """A witness could not store a checkpoint."""
    ARCHIVE_SEALED = "archive.sealed"
    """Old entries were moved to an archive file."""
    HISTORY_PRUNED = "history.pruned"
    """Rows older than run_retention were deleted."""


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
    """An entry as written. The fields are in the order of RFC 8785, so the encoder does not sort them."""

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
