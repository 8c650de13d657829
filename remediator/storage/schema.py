"""The schema, for SQLite and PostgreSQL. The migrations under ``migrations/`` must result in exactly this.

Instants are integers, in microseconds since the epoch. JSON is text in canonical form, so that a hash of it can be
verified later.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from remediator.storage.column_types import Instant, Json, Key, Serial

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
    Column("received_at", Instant, nullable=False),
    Column("source", String(200), nullable=False, comment="name in the settings"),
    Column("body", LargeBinary, nullable=False),
    Column("asked_at", Instant, comment="when the source was asked; only for what the reconcile loop found"),
    Column("processed_at", Instant, comment="when its last alert was processed"),
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
    Column("labels", Json, nullable=False),
    Column("annotations", Json, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("starts_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("resolved_at", Instant),
    Column("closes_at", Instant),
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
    Column("detail", Json, nullable=False),
    Column("blocked_by", String(64), comment="the guard that blocks it"),
    Column("blocked_by_run", Key, comment="the run whose end may free it"),
    Column("playbook", String(200), nullable=False),
    Column("playbook_hash", Key, nullable=False),
    Column("target", String(200), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("plan", Json),
    Column("severity", String(16), nullable=False, server_default="warning", comment="the highest of its alerts"),
    Column("plan_hash", Key),
    Column("cursor", String(200)),
    Column("resume_to", String(24)),
    Column("engine_version", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("wakeup_count", BigInteger, nullable=False, server_default="0", comment="number of events received"),
    Column("cancel_request", Json, comment="who requested to cancel it, and why"),
    Column("requested_by", String(320), comment="the person who started it manually"),
    Column("stuck_reported", String(24), comment="the status that was reported as stuck"),
    Column("lease_owner", String(200)),
    Column("lease_until", Instant),
    Column("wake_at", Instant, comment="when it is due; NULL if only an event can advance it"),
    Column("deadline_at", Instant),
    Column("incident_open", Boolean, nullable=False),
    Column("holds_target", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("first_action_at", Instant),
    Column("finished_at", Instant),
)

run_episodes = Table(
    "run_episodes",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("episode_id", Key, ForeignKey("episodes.id", ondelete="CASCADE"), primary_key=True),
    Column("joined_at", Instant, nullable=False),
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
    Column("call", Json, nullable=False, comment="the exact call and the state it was planned for"),
    Column("fence", BigInteger, nullable=False),
    Column("intent_at", Instant, nullable=False),
    Column("outcome", String(16), comment="ok, failed or unknown; NULL while in flight"),
    Column("outcome_at", Instant),
    Column("result", Json),
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
    Column("facts", Json, nullable=False),
    Column("at", Instant, nullable=False),
    sqlite_autoincrement=True,
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("phase", String(16), nullable=False, comment="plan or act"),
    Column("step", String(200)),
    Column("guard", String(64), nullable=False),
    Column("answer", String(16), nullable=False, comment="allow, block or unknown"),
    Column("reason", String(64)),
    Column("inputs", Json, nullable=False),
    sqlite_autoincrement=True,
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("plan_hash", Key, nullable=False),
    Column("plan", Json, nullable=False, comment="the plan that people are asked about"),
    Column("step", String(200), comment="the step that requires it; NULL for the whole plan"),
    Column("steps", Json, nullable=False, comment="IDs of the steps that an approval allows"),
    Column("asked", String(64), nullable=False, comment="reason of the run when people were asked"),
    Column("why", Text, nullable=False, comment="why people are asked, as a sentence"),
    Column("status", String(16), nullable=False),
    Column("groups", Json, nullable=False),
    Column("quorum", Integer, nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("decided_at", Instant),
    Column("snoozed_until", Instant),
    Column("reason", Text),
    CheckConstraint("status IN ('pending','approved','rejected','expired','void')", name="status"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("approval_id", Key, ForeignKey("approvals.id", ondelete="CASCADE"), primary_key=True),
    Column("identity", String(320), primary_key=True),
    Column("verb", String(16), nullable=False, comment="approve, reject or snooze"),
    Column("at", Instant, nullable=False),
    Column("reason", Text),
    Column("how", String(32), nullable=False, comment="oidc, slack, telegram, proxy, link, token, terminal"),
    Column("break_glass", Boolean, nullable=False, server_default=text("false")),
    Column("claimed", Json, nullable=False, server_default="[]", comment="groups that the identity provider reported"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True, comment="SHA-256 of the cookie"),
    Column("person", String(320), nullable=False),
    Column("how", String(32), nullable=False, comment="oidc or token"),
    Column("claimed", Json, nullable=False, comment="groups that the identity provider reported"),
    Column("credential", Key, comment="SHA-256 of the operator token that started it"),
    Column("address", String(64), nullable=False, comment="from where the person signed in"),
    Column("remembered", Boolean, nullable=False, server_default=text("false"), comment="it has no idle limit"),
    Column("created_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", String(320)),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("channel", String(100), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("content", Json, nullable=False),
    Column("status", String(16), nullable=False, comment="waiting, sent or dead"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("next_at", Instant),
    Column("sent_at", Instant),
    Column("receipt", Json, comment="the channel's reference for later updates of the message"),
    Column("error", Text),
)

incident_notes = Table(
    "incident_notes",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("incident_id", Key, nullable=False),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("at", Instant, nullable=False),
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
    Column("at", Instant, nullable=False),
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
    Column("content", Json, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("done_at", Instant),
)

stops = Table(
    "stops",
    metadata,
    Column("id", Key, primary_key=True),
    Column("scope", String(16), nullable=False, comment="global, playbook or service"),
    Column("name", String(200), nullable=False, server_default=""),
    Column("reason", Text, nullable=False),
    Column("created_by", String(320), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("released_at", Instant),
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
    Column("at", Instant, nullable=False),
    Column("cleared_at", Instant),
    Column("cleared_by", String(320)),
    UniqueConstraint("target", "kind", "subject"),
    comment="releases that were rolled back or proved good, and remedies that did not help",
)

key_values = Table(
    "key_values",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("value", Json, nullable=False),
    Column("at", Instant, nullable=False),
    comment="small state of guards and loops, for example the last Watchdog notification",
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("version", String(32), nullable=False),
    Column("engine_version", Integer, nullable=False),
    Column("role", String(32), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("rejected_config", Json, comment="why it cannot use the current playbook files; NULL while it does"),
    Column("problems", Json, comment="what does not work in it, by what it concerns"),
    Column("instance", String(32), comment="the process that last started with this ID"),
)

playbook_versions = Table(
    "playbook_versions",
    metadata,
    Column("hash", Key, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("content", Json, nullable=False),
    Column("first_loaded_at", Instant, nullable=False),
    comment="each run uses the version that it started with",
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
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
