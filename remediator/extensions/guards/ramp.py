"""``ramp``: a remedy for many targets is tried on one first; only what heals is done to two at once, then to four."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field, field_validator, model_validator
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
    listed,
)
from remediator.storage.repositories import run_results
from remediator.storage.repositories.run_results import RunResult

_ALL = 100
"""Targets at once with which there is no ramp any more."""


class RampSettings(Settings):
    """How fast a playbook may spread over targets; a plain list in YAML means ``max_parallel``."""

    max_parallel: tuple[int, ...] = Field(
        default=(1, 2, 4), min_length=1, description="Targets at once in each wave; the last one goes on."
    )
    max_failures: int = Field(default=2, ge=1, description="So many targets not healed, and no further one is begun.")
    within: Duration = Field(default=timedelta(minutes=30), description="Runs longer ago do not count any more.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"max_parallel": value} if isinstance(value, list | tuple) else value

    @field_validator("max_parallel")
    @classmethod
    def _growing(cls, waves: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in waves):
            raise ValueError("a wave has at least one target")
        if list(waves) != sorted(waves):
            raise ValueError("waves must not shrink")
        return waves

    def off(self) -> str:
        return f"a first wave of {self.max_parallel[0]}" if self.max_parallel[0] >= _ALL else ""


class Ramp(Guard):
    """Blocks beyond what this playbook's own successes have earned, and altogether after too many failures."""

    name = "ramp"
    reasons = frozenset({"wave_full", "too_many_errors"})
    Settings = RampSettings
    waits_for_runs = True

    def looks_back(self, settings: RampSettings) -> timedelta:
        return settings.within

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        settings: RampSettings = question.settings
        since = question.now - settings.within
        others = [
            run
            for run in run_results.list_acted_since(connection, question.playbook.name, since)
            if run.id != question.run.id and run.target != question.service.name
        ]
        acting = [run for run in others if run.healed is None]
        if not others:
            return ALLOW
        failed = [run for run in others if run.healed is False]
        if len(failed) >= settings.max_failures:
            return _errors(question, settings, failed)
        allowed = _wave(settings.max_parallel, sum(1 for run in others if run.healed))
        if len(acting) < allowed:
            return ALLOW
        ids = [run.id for run in acting]
        return Verdict(
            GuardAnswer.BLOCK,
            "wave_full",
            f"ramp {'→'.join(map(str, settings.max_parallel))} for {question.playbook.name}: {allowed} at once by now, "
            f"used by runs {listed(ids)}",
            {
                "max_parallel": list(settings.max_parallel),
                "allowed": allowed,
                "healed": len(others) - len(acting),
                "runs": ids,
            },
        )


def _wave(waves: tuple[int, ...], healed: int) -> int:
    """How many at once after so many healed: each wave has to heal in full before the next one."""
    for size in waves[:-1]:
        if healed < size:
            return size
        healed -= size
    return waves[-1]


def _errors(question: GuardInput, settings: RampSettings, failed: list[RunResult]) -> Verdict:
    latest = sorted(failed, key=lambda run: run.began)[-settings.max_failures :]
    free = latest[0].began + settings.within
    ids = [run.id for run in latest]
    return Verdict(
        GuardAnswer.BLOCK,
        "too_many_errors",
        f"ramp of {question.playbook.name} stopped: {len(failed)} targets not healed within "
        f"{format_duration(settings.within)} (runs {listed(ids)}); next free {clock_time(free, question.now)}",
        {"max_failures": settings.max_failures, "failed": len(failed), "runs": ids, "free": free.isoformat()},
        free,
    )
