"""The discoveries: their sources answer within the limits, and every target becomes a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.authoring.explain import ReadOnlyStore
from remediator.clients.prometheus.client import Prometheus
from remediator.errors import StoreError
from remediator.extensions.clientset import ClientSet
from remediator.reporting.formatting import plural
from remediator.runtime.discovery import look_up
from remediator.runtime.live_inventory import LiveInventory


class Discoveries(DoctorCheck):
    """Looks up the targets of each discovery, and compares them with the last good targets. Changes nothing."""

    name = "discovery"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        live = LiveInventory(about.loaded.inventory)
        if not live.written.discover:
            yield skipped("discover", "the inventory has no discovery")
            return
        try:
            await live.load(ReadOnlyStore(about.config))
        except StoreError as error:
            yield warning("last good targets", str(error), "start the service once, then run the doctor again")
        async with AsyncExitStack() as stack:
            prometheus = None if about.config.prometheus is None else Prometheus(about.config.prometheus)
            if prometheus is not None:
                stack.push_async_callback(prometheus.aclose)
            made = about.registry.make_discoverers(ClientSet(prometheus=prometheus))
            for name, discovery in live.written.discover.items():
                outcome = await look_up(live, name, discovery, made[discovery.kind])
                show = f"run: remediator inventory diff {name}"
                if outcome.limit:
                    yield failed(name, outcome.problem, show)
                elif outcome.left_out:
                    more = f", and {len(outcome.left_out) - 1} more" if len(outcome.left_out) > 1 else ""
                    yield warning(name, f"{outcome.left_out[0]}{more}", show)
                else:
                    added = plural(len(outcome.added), "service")
                    yield ok(name, f"{added} more than the last lookup, {len(outcome.removed)} fewer")
