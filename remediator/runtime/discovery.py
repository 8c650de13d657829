"""Look up the targets of the inventory's discoveries, and use the common result of all replicas.

One replica looks up at a time. Its result replaces the last good targets in the store, with an audit entry; each
replica reads them from the store. A lookup that fails, has too many targets or would remove too many services changes
nothing: people are notified once, and again when it works.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import structlog

from remediator.audit import Draft, Kind
from remediator.core import progress
from remediator.core.message import MessageKind
from remediator.errors import RemediatorError
from remediator.extensions.discoverers.base import Discoverer
from remediator.pipeline.approve import void_outdated_requests
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.discovered import Merged, MergedInventory, TargetSet
from remediator.playbooks.discovery import Discovery
from remediator.playbooks.inventory import Inventory
from remediator.runtime.health import Health
from remediator.runtime.live_inventory import LiveInventory
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs, discovered, outbox, runs
from remediator.storage.repositories.discovered import Turn

log: Any = structlog.get_logger("remediator.runtime.discovery")

_SHOWN = 20
"""Most names and reasons in a log line, an audit entry or a message."""
FAILED, TOO_MANY, TOO_FEW = "failed", "too_many", "too_few"
"""Why a lookup changes nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The changes of one lookup."""

    targets: TargetSet | None = None
    """The new targets; None if the targets do not change."""
    limit: str = ""
    """The reason why the lookup changes nothing; empty if the lookup was good."""
    problem: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    compared: tuple[Inventory, Mapping[str, TargetSet]] | None = None
    """The written inventory and all targets with which it was compared."""
    merged: Merged | None = None
    """The inventory with the new targets."""

    def merged_with(self, live: LiveInventory) -> Merged | None:
        """Return the inventory with the new targets; None if something else has changed since the lookup."""
        unchanged = self.compared is not None and all(
            used is now for used, now in zip(self.compared, (live.written, live.sets), strict=True)
        )
        return self.merged if unchanged else None


async def look_up(live: LiveInventory, name: str, discovery: Discovery, discoverer: Discoverer) -> Outcome:
    """Look up the targets of one discovery, and compare them with the last good ones. Changes nothing."""
    try:
        async with asyncio.timeout(discovery.timeout.total_seconds()):
            found = await discoverer.find(discovery)
    except TimeoutError:
        return Outcome(limit=FAILED, problem=f"no answer within {discovery.timeout.total_seconds():g} s")
    except (RemediatorError, OSError) as error:
        return Outcome(limit=FAILED, problem=str(error) or type(error).__name__)
    selected = [labels for labels in found if discovery.selects(labels)]
    if len(selected) > discovery.allow.targets:
        text = f"the source has {len(selected)} targets, and allow.targets is {discovery.allow.targets}"
        return Outcome(limit=TOO_MANY, problem=text)
    targets = TargetSet.of(discovery, selected)
    known, sets = live.sets.get(name), live.sets
    if known is not None and known.version == targets.version:
        return Outcome(left_out=tuple(str(each) for each in live.left_out if each.discovery == name))
    merged = await live.merged(live.written, {**sets, name: targets})
    before, after = live.inventory.found_by(name), merged.inventory.found_by(name)
    left_out = tuple(str(each) for each in merged.left_out if each.discovery == name)
    removed = before - after
    outcome = Outcome(
        targets=targets,
        added=tuple(sorted(after - before)),
        removed=tuple(sorted(removed)),
        changed=tuple(sorted(each for each in before & after if _differs(live.inventory, merged.inventory, each))),
        left_out=left_out,
        compared=(live.written, sets),
        merged=merged,
    )
    if len(removed) * 100 > discovery.max_loss * len(before):
        text = f"it would remove {len(removed)} of {len(before)} services, and max_loss is {discovery.max_loss} percent"
        return replace(outcome, targets=None, limit=TOO_FEW, problem=text, merged=None)
    return outcome


def _differs(before: Inventory, after: Inventory, name: str) -> bool:
    assert isinstance(before, MergedInventory), "it has a discovered service"
    assert isinstance(after, MergedInventory), "it has a discovered service"
    return before.labels_of(name) != after.labels_of(name)


def settings_of(discovery: Discovery) -> str:
    """Return an identifier of the settings of a discovery: after a change, the next lookup is due at once."""
    return sha256(json.dumps(discovery.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(slots=True)
class DiscoveryLoop:
    """The loop of one replica.

    Args:
        context: its playbooks get the new inventory.
        live: the inventory in use.
        discoverers: by kind.
        protect: called with an inventory before it is used, so that its secrets are redacted.
        guards: names of the guards; the runs that they block are evaluated again with the new targets.
        channels: notified of failed lookups and of skipped targets.
        health: shows what does not work.
        looks: whether this replica looks up targets; the other replicas only read the results.
        poll: seconds between two turns.
    """

    context: PipelineContext
    live: LiveInventory
    discoverers: Mapping[str, Discoverer]
    protect: Callable[[Inventory], None]
    guards: Sequence[str]
    channels: Sequence[str]
    health: Health
    looks: bool = True
    poll: float = 1.0
    _due: dict[tuple[str, str], float] = field(default_factory=dict)
    """When each discovery is due, in the time of the event loop; by name and settings."""

    async def run(self) -> None:
        """Do the due lookups, and use the results of all replicas."""
        while True:
            if self.live.written.discover:
                await self.turn()
            progress.report(self.poll)
            await self.context.clock.sleep(self.poll)

    async def turn(self) -> None:
        """Do one turn of the loop."""
        await self.follow()
        if self.looks:
            longest = max(each.timeout.total_seconds() for each in self.live.written.discover.values())
            progress.report(longest)
            due = [self._look(name, each) for name, each in self.live.written.discover.items()]
            if any(await asyncio.gather(*due)):
                await self.follow()  # several sets may have changed: use all of them

    async def follow(self) -> None:
        """Use the targets in the store, if they are not in use already."""
        known = await self.context.store.read(discovered.versions)
        used = {name: each.version for name, each in self.live.sets.items()}
        if used != known:
            await self.activate(await self.context.store.read(discovered.load))

    async def activate(self, sets: Mapping[str, TargetSet], outcome: Outcome | None = None) -> None:
        """Use these targets. Runs whose target is gone are woken, so that they end.

        Args:
            sets: the targets of all discoveries.
            outcome: the lookup that found them, if this replica did: its inventory is used if nothing else changed.
        """
        async with self.live.lock:
            before, left = self.live.inventory, self.live.left_out
            merged = None if outcome is None else outcome.merged_with(self.live)
            merged = merged or await self.live.merged(self.live.written, sets)
            self.protect(merged.inventory)
            # One statement after the other without an await: no other task of the event loop sees a part of them.
            self.live.use(self.live.written, sets, merged)
            self.context.playbooks = self.context.playbooks.with_inventory(merged.inventory)
        gone = [name for name in before.services if name not in merged.inventory]
        await self.context.store.write(lambda tx: self._wake(tx, gone))
        new = [each for each in merged.left_out if each not in set(left)]
        for each in new[:_SHOWN]:
            log.warning("target left out", discovery=each.discovery, target=each.target, reason=each.reason)
        log.info(
            "discovered targets in use",
            services=len(merged.inventory.services),
            gone=len(gone),
            left_out=len(merged.left_out),
        )

    def _wake(self, tx: Tx, gone: Sequence[str]) -> None:
        targets = set(gone)
        open_runs = runs.list_page(tx.connection, 10_000, only=runs.OPEN_ONLY) if targets else ()
        runs.notify(tx, [run.id for run in open_runs if run.target in targets])
        blocked_runs.schedule_now(tx, self.guards)  # the new targets may no longer block these runs
        void_outdated_requests(tx, self.context)

    async def _look(self, name: str, discovery: Discovery) -> bool:
        """Look up one discovery if it is due. Return whether its targets changed."""
        settings, now = settings_of(discovery), asyncio.get_running_loop().time()
        if now < self._due.get((name, settings), 0.0):
            return False
        left = await self.context.store.write(lambda tx: self._claim(tx, name, discovery, settings))
        if left > 0:
            self._due[name, settings] = now + left
            return False
        known = self.live.sets.get(name)
        outcome = await look_up(self.live, name, discovery, self.discoverers[discovery.kind])  # type: ignore[attr-defined]
        before = "" if known is None else known.version
        saved = await self.context.store.write(lambda tx: self._record(tx, name, discovery, settings, outcome, before))
        self._due[name, settings] = asyncio.get_running_loop().time() + discovery.refresh.total_seconds()
        self.health.warn(f"discovery {name}", outcome.problem)
        if saved and outcome.targets is not None:
            await self.activate({**self.live.sets, name: outcome.targets}, outcome)
        return saved

    def _claim(self, tx: Tx, name: str, discovery: Discovery, settings: str) -> float:
        """Take the lookup if it is due, so that no other replica does it; else return the seconds until it is."""
        turn = discovered.last_turn(tx.connection, name, lock=True)
        left = discovered.seconds_until(turn, settings, tx.now)
        if left <= 0:
            until = discovered.after(tx.now, 2 * discovery.timeout)
            taken = Turn(settings, until, turn.problem, turn.limit, turn.left_out)
            discovered.set_turn(tx, name, taken)
        return left

    def _record(self, tx: Tx, name: str, discovery: Discovery, settings: str, outcome: Outcome, before: str) -> bool:
        """Record a lookup: the new targets, or the reason of its failure. Return whether the targets were replaced."""
        last = discovered.last_turn(tx.connection, name, lock=True)
        left_out = outcome.left_out if outcome.limit != FAILED else last.left_out
        due = discovered.after(tx.now, discovery.refresh)
        discovered.set_turn(tx, name, Turn(settings, due, outcome.problem, outcome.limit, left_out[:_SHOWN]))
        saved = outcome.targets is not None and discovered.save(tx, name, outcome.targets, before)
        if saved or (outcome.limit and outcome.limit != last.limit):
            kind = Kind.DISCOVERY_CHANGED if saved else Kind.DISCOVERY_REFUSED
            data: dict[str, Any] = {"discovery": name}
            if outcome.problem:
                data["problem"] = outcome.problem
            if outcome.targets is not None:
                data |= {"targets": len(outcome.targets.rows), "version": outcome.targets.version}
            for key in ("added", "removed", "changed", "left_out"):
                found = getattr(outcome, key)
                data[key] = {"count": len(found), "first": list(found[:_SHOWN])}
            tx.append_audit(Draft(kind=kind, actor=self.context.actor, data=data))
        for text in _news(name, outcome, last):
            content = {"about": "discovery", "text": text}
            outbox.enqueue(tx, self.context.ids, MessageKind.NOTICE, None, content, self.channels)
        return saved


def _news(name: str, outcome: Outcome, last: Turn) -> list[str]:
    """Return the news for people: a lookup that begins or stops to fail, and newly skipped targets."""
    found = []
    if outcome.limit and outcome.limit != last.limit:
        found.append(f"Discovery {name} changed nothing, the last good targets stay: {outcome.problem}")
    if last.limit and not outcome.limit:
        found.append(f"Discovery {name} works again.")
    new = [each for each in outcome.left_out[:_SHOWN] if each not in last.left_out]
    if new and outcome.limit != FAILED:
        more = len(outcome.left_out) - len(new)
        found.append(f"Targets left out: {'; '.join(new[:5])}{f'; and {more} more' if more > 0 else ''}")
    return found
