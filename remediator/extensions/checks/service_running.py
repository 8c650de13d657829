"""``service.running``: Check that the platform reports all instances of the service as running."""

from __future__ import annotations

from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import State
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class ServiceRunning(Check):
    """Check that all instances of a service run."""

    name = "service.running"
    facts = (
        Fact("state", "string", "State of all instances together.", values=tuple(State)),
        Fact("instances", "integer", "Expected instances."),
        Fact("healthy", "integer", "Healthy instances."),
    )

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        status = await self.clients.platform_of(service).status(service)
        facts = {"state": status.state.value, "instances": status.instances, "healthy": status.healthy}
        if status.state is State.UNKNOWN:
            return Evidence(CheckAnswer.UNKNOWN, status.summary, facts)
        return Evidence(CheckAnswer.OK if status.state is State.RUNNING else CheckAnswer.FAIL, status.summary, facts)
