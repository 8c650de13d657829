"""Read the events of Slack (buttons, dialogs, commands) and answer them, whether they come by HTTP or by a socket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import structlog

from remediator.clients.endpoints import read_secret
from remediator.clients.webhook import Hook, split
from remediator.core import untrusted_json
from remediator.core.access_settings import Slack
from remediator.core.approval import BUTTON, ApprovalLink, Person, open_link
from remediator.core.identity import People
from remediator.core.tokens import Keyring
from remediator.errors import ClientError
from remediator.runtime.chat import DECISIONS, NOTHING, ChatActions, Press, Verb

log: Any = structlog.get_logger("remediator.runtime.slack_events")

REASON_DIALOG = "remediator.reason"
_ASKS_REASON = (Verb.REJECT, Verb.PAUSE, Verb.UNDO)
"""The buttons that open a dialog for a reason, if the settings have the bot token."""
_MAX_REASON = 500
_TITLES = {Verb.REJECT: "Reject the plan", Verb.PAUSE: "Stop all actions", Verb.UNDO: "Undo the run"}
_REPLY_HOST = "hooks.slack.com"


class NotAnEvent(ValueError):
    """The payload is not an interaction or a command of Slack."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a person."""

    text: str
    response_url: str
    """Where Slack takes the answer; empty for a dialog."""


@dataclass(frozen=True, slots=True)
class SlackEvents:
    """Handles events whose origin is proved: by the signature of the request, or by the socket of the app.

    Args:
        settings: returns ``access.slack``.
        people: returns the people file.
        keyring: signed the buttons.
        actions: executes the requests of people.
        now: returns the time.
    """

    settings: Callable[[], Slack]
    people: Callable[[], People]
    keyring: Keyring
    actions: ChatActions
    now: Callable[[], datetime]

    async def interaction(self, payload: Mapping[str, Any]) -> Reply | None:
        """Handle a pressed button or a submitted dialog. Return the answer; None if the message shows the result.

        The checks, in this order: the button is signed by this service; it has not expired; the Slack user is in the
        people file. Only then is anything done, with the same rules as on the page.

        Raises:
            NotAnEvent: the payload is malformed.
            StoreError: the store does not answer.
        """
        try:
            if payload.get("type") == "view_submission":
                return await self._submitted(payload)
            action = payload["actions"][0]
            url = str(payload.get("response_url", ""))
            verb = str(action["action_id"]).removeprefix("remediator.")
            if verb not in list(Verb):
                return None  # this button only opens a page
            text, trigger = str(action.get("action_ts", "")), str(payload.get("trigger_id", ""))
            press = self._press(Verb(verb), str(action["value"]), payload, text)
            if isinstance(press, str):
                return Reply(press, url)
            if press.verb in _ASKS_REASON and await self._ask_reason(press.verb, str(action["value"]), trigger, url):
                return None
        except (KeyError, IndexError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise NotAnEvent(f"not an interaction of Slack: {error}") from None
        answer = await self.actions.press(press)
        return Reply(answer, url) if answer else None

    async def _submitted(self, payload: Mapping[str, Any]) -> Reply | None:
        view = payload["view"]
        if view.get("callback_id") != REASON_DIALOG:
            return None
        asked = json.loads(view["private_metadata"])
        reason = str(view["state"]["values"]["reason"]["reason"].get("value") or "")[:_MAX_REASON]
        press = self._press(Verb(asked["verb"]), str(asked["value"]), payload, str(view["id"]), reason)
        answer = press if isinstance(press, str) else await self.actions.press(press)
        return Reply(answer, str(asked["url"])) if answer else None

    def _press(self, verb: Verb, value: str, payload: Mapping[str, Any], at: str, reason: str = "") -> Press | str:
        """Return the press, or why it does not count."""
        opened = open_link(self.keyring, value, self.now(), BUTTON)
        if opened is None:
            return f"{NOTHING}this button was not made by this service."
        if opened.expired:
            return f"{NOTHING}this request has expired."
        workspace, user = str(payload["team"]["id"]), str(payload["user"]["id"])
        person = self.people().by_slack(workspace, user)
        if person is None:
            return f"{NOTHING}Slack user {user} is not in the people file. Ask an administrator to add you."
        link: ApprovalLink = opened.link
        if verb in DECISIONS and not link.approval:
            return f"{NOTHING}this button is not for a decision."
        # The ID recognises a repeat of this press. Without a timestamp of Slack there is none.
        digest = hashlib.sha256("/".join((workspace, user, at)).encode()).hexdigest()[:24]
        press_id = f"stop-slack-{digest}" if at else ""
        return Press(verb, link.run, person, press_id, link.approval, link.plan, reason)

    async def _ask_reason(self, verb: Verb, value: str, trigger: str, url: str) -> bool:
        """Open a dialog that asks for a reason; return False if this is not possible."""
        settings = self.settings()
        if settings.bot_token_file is None or not trigger:
            return False
        view = reason_dialog(verb, json.dumps({"verb": verb.value, "value": value, "url": url}))
        try:
            await web_api(settings, settings.bot_token_file, "views.open", {"trigger_id": trigger, "view": view})
        except ClientError as error:
            log.warning("dialog of Slack not opened, no reason is asked", message=str(error))
            return False
        return True

    async def command(self, fields: Mapping[str, Any]) -> str:
        """Handle a slash command; return the answer, which only its user sees.

        Raises:
            NotAnEvent: the fields are malformed.
            StoreError: the store does not answer.
        """
        try:
            workspace, user, text = str(fields["team_id"]), str(fields["user_id"]), str(fields.get("text", ""))
        except KeyError as error:
            raise NotAnEvent(f"not a command of Slack: {error}") from None
        person: Person | None = self.people().by_slack(workspace, user)
        if person is None:
            return f"{NOTHING}Slack user {user} is not in the people file. Ask an administrator to add you."
        return await self.actions.command(person, text)


def reason_dialog(verb: Verb, metadata: str) -> dict[str, Any]:
    """Return the dialog that asks for a reason before a button counts."""
    field = {"type": "plain_text_input", "action_id": "reason", "multiline": True, "max_length": _MAX_REASON}
    return {
        "type": "modal",
        "callback_id": REASON_DIALOG,
        "private_metadata": metadata,
        "title": {"type": "plain_text", "text": _TITLES[verb]},
        "submit": {"type": "plain_text", "text": _TITLES[verb].partition(" ")[0]},
        "close": {"type": "plain_text", "text": "Do nothing"},
        "blocks": [
            {
                "type": "input",
                "block_id": "reason",
                "optional": verb is not Verb.PAUSE,
                "label": {"type": "plain_text", "text": "Reason, shown to other users"},
                "element": field,
            }
        ],
    }


async def web_api(settings: Slack, token_file: Any, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Call a method of Slack's Web API once.

    Raises:
        ClientError: Slack cannot be reached, or refuses.
    """
    async with aclosing(Hook("slack", settings.api.rstrip("/"))) as hook:
        try:
            token = read_secret(token_file)
            answer = await hook.call("POST", f"/api/{method}", dict(body), {"Authorization": f"Bearer {token}"})
            found = untrusted_json.decode(answer.body)
        except (OSError, ValueError) as error:
            raise ClientError(f"slack: {method}: {error}") from None
    if not isinstance(found, dict) or found.get("ok") is not True:
        code = found.get("error", "no error code") if isinstance(found, dict) else "the answer is not an object"
        raise ClientError(f"slack: {method}: {code}")
    return found


async def send_reply(reply: Reply) -> None:
    """Send an answer that only this person sees. It goes only to Slack's own host, and is optional."""
    parts = urlsplit(reply.response_url)
    if parts.scheme != "https" or parts.hostname != _REPLY_HOST or parts.port is not None:
        return
    base, path = split(reply.response_url, "slack")
    async with aclosing(Hook("slack", base)) as hook:
        try:
            await hook.call("POST", path, {"response_type": "ephemeral", "replace_original": False, "text": reply.text})
        except ClientError:
            return  # the decision is recorded, and the original message is updated


SendReply = Callable[[Reply], Awaitable[None]]
