"""Without Redis, the app serves items from the record, reports the outage, stays fast, and recovers automatically."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.app.conftest import LocalApp, connect, running_app, settings_for
from tests.support.servers import DEADLINE
from tests.support.servers.redis import Redis

TIMEOUT = 3.0
FEW = 10 * TIMEOUT
"""Seconds: far fewer than if each of these requests waited for a timeout, and enough for a busy machine."""


async def wait_for_header(app: LocalApp, item_id: int, value: str) -> None:
    async with asyncio.timeout(DEADLINE):
        while await app.cached(item_id) != value:
            await asyncio.sleep(0.02)


async def test_killed_redis_is_survived(redis_server: Redis, tmp_path: Path) -> None:
    """After kill -9 of Redis, items come from the record at once, marked as degraded. Hits return without a restart."""
    async with running_app(settings_for(redis_server, tmp_path, redis_timeout=TIMEOUT)) as app:
        item_id = await app.new_item()
        await wait_for_header(app, item_id, "hit")
        redis_server.kill()
        begin = time.monotonic()
        answers = [await app.client.get(f"/items/{item_id}") for _ in range(40)]
        assert time.monotonic() - begin < FEW
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-cache"] for answer in answers} == {"bypass"}
        assert {answer.headers["x-degraded"] for answer in answers} == {"redis"}
        assert app.figure("app_redis_up") == 0
        redis_server.start()
        await wait_for_header(app, item_id, "hit")
        assert "x-degraded" not in (await app.client.get(f"/items/{item_id}")).headers
        assert app.figure("app_redis_up") == 1


async def test_hung_redis_costs_one_timeout(redis_server: Redis, tmp_path: Path) -> None:
    """When Redis hangs, all readers in flight wait for one timeout, and later readers do not wait."""
    async with running_app(settings_for(redis_server, tmp_path, redis_timeout=TIMEOUT)) as app:
        item_id = await app.new_item()
        await wait_for_header(app, item_id, "hit")
        redis_server.pause()
        begin = time.monotonic()
        first = await asyncio.gather(*(app.client.get(f"/items/{item_id}") for _ in range(30)))
        assert time.monotonic() - begin < FEW
        begin = time.monotonic()
        later = [await app.client.get(f"/items/{item_id}") for _ in range(100)]
        assert time.monotonic() - begin < FEW
        assert {answer.headers["x-cache"] for answer in [*first, *later]} == {"bypass"}
        redis_server.resume()
        await wait_for_header(app, item_id, "hit")


async def test_write_during_an_outage_is_seen_after_it(redis_server: Redis, tmp_path: Path) -> None:
    """When Redis returns with old copies, the app invalidates the changed items before it uses Redis again."""
    async with running_app(settings_for(redis_server, tmp_path)) as app:
        item_id = await app.new_item("old")
        await wait_for_header(app, item_id, "hit")
        redis_server.kill()
        written = await app.client.put(f"/items/{item_id}", json={"name": "new", "price_cents": 2})
        assert (written.status_code, written.headers["x-degraded"]) == (200, "redis")
        redis_server.start()
        async with asyncio.timeout(DEADLINE):
            while (answer := await app.client.get(f"/items/{item_id}")).headers["x-cache"] != "hit":
                assert answer.json()["name"] == "new"
        assert answer.json()["name"] == "new"
        assert await app.parts.records.stale(1) == []


async def test_another_worker_invalidates_the_change_of_a_dead_writer(redis_server: Redis, tmp_path: Path) -> None:
    """If a worker dies between commit and invalidation, another worker finds the marker and invalidates the copy."""
    async with running_app(settings_for(redis_server, tmp_path)) as app:
        item_id = await app.new_item("old")
        await wait_for_header(app, item_id, "hit")
        draft = (await app.client.get(f"/items/{item_id}")).json()
        assert draft["name"] == "old"
        await app.parts.records.delete(item_id)
        async with asyncio.timeout(DEADLINE):
            while (await app.client.get(f"/items/{item_id}")).status_code != 404:
                await asyncio.sleep(0.05)


async def test_app_starts_without_redis(redis_server: Redis, tmp_path: Path) -> None:
    """The app starts without Redis and uses it when it becomes available."""
    redis_server.stop()
    async with running_app(settings_for(redis_server, tmp_path)) as app:
        item_id = await app.new_item()
        assert await app.cached(item_id) == "bypass"
        redis_server.start()
        await wait_for_header(app, item_id, "hit")


async def test_sessions_answer_503_without_redis(redis_server: Redis, tmp_path: Path) -> None:
    """Without Redis, login, logout and /me answer 503 with a reason in JSON and a Retry-After."""
    async with running_app(settings_for(redis_server, tmp_path)) as app:
        await app.client.post("/login", json={"username": "ada"})
        redis_server.kill()
        answers = [
            await app.client.get("/me"),
            await app.client.post("/login", json={"username": "ada"}),
            await app.client.post("/logout"),
        ]
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert {answer.json()["error"] for answer in answers} == {"sessions_unavailable"}
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        assert "session_id" in app.client.cookies
        assert app.figure("sessions_total", event="unavailable") == 3
        redis_server.start()
        async with asyncio.timeout(DEADLINE):
            while (await app.client.get("/me")).status_code != 200:
                await asyncio.sleep(0.02)


async def test_wrong_password_is_named(redis_server: Redis, tmp_path: Path) -> None:
    """With a wrong Redis password, readiness and the error count name the password, and the app keeps running."""
    async with running_app(settings_for(redis_server, tmp_path, redis_password="wrong")) as app:
        ready = await app.client.get("/readyz")
        assert ready.status_code == 503
        assert "AuthenticationError" in ready.json()["parts"]["redis"]["detail"]
        assert app.figure("redis_errors_total", operation="ping", kind="auth") >= 1
        item_id = await app.new_item()
        assert await app.cached(item_id) == "bypass"


async def test_a_redis_that_refuses_writes_is_not_ready(local_app: LocalApp, redis_server: Redis) -> None:
    """When Redis is full and still answers PING, the app serves items, and readiness names the problem."""
    item_id = await local_app.new_item()
    with connect(redis_server) as client:
        client.config_set("maxmemory", 1)
        assert await local_app.cached(item_id) == "bypass"
        ready = await local_app.client.get("/readyz")
        client.config_set("maxmemory", 0)
    assert (ready.status_code, ready.json()["missing"]) == (503, ["redis"])
    assert local_app.figure("redis_errors_total", operation="ready", kind="oom") == 1
    assert await local_app.cached(item_id) == "miss"


async def test_readiness_names_redis(local_app: LocalApp, redis_server: Redis) -> None:
    """/readyz answers 200 with Redis, and without Redis a 503 that names Redis. /livez answers 200 in both cases."""
    assert (await local_app.client.get("/readyz")).json()["ready"] is True
    redis_server.kill()
    ready = await local_app.client.get("/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, ["redis"])
    assert "redis.exceptions.ConnectionError" in ready.json()["parts"]["redis"]["detail"]
    assert (await local_app.client.get("/livez")).status_code == 200


async def test_log_names_a_problem_once(
    local_app: LocalApp, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the text that the runbook searches for, once per kind of event and not once per request."""
    item_id = await local_app.new_item()
    redis_server.kill()
    for _ in range(50):
        await local_app.cached(item_id)
    lines = [line for line in caplog.messages if "Redis connection not available. redis.exceptions" in line]
    assert 1 <= len(lines) <= 3  # one line for "get" and one for the "ping" of the monitor


async def test_readiness_names_the_record(local_app: LocalApp) -> None:
    """If the record is unreadable, readiness names it, and requests that need it get 503 instead of 500."""
    await local_app.new_item()
    await local_app.parts.records._run(lambda connection: connection.execute("ALTER TABLE item RENAME TO lost"))
    ready = await local_app.client.get("/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, ["record"])
    answer = await local_app.client.get("/items")
    assert (answer.status_code, answer.json()["error"]) == (503, "record_unavailable")
