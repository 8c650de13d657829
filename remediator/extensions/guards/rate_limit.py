"""``rate_limit``: limit how many runs may act, over several time windows at once."""

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
    join_names,
)
from remediator.storage.repositories import attempts


class RateLimitSettings(Settings):
    """Limits as ``COUNT/DURATION``, for example ``3/1h``. A plain list sets ``target``."""

    target: tuple[str, ...] = Field(default=("3/1h", "7/1d"), description="Limits for each target.")
    playbook: tuple[str, ...] = Field(
        default=("10/1h", "30/1d"), description="Limits for this playbook over all targets."
    )
    global_: tuple[str, ...] = Field(
        default=("20/1h",), alias="global", description="Limits for all playbooks together."
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
        return f"it has no limit for {join_names(free)}" if free else ""


class RateLimit(Guard):
    """Blocks when other runs have used up a limit. A run counts once, however many steps it has."""

    name = "rate_limit"
    reasons = frozenset({"used_up"})
    Settings = RateLimitSettings

    def lookback(self, settings: RateLimitSettings) -> timedelta:
        windows = (*settings.target, *settings.playbook, *settings.global_)
        return max((parse_rate(window)[1] for window in windows), default=timedelta(0))

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        target, playbook = guard_input.service.name, guard_input.playbook.name
        scopes: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
            (target, guard_input.settings.target, {"target": target}),
            (f"playbook {playbook}", guard_input.settings.playbook, {"playbook": playbook}),
            ("all playbooks", guard_input.settings.global_, {}),
        )
        for scope, windows, chosen in scopes:
            for window in windows:
                verdict = _spent(connection, guard_input, scope, window, chosen)
                if verdict is not ALLOW:
                    return verdict
        return ALLOW


def _spent(connection: Connection, guard_input: GuardInput, scope: str, window: str, chosen: dict[str, str]) -> Verdict:
    count, length = parse_rate(window)
    begun = attempts.list_started_since(connection, guard_input.now - length, **chosen)
    others = [(at, run) for at, run in begun if run != guard_input.run.id]
    if len(others) < count:
        return ALLOW
    free = others[count - 1][0] + length
    runs = [run for _, run in others[:count]]
    return Verdict(
        GuardAnswer.BLOCK,
        "used_up",
        f"rate_limit {count}/{format_duration(length)} for {scope} used by runs {join_names(runs)}; "
        f"next free {clock_time(free, guard_input.now)}",
        {"window": window, "scope": scope, "used": len(others), "runs": runs, "free": free.isoformat()},
        free,
    )
