"""Send the messages in the outbox: one queue per channel, so a channel that is down delays no other channel.

A failed message is retried with growing pauses and within the rate limit of its channel. If it cannot be delivered, it
becomes a dead letter with an audit entry. A run never waits for this.

An approval request goes to all channels of the settings at once. Later they are reminded, and before the deadline other
channels are paged. If no channel can be reached, the channels of the playbook's escalation are asked one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from remediator.audit import Draft, Kind
from remediator.core import progress
from remediator.core.approval import ApprovalStatus, Permission, is_member
from remediator.core.message import MessageKind
from remediator.core.notification_policy import Approvals, QuietHours
from remediator.core.severity import highest_severity
from remediator.errors import ClientError, RemediatorError, StoreError
from remediator.extensions.notifiers.base import Delivery, Notifier, PermanentFailure, RetryAfter
from remediator.pipeline.context import PipelineContext
from remediator.reporting.messages import MessageRenderer
from remediator.runtime.access import AccessControl
from remediator.storage import TOPIC_MESSAGES, Tx
from remediator.storage.repositories import approvals, episodes, outbox
from remediator.storage.repositories.outbox import APPROVERS, OutboxMessage

log: Any = structlog.get_logger("remediator.runtime.outbox")

MAX_TRIES = 8
MAX_TRIES_BEFORE_NEXT = 3
"""For an approval request with another channel: a run waits for the answer."""
MAX_RATE_LIMIT_WAIT = timedelta(minutes=1)
"""If a channel is rate limited for longer than this, an approval request goes to the next channel."""
FIRST_PAUSE = timedelta(seconds=2)
"""Pause before the first retry; doubled for each further one."""
CLAIM_TIMEOUT = timedelta(seconds=60)
"""How long one delivery may take before another replica tries."""
CHART_TIMEOUT = 10.0
"""Seconds for the chart of a message."""
_KINDS_WITH_CHART = frozenset({MessageKind.APPROVAL, MessageKind.ESCALATION, MessageKind.PAGE})
_REQUESTS = frozenset({MessageKind.APPROVAL, MessageKind.REMINDER, MessageKind.PAGE})
"""Kinds that are not sent when the request was decided."""


@dataclass(slots=True)
class Outbox:
    """The channels and their rate limits.

    Args:
        channels: by the names in playbooks and settings.
        fallback: for names that the settings do not have.
        policy: the channels for approval requests, reminders and pages.
        renderer: renders the messages.
        access: has the people file, with groups.
        quiet_hours: by channel; messages about less severe alerts wait.
        chart: draws the small chart of an alert for channels that accept it; None without Prometheus.
    """

    channels: Mapping[str, Notifier]
    fallback: Notifier
    policy: Approvals
    renderer: MessageRenderer
    access: AccessControl
    chart: Callable[[str, datetime], Awaitable[bytes]] | None = None
    quiet_hours: Mapping[str, QuietHours] = field(default_factory=dict)
    on_result: Callable[[str, str], None] = lambda channel, error: None
    """Called after each delivery with the channel and the error, which is empty if the message was delivered."""
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _free_at: dict[str, datetime] = field(default_factory=dict)
    _charts: set[asyncio.Task[None]] = field(default_factory=set)

    def asked(self, message: OutboxMessage) -> list[str]:
        """Return the channels that get a request at once; by default, the channels of the escalation."""
        return list(self.policy.channels) or list(message.content.get("escalate_to", []))[:1] or ["log"]

    def next_channel(self, message: OutboxMessage) -> str | None:
        """Return the next channel if a request reaches no person; None if there is no further channel."""
        if message.kind is not MessageKind.APPROVAL:
            return None
        asked = self.asked(message)
        further = [name for name in message.content.get("escalate_to", []) if name not in asked]
        place = int(message.content.get("fallback", -1)) + 1
        return further[place] if place < len(further) else None

    def notifier(self, name: str) -> Notifier:
        """Return the notifier of a channel."""
        return self.channels.get(name, self.fallback)

    def can_approve(self, name: str, groups: Collection[str]) -> bool:
        """Return whether the one person that a channel reaches may approve for one of these groups."""
        person = self.access.people.by_id(self.notifier(name).person or "", "link")
        return person is not None and person.may(Permission.DECIDE) and is_member(person, groups)

    def rate_limited_until(self, name: str, now: datetime) -> datetime | None:
        """Return the end of the rate limit of a channel. Without a limit, return None and count this use."""
        free_at = self._free_at.get(name, now)
        if free_at > now:
            return free_at
        self.consume(name, now)
        return None

    def consume(self, name: str, now: datetime) -> None:
        """Count a use of a channel: its next message must wait."""
        interval = timedelta(seconds=60 / self.notifier(name).per_minute)
        self._free_at[name] = max(now, self._free_at.get(name, now)) + interval

    def defer(self, name: str, until: datetime) -> None:
        """Use a channel not before ``until``, because it asked for that."""
        self._free_at[name] = max(until, self._free_at.get(name, until))

    async def aclose(self) -> None:
        """Cancel the deliveries in progress, then close the channels."""
        tasks = (*self._busy.values(), *self._charts)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for notifier in (*self.channels.values(), self.fallback):
            await notifier.aclose()


async def run_outbox_loop(context: PipelineContext, channels: Outbox, poll: float) -> None:
    """Deliver messages as they are added; check at least every ``poll`` seconds."""

    async def deliver_all(waiting: Sequence[OutboxMessage]) -> None:
        for message in waiting:
            await deliver(context, channels, message)

    while True:
        channels._busy = {name: task for name, task in channels._busy.items() if not task.done()}
        busy = list(channels._busy)
        due = await context.store.read(lambda connection: outbox.list_due(connection, context.clock.now(), busy=busy))  # noqa: B023
        by_channel: dict[str, list[OutboxMessage]] = {}
        for message in due:
            by_channel.setdefault(message.channel, []).append(message)
        for channel, waiting in by_channel.items():
            task = asyncio.create_task(deliver_all(waiting), name=f"send to {channel}")
            task.add_done_callback(lambda _: context.store.wakeups.set({TOPIC_MESSAGES}))
            channels._busy[channel] = task
        progress.report(poll)
        await context.store.wakeups.wait(TOPIC_MESSAGES, poll)


async def deliver(context: PipelineContext, channels: Outbox, message: OutboxMessage) -> None:
    """Try once to deliver a message.

    The message is claimed first, so that only one replica sends it. Every result is written with an audit entry.
    """
    claimed = await context.store.write(lambda tx: _claim(tx, channels, message))
    if claimed is None:
        return  # another replica has this message, or it waits for the message that it changes
    attempt = _Attempt(context, channels, claimed, claimed.channel, channels.next_channel(claimed))
    until = channels.rate_limited_until(attempt.channel, context.clock.now())
    if until is not None:
        await attempt.wait_or_fall_through(until, f"{attempt.channel} is rate limited until {until:%H:%M:%S}Z")
        return
    try:
        delivery = await attempt.send()
    except _Quiet as error:
        quiet_until = error.until
        await context.store.write(lambda tx: outbox.postpone(tx, claimed.id, quiet_until))
    except RetryAfter as error:
        until = context.clock.now() + timedelta(seconds=min(error.seconds, 3600.0))
        channels.defer(attempt.channel, until)
        await attempt.wait_or_fall_through(until, str(error))
    except StoreError:
        raise  # the channel did not fail; the message is sent again later
    except Exception as error:
        if not isinstance(error, RemediatorError):
            log.exception("internal error of a channel", channel=attempt.channel, message_id=claimed.id)
        text = str(error) if isinstance(error, RemediatorError) else f"internal error of the channel: {error!r}"
        channels.on_result(attempt.channel, text)
        permanent = isinstance(error, PermanentFailure)
        await context.store.write(lambda tx: attempt.failed(tx, text, permanent=permanent))
    else:
        if not delivery.receipt.get("overtaken"):  # in this case the channel was not used
            channels.on_result(attempt.channel, "")
        await context.store.write(lambda tx: attempt.succeeded(tx, delivery))
        attempt.start_chart(delivery)


class _Quiet(RemediatorError):
    """The channel has quiet hours, and the alert is not severe enough."""

    def __init__(self, until: datetime) -> None:
        super().__init__("quiet hours")
        self.until = until


def _claim(tx: Tx, channels: Outbox, message: OutboxMessage) -> OutboxMessage | None:
    """Claim a message for one attempt; a new request is also enqueued for its other channels.

    Returns:
        the message with its channel; None if another replica has it, or if it must wait.
    """
    if not outbox.claim(tx, message, tx.now + CLAIM_TIMEOUT):
        return None
    if message.kind is MessageKind.UPDATE:
        first = outbox.get(tx.connection, str(message.content.get("of", "")))
        if first is not None and first.status == "waiting":
            outbox.postpone(tx, message.id, max(tx.now, first.next_at or tx.now) + FIRST_PAUSE)
            return None
    if message.channel != APPROVERS:
        return message
    asked = channels.asked(message)
    if message.kind is MessageKind.APPROVAL:
        approval = approvals.get(tx.connection, str(message.content.get("approval", "")))
        if approval is not None:
            severity = highest_severity(episodes.list_for_run(tx.connection, approval.run_id))
            page_at = channels.policy.page_at(severity, approval.requested_at, approval.expires_at)
            pages = {} if page_at is None else dict.fromkeys(channels.policy.page_channels, page_at)
            remind_at = channels.policy.reminder_at(approval.requested_at, approval.expires_at)
            outbox.ask_channels(tx, message, asked, remind_at, pages)
    elif message.kind is MessageKind.NOTICE:
        outbox.ask_channels(tx, message, asked, None, {})
    return replace(message, channel=asked[0])


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt to deliver one message by one channel."""

    context: PipelineContext
    channels: Outbox
    message: OutboxMessage
    channel: str
    next_channel: str | None

    @property
    def notifier(self) -> Notifier:
        return self.channels.notifier(self.channel)

    async def wait_or_fall_through(self, until: datetime, reason: str) -> None:
        """Postpone the message; give an approval request to the next channel if the wait is too long for it."""
        long = until - self.context.clock.now() > MAX_RATE_LIMIT_WAIT
        others = await self.context.store.read(lambda connection: outbox.list_requests(connection, self.message))
        if long and not others and self.next_channel in self.channels.channels:
            await self.context.store.write(lambda tx: self.failed(tx, reason, permanent=True))
        else:
            await self.context.store.write(lambda tx: outbox.postpone(tx, self.message.id, until))

    async def send(self) -> Delivery:
        """Render the message with the current state, and send it.

        Raises:
            ClientError: not delivered.
        """
        context, channels, message, notifier = self.context, self.channels, self.message, self.notifier
        now = context.clock.now()
        rendered = await context.store.read(
            lambda connection: channels.renderer.render(connection, message, notifier, self.channel, now)
        )
        if message.kind in _REQUESTS and rendered.ask is None:
            return Delivery({"overtaken": True})  # the request was decided or ended before the message was sent
        if message.kind in (MessageKind.ESCALATION, MessageKind.HELD_BACK) and rendered.over:
            return Delivery({"overtaken": True})  # the message waited, and people are no longer needed
        overtaken = message.kind is MessageKind.UPDATE and await context.store.read(
            lambda connection: outbox.is_overtaken(connection, message)
        )
        if overtaken:
            return Delivery({"overtaken": True})  # a later update shows this too
        quiet = channels.quiet_hours.get(self.channel)
        until = (
            None if quiet is None or message.kind is MessageKind.UPDATE else quiet.quiet_until(rendered.severity, now)
        )
        if until is not None:
            raise _Quiet(until)
        draws = channels.chart is not None and notifier.embeds_charts and message.kind in _KINDS_WITH_CHART
        if draws and channels.chart is not None and message.run_id is not None:
            rendered = replace(rendered, chart=await self._chart(channels.chart, message.run_id, now))
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT.total_seconds() / 2):
                if message.kind is not MessageKind.UPDATE:
                    return await notifier.send(rendered)
                first_id = str(message.content.get("of", ""))
                first = await context.store.read(lambda connection: outbox.get(connection, first_id))
                if first is not None and first.receipt is not None and not first.receipt.get("overtaken"):
                    return await notifier.update(rendered, first.receipt)
                if "about" in message.content:
                    # people need this news, because the first message was never shown
                    return await notifier.send(rendered)
                return Delivery({"overtaken": True})  # the first message was never shown, so there is nothing to change
        except TimeoutError:
            raise ClientError(f"{notifier.kind} did not answer in time") from None

    async def _chart(self, draw: Callable[[str, datetime], Awaitable[bytes]], run_id: str, now: datetime) -> bytes:
        """Return the chart, or nothing if it cannot be drawn in time: no message waits for a chart."""
        try:
            async with asyncio.timeout(CHART_TIMEOUT):
                return await draw(run_id, now)
        except Exception as error:  # noqa: BLE001 - without its chart the message still says everything
            log.warning("chart not drawn", run=run_id, message=str(error) or type(error).__name__)
            return b""

    def succeeded(self, tx: Tx, delivery: Delivery) -> None:
        """Record the delivery. If the channel reaches one person, ask the next channel too while more are needed."""
        message = self.message
        outbox.mark_sent(tx, message.id, delivery.receipt, self.channel)
        data: dict[str, Any] = {"receipt": delivery.receipt, "channel": self.channel}
        if not self.notifier.reaches_people:
            data["log_only"] = True
        tx.append_audit(self._draft(Kind.MESSAGE_SENT, data))
        if message.kind is not MessageKind.APPROVAL or delivery.receipt.get("overtaken"):
            return
        found = approvals.get(tx.connection, str(message.content.get("approval", "")))
        if found is None:
            return
        if found.status != ApprovalStatus.PENDING and message.run_id is not None:
            # Decided while this message was being sent: the updates went only to messages that were sent already.
            outbox.enqueue_update(tx, message.run_id, found.status.value)
        if self.next_channel is None or self.notifier.person is None or found.status != ApprovalStatus.PENDING:
            return
        others = outbox.list_requests(tx.connection, message)
        if any(self.channels.notifier(item.channel).person is None for item in others):
            return  # a channel with many people gets the request too
        asked = {item.channel for item in others} | {self.channel}
        able = {each for each in asked if self.channels.can_approve(each, found.groups)}
        # A person who started the run manually may not approve it, and may be among those who were asked.
        if len(able) < found.quorum or approvals.get_requester(tx.connection, found.run_id) is not None:
            self._fall_through(tx, self.next_channel)

    def failed(self, tx: Tx, error: str, *, permanent: bool) -> None:
        """Record a failure: schedule a retry, or make the message a dead letter and use the next channel."""
        tries = self.message.attempts + 1
        given_up = permanent or tries >= (MAX_TRIES if self.next_channel is None else MAX_TRIES_BEFORE_NEXT)
        outbox.mark_failed(tx, self.message.id, error, None if given_up else tx.now + FIRST_PAUSE * 2 ** (tries - 1))
        unreached = given_up and not outbox.list_requests(tx.connection, self.message)
        following = self.next_channel if unreached else None
        data = {"error": error, "given_up": given_up, "channel": self.channel, "next_channel": following}
        tx.append_audit(self._draft(Kind.MESSAGE_FAILED, data))
        if following is not None:
            self._fall_through(tx, following)

    def start_chart(self, delivery: Delivery) -> None:
        """Add the chart in the background where a channel accepts it later, so that no message waits for a chart."""
        channels, message = self.channels, self.message
        accepts = self.notifier.attaches_charts and message.kind in _KINDS_WITH_CHART
        if channels.chart is None or not accepts or message.run_id is None or delivery.receipt.get("overtaken"):
            return
        draw = partial(channels.chart, message.run_id)
        task = asyncio.create_task(self._add_chart(delivery, draw), name=f"chart to {self.channel}")
        channels._charts.add(task)
        task.add_done_callback(channels._charts.discard)

    async def _add_chart(self, delivery: Delivery, draw: Callable[[datetime], Awaitable[bytes]]) -> None:
        """Try once; the audit entry has the result."""
        run_id, error = self.message.run_id or "", ""
        chart = await self._chart(lambda _, now: draw(now), run_id, self.context.clock.now())
        if not chart:
            return
        self.channels.consume(self.channel, self.context.clock.now())
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT.total_seconds() / 2):
                await self.notifier.add_chart(chart, delivery.receipt)
        except TimeoutError:
            error = f"not delivered: {self.notifier.kind} did not answer in time"
        except RemediatorError as failure:
            error = f"not delivered: {failure}"
        draft = self._draft(Kind.MESSAGE_CHART, {"channel": self.channel, "error": error})
        await self.context.store.write(lambda tx: tx.append_audit(draft))

    def _fall_through(self, tx: Tx, channel: str) -> None:
        outbox.fall_through(tx, self.message, channel, int(self.message.content.get("fallback", -1)) + 1)

    def _draft(self, kind: Kind, data: Mapping[str, Any]) -> Draft:
        about = {"message": self.message.id, "channel": self.message.channel, "kind": self.message.kind}
        return Draft(kind=kind, actor=self.context.actor, run=self.message.run_id, data={**about, **data})
