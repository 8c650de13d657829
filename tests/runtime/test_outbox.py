"""The outbox: messages are retried within limits and then dropped with a record; a request goes to the next channel.

A channel delays neither another channel nor a run.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pydantic import BaseModel

from remediator.core.approval import ApprovalStatus
from remediator.core.message import MessageKind
from remediator.core.notification_policy import Approvals
from remediator.extensions.notifiers.base import Delivery, Message, Notifier
from remediator.runtime.outbox import MAX_TRIES_BEFORE_NEXT, Outbox, deliver, run_outbox_loop
from remediator.storage import Tx
from remediator.storage.repositories import approvals, outbox, runs
from remediator.storage.repositories.approvals import Approval
from tests.extensions.notifiers.test_notifiers import Mailbox
from tests.support.fake_servers import listener
from tests.support.servers import free_port
from tests.support.servers.receivers import Receiver, receiver
from tests.support.web_service import WebService


def _hook(chat: Receiver) -> dict[str, Any]:
    return {"kind": "webhook", "url": chat.url}


async def _later(web: WebService, post: Any, minutes: int = 10) -> None:
    """Advance the clock, and send all messages that are due."""
    for _ in range(minutes * 6):
        web.clock.time += timedelta(seconds=10)
        await web.deliver(post)


async def test_an_undelivered_request_is_sent_to_the_escalation_channel(web: WebService) -> None:
    """The channel fails three times, then the channel of the escalation gets the request; the dropped message is
    recorded."""
    asked = await web.request_approval()
    with receiver() as chat:
        dead = {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/"}
        post = web.post({"dead": dead, "oncall": _hook(chat)}, "dead")
        await _later(web, post, 2)
        await post.aclose()
    assert [item.json["kind"] for item in chat.received] == ["approval"]
    sent = {item.channel: (item.status, item.attempts) for item in await web.outbox(asked.run_id)}
    assert sent["oncall"][0] == "sent" and sent["dead"] == ("dead", MAX_TRIES_BEFORE_NEXT)
    listed = await web.context.store.read(outbox.list_dead)
    assert len(listed) == 1 and "webhook is unreachable" in (listed[0].error or "")
    assert '"next_channel":"oncall"' in await web.audit_text()
    async with web.client() as client:
        page, told = (await client.get("/")).text, (await client.get("/api/v1/messages/dead")).json()
    assert "Undelivered messages" in page and "approval to dead" in page
    assert [item["kind"] for item in told] == ["approval"]


async def test_the_decision_updates_the_delivered_requests(web: WebService) -> None:
    """Each change causes one update, also after repeated calls; a request that is decided before it is sent is not
    sent."""
    asked, early = await web.request_approval(), None
    with receiver() as chat:
        post = web.post({"chat": _hook(chat)}, "chat")
        await web.deliver(post)
        early = await web.request_approval()
        for item in (asked, early):
            await web.context.store.write(
                lambda tx, item=item: approvals.decide(
                    tx, item, item.plan_hash, approvals.Decision("ann", "reject", tx.now, None, "token")
                )
            )
        await web.context.store.write(lambda tx: outbox.enqueue_update(tx, asked.run_id, "rejected"))
        await _later(web, post, 1)
        await post.aclose()
    told = [(item.json["kind"], item.json["title"][:8]) for item in chat.received]
    assert told == [("approval", "Approve?"), ("update", "Rejected")]


async def test_a_message_that_is_not_needed_does_not_show_that_its_channel_works(web: WebService) -> None:
    """The request was not delivered, and then decided: the channel sends nothing, so its state stays unknown."""
    asked = await web.request_approval()
    seen: list[str] = []
    dead = {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/"}
    post = replace(web.post({"dead": dead}, "dead"), on_result=lambda channel, text: seen.append(text))
    await web.deliver(post)
    await web.context.store.write(
        lambda tx: approvals.decide(
            tx, asked, asked.plan_hash, approvals.Decision("ann", "reject", tx.now, None, "token")
        )
    )
    await _later(web, post, 2)
    await post.aclose()
    assert {item.status for item in await web.outbox(asked.run_id)} == {"sent"}
    assert seen and all("webhook is unreachable" in text for text in seen), seen


async def test_an_expired_request_keeps_asking_for_help(web: WebService) -> None:
    """The run is escalated when the request expires: in any order of the updates, the message ends as *Action
    needed*."""
    asked = await web.request_approval()
    with receiver() as chat:
        post = web.post({"chat": _hook(chat)}, "chat")
        await web.deliver(post)
        await web.context.store.write(lambda tx: _expire(tx, web, asked))
        waiting = [item for item in await web.outbox(asked.run_id) if item.status == "waiting"]
        assert len(waiting) == 2
        for item in sorted(waiting, key=lambda item: "about" not in item.content):  # the escalation is sent first
            web.clock.time += timedelta(seconds=1)  # the channel has a rate limit
            await deliver(web.context, post, item)
        await post.aclose()
    assert [item.json["title"].split(":")[0] for item in chat.received] == [
        "Approve? redis-disk-full on redis",
        "Action needed",
    ]


def _expire(tx: Tx, web: WebService, asked: Approval) -> None:
    approvals.close(tx, asked, ApprovalStatus.EXPIRED)
    run = runs.get(tx.connection, asked.run_id)
    assert run is not None
    content = {"status": "escalated", "reason": "approval_expired", "detail": {}}
    outbox.enqueue_for_incident(tx, web.context.ids, MessageKind.ESCALATION, run, content, ("chat",))


async def test_a_channel_that_is_rate_limited_is_used_later(web: WebService) -> None:
    """After a 429 with Retry-After, the next attempt waits for that time, and the 429 counts as no attempt."""
    await web.request_approval()
    with receiver() as chat:
        chat.answers = [(429, {"Retry-After": "60"}, b""), (200, {}, b"{}")]
        post = web.post({"chat": _hook(chat)}, "chat")
        await web.deliver(post)
        web.clock.time += timedelta(seconds=50)
        await web.deliver(post)
        assert len(chat.received) == 1
        web.clock.time += timedelta(seconds=11)
        await web.deliver(post)
        await post.aclose()
    assert len(chat.received) == 2


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_request_does_not_wait_for_a_long_rate_limit(web: WebService) -> None:
    """If a channel has a rate limit of one hour, this request and the next one go to the other channel at once."""
    await web.request_approval()
    with receiver() as busy, receiver() as chat:
        busy.answers = [(429, {"Retry-After": "3600"}, b"")]
        post = web.post({"busy": _hook(busy), "chat": _hook(chat)}, "busy", "chat")
        await web.deliver(post)
        await web.deliver(post)
        assert [item.json["kind"] for item in chat.received] == ["approval"]
        web.clock.time += timedelta(seconds=5)
        await web.request_approval()
        await web.deliver(post)
        await web.deliver(post)
        await post.aclose()
    assert len(busy.received) == 1 and len(chat.received) == 2


async def test_all_channels_are_asked_at_once(web: WebService) -> None:
    """Each person with a personal channel gets the request with a link for this person only."""
    await web.request_approval()
    async with _mailboxes(web, "ann", "bob", "eve") as (post, box):
        for _ in range(2):
            await web.deliver(post)
    assert [_to(mail) for mail in box.mails] == ["ann", "bob", "eve"]
    links = [re.findall(r"/approve/\S+", _plain(mail))[0] for mail in box.mails]
    assert len(set(links)) == 3


@pytest.mark.parametrize(("severity", "paged_after"), [("critical", 3), ("warning", 10)])
async def test_people_are_reminded_and_paged_before_the_deadline(
    web: WebService, severity: str, paged_after: int
) -> None:
    """A reminder is sent after five minutes. A page is sent after three minutes for a critical alert, else five minutes
    before the deadline."""
    await web.request_approval(labels={"severity": severity})
    policy = Approvals(channels=("chat",), page_channels=("pager",))
    with receiver() as chat, receiver() as pager:
        post = web.post({"chat": _hook(chat), "pager": _hook(pager)}, policy=policy)
        await web.deliver(post)
        assert [item.json["kind"] for item in chat.received] == ["approval"]
        await _later(web, post, paged_after - 1)
        assert pager.received == []
        await _later(web, post, 2)
        assert [item.json["kind"] for item in pager.received] == ["page"]
        assert pager.received[0].json["severity"] == severity
        await _later(web, post, 4)
        await post.aclose()
    assert [item.json["kind"] for item in chat.received][:2] == ["approval", "reminder"]


async def test_a_decided_request_sends_no_reminder_and_no_page(web: WebService) -> None:
    """If the request is decided after a minute, neither a reminder nor a page is sent."""
    asked = await web.request_approval()
    policy = Approvals(channels=("chat",), page_channels=("pager",))
    with receiver() as chat, receiver() as pager:
        post = web.post({"chat": _hook(chat), "pager": _hook(pager)}, policy=policy)
        await web.deliver(post)
        await web.context.store.write(
            lambda tx: approvals.decide(
                tx, asked, asked.plan_hash, approvals.Decision("ann", "approve", tx.now, None, "token")
            )
        )
        await _later(web, post, 14)
        await post.aclose()
    assert [item.json["kind"] for item in chat.received] == ["approval", "update"] and pager.received == []


@pytest.mark.parametrize(("severity", "sent"), [("warning", 0), ("critical", 1)])
async def test_quiet_hours_hold_messages_about_less_severe_alerts(web: WebService, severity: str, sent: int) -> None:
    """At noon, in quiet hours from 11:00 to 13:00, only the message about the critical alert is sent."""
    await web.request_approval(labels={"severity": severity})
    with receiver() as chat:
        quiet = {"from": "11:00", "to": "13:00"}
        post = web.post({"chat": {**_hook(chat), "quiet_hours": quiet}}, "chat")
        await _later(web, post, 1)
        await post.aclose()
    assert len(chat.received) == sent


@asynccontextmanager
async def _mailboxes(web: WebService, *names: str) -> AsyncIterator[tuple[Outbox, Mailbox]]:
    """Return a personal channel for each of these people, in this order, and their mail server."""
    box = Mailbox()
    controller = Controller(box, "127.0.0.1", port := free_port())
    controller.start()
    common = {"kind": "email", "sender": "remediator@example.com", "host": "127.0.0.1", "port": port, "personal": True}
    post = web.post({name: {**common, "to": [f"{name}@example.com"]} for name in names}, *names)
    try:
        yield post, box
    finally:
        await post.aclose()
        controller.stop()


def _to(mail: bytes) -> str:
    return str(message_from_bytes(mail, policy=default)["To"]).partition("@")[0]


def _plain(mail: bytes) -> str:
    part = message_from_bytes(mail, policy=default).get_body(("plain",))  # type: ignore[attr-defined]
    return str(part.get_content())


async def test_a_channel_that_hangs_delays_no_other(web: WebService) -> None:
    """If one channel does not answer, the other channel still gets its message."""
    async with listener(_silent) as port:
        with receiver() as chat:
            post = web.post({"slow": {"kind": "webhook", "url": f"http://127.0.0.1:{port}/"}, "chat": _hook(chat)})
            for channel in ("slow", "chat"):
                await web.context.store.write(lambda tx, to=channel: _tell(tx, web, to))
            task = asyncio.create_task(run_outbox_loop(web.context, post, 0.05))
            try:
                async with asyncio.timeout(30):
                    while not chat.received:
                        await asyncio.sleep(0.02)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await post.aclose()
    assert chat.received[0].json["title"] == "hello"


def _tell(tx: Tx, web: WebService, channel: str) -> None:
    outbox.enqueue(tx, web.context.ids, "notice", None, {"about": "x", "text": "hello"}, (channel,))


class _Odd(Notifier):
    """A channel with a defect."""

    kind = "odd"

    class Settings(BaseModel):
        """No settings."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__({})
        self._error = error

    async def send(self, message: Message) -> Delivery:
        if self._error is None:
            await asyncio.Event().wait()
        assert self._error is not None
        raise self._error


@pytest.mark.promise(14)
@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("a defect"),
        OSError(errno.ENOSPC, "No space left on device"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.EIO, "Input/output error"),
    ],
    ids=["hangs", "defect", "ENOSPC", "EPIPE", "EIO"],
)
async def test_a_defective_channel_is_recorded_and_delays_no_message_after_it(
    web: WebService, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    """A plugin may raise any exception: it counts as an attempt, is in the audit log, and makes the service
    degraded."""
    monkeypatch.setattr("remediator.runtime.outbox.CLAIM_TIMEOUT", timedelta(seconds=0.4))
    seen: list[tuple[str, str]] = []
    with receiver() as chat:
        post = web.post({"chat": _hook(chat)}, "chat")
        post = replace(
            post,
            channels={**post.channels, "odd": _Odd(error)},
            on_result=lambda channel, text: seen.append((channel, text)),
        )
        for channel in ("odd", "chat"):
            await web.context.store.write(lambda tx, channel=channel: _tell(tx, web, channel))
        await web.deliver(post)
        await post.aclose()
    assert len(chat.received) == 1
    assert [channel for channel, text in seen if text] == ["odd"]
    assert ("chat", "") in seen
    assert "message.failed" in await web.audit_text()


@pytest.mark.promise(14)
@pytest.mark.parametrize("hangs", [True, False])
async def test_no_message_waits_for_a_chart(web: WebService, monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    """If the drawing of a chart hangs or fails, the message is sent without it."""
    monkeypatch.setattr("remediator.runtime.outbox.CHART_TIMEOUT", 0.1)

    async def draw(run: str, now: datetime) -> bytes:
        if hangs:
            await asyncio.Event().wait()
        raise ValueError("a defect of the chart")

    asked = await web.request_approval()
    with receiver() as chat:
        post = replace(web.post({"chat": _hook(chat)}, "chat"), chart=draw)
        monkeypatch.setattr(type(post.channels["chat"]), "embeds_charts", True)
        await web.deliver(post)
        await post.aclose()
    assert [item.json["kind"] for item in chat.received] == ["approval"]
    assert [item.status for item in await web.outbox(asked.run_id)] == ["sent"]
