"""Further sources of alerts: their credentials can be read, and sources with an API answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.errors import ClientError
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
        async with AsyncExitStack() as opened:
            for source in made.values():
                for peer in source.peers:
                    opened.push_async_callback(peer.aclose)
            for name in about.config.sources:
                source, path = made[name], f"/api/v1/alerts/{name}"
                if not source.peers:
                    text = (
                        f"alerts arrive at {path}; the source has no API that reports whether an alert still fires, so "
                        "a person decides"
                    )
                    yield warning(name, text, "nothing to do if its runs may wait for an approval")
                    continue
                try:
                    firing = [await peer.alerts() for peer in source.peers][-1]
                except ClientError as error:
                    yield failed(name, str(error), f"check its URL and token in 'sources.{name}'")
                else:
                    yield ok(name, f"alerts arrive at {path}; {len(firing)} alerts have not ended there")
