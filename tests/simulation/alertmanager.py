"""Simulated Alertmanagers whose notifications are repeated, late, out of order, shortened or lost, and that answer
queries."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from remediator.authoring.simulation.memory_store import START
from remediator.authoring.simulation.virtual_loop import VirtualLoop
from remediator.clients.alertmanager.client import AlertmanagerStatus, Cluster, FiringAlert, Receiver, Suppression
from remediator.core.alert import identity
from remediator.core.clock import rfc3339
from remediator.errors import Unreachable
from tests.simulation.world import World

RECEIVER = "remediator"
PATIENCE = 10.0
"""Seconds after which a sender gives up an unanswered request and sends it again."""


@dataclass(frozen=True, slots=True)
class SendFaults:
    """Probability of each fault of a notification."""

    lost: float = 0.0
    late: float = 0.0
    shortened: float = 0.0
    twice: float = 0.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A body that was answered with a 2xx."""

    body: bytes
    firing: tuple[str, ...]
    """Identities of the firing alerts in the body."""
    sent_at: float
    """Time of the request, in seconds of the virtual clock."""


Post = Callable[[bytes], "asyncio.Future[bool]"]


class SimAlertmanager:
    """One Alertmanager of a pair.

    Args:
        post: sends a body to a running host; the future has whether the answer was a 2xx.
    """

    def __init__(self, name: str, world: World, chance: random.Random, faults: SendFaults, post: Post) -> None:
        self.url = f"http://{name}"
        self._world = world
        self._loop: VirtualLoop = world.loop
        self._chance = chance
        self._faults = faults
        self._post = post
        self.firing: dict[str, float] = {}
        """The time since which the alert of each target fires."""
        self.accepted: list[Accepted] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def watch(self) -> None:
        """Scrape and evaluate the targets forever."""
        while True:
            await asyncio.sleep(self._chance.uniform(1.0, 6.0))
            bad = {name for name, target in self._world.targets.items() if not target.healthy}
            begun = [name for name in sorted(bad) if name not in self.firing]
            ended = [name for name in sorted(self.firing) if name not in bad]
            for name in begun:
                self.firing[name] = self._loop.time()
            over = {name: self.firing.pop(name) for name in ended}
            repeats = self.firing and self._chance.random() < 0.1
            if begun or ended or repeats:
                self._notify(dict(self.firing), over)

    def _notify(self, firing: dict[str, float], ended: dict[str, float]) -> None:
        names = [(name, at, True) for name, at in firing.items()] + [(name, at, False) for name, at in ended.items()]
        if not self._world.calm and self._chance.random() < self._faults.lost:
            return
        shortened = not self._world.calm and len(names) > 1 and self._chance.random() < self._faults.shortened
        kept = names[:1] if shortened else names
        if not self._world.calm:
            self._chance.shuffle(kept)
        body = self._body(kept, len(names) - len(kept))
        fire = [name for name, _, fires in kept if fires]
        identities = tuple(identity("alertmanager", {"alertname": "Down", "service": name}) for name in fire)
        copies = 2 if self._chance.random() < self._faults.twice else 1
        for _ in range(copies):
            task = self._loop.create_task(self._deliver(body, identities))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _body(self, alerts: list[tuple[str, float, bool]], left_out: int) -> bytes:
        now = rfc3339(START + timedelta(seconds=self._loop.time()))
        told = [
            {
                "status": "firing" if fires else "resolved",
                "labels": {"alertname": "Down", "service": name},
                "startsAt": rfc3339(START + timedelta(seconds=at)),
                "endsAt": "0001-01-01T00:00:00Z" if fires else now,
            }
            for name, at, fires in alerts
        ]
        data = {"version": "4", "receiver": RECEIVER, "truncatedAlerts": left_out, "alerts": told}
        return json.dumps(data).encode()

    async def _deliver(self, body: bytes, firing: tuple[str, ...]) -> None:
        if not self._world.calm and self._chance.random() < self._faults.late:
            await asyncio.sleep(self._chance.choice((1.0, 5.0, 30.0)))
        for _ in range(20):
            sent_at = self._loop.time()
            try:
                async with asyncio.timeout(PATIENCE):
                    if await self._post(body):
                        self.accepted.append(Accepted(body, firing, sent_at))
                        return
            except TimeoutError:
                pass
            await asyncio.sleep(self._chance.uniform(0.5, 5.0))

    async def alerts(self) -> Sequence[FiringAlert]:
        """Return the firing alerts, like the API v2."""
        await self._reach()
        return [self._held(name, at) for name, at in self.firing.items()]

    async def status(self) -> AlertmanagerStatus:
        """Return the status, like the API v2 of an Alertmanager that started a day ago."""
        await self._reach()
        return AlertmanagerStatus(version="0", started=START - timedelta(days=1), cluster=Cluster(status="ready"))

    async def _reach(self) -> None:
        if self._world.pick("unreachable") != "well":
            raise Unreachable("simulated")
        await asyncio.sleep(0.01)

    def _held(self, name: str, at: float) -> FiringAlert:
        since = START + timedelta(seconds=at)
        return FiringAlert(
            fingerprint=name,
            labels={"alertname": "Down", "service": name},
            starts_at=since,
            ends_at=since + timedelta(days=1),
            updated_at=since,
            status=Suppression(state="active"),
            receivers=(Receiver(name=RECEIVER),),
        )
