"""``apprise``: plain text to the services that Apprise supports. Requires the extra ``apprise``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from remediator.core.text import shorten
from remediator.core.types import SecretFile, Strict
from remediator.errors import BadAnswer, ConfigurationError
from remediator.extensions.notifiers._http import fit, read_secret_file
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, Tone

_TYPES = {Tone.ASK: "warning", Tone.PROBLEM: "failure", Tone.GOOD: "success", Tone.NOTE: "info"}


class AppriseSettings(Strict):
    """The URLs for Apprise. They contain secrets."""

    url_file: SecretFile = Field(description="File with one Apprise URL per line.")


class AppriseNotifier(Notifier):
    """Sends plain text, because the markup of the target services is not known."""

    kind = "apprise"
    Settings = AppriseSettings
    settings: AppriseSettings
    per_minute = 20

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        try:
            import apprise  # noqa: PLC0415 - part of an extra
        except ImportError:
            raise ConfigurationError("apprise: not installed; install remediator[apprise]") from None
        self._apprise: Any = apprise.Apprise()
        for line in read_secret_file(self.kind, self.settings.url_file).splitlines():
            if not self._apprise.add(line.strip()):
                raise ConfigurationError("apprise: a line in url_file is not a URL that Apprise supports")

    async def send(self, message: Message) -> Delivery:
        fitted = fit(message.sections, 2800 - sum(len(url) + 20 for _, url in message.links), overhead=4)
        lines = list(replace(message, sections=tuple(fitted)).text())[1:]
        body = "\n".join(lines).strip() or message.title  # Apprise refuses an empty body
        delivered = await self._apprise.async_notify(
            body=body, title=shorten(message.title, 200), notify_type=_TYPES[message.tone], body_format="text"
        )
        if not delivered:
            raise BadAnswer("apprise: at least one service did not accept the message")
        return Delivery()
