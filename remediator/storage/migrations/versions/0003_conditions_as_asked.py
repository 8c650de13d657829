"""SQLite uses a partial index only for queries that have its condition word for word, and ours say ``= 1``."""

import sqlalchemy
from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = (
    ("uq_runs_incident", "runs", ["playbook", "target"], True, "incident_open = 1"),
    ("uq_runs_hand_on_target", "runs", ["target"], True, "holds_target = 1"),
    ("ix_attempts_target", "attempts", ["target", "intent_at"], False, "mutates = 1"),
    ("ix_attempts_playbook", "attempts", ["playbook", "intent_at"], False, "mutates = 1"),
    ("ix_attempts_intent_at", "attempts", ["intent_at"], False, "mutates = 1"),
)


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    for name, table, columns, unique, condition in INDEXES:
        op.drop_index(name, table)
        op.create_index(name, table, columns, unique=unique, sqlite_where=sqlalchemy.text(condition))
