"""``opsgenie``: the Alert API of Opsgenie, to page the on-call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pydantic import Field

from remediator.core.text import shorten
from remediator.core.types import SecretFile, Strict
from remediator.extensions.notifiers._http import HttpNotifier, fit, read_secret_file
from remediator.extensions.notifiers.base import Delivery, Message, Tone

_PRIORITY = {"critical": "P1", "error": "P2", "warning": "P3", "info": "P5"}
_QUIET = {Tone.GOOD: "P5", Tone.NOTE: "P5"}
"""Priorities of messages that need no person; other messages have the priority of the alert's severity."""


class OpsgenieSettings(Strict):
    """An API integration of Opsgenie."""

    key_file: SecretFile = Field(description="File with the API key of the integration.")
    api: str = Field(
        default="https://api.opsgenie.com", description="Base URL of the API. EU: https://api.eu.opsgenie.com."
    )


class OpsgenieNotifier(HttpNotifier):
    """Has one alert of Opsgenie for each incident, with the priority of its severity. Closes it when that is over."""

    kind = "opsgenie"
    keeps_history = False
    Settings = OpsgenieSettings
    settings: OpsgenieSettings

    async def send(self, message: Message) -> Delivery:
        alias = shorten(message.incident, 500)
        body = {
            "message": shorten(message.title, 130),
            "alias": alias,
            "description": _text(message),
            "priority": _QUIET.get(message.tone) or _PRIORITY.get(message.severity, "P3"),
            "source": "remediator",
        }
        await self._post(body, "/v2/alerts")
        return Delivery({"alias": alias})

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Close the alert if the incident is over; add a note of news that people must notice."""
        if not (message.over or message.announce):
            return Delivery(receipt)
        path = f"/v2/alerts/{quote(str(receipt['alias']), safe='')}/{'close' if message.over else 'notes'}"
        await self._post({"note": _text(message), "source": "remediator"}, f"{path}?identifierType=alias")
        return Delivery(receipt)

    async def _post(self, body: Mapping[str, Any], path: str) -> None:
        key = read_secret_file(self.kind, self.settings.key_file)
        await self._poster.post(body, path, {"Authorization": f"GenieKey {key}"})


def _text(message: Message) -> str:
    """Return the text within the limit of Opsgenie: 15,000 characters, links included."""
    sections = fit(message.sections, 13_000 - sum(len(url) for _, url in message.links), overhead=4)
    return "\n".join(replace(message, sections=tuple(sections)).text())
