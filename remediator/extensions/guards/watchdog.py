"""``watchdog``: is our view stale? An alert that always fires has to be heard; silence then means something."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.types import Duration
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, clock_time
from remediator.storage.repositories import key_values


class WatchdogSettings(Settings):
    """How fresh it has to be; the settings file's ``watchdog.max_silence`` where nothing is said here."""

    max_silence: Duration = Field(default=timedelta(minutes=5), description="Older than this, the view is stale.")


class Watchdog(Guard):
    """Blocks when the Watchdog was heard too long ago; unknown if it was never heard, or its time makes no sense."""

    name = "watchdog"
    reasons = frozenset({"stale", "never_heard", "not_firing", "clock_jumped"})
    Settings = WatchdogSettings

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        max_silence: timedelta = question.settings.max_silence
        heard = key_values.get(connection, key_values.WATCHDOG)
        if heard is None:
            return Verdict(
                GuardAnswer.UNKNOWN,
                "never_heard",
                "watchdog was never heard: whether alerts arrive at all is not known; see docs/guards.md#watchdog",
                {"max_silence": format_duration(max_silence)},
            )
        inputs = {"heard": heard.at.isoformat(), "max_silence": format_duration(max_silence)}
        at = clock_time(heard.at, question.now)
        if heard.at > question.now + max_silence:
            text = f"watchdog was heard at {at}, which is yet to come: a clock was turned back"
            return Verdict(GuardAnswer.UNKNOWN, "clock_jumped", text, inputs)
        if question.now - heard.at > max_silence:
            age = format_duration(timedelta(seconds=round((question.now - heard.at).total_seconds())))
            text = (
                f"watchdog was heard {age} ago, at {at}, not within {format_duration(max_silence)}: the view is stale"
            )
            return Verdict(GuardAnswer.BLOCK, "stale", text, inputs)
        if not heard.value.get("firing", True):
            return Verdict(
                GuardAnswer.BLOCK, "not_firing", f"watchdog stopped firing at {at}: rules may be broken", inputs
            )
        return ALLOW
