"""An index to find a run's timers by, for forgetting runs. Additive: the version before works on with it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # a database that 0001 made anew has it already: 0001 creates what schema.py says now
    op.create_index("ix_timers_run_id", "timers", ["run_id"], if_not_exists=True)
