"""``disk.usage``: Check that the data disk of a service is not too full."""

from __future__ import annotations

from pydantic import Field

from remediator.extensions import bindings, data_disk
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class DiskUsageParameters(Parameters):
    """Parameters of ``disk.usage``."""

    max_percent: int | None = Field(
        default=None, ge=1, le=99, description="Disk usage above this fails; default: full_percent of the inventory."
    )


class DiskUsage(Check):
    """Compare the usage of the data disk with a limit."""

    name = "disk.usage"
    needs = ("disk",)
    Parameters = DiskUsageParameters
    facts = (
        Fact("percent", "number", "Used part of the disk.", unit="%"),
        Fact("free", "integer", "Free space.", unit="bytes"),
        Fact("size", "integer", "Size of the disk.", unit="bytes"),
        Fact("max_percent", "integer", "Limit that the check used.", unit="%"),
    )

    async def observe(self, service: Service, parameters: DiskUsageParameters) -> Evidence:
        found = await data_disk.usage(service, self.clients.prometheus)
        most = parameters.max_percent or bindings.disk(service).full_percent
        facts = {"percent": round(found.percent, 1), "free": found.free, "size": found.size, "max_percent": most}
        text = f"the disk of {service.name} is {found.percent:.0f} % full (limit: {most} %)"
        return Evidence(CheckAnswer.OK if found.percent <= most else CheckAnswer.FAIL, text, facts)
