"""``disk.usage``: Check that the data disk of a service is not too full."""

from __future__ import annotations

import asyncio

from pydantic import Field

from remediator.clients.host import disk
from remediator.errors import RemediatorError
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class DiskUsageParameters(Parameters):
    """What is too full."""

    max_percent: int | None = Field(
        default=None, ge=1, le=99, description="Disk usage above this fails; default: full_percent of the inventory."
    )


class DiskUsage(Check):
    """Asks the filesystem."""

    name = "disk.usage"
    Parameters = DiskUsageParameters

    def __init__(self, world: ClientSet) -> None:
        """It looks at a filesystem of this host."""

    async def observe(self, service: Service, parameters: DiskUsageParameters) -> Evidence:
        if service.disk is None:
            return Evidence(
                CheckAnswer.UNKNOWN, f"the inventory does not say on which disk {service.name} keeps its data"
            )
        try:
            found = await asyncio.to_thread(disk.usage, service.disk.path)
        except RemediatorError as error:
            return Evidence(CheckAnswer.UNKNOWN, f"the disk of {service.name} cannot be looked at: {error}")
        most = parameters.max_percent or service.disk.full_percent
        facts = {"percent": round(found.percent, 1), "free": found.free, "size": found.size, "max_percent": most}
        text = f"the disk of {service.name} is {found.percent:.0f} % full, {most} % are allowed"
        return Evidence(CheckAnswer.OK if found.percent <= most else CheckAnswer.FAIL, text, facts)
