"""Judging: every guard in order, up to the first that does not allow. Doubt holds, it never passes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from remediator.engine import Engine, Progress, wait
from remediator.errors import RemediatorError
from remediator.guards import ALLOW, Answer, Guard, Moment, Question, Settings, Verdict
from remediator.inventory import Service
from remediator.plan import PlannedStep
from remediator.playbook import Playbook
from remediator.records import runs
from remediator.records.evidence import Judged
from remediator.run import Episode, Run, Status
from remediator.stores import Tx

NO_ANSWER = "guard_error"
"""Reason of a guard that raised or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdicts up to and including the first that is not *allow*."""

    verdicts: tuple[tuple[str, Verdict], ...]

    @property
    def guard(self) -> str:
        """The guard that decided, or an empty string."""
        return self.verdicts[-1][0] if self.verdicts and self.final.answer is not Answer.ALLOW else ""

    @property
    def final(self) -> Verdict:
        """The verdict that counts."""
        return self.verdicts[-1][1] if self.verdicts else ALLOW

    def detail(self) -> dict[str, Any]:
        """What people are shown, and what the run's row holds."""
        return {
            "guard": self.guard,
            "text": self.final.text,
            "inputs": dict(self.final.inputs),
            "until": None if self.final.until is None else self.final.until.isoformat(),
        }


def question(
    engine: Engine, run: Run, playbook: Playbook, service: Service, alerts: Sequence[Episode], step: PlannedStep | None
) -> Question:
    """What the guards are asked, before each guard's own settings are put in."""
    moment = Moment.PLAN if step is None else Moment.ACT
    return Question(moment, engine.clock.now(), run, playbook, service, alerts, None, step)


def standing(engine: Engine, playbook: Playbook) -> list[tuple[Guard, Any]]:
    """The guards that are on for a playbook, with their settings there."""
    off = {item.guard for item in playbook.guards.off}
    return [(guard, _settings(engine, guard, playbook)) for guard in engine.guards if guard.name not in off]


def _settings(engine: Engine, guard: Guard, playbook: Playbook) -> Settings:
    """The installation's settings, with the playbook's over them; a plain value replaces a whole block."""
    common, own = engine.guard_defaults.get(guard.name, {}), playbook.guards.settings.get(guard.name, {})
    if isinstance(common, Mapping) and isinstance(own, Mapping):
        return guard.Settings.model_validate({**common, **own})
    return guard.Settings.model_validate(own or common)


async def judge(engine: Engine, asked: Question, overridden: frozenset[str] = frozenset()) -> Judgement:
    """Ask the world and the store, guard by guard.

    Args:
        asked: about what.
        overridden: guards whose "cannot tell" a person has answered by approving.
    """
    verdicts: list[tuple[str, Verdict]] = []
    for guard, settings in standing(engine, asked.playbook):
        verdict = await _one(engine, guard, replace(asked, settings=settings))
        if verdict.answer is Answer.UNKNOWN and guard.name in overridden:
            verdict = replace(verdict, answer=Answer.ALLOW, text=f"{verdict.text} (a person approved all the same)")
        verdicts.append((guard.name, verdict))
        if verdict.answer is not Answer.ALLOW:
            break
    return Judgement(tuple(verdicts))


async def _one(engine: Engine, guard: Guard, asked: Question) -> Verdict:
    try:
        async with asyncio.timeout(engine.pace.probe.total_seconds()):
            verdict = await guard.ask(asked)
            if verdict.answer is Answer.ALLOW:
                local = await engine.store.read(lambda connection: guard.decide(connection, asked))
                verdict = local if local.answer is not Answer.ALLOW or not verdict.inputs else verdict
            return verdict
    except TimeoutError:
        return Verdict(Answer.UNKNOWN, NO_ANSWER, f"guard {guard.name} gave no answer in time")
    except (RemediatorError, ValueError) as error:
        return Verdict(Answer.UNKNOWN, NO_ANSWER, f"guard {guard.name} could not tell: {error}")


def decide_again(engine: Engine, connection: Connection, asked: Question) -> Judgement:
    """Only what the store answers, inside the transaction that commits an intent: here budgets cannot be overdrawn."""
    verdicts: list[tuple[str, Verdict]] = []
    for guard, settings in standing(engine, asked.playbook):
        verdict = guard.decide(connection, replace(asked, settings=settings))
        verdicts.append((guard.name, verdict))
        if verdict.answer is not Answer.ALLOW:
            break
    return Judgement(tuple(verdicts))


def judged(asked: Question, judgement: Judgement) -> Iterable[Judged]:
    """The verdicts as they are stored."""
    step = None if asked.step is None else asked.step.id
    for name, verdict in judgement.verdicts:
        inputs = dict(verdict.inputs) | ({"text": verdict.text} if verdict.text else {})
        reason = verdict.reason or None
        yield Judged(asked.now, asked.moment.value, step, name, verdict.answer.value, reason, inputs)


def block(tx: Tx, engine: Engine, run: Run, judgement: Judgement, resume_to: Status) -> Progress:
    """Hold a run, with the verdict's reason, until it makes sense to ask again."""
    until = judgement.final.until or tx.now + engine.pace.recheck
    reason = f"{judgement.guard}:{judgement.final.reason}"
    after = runs.transition(tx, run, Status.BLOCKED, reason, judgement.detail(), engine.actor, resume_to=resume_to)
    return wait(after, until)
