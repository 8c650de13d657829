"""Scripted fakes for the environment of a test: they give the answers of the test file, on the clock of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from remediator.authoring.testing.model import ActionResponse, Case, CheckResponse, PlatformResponse, TestAlert, When
from remediator.clients.alertmanager.client import FiringAlert, Receiver, Suppression
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import Platform, ServiceStatus, State
from remediator.playbooks.catalogue import ActionTraits
from remediator.playbooks.inventory import Service

W = TypeVar("W", bound=When)
RECEIVER = "remediator"
UNDEFINED = "not defined in the test"


class Script:
    """The environment of a test at the current time.

    Args:
        case: the test.
        start: the start of the test.
        now: the clock of the test.
    """

    def __init__(self, case: Case, start: datetime, now: Callable[[], datetime]) -> None:
        self.case = case
        self.start = start
        self.now = now
        self.done: list[str] = []
        """Actions that took effect, in order."""

    def answer(self, answers: Sequence[W], service: str = "", values: Mapping[str, Any] | None = None) -> W | None:
        """Return the last answer that applies now to this service and these parameters; None if no answer applies."""
        elapsed = self.now() - self.start
        applicable = [
            item
            for item in answers
            if item.at <= elapsed
            and (item.after is None or item.after in self.done)
            and getattr(item, "service", None) in (None, service)
            and all((values or {}).get(key) == value for key, value in getattr(item, "with_", {}).items())
        ]
        return applicable[-1] if applicable else None

    def firing(self) -> list[TestAlert]:
        """Return the alerts that fire now."""
        elapsed = self.now() - self.start
        return [
            item for item in self.case.alerts if item.at <= elapsed and (item.until is None or elapsed < item.until)
        ]


class ScriptedCheck(Check):
    """A check that gives the answers of the test."""

    def __init__(self, kind: type[Check], script: Script) -> None:
        self.name = kind.name  # type: ignore[misc]
        self.Parameters = kind.Parameters  # type: ignore[misc]
        self._script = script

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        values = parameters.model_dump(by_alias=True, mode="json")
        answer = self._script.answer(self._answers(str(values.get("query", ""))), service.name, values)
        if answer is None:
            return Evidence(CheckAnswer.UNKNOWN, f"{self.name}: {UNDEFINED}")
        return Evidence(
            CheckAnswer(answer.answer), answer.summary or f"{self.name}: {answer.answer}", dict(answer.facts)
        )

    def _answers(self, query: str) -> Sequence[CheckResponse]:
        case = self._script.case
        if self.name == "promql":
            for piece, answers in case.queries.items():
                if piece in query:
                    return answers
        return case.checks.get(self.name, ())


class ScriptedAction(Action):
    """An action with its own traits and the results that the test defines."""

    def __init__(self, kind: type[Action], script: Script, allowed: ClientSet) -> None:
        for trait in (
            "name",
            "Parameters",
            "mutates",
            "idempotent",
            "reversible",
            "destructive",
            "interrupts",
            "measures",
            "requires_approval",
            "timeout",
        ):
            setattr(self, trait, getattr(kind, trait))
        self._real = kind(allowed)
        self._script = script

    def traits_for(self, parameters: Parameters) -> ActionTraits:
        """Return the traits of the real action."""
        return self._real.traits_for(parameters)

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        values = {key: value for key, value in _values(parameters).items() if value is not None}
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        undo = "from its record" if self.traits_for(parameters).reversible else None
        given = parameters.model_dump(by_alias=True, mode="json", exclude_unset=True)
        return PlannedCall(f"{self.name} {service.name}" + (f" ({shown})" if shown else ""), given, undo=undo)

    async def cost(self, service: Service, parameters: Any, call: PlannedCall) -> Cost:
        """Return the cost that the test defines. Without a definition, an action that measures loses nothing."""
        answer = self._script.answer(self._script.case.costs.get(self.name, ()), service.name, _values(parameters))
        if answer is None:
            return Cost() if self.measures else await super().cost(service, parameters, call)
        known = {name: value for name, value in answer.cost.items() if value != "unknown"}
        return Cost(**known, unknown=dict.fromkeys(set(answer.cost) - set(known), "the test says so"))  # type: ignore[arg-type]

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        answer = self._answer(service, parameters)
        if answer is None:
            if not self.traits_for(parameters).mutates:
                raise Unreachable(f"{self.name}: {UNDEFINED}")
            self._script.done.append(self.name)
            return Result(Outcome.OK, f"{self.name}: done")
        await asyncio.sleep(answer.takes.total_seconds())
        # the read-only calls of an action that can change something must not look like its changes
        only_read = self.mutates and not self.traits_for(parameters).mutates
        if (answer.outcome == "ok" or answer.happened == "yes") and not only_read:
            self._script.done.append(self.name)
        if answer.outcome == "unknown":
            raise TimedOut(answer.summary or f"{self.name}: no answer")
        return Result(Outcome(answer.outcome), answer.summary or f"{self.name}: {answer.outcome}", dict(answer.output))

    async def observe(self, service: Service, parameters: Any, call: PlannedCall, since: datetime) -> Observation:
        answer = self._answer(service, parameters)
        happened = EffectStatus.UNKNOWN if answer is None else EffectStatus(answer.happened)
        return Observation(happened, f"{self.name}: observed; {happened.value}")

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall | None:
        """Return the undo of the real action, from the output that the test defines; without it, the same call."""
        recorded = PlannedCall(call.text, {**call.arguments, **output}, call.pin)
        try:
            return self._real.undo_call(recorded, recorded.arguments)
        except (KeyError, TypeError, ValueError):  # the test does not define the output that the real action records
            return UndoCall(self.name, call.arguments)

    def _answer(self, service: Service, parameters: Parameters) -> ActionResponse | None:
        return self._script.answer(self._script.case.actions.get(self.name, ()), service.name, _values(parameters))


def _values(parameters: Parameters) -> dict[str, Any]:
    return parameters.model_dump(by_alias=True, mode="json")


_RUNNING_FOR = timedelta(hours=1)
"""Age of scripted services at the start of a test: a service that has just started is watched before it is judged."""


class ScriptedPlatform(Platform):
    """A platform that returns the states that the test defines. It replaces platforms of every kind."""

    kind = "supervisor"

    def __init__(self, script: Script) -> None:
        self._script = script

    async def status(self, service: Service) -> ServiceStatus:
        answer = self._script.answer(self._script.case.platform.get(service.name, ()))
        answer = answer or PlatformResponse(state="running")
        runs = answer.state == "running"
        healthy = answer.healthy if answer.healthy is not None else (answer.instances if runs else 0)
        pin = {"incarnation": len(self._script.done)}
        since = self._script.start - _RUNNING_FOR
        return ServiceStatus(
            state=State(answer.state),
            summary=f"{service.name} is {answer.state}",
            instances=answer.instances,
            healthy=healthy,
            pin=pin,
            started_at=since,
            facts=answer.facts,
            reasons=answer.reasons,
        )

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        raise TargetError(UNDEFINED)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"restart {service.name}"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        raise TargetError(UNDEFINED)


class ScriptedAlertmanager:
    """The part of the Alertmanager API that guards use."""

    url = "alertmanager"

    def __init__(self, script: Script) -> None:
        self._script = script

    async def alert(self, labels: Mapping[str, str]) -> FiringAlert | None:
        """Return the alert with exactly these labels."""
        return next((item for item in await self.alerts() if item.labels == dict(labels)), None)

    async def alerts(self, matchers: Sequence[str] = (), **_: Any) -> list[FiringAlert]:
        """Return the alerts that fire."""
        return [self._as_firing(item) for item in self._script.firing()]

    def _as_firing(self, alert: TestAlert) -> FiringAlert:
        since, now = self._script.start + alert.at, self._script.now()
        state = (
            Suppression(state="suppressed", silenced_by=("test",)) if alert.silenced else Suppression(state="active")
        )
        return FiringAlert(
            fingerprint="test",
            labels=alert.labels,
            annotations=alert.annotations,
            starts_at=since,
            ends_at=now + timedelta(minutes=5),
            updated_at=now,
            status=state,
            receivers=(Receiver(name=RECEIVER),),
        )
