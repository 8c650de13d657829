"""``pagerduty``: PagerDuty's Events API v2, for what has to wake somebody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.core.types import FilePath, Strict
from remediator.extensions.notifiers._http import Poster, secret, short
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, Tone

_SEVERITY = {Tone.ASK: "error", Tone.PROBLEM: "critical", Tone.GOOD: "info", Tone.NOTE: "warning"}


class PagerDutySettings(Strict):
    """An integration of a PagerDuty service."""

    key_file: FilePath = Field(description="The integration (routing) key.")
    source: str = Field(default="remediator", description="Shown as the event's source.")
    api: str = Field(default="https://events.pagerduty.com", description="events.eu.pagerduty.com for Europe.")


class PagerDutyNotifier(Notifier):
    """One incident for the request of a run, which ends with it; one for each time that a person is needed."""

    kind = "pagerduty"
    keeps = False
    Settings = PagerDutySettings
    settings: PagerDutySettings

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._poster = Poster(self.kind, self.settings.api)

    async def aclose(self) -> None:
        await self._poster.aclose()

    async def send(self, message: Message) -> Delivery:
        key = message.incident
        await self._event(message, key, "trigger")
        return Delivery({"dedup_key": key})

    async def follow(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """A run that ended well ends its incident; other news are no reason to wake anybody again."""
        if message.final and message.tone is Tone.GOOD:
            await self._event(message, str(receipt["dedup_key"]), "resolve")
        return Delivery(receipt)

    async def _event(self, message: Message, key: str, action: str) -> None:
        links = [{"href": url, "text": name} for name, url in message.links]
        details = {section.heading: short("\n".join(section.lines), 4000) for section in message.sections}
        await self._poster.post(
            {
                "routing_key": secret(self.kind, self.settings.key_file),
                "event_action": action,
                "dedup_key": short(key, 255),
                "payload": {
                    "summary": short(message.title, 1000),
                    "source": self.settings.source,
                    "severity": _SEVERITY[message.tone],
                    "custom_details": details,
                },
                "links": links,
            },
            "/v2/enqueue",
        )
