"""``POST /api/v1/slack/interactions``: buttons pressed in Slack. The signature is checked before anything is read."""

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

WINDOW = 300
"""Seconds that a request of Slack is good for."""
_LONGEST = 256 * 1024
_ANSWERS = "hooks.slack.com"


def interactions(site: Site) -> Handler:
    """Slack gives up after three seconds; a repeat finds that the word has been counted."""
    answering: set[asyncio.Task[None]] = set()

    async def post(request: Request) -> Response:
        settings = site.service.config.access.slack
        if settings is None:
            return JSONResponse({"error": "access.slack is not set"}, 404)
        raw = await _raw(request)
        if raw is None or not genuine(
            read_secret(settings.signing_secret_file),
            request.headers.get("x-slack-request-timestamp", ""),
            request.headers.get("x-slack-signature", ""),
            raw,
            site.now.timestamp(),
        ):
            return JSONResponse({"error": "the signature is not Slack's, or is too old"}, 401)
        try:
            payload = json.loads(parse_qs(raw.decode())["payload"][0])
            told = await _hear(site, payload)
        except (KeyError, ValueError, IndexError, TypeError, RecursionError):
            return JSONResponse({"error": "this is no interaction"}, 400)
        except StoreError as error:
            return JSONResponse({"error": str(error)}, 503)
        if told:
            task = asyncio.create_task(_whisper(str(payload.get("response_url", "")), told))
            answering.add(task)
            task.add_done_callback(answering.discard)
        return Response(status_code=200)

    return post


async def _raw(request: Request) -> bytes | None:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _LONGEST:
            return None
    return raw


def genuine(secret: str, timestamp: str, signature: str, raw: bytes, now: float) -> bool:
    """Whether Slack signed these very bytes, lately."""
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12 or abs(now - int(timestamp)) > WINDOW:
        return False
    expected = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + raw, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={expected}".encode(), signature.encode("utf-8", "replace"))


async def _hear(site: Site, payload: Mapping[str, Any]) -> str:
    """Count what a button said; a sentence for the person if it did not count."""
    action = payload["actions"][0]
    verb = str(action["action_id"]).removeprefix("remediator.")
    if verb not in (*decisions.VERBS, "pause"):
        return ""  # a button that only opens a page
    opened = open_link(site.service.keyring, str(action["value"]), site.now, BUTTON)
    if opened is None:
        return "This button is not one of ours."
    if opened.expired:
        return "This request has expired; nothing was changed."
    workspace, user = str(payload["team"]["id"]), str(payload["user"]["id"])
    person = site.service.people.by_slack(workspace, user)
    if person is None:
        return f"You ({user}) are not in the people file, so your word cannot count. Nothing was changed."

    def write(tx: Tx) -> str:
        if verb == "pause":
            return _pause(tx, person, opened.link.run, _press(payload))
        word = DecisionRequest(opened.link.approval, opened.link.plan, verb, person)
        heard = decisions.decide(tx, word, site.rules)
        return "" if heard.counted else f"Nothing was changed: this request is {heard.status}."

    try:
        return str(await site.service.context.store.write(write))
    except (PermissionDenied, InputError) as error:
        return f"Nothing was changed: {error}"


def _press(payload: Mapping[str, Any]) -> str:
    """What tells one press of a button from the next, if Slack says it: a repeat of this one is none."""
    at = str(payload["actions"][0].get("action_ts", ""))
    marks = (str(payload["team"]["id"]), str(payload["user"]["id"]), at)
    return f"stop-slack-{hashlib.sha256('/'.join(marks).encode()).hexdigest()[:24]}" if at else ""


def _pause(tx: Tx, person: Person, run_id: str, press: str) -> str:
    run = runs.get(tx.connection, run_id)
    about = "" if run is None else f" ({run.playbook} on {run.target})"
    before = stops.get(tx.connection, press) if press else None
    if before is not None and before.cleared_at is not None:
        return "Nothing was changed: this press of the button counted before, and somebody has released it since."
    decisions.pause(tx, person, f"from Slack, looking at {run_id}{about}", press=press)
    return "Everything is paused. 'remediator resume', or the console, releases it."


async def _whisper(response_url: str, text: str) -> None:
    """Tell this person only; to Slack's own address and no other."""
    parts = urlsplit(response_url)
    if parts.scheme != "https" or parts.hostname != _ANSWERS or parts.port is not None:
        return
    base, path = split(response_url, "slack")
    hook = Hook("slack", base)
    try:
        await hook.call("POST", path, {"response_type": "ephemeral", "replace_original": False, "text": text})
    except ClientError:
        return  # a courtesy: what counted is on record, and the message says so
    finally:
        await hook.aclose()
