"""``service.status``: Read the state of the processes of a service, on any platform."""

from __future__ import annotations

from datetime import timedelta

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import State
from remediator.playbooks.inventory import Service


class ServiceStatusAction(Action):
    """Read the state of the instances of a service. Read-only."""

    name = "service.status"
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=10)

    def __init__(self, clients: ClientSet) -> None:
        self._platforms = clients.platforms

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        return PlannedCall(text=f"read the state of {service.name}")

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        status = await self._platforms[service.platform.kind].status(service)
        outcome = Outcome.OK if status.state is State.RUNNING else Outcome.FAILED
        facts = {"state": status.state.value, "instances": status.instances, "healthy": status.healthy}
        return Result(
            outcome, status.summary, dict(status.facts) | facts
        )  # common names win over those of the platform
