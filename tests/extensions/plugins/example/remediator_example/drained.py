"""``example.drained``: the marker is there."""

from __future__ import annotations

from remediator_example.drain import DrainParameters

from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.playbooks.inventory import Service


class Drained(Check):
    """The service is out of its pool."""

    name = "example.drained"
    Parameters = DrainParameters

    async def observe(self, service: Service, parameters: DrainParameters) -> Evidence:
        try:
            names = [path.name for path in parameters.folder.iterdir()]
        except OSError as error:
            return Evidence(CheckAnswer.UNKNOWN, f"{parameters.folder}: {error.strerror}")
        there = service.name in names
        return Evidence(
            CheckAnswer.OK if there else CheckAnswer.FAIL, f"{service.name} has {'a' if there else 'no'} marker"
        )
