"""``pagerduty``: the Events API v2 of PagerDuty, to page the on-call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.core.text import shorten
from remediator.core.types import SecretFile, Strict
from remediator.extensions.notifiers._http import HttpNotifier, read_secret_file
from remediator.extensions.notifiers.base import Delivery, Message, Tone

_QUIET = {Tone.GOOD: "info", Tone.NOTE: "info"}
"""Severities of messages that need no person; other messages have the severity of the alert."""


class PagerDutySettings(Strict):
    """An integration of a PagerDuty service."""

    key_file: SecretFile = Field(description="File with the integration key (routing key).")
    source: str = Field(default="remediator", description="Source of the events.")
    api: str = Field(
        default="https://events.pagerduty.com", description="Base URL of the API. EU: https://events.eu.pagerduty.com."
    )


class PagerDutyNotifier(HttpNotifier):
    """Has one PagerDuty incident per incident, with the severity of its alerts. Resolves it when that is over."""

    kind = "pagerduty"
    keeps_history = False
    Settings = PagerDutySettings
    settings: PagerDutySettings

    async def send(self, message: Message) -> Delivery:
        key = message.incident
        await self._event(message, key, "trigger")
        return Delivery({"dedup_key": key})

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Resolve the incident if it is over, acknowledge it if people decided, trigger it again if they are needed.

        The key stays the same, so PagerDuty groups all of it.
        """
        needed = message.tone in (Tone.ASK, Tone.PROBLEM)
        action = "resolve" if message.over else "trigger" if needed else "acknowledge"
        if message.over or message.announce:
            await self._event(message, str(receipt["dedup_key"]), action)
        return Delivery(receipt)

    async def _event(self, message: Message, key: str, action: str) -> None:
        links = [{"href": url, "text": name} for name, url in message.links]
        details = {section.heading: shorten("\n".join(section.lines), 4000) for section in message.sections}
        await self._poster.post(
            {
                "routing_key": read_secret_file(self.kind, self.settings.key_file),
                "event_action": action,
                "dedup_key": shorten(key, 255),
                "payload": {
                    "summary": shorten(message.title, 1000),
                    "source": self.settings.source,
                    "severity": _QUIET.get(message.tone, message.severity),
                    "custom_details": details,
                },
                "links": links,
            },
            "/v2/enqueue",
        )
