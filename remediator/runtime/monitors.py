"""Watching what no run sees: the stop file, the Watchdog's silence, storms. People are told once, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from remediator.audit import Draft, Kind
from remediator.core.clock import format_duration, rfc3339
from remediator.extensions.guards._stop_file import StopFile, read_stop_file
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx, advisory_locks
from remediator.storage.repositories import blocked_runs, key_values, outbox, stops, storms

_FILE = "stop file"


@dataclass(frozen=True, slots=True)
class FloodSettings:
    """What the storm guard takes for a storm in this installation."""

    alerts: int
    within: timedelta
    cooldown: timedelta


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What is watched, and who is told."""

    state: Path
    within: timedelta | None
    """The Watchdog has to be heard within this; None: nobody watches it."""
    channels: tuple[str, ...]
    storm: FloodSettings | None


async def run_monitors_loop(context: PipelineContext, watching: MonitorSettings, poll: float) -> None:
    """Look again every ``poll`` seconds."""
    while True:
        await run_monitors(context, watching)
        await context.clock.sleep(poll)


async def run_monitors(context: PipelineContext, watching: MonitorSettings) -> None:
    """Look once. On several replicas one tells, whichever is first."""
    said = read_stop_file(watching.state)

    def look(tx: Tx) -> None:
        advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_MONITORS)
        if said is not None:
            _press(tx, context, said)
        if watching.within is not None:
            _watchdog(tx, context, watching, watching.within)
        if watching.storm is not None:
            _storm(tx, context, watching, watching.storm)

    if said is None and not await context.store.read(lambda connection: _differs(connection, context, watching)):
        return  # no transaction every half second where there is nothing to write
    try:
        await context.store.write(look)
    except advisory_locks.LockUnavailable:
        return  # another replica looks right now


def _press(tx: Tx, context: PipelineContext, said: StopFile) -> None:
    """Into the store, so that every replica stops, and goes on stopping when the file is gone: a person resumes."""
    who = f"{_FILE} of {context.replica}"
    if any(stop.created_by == who and stop.scope == "global" for stop in stops.list_active(tx.connection, tx.now)):
        return
    stops.create(tx, context.ids.new("stop", tx.now), "global", "", said.reason, who)


def _differs(connection: Any, context: PipelineContext, watching: MonitorSettings) -> bool:
    """Whether what is so is not what people were told."""
    now = context.clock.now()
    lost = watching.within is not None and _lost(connection, now, watching.within)
    storm = watching.storm is not None and _stormy(connection, now, watching.storm)
    return lost != _told(connection, "watchdog") or storm != _told(connection, "storm")


def _told(connection: Any, what: str) -> bool:
    fact = key_values.get(connection, f"told:{what}")
    return fact is not None and bool(fact.value["is"])


def _lost(connection: Any, now: Any, within: timedelta) -> bool:
    """Never heard is not lost: a new installation has nothing to lose yet, and the guard asks anyway."""
    return key_values.get(connection, key_values.WATCHDOG) is not None and bool(
        key_values.watchdog_problem(connection, now, within)
    )


def _watchdog(tx: Tx, context: PipelineContext, watching: MonitorSettings, within: timedelta) -> None:
    lost = _lost(tx.connection, tx.now, within)
    if lost == _told(tx.connection, "watchdog"):
        return
    heard = key_values.get(tx.connection, key_values.WATCHDOG)
    at = None if heard is None else rfc3339(heard.at)
    if lost:
        text = (
            f"Watchdog lost: last heard at {at}, not within {format_duration(within)}; observing only until it is back"
        )
    else:
        text = "Watchdog is back: alerts arrive again"
        blocked_runs.schedule_now(tx, ["watchdog"])
    tx.append_audit(
        Draft(
            kind=Kind.WATCHDOG_LOST if lost else Kind.WATCHDOG_RETURNED,
            actor=context.actor,
            data={"heard": at, "within": format_duration(within)},
        )
    )
    _tell(tx, context, watching.channels, "watchdog", lost, {"text": text, "heard": at})


def _stormy(connection: Any, now: Any, flood: FloodSettings) -> bool:
    return storms.last_storm_at(connection, now - flood.cooldown, flood.alerts, flood.within) is not None


def _storm(tx: Tx, context: PipelineContext, watching: MonitorSettings, flood: FloodSettings) -> None:
    storm = _stormy(tx.connection, tx.now, flood)
    if storm == _told(tx.connection, "storm"):
        return
    if storm:
        text = (
            f"Storm: {flood.alerts} or more new alerts within {format_duration(flood.within)}; nothing is done until "
            f"{format_duration(flood.cooldown)} after it; a person should look"
        )
    else:
        text = "The storm is over: remedies are possible again"
        blocked_runs.schedule_now(tx, ["storm"])
    _tell(tx, context, watching.channels, "storm", storm, {"text": text})


def _tell(
    tx: Tx, context: PipelineContext, channels: Sequence[str], what: str, state: bool, content: Mapping[str, Any]
) -> None:
    key_values.set(tx, f"told:{what}", {"is": state})
    outbox.enqueue(tx, context.ids, "notice", None, {"about": what, **content}, channels)
