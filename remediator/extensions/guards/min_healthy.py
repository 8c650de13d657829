"""``min_healthy``: keep a minimum number of healthy instances."""

from __future__ import annotations

from pydantic import Field

from remediator.errors import RemediatorError
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict
from remediator.extensions.platforms.base import State


class MinHealthySettings(Settings):
    """The minimum. Default: ``minimum_healthy`` of the service in the inventory."""

    minimum: int | None = Field(default=None, ge=0, description="How many instances must stay healthy.")

    def off(self) -> str:
        return "its minimum is 0" if self.minimum == 0 else ""


class MinHealthy(Guard):
    """Blocks when fewer than the minimum of instances would stay healthy.

    If all instances are healthy, the guard assumes that the action takes one of them down.
    """

    name = "min_healthy"
    reasons = frozenset({"too_few_healthy", "platform_silent"})
    Settings = MinHealthySettings

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        given = guard_input.settings.minimum
        minimum: int = guard_input.service.minimum_healthy if given is None else given
        if minimum == 0:
            return ALLOW
        name = guard_input.service.name
        try:
            status = await guard_input.view.status()
        except RemediatorError as error:
            text = f"at least {minimum} instances of {name} must stay healthy; the platform did not answer: {error}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text, {"minimum": minimum})
        inputs = {"minimum": minimum, "healthy": status.healthy, "instances": status.instances}
        if status.state is State.UNKNOWN:
            text = f"at least {minimum} instances of {name} must stay healthy; their state is unknown: {status.summary}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text, inputs)
        left = status.healthy - (1 if status.healthy >= status.instances else 0)
        if left >= minimum:
            return ALLOW
        return Verdict(
            GuardAnswer.BLOCK,
            "too_few_healthy",
            f"at least {minimum} instances of {name} must stay healthy: {status.healthy} of {status.instances} are, "
            f"{left} would be left during the action",
            inputs | {"left": left},
        )
