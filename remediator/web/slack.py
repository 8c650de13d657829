"""Requests of Slack: buttons, dialogs and commands. The signature is checked before the body is parsed.

With Socket Mode (``access.slack.app_token_file``), Slack needs none of these endpoints.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.config import read_secret
from remediator.core import untrusted_json
from remediator.errors import StoreError
from remediator.runtime.chat_loops import slack_events
from remediator.runtime.slack_events import NotAnEvent, SlackEvents, send_reply
from remediator.web.health import Handler
from remediator.web.site import Site, read_body

MAX_AGE = 300
"""Maximum age of a request from Slack, in seconds."""
_MAX_BODY = 256 * 1024


def interactions(site: Site) -> Handler:
    """Return the handler of buttons and dialogs.

    Slack waits three seconds for an answer and then repeats the request. A repeated click does not count twice.
    """
    replies: set[asyncio.Task[None]] = set()

    async def handle(events: SlackEvents, fields: Mapping[str, str]) -> Response:
        try:
            payload = untrusted_json.decode(fields["payload"])
        except (KeyError, ValueError):
            raise NotAnEvent("no payload") from None
        reply = await events.interaction(payload)
        if reply is not None:
            task: asyncio.Task[None] = asyncio.create_task(send_reply(reply))
            replies.add(task)
            task.add_done_callback(replies.discard)
        return Response(status_code=200)

    return _signed(site, handle)


def commands(site: Site) -> Handler:
    """Return the handler of slash commands. The answer is shown to the user alone."""

    async def handle(events: SlackEvents, fields: Mapping[str, str]) -> Response:
        return JSONResponse({"response_type": "ephemeral", "text": await events.command(fields)})

    return _signed(site, handle)


def _signed(site: Site, handle: Callable[[SlackEvents, Mapping[str, str]], Awaitable[Response]]) -> Handler:
    """Return a handler that passes on the fields of a form that Slack signed."""
    service = site.service
    events = slack_events(service.context, service.config, service.access, service.keyring, service.clients)

    async def post(request: Request) -> Response:
        settings = service.access.settings.slack
        if settings is None or settings.signing_secret_file is None:
            return JSONResponse({"error": "requests of Slack are off: set access.slack.signing_secret_file"}, 404)
        raw = await read_body(request, _MAX_BODY)
        if raw is None or not signature_is_valid(
            read_secret(settings.signing_secret_file),
            request.headers.get("x-slack-request-timestamp", ""),
            request.headers.get("x-slack-signature", ""),
            raw,
            site.now.timestamp(),
        ):
            await site.guard.failed(request, "slack", "the signature is invalid or too old")
            return JSONResponse({"error": f"the signature is invalid or older than {MAX_AGE} s"}, 401)
        try:
            fields = {name: values[0] for name, values in parse_qs(raw.decode(), keep_blank_values=True).items()}
            return await handle(events, fields)
        except (NotAnEvent, UnicodeDecodeError):
            return JSONResponse({"error": "the body is not an event of Slack"}, 400)
        except StoreError as error:
            return JSONResponse({"error": str(error)}, 503)

    return post


def signature_is_valid(secret: str, timestamp: str, signature: str, raw: bytes, now: float) -> bool:
    """Return whether Slack signed exactly these bytes within the last :data:`MAX_AGE` seconds."""
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12 or abs(now - int(timestamp)) > MAX_AGE:
        return False
    expected = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + raw, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={expected}".encode(), signature.encode("utf-8", "replace"))
