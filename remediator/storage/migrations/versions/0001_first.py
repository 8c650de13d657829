"""The first schema.

Frozen: tables and indexes as they were at this revision, regardless of later changes of ``schema.py``.
Later migrations alter them.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

Key = String(64)
Micros = BigInteger
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite assigns row numbers automatically only for INTEGER

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


notifications = Table(
    "notifications",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("received_at", Micros, nullable=False),
    Column("source", String(200), nullable=False, comment="name in the settings"),
    Column("body", LargeBinary, nullable=False),
    Column("asked_at", Micros, comment="when the source was asked; only for what the reconcile loop found"),
    Column("processed_at", Micros, comment="when its last alert was processed"),
    Column("processed_alerts", Integer, nullable=False, server_default="0", comment="number of alerts processed"),
    sqlite_autoincrement=True,
)

episodes = Table(
    "episodes",
    metadata,
    Column("id", Key, primary_key=True),
    Column("identity", Key, nullable=False),
    Column("status", String(16), nullable=False),
    Column("alertname", String(1024), nullable=False),
    Column("labels", Text, nullable=False),
    Column("annotations", Text, nullable=False),
    Column("started_at", Micros, nullable=False),
    Column("starts_at", Micros, nullable=False),
    Column("last_seen_at", Micros, nullable=False),
    Column("resolved_at", Micros),
    Column("closes_at", Micros),
    Column("flaps", Integer, nullable=False, server_default="0"),
    Column("kind", String(16), nullable=False, server_default="alert", comment="alert, or manual: a person started it"),
    Column("generator_url", Text, nullable=False, server_default="", comment="link to the expression in Prometheus"),
    Column("source", String(64), nullable=False, server_default="alertmanager", comment="name in the settings"),
    CheckConstraint("status IN ('firing', 'resolved', 'closed')", name="status"),
    CheckConstraint("kind IN ('alert', 'manual')", name="kind"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column(
        "incident_id", Key, nullable=False, server_default="", comment="the same for runs whose alerts belong together"
    ),
    Column("status", String(24), nullable=False),
    Column("reason", String(64)),
    Column("detail", Text, nullable=False),
    Column("blocked_by", String(64), comment="the guard that blocks it"),
    Column("blocked_by_run", Key, comment="the run whose end may free it"),
    Column("playbook", String(200), nullable=False),
    Column("playbook_hash", Key, nullable=False),
    Column("target", String(200), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("plan", Text),
    Column("severity", String(16), nullable=False, server_default="warning", comment="the highest of its alerts"),
    Column("plan_hash", Key),
    Column("cursor", String(200)),
    Column("resume_to", String(24)),
    Column("engine_version", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("wakeup_count", BigInteger, nullable=False, server_default="0", comment="number of events received"),
    Column("cancel_request", Text, comment="who requested to cancel it, and why"),
    Column("requested_by", String(320), comment="the person who started it manually"),
    Column("stuck_reported", String(24), comment="the status that was reported as stuck"),
    Column("lease_owner", String(200)),
    Column("lease_until", Micros),
    Column("wake_at", Micros, comment="when it is due; NULL if only an event can advance it"),
    Column("deadline_at", Micros),
    Column("incident_open", Boolean, nullable=False),
    Column("holds_target", Boolean, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    Column("first_action_at", Micros),
    Column("finished_at", Micros),
)

run_episodes = Table(
    "run_episodes",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("episode_id", Key, ForeignKey("episodes.id", ondelete="CASCADE"), primary_key=True),
    Column("joined_at", Micros, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("step", String(200), nullable=False),
    Column("number", Integer, nullable=False),
    Column("action", String(100), nullable=False),
    Column("playbook", String(200), nullable=False),
    Column("target", String(200), nullable=False),
    Column("mutates", Boolean, nullable=False),
    Column("is_undo", Boolean, nullable=False, server_default=text("false")),
    Column("call", Text, nullable=False, comment="the exact call and the state it was planned for"),
    Column("fence", BigInteger, nullable=False),
    Column("intent_at", Micros, nullable=False),
    Column("outcome", String(16), comment="ok, failed or unknown; NULL while in flight"),
    Column("outcome_at", Micros),
    Column("result", Text),
    CheckConstraint("outcome IN ('ok', 'failed', 'unknown')", name="outcome"),
    UniqueConstraint("run_id", "step", "number", "is_undo"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("phase", String(24), nullable=False, comment="diagnose, before, step, verify"),
    Column("name", String(200), nullable=False),
    Column("status", String(16), nullable=False, comment="ok, fail or unknown"),
    Column("summary", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("at", Micros, nullable=False),
    sqlite_autoincrement=True,
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("at", Micros, nullable=False),
    Column("phase", String(16), nullable=False, comment="plan or act"),
    Column("step", String(200)),
    Column("guard", String(64), nullable=False),
    Column("answer", String(16), nullable=False, comment="allow, block or unknown"),
    Column("reason", String(64)),
    Column("inputs", Text, nullable=False),
    sqlite_autoincrement=True,
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("plan_hash", Key, nullable=False),
    Column("plan", Text, nullable=False, comment="the plan that people are asked about"),
    Column("step", String(200), comment="the step that requires it; NULL for the whole plan"),
    Column("steps", Text, nullable=False, comment="IDs of the steps that an approval allows"),
    Column("asked", String(64), nullable=False, comment="reason of the run when people were asked"),
    Column("why", Text, nullable=False, comment="why people are asked, as a sentence"),
    Column("status", String(16), nullable=False),
    Column("groups", Text, nullable=False),
    Column("quorum", Integer, nullable=False),
    Column("requested_at", Micros, nullable=False),
    Column("expires_at", Micros, nullable=False),
    Column("decided_at", Micros),
    Column("snoozed_until", Micros),
    Column("reason", Text),
    CheckConstraint("status IN ('pending','approved','rejected','expired','void')", name="status"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("approval_id", Key, ForeignKey("approvals.id", ondelete="CASCADE"), primary_key=True),
    Column("identity", String(320), primary_key=True),
    Column("verb", String(16), nullable=False, comment="approve, reject or snooze"),
    Column("at", Micros, nullable=False),
    Column("reason", Text),
    Column("how", String(32), nullable=False, comment="oidc, slack, proxy, link, token, break_glass"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("channel", String(100), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("content", Text, nullable=False),
    Column("status", String(16), nullable=False, comment="waiting, sent or dead"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", Micros, nullable=False),
    Column("next_at", Micros),
    Column("sent_at", Micros),
    Column("receipt", Text, comment="the channel's reference for later updates of the message"),
    Column("error", Text),
)

incident_notes = Table(
    "incident_notes",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("incident_id", Key, nullable=False),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("at", Micros, nullable=False),
    Column("text", Text, nullable=False),
    comment="what people were not notified of, such as an alert that our own repair caused",
    sqlite_autoincrement=True,
)

comments = Table(
    "comments",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False, comment="comment, or acknowledgement: this person takes care of it"),
    Column("person", String(320), nullable=False),
    Column("at", Micros, nullable=False),
    Column("text", Text, nullable=False),
    CheckConstraint("kind IN ('comment', 'acknowledgement')", name="kind"),
    comment="what people wrote about a run, for other people",
)

timers = Table(
    "timers",
    metadata,
    Column("id", Key, primary_key=True),
    Column("kind", String(32), nullable=False, comment="undo, still_firing (check for recurrence), escalation"),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("target", String(200)),
    Column("content", Text, nullable=False),
    Column("due_at", Micros, nullable=False),
    Column("done_at", Micros),
)

stops = Table(
    "stops",
    metadata,
    Column("id", Key, primary_key=True),
    Column("scope", String(16), nullable=False, comment="global, playbook or service"),
    Column("name", String(200), nullable=False, server_default=""),
    Column("reason", Text, nullable=False),
    Column("created_by", String(320), nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("expires_at", Micros),
    Column("released_at", Micros),
    Column("released_by", String(320)),
)

remedy_memory = Table(
    "remedy_memory",
    metadata,
    Column("id", Key, primary_key=True),
    Column("target", String(200), nullable=False),
    Column("kind", String(16), nullable=False, comment="release or remedy"),
    Column("subject", String(200), nullable=False, comment="key of the release, or digest of the remedy"),
    Column("name", Text, nullable=False, comment="the release or the remedy, for people"),
    Column("verdict", String(16), nullable=False, comment="bad, good or no_help"),
    Column("reason", Text, nullable=False),
    Column("run_id", Key, comment="the run that showed it; it may be pruned"),
    Column("at", Micros, nullable=False),
    Column("cleared_at", Micros),
    Column("cleared_by", String(320)),
    UniqueConstraint("target", "kind", "subject"),
    comment="releases that were rolled back or proved good, and remedies that did not help",
)

key_values = Table(
    "key_values",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("value", Text, nullable=False),
    Column("at", Micros, nullable=False),
    comment="small state of guards and loops, for example the last Watchdog notification",
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("version", String(32), nullable=False),
    Column("engine_version", Integer, nullable=False),
    Column("role", String(32), nullable=False),
    Column("started_at", Micros, nullable=False),
    Column("seen_at", Micros, nullable=False),
    Column("rejected_config", Text, comment="why it cannot use the current playbook files; NULL while it does"),
    Column("problems", Text, comment="what does not work in it, by what it concerns"),
    Column("instance", String(32), comment="the process that last started with this ID"),
)

playbook_versions = Table(
    "playbook_versions",
    metadata,
    Column("hash", Key, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("content", Text, nullable=False),
    Column("first_loaded_at", Micros, nullable=False),
    comment="each run uses the version that it started with",
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False),
    Column("at", Micros, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("run_id", Key),
    Column("episode_id", Key),
    Column("canonical", LargeBinary, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, comment="always 1; this row is the sequencer of the log"),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("tree", LargeBinary, nullable=False, comment="compact Merkle range over all entries"),
    CheckConstraint("id = 1", name="one_row"),
)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _true(column: str) -> dict[str, Any]:
    """Write the condition as SQLAlchemy does: SQLite uses a partial index only if the query repeats its condition."""
    return {"sqlite_where": text(f"{column} = 1"), "postgresql_where": text(column)}


_OPEN = "status IN ('awaiting_approval', 'blocked', 'matched', 'planned', 'running', 'unknown_outcome', 'verifying')"

Index("ix_notifications_pending", notifications.c.id, **_where("processed_at IS NULL"))
Index("ix_notifications_received_at", notifications.c.received_at)
Index("uq_episodes_open_identity", episodes.c.identity, unique=True, **_where("status <> 'closed'"))
Index("ix_episodes_closes_at", episodes.c.closes_at, **_where("status = 'resolved'"))
Index("ix_episodes_open", episodes.c.started_at, **_where("status <> 'closed'"))
Index("ix_episodes_alertname_started_at", episodes.c.alertname, episodes.c.started_at)
Index("ix_episodes_started_at", episodes.c.started_at)
# Promises: one run per incident, and at most one run with the lock of a target.
Index("uq_runs_incident", runs.c.playbook, runs.c.target, unique=True, **_true("incident_open"))
Index("uq_runs_target_lock", runs.c.target, unique=True, **_true("holds_target"))
Index("ix_runs_due", runs.c.wake_at, **_where("wake_at IS NOT NULL"))
Index("ix_runs_open", runs.c.created_at, **_where(_OPEN))
Index("ix_runs_created_at", runs.c.created_at)
Index("ix_runs_playbook_target_created_at", runs.c.playbook, runs.c.target, runs.c.created_at)
Index("ix_runs_playbook_created_at", runs.c.playbook, runs.c.created_at)
Index("ix_runs_status_created_at", runs.c.status, runs.c.created_at)
Index("ix_runs_severity_created_at", runs.c.severity, runs.c.created_at)
Index("ix_runs_target_created_at", runs.c.target, runs.c.created_at)
Index("ix_runs_blocked_by", runs.c.blocked_by, runs.c.wake_at, **_where("status = 'blocked'"))
Index("ix_runs_blocked_by_run", runs.c.blocked_by_run, **_where("blocked_by_run IS NOT NULL"))
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
# The guards rate_limit and cooldown count the actions that were started.
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


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.bulk_insert(audit_head, [{"id": 1, "seq": 0, "hash": bytes(32), "tree": b""}])
    if op.get_bind().dialect.name == "postgresql":
        for statement in _APPEND_ONLY:
            op.execute(statement)


# Entries are never changed, and they leave the table only at its beginning, by the function that the archive uses. The
# function runs with the rights of the owner, so that the role of the service needs no right to delete. It refuses young
# entries, so that an attacker with the password of that role cannot remove the traces of the attack. It sets the
# parameter inside: only a superuser may set a custom parameter in a function declaration. The triggers hold for every
# role, also for a superuser, who would have to disable them first.
_APPEND_ONLY = (
    """
    CREATE FUNCTION remediator_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('remediator.archiving', true) = 'on' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the audit log is append-only: % is not allowed', TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION remediator_refuse_audit_change()
    """,
    """
    CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION remediator_refuse_audit_change()
    """,
    """
    CREATE FUNCTION remediator_check_audit_head() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND NEW.id = OLD.id AND NEW.seq > OLD.seq THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'the end of the audit log only grows: % is not allowed', TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER audit_head_grows BEFORE UPDATE OR DELETE ON audit_head
    FOR EACH ROW EXECUTE FUNCTION remediator_check_audit_head()
    """,
    """
    CREATE TRIGGER audit_head_no_truncate BEFORE TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION remediator_check_audit_head()
    """,
    """
    CREATE FUNCTION remediator_protected_age() RETURNS interval LANGUAGE sql IMMUTABLE AS $$ SELECT interval '1 day' $$
    """,
    """
    CREATE FUNCTION remediator_delete_archived(until bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE gone bigint;
    BEGIN
        IF EXISTS (
            SELECT 1 FROM audit WHERE seq <= until
            AND at > extract(epoch FROM clock_timestamp() - remediator_protected_age()) * 1000000
        ) THEN
            RAISE EXCEPTION 'the audit log is append-only: entries of the last day cannot leave it'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        PERFORM set_config('remediator.archiving', 'on', true);
        DELETE FROM audit WHERE seq <= until;
        GET DIAGNOSTICS gone = ROW_COUNT;
        PERFORM set_config('remediator.archiving', '', true);
        RETURN gone;
    END $$
    """,
    # otherwise a temporary table of the caller could replace the log
    """
    DO $$ BEGIN
        EXECUTE format(
            'ALTER FUNCTION remediator_delete_archived(bigint) SET search_path = %I, pg_temp', current_schema()
        );
    END $$
    """,
    "REVOKE ALL ON FUNCTION remediator_delete_archived(bigint) FROM PUBLIC",
)
