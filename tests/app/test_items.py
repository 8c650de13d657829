"""The items API: valid input, rejected input and errors."""

import json

import pytest

from tests.app.conftest import LocalApp


async def test_an_item_is_created_read_changed_and_deleted(local_app: LocalApp) -> None:
    """A client can create, read, change and delete an item. The version counts the changes."""
    made = await local_app.client.post("/items", json={"name": " lamp ", "price_cents": 1999})
    assert (made.status_code, made.headers["location"]) == (201, f"/items/{made.json()['id']}")
    url = made.headers["location"]
    assert made.json() | {"id": 1} == {
        "id": 1, "name": "lamp", "description": "", "price_cents": 1999, "version": 1,
    }  # fmt: skip
    assert (await local_app.client.get(url)).json() == made.json()
    changed = await local_app.client.put(url, json={"name": "lamp", "price_cents": 5, "description": "on sale"})
    assert (changed.json()["version"], changed.json()["price_cents"]) == (2, 5)
    assert (await local_app.client.delete(url)).status_code == 204
    assert [(await local_app.client.request(verb, url)).status_code for verb in ("GET", "DELETE")] == [404, 404]


async def test_pages_follow_each_other(local_app: LocalApp) -> None:
    """Pages are ordered by ID, without gaps or repetitions."""
    made = [await local_app.new_item(f"item {n}") for n in range(5)]
    first = (await local_app.client.get("/items", params={"limit": 3})).json()
    second = (await local_app.client.get("/items", params={"limit": 3, "after": first[-1]["id"]})).json()
    assert [item["id"] for item in [*first, *second]] == made


MALFORMED = {
    "nothing": b"",
    "cut off": b"{",
    "a list": b"[]",
    "null": b"null",
    "a string": b'"x"',
    "not text": b"\xff\xfe",
    "deep": b"[" * 5000,
    "no price": b'{"name": "a"}',
    "no name": b'{"name": "", "price_cents": 1}',
    "blank name": b'{"name": "  ", "price_cents": 1}',
    "negative price": b'{"name": "a", "price_cents": -1}',
    "broken price": b'{"name": "a", "price_cents": 1.5}',
    "price as text": b'{"name": "a", "price_cents": "1"}',
    "price as truth": b'{"name": "a", "price_cents": true}',
    "infinite price": b'{"name": "a", "price_cents": 1e400}',
    "endless price": b'{"name": "a", "price_cents": ' + b"9" * 5000 + b"}",
    "name is not a number": b'{"name": NaN, "price_cents": 1}',
    "unknown field": b'{"name": "a", "price_cents": 1, "more": 1}',
    "half a character": b'{"name": "\\ud800", "price_cents": 1}',
    "half a character as key": b'{"\\ud800": "a"}',
    "long name": json.dumps({"name": "a" * 101, "price_cents": 1}).encode(),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_item_is_refused(local_app: LocalApp, body: bytes) -> None:
    """An invalid item gets 422 and unreadable JSON 400, each with a one-line JSON problem and never a 500."""
    answer = await local_app.client.post("/items", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"] == "invalid" and "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("item_id", ["0", "-1", "abc", "1.5", str(2**63), "9" * 400])
async def test_malformed_id_is_422(local_app: LocalApp, item_id: str) -> None:
    """The app rejects an ID that no item can have before it asks the record."""
    assert (await local_app.client.get(f"/items/{item_id}")).status_code == 422


async def test_large_body_is_413(local_app: LocalApp) -> None:
    """The app stops reading a body after 64 KiB, with and without a Content-Length."""

    async def chunks() -> object:
        for _ in range(100):
            yield b" " * 1024

    answer = await local_app.client.post("/items", content=chunks(), headers={"content-type": "application/json"})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


async def test_unknown_path_and_method(local_app: LocalApp) -> None:
    """The answers 404 and 405 are JSON problems too."""
    answers = [await local_app.client.get("/nowhere"), await local_app.client.patch("/items/1")]
    assert [answer.status_code for answer in answers] == [404, 405]
    assert [answer.json()["error"] for answer in answers] == ["not_found", "method_not_allowed"]
