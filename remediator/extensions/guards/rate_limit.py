"""``budget``: so many runs that act, in so much time; several windows at once, per target, per playbook and in all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field, field_validator, model_validator
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.extensions.guards._rates import parse_rate
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
from remediator.storage.repositories import attempts


class RateLimitSettings(Settings):
    """Windows as ``count/duration``; a plain list in YAML means ``target``."""

    target: tuple[str, ...] = Field(default=("3/1h", "7/1d"), description="For each target.")
    playbook: tuple[str, ...] = Field(
        default=("10/1h", "30/1d"), description="For this playbook, all targets together."
    )
    global_: tuple[str, ...] = Field(
        default=("20/1h",), alias="global", description="For all playbooks and targets together."
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"target": value} if isinstance(value, list | tuple) else value

    @field_validator("target", "playbook", "global_")
    @classmethod
    def _windows(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        for window in windows:
            parse_rate(window)
        return windows

    def off(self) -> str:
        scopes = {"target": self.target, "playbook": self.playbook, "global": self.global_}
        free = [name for name, windows in scopes.items() if not windows]
        return f"no window for {listed(free)}" if free else ""


class RateLimit(Guard):
    """Blocks when a window is used up by other runs."""

    name = "rate_limit"
    reasons = frozenset({"used_up"})
    Settings = RateLimitSettings

    def looks_back(self, settings: RateLimitSettings) -> timedelta:
        windows = (*settings.target, *settings.playbook, *settings.global_)
        return max((parse_rate(window)[1] for window in windows), default=timedelta(0))

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        target, playbook = question.service.name, question.playbook.name
        scopes: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
            (target, question.settings.target, {"target": target}),
            (f"playbook {playbook}", question.settings.playbook, {"playbook": playbook}),
            ("all playbooks", question.settings.global_, {}),
        )
        for scope, windows, chosen in scopes:
            for window in windows:
                verdict = _spent(connection, question, scope, window, chosen)
                if verdict is not ALLOW:
                    return verdict
        return ALLOW


def _spent(connection: Connection, question: GuardInput, scope: str, window: str, chosen: dict[str, str]) -> Verdict:
    count, length = parse_rate(window)
    begun = attempts.list_started_since(connection, question.now - length, **chosen)
    others = [(at, run) for at, run in begun if run != question.run.id]
    if len(others) < count:
        return ALLOW
    free = others[count - 1][0] + length
    runs = [run for _, run in others[:count]]
    return Verdict(
        GuardAnswer.BLOCK,
        "used_up",
        f"rate_limit {count}/{format_duration(length)} for {scope} used by runs {listed(runs)}; "
        f"next free {clock_time(free, question.now)}",
        {"window": window, "scope": scope, "used": len(others), "runs": runs, "free": free.isoformat()},
        free,
    )
