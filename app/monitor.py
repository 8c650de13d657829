"""The monitor: every second, probe Redis, invalidate what the cache missed, and measure memory."""

import asyncio
import logging
import random

from app.catalogue import Catalogue
from app.link import RedisLink, RedisUnavailableError
from app.metrics import Metrics

HEARTBEAT = 1.0
FIRST_PROBE = 0.1
log = logging.getLogger("app.monitor")


class Monitor:
    """The monitor; one per worker. While Redis is down, it probes after 0.1 s, 0.2 s, 0.4 s, then every second."""

    def __init__(self, link: RedisLink, catalogue: Catalogue, metrics: Metrics) -> None:
        self._link = link
        self._catalogue = catalogue
        self._metrics = metrics

    async def check(self) -> None:
        """Probe Redis and invalidate what the cache missed. Only then, close the circuit for requests."""
        try:
            await self._link.call("ping", lambda client: client.ping(), probe=True)
            await self._catalogue.sweep(probe=True)
        except RedisUnavailableError as error:
            self._link.open_circuit(error)
        else:
            self._link.close_circuit()

    async def run(self) -> None:
        """Run until cancelled."""
        pause = FIRST_PROBE
        while True:
            if self._link.up:
                await self._heartbeat()
                pause = FIRST_PROBE
            if not self._link.up:
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 (jitter, not a secret)
                pause = min(2 * pause, HEARTBEAT)
            await self._step()

    async def _heartbeat(self) -> None:
        try:
            async with asyncio.timeout(HEARTBEAT):
                await self._link.opened.wait()
        except TimeoutError:
            return

    async def _step(self) -> None:
        try:
            self._metrics.measure_memory()
            await self.check()
        except Exception:  # if the monitor ended, an open circuit would stay open forever
            log.exception("internal error in the monitor")
