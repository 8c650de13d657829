"""``apprise``: the many services that Apprise knows, as plain text. Needs the extra of that name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from remediator.core.types import FilePath, Strict
from remediator.errors import BadAnswer, ConfigurationError
from remediator.extensions.notifiers._http import fit, secret, short
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, Tone

_TYPES = {Tone.ASK: "warning", Tone.PROBLEM: "failure", Tone.GOOD: "success", Tone.NOTE: "info"}


class AppriseSettings(Strict):
    """Apprise's addresses; they hold secrets."""

    url_file: FilePath = Field(description="File with one of Apprise's addresses on each line.")


class AppriseNotifier(Notifier):
    """Plain text; what a service makes of it, this notifier cannot know, so it sends no markup."""

    kind = "apprise"
    Settings = AppriseSettings
    settings: AppriseSettings
    per_minute = 20

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        try:
            import apprise  # noqa: PLC0415 - comes with the extra only
        except ImportError:
            raise ConfigurationError("apprise: install remediator with the extra 'apprise'") from None
        self._apprise: Any = apprise.Apprise()
        for line in secret(self.kind, self.settings.url_file).splitlines():
            if not self._apprise.add(line.strip()):
                raise ConfigurationError("apprise: a line of url_file is no address that Apprise knows")

    async def send(self, message: Message) -> Delivery:
        fitted = fit(message.sections, 2800 - sum(len(url) + 20 for _, url in message.links), each=4)
        lines = list(replace(message, sections=tuple(fitted)).text())[1:]
        body = "\n".join(lines).strip() or message.title  # it takes no empty one
        told = await self._apprise.async_notify(
            body=body, title=short(message.title, 200), notify_type=_TYPES[message.tone], body_format="text"
        )
        if not told:
            raise BadAnswer("apprise could not deliver")
        return Delivery()
