"""``webhook``: JSON to any HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import Field

from remediator.core.clock import rfc3339
from remediator.core.types import SecretFile
from remediator.core.urls import UrlOrFile
from remediator.extensions.notifiers._http import HttpNotifier, read_secret_file
from remediator.extensions.notifiers.base import Delivery, Message


class WebhookSettings(UrlOrFile):
    """The target URL, and how the receiver authenticates the sender."""

    token_file: SecretFile | None = Field(default=None, description="File with the bearer token to send.")
    secret_file: SecretFile | None = Field(
        default=None, description="File with the key of the X-Remediator-Signature header: sha256=<HMAC of the body>."
    )


class WebhookNotifier(HttpNotifier):
    """Sends each message as one JSON object. Repeated deliveries have the same ``id``."""

    kind = "webhook"
    embeds_charts = True
    Settings = WebhookSettings
    settings: WebhookSettings
    per_minute = 600

    async def send(self, message: Message) -> Delivery:
        data: dict[str, Any] = {
            "version": 1,
            "id": message.id,
            "kind": message.kind,
            "incident": message.incident,
            "severity": message.severity,
            "over": message.over,
            "run": message.run_id,
            "tone": message.tone.value,
            "title": message.title,
            "sections": [{"heading": item.heading, "lines": list(item.lines)} for item in message.sections],
            "link": message.link,
            "data": dict(message.body),
        }
        if message.chart:
            data["chart_png"] = base64.b64encode(message.chart).decode()
        if message.ask is not None:
            ask = message.ask
            data["ask"] = {"approval": ask.approval, "until": rfc3339(ask.until), "who": ask.who, "link": ask.link}
        body = msgspec.json.encode(data)
        headers = {"Content-Type": "application/json", "X-Remediator-Message": message.id}
        if self.settings.token_file is not None:
            headers["Authorization"] = f"Bearer {read_secret_file(self.kind, self.settings.token_file)}"
        if self.settings.secret_file is not None:
            key = read_secret_file(self.kind, self.settings.secret_file).encode()
            headers["X-Remediator-Signature"] = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
        await self._poster.post(None, headers=headers, content=body)
        return Delivery()

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Send the whole message again: a program reads it."""
        return await self.send(message)
