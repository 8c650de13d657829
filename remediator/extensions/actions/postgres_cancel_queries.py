"""``postgres.cancel_queries``: Cancel queries of PostgreSQL that run for too long or block others.

Only the query that the plan showed is cancelled; the session stays. Queries of superusers, replication, autovacuum and
remediator itself are never cancelled, nor are queries of sessions that the inventory protects.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pydantic import Field, model_validator

from remediator.clients.postgres.client import Signal
from remediator.clients.postgres.models import Session
from remediator.core.cost import Cost
from remediator.core.types import PositiveDuration
from remediator.extensions.actions._postgres_signals import SessionSignal, SignalParameters


class CancelQueriesParameters(SignalParameters):
    """Parameters of ``postgres.cancel_queries``. A query must meet all conditions."""

    running_over: PositiveDuration | None = Field(
        default=None, description="Queries that run for longer than this, with their waits."
    )

    @model_validator(mode="after")
    def _bounded(self) -> CancelQueriesParameters:
        if self.running_over is None and self.blocking_over is None:
            raise ValueError("set running_over or blocking_over; without a condition, every query would match")
        return self

    def limits(self, session: Session) -> tuple[tuple[timedelta | None, float | None], ...]:
        return ((self.running_over, session.in_state),)

    def matching(self, sessions: Sequence[Session]) -> list[Session]:
        """Return the sessions whose query meets the conditions."""
        return [session for session in super().matching(sessions) if session.state == "active"]


class PostgresCancelQueries(SessionSignal):
    """Cancel queries of PostgreSQL, if their sessions still run the planned queries."""

    name = "postgres.cancel_queries"
    Parameters = CancelQueriesParameters
    measures = ("in_flight_requests", "rolled_back_transactions")
    signal, what = Signal.CANCEL, "queries"
    risk = "The clients of these queries get an error. Their transactions are rolled back or must be ended."

    def loss(self, ended: int, rolled_back: int) -> Cost:
        return Cost(in_flight_requests=ended, rolled_back_transactions=rolled_back)
