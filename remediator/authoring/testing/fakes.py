"""The world of a test: it does and answers what the test says, on the test's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from remediator.authoring.testing.model import ActionResponse, Case, CheckResponse, PlatformResponse, TestAlert, When
from remediator.clients.alertmanager.client import FiringAlert, Receiver, Suppression
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import Platform, ServiceStatus, State
from remediator.playbooks.inventory import Service

W = TypeVar("W", bound=When)
RECEIVER = "remediator"
SILENT = "the test does not say"


class Scene:
    """What is so at this moment of the test.

    Args:
        case: the script.
        start: when it begins.
        now: the test's clock.
    """

    def __init__(self, case: Case, start: datetime, now: Callable[[], datetime]) -> None:
        self.case = case
        self.start = start
        self.now = now
        self.done: list[str] = []
        """Actions that have taken effect, in order."""

    def chosen(self, answers: Sequence[W], service: str = "", values: Mapping[str, Any] | None = None) -> W | None:
        """The last of these that holds now, for this service and these values."""
        elapsed = self.now() - self.start
        holding = [
            item
            for item in answers
            if item.at <= elapsed
            and (item.after is None or item.after in self.done)
            and getattr(item, "service", None) in (None, service)
            and all((values or {}).get(key) == value for key, value in getattr(item, "with_", {}).items())
        ]
        return holding[-1] if holding else None

    def firing(self) -> list[TestAlert]:
        """The alerts that fire now."""
        elapsed = self.now() - self.start
        return [
            item for item in self.case.alerts if item.at <= elapsed and (item.until is None or elapsed < item.until)
        ]


class ScriptedCheck(Check):
    """Any check, by its name and parameters."""

    def __init__(self, kind: type[Check], scene: Scene) -> None:
        self.name = kind.name  # type: ignore[misc]
        self.Parameters = kind.Parameters  # type: ignore[misc]
        self._scene = scene

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        values = parameters.model_dump(by_alias=True, mode="json")
        said = self._scene.chosen(self._answers(str(values.get("query", ""))), service.name, values)
        if said is None:
            return Evidence(CheckAnswer.UNKNOWN, f"{self.name}: {SILENT}")
        return Evidence(CheckAnswer(said.answer), said.summary or f"{self.name}: {said.answer}", dict(said.facts))

    def _answers(self, query: str) -> Sequence[CheckResponse]:
        case = self._scene.case
        if self.name == "promql":
            for piece, answers in case.queries.items():
                if piece in query:
                    return answers
        return case.checks.get(self.name, ())


class ScriptedAction(Action):
    """Any action: its own declarations, the test's effects."""

    def __init__(self, kind: type[Action], scene: Scene) -> None:
        for trait in (
            "name",
            "Parameters",
            "mutates",
            "idempotent",
            "reversible",
            "destructive",
            "requires_approval",
            "timeout",
        ):
            setattr(self, trait, getattr(kind, trait))
        self._kind = kind
        self._scene = scene

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        values = {key: value for key, value in _values(parameters).items() if value is not None}
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        undo = "by its own record" if self.reversible else None
        given = parameters.model_dump(by_alias=True, mode="json", exclude_unset=True)
        return PlannedCall(f"{self.name} {service.name}" + (f" ({shown})" if shown else ""), given, undo=undo)

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        said = self._said(service, parameters)
        if said is None:
            if not self.mutates:
                raise Unreachable(f"{self.name}: {SILENT}")
            self._scene.done.append(self.name)
            return Result(Outcome.OK, f"{self.name}: done")
        await asyncio.sleep(said.takes.total_seconds())
        if said.outcome == "ok" or said.happened == "yes":
            self._scene.done.append(self.name)
        if said.outcome == "unknown":
            raise TimedOut(said.summary or f"{self.name}: no answer")
        return Result(Outcome(said.outcome), said.summary or f"{self.name}: {said.outcome}", dict(said.output))

    async def observe(self, service: Service, parameters: Any, call: PlannedCall, since: datetime) -> Observation:
        said = self._said(service, parameters)
        happened = EffectStatus.UNKNOWN if said is None else EffectStatus(said.happened)
        return Observation(happened, f"{self.name}: looked at; {happened.value}")

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall | None:
        """The real action's way back from what the test's output says was recorded; else the same call again."""
        recorded = PlannedCall(call.text, {**call.arguments, **output}, call.pin)
        try:
            return self._kind.undo_call(self, recorded, recorded.arguments)
        except (KeyError, TypeError, ValueError):  # the output in the test does not have what the real one records
            return UndoCall(self.name, call.arguments)

    def _said(self, service: Service, parameters: Parameters) -> ActionResponse | None:
        return self._scene.chosen(self._scene.case.actions.get(self.name, ()), service.name, _values(parameters))


def _values(parameters: Parameters) -> dict[str, Any]:
    return parameters.model_dump(by_alias=True, mode="json")


class ScriptedPlatform(Platform):
    """Every kind of platform: it only tells how services are."""

    kind = "supervisor"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def status(self, service: Service) -> ServiceStatus:
        said = self._scene.chosen(self._scene.case.platform.get(service.name, ()))
        said = said or PlatformResponse(state="running")
        runs = said.state == "running"
        healthy = said.healthy if said.healthy is not None else (said.instances if runs else 0)
        pin = {"incarnation": len(self._scene.done)}
        return ServiceStatus(
            State(said.state), f"{service.name} is {said.state}", said.instances, healthy, pin, self._scene.start
        )

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        raise TargetError(SILENT)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"restart {service.name}"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        raise TargetError(SILENT)


class ScriptedAlertmanager:
    """API v2, as far as guards ask it."""

    url = "alertmanager"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def alert(self, labels: Mapping[str, str]) -> FiringAlert | None:
        """The alert with exactly these labels."""
        return next((item for item in await self.alerts() if item.labels == dict(labels)), None)

    async def alerts(self, matchers: Sequence[str] = (), **_: Any) -> list[FiringAlert]:
        """All that fire."""
        return [self._held(item) for item in self._scene.firing()]

    def _held(self, alert: TestAlert) -> FiringAlert:
        since, now = self._scene.start + alert.at, self._scene.now()
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
