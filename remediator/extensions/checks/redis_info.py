"""``redis.info``: Check that a number from Redis INFO is within limits."""

from __future__ import annotations

from pydantic import Field, model_validator

from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RedisInfoParameters(Parameters):
    """Parameters of ``redis.info``."""

    field: str = Field(
        pattern="^[a-z0-9_]+$", description="Name of the field, for example connected_clients or used_memory."
    )
    section: str = Field(
        default="everything", pattern="^[a-z]+$", description="Section of INFO that contains the field."
    )
    minimum: float | None = Field(default=None, description="A lower value fails.")
    maximum: float | None = Field(default=None, description="A higher value fails.")
    equals: str | None = Field(default=None, description="Expected text; any other text fails.")

    @model_validator(mode="after")
    def _something(self) -> RedisInfoParameters:
        if self.minimum is None and self.maximum is None and self.equals is None:
            raise ValueError("set minimum, maximum or equals")
        return self


class RedisInfo(Check):
    """Compare a field of Redis INFO with limits."""

    name = "redis.info"
    needs = ("redis",)
    Parameters = RedisInfoParameters
    facts = (
        Fact("field", "string", "Name of the field."),
        Fact("value", "string", "Its value, as text."),
    )

    async def observe(self, service: Service, parameters: RedisInfoParameters) -> Evidence:
        info = await bindings.redis(service).info(parameters.section)
        found = info.text(parameters.field)
        if parameters.equals is not None:
            well = found == parameters.equals
        else:
            number = info.number(parameters.field)
            above = parameters.minimum is None or number >= parameters.minimum
            well = above and (parameters.maximum is None or number <= parameters.maximum)
        text = f"Redis: {parameters.field} is {found}"
        return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, text, {"field": parameters.field, "value": found})
