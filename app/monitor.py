"""The monitor: once a second, is Redis there, has the cache missed a change, how much memory do we use."""

import asyncio
import logging
import random

from redis.asyncio import Redis

from app.catalogue import Catalogue
from app.link import RedisLink, RedisUnavailableError
from app.metrics import Metrics

HEARTBEAT = 1.0
FIRST_KNOCK = 0.1
log = logging.getLogger("app.monitor")


class Monitor:
    """One per worker. While Redis is away it knocks after 0.1 s, 0.2 s, 0.4 s, then each second, with jitter."""

    def __init__(self, link: RedisLink, catalogue: Catalogue, metrics: Metrics) -> None:
        self._link = link
        self._catalogue = catalogue
        self._metrics = metrics

    async def look(self) -> None:
        """Asks Redis, tells the cache what it missed, and only then lets requests use Redis."""
        try:
            await self._link.call("ping", _ping, knock=True)
            await self._catalogue.sweep(knock=True)
        except RedisUnavailableError as error:
            self._link.break_off(error)
        else:
            self._link.mend()

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_KNOCK
        while True:
            if self._link.up:
                await self._heartbeat()
                pause = FIRST_KNOCK
            if not self._link.up:
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 (jitter, not a secret)
                pause = min(2 * pause, HEARTBEAT)
            await self._step()

    async def _heartbeat(self) -> None:
        try:
            async with asyncio.timeout(HEARTBEAT):
                await self._link.broken.wait()
        except TimeoutError:
            return

    async def _step(self) -> None:
        try:
            self._metrics.measure_memory()
            await self.look()
        except Exception:  # if the monitor ended, a broken circuit would stay broken for ever
            log.exception("the monitor could not look")


async def _ping(client: Redis) -> None:
    await client.ping()
