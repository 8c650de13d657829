"""The match stage, from the inbox to runs: update episodes, match new ones with playbooks, and join or create runs.

Each transaction processes a limited number of alerts, so that a storm of thousands never blocks other writes for long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from remediator.audit import Draft, Kind
from remediator.core import episode as episode_rules
from remediator.core.alert import ALERTMANAGER, Alert, Notification, receiver_name, stored_notification
from remediator.core.episode import AlertUpdate, EpisodeChange
from remediator.core.run import Episode
from remediator.errors import PayloadError
from remediator.extensions.sources.base import DEFAULT, Source
from remediator.pipeline import dead_letter
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.match import Index
from remediator.pipeline.run_creation import NewRun, join_or_create
from remediator.storage import TOPIC_RECONCILE, Tx, advisory_locks
from remediator.storage.repositories import episodes, inbox, key_values, runs
from remediator.storage.repositories.inbox import Received

WATCHDOG = key_values.WATCHDOG
_MAX_RECEIVERS = 50
log: Any = structlog.get_logger("remediator.pipeline.ingest")


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How alerts become episodes."""

    ignore_labels: frozenset[str] = frozenset()
    """Labels that differ between Prometheus replicas and do not describe the fault."""
    resolve_grace: timedelta = timedelta(minutes=5)
    """How long an alert must stay resolved before its next firing starts a new episode."""
    watchdog: str = "Watchdog"
    """The alertname that always fires. It proves that alerts arrive, and is never an incident."""
    watchdog_source: str = ALERTMANAGER
    """The source that sends the Watchdog."""
    sources: Mapping[str, Source] = field(default_factory=lambda: {ALERTMANAGER: DEFAULT})
    """The sources by name."""
    batch_size: int = 64
    """Maximum number of notifications, and of alerts, in one transaction."""
    channels: tuple[str, ...] = ()
    """The channels that are notified of dead letters."""


@dataclass(slots=True)
class _Batch:
    """The changes of one batch of alerts."""

    opened: dict[str, Episode] = field(default_factory=dict)
    changed: dict[str, Episode] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    to_match: dict[str, Episode] = field(default_factory=dict)
    to_notify: set[str] = field(default_factory=set)


_FLOOD = 16
"""Number of alerts in a batch from which on repetitions are dropped before their episodes are read."""


@dataclass(slots=True)
class InboxTurn:
    """One turn of the loop that processes the inbox."""

    free: int = 0
    """How many new runs this replica can work on at once. It claims them in the transaction that creates them."""
    claimed: list[NewRun] = field(default_factory=list)
    """The new runs that this replica has claimed."""
    drained: bool = False
    """Whether the inbox is known to be empty after this turn."""


async def process_inbox(
    context: PipelineContext, index: Index, settings: IngestSettings, turn: InboxTurn | None = None
) -> int:
    """Process the oldest notifications, up to the batch size.

    Args:
        context: the dependencies.
        index: the active playbooks.
        settings: how alerts become episodes.
        turn: the number of new runs that this replica claims; it also gets the result. None: new runs are only created.

    Returns:
        the number of alerts; -1 if the inbox is empty or another replica processes it.
    """
    turn = turn or InboxTurn()
    try:
        processed, done = await context.store.write(lambda tx: _process(tx, context, index, settings, turn.free))
        turn.claimed, turn.drained = done.claimed, done.drained
        return processed
    except advisory_locks.LockUnavailable:
        return -1  # another replica processes the inbox until it is empty
    except Exception as error:
        if not dead_letter.may_be_caused_by_alert(error):
            raise
        log.warning("batch of alerts failed, processing one by one", message=dead_letter.describe(error))
        return await _process_one_by_one(context, index, settings)


async def _process_one_by_one(context: PipelineContext, index: Index, settings: IngestSettings) -> int:
    """Process alerts one by one until an alert fails; this alert becomes a dead letter.

    Returns the number of alerts.
    """
    one = replace(settings, batch_size=1)
    for done in range(settings.batch_size):
        position = dead_letter.AlertPosition()

        def process_next(tx: Tx, position: dead_letter.AlertPosition = position) -> int:
            for first in inbox.list_pending(tx, 1):
                position.notification, position.alert = first.id, first.processed_alerts
            return _process(tx, context, index, one)[0]

        try:
            if await context.store.write(process_next) < 0:
                return done
        except advisory_locks.LockUnavailable:
            return -1
        except Exception as error:
            if not dead_letter.may_be_caused_by_alert(error):
                raise
            why = dead_letter.describe(error)
            log.exception("alert dead-lettered", notification=position.notification, alert=position.alert)
            await context.store.write(lambda tx: _dead_letter(tx, context, settings, position, why))  # noqa: B023
            return done + 1
    return settings.batch_size


def _dead_letter(
    tx: Tx, context: PipelineContext, settings: IngestSettings, position: dead_letter.AlertPosition, why: str
) -> None:
    for first in inbox.list_pending(tx, 1):
        if (first.id, first.processed_alerts) != (position.notification, position.alert):
            return  # another replica processed it
        try:
            source, notification = _read(first, settings)
            alerts = _without_contradictions(notification.alerts, source, settings)
        except Exception:  # noqa: BLE001 - reading the notification may be what fails
            alerts = ()
        if first.processed_alerts + 1 < len(alerts):
            inbox.mark_partly_processed(tx, first, first.processed_alerts + 1)
        else:
            inbox.mark_processed(tx, [first])
        dead_letter.record(tx, context, settings.channels, position, alerts, why)


def _process(
    tx: Tx, context: PipelineContext, index: Index, settings: IngestSettings, free: int = 0
) -> tuple[int, InboxTurn]:
    done = InboxTurn(free)
    pending = inbox.list_pending(tx, settings.batch_size)
    if not pending:
        return -1, done
    updates: list[AlertUpdate] = []
    receivers: dict[str, set[str]] = {}
    whole: list[Received] = []
    for received in (_redacted(tx, item) for item in pending):
        source, alerts = _alerts(tx, context, received, settings, receivers)
        room = settings.batch_size - len(updates)
        rest = alerts[received.processed_alerts :]
        updates += [to_update(alert, source, settings, received.asked_at) for alert in rest[:room]]
        if len(rest) > room:
            inbox.mark_partly_processed(tx, received, received.processed_alerts + room)
            break
        whole.append(received)
    inbox.mark_processed(tx, whole)
    _audit_batch(tx, whole, len(updates))
    _remember_receivers(tx, receivers)
    _apply_updates(tx, context, index, settings, updates, done)
    done.drained = len(whole) == len(pending) < settings.batch_size
    return len(updates), done


def _redacted(tx: Tx, received: Received) -> Received:
    """Redact a notification in the inbox. Until here the inbox has exactly the bytes that were acknowledged."""
    try:
        body = tx.redact_json(received.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return received  # reading it fails below, and is reported there
    if body is received.body:
        return received
    inbox.replace_body(tx, received, body)
    return replace(received, body=body)


def _alerts(
    tx: Tx, context: PipelineContext, received: Received, settings: IngestSettings, receivers: dict[str, set[str]]
) -> tuple[Source, Sequence[Alert]]:
    """Return the source of a notification and its alerts. What cannot be mapped is a dead letter: kept and reported."""
    try:
        source, notification = _read(received, settings)
        if notification.truncated_alerts:  # ask the source for the alerts that it leaves out
            key_values.delete(tx, key_values.RECONCILED + source.name)
            tx.notify(TOPIC_RECONCILE)
        receivers.setdefault(source.name, set()).add(receiver_name(notification.receiver))
        return source, _without_contradictions(notification.alerts, source, settings)
    except PayloadError as error:
        position = dead_letter.AlertPosition(received.id)
        why = dead_letter.printable(f"source {received.source!r}: {error}")
        dead_letter.record(tx, context, settings.channels, position, (), why)
        return DEFAULT, ()


def _read(received: Received, settings: IngestSettings) -> tuple[Source, Notification]:
    """Return the source of a stored notification, and its content.

    Raises:
        PayloadError: it cannot be mapped, or the settings no longer have the source.
    """
    source = settings.sources.get(received.source)
    if source is None:
        raise PayloadError("it is not in the settings any more; add it to 'sources' again")
    if received.asked_at is not None:  # the reconcile loop writes Alertmanager's format for every source
        return source, stored_notification(received.body)
    return source, source.read(received.body)


def _remember_receivers(tx: Tx, names: Mapping[str, Collection[str]]) -> None:
    """Remember which receivers of each source send here, for the reconcile loop."""
    for source, found in names.items():
        fact = key_values.get(tx.connection, key_values.RECEIVERS + source)
        known = [] if fact is None else fact.value
        new = sorted(name for name in found if name and name not in known)
        if new:
            key_values.set(tx, key_values.RECEIVERS + source, [*known, *new][-_MAX_RECEIVERS:])


def _without_contradictions(alerts: Sequence[Alert], source: Source, settings: IngestSettings) -> Sequence[Alert]:
    """Drop resolved alerts that fire with other ignored labels: one replica of a Prometheus pair still reports them."""
    if not settings.ignore_labels or len({alert.status for alert in alerts}) < 2:
        return alerts
    firing = {source.identity(alert, settings.ignore_labels) for alert in alerts if alert.status == "firing"}
    return [
        alert
        for alert in alerts
        if alert.status == "firing" or source.identity(alert, settings.ignore_labels) not in firing
    ]


def _audit_batch(tx: Tx, whole: Sequence[Received], alerts: int) -> None:
    """Write one audit entry for a batch: in a storm, the audit log must not grow with every repetition."""
    if not whole:
        return
    sources = sorted({item.source for item in whole})
    data = {
        "first": whole[0].id,
        "last": whole[-1].id,
        "notifications": len(whole),
        "sources": sources,
        "reconciled": sum(item.asked_at is not None for item in whole),
        "alerts": alerts,
        "bodies": b"".join(item.body for item in whole),
    }
    tx.append_audit(Draft(kind=Kind.NOTIFICATION_RECEIVED, actor=", ".join(sources), data=data))


def _apply_updates(
    tx: Tx,
    context: PipelineContext,
    index: Index,
    settings: IngestSettings,
    alerts: Sequence[AlertUpdate],
    turn: InboxTurn,
) -> None:
    """Update the episodes in order, and match the new ones."""
    seen = _drop_repeats(tx, alerts)
    known = episodes.get_open(tx.connection, sorted({item.identity for item in seen}))
    batch = _Batch()
    for item in seen:
        if item.labels.get("alertname") == settings.watchdog and item.source == settings.watchdog_source:
            key_values.set(tx, WATCHDOG, {"firing": item.firing})
            continue
        _apply_update(tx, context, settings, known, batch, item)
    episodes.insert_all(tx, batch.opened.values())
    episodes.update_all(tx, [item for item in batch.changed.values() if item.id not in batch.opened])
    for draft in batch.drafts:
        tx.append_audit(draft)
    concerned = episodes.run_ids_by_episode(tx.connection, batch.to_notify)
    runs.notify(tx, {run_id for ids in concerned.values() for run_id in ids})
    turn.claimed = join_or_create(tx, context, index, list(batch.to_match.values()), turn.free)


def _drop_repeats(tx: Tx, seen: Sequence[AlertUpdate]) -> Sequence[AlertUpdate]:
    """Return the updates that change something; in a flood, nearly all are repetitions."""
    if len(seen) < _FLOOD:
        return seen  # too few to filter: the caller compares each alert with its episode anyway
    latest = episodes.get_last_updates(tx.connection, sorted({item.identity for item in seen}))
    new = []
    for item in seen:
        known = latest.get(item.identity)
        if known is None or not episode_rules.is_repeat(known, item, tx.now):
            new.append(item)
            latest.pop(item.identity, None)  # later alerts may no longer be repetitions
    return new


def to_update(alert: Alert, source: Source, settings: IngestSettings, as_of: datetime | None = None) -> AlertUpdate:
    """Return an alert of a notification as an update of its episode."""
    return AlertUpdate(
        identity=source.identity(alert, settings.ignore_labels),
        firing=alert.status == "firing",
        labels=alert.labels,
        annotations=alert.annotations,
        starts=alert.starts_at,
        ends=alert.ends_at,
        generator_url=alert.generator_url,
        as_of=as_of,
        source=source.name,
    )


_AUDITED = {
    EpisodeChange.OPENED: Kind.EPISODE_OPENED,
    EpisodeChange.REOPENED: Kind.EPISODE_CONTINUED,
    EpisodeChange.RESOLVED: Kind.EPISODE_RESOLVED,
}


def _apply_update(
    tx: Tx,
    context: PipelineContext,
    settings: IngestSettings,
    known: dict[str, Episode],
    batch: _Batch,
    item: AlertUpdate,
) -> None:
    current = known.get(item.identity)
    if current is not None and episode_rules.is_repeat(current, item, tx.now):
        return
    new_id = "" if current else context.ids.new("episode", tx.now)
    change, after = episode_rules.fold(current, item, tx.now, settings.resolve_grace, new_id)
    if change is EpisodeChange.STALE and after is not None and item.as_of is None:
        batch.drafts.append(_resolve_ignored(after, item))
    if after is None or change in (EpisodeChange.NOTHING, EpisodeChange.STALE):
        return
    known[item.identity] = after
    (batch.opened if after.id == new_id or after.id in batch.opened else batch.changed)[after.id] = after
    if change in _AUDITED:
        data = {"alertname": after.alertname, "labels": after.labels, "flaps": after.flaps}
        batch.drafts.append(Draft(kind=_AUDITED[change], actor=item.source, episode=after.id, data=data))
    if change in (EpisodeChange.OPENED, EpisodeChange.REOPENED):
        batch.to_match[after.id] = after
    if change in (EpisodeChange.REOPENED, EpisodeChange.RESOLVED):
        batch.to_notify.add(after.id)


def _resolve_ignored(current: Episode, item: AlertUpdate) -> Draft:
    """Return the audit entry with the reason why a resolved alert did not end its episode."""
    data = {
        "alertname": current.alertname,
        "starts_at": item.starts,
        "ends_at": item.ends,
        "firing_since": current.starts_at,
        "text": f"the alert ended before the firing that is known began; the episode stays open until {item.source} "
        "reports its end or no longer has the alert",
    }
    kind = Kind.EPISODE_RESOLVE_IGNORED
    return Draft(kind=kind, actor=item.source, episode=current.id, reason="older_firing", data=data)
