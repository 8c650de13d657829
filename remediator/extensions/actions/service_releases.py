"""``service.releases``: Read the current release, its start time and the earlier releases, to detect a recent
change.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from remediator.core.clock import format_duration, rfc3339
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.errors import TargetError
from remediator.extensions.actions.base import RELEASES, Action, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class ReleasesParameters(Parameters):
    """Parameters of ``service.releases``."""

    within: Duration = Field(default=timedelta(hours=1), description="A change within this time counts as recent.")


class ServiceReleases(Action):
    """List the releases of a service, and how old the current one is. Read-only."""

    name = "service.releases"
    Parameters = ReleasesParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=10)
    facts = (
        Fact("current", "string", "ID of the current release."),
        Fact("name", "string", "Current release, with version, time and author."),
        Fact("since", "string", "Time of its creation, RFC 3339; null if unknown."),
        Fact("age", "number", "Time since its creation; null if unknown.", unit="s"),
        Fact("recent", "boolean", "Whether it was created within the parameter within; null if unknown."),
        Fact("before", "list", "IDs of up to 10 earlier releases."),
        Fact("undone", "list", "IDs of up to 10 releases that were rolled back."),
    )

    reads_releases = True

    async def plan(self, service: Service, parameters: ReleasesParameters) -> PlannedCall:
        return PlannedCall(text=f"read the releases of {service.name}")

    async def execute(self, service: Service, parameters: ReleasesParameters, call: PlannedCall) -> Result:
        found = await self.clients.platform_of(service).releases(service)
        current = next((release for release in found if release.current), None)
        if current is None:
            raise TargetError(f"{service.name} has no current release")
        at, before = current.created_at, found[found.index(current) + 1 :]
        age = None if at is None else self.clients.clock.now() - at
        recent = None if age is None else age <= parameters.within
        memory = RELEASES.get()
        facts = {
            "current": current.id,
            "name": current.title,
            "since": None if at is None else rfc3339(at),
            "age": None if age is None else round(age.total_seconds(), 1),
            "recent": recent,
            "before": [release.id for release in before[:10]],
            "undone": [release.id for release in found if memory.is_bad(release)][:10],
        }
        earlier = "; ".join(release.title for release in before[:3]) or "nothing"
        since = "" if age is None else f", for {format_duration(timedelta(seconds=int(age.total_seconds())))}"
        text = f"{service.name} runs {current.title}{since}; before it: {earlier}"
        return Result(Outcome.OK, text, facts)
