"""``example.drained``: Check that the marker file exists."""

from __future__ import annotations

from remediator_example.drain import DrainParameters

from remediator.plugin_api import Check, CheckAnswer, Evidence, Service


class Drained(Check):
    """Check that the service is drained from its pool."""

    name = "example.drained"
    Parameters = DrainParameters

    async def observe(self, service: Service, parameters: DrainParameters) -> Evidence:
        try:
            names = [path.name for path in parameters.folder.iterdir()]
        except OSError as error:
            return Evidence(CheckAnswer.UNKNOWN, f"{parameters.folder}: {error.strerror}")
        if service.name in names:
            return Evidence(CheckAnswer.OK, f"{service.name} has a marker file")
        return Evidence(CheckAnswer.FAIL, f"{service.name} has no marker file")
