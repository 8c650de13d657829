"""``redis.restore_persistence``: Enable Redis persistence again. Redis rewrites its append-only file at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, model_validator

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RestoreParameters(Parameters):
    """Parameters of ``redis.restore_persistence``, as in redis.conf."""

    appendonly: Literal["yes", "no"] | None = Field(default=None, description="Whether to enable the append-only file.")
    save: str | None = Field(
        default=None,
        pattern=r"^([0-9]+ [0-9]+( [0-9]+ [0-9]+)*)?$",
        description="Snapshot rule in seconds and changes, for example 300 10.",
    )

    @model_validator(mode="after")
    def _something(self) -> RestoreParameters:
        if self.appendonly is None and self.save is None:
            raise ValueError("set appendonly or save")
        return self

    @property
    def sets(self) -> dict[str, str]:
        """The Redis parameters to set, with their values."""
        both = {"appendonly": self.appendonly, "save": self.save}
        return {name: value for name, value in both.items() if value is not None}


class RedisRestorePersistence(Action):
    """Enable Redis persistence again."""

    name = "redis.restore_persistence"
    needs = ("redis",)
    Parameters = RestoreParameters
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("appendonly", "string", "Value of appendonly, if it was set.", values=("yes", "no")),
        Fact("save", "string", "Value of save, if it was set."),
    )

    async def plan(self, service: Service, parameters: RestoreParameters) -> PlannedCall:
        redis = bindings.redis(service)
        for name, value in parameters.sets.items():
            if value in ("no", "") and (now := await redis.config_get(name)) not in ("no", ""):
                raise TargetError(
                    f"{service.name} has {name} {now!r}, and {value!r} would disable it; use "
                    "redis.disable_persistence, which needs an approval"
                )
        sets = ", ".join(f"CONFIG SET {name} {value!r}" for name, value in parameters.sets.items())
        return PlannedCall(
            text=f"on {service.name}: {sets}",
            arguments=parameters.sets,
            pin={"run_id": await redis.run_id()},
            risk="Redis rewrites the append-only file, which needs disk space."
            if parameters.appendonly == "yes"
            else None,
        )

    async def execute(self, service: Service, parameters: RestoreParameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        for name, value in parameters.sets.items():
            change = await redis.config_set(name, value, expected=str(call.pin["run_id"]))
            if change.new != value:
                text = f"{service.name}: {name} is {change.new!r}, not {value!r}"
                return Result(Outcome.FAILED, text, dict(call.arguments))
        return Result(Outcome.OK, f"{service.name}: persistence is restored", dict(call.arguments))

    async def observe(
        self, service: Service, parameters: RestoreParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the parameters."""
        redis = bindings.redis(service)
        now = {name: await redis.config_get(name) for name in parameters.sets}
        happened = EffectStatus.YES if now == parameters.sets else EffectStatus.NO
        return Observation(happened, f"current values: {now}", now)
