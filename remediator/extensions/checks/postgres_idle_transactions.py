"""``postgres.idle_transactions``: Check that no session of PostgreSQL is idle inside a transaction for too long.

Such a transaction keeps its locks, and VACUUM cannot remove rows that it may still see.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from remediator.core.types import PositiveDuration
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.extensions.postgres_sessions import session_names
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PostgresIdleTransactionsParameters(Parameters):
    """Parameters of ``postgres.idle_transactions``."""

    idle_over: PositiveDuration = Field(default=timedelta(minutes=5), description="A longer idle time fails.")


class PostgresIdleTransactions(Check):
    """Count the sessions that are idle inside a transaction for too long."""

    name = "postgres.idle_transactions"
    needs = ("postgres",)
    Parameters = PostgresIdleTransactionsParameters
    facts = (
        Fact("sessions", "integer", "Sessions that are idle in a transaction for longer than idle_over."),
        Fact("longest", "number", "Longest idle time inside a transaction.", unit="s"),
    )

    async def observe(self, service: Service, parameters: PostgresIdleTransactionsParameters) -> Evidence:
        sessions = await bindings.postgres(service).sessions()
        idle = [session for session in sessions if session.is_client and session.is_idle_in_transaction]
        over = [session for session in idle if session.in_state > parameters.idle_over.total_seconds()]
        longest = round(max((session.in_state for session in idle), default=0.0), 1)
        facts = {"sessions": len(over), "longest": longest}
        if not over:
            return Evidence(CheckAnswer.OK, f"{len(idle)} sessions are idle in a transaction, none too long", facts)
        text = f"{len(over)} sessions are idle in a transaction, up to {longest:.0f} s: {session_names(over)}"
        return Evidence(CheckAnswer.FAIL, text, facts)

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=False)
