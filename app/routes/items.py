"""`/items`: create, read, list, update, delete."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Response

from app.items import MAX_ID, Item, ItemDraft
from app.services import Admitted, Parts

router = APIRouter(prefix="/items", tags=["items"], dependencies=[Admitted])
ItemId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.post("", status_code=201)
async def create(draft: ItemDraft, parts: Parts, response: Response) -> Item:
    item = await parts.catalogue.create(draft)
    response.headers["Location"] = f"/items/{item.id}"
    _mark_degraded(parts, response)
    return item


@router.get("")
async def page(
    parts: Parts,
    after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> list[Item]:
    """List items by ID, without the cache. For the next page, set `after` to the last ID of this page."""
    return await parts.catalogue.page(after, limit)


@router.get("/{item_id}")
async def read(item_id: ItemId, parts: Parts, response: Response) -> Item:
    """Return one item. `X-Cache` is `hit`, `miss` or `bypass`. Without Redis, `X-Degraded` is `redis`."""
    item, result = await parts.catalogue.get(item_id)
    response.headers["X-Cache"] = result
    _mark_degraded(parts, response)
    return _found(item, response)


@router.put("/{item_id}")
async def update(item_id: ItemId, draft: ItemDraft, parts: Parts, response: Response) -> Item:
    item = await parts.catalogue.update(item_id, draft)
    _mark_degraded(parts, response)
    return _found(item, response)


@router.delete("/{item_id}", status_code=204)
async def delete(item_id: ItemId, parts: Parts, response: Response) -> None:
    item = await parts.catalogue.delete(item_id)
    _mark_degraded(parts, response)
    _found(item, response)


def _found(item: Item | None, response: Response) -> Item:
    if item is None:
        raise HTTPException(404, "the item does not exist", dict(response.headers))
    return item


def _mark_degraded(parts: Parts, response: Response) -> None:
    if not parts.link.up:
        response.headers["X-Degraded"] = "redis"
