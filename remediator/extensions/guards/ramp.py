"""``ramp``: act on one target first; when it is healed, on more targets at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field, field_validator, model_validator
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.text import join_names
from remediator.core.types import Duration
from remediator.extensions.guards.base import (
    ALLOW,
    Guard,
    GuardAnswer,
    GuardInput,
    Settings,
    Verdict,
    clock_time,
)
from remediator.storage.repositories import run_results

_ALL = 100
"""A first wave of this size or more disables the ramp in practice."""


class RampSettings(Settings):
    """How fast a playbook spreads over targets. A plain list sets ``max_parallel``."""

    max_parallel: tuple[int, ...] = Field(
        default=(1, 2, 4),
        min_length=1,
        description="Targets at the same time in each wave. The last value applies to all further waves.",
    )
    max_failures: int = Field(
        default=2, ge=1, description="Start no further target after this many targets were not healed."
    )
    within: Duration = Field(default=timedelta(minutes=30), description="How far back runs count.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"max_parallel": value} if isinstance(value, list | tuple) else value

    @field_validator("max_parallel")
    @classmethod
    def _growing(cls, waves: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in waves):
            raise ValueError("a wave must have at least one target")
        if list(waves) != sorted(waves):
            raise ValueError("each wave must be at least as large as the one before, for example [1, 2, 4]")
        return waves

    def off(self) -> str:
        return f"a first wave of {self.max_parallel[0]}" if self.max_parallel[0] >= _ALL else ""


class Ramp(Guard):
    """Blocks when the current wave is full, and after too many targets were not healed."""

    name = "ramp"
    reasons = frozenset({"wave_full", "too_many_errors"})
    same_for_all_steps = True
    passing_reasons = frozenset({"wave_full"})
    Settings = RampSettings
    waits_for_runs = True

    def lookback(self, settings: RampSettings) -> timedelta:
        return settings.within

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        settings: RampSettings = guard_input.settings
        playbook, since = guard_input.playbook.name, guard_input.now - settings.within
        mine = (guard_input.run.id, guard_input.service.name)
        most = (sum(settings.max_parallel), settings.max_failures)
        wave = run_results.count_wave(connection, playbook, since, mine, most)
        if wave.failed >= settings.max_failures:
            failed = run_results.list_failed(connection, playbook, since, mine, settings.max_failures)
            free = failed[-1].began + settings.within
            ids = [run.id for run in reversed(failed)]
            return Verdict(
                GuardAnswer.BLOCK,
                "too_many_errors",
                f"ramp of {playbook} stopped: {len(failed)} targets not healed within "
                f"{format_duration(settings.within)} (runs {join_names(ids)}); "
                f"possible again at {clock_time(free, guard_input.now)}",
                {"max_failures": settings.max_failures, "failed": len(failed), "runs": ids, "free": free.isoformat()},
                free,
            )
        allowed = _wave(settings.max_parallel, wave.healed)
        if wave.acting < allowed:
            return ALLOW
        ids = [run.id for run in run_results.list_acting(connection, playbook, since, mine)]
        return Verdict(
            GuardAnswer.BLOCK,
            "wave_full",
            f"ramp {'→'.join(map(str, settings.max_parallel))} for {playbook}: "
            f"at most {allowed} at the same time now, "
            f"used by runs {join_names(ids)}",
            {
                "max_parallel": list(settings.max_parallel),
                "allowed": allowed,
                "healed": wave.healed,
                "runs": ids,
            },
        )


def _wave(waves: tuple[int, ...], healed: int) -> int:
    """Return the size of the current wave. A wave must heal completely before the next one starts."""
    for size in waves[:-1]:
        if healed < size:
            return size
        healed -= size
    return waves[-1]
