"""Fixtures: the app in the test's process or as gunicorn workers, with a real Redis."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import redis
from fastapi import FastAPI

from app.main import create_app
from app.services import Services
from app.settings import Settings
from tests.support.servers.app import App, MakeApp
from tests.support.servers.redis import MakeRedis, Redis


class LocalApp:
    """The app in the test's process, as one worker runs it, with an HTTP client for it."""

    def __init__(self, api: FastAPI, client: httpx.AsyncClient) -> None:
        self.client = client
        self.parts: Services = api.state.services

    async def new_item(self, name: str = "lamp", price_cents: int = 1999) -> int:
        response = await self.client.post("/items", json={"name": name, "price_cents": price_cents})
        assert response.status_code == 201, response.text
        item_id: int = response.json()["id"]
        return item_id

    async def cached(self, item_id: int) -> str:
        """Read an item once more and return the header X-Cache."""
        return (await self.client.get(f"/items/{item_id}")).headers["x-cache"]

    def figure(self, name: str, **labels: str) -> float:
        """Return one sample of this worker's metrics, 0.0 if there is none."""
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def redis_server(make_redis: MakeRedis) -> Redis:
    """Return a Redis with an append-only file: its data survives a kill."""
    return make_redis("appendonly yes", password="opensesame")


def connect(server: Redis) -> redis.Redis:
    """Return a client of the server, for use in a `with` statement."""
    return redis.Redis(port=server.port, password=server.password, socket_timeout=60)


def settings_for(server: Redis, folder: Path, **changes: object) -> Settings:
    """Return settings for a local app. The Redis timeout is long, so a slow machine does not look like an outage."""
    values: dict[str, object] = {
        "app_env": "test",
        "app_state_dir": folder / "state",
        "release_dir": folder,
        "redis_port": server.port,
        "redis_password": server.password,
        "redis_timeout": 5,
    }
    return Settings(_env_file=None, **(values | changes))  # type: ignore[call-arg, arg-type]


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[LocalApp]:
    """Run the app from start-up to shutdown. Several apps with one state folder behave like several workers."""
    api = create_app(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(api.router.lifespan_context(api))
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://app"))
        yield LocalApp(api, client)


@pytest.fixture
async def local_app(redis_server: Redis, tmp_path: Path) -> AsyncIterator[LocalApp]:
    async with running_app(settings_for(redis_server, tmp_path)) as app:
        yield app


@pytest.fixture
def app_server(make_app: MakeApp, redis_server: Redis) -> App:
    """Return the app as two gunicorn workers with faults enabled, not yet started, so a test can set `variables`."""
    return make_app(redis_server, start=False, SHOP_WEB_CONCURRENCY="2", SHOP_FAULTS_ENABLED="true")
