"""The plan: the immutable, fully resolved steps of one run. An approval is for its hash (promise 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from remediator.core.cost import Amount, Cost
from remediator.core.release import ReleaseChange


class PlannedCall(msgspec.Struct, frozen=True):
    """The exact calls that an action will make, and the identity of the target during planning."""

    text: str
    """One sentence for people, with real names and values: ``supervisor: stop and start process 'redis'``."""
    arguments: Mapping[str, Any] = {}
    """Resolved, serialisable arguments that ``execute`` uses. Never a secret."""
    pin: Mapping[str, Any] = {}
    """The identity of the target during planning (PID and start time, container ID …).

    If the platform shows another identity right before the call, the target has changed and the action refuses.
    """
    undo: str | None = None
    """How the call is undone, in one sentence; None if it cannot be undone."""
    risk: str | None = None
    """Possible damage or loss, in one sentence."""
    infeasible_reason: str | None = None
    """The reason why the call is impossible now.

    Such a step fails without an attempt, unless it has become feasible.
    """
    volatile_fields: tuple[str, ...] = ()
    """Names of arguments, and of parts of the pin, that differ each time the call is planned.

    Examples are a counter, the name of a folder, and the restart count of a crashing container. With other values, it
    is still the same call.
    """
    release_change: ReleaseChange | None = None
    """The releases that the call changes from and to, so that the store can remember their verdicts."""
    measurement: str | None = None
    """The measurement during planning, for people. With another measurement, the call is still the same."""

    @property
    def summary(self) -> str:
        """Return the text of the call, with its measurements or the reason why it is infeasible."""
        more = self.infeasible_reason or self.measurement
        return f"{self.text}: {more}" if more else self.text

    def comparable(self) -> PlannedCall:
        """Return the call without the parts that may differ between equal plans."""
        arguments = {name: value for name, value in self.arguments.items() if name not in self.volatile_fields}
        pin = {name: value for name, value in self.pin.items() if name not in self.volatile_fields}
        infeasible = None if self.infeasible_reason is None else ""
        return msgspec.structs.replace(
            self, arguments=arguments, pin=pin, infeasible_reason=infeasible, measurement=None
        )


class PlannedCheck(msgspec.Struct, frozen=True):
    """A check with its resolved parameters."""

    check: str
    parameters: Mapping[str, Any] = {}


class PlannedUndo(msgspec.Struct, frozen=True):
    """How a step is undone."""

    action: str | None
    """The action that undoes the step; None: the action of the step undoes it, with its recorded values."""
    parameters: Mapping[str, Any] = {}
    after: float | None = None
    """Seconds after the step at which it is undone automatically; None: only when the run is aborted."""


def goto_target(arrow: str) -> str:
    """Return the ID of the step that an arrow of a planned step, such as ``goto restart``, leads to.

    Raises:
        ValueError: the arrow leads to no step, or is unknown.
    """
    word, _, step = arrow.partition(" ")
    if word != "goto" or not step:
        raise ValueError(f"unknown arrow {arrow!r}: expected 'goto' and the ID of a step")
    return step


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
    """Maximum number of attempts."""
    backoff: float
    """Seconds before the second attempt; doubled for each further one."""
    when: str | None
    """The condition (CEL) under which the step is done; None: always."""
    on_success: str
    """``verify``, ``next``, ``escalate``, or ``goto <id>``."""
    on_failure: str
    """``next``, ``abort``, ``escalate``, or ``goto <id>``."""
    approval: bool
    """The step needs an approval in every mode."""
    undo: PlannedUndo | None = None
    interrupts: bool = False
    """The step interrupts the service or its clients, or may lose data."""
    causes: tuple[str, ...] = ()
    """The causes that the step is for."""
    tolerance: Mapping[str, Amount] = {}
    """The limits of its cost, by field of :class:`Cost`. A greater loss, or an unknown one, needs an approval."""
    cost: Cost = Cost()
    """The cost of the step, measured during planning. With another cost, the step is still the same."""

    @property
    def summary(self) -> str:
        """Return the text of the step, with its measured cost."""
        return f"{self.call.summary} (cost: {self.cost.text})" if self.cost.text else self.call.summary


class Plan(msgspec.Struct, frozen=True):
    """The steps of one run, in order, and the proof of its success."""

    playbook: str
    playbook_hash: str
    target: str
    mode: str
    parameters: Mapping[str, Any]
    steps: tuple[PlannedStep, ...]
    checks: tuple[PlannedCheck, ...]
    settle: float
    """Seconds to wait after a step before verification starts."""
    within: float
    """Seconds after settling within which all checks must be positive at once."""
    escalate_to: tuple[str, ...]
    escalate_message: str
    stable: float = 0.0
    """Seconds for which all checks must stay positive."""
    approval_groups: tuple[str, ...] = ()
    quorum: int = 1
    approval_expires: float = 900.0
    """Seconds after which an approval request expires."""
    approval_required: bool = False
    """The playbook needs an approval in every mode."""

    @property
    def hash(self) -> str:
        """Return the SHA-256 of the canonical form: two plans have the same hash if they would do the same."""
        steps = tuple(msgspec.structs.replace(step, call=step.call.comparable(), cost=Cost()) for step in self.steps)
        core = msgspec.structs.replace(self, steps=steps)
        return hashlib.sha256(msgspec.json.encode(core, order="deterministic")).hexdigest()

    def step(self, step_id: str) -> PlannedStep:
        """Return the step with this ID."""
        return next(step for step in self.steps if step.id == step_id)

    def after(self, step_id: str) -> PlannedStep | None:
        """Return the step that follows in order; None after the last."""
        position = [step.id for step in self.steps].index(step_id)
        return self.steps[position + 1] if position + 1 < len(self.steps) else None

    def to_data(self) -> dict[str, Any]:
        """Return the plan as plain data, for the store and for JSON."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan that :meth:`to_data` wrote.

        Raises:
            msgspec.ValidationError: another version wrote it, in another form.
        """
        return msgspec.convert(data, cls)
