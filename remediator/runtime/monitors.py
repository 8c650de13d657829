"""Monitor the stop file, the Watchdog alert and alert storms. Notify once when a state starts and once when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.core import progress
from remediator.core.clock import format_duration, rfc3339
from remediator.core.message import MessageKind
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx, advisory_locks
from remediator.storage.repositories import blocked_runs, key_values, outbox, stops, storms

_LOOKS = 2
"""How often the stop file is looked for between two runs of the monitors. This needs neither the store nor a thread."""


@dataclass(frozen=True, slots=True)
class FloodSettings:
    """The settings of the storm guard: ``alerts`` new alerts within ``within`` are a storm until ``cooldown`` later."""

    alerts: int
    within: timedelta
    cooldown: timedelta


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """The limits of the monitors, and the channels that are notified.

    Args:
        state: the folder of the stop file.
        max_silence: how long the Watchdog may be silent; None if it is not monitored.
        channels: notified of a change.
        storm: what counts as a storm; None if the storm guard is off.
    """

    state: Path
    max_silence: timedelta | None
    channels: tuple[str, ...]
    storm: FloodSettings | None


async def run_monitors_loop(context: PipelineContext, settings: MonitorSettings, poll: float) -> None:
    """Run the monitors every ``poll`` seconds, and sooner if there is a stop file, which is looked for more often."""
    while True:
        await run_monitors(context, settings)
        progress.report(poll)
        for _ in range(_LOOKS):
            await context.clock.sleep(poll / _LOOKS)
            if read_stop_file(settings.state) is not None:
                break


async def run_monitors(context: PipelineContext, settings: MonitorSettings) -> None:
    """Run the monitors once. Of several replicas, the first replica that detects a change reports it."""
    stop_file = read_stop_file(settings.state)
    if stop_file is None and not await context.store.read(
        lambda connection: _has_changed(connection, context, settings)
    ):
        return  # without a change there is no write transaction

    def report(tx: Tx) -> None:
        advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_MONITORS)
        if stop_file is not None:
            # every replica stops, and the stop stays when the file is deleted
            who = f"stop file of {context.replica}"
            known = stops.list_active(tx.connection, tx.now)
            if not any(stop.created_by == who and stop.scope == "global" for stop in known):
                stops.create(tx, context.ids.new("stop", tx.now), "global", "", stop_file.reason, who)
        if settings.max_silence is not None:
            _report_watchdog(tx, context, settings, settings.max_silence)
        if settings.storm is not None:
            _report_storm(tx, context, settings, settings.storm)

    try:
        await context.store.write(report)
    except advisory_locks.LockUnavailable:
        return  # another replica runs the monitors now


def _has_changed(connection: Connection, context: PipelineContext, settings: MonitorSettings) -> bool:
    """Return whether the current state differs from the last reported state."""
    now, silence, flood = context.clock.now(), settings.max_silence, settings.storm
    lost = silence is not None and _is_watchdog_lost(connection, now, silence)
    storm = flood is not None and _is_storm(connection, now, flood)
    return lost != _was_reported(connection, "watchdog") or storm != _was_reported(connection, "storm")


def _was_reported(connection: Connection, about: str) -> bool:
    stored = key_values.get(connection, f"reported:{about}")
    return stored is not None and bool(stored.value["is"])


def _is_watchdog_lost(connection: Connection, now: datetime, max_silence: timedelta) -> bool:
    """Return whether the Watchdog was received before and is not now. A new installation has never received it."""
    known = key_values.get(connection, key_values.WATCHDOG) is not None
    return known and bool(key_values.watchdog_problem(connection, now, max_silence))


def _report_watchdog(tx: Tx, context: PipelineContext, settings: MonitorSettings, max_silence: timedelta) -> None:
    lost = _is_watchdog_lost(tx.connection, tx.now, max_silence)
    if lost == _was_reported(tx.connection, "watchdog"):
        return
    last = key_values.get(tx.connection, key_values.WATCHDOG)
    at, limit = None if last is None else rfc3339(last.at), format_duration(max_silence)
    if lost:
        text = f"Watchdog lost: last received at {at}, not within {limit}. No action starts until it is received again."
    else:
        text = "Watchdog received again: alerts arrive, and actions can start."
        blocked_runs.schedule_now(tx, ["watchdog"])
    kind = Kind.WATCHDOG_LOST if lost else Kind.WATCHDOG_RETURNED
    tx.append_audit(Draft(kind=kind, actor=context.actor, data={"heard": at, "within": limit}))
    key_values.set(tx, "reported:watchdog", {"is": lost})
    content = {"about": "watchdog", "text": text, "heard": at}
    outbox.enqueue(tx, context.ids, MessageKind.NOTICE, None, content, settings.channels)


def _is_storm(connection: Connection, now: datetime, flood: FloodSettings) -> bool:
    return storms.last_storm_at(connection, now - flood.cooldown, flood.alerts, flood.within) is not None


def _report_storm(tx: Tx, context: PipelineContext, settings: MonitorSettings, flood: FloodSettings) -> None:
    storm = _is_storm(tx.connection, tx.now, flood)
    if storm == _was_reported(tx.connection, "storm"):
        return
    if storm:
        text = (
            f"Alert storm: {flood.alerts} or more new alerts within {format_duration(flood.within)}. No action starts "
            f"until {format_duration(flood.cooldown)} after it. Check the alerts."
        )
    else:
        text = "Alert storm over: actions can start."
        blocked_runs.schedule_now(tx, ["storm"])
    key_values.set(tx, "reported:storm", {"is": storm})
    outbox.enqueue(tx, context.ids, MessageKind.NOTICE, None, {"about": "storm", "text": text}, settings.channels)
