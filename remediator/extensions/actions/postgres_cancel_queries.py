"""``postgres.cancel_queries``: Cancel queries of PostgreSQL that run for too long or block others.

Only the query that the plan showed is cancelled; the session stays. Queries of superusers, of replication, of
autovacuum, of remediator itself and of sessions that the inventory protects are never cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import Field, model_validator

from remediator.clients.postgres.models import Session
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import PositiveDuration
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.postgres_sessions import pinned, pins, planned_sessions, root_blockers, session_names
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class CancelQueriesParameters(Parameters):
    """Parameters of ``postgres.cancel_queries``. A query must meet all conditions."""

    running_over: PositiveDuration | None = Field(
        default=None, description="Queries that run for longer than this, with their waits."
    )
    blocking_over: PositiveDuration | None = Field(
        default=None,
        description="Queries that wait for no lock themselves, and for which others wait for longer than this.",
    )
    application: str | None = Field(
        default=None, min_length=1, max_length=63, description="Only sessions with this application_name."
    )
    limit: int = Field(
        default=5, ge=1, le=200, description="Maximum number to cancel; those that run for the longest time first."
    )

    @model_validator(mode="after")
    def _bounded(self) -> CancelQueriesParameters:
        if self.running_over is None and self.blocking_over is None:
            raise ValueError("set running_over or blocking_over; without a condition, every query would match")
        return self

    def matching(self, sessions: Sequence[Session]) -> list[Session]:
        """Return the sessions whose query meets the conditions."""
        blocking = {each.pid: each.longest for each in root_blockers(sessions)}
        return [
            session for session in sessions if session.is_client and self._meets(session, blocking.get(session.pid))
        ]

    def _meets(self, session: Session, blocks: float | None) -> bool:
        limits = ((self.running_over, session.in_state), (self.blocking_over, blocks))
        meets = all(value is not None and value > limit.total_seconds() for limit, value in limits if limit is not None)
        same = self.application is None or session.application == self.application
        return meets and same and session.state == "active"


class PostgresCancelQueries(Action):
    """Cancel queries of PostgreSQL, if their sessions still run the planned ones."""

    name = "postgres.cancel_queries"
    needs = ("postgres",)
    Parameters = CancelQueriesParameters
    interrupts = True
    measures = ("in_flight_requests", "rolled_back_transactions")
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("ended", "list", "Process IDs of the sessions whose query ended."),
        Fact("left", "list", "Process IDs of those that run something else since the plan, or had ended."),
        Fact("remaining", "list", "Process IDs of those that were signalled and still ran after 5 s."),
    )

    async def plan(self, service: Service, parameters: CancelQueriesParameters) -> PlannedCall:
        postgres = bindings.postgres(service)
        identity, sessions = await postgres.identity(), await postgres.sessions()
        matching = parameters.matching(sessions)
        chosen = planned_sessions(sessions, matching, postgres.endpoint, parameters.limit)
        return PlannedCall(
            text=f"pg_cancel_backend on {service.name} for {len(chosen)} queries, at most {parameters.limit}: "
            f"{session_names(chosen)}",
            arguments={"sessions": pinned(chosen)},
            pin={"server": identity},
            measurement=f"{len(matching)} queries meet the conditions",
            risk="The clients of these queries get an error. Their transactions are rolled back or must be ended.",
        )

    async def cost(self, service: Service, parameters: CancelQueriesParameters, call: PlannedCall) -> Cost:
        planned = {each.pid for each in pins(call.arguments)}
        sessions = [each for each in await bindings.postgres(service).sessions() if each.pid in planned]
        return Cost(in_flight_requests=len(planned), rolled_back_transactions=sum(item.writes for item in sessions))

    async def execute(self, service: Service, parameters: CancelQueriesParameters, call: PlannedCall) -> Result:
        postgres, planned = bindings.postgres(service), list(pins(call.arguments))
        still = {session.pid for session in parameters.matching(await postgres.sessions())}
        chosen = [each for each in planned if each.pid in still]
        done = await postgres.cancel(chosen, expected=str(call.pin["server"]))
        left = [each.pid for each in planned if each.pid not in (*done.ended, *done.remaining)]
        parts = [f"{len(done.ended)} queries cancelled"]
        parts += [f"{len(left)} were left alone: they ended since the plan"] if left else []
        parts += [f"{len(done.remaining)} got the signal and still run"] if done.remaining else []
        parts += [done.refused] if done.refused else []
        facts = {"ended": list(done.ended), "left": left, "remaining": list(done.remaining)}
        return Result(Outcome.OK if done.ended else Outcome.FAILED, "; ".join(parts), facts)

    async def observe(
        self, service: Service, parameters: CancelQueriesParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for the planned queries."""
        running = await bindings.postgres(service).still_running(list(pins(call.arguments)))
        happened = EffectStatus.NO if running else EffectStatus.YES
        return Observation(happened, f"{len(running)} of the planned queries still run", {"running": list(running)})

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=True)
