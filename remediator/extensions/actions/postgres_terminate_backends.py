"""``postgres.terminate_backends``: End sessions of PostgreSQL that are idle for too long or block others.

A session is ended only if it is still in the state that the plan showed: it did nothing since. Sessions of superusers,
of replication, of autovacuum, of remediator itself and those that the inventory protects are never ended.
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


class TerminateBackendsParameters(Parameters):
    """Parameters of ``postgres.terminate_backends``. A session must meet all conditions."""

    idle_over: PositiveDuration | None = Field(
        default=None, description="Sessions that are idle without a transaction for longer than this."
    )
    idle_in_transaction_over: PositiveDuration | None = Field(
        default=None, description="Sessions that are idle inside a transaction for longer than this."
    )
    blocking_over: PositiveDuration | None = Field(
        default=None,
        description="Sessions that wait for no lock themselves, and for which others wait for longer than this.",
    )
    application: str | None = Field(
        default=None, min_length=1, max_length=63, description="Only sessions with this application_name."
    )
    limit: int = Field(
        default=5, ge=1, le=200, description="Maximum number to end; those in their state for the longest time first."
    )

    @model_validator(mode="after")
    def _bounded(self) -> TerminateBackendsParameters:
        if self.idle_over is None and self.idle_in_transaction_over is None and self.blocking_over is None:
            raise ValueError(
                "set idle_over, idle_in_transaction_over or blocking_over; otherwise every session matches"
            )
        if self.idle_over is not None and (self.idle_in_transaction_over or self.blocking_over):
            raise ValueError("a session that is idle without a transaction blocks nobody: use idle_over alone")
        return self

    def matching(self, sessions: Sequence[Session]) -> list[Session]:
        """Return the sessions that meet the conditions."""
        blocking = {each.pid: each.longest for each in root_blockers(sessions)}
        return [
            session for session in sessions if session.is_client and self._meets(session, blocking.get(session.pid))
        ]

    def _meets(self, session: Session, blocks: float | None) -> bool:
        limits = (
            (self.idle_over, session.in_state if session.state == "idle" else None),
            (self.idle_in_transaction_over, session.in_state if session.is_idle_in_transaction else None),
            (self.blocking_over, blocks),
        )
        meets = all(value is not None and value > limit.total_seconds() for limit, value in limits if limit is not None)
        return meets and (self.application is None or session.application == self.application)


class PostgresTerminateBackends(Action):
    """End sessions of PostgreSQL by their process ID and start, if they did nothing since the plan."""

    name = "postgres.terminate_backends"
    needs = ("postgres",)
    Parameters = TerminateBackendsParameters
    interrupts = True
    measures = ("clients", "rolled_back_transactions")
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("ended", "list", "Process IDs of the sessions that ended."),
        Fact("left", "list", "Process IDs of those that did something else since the plan, or had ended."),
        Fact("remaining", "list", "Process IDs of those that were signalled and did not end within 5 s."),
    )

    async def plan(self, service: Service, parameters: TerminateBackendsParameters) -> PlannedCall:
        postgres = bindings.postgres(service)
        identity, sessions = await postgres.identity(), await postgres.sessions()
        matching = parameters.matching(sessions)
        chosen = planned_sessions(sessions, matching, postgres.endpoint, parameters.limit)
        return PlannedCall(
            text=f"pg_terminate_backend on {service.name} for {len(chosen)} sessions, at most {parameters.limit}: "
            f"{session_names(chosen)}",
            arguments={"sessions": pinned(chosen)},
            pin={"server": identity},
            measurement=f"{len(matching)} sessions meet the conditions",
            risk="Open transactions of these sessions are rolled back. Their clients get an error and can reconnect.",
        )

    async def cost(self, service: Service, parameters: TerminateBackendsParameters, call: PlannedCall) -> Cost:
        planned = {each.pid for each in pins(call.arguments)}
        sessions = [each for each in await bindings.postgres(service).sessions() if each.pid in planned]
        return Cost(clients=len(planned), rolled_back_transactions=sum(session.writes for session in sessions))

    async def execute(self, service: Service, parameters: TerminateBackendsParameters, call: PlannedCall) -> Result:
        postgres, planned = bindings.postgres(service), list(pins(call.arguments))
        still = {session.pid for session in parameters.matching(await postgres.sessions())}
        chosen = [each for each in planned if each.pid in still]
        done = await postgres.terminate(chosen, expected=str(call.pin["server"]))
        left = [each.pid for each in planned if each.pid not in (*done.ended, *done.remaining)]
        parts = [f"{len(done.ended)} sessions ended"]
        parts += [f"{len(left)} were left alone: they ended or did something since the plan"] if left else []
        parts += [f"{len(done.remaining)} got the signal and did not end"] if done.remaining else []
        parts += [done.refused] if done.refused else []
        facts = {"ended": list(done.ended), "left": left, "remaining": list(done.remaining)}
        return Result(Outcome.OK if done.ended else Outcome.FAILED, "; ".join(parts), facts)

    async def observe(
        self, service: Service, parameters: TerminateBackendsParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for the planned sessions."""
        there = await bindings.postgres(service).still_there(list(pins(call.arguments)))
        happened = EffectStatus.NO if there else EffectStatus.YES
        return Observation(happened, f"{len(there)} of the planned sessions exist", {"there": list(there)})

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=True)
