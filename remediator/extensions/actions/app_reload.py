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
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service

_LOOK = 0.05


class AppReload(Action):
    """Let gunicorn replace its workers, by HUP."""

    name = "app.reload"
    idempotent = True
    timeout = timedelta(seconds=60)

    def __init__(self, world: ClientSet) -> None:
        """It signals processes of this host."""

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        master = process.named_by(bindings.app_server(service).pid_file)
        workers = sorted(child.pid for child in process.children(master))
        return PlannedCall(
            text=f"send HUP to gunicorn (pid {master.pid}): it replaces its {len(workers)} workers",
            arguments={"workers": workers},
            pin={"pid": master.pid, "ticks": master.ticks},
            risk="A configuration that is wrong by now takes effect; extra workers are forgotten.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        master = Process(int(call.pin["pid"]), int(call.pin["ticks"]))
        if process.named_by(bindings.app_server(service).pid_file) != master:
            raise TargetError(f"gunicorn is not process {master.pid} any more, as planned: somebody restarted it")
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
        """None of the planned workers is left: it happened, or the same came about otherwise."""
        now = {child.pid for child in process.children(process.named_by(bindings.app_server(service).pid_file))}
        if now and not now & set(call.arguments["workers"]):
            return Observation(EffectStatus.YES, f"all {len(now)} workers are new", {"workers": sorted(now)})
        return Observation(EffectStatus.NO, "workers of before are still there", {"workers": sorted(now)})
