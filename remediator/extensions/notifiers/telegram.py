"""``telegram``: a Telegram bot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import msgspec
from pydantic import Field

from remediator.core.types import FilePath, Strict
from remediator.errors import BadAnswer
from remediator.extensions.notifiers._http import ALT, Poster, fit, secret, short, utf16
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, PermanentFailure


class TelegramSettings(Strict):
    """A bot and a chat."""

    token_file: FilePath = Field(description="The bot's token.")
    chat: str = Field(min_length=1, description="Chat id, such as -1001234567890.")
    api: str = Field(default="https://api.telegram.org", description="For tests and proxies.")


class TelegramNotifier(Notifier):
    """HTML, in which text from alerts is escaped and stands in ``pre``, so that nothing in it becomes a link."""

    kind = "telegram"
    Settings = TelegramSettings
    settings: TelegramSettings
    per_minute = 18
    adds_charts = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._poster = Poster(self.kind, self.settings.api)

    async def aclose(self) -> None:
        await self._poster.aclose()

    async def send(self, message: Message) -> Delivery:
        answer = await self._call("sendMessage", {"chat_id": self.settings.chat, **_payload(message)})
        result = answer.get("result")
        return Delivery({"message": result.get("message_id") if isinstance(result, dict) else None})

    async def follow(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """In place, and at the end of the run as an answer too, which makes phones ring."""
        if receipt.get("message") is None:
            return await self.send(message)
        place = {"chat_id": self.settings.chat, "message_id": receipt["message"]}
        try:
            await self._call("editMessageText", {**place, **_payload(message)})
        except PermanentFailure as error:
            if "not modified" not in str(error):  # an edit whose answer was lost, made again: it is there
                raise
        if message.final:
            reply = {"message_id": receipt["message"], "allow_sending_without_reply": True}
            body = {"chat_id": self.settings.chat, "reply_parameters": reply, "parse_mode": "HTML"}
            await self._call("sendMessage", {**body, "text": f"<pre>{escape(short(message.title, 1000))}</pre>"})
        return Delivery(receipt)

    async def add_chart(self, chart: bytes, receipt: Mapping[str, Any]) -> None:
        """As a silent answer: a photo's caption is too short for a request, so the request stays a text of its own."""
        if receipt.get("message") is None:
            raise BadAnswer("telegram did not say which message it was")
        reply = {"message_id": receipt["message"], "allow_sending_without_reply": True}
        form = {"chat_id": self.settings.chat, "caption": ALT, "disable_notification": "true"}
        form["reply_parameters"] = msgspec.json.encode(reply).decode()
        await self._call("sendPhoto", None, form=form, files={"photo": ("chart.png", chart, "image/png")})

    async def _call(self, method: str, body: Any, **more: Any) -> Mapping[str, Any]:
        token = secret(self.kind, self.settings.token_file)
        return await self._poster.post(body, f"/bot{token}/{method}", **more)


def _payload(message: Message) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "text": "\n".join(_lines(message)),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    keys = list(_keys(message))
    return payload | ({"reply_markup": {"inline_keyboard": [keys]}} if keys else {})


_ALL = 4000
"""Characters that Telegram takes: 4096, tags and entities not counted."""


def _lines(message: Message) -> Iterator[str]:
    title = short(message.title, 300)
    yield f"<b>{escape(title).replace('://', ':&#8203;//')}</b>"
    for section in fit(message.sections, _ALL - utf16(title) - 20, size=utf16, each=2):
        text = "\n".join(section.lines)
        yield f"<b>{escape(section.heading)}</b>\n<pre>{escape(text)}</pre>"


def _keys(message: Message) -> Iterator[dict[str, str]]:
    yield from ({"text": name, "url": url} for name, url in message.links)
