"""An index to find a run's timers by, for forgetting runs. Additive: the version before works on with it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # databases of before the first release may have it: their 0001 created what schema.py said on the day
    op.create_index("ix_timers_run_id", "timers", ["run_id"], if_not_exists=True)
