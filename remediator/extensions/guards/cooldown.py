"""``cooldown``: after an action on a target, leave it alone for a while."""

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
    """How long; a plain duration in YAML."""

    period: Duration = Field(default=timedelta(minutes=5), description="Time between two runs that act on a target.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"period": value} if isinstance(value, str) else value

    def off(self) -> str:
        return "" if self.period else "a period of nothing"


class Cooldown(Guard):
    """Blocks for ``period`` after the last action that another run began on the same target."""

    name = "cooldown"
    reasons = frozenset({"cooling_down"})
    Settings = CooldownSettings

    def looks_back(self, settings: CooldownSettings) -> timedelta:
        return settings.period

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        period: timedelta = question.settings.period
        since = question.now - period
        begun = attempts.list_started_since(connection, since, target=question.service.name)
        others = [(at, run) for at, run in begun if run != question.run.id]
        if not others:
            return ALLOW
        last, run = others[0]
        free = last + period
        return Verdict(
            GuardAnswer.BLOCK,
            "cooling_down",
            f"cooldown {format_duration(period)} for {question.service.name} since run {run} at "
            f"{clock_time(last, question.now)}; next free {clock_time(free, question.now)}",
            {"period": format_duration(period), "last": last.isoformat(), "run": run, "free": free.isoformat()},
            free,
        )
