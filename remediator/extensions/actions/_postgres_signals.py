"""The common parts of ``postgres.cancel_queries`` and ``postgres.terminate_backends``: choice, pins, signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from remediator.clients.postgres.client import Signal
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


class SignalParameters(Parameters, ABC):
    """Which sessions to signal. A session must meet all conditions."""

    blocking_over: PositiveDuration | None = Field(
        default=None,
        description="Sessions that do not wait for a lock themselves, but block other sessions for longer than this.",
    )
    application: str | None = Field(
        default=None, min_length=1, max_length=63, description="Only sessions with this application_name."
    )
    limit: int = Field(
        default=5,
        ge=1,
        le=200,
        description="Maximum number to end, the sessions with the longest time in their state first.",
    )

    @abstractmethod
    def limits(self, session: Session) -> tuple[tuple[timedelta | None, float | None], ...]:
        """Return further limits with the seconds of a session, None if the limit is not about its state."""

    def matching(self, sessions: Sequence[Session]) -> list[Session]:
        """Return the sessions that meet the conditions."""
        blocking = {each.pid: each.longest for each in root_blockers(sessions)}
        found = []
        for session in sessions:
            limits = (*self.limits(session), (self.blocking_over, blocking.get(session.pid)))
            exceeded = [
                value is not None and value > limit.total_seconds() for limit, value in limits if limit is not None
            ]
            if session.is_client and all(exceeded) and self.application in (None, session.application):
                found.append(session)
        return found


class SessionSignal(Action):
    """Signal sessions that are still in the state that the plan showed."""

    needs = ("postgres",)
    signal: ClassVar[Signal]
    what: ClassVar[str]
    """Noun for the ended objects, such as sessions."""
    risk: ClassVar[str]
    interrupts = True
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("ended", "list", "Process IDs of the sessions that ended, or whose query ended."),
        Fact("left", "list", "Process IDs of those that did something else since the plan, or had ended."),
        Fact("remaining", "list", "Process IDs of the sessions that got the signal and still ran after 5 s."),
    )

    async def plan(self, service: Service, parameters: SignalParameters) -> PlannedCall:
        postgres = bindings.postgres(service)
        identity, sessions = await postgres.identity(), await postgres.sessions()
        matching = parameters.matching(sessions)
        chosen = planned_sessions(sessions, matching, postgres.endpoint, parameters.limit)
        return PlannedCall(
            text=f"{self.signal} on {service.name} for {len(chosen)} {self.what}, at most {parameters.limit}: "
            f"{session_names(chosen)}",
            arguments={"sessions": pinned(chosen)},
            pin={"server": identity},
            measurement=f"{len(matching)} {self.what} meet the conditions",
            risk=self.risk,
        )

    async def cost(self, service: Service, parameters: SignalParameters, call: PlannedCall) -> Cost:
        planned = {each.pid for each in pins(call.arguments)}
        sessions = [each for each in await bindings.postgres(service).sessions() if each.pid in planned]
        return self.loss(len(planned), sum(session.writes for session in sessions))

    @abstractmethod
    def loss(self, ended: int, rolled_back: int) -> Cost:
        """Return the cost of ending sessions or queries."""

    async def execute(self, service: Service, parameters: SignalParameters, call: PlannedCall) -> Result:
        postgres, planned = bindings.postgres(service), list(pins(call.arguments))
        still = {session.pid for session in parameters.matching(await postgres.sessions())}
        chosen = [each for each in planned if each.pid in still]
        done = await postgres.signal(self.signal, chosen, expected=str(call.pin["server"]))
        left = [each.pid for each in planned if each.pid not in (*done.ended, *done.remaining)]
        parts = [f"{len(done.ended)} {self.what} ended"]
        parts += [f"{len(left)} were left alone: they ended or changed their state since the plan"] if left else []
        parts += [f"{len(done.remaining)} got the signal and did not end"] if done.remaining else []
        parts += [done.refused] if done.refused else []
        facts = {"ended": list(done.ended), "left": left, "remaining": list(done.remaining)}
        return Result(Outcome.OK if done.ended else Outcome.FAILED, "; ".join(parts), facts)

    async def observe(
        self, service: Service, parameters: SignalParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for the planned sessions or queries."""
        going = await bindings.postgres(service).still_going(self.signal, list(pins(call.arguments)))
        happened = EffectStatus.NO if going else EffectStatus.YES
        return Observation(happened, f"{len(going)} of the planned {self.what} still run", {"remaining": list(going)})

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=True)
