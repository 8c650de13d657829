"""The expected indexes of the migrations, for the comparison in ``test_migrations``.

They are not part of ``storage/schema.py``, because the options of PostgreSQL load its whole dialect, which takes 80 ms
and 6 MB that a start on SQLite does not need.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text

from remediator.core.run import OPEN
from remediator.storage.schema import (
    approvals,
    attempts,
    audit,
    comments,
    episodes,
    evidence,
    incident_notes,
    messages,
    notifications,
    remedy_memory,
    run_episodes,
    runs,
    sessions,
    stops,
    timers,
    verdicts,
)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _true(column: str) -> dict[str, Any]:
    """Return the condition in SQLAlchemy's form: SQLite uses a partial index only if the query repeats its
    condition."""
    return {"sqlite_where": text(f"{column} = 1"), "postgresql_where": text(column)}


_OPEN_STATUSES = ", ".join(f"'{status}'" for status in sorted(OPEN))

Index("ix_notifications_pending", notifications.c.id, **_where("processed_at IS NULL"))
Index("ix_notifications_received_at", notifications.c.received_at)
Index("uq_episodes_open_identity", episodes.c.identity, unique=True, **_where("status <> 'closed'"))
Index("ix_episodes_closes_at", episodes.c.closes_at, **_where("status = 'resolved'"))
Index("ix_episodes_open", episodes.c.started_at, **_where("status <> 'closed'"))
Index("ix_episodes_alertname_started_at", episodes.c.alertname, episodes.c.started_at)
Index("ix_episodes_started_at", episodes.c.started_at)
# For the promises: one run per incident, and at most one run with the lock of a target.
Index("uq_runs_incident", runs.c.playbook, runs.c.target, unique=True, **_true("incident_open"))
Index("uq_runs_target_lock", runs.c.target, unique=True, **_true("holds_target"))
Index("ix_runs_due", runs.c.wake_at, **_where("wake_at IS NOT NULL"))
Index("ix_runs_open", runs.c.created_at, **_where(f"status IN ({_OPEN_STATUSES})"))
Index("ix_runs_created_at", runs.c.created_at)
Index("ix_runs_playbook_target_created_at", runs.c.playbook, runs.c.target, runs.c.created_at)
Index("ix_runs_playbook_created_at", runs.c.playbook, runs.c.created_at)
Index("ix_runs_status_created_at", runs.c.status, runs.c.created_at)
Index("ix_runs_target_created_at", runs.c.target, runs.c.created_at)
Index("ix_runs_severity_created_at", runs.c.severity, runs.c.created_at)
Index("ix_runs_blocked_by", runs.c.blocked_by, runs.c.wake_at, **_where("status = 'blocked'"))
Index("ix_runs_blocked_by_run", runs.c.blocked_by_run, **_where("blocked_by_run IS NOT NULL"))
# For the guards ramp and circuit_breaker, which read the newest results.
_ACTED = "first_action_at IS NOT NULL"
Index("ix_runs_result", runs.c.playbook, runs.c.status, runs.c.first_action_at, **_where(_ACTED))
_ENDED = _where(f"{_ACTED} AND finished_at IS NOT NULL")
Index("ix_runs_ended", runs.c.playbook, runs.c.finished_at, runs.c.id, **_ENDED)
Index("ix_runs_target_ended", runs.c.target, runs.c.playbook, runs.c.finished_at, runs.c.id, **_ENDED)
Index("ix_runs_incident_id", runs.c.incident_id)
Index("ix_incident_notes_incident_id", incident_notes.c.incident_id)
Index("ix_incident_notes_run_id", incident_notes.c.run_id)
Index("ix_comments_run_id", comments.c.run_id, comments.c.at)
Index("ix_run_episodes_episode_id", run_episodes.c.episode_id)
Index("ix_attempts_run_id", attempts.c.run_id, attempts.c.intent_at)
# For the guards rate_limit and cooldown, which count the started actions.
Index("ix_attempts_target", attempts.c.target, attempts.c.intent_at, **_true("mutates"))
Index("ix_attempts_playbook", attempts.c.playbook, attempts.c.intent_at, **_true("mutates"))
Index("ix_attempts_intent_at", attempts.c.intent_at, **_true("mutates"))
Index("ix_evidence_run_id", evidence.c.run_id, evidence.c.id)
Index("ix_verdicts_run_id", verdicts.c.run_id, verdicts.c.id)
Index("ix_verdicts_answer_at", verdicts.c.answer, verdicts.c.at)
Index("uq_approvals_pending_run", approvals.c.run_id, unique=True, **_where("status = 'pending'"))
Index("ix_approvals_run_id", approvals.c.run_id)
Index("ix_approvals_requested_at", approvals.c.requested_at)
Index("ix_approvals_pending_expires_at", approvals.c.expires_at, **_where("status = 'pending'"))
Index("ix_messages_due", messages.c.next_at, **_where("status = 'waiting'"))
Index("ix_messages_run_id", messages.c.run_id)
Index("ix_messages_dead", messages.c.created_at, **_where("status = 'dead'"))
Index("ix_timers_run_id", timers.c.run_id)
Index("ix_timers_due", timers.c.due_at, **_where("done_at IS NULL"))
Index("ix_stops_active", stops.c.scope, stops.c.name, **_where("released_at IS NULL"))
Index("ix_remedy_memory_at", remedy_memory.c.at)
Index("ix_audit_run_id", audit.c.run_id, audit.c.seq, **_where("run_id IS NOT NULL"))
Index("ix_audit_at", audit.c.at)
Index("ix_sessions_person", sessions.c.person, **_where("ended_at IS NULL"))
Index("ix_sessions_expires_at", sessions.c.expires_at)
