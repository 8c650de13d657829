"""Slack's Socket Mode: buttons, dialogs and commands over a WebSocket that this service opens, without an open port.

Every replica that runs the loops keeps one connection. Slack sends each event to one connection. An event is
acknowledged after its effect is committed; if the store does not answer, the event is not acknowledged, and Slack sends
it again.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
import websockets
from websockets.asyncio.client import ClientConnection

from remediator.core import progress, untrusted_json
from remediator.core.access_settings import Slack
from remediator.core.clock import Clock
from remediator.core.sizes import MEBIBYTE
from remediator.errors import ClientError, ConfigurationError, StoreError
from remediator.runtime.slack_events import NotAnEvent, Reply, SendReply, SlackEvents, send_reply, web_api

log: Any = structlog.get_logger("remediator.runtime.slack_socket")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the connection is opened again; doubled after each failure."""
_LONGEST_CONNECTION = 86_400.0  # seconds; Slack asks to reconnect every few hours
PING_INTERVAL = 20.0
"""Seconds between pings. If a ping is not answered in this time, the connection is opened again."""
_MAX_EVENT = MEBIBYTE
_REMEMBERED = 1000
"""IDs of acknowledged events that are kept, so that a repeat is acknowledged and not handled again."""


class SlackSocket:
    """The connection of one app.

    Args:
        settings: returns ``access.slack``; its ``app_token_file`` opens the connection.
        events: handles the events.
        clock: for the pauses.
        reply: sends an answer to a person.
    """

    def __init__(
        self, settings: Callable[[], Slack], events: SlackEvents, clock: Clock, reply: SendReply = send_reply
    ) -> None:
        self._settings, self._events, self._clock, self._reply = settings, events, clock, reply
        self._handled: OrderedDict[str, None] = OrderedDict()
        self.connected = False
        """Whether Slack has greeted the current connection."""

    async def run(self) -> None:
        """Keep a connection until the task is cancelled. After a failure, log it, pause, and connect again."""
        pause = FIRST_PAUSE
        while True:
            # no progress is expected for a day: WebSocket pings detect a dead connection earlier
            progress.report(_LONGEST_CONNECTION)
            try:
                await self._serve(await self._open())
                pause = FIRST_PAUSE
            except (ClientError, ConfigurationError, OSError, TimeoutError, websockets.WebSocketException) as error:
                if self.connected:
                    pause = FIRST_PAUSE
                log.warning("socket of Slack lost, reconnecting", message=str(error), pause=pause)
                await self._clock.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            finally:
                self.connected = False

    async def _open(self) -> str:
        """Return the address of a new connection. Slack gives each address for one use.

        Raises:
            ClientError: Slack refuses, or the address is not on a host of Slack.
        """
        settings = self._settings()
        if settings.app_token_file is None:
            raise ConfigurationError("access.slack.app_token_file is not set")
        answer = await web_api(settings, settings.app_token_file, "apps.connections.open", {})
        url = str(answer.get("url", ""))
        parts, home = urlsplit(url), urlsplit(settings.api)
        host = parts.hostname or ""
        ours = parts.scheme == "wss" and (host == "slack.com" or host.endswith(".slack.com"))
        proxied = host == home.hostname and (parts.scheme == "wss" or home.scheme == "http")
        if not (ours or proxied):
            raise ClientError("slack: the address of the socket is not on a host of Slack")
        return url

    async def _serve(self, url: str) -> None:
        """Handle events until Slack asks to reconnect, which it does every few hours, or the connection ends."""
        async with websockets.connect(
            url, max_size=_MAX_EVENT, ping_interval=PING_INTERVAL, ping_timeout=PING_INTERVAL, open_timeout=15
        ) as connection:
            async for text in connection:
                try:
                    event = untrusted_json.decode(text)
                except ValueError:
                    continue
                if not isinstance(event, dict):
                    continue
                if event.get("type") == "hello":
                    self.connected = True
                    log.info("socket of Slack connected")
                elif event.get("type") == "disconnect":
                    return
                elif event.get("envelope_id"):
                    await self._handle(connection, event)

    async def _handle(self, connection: ClientConnection, event: Mapping[str, Any]) -> None:
        envelope = str(event["envelope_id"])
        answer: dict[str, Any] = {"envelope_id": envelope}
        if envelope not in self._handled:
            try:
                payload = await self._answer(event)
            except StoreError as error:
                log.warning("store unavailable, Slack sends the event again", message=str(error))
                return
            if payload and event.get("accepts_response_payload"):
                answer["payload"] = payload
            self._handled[envelope] = None
            while len(self._handled) > _REMEMBERED:
                self._handled.popitem(last=False)
        await connection.send(json.dumps(answer))

    async def _answer(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Handle an event; return the payload of the acknowledgement."""
        payload = event.get("payload")
        try:
            if not isinstance(payload, Mapping):
                raise NotAnEvent("no payload")
            if event.get("type") == "slash_commands":
                return {"response_type": "ephemeral", "text": await self._events.command(payload)}
            if event.get("type") == "interactive":
                reply = await self._events.interaction(payload)
                if reply is not None:
                    await self._send(reply)
        except NotAnEvent as error:
            log.warning("event of Slack ignored", message=str(error))
        return {}

    async def _send(self, reply: Reply) -> None:
        try:
            async with asyncio.timeout(2):  # Slack waits three seconds for the acknowledgement
                await self._reply(reply)
        except (TimeoutError, ClientError):
            return  # the answer is optional
