"""``watchdog``: block when alerts no longer arrive. An alert that always fires shows that they do."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.types import Duration
from remediator.extensions.guards.base import (
    ALLOW,
    Guard,
    GuardAnswer,
    GuardInput,
    Settings,
    Verdict,
    clock_time,
    manual_start,
)
from remediator.storage.repositories import key_values


class WatchdogSettings(Settings):
    """How old the last Watchdog may be. Default: ``watchdog.max_silence`` of the settings file."""

    max_silence: Duration = Field(
        default=timedelta(minutes=5), description="Block when the last Watchdog is older than this."
    )


class Watchdog(Guard):
    """Blocks when the last Watchdog is too old or resolved. Unknown without one, or if its time is in the future.

    A run that a person started does not depend on alerts, so the guard allows it and says so.
    """

    name = "watchdog"
    reasons = frozenset({"stale", "never_heard", "not_firing", "clock_jumped"})
    same_for_all_steps = True
    Settings = WatchdogSettings

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        if (manual := manual_start(guard_input, "it does not depend on alerts that arrive")) is not None:
            return manual
        max_silence: timedelta = guard_input.settings.max_silence
        heard = key_values.get(connection, key_values.WATCHDOG)
        if heard is None:
            return Verdict(
                GuardAnswer.UNKNOWN,
                "never_heard",
                "no Watchdog alert was received yet, so alerts may not arrive; see docs/guards.md#watchdog",
                {"max_silence": format_duration(max_silence)},
            )
        inputs = {"heard": heard.at.isoformat(), "max_silence": format_duration(max_silence)}
        at = clock_time(heard.at, guard_input.now)
        if heard.at > guard_input.now + max_silence:
            text = f"the last Watchdog is from {at}, in the future: a clock was set back"
            return Verdict(GuardAnswer.UNKNOWN, "clock_jumped", text, inputs)
        if guard_input.now - heard.at > max_silence:
            age = format_duration(timedelta(seconds=round((guard_input.now - heard.at).total_seconds())))
            limit = format_duration(max_silence)
            text = f"the last Watchdog was received {age} ago, at {at} (limit {limit}): alerts may not arrive"
            return Verdict(GuardAnswer.BLOCK, "stale", text, inputs)
        if not heard.value.get("firing", True):
            return Verdict(
                GuardAnswer.BLOCK,
                "not_firing",
                f"the Watchdog alert was resolved at {at}: the alert rules may be broken",
                inputs,
            )
        return ALLOW
