"""``dependency``: a cause that fires or is being repaired comes first; what our own action shook is left to settle."""

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
    listed,
)
from remediator.storage.repositories import attempts, dependencies


class DependencySettings(Settings):
    """What counts as the cause of what."""

    settle: Duration = Field(
        default=timedelta(minutes=2), description="So long after an action, alerts on dependants are only observed."
    )
    label: str = Field(default="service", description="The alert label that names a service of the inventory.")
    ignore: tuple[str, ...] = Field(default=(), description="Dependencies whose trouble does not hold this playbook.")

    def off(self) -> str:
        return f"it ignores {listed(self.ignore)}" if self.ignore else ""


class Dependency(Guard):
    """Blocks while something that the target depends on fires, is repaired, or was just acted on by us."""

    name = "dependency"
    reasons = frozenset({"cause_firing", "cause_under_repair", "caused_by_us"})
    Settings = DependencySettings
    waits_for_runs = True

    def looks_back(self, settings: DependencySettings) -> timedelta:
        return settings.settle

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        settings: DependencySettings = question.settings
        found = [name for name in question.inventory.causes(question.service.name) if name not in settings.ignore]
        if not found:
            return ALLOW
        return (
            _repairing(connection, question, found)
            or _firing(connection, question, found)
            or _settling(connection, question, found)
            or ALLOW
        )


def _repairing(connection: Connection, question: GuardInput, found: list[str]) -> Verdict | None:
    for run in dependencies.list_active_runs(connection, found):
        if run.id != question.run.id:
            text = f"{question.service.name} depends on {run.target}, which {run.playbook} is repairing (run {run.id})"
            return Verdict(GuardAnswer.BLOCK, "cause_under_repair", text, {"cause": run.target, "run": run.id})
    return None


def _firing(connection: Connection, question: GuardInput, found: list[str]) -> Verdict | None:
    firing = dependencies.list_firing(connection, found, question.settings.label)
    own = {item.id for item in question.episodes}
    firing = [item for item in firing if item.episode not in own]
    if not firing:
        return None
    first = firing[0]
    names = listed(sorted({item.alertname for item in firing if item.service == first.service}))
    return Verdict(
        GuardAnswer.BLOCK,
        "cause_firing",
        f"{question.service.name} depends on {first.service}, where {names} fires since "
        f"{clock_time(first.since, question.now)}",
        {"cause": first.service, "alerts": [item.alertname for item in firing[:10]], "since": first.since.isoformat()},
    )


def _settling(connection: Connection, question: GuardInput, found: list[str]) -> Verdict | None:
    settle: timedelta = question.settings.settle
    for name in found:
        begun = attempts.list_started_since(connection, question.now - settle, target=name)
        begun = [(at, run) for at, run in begun if run != question.run.id]
        if begun:
            at, run = begun[0]
            free = at + settle
            text = (
                f"{question.service.name} depends on {name}, on which run {run} acted at "
                f"{clock_time(at, question.now)}; observed for {format_duration(settle)}, until "
                f"{clock_time(free, question.now)}"
            )
            inputs = {"cause": name, "run": run, "acted": at.isoformat(), "settle": format_duration(settle)}
            return Verdict(GuardAnswer.BLOCK, "caused_by_us", text, inputs, free)
    return None
