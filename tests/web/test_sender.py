"""The outbox: retried, never too fast, given up on record; a request goes on to the next channel; no channel holds up
another, and none a run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from remediator.records import approvals, messages
from remediator.sender import TRIES_BEFORE_NEXT, send_forever
from remediator.stores import Tx
from tests.clients.peers import listener
from tests.servers import free_port
from tests.servers.receivers import Receiver, receiver
from tests.web.room import Room


def _hook(chat: Receiver) -> dict[str, Any]:
    return {"kind": "webhook", "url": chat.url}


async def _later(here: Room, post: Any, minutes: int = 10) -> None:
    """Time goes on and whatever is due is sent."""
    for _ in range(minutes * 6):
        here.clock.time += timedelta(seconds=10)
        await here.deliver(post)


async def test_a_request_goes_to_the_next_channel(here: Room) -> None:
    """The first is dead: three tries, then the second gets it; what was given up is on the list and on record."""
    asked = await here.asks()
    with receiver() as chat:
        dead = {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/"}
        post = here.post({"dead": dead, "chat": _hook(chat)}, "dead", "chat")
        await _later(here, post, 2)
        await post.aclose()
    assert [item.json["kind"] for item in chat.received] == ["approval"]
    sent = {item.channel: (item.status, item.attempts) for item in await here.outbox(asked.run_id)}
    assert sent["chat"][0] == "sent" and sent["approvals"] == ("dead", TRIES_BEFORE_NEXT)
    listed = await here.engine.store.read(messages.list_dead)
    assert len(listed) == 1 and "webhook cannot be reached" in (listed[0].error or "")
    assert '"next_channel":"chat"' in await here.audit_text()
    async with here.client() as client:
        page, told = (await client.get("/")).text, (await client.get("/api/v1/messages/dead")).json()
    assert "Messages that could not be delivered" in page and "approval to approvals" in page
    assert [item["kind"] for item in told] == ["approval"]


async def test_what_became_of_it_reaches_those_who_were_asked(here: Room) -> None:
    """One update for each change, however often it is told; a request decided before it was sent is not sent."""
    asked, early = await here.asks(), None
    with receiver() as chat:
        post = here.post({"chat": _hook(chat)}, "chat")
        await here.deliver(post)
        early = await here.asks()
        for item in (asked, early):
            await here.engine.store.write(
                lambda tx, item=item: approvals.decide(tx, item, item.plan_hash, "ann", "token", "reject")
            )
        await here.engine.store.write(lambda tx: messages.follow_up(tx, asked.run_id, "rejected"))
        await _later(here, post, 1)
        await post.aclose()
    told = [(item.json["kind"], item.json["title"][:8]) for item in chat.received]
    assert told == [("approval", "Approve?"), ("update", "Rejected")]


async def test_a_channel_that_asks_for_rest_gets_it(here: Room) -> None:
    """429 with Retry-After: not before then, and it counts as no try."""
    await here.asks()
    with receiver() as chat:
        chat.answers = [(429, {"Retry-After": "60"}, b""), (200, {}, b"{}")]
        post = here.post({"chat": _hook(chat)}, "chat")
        await here.deliver(post)
        here.clock.time += timedelta(seconds=50)
        await here.deliver(post)
        assert len(chat.received) == 1
        here.clock.time += timedelta(seconds=11)
        await here.deliver(post)
        await post.aclose()
    assert len(chat.received) == 2


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_channel_that_hangs_holds_up_no_other(here: Room) -> None:
    """One channel does not answer at all; the other has its message all the same."""
    async with listener(_silent) as port:
        with receiver() as chat:
            post = here.post({"slow": {"kind": "webhook", "url": f"http://127.0.0.1:{port}/"}, "chat": _hook(chat)})
            for channel in ("slow", "chat"):
                await here.engine.store.write(lambda tx, to=channel: _tell(tx, here, to))
            task = asyncio.create_task(send_forever(here.engine, post, 0.05))
            try:
                async with asyncio.timeout(30):
                    while not chat.received:
                        await asyncio.sleep(0.02)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await post.aclose()
    assert chat.received[0].json["title"] == "hello"


def _tell(tx: Tx, here: Room, channel: str) -> None:
    messages.tell(tx, here.engine.ids, "notice", None, {"about": "x", "text": "hello"}, (channel,))
