"""The write-ahead protocol: one call of one action for one step. Act, undo and scheduled undo use this protocol.

1. **Intent.** Committed and fsynced before the call starts (promise 3). The same transaction extends the lease over the
   whole call and takes the target lock. So no other run and no other replica acts on the target (promise 4).
2. **Call.** Started only while enough of the lease is left (promise 4), and bounded by the step's timeout.
3. **Outcome.** Committed in a fenced transaction. A process that lost its claim detects this here and makes no more
   decisions. Its result is still written to the audit log (promises 4 and 9).
4. **Observation.** If the outcome is unknown, the target is observed. The call is never repeated blindly (promise 3).

An exception becomes *failed* or *unknown* in :meth:`StepExecution.invoke` and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from remediator.audit import Kind
from remediator.core import failpoints
from remediator.core.attempt_calls import in_attempt
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall, PlannedStep
from remediator.errors import ClientError, Fenced, Refused, RemediatorError, TargetError, Unreachable
from remediator.extensions.actions.base import STEP, Action, EffectStatus, Observation, Result
from remediator.pipeline import remedy_memory
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.storage.repositories import attempts, runs, timers
from remediator.storage.repositories.attempts import Attempt

T = TypeVar("T")

PROCESS_LOST = Result(Outcome.UNKNOWN, "the process that started the call ended before it recorded the outcome")
_NOT_STARTED = Result(
    Outcome.FAILED, "not started: too much time passed between intent and call; the lease might end during the call"
)


@dataclass(frozen=True, slots=True)
class Intent:
    """A committed intent."""

    attempt: Attempt
    began_at: float
    """The event loop's time at the start of the transaction that granted the lease."""


@dataclass(frozen=True, slots=True)
class StepExecution:
    """One call of one action for one step of a run.

    Args:
        ctx: the run.
        step: the step that is done or undone; it bounds the call.
        action_name: the action that is called.
        parameters: of the action.
        call: what the action planned.
        is_undo: the call undoes the step.
    """

    ctx: RunContext
    step: PlannedStep
    action_name: str
    parameters: Any
    call: PlannedCall
    is_undo: bool = False

    @classmethod
    def of_step(cls, ctx: RunContext, step: PlannedStep, call: PlannedCall) -> StepExecution:
        """Return the execution of a step of the plan."""
        parameters = ctx.pipeline.actions[step.action].Parameters.model_validate(step.parameters)
        return cls(ctx, step, step.action, parameters, call)

    @property
    def action(self) -> Action:
        """Return the action that is called."""
        return self.ctx.pipeline.actions[self.action_name]

    @property
    def _step_id(self) -> str:
        return f"{self.step.id}/undo" if self.is_undo else self.step.id

    def write_intent(self, tx: RunTransaction, tried: list[Attempt], *, assumed: bool = False) -> Intent:
        """Write the intent, extend the lease over the call and take the target lock. Commit before :meth:`start`.

        Args:
            tx: the transaction.
            tried: the attempts of the run so far.
            assumed: the call is not made now; it may have been made before the database was replaced.
        """
        run, earlier = tx.run, [item for item in tried if item.step == self.step.id and item.is_undo is self.is_undo]
        lease = timedelta(seconds=self.step.timeout) + tx.pipeline.timeouts.lease_margin
        attempt = Attempt(
            id=tx.pipeline.ids.new("attempt", tx.now),
            run_id=run.id,
            step=self.step.id,
            number=1 + max((item.number for item in earlier), default=0),
            action=self.action_name,
            playbook=run.playbook,
            target=run.target,
            mutates=True,
            is_undo=self.is_undo,
            call=_stored_call(self.call),
            fence=run.fence,
            intent_at=tx.now,
            outcome=None,
            outcome_at=None,
            result=None,
        )
        tx.save(
            lease_until=max(tx.now + lease, run.lease_until or tx.now),
            holds_target=True,
            first_action_at=run.first_action_at or tx.now,
        )
        attempts.record_intent(tx.tx, tx.run, attempt, tx.pipeline.actor, assumed=assumed)
        return Intent(attempt, tx.tx.began_at)

    async def start(self, intent: Intent) -> Result:
        """Make the call of a committed intent, once; *failed* if too little of the lease is left to start it."""
        if self.ctx.pipeline.lease_is_short(intent.began_at):
            return _NOT_STARTED
        if not self.is_undo:
            self.ctx.pipeline.report("action", self.ctx.run, {"step": self.step.id, "call": self.call.text})
        failpoints.reach("before", lambda: ("call",))
        with self.ctx.pipeline.live_output.follow(intent.attempt.id), in_attempt(intent.attempt.id):
            result = await self.invoke()
        failpoints.reach("after", lambda: ("call",))
        return result

    async def invoke(self) -> Result:
        """Call the action within the step's timeout. Only for a committed intent, or for an action that only reads.

        Errors that prove that nothing was changed are *failed*; all other errors are *unknown*, because the call may
        have taken effect.
        """
        STEP.set(self._step_id)
        try:
            async with asyncio.timeout(self.step.timeout):
                return await self.action.execute(self.ctx.service, self.parameters, self.call)
        except (Unreachable, TargetError, Refused) as error:
            return Result(Outcome.FAILED, str(error), {"error": type(error).__name__})
        except TimeoutError:
            return Result(Outcome.UNKNOWN, f"no answer within {self.step.timeout:g} s", {"error": "TimedOut"})
        except (ClientError, OSError, ValueError) as error:
            return Result(Outcome.UNKNOWN, str(error), {"error": type(error).__name__})

    async def record(self, intent: Intent, result: Result, work: Callable[[RunTransaction], T]) -> T:
        """Commit the consequences of a result with ``work``.

        Raises:
            Fenced: the claim is gone, and another process decides about the run. The result is in the audit log.
        """
        try:
            return await self.ctx.write(work)
        except Fenced:
            seen = {
                "attempt": intent.attempt.id,
                "step": self.step.id,
                "outcome": result.outcome.value,
                "summary": result.summary,
            }
            late = runs.draft(Kind.RUN_FENCED, self.ctx.run, self.ctx.pipeline.actor, seen, "late_outcome")
            await self.ctx.pipeline.store.write(lambda tx: tx.append_audit(late))
            raise

    def write_result(self, tx: RunTransaction, attempt: Attempt, result: Result) -> None:
        """Write the outcome of a call from its result."""
        data: dict[str, Any] = {"summary": result.summary, "output": dict(result.output)}
        if result is _NOT_STARTED:
            data["happened"] = EffectStatus.NO.value
        self.write_outcome(tx, attempt, result.outcome, data)

    def write_outcome(self, tx: RunTransaction, attempt: Attempt, outcome: Outcome, data: Mapping[str, Any]) -> None:
        """Write the outcome of an attempt, and update the timers of temporary measures."""
        tx.save()  # this raises Fenced before anything is written
        attempts.record_outcome(tx.tx, tx.run, attempt, outcome.value, data, tx.pipeline.actor)
        remedy_memory.record_outcome(tx, self.step, attempt, outcome, data)
        if self.is_undo:
            undone = {"attempt": attempt.id, "step": attempt.step, "outcome": outcome.value}
            tx.audit(Kind.ACTION_UNDONE, {**undone, "summary": data["summary"]})
            if outcome is Outcome.OK:
                timers.complete_undo(tx.tx, tx.run.id, self.step.id)
        elif outcome is Outcome.OK and self.step.undo is not None and self.step.undo.after is not None:
            after = timedelta(seconds=self.step.undo.after)
            timers.schedule_undo(tx.tx, tx.pipeline.ids, tx.run, self.step.id, after)

    async def observe(self, attempt: Attempt) -> Observation:
        """Return whether an attempt took effect, from the state of the target. Reads only; *unknown* on any error."""
        call = planned_call(attempt)
        STEP.set(self._step_id)
        try:
            service = self.ctx.service
            async with asyncio.timeout(self.ctx.pipeline.timeouts.probe_timeout.total_seconds()):
                with in_attempt(attempt.id):
                    return await self.action.observe(service, self.parameters, call, attempt.intent_at)
        except (TimeoutError, RemediatorError, OSError) as error:
            why = f"the target cannot be observed: {error or 'no answer in time'}"
            return Observation(EffectStatus.UNKNOWN, why, unreachable=isinstance(error, Unreachable))


def planned_call(attempt: Attempt) -> PlannedCall:
    """Return the call that an attempt made."""
    return msgspec.convert(attempt.call, PlannedCall)


def _stored_call(call: PlannedCall) -> dict[str, Any]:
    """Return the parts of a call that are stored with an attempt."""
    stored: dict[str, Any] = {"text": call.text, "arguments": dict(call.arguments), "pin": dict(call.pin)}
    if call.release_change is not None:
        stored["release_change"] = msgspec.to_builtins(call.release_change)
    return stored
