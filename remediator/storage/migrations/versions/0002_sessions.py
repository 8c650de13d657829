"""Sessions on the server, and how each decision's person was known."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint, String, Text, text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("decisions", Column("break_glass", Boolean, nullable=False, server_default=text("false")))
    claimed = "groups that the identity provider reported"
    op.add_column("decisions", Column("claimed", Text, nullable=False, server_default="[]", comment=claimed))
    # The old value break_glass replaced the way of identification, which is lost. The closest value is the terminal.
    op.execute("UPDATE decisions SET break_glass = true, how = 'terminal' WHERE how = 'break_glass'")
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("decisions", "how", comment="oidc, slack, telegram, proxy, link, token, terminal")
    op.create_table(
        "sessions",
        Column("id", String(64), nullable=False, comment="SHA-256 of the cookie"),
        Column("person", String(320), nullable=False),
        Column("how", String(32), nullable=False, comment="oidc or token"),
        Column("claimed", Text, nullable=False, comment=claimed),
        Column("credential", String(64), comment="SHA-256 of the operator token that started it"),
        Column("address", String(64), nullable=False, comment="from where the person signed in"),
        Column("remembered", Boolean, nullable=False, server_default=text("false"), comment="it has no idle limit"),
        Column("created_at", BigInteger, nullable=False),
        Column("seen_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        Column("ended_by", String(320)),
        PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    is_open = text("ended_at IS NULL")
    op.create_index("ix_sessions_person", "sessions", ["person"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
