"""The catalogue of items: reads go through the cache, writes go to the record first."""

from app.cache import Answer, Cache
from app.items import Item, ItemDraft
from app.link import RedisUnavailableError
from app.metrics import Metrics
from app.records import Change, Records

SWEEP = 500


class Catalogue:
    """Items of the API. Reads and writes work without Redis; the cache is invalidated before it is used again."""

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
        await self._invalidate(change)
        return change.item

    async def update(self, item_id: int, draft: ItemDraft) -> Item | None:
        return await self._invalidated(await self._records.update(item_id, draft))

    async def delete(self, item_id: int) -> Item | None:
        return await self._invalidated(await self._records.delete(item_id))

    async def sweep(self, *, probe: bool = False) -> None:
        """Invalidate the cache for every change that it may have missed. Raise RedisUnavailableError without Redis."""
        while stale := await self._records.stale(SWEEP):
            await self._cache.invalidate({row.item_id for row in stale}, probe=probe)
            await self._records.settle(stale)

    async def _load(self, item_id: int) -> Item | None:
        self._metrics.record_loads.inc()
        return await self._records.get(item_id)

    async def _invalidated(self, change: Change | None) -> Item | None:
        if change is None:
            return None
        await self._invalidate(change)
        return change.item

    async def _invalidate(self, change: Change) -> None:
        try:
            await self._cache.invalidate([change.item.id])
        except RedisUnavailableError:
            return  # the marker stays in the record, and `sweep` invalidates the copy later
        await self._records.settle([change.stale])
