"""``cooldown``: wait after an action before another run acts on the same target."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field, model_validator
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.types import Duration
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, clock_time
from remediator.storage.repositories import attempts


class CooldownSettings(Settings):
    """How long to wait. A plain duration sets ``period``."""

    period: Duration = Field(
        default=timedelta(minutes=5), description="Minimum time between two runs that act on one target."
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"period": value} if isinstance(value, str) else value

    def off(self) -> str:
        return "" if self.period else "its period is 0s"


class Cooldown(Guard):
    """Blocks for ``period`` after another run started an action on the same target."""

    name = "cooldown"
    reasons = frozenset({"cooling_down"})
    same_for_all_steps = True
    Settings = CooldownSettings

    def lookback(self, settings: CooldownSettings) -> timedelta:
        return settings.period

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        period: timedelta = guard_input.settings.period
        scope = attempts.Scope(guard_input.now - period, 1, target=guard_input.service.name)
        [others] = attempts.list_last_acting(connection, [scope], guard_input.run.id)
        if not others:
            return ALLOW
        last, run = others[0]
        free = last + period
        return Verdict(
            GuardAnswer.BLOCK,
            "cooling_down",
            f"cooldown {format_duration(period)} for {guard_input.service.name} since run {run} at "
            f"{clock_time(last, guard_input.now)}; possible again at {clock_time(free, guard_input.now)}",
            {"period": format_duration(period), "last": last.isoformat(), "run": run, "free": free.isoformat()},
            free,
        )
