"""Further sources of alerts: their credentials can be read, and those that can be asked which alerts fire answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.errors import ClientError
from remediator.extensions.sources.base import Source
from remediator.runtime.access import credentials_of


class Sources(DoctorCheck):
    """Asks each source which alerts fire."""

    name = "sources"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        if not about.config.sources:
            yield skipped("sources", "the settings name no source beside Alertmanager")
        for name, settings in about.config.sources.items():
            credentials_of(settings, f"sources.{name}")
        made = about.registry.make_sources(about.config)
        for name in about.config.sources:
            yield await _examine(made[name])
        for source in made.values():
            for peer in source.peers:
                await peer.aclose()


async def _examine(source: Source) -> Result:
    path = f"/api/v1/alerts/{source.name}"
    if not source.peers:
        text = f"alerts arrive at {path}; it cannot be asked whether an alert still fires, so a person decides"
        return warning(source.name, text, "nothing to do if its runs may wait for an approval")
    for peer in source.peers:
        try:
            firing = await peer.alerts()
        except ClientError as error:
            return failed(source.name, str(error), f"check its URL and token in 'sources.{source.name}'")
    return ok(source.name, f"alerts arrive at {path}; {len(firing)} alerts have not ended there")
