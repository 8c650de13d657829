"""``POST /api/v1/slack/interactions``: button clicks in Slack. The signature is checked before the body is parsed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.clients.webhook import Hook, split
from remediator.config import read_secret
from remediator.core.approval import BUTTON, PermissionDenied, Person, open_link
from remediator.errors import ClientError, InputError, StoreError
from remediator.pipeline import decisions
from remediator.pipeline.decisions import DecisionRequest
from remediator.storage import Tx
from remediator.storage.repositories import runs, stops
from remediator.web.site import Handler, Site

MAX_AGE = 300
"""Maximum age of a request from Slack, in seconds."""
_MAX_BODY = 256 * 1024
_REPLY_HOST = "hooks.slack.com"


def interactions(site: Site) -> Handler:
    """Return the handler of button clicks.

    Slack waits three seconds for an answer and then repeats the request. A repeated click does not count twice.
    """
    replies: set[asyncio.Task[None]] = set()

    async def post(request: Request) -> Response:
        settings = site.service.config.access.slack
        if settings is None:
            return JSONResponse({"error": "Slack buttons are off: set access.slack in the settings"}, 404)
        raw = await _body(request)
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
            payload = json.loads(parse_qs(raw.decode())["payload"][0])
            reply = await _handle_click(site, payload)
        except (KeyError, ValueError, IndexError, TypeError, RecursionError):
            return JSONResponse({"error": "the body is not a Slack interaction"}, 400)
        except StoreError as error:
            return JSONResponse({"error": str(error)}, 503)
        if reply:
            task = asyncio.create_task(_reply(str(payload.get("response_url", "")), reply))
            replies.add(task)
            task.add_done_callback(replies.discard)
        return Response(status_code=200)

    return post


async def _body(request: Request) -> bytes | None:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_BODY:
            return None
    return raw


def signature_is_valid(secret: str, timestamp: str, signature: str, raw: bytes, now: float) -> bool:
    """Return whether Slack signed exactly these bytes within the last :data:`MAX_AGE` seconds."""
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12 or abs(now - int(timestamp)) > MAX_AGE:
        return False
    expected = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + raw, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={expected}".encode(), signature.encode("utf-8", "replace"))


async def _handle_click(site: Site, payload: Mapping[str, Any]) -> str:
    """Record the decision of a click. Return a message for the person, or an empty string if the decision counted.

    The checks, in this order: the button is signed by this service; it has not expired; the Slack user is in the
    people file. Only then is the decision made, with the same rules as on the page.
    """
    action = payload["actions"][0]
    verb = str(action["action_id"]).removeprefix("remediator.")
    if verb not in (*decisions.VERBS, "pause"):
        return ""  # a button that only opens a page
    opened = open_link(site.service.keyring, str(action["value"]), site.now, BUTTON)
    if opened is None:
        return "Nothing was changed: this button was not made by this service."
    if opened.expired:
        return "Nothing was changed: this request has expired."
    workspace, user = str(payload["team"]["id"]), str(payload["user"]["id"])
    person = site.service.access.people.by_slack(workspace, user)
    if person is None:
        return f"Nothing was changed: Slack user {user} is not in the people file. Ask an administrator to add you."

    def write(tx: Tx) -> str:
        if verb == "pause":
            return _create_stop(tx, person, opened.link.run, _click_id(payload))
        request = DecisionRequest(opened.link.approval, opened.link.plan, verb, person)
        result = decisions.decide(tx, request, site.policy)
        return "" if result.counted else f"Nothing was changed: this request is {result.status}."

    try:
        return str(await site.service.context.store.write(write))
    except (PermissionDenied, InputError) as error:
        return f"Nothing was changed: {error}"


def _click_id(payload: Mapping[str, Any]) -> str:
    """Return an ID of this click, so that a repeat of the request is recognised; empty if Slack sends no timestamp."""
    at = str(payload["actions"][0].get("action_ts", ""))
    parts = (str(payload["team"]["id"]), str(payload["user"]["id"]), at)
    return f"stop-slack-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:24]}" if at else ""


def _create_stop(tx: Tx, person: Person, run_id: str, click: str) -> str:
    run = runs.get(tx.connection, run_id)
    about = "" if run is None else f" ({run.playbook} on {run.target})"
    before = stops.get(tx.connection, click) if click else None
    if before is not None and before.released_at is not None:
        return "Nothing was changed: this click already created a stop, which was released since."
    decisions.create_stop(tx, person, f"from Slack, request for {run_id}{about}", request_id=click)
    return "All actions are stopped. To release the stop, use the console or 'remediator stop release'."


async def _reply(response_url: str, text: str) -> None:
    """Send a message that only this person sees. It goes only to Slack's own host."""
    parts = urlsplit(response_url)
    if parts.scheme != "https" or parts.hostname != _REPLY_HOST or parts.port is not None:
        return
    base, path = split(response_url, "slack")
    hook = Hook("slack", base)
    try:
        await hook.call("POST", path, {"response_type": "ephemeral", "replace_original": False, "text": text})
    except ClientError:
        return  # the reply is optional: the decision is recorded, and the original message is updated
    finally:
        await hook.aclose()
