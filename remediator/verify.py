"""The verb *verify*: settle, then positive evidence, all of it at once; else the next rung."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from remediator.audit import Kind
from remediator.checks import Answer
from remediator.engine import Engine, Progress, onward, wait
from remediator.looking import observe
from remediator.plan import Plan, from_data
from remediator.records import evidence, runs
from remediator.records.evidence import Seen
from remediator.run import Run, Status
from remediator.steps import follow
from remediator.stores import Tx


async def verify(engine: Engine, run: Run) -> Progress:
    """From ``verifying``: success on positive evidence only; that the alert went away proves nothing by itself."""
    assert run.plan is not None, "a run is verified against its plan"
    plan = from_data(run.plan)
    since = datetime.fromisoformat(run.detail["since"])
    settled = since + timedelta(seconds=plan.settle)
    if engine.clock.now() < settled:
        return wait(run, settled)
    seen = await _look(engine, run, plan)
    if seen and all(item.status == Answer.OK.value for item in seen):
        return onward(await engine.store.write(lambda tx: _succeed(tx, engine, run, seen)))
    if engine.clock.now() < settled + timedelta(seconds=plan.within):
        return wait(run, engine.clock.now() + engine.pace.look)
    return await engine.store.write(lambda tx: _fail(tx, engine, run, plan, seen))


async def _look(engine: Engine, run: Run, plan: Plan) -> list[Seen]:
    service = engine.book.service(run)
    seen = []
    for check in plan.checks:
        found = await observe(engine, check.check, service, check.parameters)
        seen.append(Seen("verify", check.check, found.answer.value, found.summary, found.facts, engine.clock.now()))
        if found.answer is not Answer.OK:
            break  # all must hold at once: the rest cannot change that
    return seen


def _succeed(tx: Tx, engine: Engine, run: Run, seen: Sequence[Seen]) -> Run:
    evidence.add(tx, run, seen, engine.actor)
    proof = [item.summary for item in seen]
    detail = {"step": run.detail["step"], "proof": proof}
    tx.audit(runs.draft(Kind.VERIFICATION, run, engine.actor, {**detail, "healed": True}))
    return runs.transition(tx, run, Status.SUCCEEDED, "verified", detail, engine.actor, holds_target=False)


def _fail(tx: Tx, engine: Engine, run: Run, plan: Plan, seen: Sequence[Seen]) -> Progress:
    evidence.add(tx, run, seen, engine.actor)
    missing = [f"{item.name}: {item.summary}" for item in seen if item.status != Answer.OK.value]
    data = {"step": run.detail["step"], "healed": False, "missing": missing or ["the playbook has no checks"]}
    tx.audit(runs.draft(Kind.VERIFICATION, run, engine.actor, data))
    step = plan.step(run.detail["step"])
    return follow(tx, engine, run, plan, step, step.on_failure)
