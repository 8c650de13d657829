"""The simulated targets: they record each real effect, and calls on them can fail.

The effect of a call does not depend on its caller: it happens although the caller is paused or dead, and maybe long
after the caller gave up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.guards.base import ALLOW, Guard, GuardInput, Verdict
from remediator.extensions.guards.base import GuardAnswer as GuardAnswer
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service
from tests.simulation.hosts import HOST, Host, HostLoop


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect that really happened on a target."""

    at: float
    kind: str
    run: str
    incarnation: int


@dataclass(slots=True)
class Target:
    """A service with a fault and the action that heals it."""

    name: str
    incarnation: int = 1
    healthy: bool = True
    cure: str = ""
    effects: list[Effect] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """A call that is in progress or has ended."""

    run: str
    step: str
    target: str
    kind: str
    host: Host | None
    fence: int
    begun: float
    ended: bool = False
    answered: bool = False


@dataclass(frozen=True, slots=True)
class CallFaults:
    """The weight of each fault of a call, relative to 1 for success."""

    unreachable: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    """The call takes effect, and its answer is lost."""
    never: float = 0.0
    """The call has no effect, and its answer is lost."""
    slow: float = 0.0
    """The call takes effect after the caller gave up."""
    partial: float = 0.0
    """The call has an effect that does not help, and reports a failure."""
    blind: float = 0.0
    """The observation of the target fails."""
    moody: float = 0.0
    """A guard blocks, or answers unknown."""


class World:
    """All targets, and the calls on them."""

    def __init__(self, loop: HostLoop, chance: random.Random, faults: CallFaults, names: list[str]) -> None:
        self.loop = loop
        self.chance = chance
        self.faults = faults
        self.calm = False
        self.targets = {name: Target(name) for name in names}
        self.calls: list[Call] = []
        self.before_call: Callable[[Call], None] = lambda call: None
        self.tell: Callable[[str], None] = lambda text: None

    def pick(self, *ways: str) -> str:
        """Return the fault of a call, or ``well``."""
        if self.calm:
            return "well"
        weights = [1.0, *(getattr(self.faults, way) for way in ways)]
        return self.chance.choices(("well", *ways), weights)[0]

    async def act(self, kind: str, service: Service, step: str, pin: int | None) -> Result:
        """Call a target. The effect may be late or missing, and the answer may be lost."""
        task = asyncio.current_task()
        run = "" if task is None else task.get_name().removeprefix("run ")
        call = Call(run, step, service.name, kind, HOST.get(), 0, self.loop.time())
        self.before_call(call)
        self.calls.append(call)
        try:
            return await self._answer(call, pin)
        finally:
            call.ended = True

    async def _answer(self, call: Call, pin: int | None) -> Result:
        way = self.pick("unreachable", "refused", "lost", "never", "slow", "partial")
        target = self.targets[call.target]
        self.tell(f"call {call.kind} of {call.target} for {call.run}: goes {way}")
        if way in ("unreachable", "refused"):
            await asyncio.sleep(self.chance.choice((0.0, 0.1)))
            call.answered = True
            raise Unreachable("simulated") if way == "unreachable" else Refused("simulated")
        if pin is not None and pin != target.incarnation:
            call.answered = True
            raise TargetError(f"incarnation {target.incarnation}, not {pin}")
        delay = self.chance.choice((0.0, 0.2, 1.0)) if way != "slow" else self.chance.choice((5.5, 9.0, 30.0))
        landed = self.loop.create_future()
        if way != "never":
            self.loop.call_later(delay, self._land, call, pin, way != "partial", landed, context=Context())
        if way in ("lost", "never", "slow"):
            await asyncio.sleep(self.chance.choice((0.5, 60.0)))
            raise TimedOut("simulated: no answer")
        held = await landed
        await asyncio.sleep(self.chance.choice((0.0, 0.0, 0.3)))
        call.answered = True
        if not held:
            raise TargetError("it changed under the call")
        return Result(Outcome.FAILED if way == "partial" else Outcome.OK, f"{way}")

    def _land(self, call: Call, pin: int | None, helps: bool, landed: asyncio.Future[bool]) -> None:
        target = self.targets[call.target]
        holds = pin is None or pin == target.incarnation
        if holds:
            target.incarnation += 1
            target.effects.append(Effect(self.loop.time(), call.kind, call.run, target.incarnation))
            target.healthy = target.healthy or (helps and target.cure == call.kind)
        self.tell(
            f"{call.kind} lands on {call.target} for {call.run}: {'done' if holds else 'refused, it has changed'}"
        )
        if not landed.done():
            landed.set_result(holds)

    async def look(self) -> None:
        """Take time for an observation, and maybe raise :class:`Unreachable`."""
        way = self.pick("blind")
        await asyncio.sleep(0 if self.calm else self.chance.choice((0.0, 0.0, 0.1)))
        if way == "blind":
            raise Unreachable("simulated: cannot be seen")


class _WorldAction(Action):
    timeout = timedelta(seconds=5)

    def __init__(self, world: World) -> None:
        self._world = world

    def _incarnation(self, service: Service) -> int:
        return self._world.targets[service.name].incarnation


class Restart(_WorldAction):
    """An action that compares before it acts and has an observable effect, like a restart on a platform with
    incarnations."""

    name = "sim.restart"

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        await self._world.look()
        return PlannedCall(f"restart {service.name}", pin={"incarnation": self._incarnation(service)})

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        return await self._world.act("restart", service, "restart", int(call.pin["incarnation"]))

    async def observe(self, service: Service, parameters: Any, call: PlannedCall, since: datetime) -> Observation:
        await self._world.look()
        if self._incarnation(service) != call.pin["incarnation"]:
            return Observation(EffectStatus.YES, "another incarnation")
        return Observation(EffectStatus.NO, "the same incarnation")


class Kick(_WorldAction):
    """An action that compares nothing and has no observable effect, so its outcome may stay unknown."""

    name = "sim.kick"

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        return PlannedCall(f"kick {service.name}")

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        return await self._world.act("kick", service, "kick", None)


class Adjust(_WorldAction):
    """An idempotent action without an observable effect."""

    name = "sim.adjust"
    idempotent = True

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        return PlannedCall(f"adjust {service.name}")

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        return await self._world.act("adjust", service, "adjust", None)


class Healthy(Check):
    """A check whether a target is healthy."""

    name = "sim.healthy"

    def __init__(self, world: World) -> None:
        self._world = world

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        try:
            await self._world.look()
        except Unreachable as error:
            return Evidence(CheckAnswer.UNKNOWN, str(error))
        well = self._world.targets[service.name].healthy
        return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, "well" if well else "not well")


class Moody(Guard):
    """A guard that sometimes blocks or answers unknown."""

    name = "moody"
    reasons = frozenset({"mood"})

    def __init__(self, world: World) -> None:
        self._world = world

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        if self._world.pick("moody") == "well":
            return ALLOW
        answer = self._world.chance.choice((GuardAnswer.BLOCK, GuardAnswer.BLOCK, GuardAnswer.UNKNOWN))
        return Verdict(answer, "mood", "simulated")
