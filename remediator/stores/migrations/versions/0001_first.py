"""The first schema.

Frozen: it creates what ``schema.py`` said at this revision. Later revisions alter it.
"""

from alembic import op

from remediator.audit import GENESIS
from remediator.stores import indexes  # noqa: F401 - hangs them on the tables
from remediator.stores.schema import audit_head, metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.bulk_insert(audit_head, [{"id": 1, "seq": GENESIS.seq, "hash": GENESIS.hash, "tree": GENESIS.tree}])
