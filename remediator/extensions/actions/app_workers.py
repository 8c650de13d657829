"""``app.workers``: Change the number of gunicorn workers, within limits, with one signal to the master for each
worker.

The change is temporary: gunicorn forgets it when it restarts or reloads its configuration.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, model_validator

from remediator.clients.host import process
from remediator.clients.host.process import Process
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError, TimedOut
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_LOOK = 0.05
_EACH = 15.0
"""Maximum seconds for one worker to start or stop."""


class WorkersParameters(Parameters):
    """Parameters of ``app.workers``. The inventory defines the limits."""

    to: int | None = Field(default=None, ge=1, le=512, description="Number of workers.")
    by: int | None = Field(default=None, ge=-64, le=64, description="Number of workers to add; negative to remove.")

    @model_validator(mode="after")
    def _one(self) -> WorkersParameters:
        if (self.to is None) == (self.by is None):
            raise ValueError("set exactly one of 'to' and 'by'")
        return self


class AppWorkers(Action):
    """Change the number of gunicorn workers with TTIN and TTOU."""

    name = "app.workers"
    needs = ("app_server",)
    Parameters = WorkersParameters
    reversible = True
    timeout = timedelta(seconds=60)
    facts = (
        Fact("from", "integer", "Workers before the action."),
        Fact("to", "integer", "Workers after the action."),
    )

    async def plan(self, service: Service, parameters: WorkersParameters) -> PlannedCall:
        server = bindings.app_server(service)
        master = process.named_by(server.pid_file)
        now = len(process.children(master))
        asked = parameters.to if parameters.to is not None else now + (parameters.by or 0)
        wanted = min(max(asked, server.min_workers), server.max_workers)
        if wanted == now:
            bounds = f"{server.min_workers} to {server.max_workers}"
            raise TargetError(
                f"{service.name} cannot have {asked} workers: it has {now}, and the inventory allows {bounds}"
            )
        word = "TTIN" if wanted > now else "TTOU"
        return PlannedCall(
            text=f"send {word} to gunicorn (pid {master.pid}) {abs(wanted - now)} times: {now} to {wanted} workers",
            arguments={"from": now, "to": wanted},
            pin={"pid": master.pid, "ticks": master.ticks},
            undo=f"return to {now} workers",
            risk="Each worker needs memory and connections to Redis." if wanted > now else None,
        )

    async def execute(self, service: Service, parameters: WorkersParameters, call: PlannedCall) -> Result:
        master = _planned(call)
        if process.named_by(bindings.app_server(service).pid_file) != master:
            raise TargetError(
                f"gunicorn is no longer pid {master.pid}: it was restarted after planning; nothing was changed"
            )
        wanted, now = int(call.arguments["to"]), len(process.children(master))
        if now != call.arguments["from"]:
            raise TargetError(f"{service.name} has {now} workers; {call.arguments['from']} when the plan was made")
        while now != wanted:
            number = signal.SIGTTIN if wanted > now else signal.SIGTTOU
            process.send(master, number)
            now = await _counted(master, now + (1 if wanted > now else -1))
        return Result(Outcome.OK, f"{service.name} has {now} workers", dict(call.arguments))

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall(self.name, {"to": int(call.arguments["from"])})

    async def observe(
        self, service: Service, parameters: WorkersParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Count the workers. A restarted master has lost the change."""
        master = process.named_by(bindings.app_server(service).pid_file)
        now = len(process.children(master))
        facts = {"workers": now, "pid": master.pid}
        if now == call.arguments["to"]:
            return Observation(EffectStatus.YES, f"{service.name} has {now} workers", facts)
        if master != _planned(call) or now == call.arguments["from"]:
            return Observation(EffectStatus.NO, f"{service.name} has {now} workers", facts)
        return Observation(
            EffectStatus.UNKNOWN, f"{service.name} has {now} workers: only some were added or removed", facts
        )


def _planned(call: PlannedCall) -> Process:
    return Process(int(call.pin["pid"]), int(call.pin["ticks"]))


async def _counted(master: Process, wanted: int) -> int:
    """Wait until the number of workers is as wanted, and return it.

    Raises:
        TimedOut: it is not. Another signal could change it once too often.
    """
    for _ in range(int(_EACH / _LOOK)):
        if len(process.children(master)) == wanted:
            return wanted
        await asyncio.sleep(_LOOK)
    raise TimedOut(f"gunicorn did not reach {wanted} workers within {_EACH:g} s")
