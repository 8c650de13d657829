"""The catalogue: items as the API sees them, read through the cache and written to the record first."""

from app.cache import Answer, Cache
from app.items import Item, ItemDraft
from app.link import RedisUnavailableError
from app.metrics import Metrics
from app.records import Change, Records

SWEEP = 500


class Catalogue:
    """Reads survive the loss of Redis; writes too, and the cache is told of them before it is used again."""

    def __init__(self, records: Records, cache: Cache, metrics: Metrics) -> None:
        self._records = records
        self._cache = cache
        self._metrics = metrics

    async def get(self, item_id: int) -> Answer:
        return await self._cache.read(item_id, lambda: self._load(item_id))

    async def page(self, after: int, limit: int) -> list[Item]:
        return await self._records.page(after, limit)

    async def create(self, draft: ItemDraft) -> Item:
        change = await self._records.create(draft)
        await self._tell(change)
        return change.item

    async def update(self, item_id: int, draft: ItemDraft) -> Item | None:
        return await self._told(await self._records.update(item_id, draft))

    async def delete(self, item_id: int) -> Item | None:
        return await self._told(await self._records.delete(item_id))

    async def sweep(self, *, knock: bool = False) -> None:
        """Tells the cache of every change that it may have missed. Raises RedisUnavailableError."""
        while stale := await self._records.stale(SWEEP):
            await self._cache.invalidate({row.item_id for row in stale}, knock=knock)
            await self._records.settle(stale)

    async def _load(self, item_id: int) -> Item | None:
        self._metrics.record_loads.inc()
        return await self._records.get(item_id)

    async def _told(self, change: Change | None) -> Item | None:
        if change is None:
            return None
        await self._tell(change)
        return change.item

    async def _tell(self, change: Change) -> None:
        try:
            await self._cache.invalidate([change.item.id])
        except RedisUnavailableError:
            return  # the row in the record stays, and `sweep` does it
        await self._records.settle([change.stale])
