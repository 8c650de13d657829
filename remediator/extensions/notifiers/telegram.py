"""``telegram``: a Telegram bot. Messages are updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Annotated, Any

import msgspec
from pydantic import Field

from remediator.clients.webhook import Hook
from remediator.core import untrusted_json
from remediator.core.text import shorten
from remediator.core.types import SecretFile, Strict
from remediator.errors import BadAnswer
from remediator.extensions.notifiers._http import (
    BUTTON_NAMES,
    CHART_ALT_TEXT,
    HttpNotifier,
    fit,
    read_secret_file,
    utf16_length,
)
from remediator.extensions.notifiers.base import Delivery, Message, PermanentFailure, PressedButton


class TelegramSettings(Strict):
    """The bot and the chat."""

    token_file: SecretFile = Field(description="File with the token of the bot.")
    chat: str = Field(min_length=1, description="Chat ID, for example -1001234567890.")
    mentions: tuple[Annotated[str, Field(pattern=r"^@\w{5,32}$")], ...] = Field(
        default=(), max_length=5, description="User names to mention when people are needed, for example @ann_sre."
    )
    buttons: bool = Field(
        default=False,
        description="Decide with buttons. This service then asks Telegram for presses (long polling), so the bot must "
        "not have a webhook; the people file needs the Telegram IDs.",
    )
    api: str = Field(default="https://api.telegram.org", description="Base URL of the API, for example of a proxy.")


class _Sender(msgspec.Struct):
    """The user who pressed a button."""

    id: int


class _Chat(msgspec.Struct):
    """The chat of a message."""

    id: int


class _Shown(msgspec.Struct):
    """The message with the button."""

    chat: _Chat


class _Pressed(msgspec.Struct):
    """A callback query."""

    id: str
    sender: _Sender = msgspec.field(name="from")
    data: str = ""
    message: _Shown | None = None


class _Update(msgspec.Struct):
    """One update of ``getUpdates``."""

    update_id: int
    callback_query: _Pressed | None = None


class _Updates(msgspec.Struct):
    """The answer of ``getUpdates``."""

    result: tuple[_Update, ...]


class TelegramNotifier(HttpNotifier):
    """Sends HTML. Text from alerts is escaped and inside ``pre``, where Telegram creates no links."""

    kind = "telegram"
    Settings = TelegramSettings
    settings: TelegramSettings
    per_minute = 18
    attaches_charts = True
    short_buttons = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._polling = Hook(self.kind, self.settings.api.rstrip("/"), _POLL_TIMEOUT)
        self.identifies_people = self.polls_buttons = self.settings.buttons

    async def aclose(self) -> None:
        await super().aclose()
        await self._polling.aclose()

    async def send(self, message: Message) -> Delivery:
        body = {"chat_id": self.settings.chat, **_payload(message, self.settings.mentions)}
        if message.thread.get("message"):
            body["reply_parameters"] = {"message_id": message.thread["message"], "allow_sending_without_reply": True}
        answer = await self._call("sendMessage", body)
        result = answer.get("result")
        return Delivery({"message": result.get("message_id") if isinstance(result, dict) else None})

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Update the message in place. Also reply with news that people must notice: an update is silent."""
        if receipt.get("message") is None:
            return await self.send(message)
        place = {"chat_id": self.settings.chat, "message_id": receipt["message"]}
        try:
            await self._call("editMessageText", {**place, **_payload(message)})
        except PermanentFailure as error:
            if "not modified" not in str(error):  # the first attempt succeeded and its answer was lost
                raise
        if message.announce:
            reply = {"message_id": receipt["message"], "allow_sending_without_reply": True}
            body = {"chat_id": self.settings.chat, "reply_parameters": reply, "parse_mode": "HTML"}
            await self._call("sendMessage", {**body, "text": f"<pre>{escape(shorten(message.title, 1000))}</pre>"})
        return Delivery(receipt)

    async def add_chart(self, chart: bytes, receipt: Mapping[str, Any]) -> None:
        """Send the chart as a silent reply: the caption of a photo is too short for the text of a request."""
        if receipt.get("message") is None:
            raise BadAnswer("telegram: the answer has no message ID")
        reply = {"message_id": receipt["message"], "allow_sending_without_reply": True}
        form = {"chat_id": self.settings.chat, "caption": CHART_ALT_TEXT, "disable_notification": "true"}
        form["reply_parameters"] = msgspec.json.encode(reply).decode()
        await self._call("sendPhoto", None, form=form, files={"photo": ("chart.png", chart, "image/png")})

    async def poll_buttons(self, after: int, wait: float) -> Sequence[PressedButton]:
        body = {"offset": after + 1, "timeout": int(wait), "allowed_updates": ["callback_query"]}
        token = read_secret_file(self.kind, self.settings.token_file)
        answer = await self._polling.call("POST", f"/bot{token}/getUpdates", body)
        try:
            updates = untrusted_json.decode(answer.body, _Updates).result
        except msgspec.DecodeError as error:
            raise BadAnswer(f"telegram: the answer of getUpdates is not as documented: {error}") from None
        pressed = []
        for item in updates:
            press = item.callback_query
            ours = press is not None and press.message is not None and str(press.message.chat.id) == self.settings.chat
            if press is None or not ours:
                pressed.append(PressedButton("", "", "", item.update_id))
            else:
                pressed.append(PressedButton(press.id, str(press.sender.id), press.data, item.update_id))
        return pressed

    async def answer_button(self, button_id: str, text: str) -> None:
        if button_id:
            body = {"callback_query_id": button_id, "text": shorten(text, _MAX_ANSWER), "show_alert": True}
            await self._call("answerCallbackQuery", body)

    async def _call(self, method: str, body: Any, **more: Any) -> Mapping[str, Any]:
        token = read_secret_file(self.kind, self.settings.token_file)
        return await self._poster.post(body, f"/bot{token}/{method}", **more)


def _payload(message: Message, mentions: Sequence[str] = ()) -> dict[str, Any]:
    lines = [" ".join(mentions)] if message.mention and mentions else []
    title = shorten(message.title, 300)
    lines.append(f"<b>{escape(title).replace('://', ':&#8203;//')}</b>")
    for section in fit(message.sections, _MAX_TEXT - utf16_length(title) - 20, length=utf16_length, overhead=2):
        text = "\n".join(section.lines)
        lines.append(f"<b>{escape(section.heading)}</b>\n<pre>{escape(text)}</pre>")
    payload: dict[str, Any] = {
        "text": "\n".join(lines),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    links = [{"text": name, "url": url} for name, url in message.links]
    # the data of a button is at most 64 bytes, the limit of Telegram
    values = {**({} if message.ask is None else message.ask.buttons), **message.buttons}
    buttons = [{"text": BUTTON_NAMES[verb], "callback_data": value} for verb, value in values.items()]
    rows = [row for row in (links, buttons) if row]
    return payload | ({"reply_markup": {"inline_keyboard": rows}} if rows else {})


_POLL_TIMEOUT = 40.0
"""Seconds; longer than a request for updates waits."""
_MAX_ANSWER = 200
"""Characters of the answer to a press."""
_MAX_TEXT = 3800
"""Characters. The limit of Telegram is 4096, without tags and entities; the rest is for mentions."""
