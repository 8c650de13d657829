"""``service.restart``: Restart a service on its platform, if the planned instance still runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.errors import TargetError
from remediator.extensions import costs
from remediator.extensions.actions import _remote_calls
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import OWN_RESTARTS, State
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RestartParameters(Parameters):
    """Parameters of ``service.restart``."""

    stop_timeout: Duration = Field(default=timedelta(seconds=30), description="Time to stop, and again time to start.")


class ServiceRestart(Action):
    """Restart a service on its platform."""

    name = "service.restart"
    Parameters = RestartParameters
    interrupts = True
    measures = (*costs.REDIS_FIELDS, *costs.INSTANCE_FIELDS)
    timeout = timedelta(seconds=60)
    facts = (
        Fact("status", "string", "State after the restart.", values=tuple(State)),
        Fact("pin", "object", "Identity of the new instances."),
    )

    async def plan(self, service: Service, parameters: RestartParameters) -> PlannedCall:
        platform = self.clients.platform_of(service)
        await platform.require_rights(service, self.name)
        status = await platform.status(service)
        if status.hold:
            raise TargetError(f"cannot restart {service.name}: {status.hold}")
        seconds = parameters.stop_timeout.total_seconds()
        return PlannedCall(
            text=platform.describe_restart(service, seconds),
            arguments={"stop_timeout": seconds},
            pin=status.pin,
            volatile_fields=(OWN_RESTARTS,),
            risk="Clients lose their connections. Data that was not persisted is lost.",
        )

    async def cost(self, service: Service, parameters: RestartParameters, call: PlannedCall) -> Cost:
        return await costs.interruption(self.clients, service)

    async def execute(self, service: Service, parameters: RestartParameters, call: PlannedCall) -> Result:
        platform = self.clients.platform_of(service)
        await platform.restart(service, call.pin, parameters.stop_timeout.total_seconds())
        status = await platform.status(service)
        if dict(status.pin) == dict(call.pin):
            unchanged = f"the platform reported a restart, but the instance is the same: {status.summary}"
            return Result(Outcome.FAILED, unchanged, {"status": status.state.value, "pin": dict(status.pin)})
        outcome = Outcome.OK if status.state in (State.RUNNING, State.STARTING) else Outcome.FAILED
        return Result(outcome, status.summary, {"status": status.state.value, "pin": dict(status.pin)})

    async def observe(
        self, service: Service, parameters: RestartParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Query the record of another host, then compare the instance: a new running instance means restarted.

        If no instance runs, the restart did not finish.
        """
        platform = self.clients.platform_of(service)
        age = self.clients.clock.now() - since
        if (known := _remote_calls.observation(await platform.settle(service), age)) is not None:
            return known
        status = await platform.status(service)
        facts: dict[str, Any] = {"pin": dict(status.pin), "state": status.state.value}
        if status.state in (State.STOPPED, State.EXITED, State.CRASH_LOOP):
            return Observation(EffectStatus.NO, f"the service is not running: {status.summary}", facts)
        if dict(status.pin) == dict(call.pin):
            return Observation(EffectStatus.NO, f"the service was not restarted: {status.summary}", facts)
        if status.state in (State.RUNNING, State.STARTING):
            return Observation(EffectStatus.YES, f"the service was restarted: {status.summary}", facts)
        return Observation(EffectStatus.UNKNOWN, status.summary, facts)
