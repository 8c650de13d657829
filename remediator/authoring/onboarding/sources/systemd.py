"""Units of systemd on this host."""

from __future__ import annotations

import re

from remediator.authoring.onboarding.sources.base import (
    Found,
    FoundService,
    Source,
    Surroundings,
    aliases,
    service_name,
)
from remediator.clients.host import process
from remediator.clients.host.disk import tool
from remediator.errors import ClientError

_OF_THE_SYSTEM = re.compile(
    r"(systemd-|user@|getty@|serial-getty@|dbus|polkit|ssh|cron|rsyslog|networkd|NetworkManager|snapd|udisks|accounts-)"
)
_LIST = ("list-units", "--type=service", "--all", "--plain", "--no-legend", "--no-pager", "--full")


class SystemdSource(Source):
    """Reads the loaded services of systemd, without services of the operating system."""

    name = "systemd"

    async def find(self, surroundings: Surroundings) -> Found:
        program = tool("systemctl")
        if program is None:
            return Found("systemctl is not installed")
        try:
            ended = await process.run((program, *_LIST), seconds=5)
        except ClientError as error:
            return Found(str(error))
        if ended.status != 0:
            return Found(" ".join(ended.output.split())[:200])
        services = tuple(units(ended.output))
        return Found(f"{len(services)} services", services)


def units(listed: str) -> list[FoundService]:
    """Return the services in the output of ``systemctl list-units``."""
    found = []
    for line in listed.splitlines():
        unit, _, rest = line.strip().partition(" ")
        if not unit.endswith(".service") or _OF_THE_SYSTEM.match(unit) or rest.split()[:1] == ["not-found"]:
            continue
        name = unit.removesuffix(".service")
        found.append(FoundService(service_name(name), {"kind": "systemd", "unit": unit}, aliases((name, unit))))
    return found
