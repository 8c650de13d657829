"""The inventory in use: the services of its file, and the services of the targets in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from remediator.config import Config
from remediator.errors import StoreError
from remediator.playbooks.discovered import LeftOut, Merged, TargetSet, merge
from remediator.playbooks.inventory import Inventory
from remediator.runtime.store_access import read_only_connection
from remediator.storage import Store
from remediator.storage.repositories import discovered


@dataclass(slots=True)
class LiveInventory:
    """The parts of the inventory in use."""

    written: Inventory
    """The inventory as it is in its file."""
    sets: Mapping[str, TargetSet] = field(default_factory=dict)
    """The last good targets of each discovery."""
    inventory: Inventory = field(init=False)
    """The inventory in use."""
    left_out: tuple[LeftOut, ...] = ()
    """The targets that are no services."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a part is replaced: files and targets change independently of each other."""

    def __post_init__(self) -> None:
        """Use the written inventory until targets are known."""
        self.inventory = self.written

    async def load(self, store: Store) -> None:
        """Read the targets that the store has."""
        if self.written.discover:
            sets = await store.read(discovered.load)
            self.use(self.written, sets, await self.merged(self.written, sets))

    async def merged(self, written: Inventory, sets: Mapping[str, TargetSet]) -> Merged:
        """Return the merged inventory, without blocking the event loop."""
        if not written.discover:
            return Merged(written, ())
        return await asyncio.to_thread(merge, written, sets)

    def use(self, written: Inventory, sets: Mapping[str, TargetSet], merged: Merged) -> None:
        """Take these into use."""
        self.written, self.sets, self.inventory, self.left_out = written, sets, merged.inventory, merged.left_out


def with_stored_targets(connection: Connection, written: Inventory) -> Inventory:
    """Return an inventory with the services of the targets that the store has, for commands."""
    return merge(written, discovered.load(connection)).inventory if written.discover else written


def with_targets_of(config: Config, written: Inventory) -> Inventory:
    """Return the same for the store of an installation; only the written services if there is no store yet."""
    if not written.discover:
        return written
    try:
        with read_only_connection(config) as connection:
            return with_stored_targets(connection, written)
    except StoreError:
        return written


async def with_known_targets(store: Store, written: Inventory) -> Inventory:
    """Return the same where the store may not exist: then the targets are not known, and only written services are."""
    live = LiveInventory(written)
    try:
        await live.load(store)
    except StoreError:
        return written
    return live.inventory
