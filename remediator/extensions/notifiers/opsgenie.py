"""``opsgenie``: Opsgenie's Alert API, for what has to wake somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pydantic import Field

from remediator.core.types import FilePath, Strict
from remediator.extensions.notifiers._http import Poster, fit, secret, short
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, Tone

_PRIORITY = {Tone.ASK: "P2", Tone.PROBLEM: "P1", Tone.GOOD: "P5", Tone.NOTE: "P3"}


class OpsgenieSettings(Strict):
    """An API integration of Opsgenie."""

    key_file: FilePath = Field(description="The integration's API key.")
    api: str = Field(default="https://api.opsgenie.com", description="api.eu.opsgenie.com for Europe.")


class OpsgenieNotifier(Notifier):
    """One alert for the request of a run, which is closed with it; one for each time that a person is needed."""

    kind = "opsgenie"
    keeps = False
    Settings = OpsgenieSettings
    settings: OpsgenieSettings

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._poster = Poster(self.kind, self.settings.api)

    async def aclose(self) -> None:
        await self._poster.aclose()

    async def send(self, message: Message) -> Delivery:
        alias = short(message.incident, 500)
        body = {
            "message": short(message.title, 130),
            "alias": alias,
            "description": _text(message),
            "priority": _PRIORITY[message.tone],
            "source": "remediator",
        }
        await self._post(body, "/v2/alerts")
        return Delivery({"alias": alias})

    async def follow(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """A note on the alert; a run that ended well closes it."""
        well = message.final and message.tone is Tone.GOOD
        path = f"/v2/alerts/{quote(str(receipt['alias']), safe='')}/{'close' if well else 'notes'}"
        await self._post({"note": _text(message), "source": "remediator"}, f"{path}?identifierType=alias")
        return Delivery(receipt)

    async def _post(self, body: Mapping[str, Any], path: str) -> None:
        key = secret(self.kind, self.settings.key_file)
        await self._poster.post(body, path, {"Authorization": f"GenieKey {key}"})


def _text(message: Message) -> str:
    """Opsgenie takes 15,000 characters; the links at the end are among them."""
    sections = fit(message.sections, 13_000 - sum(len(url) for _, url in message.links), each=4)
    return "\n".join(replace(message, sections=tuple(sections)).text())
