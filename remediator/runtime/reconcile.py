"""Comparing our episodes with what Alertmanager holds: what a lost or shortened notification left out is put in.

A look goes through the inbox like everything that is said about alerts, so that it is on record and folded in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
from sqlalchemy import Connection

from remediator.clients.alertmanager.client import AlertmanagerStatus, FiringAlert
from remediator.core.alert import Alert, Notification, identity
from remediator.core.clock import rfc3339
from remediator.core.run import Episode
from remediator.errors import ClientError
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.ingest import IntakeSettings
from remediator.storage import TOPIC_RECONCILE, Tx, advisory_locks
from remediator.storage.repositories import episodes, inbox, key_values

_IN_ONE = 500  # alerts in one notification of ours


class Peer(Protocol):
    """As much of an Alertmanager as is needed here."""

    url: str

    async def alerts(self) -> Sequence[FiringAlert]:
        """What it holds and has not ended."""
        ...

    async def status(self) -> AlertmanagerStatus:
        """Since when it runs, above all."""
        ...


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """How Alertmanager is compared with."""

    peers: Sequence[Peer]
    every: timedelta = timedelta(minutes=1)
    looks: int = 3
    """An alert has ended if it was absent at every peer that answered, so many looks in a row."""
    young: timedelta = timedelta(minutes=5)
    """An Alertmanager that runs for less than this may not have heard of everything yet: it proves no absence."""
    receiver: str | None = None
    """The receiver that posts here; None: those that were seen to."""


async def run_reconcile_loop(context: PipelineContext, intake: IntakeSettings, settings: ReconcileSettings) -> None:
    """Look every so often, and at once when a notification said that it was shortened."""
    while True:
        await reconcile(context, intake, settings)
        await context.store.wakeups.wait(TOPIC_RECONCILE, settings.every.total_seconds())


async def reconcile(context: PipelineContext, intake: IntakeSettings, settings: ReconcileSettings) -> int:
    """Look once, unless another replica has just done so; returns how many alerts were put in."""
    if not settings.peers or not await context.store.read(lambda connection: _is_due(connection, context, settings)):
        return 0
    asked = context.clock.now()
    answers = await asyncio.gather(*(_ask(context, peer, settings) for peer in settings.peers))
    heard = [answer for answer in answers if answer is not None]
    if not heard:
        return 0
    try:
        return await context.store.write(lambda tx: _compare(tx, intake, settings, heard, asked))
    except advisory_locks.LockUnavailable:
        return 0


@dataclass(frozen=True, slots=True)
class _Heard:
    alerts: Sequence[FiringAlert]
    young: bool


def _is_due(connection: Connection, context: PipelineContext, settings: ReconcileSettings) -> bool:
    last = key_values.get(connection, key_values.RECONCILED)
    return last is None or context.clock.now() - last.at >= settings.every * 0.9


async def _ask(context: PipelineContext, peer: Peer, settings: ReconcileSettings) -> _Heard | None:
    try:
        async with asyncio.timeout(context.timeouts.probe_timeout.total_seconds()):
            status, alerts = await asyncio.gather(peer.status(), peer.alerts())
    except (TimeoutError, ClientError):
        return None
    return _Heard(alerts, context.clock.now() - status.started < settings.young)


def _compare(
    tx: Tx, intake: IntakeSettings, settings: ReconcileSettings, heard: Sequence[_Heard], asked: datetime
) -> int:
    advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_RECONCILE)
    last = key_values.get(tx.connection, key_values.RECONCILED)
    held = {_identity(_known_labels(tx, alert), intake): alert for one in heard for alert in one.alerts}
    ours = {one.identity: one for one in episodes.list_firing(tx.connection)}
    missed = [alert for key, alert in held.items() if key not in ours and _concerns_us(tx, alert, intake, settings)]
    absent = {} if last is None else dict(last.value)
    if all(not one.young for one in heard):
        absent = {key: absent.get(key, 0) + 1 for key in ours if key not in held}
    gone = [ours[key] for key, looks in absent.items() if looks >= settings.looks and key in ours]
    put = [*map(_firing, missed), *(_ended(one, rfc3339(tx.now)) for one in gone)]
    for start in range(0, len(put), _IN_ONE):
        body = msgspec.json.encode(Notification("4", put[start : start + _IN_ONE], as_of=rfc3339(asked)))
        inbox.add(tx, TOPIC_RECONCILE, body)
    key_values.set(tx, key_values.RECONCILED, absent)
    return len(put)


def _known_labels(tx: Tx, alert: FiringAlert) -> Mapping[str, str]:
    """As intake knows them: without secrets."""
    encoded = msgspec.json.encode(alert.labels)
    clean = tx.redact_json(encoded)
    return alert.labels if clean is encoded else msgspec.json.decode(clean, type=dict[str, str])


def _identity(labels: Mapping[str, str], intake: IntakeSettings) -> str:
    return identity(labels, intake.ignore_labels)


def _concerns_us(tx: Tx, alert: FiringAlert, intake: IntakeSettings, settings: ReconcileSettings) -> bool:
    """It notifies, and one that posts here is told. The Watchdog has to come by the way that it watches."""
    if alert.status.suppressed or alert.labels.get("alertname") == intake.watchdog:
        return False
    known = {settings.receiver} if settings.receiver else _receivers(tx)
    return any(receiver.name in known for receiver in alert.receivers)


def _receivers(tx: Tx) -> Iterable[Any]:
    fact = key_values.get(tx.connection, key_values.RECEIVERS)
    return () if fact is None else set(fact.value)


def _firing(alert: FiringAlert) -> Alert:
    return Alert("firing", alert.labels, alert.annotations, rfc3339(alert.starts_at))


def _ended(one: Episode, now: str) -> Alert:
    return Alert("resolved", dict(one.labels), dict(one.annotations), rfc3339(one.starts_at), now)
