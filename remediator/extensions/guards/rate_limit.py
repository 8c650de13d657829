"""``rate_limit``: limit how many runs may act, over several time windows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import Field, field_validator, model_validator
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.text import join_names
from remediator.extensions.guards._rates import parse_rate
from remediator.extensions.guards.base import (
    ALLOW,
    Guard,
    GuardAnswer,
    GuardInput,
    Settings,
    Verdict,
    clock_time,
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
    """Blocks when other runs have used up a limit. A run counts once, regardless of its number of steps."""

    name = "rate_limit"
    reasons = frozenset({"used_up"})
    same_for_all_steps = True
    Settings = RateLimitSettings

    def lookback(self, settings: RateLimitSettings) -> timedelta:
        windows = (*settings.target, *settings.playbook, *settings.global_)
        return max((parse_rate(window)[1] for window in windows), default=timedelta(0))

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        target, playbook, settings = guard_input.service.name, guard_input.playbook.name, guard_input.settings
        limits = [
            _Limit(target, settings.target, {"target": target}),
            _Limit(f"playbook {playbook}", settings.playbook, {"playbook": playbook}),
            _Limit("all playbooks", settings.global_, {}),
        ]
        windows = [(limit, count, length) for limit in limits for count, length in limit.rates]
        scopes = [attempts.Scope(guard_input.now - length, count, **limit.chosen) for limit, count, length in windows]
        # A run can have several actions, so a window with enough actions may still have too few runs.
        for position in sorted(attempts.list_reached(connection, scopes, guard_input.run.id)):
            limit, count, length = windows[position]
            [acted] = attempts.list_last_acting(connection, [scopes[position]], guard_input.run.id)
            if len(acted) >= count:
                free = acted[count - 1][0] + length
                runs = [run for _, run in acted[:count]]
                window = f"{count}/{format_duration(length)}"
                return Verdict(
                    GuardAnswer.BLOCK,
                    "used_up",
                    f"rate_limit {window} for {limit.name} used by runs {join_names(runs)}; "
                    f"possible again at {clock_time(free, guard_input.now)}",
                    {"window": window, "scope": limit.name, "used": len(acted), "runs": runs, "free": free.isoformat()},
                    free,
                )
        return ALLOW


@dataclass(frozen=True, slots=True)
class _Limit:
    """The limits of one scope."""

    name: str
    windows: Sequence[str]
    chosen: Mapping[str, str]

    @property
    def rates(self) -> list[tuple[int, timedelta]]:
        return [parse_rate(window) for window in self.windows]
