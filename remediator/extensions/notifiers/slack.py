"""``slack``: the Web API of Slack, with buttons. Messages are updated in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from pydantic import Field

from remediator.core.text import shorten
from remediator.core.types import SecretFile, Strict
from remediator.errors import BadAnswer
from remediator.extensions.notifiers._http import (
    BUTTON_NAMES,
    CHART_ALT_TEXT,
    HttpNotifier,
    Poster,
    fit,
    read_secret_file,
)
from remediator.extensions.notifiers.base import Delivery, Message, PermanentFailure, RetryAfter, Section

_PERMANENT_ERRORS = frozenset(
    {"invalid_auth", "account_inactive", "token_revoked", "channel_not_found", "is_archived", "not_in_channel"}
    | {
        "invalid_blocks",
        "msg_too_long",
        "msg_blocks_too_long",
        "missing_scope",
        "not_authed",
        "no_permission",
        "restricted_action",
    }
)
_MAX_TEXT, _MAX_SECTION = 9000, 2900
"""Characters in all sections and in one. Slack refuses blocks above 3000 and messages above about 12,000."""
_STYLES = {"approve": "primary", "reject": "danger"}
_CONFIRM = {
    "approve": ("Approve this plan?", "The planned calls are made as soon as enough people have approved."),
    "pause": ("Stop all actions?", "No run starts a further action, on any service, until a person releases the stop."),
    "undo": ("Undo this run?", "The actions of the run are undone, as its playbook and its actions declare."),
    "silence": ("Silence the alerts?", "The alerts of this run notify no person for one hour."),
}
"""The buttons that ask for a confirmation: title and text. Slack allows 100 and 300 characters."""


class SlackSettings(Strict):
    """The bot of a Slack app."""

    token_file: SecretFile = Field(
        description="File with the bot token (xoxb-…). Scopes: chat:write; files:write for charts."
    )
    channel: str = Field(min_length=1, description="Channel ID, for example C0123456789.")
    mentions: tuple[Annotated[str, Field(pattern=r"^([USW][A-Z0-9]{5,20}|here|channel)$")], ...] = Field(
        default=(),
        max_length=10,
        description="Whom to mention when people are needed: IDs of users (U…) and user groups (S…), here or channel.",
    )
    api: str = Field(default="https://slack.com", description="Base URL of the API, for example of a proxy.")


class SlackNotifier(HttpNotifier):
    """Sends blocks with literal text: text from alerts is never a mention, a link or markup."""

    kind = "slack"
    Settings = SlackSettings
    settings: SlackSettings
    identifies_people = True
    attaches_charts = True

    async def send(self, message: Message) -> Delivery:
        body = {"channel": self.settings.channel, **_payload(message, self.settings.mentions)}
        if message.thread.get("ts"):  # one incident is one thread; messages that need people appear in the channel too
            body |= {"thread_ts": message.thread["ts"], "reply_broadcast": True}
        answer = await self._call("chat.postMessage", body)
        return Delivery({"channel": str(answer.get("channel", "")), "ts": str(answer.get("ts", ""))})

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Update the message in place. Also post news that people must notice to its thread: an update is silent."""
        place = {"channel": receipt["channel"], "ts": receipt["ts"]}
        await self._call("chat.update", {**place, **_payload(message)})
        if message.announce:
            reply = {"channel": receipt["channel"], "thread_ts": receipt["ts"], "text": escape(message.title)}
            await self._call("chat.postMessage", {**reply, "unfurl_links": False, "unfurl_media": False})
        return Delivery(receipt)

    async def add_chart(self, chart: bytes, receipt: Mapping[str, Any]) -> None:
        """Add the chart to the thread of the message: request an upload URL, upload, then publish the file."""
        asked = {"filename": "chart.png", "length": str(len(chart)), "alt_txt": CHART_ALT_TEXT}
        place = await self._call("files.getUploadURLExternal", None, form=asked)
        # the URL comes from the answer of the API: upload to a host of Slack only
        address = str(place.get("upload_url", ""))
        parts, home = urlsplit(address), urlsplit(self.settings.api)
        host = parts.hostname or ""
        ours = parts.scheme == home.scheme and (host == home.hostname or host.endswith(".slack.com"))
        if not ours or parts.username is not None:
            raise BadAnswer("slack: the upload URL is not on a host of Slack")
        async with aclosing(Poster(self.kind, address)) as poster:
            await poster.post(None, headers={"Content-Type": "application/octet-stream"}, content=chart)
        files = msgspec.json.encode([{"id": str(place.get("file_id", "")), "title": CHART_ALT_TEXT}]).decode()
        where = {"channel_id": str(receipt["channel"]), "thread_ts": str(receipt["ts"])}
        await self._call("files.completeUploadExternal", None, form={"files": files, **where})

    async def _call(self, method: str, body: Any, **more: Any) -> Mapping[str, Any]:
        headers = {"Authorization": f"Bearer {read_secret_file(self.kind, self.settings.token_file)}"}
        answer = await self._poster.post(body, f"/api/{method}", headers, **more)
        if answer.get("ok") is True:
            return answer
        error = str(answer.get("error", "no error code"))
        if error == "ratelimited":
            raise RetryAfter("slack: rate limited", 30.0)
        if error in _PERMANENT_ERRORS:
            raise PermanentFailure(f"slack: {error}")
        raise BadAnswer(f"slack: {error}")


def escape(text: str) -> str:
    """Escape the three control characters of Slack's mrkdwn."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _payload(message: Message, mentions: Sequence[str] = ()) -> dict[str, Any]:
    people = [_mention(item) for item in mentions] if message.mention else []
    first = [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": people}]}] if people else []
    return {
        "text": shorten(escape(message.title), 3000),
        "blocks": [*first, *_blocks(message)],
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {"event_type": "remediator", "event_payload": {"message": message.id}},
    }


def _mention(name: str) -> dict[str, Any]:
    """Return the element that mentions a user, a user group, or all present users."""
    if name in ("here", "channel"):
        return {"type": "broadcast", "range": name}
    kind = "usergroup" if name.startswith("S") else "user"
    return {"type": kind, f"{kind}_id": name}


def _blocks(message: Message) -> Iterator[dict[str, Any]]:
    yield {"type": "header", "text": {"type": "plain_text", "text": shorten(message.title, 150), "emoji": False}}
    sections = message.sections[:20]
    shown = fit(sections, _MAX_TEXT, _MAX_SECTION)
    for section in shown:
        yield {"type": "rich_text", "elements": list(_rich(section))}
    buttons = []
    if message.ask is not None:
        # Slack shows a date in the time zone of each reader
        deadline = {
            "type": "date",
            "timestamp": int(message.ask.until.timestamp()),
            "format": "{date_short_pretty} at {time}",
            "fallback": f"{message.ask.until:%Y-%m-%d %H:%M}Z",
        }
        before = {"type": "text", "text": "Decide before ", "style": {"bold": True}}
        elements = [before, deadline, {"type": "text", "text": " (your time)"}]
        yield {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]}
        # without *Approve* if the message does not show the whole plan; approvers then use the page
        complete = all(before == after for before, after in zip(sections, shown, strict=True) if before.exact)
        buttons += [
            _acting(verb, value) for verb, value in message.ask.buttons.items() if complete or verb != "approve"
        ]
    buttons += [_acting(verb, value) for verb, value in message.buttons.items()]
    for name, url in message.links:
        action = "remediator.open" if name == "Review and decide" else "remediator.follow"
        buttons.append(_button(name, action) | {"url": url})
    if buttons:
        yield {"type": "actions", "elements": buttons}


def _rich(section: Section) -> Iterator[dict[str, Any]]:
    """Rich text is literal: Slack does not parse it."""
    heading = {"type": "text", "text": section.heading, "style": {"bold": True}}
    yield {"type": "rich_text_section", "elements": [heading]}
    if section.exact:
        text = {"type": "text", "text": "\n".join(section.lines) or " "}
        yield {"type": "rich_text_preformatted", "elements": [text]}
        return
    lines = section.lines or (" ",)
    items = [{"type": "rich_text_section", "elements": [{"type": "text", "text": line or " "}]} for line in lines]
    yield {"type": "rich_text_list", "style": "bullet", "elements": items}


def _button(name: str, action: str) -> dict[str, Any]:
    return {"type": "button", "action_id": action, "text": {"type": "plain_text", "text": name, "emoji": False}}


def _acting(verb: str, value: str) -> dict[str, Any]:
    """Return a button for a decision or command, with a confirmation dialog if the verb needs one."""
    button = _button(BUTTON_NAMES[verb], f"remediator.{verb}")
    if verb in _STYLES:
        button["style"] = _STYLES[verb]
    button["value"] = value
    if verb in _CONFIRM:
        title, text = ({"type": "plain_text", "text": each} for each in _CONFIRM[verb])
        yes, no = ({"type": "plain_text", "text": each} for each in (BUTTON_NAMES[verb], "Do nothing"))
        button["confirm"] = {"title": title, "text": text, "confirm": yes, "deny": no}
    return button
