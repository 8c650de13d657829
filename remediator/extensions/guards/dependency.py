"""``dependency``: do not act on a service while one of its dependencies is the more likely cause."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
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
from remediator.storage.repositories import attempts, dependencies


class DependencySettings(Settings):
    """Which dependencies block a run, and for how long."""

    settle: Duration = Field(
        default=timedelta(minutes=2), description="How long to wait after an action on a dependency of the target."
    )
    label: str = Field(default="service", description="The alert label that names a service of the inventory.")
    ignore: tuple[str, ...] = Field(default=(), description="Dependencies that never block this playbook.")

    def off(self) -> str:
        return f"it ignores {join_names(self.ignore)}" if self.ignore else ""


class Dependency(Guard):
    """Blocks while a dependency of the target has a firing alert, is being repaired, or was just acted on."""

    name = "dependency"
    reasons = frozenset({"cause_firing", "cause_under_repair", "caused_by_us"})
    same_for_all_steps = True
    passing_reasons = reasons
    Settings = DependencySettings
    waits_for_runs = True

    def lookback(self, settings: DependencySettings) -> timedelta:
        return settings.settle

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        settings: DependencySettings = guard_input.settings
        found = [
            name for name in guard_input.inventory.dependencies(guard_input.service.name) if name not in settings.ignore
        ]
        if not found:
            return ALLOW
        return (
            _repairing(connection, guard_input, found)
            or _firing(connection, guard_input, found)
            or _settling(connection, guard_input, found)
            or ALLOW
        )


def _repairing(connection: Connection, guard_input: GuardInput, found: list[str]) -> Verdict | None:
    for run in dependencies.list_active_runs(connection, found):
        if run.id != guard_input.run.id:
            text = (
                f"{guard_input.service.name} depends on {run.target}, which run {run.id} of {run.playbook} is repairing"
            )
            return Verdict(GuardAnswer.BLOCK, "cause_under_repair", text, {"cause": run.target, "run": run.id})
    return None


def _firing(connection: Connection, guard_input: GuardInput, found: list[str]) -> Verdict | None:
    firing = dependencies.list_firing(connection, found, guard_input.settings.label)
    own = {item.id for item in guard_input.episodes}
    firing = [item for item in firing if item.episode not in own]
    if not firing:
        return None
    first = firing[0]
    names = join_names(sorted({item.alertname for item in firing if item.service == first.service}))
    return Verdict(
        GuardAnswer.BLOCK,
        "cause_firing",
        f"{guard_input.service.name} depends on {first.service}, where {names} fires since "
        f"{clock_time(first.since, guard_input.now)}",
        {"cause": first.service, "alerts": [item.alertname for item in firing[:10]], "since": first.since.isoformat()},
    )


def _settling(connection: Connection, guard_input: GuardInput, found: list[str]) -> Verdict | None:
    settle: timedelta = guard_input.settings.settle
    scopes = [attempts.Scope(guard_input.now - settle, 1, target=name) for name in found]
    for name, acted in zip(found, attempts.list_last_acting(connection, scopes, guard_input.run.id), strict=True):
        if acted:
            at, run = acted[0]
            free = at + settle
            text = (
                f"{guard_input.service.name} depends on {name}, on which run {run} acted at "
                f"{clock_time(at, guard_input.now)}; waiting {format_duration(settle)}, until "
                f"{clock_time(free, guard_input.now)}"
            )
            inputs = {"cause": name, "run": run, "acted": at.isoformat(), "settle": format_duration(settle)}
            return Verdict(GuardAnswer.BLOCK, "caused_by_us", text, inputs, free)
    return None
