"""One message of every kind that the service sends, as every channel delivers it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import respx
import structlog
from aiosmtpd.controller import Controller

from remediator.core.approval import ApprovalStatus, Person, Role
from remediator.core.notification_policy import Approvals
from remediator.core.run import Run
from remediator.pipeline import decisions
from remediator.pipeline.decisions import DecisionRequest
from remediator.runtime.outbox import Outbox
from remediator.storage import Tx
from remediator.storage.repositories import approvals, outbox, runs
from remediator.storage.repositories.approvals import Approval
from tests.extensions.notifiers.test_notifiers import ANSWERS, KINDS, Mailbox, settings
from tests.support.servers import free_port
from tests.support.servers.receivers import receiver
from tests.support.web_service import BASE, WebService

SENDERS: Mapping[str, tuple[str, bool, Mapping[str, Any]]] = {
    "pipeline/recurrence": (
        "escalation",
        True,
        {"status": "succeeded", "reason": "still_firing", "detail": {"text": "x"}},
    ),
    "pipeline/escalation": (
        "escalation",
        True,
        {"status": "escalated", "reason": "not_healed", "detail": {"missing": ["x"]}},
    ),
    "pipeline/held_back": (
        "held_back",
        True,
        {"guard": "freeze", "text": "freeze until 12:00:00Z", "since": "2026-01-01T00:00:00Z", "until": None},
    ),
    "runtime/scheduled_undo": (
        "escalation",
        True,
        {"status": "temporary measure still in force", "step": "x", "detail": {}},
    ),
    "runtime/discovery": ("notice", False, {"about": "discovery", "text": "Discovery web works again."}),
    "extensions/guards/circuit_breaker": (
        "notice",
        True,
        {"guard": "circuit_breaker", "text": "it failed too often; its mode is now approve"},
    ),
    "runtime/maintenance": ("notice", True, {"about": "stuck", "text": "it does not move"}),
    "runtime/monitors": ("notice", False, {"about": "storm", "text": "no action until the storm is over"}),
    "pipeline/dead_letter": ("notice", False, {"about": "dead letter", "text": "Down could not be processed"}),
    "pipeline/stop_commands": ("notice", False, {"about": "stop", "text": "Stopped by ann: everything"}),
    "runtime/reload": ("notice", False, {"about": "playbooks", "text": "not loaded", "findings": ["x"]}),
}
"""The modules that send messages: kind, whether the message is about a run, and its content."""
DECISION_SENDERS = frozenset({"storage/repositories/approvals", "pipeline/decisions"})
"""The modules that send approval requests and decisions. The tests call them directly."""


async def _tell(web: WebService, post: Outbox) -> Approval:
    """Send and deliver every message. Return the one request that is still open."""
    asked = [await web.request_approval() for _ in range(6)]
    await _send(web, post)
    approved, rejected, voided, expired, broken, waiting = asked
    glass = Person("oscar", "token", frozenset({Role.OPERATOR}), authenticated_at=web.clock.now())

    def became(tx: Tx) -> None:
        approvals.decide(tx, approved, approved.plan_hash, approvals.Decision("ann", "approve", tx.now, None, "token"))
        approvals.decide(tx, rejected, rejected.plan_hash, approvals.Decision("ann", "reject", tx.now, None, "token"))
        run = _run(tx, voided)
        approvals.void(tx, run, "resolved", "test")
        approvals.close(tx, expired, ApprovalStatus.EXPIRED)
        typed = _run(tx, broken).target
        word = DecisionRequest(
            broken.id, broken.plan_hash, "approve", glass, "no order arrives", typed, break_glass=True
        )
        decisions.decide(tx, word, Approvals())
        for kind, about_a_run, content in SENDERS.values():
            outbox.enqueue(tx, web.context.ids, kind, run if about_a_run else None, content, ("chat",))

    await web.context.store.write(became)
    await _send(web, post)
    waiting_for = await web.context.store.read(lambda connection: outbox.list_due(connection, web.clock.now()))
    assert not waiting_for, "all of it is delivered"
    return waiting


def _run(tx: Tx, asked: Approval) -> Run:
    run = runs.get(tx.connection, asked.run_id)
    assert run is not None
    return run


async def _send(web: WebService, post: Outbox) -> None:
    for _ in range(20):
        await web.deliver(post)
        web.clock.time += timedelta(seconds=10)  # so that no rate limit of a channel applies


@asynccontextmanager
async def _channel(kind: str, folder: Path, said: list[str]) -> AsyncIterator[dict[str, Any]]:
    """Yield the settings of a channel of this kind. Its receiver adds messages to ``said``."""
    given = {"kind": kind, **settings(kind, folder)}
    if kind == "email":
        box = Mailbox()
        controller = Controller(box, "127.0.0.1", port := free_port())
        controller.start()
        try:
            yield {**given, "port": port}
        finally:
            controller.stop()
            said += [part for mail in box.mails for part in _texts(mail)]
    elif kind == "apprise":
        with receiver() as chat:
            (folder / "urls").write_text(chat.url.replace("http://", "json://"))
            yield given
            said += [item.body.decode() for item in chat.received]
    elif kind == "log":
        with structlog.testing.capture_logs() as logged:
            yield given
            said += [str(entry) for entry in logged]
    else:
        async with respx.mock(assert_all_called=False) as router:
            router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
            yield given
            said += [call.request.content.decode() for call in router.calls]


def _texts(mail: bytes) -> list[str]:
    parts = message_from_bytes(mail, policy=default).walk()
    return [part.get_content() for part in parts if part.get_content_maintype() == "text"]


async def everything_said(web: WebService, kind: str, folder: Path) -> tuple[Approval, str]:
    """Return the open request, and all messages as one text, as this kind of channel delivers them."""
    assert kind in KINDS
    said: list[str] = []
    async with _channel(kind, folder, said) as given:
        post = web.post({"chat": given}, "chat")
        waiting = await _tell(web, post)
        await post.aclose()
    return waiting, "\n".join(said)


def links(text: str) -> set[str]:
    """Return every URL of the service in a text."""
    return set(re.findall(re.escape(BASE) + r"/[\w/.~-]+", text))
