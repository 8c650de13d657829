"""Reconcile the episodes of a source with the alerts that it has, in case a notification was lost or truncated.

Each source is compared with its own episodes only: that Alertmanager does not know an alert of Grafana means nothing.
The result goes through the inbox like every notification, so that it is stored and processed in order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection

from remediator.clients.alertmanager.client import FiringAlert
from remediator.core import progress
from remediator.core.alert import ALERTMANAGER, Alert, Notification, identity
from remediator.core.clock import rfc3339
from remediator.errors import ClientError
from remediator.extensions.sources.base import Peer
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.ingest import IngestSettings
from remediator.storage import TOPIC_RECONCILE, Tx, advisory_locks
from remediator.storage.repositories import episodes, inbox, key_values

_ALERTS_PER_NOTIFICATION = 500


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """How to reconcile.

    Args:
        peers: the servers that know which alerts of the source fire.
        every: time between two reconciliations.
        max_absences: an alert has ended if it was absent, at every peer that answered, this many times in a row.
        min_uptime: a peer that started more recently may not have all alerts, so it proves no absence. If a peer does
            not report its start time, an alert must be absent for this long.
        receiver: the receiver that notifies this service; None: the receivers of earlier notifications.
        source: name of the source.
    """

    peers: Sequence[Peer]
    every: timedelta = timedelta(minutes=1)
    max_absences: int = 3
    min_uptime: timedelta = timedelta(minutes=5)
    receiver: str | None = None
    source: str = ALERTMANAGER

    def absences(self, says_start: bool) -> int:
        """Return how often in a row an alert must be absent, depending on whether all peers report their start time."""
        whole = math.ceil(self.min_uptime / self.every) if self.every else 0
        return self.max_absences if says_start else max(self.max_absences, whole)


async def run_reconcile_loop(context: PipelineContext, ingest: IngestSettings, settings: ReconcileSettings) -> None:
    """Reconcile at an interval, and at once after a truncated notification."""
    while True:
        await reconcile(context, ingest, settings)
        progress.report(settings.every.total_seconds())
        await context.store.wakeups.wait(TOPIC_RECONCILE, settings.every.total_seconds())


async def reconcile(context: PipelineContext, ingest: IngestSettings, settings: ReconcileSettings) -> int:
    """Reconcile once, unless another replica has just done so. Return the number of added alerts."""

    def is_due(connection: Connection) -> bool:
        last = key_values.get(connection, key_values.RECONCILED + settings.source)
        return last is None or context.clock.now() - last.at >= settings.every * 0.9

    if not settings.peers or not await context.store.read(is_due):
        return 0
    asked_at = context.clock.now()
    answers = await asyncio.gather(*(_ask(context, peer, settings) for peer in settings.peers))
    answered = [answer for answer in answers if answer is not None]
    if not answered:
        return 0
    try:
        return await context.store.write(lambda tx: _compare(tx, ingest, settings, answered, asked_at))
    except advisory_locks.LockUnavailable:
        return 0


@dataclass(frozen=True, slots=True)
class _PeerAnswer:
    alerts: Sequence[FiringAlert]
    uptime: timedelta | None
    """Time since the start of the peer; None if the peer does not report its start time."""


async def _ask(context: PipelineContext, peer: Peer, settings: ReconcileSettings) -> _PeerAnswer | None:
    try:
        async with asyncio.timeout(context.timeouts.probe_timeout.total_seconds()):
            status, alerts = await asyncio.gather(peer.status(), peer.alerts())
    except (TimeoutError, ClientError):
        return None
    return _PeerAnswer(alerts, None if status.started is None else context.clock.now() - status.started)


def _compare(
    tx: Tx,
    ingest: IngestSettings,
    settings: ReconcileSettings,
    answers: Sequence[_PeerAnswer],
    asked_at: datetime,
) -> int:
    advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_RECONCILE)
    last = key_values.get(tx.connection, key_values.RECONCILED + settings.source)
    firing = {
        identity(settings.source, _redacted_labels(tx, alert), ingest.ignore_labels): alert
        for answer in answers
        for alert in answer.alerts
    }
    ours = {episode.identity: episode for episode in episodes.list_firing(tx.connection, settings.source)}
    missed = [alert for key, alert in firing.items() if key not in ours and _is_for_us(tx, alert, ingest, settings)]
    absent = {} if last is None else dict(last.value)
    if not any(answer.uptime is not None and answer.uptime < settings.min_uptime for answer in answers):
        absent = {key: absent.get(key, 0) + 1 for key in ours if key not in firing}
    enough = settings.absences(all(answer.uptime is not None for answer in answers))
    ended = [ours[key] for key, times in absent.items() if times >= enough and key in ours]
    now = rfc3339(tx.now)
    added = [Alert("firing", alert.labels, alert.annotations, rfc3339(alert.starts_at)) for alert in missed]
    added += [
        Alert("resolved", dict(episode.labels), dict(episode.annotations), rfc3339(episode.starts_at), now)
        for episode in ended
    ]
    for start in range(0, len(added), _ALERTS_PER_NOTIFICATION):
        part = added[start : start + _ALERTS_PER_NOTIFICATION]
        inbox.add(tx, settings.source, msgspec.json.encode(Notification("4", part)), asked_at)
    key_values.set(tx, key_values.RECONCILED + settings.source, absent)
    return len(added)


def _redacted_labels(tx: Tx, alert: FiringAlert) -> Mapping[str, str]:
    """Return the labels in their stored form, without secrets, so that the identity is the same."""
    encoded = msgspec.json.encode(alert.labels)
    clean = tx.redact_json(encoded)
    return alert.labels if clean is encoded else msgspec.json.decode(clean, type=dict[str, str])


def _is_for_us(tx: Tx, alert: FiringAlert, ingest: IngestSettings, settings: ReconcileSettings) -> bool:
    """Return whether the source notifies this service of the alert.

    The Watchdog never counts: it monitors the path of notifications, so it must arrive on that path.
    """
    if alert.status.suppressed or alert.labels.get("alertname") == ingest.watchdog:
        return False
    if settings.receiver:
        return any(receiver.name == settings.receiver for receiver in alert.receivers)
    known = key_values.get(tx.connection, key_values.RECEIVERS + settings.source)
    return known is not None and any(receiver.name in set(known.value) for receiver in alert.receivers)
