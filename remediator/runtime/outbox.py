"""Sending what waits in the outbox: by channel, so that a dead one holds up no other; retried with growing pauses, no
faster than a channel takes; given up at last, on a list and on record; and a request that one channel does not take
goes to the next. Nothing here can hold up a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from remediator.audit import Draft, Kind
from remediator.core.approval import Permission, is_member
from remediator.core.identity import People
from remediator.errors import ClientError, RemediatorError
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, PermanentFailure, RetryAfter
from remediator.pipeline.context import PipelineContext
from remediator.reporting.messages import MessageRenderer
from remediator.storage import TOPIC_MESSAGES, Tx
from remediator.storage.repositories import approvals, outbox
from remediator.storage.repositories.outbox import APPROVERS, OutboxMessage

TRIES = 8
TRIES_BEFORE_NEXT = 3
"""For a request, where there is another channel: somebody waits for an answer."""
LONGEST_REST = timedelta(minutes=1)
"""A request goes to the next channel rather than to wait for longer until a channel may be used again."""
FIRST_PAUSE = timedelta(seconds=2)
PATIENCE = timedelta(seconds=60)
"""How long one delivery may take before another replica tries."""
_PICTURED = frozenset({"approval", "escalation"})


@dataclass(slots=True)
class Outbox:
    """The channels, and how fast each may be used.

    Args:
        channels: by the names that playbooks and settings use.
        fallback: for names that the settings do not have.
        approvals: names of the channels for requests, the first first.
        renderer: renders the messages.
        people: who is known here, and in which groups.
        chart: the small picture of what a run's alert measures, for channels that take one.
    """

    channels: Mapping[str, Notifier]
    fallback: Notifier
    approvals: Sequence[str]
    renderer: MessageRenderer
    people: People
    chart: Callable[[str, datetime], Awaitable[bytes]] | None = None
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _next: dict[str, datetime] = field(default_factory=dict)
    _charts: set[asyncio.Task[None]] = field(default_factory=set)

    def routes(self, queued: OutboxMessage) -> list[str]:
        """The channels that a message may go by, in order."""
        if queued.kind != "approval" and queued.channel != APPROVERS:
            return [queued.channel]
        escalate_to = queued.content.get("escalate_to", [])
        return list(dict.fromkeys([*self.approvals, *escalate_to])) or ["log"]

    def route(self, queued: OutboxMessage) -> tuple[str, str | None]:
        """The channel to use now, and the one after it."""
        ways = self.routes(queued)
        place = min(int(queued.content.get("route", 0)), len(ways) - 1)
        name = ways[place] if queued.channel == APPROVERS else queued.channel
        return name, ways[place + 1] if place + 1 < len(ways) else None

    def notifier(self, name: str) -> Notifier:
        """What delivers to a channel."""
        return self.channels.get(name, self.fallback)

    def could_agree(self, name: str, groups: Collection[str]) -> bool:
        """Whether the one person whom a channel reaches could agree to what these groups may agree to."""
        person = self.people.by_id(self.notifier(name).person or "", "link")
        return person is not None and person.can(Permission.DECIDE) and is_member(person, groups)

    def rate_limited_until(self, name: str, now: datetime) -> datetime | None:
        """Until when a channel has to rest; None if it can be used now, which then counts as a use."""
        free = self._next.get(name, now)
        if free > now:
            return free
        self._next[name] = now + timedelta(seconds=60 / self.notifier(name).per_minute)
        return None

    def consume(self, name: str, now: datetime) -> None:
        """It was used once more, for what does not wait: the next message comes that much later."""
        self._next[name] = max(now, self._next.get(name, now)) + timedelta(seconds=60 / self.notifier(name).per_minute)

    def defer(self, name: str, until: datetime) -> None:
        """It asked for a rest."""
        self._next[name] = max(until, self._next.get(name, until))

    async def aclose(self) -> None:
        """End what is being sent, and close the channels."""
        tasks = (*self._busy.values(), *self._charts)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for notifier in (*self.channels.values(), self.fallback):
            await notifier.aclose()


async def run_outbox_loop(context: PipelineContext, post: Outbox, poll: float) -> None:
    """Deliver messages as they come."""
    while True:
        post._busy = {name: task for name, task in post._busy.items() if not task.done()}
        busy = list(post._busy)
        due = await context.store.read(lambda connection: outbox.list_due(connection, context.clock.now(), busy=busy))  # noqa: B023
        by_channel: dict[str, list[OutboxMessage]] = {}
        for message in due:
            by_channel.setdefault(message.channel, []).append(message)
        for channel, waiting in by_channel.items():
            task = asyncio.create_task(_deliver_all(context, post, waiting), name=f"send to {channel}")
            task.add_done_callback(lambda _: context.store.wakeups.set({TOPIC_MESSAGES}))
            post._busy[channel] = task
        await context.store.wakeups.wait(TOPIC_MESSAGES, poll)


async def _deliver_all(context: PipelineContext, post: Outbox, waiting: Sequence[OutboxMessage]) -> None:
    for message in waiting:
        await deliver(context, post, message)


async def deliver(context: PipelineContext, post: Outbox, queued: OutboxMessage) -> None:
    """Try to deliver one message once."""
    if not await context.store.write(lambda tx: outbox.claim(tx, queued, tx.now + PATIENCE)):
        return  # another replica has it
    name, following = post.route(queued)
    rest = post.rate_limited_until(name, context.clock.now())
    if rest is not None and not _too_long(context, post, queued, following, rest):
        await context.store.write(lambda tx: outbox.postpone(tx, queued.id, rest))
        return
    if rest is not None:
        told = f"{name} rests until {rest:%H:%M:%S}Z, and somebody waits for an answer"
        await context.store.write(lambda tx: _failed(tx, context, queued, name, following, told, True))
        return
    try:
        delivery = await _send(context, post, queued, name)
    except RetryAfter as error:
        until = context.clock.now() + timedelta(seconds=min(error.seconds, 3600.0))
        post.defer(name, until)
        if _too_long(context, post, queued, following, until):
            told = str(error)
            await context.store.write(lambda tx: _failed(tx, context, queued, name, following, told, True))
        else:
            await context.store.write(lambda tx: outbox.postpone(tx, queued.id, until))
    except RemediatorError as error:
        told, hopeless = str(error), isinstance(error, PermanentFailure)
        await context.store.write(lambda tx: _failed(tx, context, queued, name, following, told, hopeless))
    else:
        more = following if post.notifier(name).person is not None else None
        await context.store.write(lambda tx: _sent(tx, context, post, queued, name, delivery, more))
        _illustrate(context, post, queued, name, delivery)


def _too_long(
    context: PipelineContext, post: Outbox, queued: OutboxMessage, following: str | None, until: datetime
) -> bool:
    """Whether a channel rests for longer than a request may wait, where another one could take it."""
    return queued.kind == "approval" and following in post.channels and until - context.clock.now() > LONGEST_REST


def _illustrate(context: PipelineContext, post: Outbox, queued: OutboxMessage, name: str, delivery: Delivery) -> None:
    """Where a channel takes the chart after the message, it goes beside the queue: no message waits for a picture."""
    fits = post.notifier(name).attaches_charts and queued.kind in _PICTURED
    if post.chart is None or not fits or queued.run_id is None or delivery.receipt.get("overtaken"):
        return
    draw = partial(post.chart, queued.run_id)
    task = asyncio.create_task(_add_chart(context, post, queued, name, delivery, draw), name=f"chart to {name}")
    post._charts.add(task)
    task.add_done_callback(post._charts.discard)


async def _add_chart(
    context: PipelineContext,
    post: Outbox,
    queued: OutboxMessage,
    name: str,
    delivery: Delivery,
    draw: Callable[[datetime], Awaitable[bytes]],
) -> None:
    """Once; whether it is there is on record, and no more is done about it."""
    chart, told = await draw(context.clock.now()), ""
    if not chart:
        return
    post.consume(name, context.clock.now())
    try:
        async with asyncio.timeout(PATIENCE.total_seconds() / 2):
            await post.notifier(name).add_chart(chart, delivery.receipt)
    except TimeoutError:
        told = "not delivered: it was not taken in time"
    except RemediatorError as error:
        told = f"not delivered: {error}"
    data = {"channel": name, "error": told}
    await context.store.write(lambda tx: tx.append_audit(_draft(context, Kind.MESSAGE_CHART, queued, data)))


async def _send(context: PipelineContext, post: Outbox, queued: OutboxMessage, name: str) -> Delivery:
    """Write it as things are now, and send it.

    Raises:
        ClientError: not delivered.
    """
    notifier = post.notifier(name)
    now = context.clock.now()
    message = await context.store.read(lambda connection: post.renderer.render(connection, queued, notifier, name, now))
    if queued.kind == "approval" and message.ask is None:
        return Delivery({"overtaken": True})  # decided or over before it could be asked
    if post.chart is not None and notifier.embeds_charts and queued.kind in _PICTURED and queued.run_id is not None:
        message = replace(message, chart=await post.chart(queued.run_id, now))
    try:
        async with asyncio.timeout(PATIENCE.total_seconds() / 2):
            if queued.kind == "update":
                return await _follow(context, notifier, message, str(queued.content.get("of", "")))
            return await notifier.send(message)
    except TimeoutError:
        raise ClientError(f"{notifier.kind} did not take it in time") from None


async def _follow(context: PipelineContext, notifier: Notifier, message: Message, first: str) -> Delivery:
    told = await context.store.read(lambda connection: outbox.get(connection, first))
    receipt = None if told is None else told.receipt
    if receipt is None or receipt.get("overtaken"):
        return Delivery()
    return await notifier.update(message, receipt)


def _sent(
    tx: Tx,
    context: PipelineContext,
    post: Outbox,
    queued: OutboxMessage,
    name: str,
    delivery: Delivery,
    following: str | None,
) -> None:
    """Put on record that it arrived. Where it reached one person only, ``following`` is the channel that is asked as
    well, if that person alone cannot be enough."""
    outbox.mark_sent(tx, queued.id, delivery.receipt, name)
    data = {"receipt": delivery.receipt, "channel": name}
    tx.append_audit(_draft(context, Kind.MESSAGE_SENT, queued, data))
    if queued.kind == "approval" and not delivery.receipt.get("overtaken"):
        _catch_up(tx, queued)
        if following is not None and _more_people(tx, post, queued, name):
            outbox.fall_through(tx, queued, following, int(queued.content.get("route", 0)) + 1)


def _more_people(tx: Tx, post: Outbox, queued: OutboxMessage, name: str) -> bool:
    """Whether personal channels have not reached as many yet as have to agree, of those who may."""
    found = approvals.get(tx.connection, str(queued.content.get("approval", "")))
    if found is None or found.status != "pending":
        return False
    asked = {
        item.channel
        for item in outbox.list_for_run(tx.connection, found.run_id)
        if item.kind == "approval" and item.status == "sent" and item.content.get("approval") == found.id
    }
    able = {each for each in asked | {name} if post.could_agree(each, found.groups)}
    return len(able) < found.quorum or approvals.get_requester(tx.connection, found.run_id) is not None


def _catch_up(tx: Tx, queued: OutboxMessage) -> None:
    """It was decided while the request was on its way: nobody told that message."""
    found = approvals.get(tx.connection, str(queued.content.get("approval", "")))
    if found is not None and found.status != "pending" and queued.run_id is not None:
        outbox.enqueue_update(tx, queued.run_id, found.status)


def _failed(
    tx: Tx,
    context: PipelineContext,
    queued: OutboxMessage,
    name: str,
    following: str | None,
    error: str,
    hopeless: bool,
) -> None:
    tries = queued.attempts + 1
    most = TRIES if following is None else TRIES_BEFORE_NEXT
    given_up = hopeless or tries >= most
    again = None if given_up else tx.now + FIRST_PAUSE * 2 ** (tries - 1)
    outbox.mark_failed(tx, queued.id, error, again)
    data = {"error": error, "given_up": given_up, "channel": name, "next_channel": following if given_up else None}
    tx.append_audit(_draft(context, Kind.MESSAGE_FAILED, queued, data))
    if given_up and following is not None:
        outbox.fall_through(tx, queued, following, int(queued.content.get("route", 0)) + 1)


def _draft(context: PipelineContext, kind: Kind, queued: OutboxMessage, data: Mapping[str, Any]) -> Draft:
    about = {"message": queued.id, "channel": queued.channel, "kind": queued.kind}
    return Draft(kind=kind, actor=context.actor, run=queued.run_id, data={**about, **data})
