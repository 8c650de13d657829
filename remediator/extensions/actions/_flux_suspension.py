"""The common parts of ``flux.suspend`` and ``flux.resume``: the change of ``spec.suspend`` and its observation."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from remediator.clients.gitops.client import uid
from remediator.clients.kubernetes.models import Document
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class FluxSuspension(Action):
    """Set ``spec.suspend`` of a Flux object, unless it has the value already."""

    needs = ("flux",)
    timeout = timedelta(seconds=60)
    suspend: ClassVar[bool]
    """The value to set."""
    done: ClassVar[str]
    """The state of the object afterwards."""

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        managed = bindings.flux(service)

        def decide(seen: Document) -> Document:
            if {"uid": uid(seen)} != dict(call.pin) or is_suspended(seen) is self.suspend:
                raise TargetError(f"{managed.name} was modified after planning; nothing was changed")
            return {"spec": {"suspend": self.suspend}}

        await managed.change(decide)
        return Result(Outcome.OK, f"{managed.name} is {self.done}")

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the field."""
        suspended = is_suspended(await bindings.flux(service).read())
        happened = EffectStatus.YES if suspended is self.suspend else EffectStatus.NO
        return Observation(happened, f"suspended: {suspended}", {"suspended": suspended})


def is_suspended(seen: Document) -> bool:
    """Return whether Flux does not reconcile the object."""
    return bool(seen["spec"].get("suspend"))
