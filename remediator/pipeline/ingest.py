"""From the inbox to episodes and runs: fold what was said into episodes, match what opened, join or create runs.

Each transaction takes a bounded number of alerts, so that a storm of thousands never keeps the write gate shut.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from remediator.audit import Draft, Kind
from remediator.core import episode as episode_rules
from remediator.core.alert import Alert, Notification, identity, instant, receiver_name, stored_notification
from remediator.core.episode import AlertUpdate, EpisodeChange
from remediator.core.run import Episode, EpisodeStatus, Run
from remediator.errors import InputError, PayloadError
from remediator.pipeline import dead_letter
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.match import Index
from remediator.pipeline.recurrence import on_refired
from remediator.playbooks import parameters
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.storage import TOPIC_RECONCILE, Tx, advisory_locks
from remediator.storage.repositories import autonomy, episodes, inbox, key_values, runs
from remediator.storage.repositories.inbox import Received

UNRESOLVED = "?"
"""Target of a run whose target could not be resolved: it goes straight to people."""
WATCHDOG = key_values.WATCHDOG
_RECEIVERS = 50  # names that are remembered
log: Any = structlog.get_logger("remediator.pipeline.ingest")


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """How alerts become episodes."""

    ignore_labels: frozenset[str] = frozenset()
    """Labels that differ between Prometheus replicas and say nothing about the fault."""
    quiet: timedelta = timedelta(minutes=5)
    """How long an alert must stay resolved before its next firing is another incident."""
    watchdog: str = "Watchdog"
    """The alertname that always fires; it proves that alerts arrive and is never an incident."""
    chunk: int = 64
    """Most notifications, and most alerts, in one transaction."""
    channels: tuple[str, ...] = ()
    """Who is told of an alert that could not be taken in."""


@dataclass(slots=True)
class _Batch:
    """What one chunk of alerts changes."""

    opened: dict[str, Episode] = field(default_factory=dict)
    changed: dict[str, Episode] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    to_match: dict[str, Episode] = field(default_factory=dict)
    to_poke: set[str] = field(default_factory=set)


async def take_in(context: PipelineContext, index: Index, settings: IntakeSettings) -> int:
    """Fold what waits longest, a bounded amount; returns how many alerts that were, -1 for an empty inbox."""
    try:
        return await context.store.write(lambda tx: _take_in(tx, context, index, settings))
    except advisory_locks.LockUnavailable:
        return -1  # another replica is at it, and goes on until the inbox is empty
    except Exception as error:
        if not dead_letter.is_of_the_alert(error):
            raise
        log.warning("alerts cannot be folded together; each alone may be", message=dead_letter.sentence(error))
        return await _take_in_one_by_one(context, index, settings)


async def _take_in_one_by_one(context: PipelineContext, index: Index, settings: IntakeSettings) -> int:
    """Fold alerts alone until one is found that cannot be: people are told of it, and the next have their turn."""
    one = replace(settings, chunk=1)
    for folded in range(settings.chunk):
        place = dead_letter.Place()
        try:
            if await context.store.write(lambda tx: _take_next(tx, context, index, one, place)) < 0:  # noqa: B023
                return folded
        except advisory_locks.LockUnavailable:
            return -1
        except Exception as error:
            if not dead_letter.is_of_the_alert(error):
                raise
            why = dead_letter.sentence(error)
            log.exception("an alert could not be taken in", notification=place.notification, alert=place.alert)
            await context.store.write(lambda tx: _set_aside(tx, context, settings, place, why))  # noqa: B023
            return folded + 1
    return settings.chunk


def _take_next(
    tx: Tx, context: PipelineContext, index: Index, settings: IntakeSettings, place: dead_letter.Place
) -> int:
    for first in inbox.list_pending(tx, 1):
        place.notification, place.alert = first.id, first.processed_alerts
    return _take_in(tx, context, index, settings)


def _set_aside(tx: Tx, context: PipelineContext, settings: IntakeSettings, place: dead_letter.Place, why: str) -> None:
    for first in inbox.list_pending(tx, 1):
        if (first.id, first.processed_alerts) != (place.notification, place.alert):
            return  # another replica was there meanwhile
        try:
            alerts = _once_each(stored_notification(first.body).alerts, settings)
        except Exception:  # noqa: BLE001 - that may be just what is wrong with it
            alerts = ()
        if first.processed_alerts + 1 < len(alerts):
            inbox.mark_partly_processed(tx, first, first.processed_alerts + 1)
        else:
            inbox.mark_processed(tx, [first])
        dead_letter.tell(tx, context, settings.channels, place, alerts, why)


def _take_in(tx: Tx, context: PipelineContext, index: Index, settings: IntakeSettings) -> int:
    waiting = inbox.list_pending(tx, settings.chunk)
    if not waiting:
        return -1
    chosen: list[AlertUpdate] = []
    names: set[str] = set()
    whole: list[Received] = []
    for received in (_without_secrets(tx, item) for item in waiting):
        alerts, as_of = _alerts(tx, context, received, settings, names)
        room = settings.chunk - len(chosen)
        rest = alerts[received.processed_alerts :]
        chosen += [sighting(alert, settings, as_of) for alert in rest[:room]]
        if len(rest) > room:
            inbox.mark_partly_processed(tx, received, received.processed_alerts + room)
            break
        whole.append(received)
    inbox.mark_processed(tx, whole)
    _note(tx, whole, len(chosen))
    _remember(tx, names)
    fold_all(tx, context, index, settings, chosen)
    return len(chosen)


def _without_secrets(tx: Tx, received: Received) -> Received:
    """The inbox has what was acknowledged to the byte until here; from here on, nothing has what nobody may see."""
    try:
        body = tx.redact_json(received.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return received  # said where it is read
    if body is received.body:
        return received
    inbox.replace_body(tx, received, body)
    return replace(received, body=body)


def _alerts(
    tx: Tx, context: PipelineContext, received: Received, settings: IntakeSettings, names: set[str]
) -> tuple[Sequence[Alert], datetime | None]:
    """Its alerts; and if it is our own note of what Alertmanager answered, when that was asked."""
    try:
        notification = stored_notification(received.body)
        _compare_if_cut(tx, notification)
        names.add(receiver_name(notification.receiver))
        asked = instant(notification.as_of) if received.source == TOPIC_RECONCILE and notification.as_of else None
        return _once_each(notification.alerts, settings), asked
    except PayloadError as error:  # accepted by an older, laxer version: keep it, say so, go on
        data = {"notification": received.id, "message": str(error)}
        tx.append_audit(Draft(kind=Kind.NOTIFICATION_REJECTED, actor=context.actor, data=data))
        return (), None


def _compare_if_cut(tx: Tx, notification: Notification) -> None:
    """Something was left out of it: Alertmanager has to be asked."""
    if notification.truncated_alerts:
        key_values.delete(tx, key_values.RECONCILED)
        tx.notify(TOPIC_RECONCILE)


def _remember(tx: Tx, names: Collection[str]) -> None:
    """Who posts here: what the comparison with Alertmanager needs to know."""
    fact = key_values.get(tx.connection, key_values.RECEIVERS)
    known = [] if fact is None else fact.value
    new = sorted(name for name in names if name and name not in known)
    if new:
        key_values.set(tx, key_values.RECEIVERS, [*known, *new][-_RECEIVERS:])


def _once_each(alerts: Sequence[Alert], settings: IntakeSettings) -> Sequence[Alert]:
    """Of alerts alike but for ignored labels (a Prometheus pair), one that ended says nothing while one fires."""
    if not settings.ignore_labels or len({alert.status for alert in alerts}) < 2:
        return alerts
    firing = {identity(alert.labels, settings.ignore_labels) for alert in alerts if alert.status == "firing"}
    return [
        alert
        for alert in alerts
        if alert.status == "firing" or identity(alert.labels, settings.ignore_labels) not in firing
    ]


def _note(tx: Tx, whole: Sequence[Received], alerts: int) -> None:
    """One entry for all that was folded together: in a storm, the log must not grow faster than the news."""
    if not whole:
        return
    data = {
        "first": whole[0].id,
        "last": whole[-1].id,
        "notifications": len(whole),
        "sources": sorted({item.source for item in whole}),
        "alerts": alerts,
        "bodies": b"".join(item.body for item in whole),
    }
    tx.append_audit(Draft(kind=Kind.NOTIFICATION_RECEIVED, actor="alertmanager", data=data))


def fold_all(
    tx: Tx, context: PipelineContext, index: Index, settings: IntakeSettings, alerts: Sequence[AlertUpdate]
) -> None:
    """Fold alerts in order, and give what opened its runs."""
    seen = _news(tx, alerts)
    known = episodes.get_open(tx.connection, sorted({item.identity for item in seen}))
    batch = _Batch()
    for item in seen:
        if item.labels.get("alertname") == settings.watchdog:
            key_values.set(tx, WATCHDOG, {"firing": item.firing})
            continue
        _fold_one(tx, context, settings, known, batch, item)
    episodes.insert_all(tx, batch.opened.values())
    episodes.update_all(tx, [item for item in batch.changed.values() if item.id not in batch.opened])
    for draft in batch.drafts:
        tx.append_audit(draft)
    _poke(tx, batch.to_poke)
    _match(tx, context, index, list(batch.to_match.values()))


def _news(tx: Tx, seen: Sequence[AlertUpdate]) -> Sequence[AlertUpdate]:
    """Without those that repeat what stands already; in a flood, those are nearly all."""
    latest = episodes.get_last_updates(tx.connection, sorted({item.identity for item in seen}))
    news = []
    for item in seen:
        known = latest.get(item.identity)
        if known is None or not episode_rules.says_nothing_new(known, item, tx.now):
            news.append(item)
            latest.pop(item.identity, None)  # what comes after may no longer be a repetition
    return news


def sighting(alert: Alert, settings: IntakeSettings, as_of: datetime | None = None) -> AlertUpdate:
    """An alert of a notification, as the rules for episodes read it."""
    return AlertUpdate(
        identity=identity(alert.labels, settings.ignore_labels),
        firing=alert.status == "firing",
        labels=alert.labels,
        annotations=alert.annotations,
        starts=alert.starts_at,
        ends=alert.ends_at,
        as_of=as_of,
    )


_AUDITED = {
    EpisodeChange.OPENED: Kind.EPISODE_OPENED,
    EpisodeChange.REOPENED: Kind.EPISODE_CONTINUED,
    EpisodeChange.RESOLVED: Kind.EPISODE_RESOLVED,
}


def _fold_one(
    tx: Tx,
    context: PipelineContext,
    settings: IntakeSettings,
    known: dict[str, Episode],
    batch: _Batch,
    item: AlertUpdate,
) -> None:
    current = known.get(item.identity)
    if current is not None and episode_rules.says_nothing_new(current, item, tx.now):
        return
    new_id = "" if current else context.ids.new("episode", tx.now)
    change, after = episode_rules.fold(current, item, tx.now, settings.quiet, new_id)
    if after is None or change in (EpisodeChange.NOTHING, EpisodeChange.STALE):
        return
    known[item.identity] = after
    (batch.opened if after.id == new_id or after.id in batch.opened else batch.changed)[after.id] = after
    if change in _AUDITED:
        data = {"alertname": after.alertname, "labels": after.labels, "flaps": after.flaps}
        batch.drafts.append(Draft(kind=_AUDITED[change], actor="alertmanager", episode=after.id, data=data))
    if change in (EpisodeChange.OPENED, EpisodeChange.REOPENED):
        batch.to_match[after.id] = after
    if change in (EpisodeChange.REOPENED, EpisodeChange.RESOLVED):
        batch.to_poke.add(after.id)


def _poke(tx: Tx, episode_ids: Collection[str]) -> None:
    concerned = episodes.run_ids_by_episode(tx.connection, episode_ids)
    runs.notify(tx, {run_id for ids in concerned.values() for run_id in ids})


def _match(tx: Tx, context: PipelineContext, index: Index, opened: Sequence[Episode]) -> None:
    """Join each episode to the run of its incident, or create that run: one for each playbook and target."""
    wanted: dict[tuple[str, str], tuple[Playbook, list[Episode]]] = {}
    for item in opened:
        for playbook in index.match(item.labels):
            key = (playbook.name, _target(playbook, item, context.playbooks.inventory))
            wanted.setdefault(key, (playbook, []))[1].append(item)
    existing = runs.get_open_incidents(tx.connection, sorted(wanted))
    for (name, target), (playbook, alerts) in wanted.items():
        run = existing.get((name, target)) or _create(tx, context, playbook, target)
        runs.add_episodes(tx, run.id, alerts)
        if run.id in {found.id for found in existing.values()}:
            runs.notify(tx, [run.id])
            on_refired(tx, context, run)


def _create(tx: Tx, context: PipelineContext, playbook: Playbook, target: str) -> Run:
    mode = autonomy.effective_mode(tx.connection, playbook.name, playbook.mode_in(context.playbooks.environment))
    run_id = context.ids.new("run", tx.now)
    return runs.create(tx, run_id, playbook.name, playbook.content_hash, target, mode, context.actor)


def _target(playbook: Playbook, item: Episode, inventory: Inventory) -> str:
    try:
        values = parameters.resolve(playbook, dict(item.labels), inventory)
        return parameters.target(playbook, values, inventory)
    except InputError:
        return UNRESOLVED  # planning says what is wrong with it


async def close_due(context: PipelineContext) -> int:
    """Close episodes whose quiet time is over, and the incidents that are over with them; returns how many."""
    return await context.store.write(lambda tx: _close_due(tx, context))


def _close_due(tx: Tx, context: PipelineContext) -> int:
    due = episodes.list_due_to_close(tx.connection, tx.now)
    if not due:
        return 0
    closed = [episode_rules.close(item) for item in due]
    episodes.update_all(tx, closed)
    for item in closed:
        tx.append_audit(
            Draft(kind=Kind.EPISODE_CLOSED, actor=context.actor, episode=item.id, data={"alertname": item.alertname})
        )
    concerned = episodes.run_ids_by_episode(tx.connection, [item.id for item in closed])
    for run_id in sorted({run_id for ids in concerned.values() for run_id in ids}):
        _close_incident(tx, run_id)
    return len(due)


def _close_incident(tx: Tx, run_id: str) -> None:
    run = runs.get(tx.connection, run_id, lock=True)
    if run is None or any(
        item.status is not EpisodeStatus.CLOSED for item in episodes.list_for_run(tx.connection, run_id)
    ):
        return
    if run.finished_at is None:
        runs.notify(tx, [run_id])
    else:
        runs.close_incident(tx, [run_id])
