"""``service.rollback``: Roll a service back to the release before the current one, as the platform recorded it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.core.clock import format_duration, rfc3339
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.release import ReleaseChange, previous
from remediator.core.types import Duration
from remediator.errors import TargetError
from remediator.extensions import costs
from remediator.extensions.actions.base import RELEASES, Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import OWN_RESTARTS, State
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RollbackParameters(Parameters):
    """Parameters of ``service.rollback``."""

    changed_within: Duration | None = Field(
        default=None, description="Only if the current release was deployed within this time; default: always."
    )


class ServiceRollback(Action):
    """Roll a service back to its previous release, never to a release that was rolled back before."""

    name = "service.rollback"
    Parameters = RollbackParameters
    interrupts = True
    measures = (*costs.REDIS_FIELDS, *costs.INSTANCE_FIELDS)
    timeout = timedelta(seconds=120)
    facts = (
        Fact("from", "string", "ID of the release before the action."),
        Fact("to", "string", "ID of the restored release."),
        Fact("from_name", "string", "Release before, with version, time and author."),
        Fact("to_name", "string", "Restored release, with version, time and author."),
    )
    reads_releases = True

    async def plan(self, service: Service, parameters: RollbackParameters) -> PlannedCall:
        platform = self.clients.platform_of(service)
        await platform.require_rights(service, self.name)
        status = await platform.status(service)
        if status.hold:
            raise TargetError(f"cannot roll back {service.name}: {status.hold}")
        current, restored = previous(service.name, await platform.releases(service), RELEASES.get())
        within, since = parameters.changed_within, current.created_at
        if within is not None and since is not None and self.clients.clock.now() - since > within:
            raise TargetError(
                f"{service.name} has run {current.label} since {rfc3339(since)[:19]}Z, "
                f"longer than {format_duration(within)}: it is not a new release"
            )
        new, old = current.title, restored.title
        return PlannedCall(
            text=f"roll {service.name} back from {new} to {old}: {platform.describe_rollback(service, restored.id)}",
            arguments={"from": current.id, "to": restored.id, "from_name": new, "to_name": old},
            pin=status.pin,
            volatile_fields=(OWN_RESTARTS, "pid", "started"),  # a crashing service has a new process each time
            risk=f"Features new in {current.label} stop working; {restored.label} may be unable to read data that "
            f"{current.label} wrote.",
            release_change=ReleaseChange(current.key, new, restored.key, old),
        )

    async def cost(self, service: Service, parameters: RollbackParameters, call: PlannedCall) -> Cost:
        return await costs.interruption(self.clients, service)

    async def execute(self, service: Service, parameters: RollbackParameters, call: PlannedCall) -> Result:
        platform = self.clients.platform_of(service)
        await platform.rollback(service, call.pin, str(call.arguments["to"]))
        status = await platform.status(service)
        current = [release.id for release in await platform.releases(service) if release.current]
        if current == [call.arguments["from"]]:
            text = f"nothing was changed: {service.name} still runs {current[0]}: {status.summary}"
            return Result(Outcome.FAILED, text, dict(call.arguments))
        outcome = Outcome.OK if status.state in (State.RUNNING, State.STARTING) else Outcome.FAILED
        return Result(
            outcome,
            f"{service.name} was rolled back to {call.arguments['to_name']}: {status.summary}",
            dict(call.arguments),
        )

    async def observe(
        self, service: Service, parameters: RollbackParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Compare the current release: the planned one, started since, means done."""
        platform = self.clients.platform_of(service)
        current = [release.id for release in await platform.releases(service) if release.current]
        status = await platform.status(service)
        facts: dict[str, Any] = {"current": current, "state": status.state.value}
        if current == [call.arguments["from"]]:
            return Observation(EffectStatus.NO, f"{service.name} still runs {current[0]}", facts)
        anew = status.started_at is not None and status.started_at >= since - timedelta(seconds=1)
        if current == [call.arguments["to"]] and anew:
            return Observation(EffectStatus.YES, f"{service.name} was started with {current[0]}", facts)
        return Observation(EffectStatus.UNKNOWN, f"{service.name}: {', '.join(current)}; {status.summary}", facts)
