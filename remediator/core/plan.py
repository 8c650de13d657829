"""The plan: the immutable, fully resolved list of steps of one run. Its hash is what a person approves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec


class PlannedCall(msgspec.Struct, frozen=True):
    """The exact calls that an action will make, and what they were planned against."""

    text: str
    """One sentence for people, with real names and values: ``supervisor: stop and start process 'redis'``."""
    arguments: Mapping[str, Any] = {}
    """Resolved, serialisable arguments; what ``execute`` uses. Never a secret."""
    pin: Mapping[str, Any] = {}
    """What the platform showed when it was planned (pid and start time, container id…). A different answer right
    before the call means that the world has moved: the action refuses."""
    undo: str | None = None
    """How it is put back, for people; None where it cannot be."""
    risk: str | None = None
    """What may go wrong or get lost, for people."""
    impossible: str | None = None
    """Why it cannot be done as things are; such a step fails without being tried, unless it has become possible."""
    fresh: tuple[str, ...] = ()
    """Names of arguments, and of parts of the pin, that each planning measures or makes up anew, such as a counter, the
    name of a folder, or how often a crashing container was restarted by then: with other values it is still the same
    call."""
    note: str | None = None
    """What was measured, for people; with another note it is still the same call."""

    @property
    def told(self) -> str:
        """What will be done, with what was measured."""
        more = self.impossible or self.note
        return f"{self.text}: {more}" if more else self.text

    def core(self) -> PlannedCall:
        """The call without what may differ from one planning to the next although the same would be done."""
        kept = {name: value for name, value in self.arguments.items() if name not in self.fresh}
        pin = {name: value for name, value in self.pin.items() if name not in self.fresh}
        impossible = None if self.impossible is None else ""
        return msgspec.structs.replace(self, arguments=kept, pin=pin, impossible=impossible, note=None)


class PlannedCheck(msgspec.Struct, frozen=True):
    """A check with its resolved parameters."""

    check: str
    parameters: Mapping[str, Any] = {}


class PlannedStep(msgspec.Struct, frozen=True):
    """One step, resolved."""

    id: str
    title: str
    action: str
    parameters: Mapping[str, Any]
    call: PlannedCall
    mutates: bool
    idempotent: bool
    destructive: bool
    timeout: float
    """Seconds for one attempt."""
    attempts: int
    backoff: float
    """Seconds before the second attempt; doubled for each further one."""
    when: str | None
    on_success: str
    """``verify``, ``next``, ``escalate``, or ``goto <id>``."""
    on_failure: str
    """``next``, ``abort``, ``escalate``, or ``goto <id>``."""
    approval: bool
    """This step needs a person, whatever the mode."""
    undo: Mapping[str, Any] | None = None
    """Action and parameters that put it back, and after how many seconds."""


class Plan(msgspec.Struct, frozen=True):
    """What one run will do, in order, and how its success is proved."""

    playbook: str
    playbook_hash: str
    target: str
    mode: str
    parameters: Mapping[str, Any]
    steps: tuple[PlannedStep, ...]
    checks: tuple[PlannedCheck, ...]
    settle: float
    """Seconds to wait after a step before looking."""
    within: float
    """Seconds in which all checks must hold at once, counted from the end of settling."""
    escalate_to: tuple[str, ...]
    escalate_message: str
    approval_groups: tuple[str, ...] = ()
    quorum: int = 1
    approval_expires: float = 900.0
    must_ask: bool = False

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical form: two plans are the same exactly if they would do the same."""
        steps = tuple(msgspec.structs.replace(step, call=step.call.core()) for step in self.steps)
        core = msgspec.structs.replace(self, steps=steps)
        return hashlib.sha256(msgspec.json.encode(core, order="deterministic")).hexdigest()

    def step(self, step_id: str) -> PlannedStep:
        """The step of this id."""
        return next(step for step in self.steps if step.id == step_id)

    def after(self, step_id: str) -> PlannedStep | None:
        """The step that follows in order."""
        position = [step.id for step in self.steps].index(step_id)
        return self.steps[position + 1] if position + 1 < len(self.steps) else None


def as_data(plan: Plan) -> dict[str, Any]:
    """Plain data, for the store."""
    data: dict[str, Any] = msgspec.to_builtins(plan)
    return data


def from_data(data: Mapping[str, Any]) -> Plan:
    """The plan that :func:`as_data` wrote."""
    return msgspec.convert(dict(data), Plan)


def length(seconds: timedelta) -> float:
    """A timedelta as seconds, as plans hold it."""
    return seconds.total_seconds()
