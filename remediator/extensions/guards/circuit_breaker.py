"""``breaker``: a remedy that keeps failing, or keeps being needed, is no remedy: from then on people are asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, field_validator
from sqlalchemy import Connection

from remediator.audit import Kind
from remediator.core.clock import format_duration
from remediator.core.types import Duration
from remediator.extensions.guards._rates import parse_rate
from remediator.extensions.guards.base import (
    ALLOW,
    Guard,
    GuardAnswer,
    GuardInput,
    RunSummary,
    Settings,
    Verdict,
    clock_time,
    listed,
)
from remediator.storage import Tx
from remediator.storage.repositories import autonomy, breakers, outbox, run_results, runs
from remediator.storage.repositories.breakers import OpenBreaker
from remediator.storage.repositories.run_results import RunResult

_LOOK_BACK = timedelta(days=7)


class CircuitBreakerSettings(Settings):
    """When it opens, and when one run may try again."""

    failures: int = Field(default=3, ge=1, description="Runs in a row that acted and did not heal, over all targets.")
    ineffective: str = Field(default="3/6h", description="Healed so often in so long: it comes back, so ask.")
    half_open_after: Duration | None = Field(
        default=timedelta(hours=1), description="One run may try so long after the last failure; null: only a person."
    )
    demote_after: str = Field(
        default="2/7d", description="Opened so often in so long, the playbook is put to *approve*."
    )

    @field_validator("ineffective", "demote_after")
    @classmethod
    def _rate(cls, rate: str) -> str:
        parse_rate(rate)
        return rate


class CircuitBreaker(Guard):
    """Unknown, that is *ask*, while open; half open, one run tries and the others wait for what comes of it."""

    name = "circuit_breaker"
    reasons = frozenset({"failing", "ineffective", "trial_running"})
    Settings = CircuitBreakerSettings
    waits_for_runs = True

    def looks_back(self, settings: CircuitBreakerSettings) -> timedelta:
        return _LOOK_BACK

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        playbook, target = question.playbook.name, question.service.name
        opened = _state(connection, playbook, target, question.settings, question.now)
        if opened is None:
            return ALLOW
        if opened.half_open_at is None or question.now < opened.half_open_at:
            return _ask(question, opened)
        trial = _trial(connection, question, opened.half_open_at)
        if trial is None:
            return ALLOW
        text = f"breaker of {playbook} is half open: run {trial.id} tries first"
        return Verdict(GuardAnswer.BLOCK, "trial_running", text, {"run": trial.id})

    def learn(self, tx: Tx, lesson: RunSummary) -> None:
        """A run ended: if that opens the breaker, say so, and demote the playbook if it happens too often."""
        settings: CircuitBreakerSettings = lesson.settings
        run, playbook = lesson.run, lesson.playbook.name
        opened = _state(tx.connection, playbook, run.target, settings, tx.now)
        if opened is None or run.id not in opened.runs:
            return
        trips = breakers.trip(tx, playbook, opened)
        data = {"why": opened.why, "runs": list(opened.runs), "scope": opened.scope}
        tx.append_audit(runs.draft(Kind.CIRCUIT_BREAKER_TRIPPED, run, lesson.actor, data, opened.why))
        text = f"{_why(playbook, opened, settings)}; from now on it asks"
        count, length = parse_rate(settings.demote_after)
        if (
            sum(1 for at in trips if at > tx.now - length) >= count
            and autonomy.lower_mode("approve", run.mode) != run.mode
        ):
            reason = f"breaker opened {count} times in {format_duration(length)}"
            autonomy.set_mode(tx, playbook, "approve", lesson.written_mode, lesson.actor, reason)
            text += f"; {reason}, so only a person can promote it again"
        content = {"guard": self.name, "text": text, "playbook": playbook, "target": run.target, **data}
        outbox.enqueue(tx, lesson.ids, "notice", run, content, lesson.playbook.escalate.to)


def _state(
    connection: Connection, playbook: str, target: str, settings: CircuitBreakerSettings, now: datetime
) -> OpenBreaker | None:
    """Open or not, read from how runs ended: no other state to keep, or to get wrong."""
    reset = breakers.reset_at(connection, playbook)
    since = max(now - _LOOK_BACK, reset) if reset else now - _LOOK_BACK
    known = run_results.list_acted_since(connection, playbook, since)
    ended = sorted((run for run in known if run.healed is not None), key=lambda run: (run.ended or run.began, run.id))
    return _failing(ended, settings) or _ineffective(ended, target, settings, now)


def _failing(ended: list[RunResult], settings: CircuitBreakerSettings) -> OpenBreaker | None:
    last = ended[-settings.failures :]
    if len(last) < settings.failures or any(run.healed for run in last):
        return None
    wait, at = settings.half_open_after, _end(last[-1])
    return OpenBreaker("failing", "playbook", tuple(run.id for run in last), at, None if wait is None else at + wait)


def _ineffective(
    ended: list[RunResult], target: str, settings: CircuitBreakerSettings, now: datetime
) -> OpenBreaker | None:
    count, length = parse_rate(settings.ineffective)
    healed = [run for run in ended if run.target == target and run.healed and _end(run) > now - length]
    if len(healed) < count:
        return None
    last = healed[-count:]
    half_open = None if settings.half_open_after is None else _end(last[0]) + length
    return OpenBreaker("ineffective", target, tuple(run.id for run in last), _end(last[-1]), half_open)


def _end(run: RunResult) -> datetime:
    return run.ended or run.began


def _trial(connection: Connection, question: GuardInput, since: datetime) -> RunResult | None:
    acting = run_results.list_acted_since(connection, question.playbook.name, since)
    return next((run for run in acting if run.healed is None and run.id != question.run.id), None)


def _why(playbook: str, opened: OpenBreaker, settings: CircuitBreakerSettings) -> str:
    if opened.why == "failing":
        return f"breaker of {playbook} open: {settings.failures} runs in a row did not heal ({listed(opened.runs)})"
    return f"breaker of {playbook} open: {opened.scope} was healed {settings.ineffective} and it came back " + (
        f"({listed(opened.runs)})"
    )


def _ask(question: GuardInput, opened: OpenBreaker) -> Verdict:
    half = opened.half_open_at
    until = "until a person resets it" if half is None else f"until {clock_time(half, question.now)}"
    inputs: dict[str, Any] = {
        "scope": opened.scope,
        "runs": list(opened.runs),
        "opened": opened.at.isoformat(),
        "half_open": None if half is None else half.isoformat(),
    }
    text = f"{_why(question.playbook.name, opened, question.settings)}; asks {until}"
    return Verdict(GuardAnswer.UNKNOWN, opened.why, text, inputs, half)
