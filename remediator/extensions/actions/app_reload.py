"""``app.reload``: Tell gunicorn to read its configuration again and replace all workers. Requests in progress are
completed.
"""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime, timedelta

from remediator.clients.host import process
from remediator.clients.host.process import Process
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_LOOK = 0.05


class AppReload(Action):
    """Reload gunicorn with HUP, which replaces all workers."""

    name = "app.reload"
    needs = ("app_server",)
    idempotent = True
    timeout = timedelta(seconds=60)
    facts = (Fact("workers", "list", "Process IDs of the new workers."),)

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        master = process.named_by(bindings.app_server(service).pid_file)
        workers = sorted(child.pid for child in process.children(master))
        return PlannedCall(
            text=f"send HUP to gunicorn (pid {master.pid}), which replaces its {len(workers)} workers",
            arguments={"workers": workers},
            pin={"pid": master.pid, "ticks": master.ticks},
            risk="An invalid configuration takes effect, and workers that were added are removed.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        master = Process(int(call.pin["pid"]), int(call.pin["ticks"]))
        if process.named_by(bindings.app_server(service).pid_file) != master:
            raise TargetError(
                f"gunicorn is no longer pid {master.pid}: it was restarted after planning; nothing was changed"
            )
        before = {child.pid for child in process.children(master)}
        process.send(master, signal.SIGHUP)
        while True:
            now = {child.pid for child in process.children(master)}
            if now and not now & before:
                break
            await asyncio.sleep(_LOOK)
        return Result(Outcome.OK, f"{service.name} has {len(now)} new workers", {"workers": sorted(now)})

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Compare the workers. If there are workers and none of them is in the plan, the reload took effect."""
        now = {child.pid for child in process.children(process.named_by(bindings.app_server(service).pid_file))}
        if now and not now & set(call.arguments["workers"]):
            return Observation(EffectStatus.YES, f"all {len(now)} workers are new", {"workers": sorted(now)})
        return Observation(EffectStatus.NO, "some workers from before the reload still run", {"workers": sorted(now)})
