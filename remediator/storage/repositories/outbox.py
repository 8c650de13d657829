"""The transactional outbox: messages are stored with the transition that they report, and sent afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, insert, select, update

from remediator.core.approval import ApprovalStatus
from remediator.core.ids import Ids
from remediator.core.message import ROOTS, MessageKind
from remediator.core.run import Run
from remediator.storage import TOPIC_MESSAGES, Tx
from remediator.storage.prepared import Prepared
from remediator.storage.schema import messages as table
from remediator.storage.schema import runs

APPROVERS = "approvals"
"""Channel name for all channels of approval requests in the settings, in order."""


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message to a channel."""

    id: str
    run_id: str | None
    channel: str
    kind: MessageKind
    content: Mapping[str, Any]
    status: str
    attempts: int
    created_at: datetime
    next_at: datetime | None
    sent_at: datetime | None
    receipt: Mapping[str, Any] | None
    error: str | None


def enqueue(
    tx: Tx, ids: Ids, kind: MessageKind, run: Run | None, content: Mapping[str, Any], channels: Sequence[str]
) -> None:
    """Add one message per channel to the outbox."""
    for channel in channels:
        _insert(tx, ids.new("message", tx.now), None if run is None else run.id, channel, kind, content)
    if channels:
        tx.notify(TOPIC_MESSAGES)


def enqueue_update(tx: Tx, run_id: str, status: str) -> None:
    """Update the delivered messages of a request, because its status changed.

    Each message gets one update per status, also after repeated calls. A message that will show an escalation or
    another update of the run gets no update, because the other update contains more. The message of an outdated request
    gets no update either: it already shows this, and later events concern a newer request.
    """
    news = {
        item.content.get("of")
        for item in list_for_run(tx.connection, run_id)
        if item.kind is MessageKind.UPDATE and item.status == "waiting" and "about" in item.content
    }
    for row in tx.connection.execute(_SENT_REQUESTS, {"run": run_id}).all():
        if row.id in news or _exists(tx, f"{row.id}.{ApprovalStatus.VOID.value}"):  # the request is outdated
            continue
        update_id = f"{row.id}.{status}"
        if not _exists(tx, update_id):
            content = {"approval": row.content["approval"], "of": row.id, "became": status}
            _insert(tx, update_id, run_id, row.channel, MessageKind.UPDATE, content)
            tx.notify(TOPIC_MESSAGES)


_SENT_REQUESTS = Prepared(
    select(table).where(
        table.c.run_id == bindparam("run"),
        table.c.kind.in_((MessageKind.APPROVAL, MessageKind.PAGE)),
        table.c.status == "sent",
    )
)


def is_escalated_in(connection: Connection, run_id: str, channel: str) -> bool:
    """Return whether a channel has, or gets, a message that hands this run over to people."""
    found = (item for item in list_for_run(connection, run_id) if item.channel == channel)
    return any(MessageKind.ESCALATION in (item.kind, item.content.get("about")) for item in found)


def is_first_request(connection: Connection, update: OutboxMessage, channel: str) -> bool:
    """Return whether an update is for the first message of a channel about its request.

    A channel that was asked and later paged has two messages. Its people get the result once.
    """
    about, of = update.content.get("approval"), update.content.get("of")
    sent = [
        item
        for item in list_for_run(connection, str(update.run_id))
        if item.kind in (MessageKind.APPROVAL, MessageKind.PAGE)
        and (item.status, item.channel, item.content.get("approval")) == ("sent", channel, about)
    ]
    return not sent or of in (None, min(sent, key=lambda item: (item.created_at, item.id)).id)


def is_overtaken(connection: Connection, message: OutboxMessage) -> bool:
    """Return whether a later update of the same message waits: it shows the same state, or a newer one.

    A message about a later event is never overtaken: people must notice each of these messages. It overtakes updates
    that were enqueued with it or before, even after it was sent. The message must keep asking for help, and not return
    to "Expired".
    """
    if "about" in message.content:
        return False
    later = (table.c.run_id == message.run_id, table.c.kind == MessageKind.UPDATE, table.c.status != "dead")
    rows = connection.execute(select(table).where(*later, table.c.id != message.id)).all()
    same = [row for row in rows if row.content.get("of") == message.content.get("of")]
    own = (message.created_at, message.id)
    for row in same:
        news, waits = "about" in row.content, row.status == "waiting"
        if (news and (waits or row.created_at >= message.created_at)) or (waits and (row.created_at, row.id) > own):
            return True
    return False


def enqueue_for_incident(
    tx: Tx, ids: Ids, kind: MessageKind, run: Run, content: Mapping[str, Any], channels: Sequence[str]
) -> None:
    """Notify channels of something about a run. A channel that has a message about the incident gets an update of it.

    One incident is one conversation: the message is changed where the channel can, and the news is a short reply.
    """
    known = {row.channel: row for row in reversed(_roots(tx.connection, run.incident_id))}
    for channel in channels:
        if channel in known:
            _update_root(tx, known[channel], run, str(content.get("status", kind)), {**content, "about": kind})
        else:
            enqueue(tx, ids, kind, run, content, (channel,))


def first_of_incident(connection: Connection, message: OutboxMessage) -> OutboxMessage | None:
    """Return the first message about the incident of a message in its channel that was sent, or None."""
    run = select(runs.c.incident_id).where(runs.c.id == message.run_id)
    incident_id = connection.execute(run).scalar()
    sent = (_queued(row) for row in _roots(connection, str(incident_id)) if row.status == "sent")
    return next((item for item in sent if item.channel == message.channel), None)


def enqueue_incident_update(tx: Tx, run: Run, status: str) -> None:
    """Update the messages about the incident of a run, because something changed: its causes, a status, its end.

    Requests of the run itself have separate updates (:func:`enqueue_update`). A message that was not sent yet is
    rendered with the change when it is sent.
    """
    for row in _roots(tx.connection, run.incident_id):
        if row.status == "sent" and (status == "over" or row.run_id != run.id or row.kind != MessageKind.APPROVAL):
            _update_root(tx, row, run, status, {})


def _roots(connection: Connection, incident_id: str) -> list[Row[Any]]:
    """Return the main messages of an incident, oldest first."""
    found = connection.execute(_ROOTS_OF, {"incident": incident_id}).all()
    # the message may never be sent
    planned = [row for row in found if row.kind == MessageKind.PAGE and row.status == "waiting"]
    return [row for row in found if row not in planned and not (row.receipt or {}).get("overtaken")]


_ROOTS_OF = Prepared(
    select(table)
    .join(runs, runs.c.id == table.c.run_id)
    .where(
        runs.c.incident_id == bindparam("incident"),
        table.c.kind.in_(ROOTS),
        table.c.status != "dead",
        table.c.channel != APPROVERS,  # the channel is not chosen yet; the message is rendered when it is sent
    )
    .order_by(table.c.created_at, table.c.id)
)


def _update_root(tx: Tx, root: Row[Any], run: Run, status: str, content: Mapping[str, Any]) -> None:
    """Add one update of a message for each run, status and reason, also after repeated calls.

    A relapse has the status of the healed run, so with the status alone it would be dropped as a repetition.
    """
    key = hashlib.sha256(f"{run.id} {status} {content.get('reason', '')}".encode()).hexdigest()[:12]
    update_id = f"{root.id}.{key}"
    if not _exists(tx, update_id):
        _insert(tx, update_id, run.id, root.channel, MessageKind.UPDATE, {**content, "of": root.id, "became": status})
        tx.notify(TOPIC_MESSAGES)


def _exists(tx: Tx, message_id: str) -> bool:
    return tx.connection.execute(_EXISTS, {"message": message_id}).first() is not None


_EXISTS = Prepared(select(table.c.id).where(table.c.id == bindparam("message")))


def _insert(
    tx: Tx,
    message_id: str,
    run_id: str | None,
    channel: str,
    kind: MessageKind,
    content: Mapping[str, Any],
    at: datetime | None = None,
) -> None:
    values = {"id": message_id, "run_id": run_id, "channel": channel, "kind": kind, "status": "waiting"}
    times = {"created_at": tx.now, "next_at": at or tx.now}
    tx.connection.execute(_INSERT, {**values, **times, "content": tx.redact(dict(content))})


_INSERT = Prepared(insert(table))


def ask_channels(
    tx: Tx, message: OutboxMessage, channels: Sequence[str], remind_at: datetime | None, pages: Mapping[str, datetime]
) -> None:
    """Send a claimed request to all channels at once, and plan its reminders and pages.

    Args:
        tx: the transaction.
        message: the request. It goes to the first channel; the other channels get separate messages.
        channels: the channels that are asked.
        remind_at: when they are reminded; None if never.
        pages: the channels to page, and when.
    """
    tx.connection.execute(update(table).where(table.c.id == message.id).values(channel=channels[0]))
    for number, channel in enumerate(channels):
        name = message.id if number == 0 else f"{message.id}~{number}"
        if number:
            _insert(tx, name, message.run_id, channel, message.kind, message.content)
        if remind_at is not None:
            content = {**message.content, "of": name}
            _insert(tx, f"{name}~r", message.run_id, channel, MessageKind.REMINDER, content, remind_at)
    for number, (channel, at) in enumerate(pages.items()):
        _insert(tx, f"{message.id}~p{number}", message.run_id, channel, MessageKind.PAGE, message.content, at)
    tx.notify(TOPIC_MESSAGES)


def fall_through(tx: Tx, message: OutboxMessage, channel: str, number: int) -> None:
    """Enqueue a request for another channel, the ``number``-th of those that are used if no other is reached."""
    new_id = f"{message.id.partition('~')[0]}~f{number}"
    if not _exists(tx, new_id):
        _insert(tx, new_id, message.run_id, channel, message.kind, {**message.content, "fallback": number})
        tx.notify(TOPIC_MESSAGES)


def list_requests(connection: Connection, message: OutboxMessage) -> list[OutboxMessage]:
    """Return the other messages about the same decision: waiting messages, and sent messages."""
    found = list_for_run(connection, str(message.run_id))
    approval = message.content.get("approval")
    return [
        item
        for item in found
        if item.kind is MessageKind.APPROVAL
        and item.id != message.id
        and item.status != "dead"
        and item.content.get("approval") == approval
    ]


def get(connection: Connection, message_id: str) -> OutboxMessage | None:
    """Return a message by its ID, or None."""
    row = connection.execute(select(table).where(table.c.id == message_id)).first()
    return None if row is None else _queued(row)


def list_due(connection: Connection, now: datetime, limit: int = 20, busy: Collection[str] = ()) -> list[OutboxMessage]:
    """Return the messages to send now, the longest waiting first, except those for ``busy`` channels."""
    statement = select(table).where(table.c.status == "waiting", table.c.next_at <= now)
    if busy:
        statement = statement.where(table.c.channel.not_in(list(busy)))
    rows = connection.execute(statement.order_by(table.c.next_at, table.c.id).limit(limit))
    return [_queued(row) for row in rows]


def count_waiting(connection: Connection) -> int:
    """Return the number of messages that are neither sent nor given up."""
    return connection.execute(select(func.count()).where(table.c.status == "waiting")).scalar_one()


def postpone(tx: Tx, message_id: str, until: datetime) -> None:
    """Postpone a message because its channel is rate limited; this does not count as an attempt."""
    values = {"next_at": until, "attempts": table.c.attempts - 1}
    tx.connection.execute(update(table).where(table.c.id == message_id).values(**values))


def claim(tx: Tx, message: OutboxMessage, until: datetime) -> bool:
    """Claim a message for one attempt until ``until``. Return False if another replica was first."""
    return bool(
        tx.connection.execute(
            update(table)
            .where(table.c.id == message.id, table.c.status == "waiting", table.c.attempts == message.attempts)
            .values(attempts=table.c.attempts + 1, next_at=until)
        ).rowcount
    )


def mark_sent(tx: Tx, message_id: str, receipt: Mapping[str, Any], channel: str) -> None:
    """Record that a message was delivered by this channel."""
    values: dict[str, Any] = {"status": "sent", "sent_at": tx.now, "receipt": tx.redact(dict(receipt))}
    values |= {"next_at": None, "error": None, "channel": channel}
    tx.connection.execute(update(table).where(table.c.id == message_id).values(**values))


def mark_failed(tx: Tx, message_id: str, error: str, again_at: datetime | None) -> None:
    """Record a failed attempt. The message is retried at ``again_at``; without it, it becomes a dead letter."""
    status = "dead" if again_at is None else "waiting"
    values = {"status": status, "error": tx.redact(error), "next_at": again_at}
    tx.connection.execute(update(table).where(table.c.id == message_id).values(**values))


def list_for_run(connection: Connection, run_id: str) -> list[OutboxMessage]:
    """Return the messages about a run, oldest first."""
    return [_queued(row) for row in connection.execute(_OF_RUN, {"run": run_id})]


_OF_RUN = Prepared(select(table).where(table.c.run_id == bindparam("run")).order_by(table.c.created_at, table.c.id))


def is_held_back_notified(connection: Connection, run_id: str, guard: str) -> bool:
    """Return whether the outbox has, or had, a message that this guard blocks the run."""
    rows = connection.execute(_HELD_BACK, {"run": run_id})
    return any(
        MessageKind.HELD_BACK in (kind, content.get("about")) and content.get("guard") == guard
        for kind, content in rows
    )


_HELD_BACK = Prepared(
    select(table.c.kind, table.c.content).where(
        table.c.run_id == bindparam("run"), table.c.kind.in_((MessageKind.HELD_BACK, MessageKind.UPDATE))
    )
)


@dataclass(frozen=True, slots=True)
class ChannelState:
    """The outcomes of the newest messages of a channel."""

    channel: str
    sent: int
    dead: int
    waiting: int
    last_sent_at: datetime | None


def channel_states(connection: Connection) -> list[ChannelState]:
    """Return the state of each channel that has messages among the newest 1000."""
    recent = select(table).order_by(table.c.id.desc()).limit(1000).subquery()
    counts = [func.sum(case((recent.c.status == name, 1), else_=0)) for name in ("sent", "dead", "waiting")]
    rows = connection.execute(
        select(recent.c.channel, *counts, func.max(recent.c.sent_at))
        .group_by(recent.c.channel)
        .order_by(recent.c.channel)
    )
    return [ChannelState(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def list_dead(connection: Connection, limit: int = 100) -> list[OutboxMessage]:
    """Return the dead letters, newest first."""
    statement = select(table).where(table.c.status == "dead").order_by(table.c.created_at.desc()).limit(limit)
    return [_queued(row) for row in connection.execute(statement)]


def _queued(row: Row[Any]) -> OutboxMessage:
    return OutboxMessage(**{**row._asdict(), "kind": MessageKind(row.kind)})
