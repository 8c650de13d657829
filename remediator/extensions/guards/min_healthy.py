"""``min_healthy``: what still works is worth more than what might be mended: a floor of healthy instances."""

from __future__ import annotations

from pydantic import Field

from remediator.errors import RemediatorError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict
from remediator.extensions.platforms.base import State


class MinHealthySettings(Settings):
    """The floor; the inventory's ``minimum_healthy`` where nothing is said here."""

    minimum: int | None = Field(default=None, ge=0, description="Instances that must stay healthy.")

    def off(self) -> str:
        return "none have to stay healthy" if self.minimum == 0 else ""


class MinHealthy(Guard):
    """Blocks if fewer than the minimum would be left; an action takes one healthy instance where all are healthy."""

    name = "min_healthy"
    reasons = frozenset({"too_few_healthy", "platform_silent"})
    Settings = MinHealthySettings

    def __init__(self, world: ClientSet) -> None:
        """It asks the platform through the question's sight."""

    async def ask(self, question: GuardInput) -> Verdict:
        given = question.settings.minimum
        minimum: int = question.service.minimum_healthy if given is None else given
        if minimum == 0:
            return ALLOW
        name = question.service.name
        try:
            status = await question.sight.status()
        except RemediatorError as error:
            text = f"minimum of {minimum} healthy for {name}? the platform does not say: {error}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text, {"minimum": minimum})
        inputs = {"minimum": minimum, "healthy": status.healthy, "instances": status.instances}
        if status.state is State.UNKNOWN:
            text = f"minimum of {minimum} healthy for {name}? the platform cannot tell: {status.summary}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text, inputs)
        left = status.healthy - (1 if status.healthy >= status.instances else 0)
        if left >= minimum:
            return ALLOW
        return Verdict(
            GuardAnswer.BLOCK,
            "too_few_healthy",
            f"minimum of {minimum} healthy for {name}: {status.healthy} of {status.instances} are, "
            f"{left} would be left while it is acted on",
            inputs | {"left": left},
        )
