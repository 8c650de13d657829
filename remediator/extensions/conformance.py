"""Conformance tests for authors of plugins: they check the assumptions of the pipeline.

Each function raises ``AssertionError`` with the reason, so that any test runner can call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel

from remediator.core.cost import FIELDS
from remediator.core.message import MessageKind
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import Refused, TargetError
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.checks.base import Check, CheckAnswer
from remediator.extensions.notifiers.base import Message, Section
from remediator.playbooks.facts import deviations
from remediator.playbooks.inventory import Service

EVIL = "<b>bold</b> <!channel> @everyone [link](https://evil.example)"
"""A label value with markup."""


def action_is_declared(kind: type[Action]) -> None:
    """Check that the declarations of an action are complete and consistent."""
    assert (kind.__doc__ or "").strip(), (
        f"{kind.__name__} has no docstring; its first line is the summary of the action"
    )
    _closed(kind.Parameters, kind.name)
    assert kind.timeout.total_seconds() > 0, f"{kind.name}: timeout must be positive"
    assert kind.mutates or not kind.destructive, f"{kind.name}: destructive, but mutates is False"
    wrong = [name for name in kind.measures if name not in FIELDS]
    assert not wrong, f"{kind.name}: measures unknown costs: {', '.join(wrong)}; known: {', '.join(FIELDS)}"
    measures = kind.cost is not Action.cost
    assert measures == bool(kind.measures), f"{kind.name}: cost() and 'measures' belong together"
    reverses = kind.undo_call is not Action.undo_call
    assert kind.reversible or not reverses, f"{kind.name}: it has back(), but is not declared reversible"


async def plan_only_reads(action: Action, service: Service, parameters: Any, state: Callable[[], Any]) -> PlannedCall:
    """Check that planning changes nothing and is repeatable, and return the planned call.

    Args:
        state: returns the state that the action can change, as a comparable value.
    """
    before = state()
    first, second = await action.plan(service, parameters), await action.plan(service, parameters)
    assert state() == before, f"{action.name}: plan() changed something"
    assert first.comparable() == second.comparable(), f"{action.name}: two plans differ; list it in volatile_fields"
    stored = msgspec.json.decode(msgspec.json.encode(first), type=PlannedCall)
    assert stored == first, f"{action.name}: the call changes when it is stored as JSON"
    return first


async def changed_pin_is_refused(
    action: Action, service: Service, parameters: Any, call: PlannedCall, state: Callable[[], Any]
) -> None:
    """Check that a call for another target is refused.

    Args:
        call: a call whose pin does not match the current target.
    """
    before = state()
    try:
        outcome = (await action.execute(service, parameters, call)).outcome
    except (TargetError, Refused):
        outcome = Outcome.FAILED
    assert outcome is Outcome.FAILED, f"{action.name}: execute() accepted a call for another target"
    assert state() == before, f"{action.name}: execute() refused the call, but changed something"


async def observe_reports_effect(action: Action, service: Service, parameters: Any) -> None:
    """Check that ``observe`` returns *no* before the call and *yes* after it."""
    call, since = await action.plan(service, parameters), datetime.now(UTC)
    before = await action.observe(service, parameters, call, since)
    assert before.happened is EffectStatus.NO, f"{action.name}: observe() returned {before.happened} before the call"
    done = await action.execute(service, parameters, call)
    assert done.outcome is Outcome.OK, f"{action.name}: {done.summary}"
    after = await action.observe(service, parameters, call, since)
    assert after.happened is EffectStatus.YES, f"{action.name}: observe() returned {after.happened} after the call"


async def check_answers(check: Check, service: Service, parameters: Any, answer: CheckAnswer) -> None:
    """Check that a check returns this answer now. Call it for each of *ok*, *fail* and *unknown*."""
    _closed(type(check).Parameters, check.name)
    evidence = await check.ask(service, parameters)
    assert evidence.answer is answer, f"{check.name}: {evidence.answer} ({evidence.summary}), not {answer}"
    assert evidence.summary.strip(), f"{check.name}: the answer has no summary"
    facts_are_declared(check, evidence.facts)


def facts_are_declared(kind: Action | Check, observed: Mapping[str, Any]) -> None:
    """Check that the facts of a check, or the output of an action, are declared, if it declares any."""
    found = list(deviations(kind.facts, observed)) if kind.facts else []
    assert not found, f"{kind.name}: {'; '.join(found)}"


def evil_message() -> Message:
    """Return a message with :data:`EVIL` as every text, for a test of a notifier."""
    return Message(
        "message-1", "run-1", MessageKind.NOTICE, EVIL, sections=(Section(EVIL, (EVIL,)), Section(EVIL, (EVIL,), True))
    )


def is_escaped(delivered: str, *live: str) -> None:
    """Check that a delivered text contains no active markup.

    Args:
        delivered: what the channel received.
        live: parts of :data:`EVIL` that are markup in this channel.
    """
    assert live, "name the parts of EVIL that are markup in this channel"
    assert "bold" in delivered, "the text is missing"
    for part in live:
        assert part in EVIL, f"{part!r} is not part of EVIL, so that its absence proves nothing"
        assert part not in delivered, f"{part!r} arrived as markup"


def _closed(model: type[BaseModel], name: str) -> None:
    assert model.model_config.get("extra") == "forbid", f"{name}: Parameters must forbid unknown keys"
    assert model.model_config.get("frozen"), f"{name}: Parameters must be frozen"
