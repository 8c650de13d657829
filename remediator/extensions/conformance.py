"""What the author of a plugin runs in tests: that what a plugin declares and does is what the engine relies on.

Each function raises ``AssertionError`` with a sentence that says what is wrong, so any test runner can call it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import BaseModel

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import Refused, TargetError
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.checks.base import Check, CheckAnswer
from remediator.extensions.notifiers.base import Message, Section
from remediator.playbooks.inventory import Service

EVIL = "<b>bold</b> <!channel> @everyone [link](https://evil.example)"
"""Text as an alert's label may hold it."""


def action_is_declared(kind: type[Action]) -> None:
    """Its declarations are there, and do not speak against each other."""
    assert (kind.__doc__ or "").strip(), f"{kind.__name__} has no docstring; its first line is shown to people"
    _closed(kind.Parameters, kind.name)
    assert kind.timeout.total_seconds() > 0, f"{kind.name}: timeout is not positive"
    assert kind.mutates or not kind.destructive, f"{kind.name}: destructive, but it says that it changes nothing"
    reverses = kind.back is not Action.back
    assert kind.reversible or not reverses, f"{kind.name}: it has back(), but is not declared reversible"


async def plan_only_reads(action: Action, service: Service, parameters: Any, state: Callable[[], Any]) -> PlannedCall:
    """Planning twice changes nothing and comes to the same call; it is returned.

    Args:
        state: what the action could change, as a value that compares.
    """
    before = state()
    first, second = await action.plan(service, parameters), await action.plan(service, parameters)
    assert state() == before, f"{action.name}: plan() changed something"
    assert first.comparable() == second.comparable(), f"{action.name}: two plans differ; list it in volatile_fields"
    stored = msgspec.json.decode(msgspec.json.encode(first), type=PlannedCall)
    assert stored == first, f"{action.name}: the call is another one after JSON"
    return first


async def changed_pin_is_refused(
    action: Action, service: Service, parameters: Any, call: PlannedCall, state: Callable[[], Any]
) -> None:
    """A call that was planned against something else is not made.

    Args:
        call: planned against what is not there any more.
    """
    before = state()
    try:
        outcome = (await action.execute(service, parameters, call)).outcome
    except (TargetError, Refused):
        outcome = Outcome.FAILED
    assert outcome is Outcome.FAILED, f"{action.name}: it acted on something else than was planned for"
    assert state() == before, f"{action.name}: it refused, but changed something"


async def observe_tells(action: Action, service: Service, parameters: Any) -> None:
    """Observing says no before the call was made, and yes after."""
    call, since = await action.plan(service, parameters), datetime.now(UTC)
    before = await action.observe(service, parameters, call, since)
    assert before.happened is EffectStatus.NO, f"{action.name}: not done yet, but observe says {before.happened}"
    done = await action.execute(service, parameters, call)
    assert done.outcome is Outcome.OK, f"{action.name}: {done.summary}"
    after = await action.observe(service, parameters, call, since)
    assert after.happened is EffectStatus.YES, f"{action.name}: done, but observe says {after.happened}"


async def check_answers(check: Check, service: Service, parameters: Any, answer: CheckAnswer) -> None:
    """It gives this answer as things are. Ask for each of *ok*, *fail* and *unknown*."""
    _closed(type(check).Parameters, check.name)
    evidence = await check.observe(service, parameters)
    assert evidence.answer is answer, f"{check.name}: {evidence.answer} ({evidence.summary}), not {answer}"
    assert evidence.summary.strip(), f"{check.name}: an answer without a sentence"


def evil_message() -> Message:
    """A message whose every text is :data:`EVIL`, to be sent by a notifier under test."""
    return Message(
        "message-1", "run-1", "notice", EVIL, sections=(Section(EVIL, (EVIL,)), Section(EVIL, (EVIL,), True))
    )


def is_escaped(delivered: str, *live: str) -> None:
    """What the channel got has none of the strings that are markup there.

    Args:
        live: parts of :data:`EVIL` that would be markup in this channel.
    """
    assert live, "name the parts of EVIL that are markup in this channel"
    assert "bold" in delivered, "the text itself did not arrive"
    for part in live:
        assert part in EVIL, f"{part!r} is no part of EVIL, so that it is missing proves nothing"
        assert part not in delivered, f"{part!r} arrived as markup"


def _closed(model: type[BaseModel], name: str) -> None:
    assert model.model_config.get("extra") == "forbid", f"{name}: its parameters take unknown keys"
    assert model.model_config.get("frozen"), f"{name}: its parameters can be changed"
