"""``postgres.terminate_backends``: End sessions of PostgreSQL that are idle for too long or block others.

A session is ended only if it is still in the planned state and did nothing since. Sessions of superusers, replication,
autovacuum and remediator itself are never ended, nor are sessions that the inventory protects.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from remediator.clients.postgres.client import Signal
from remediator.clients.postgres.models import Session
from remediator.core.cost import Cost
from remediator.core.types import PositiveDuration
from remediator.extensions.actions._postgres_signals import SessionSignal, SignalParameters


class TerminateBackendsParameters(SignalParameters):
    """Parameters of ``postgres.terminate_backends``. A session must meet all conditions."""

    idle_over: PositiveDuration | None = Field(
        default=None, description="Sessions that are idle without a transaction for longer than this."
    )
    idle_in_transaction_over: PositiveDuration | None = Field(
        default=None, description="Sessions that are idle inside a transaction for longer than this."
    )

    @model_validator(mode="after")
    def _bounded(self) -> TerminateBackendsParameters:
        if self.idle_over is None and self.idle_in_transaction_over is None and self.blocking_over is None:
            raise ValueError(
                "set idle_over, idle_in_transaction_over or blocking_over; otherwise every session matches"
            )
        if self.idle_over is not None and (self.idle_in_transaction_over or self.blocking_over):
            raise ValueError(
                "a session that is idle without a transaction blocks no other session: use idle_over alone"
            )
        return self

    def limits(self, session: Session) -> tuple[tuple[timedelta | None, float | None], ...]:
        return (
            (self.idle_over, session.in_state if session.state == "idle" else None),
            (self.idle_in_transaction_over, session.in_state if session.is_idle_in_transaction else None),
        )


class PostgresTerminateBackends(SessionSignal):
    """End sessions of PostgreSQL by their process ID and start, if they did nothing since the plan."""

    name = "postgres.terminate_backends"
    Parameters = TerminateBackendsParameters
    measures = ("clients", "rolled_back_transactions")
    signal, what = Signal.TERMINATE, "sessions"
    risk = "Open transactions of these sessions are rolled back. Their clients get an error and can reconnect."

    def loss(self, ended: int, rolled_back: int) -> Cost:
        return Cost(clients=ended, rolled_back_transactions=rolled_back)
