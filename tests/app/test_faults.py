"""Faults can be set and removed for all workers, but only if SHOP_FAULTS_ENABLED is set."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.app.conftest import LocalApp, running_app, settings_for
from tests.support.servers.redis import Redis


@pytest.fixture
async def faulty(redis_server: Redis, tmp_path: Path) -> AsyncIterator[tuple[LocalApp, LocalApp]]:
    """Run two workers with one state folder and faults enabled."""
    settings = settings_for(redis_server, tmp_path, faults_enabled=True)
    async with running_app(settings) as first, running_app(settings) as second:
        yield first, second


async def test_no_route_without_the_setting(local_app: LocalApp) -> None:
    """Without SHOP_FAULTS_ENABLED, /faults does not exist, and an old faults file has no effect."""
    board = local_app.parts.faults
    (local_app.parts.settings.state_dir / "faults.json").write_text('{"error_rate": 1}')
    assert (await local_app.client.put("/faults", json={"error_rate": 1})).status_code == 404
    assert (await local_app.client.get("/items")).status_code == 200
    assert not board.enabled


async def test_errors_apply_to_every_worker_until_they_are_deleted(faulty: tuple[LocalApp, LocalApp]) -> None:
    """A PUT at one worker makes both fail, and a DELETE ends the errors at both. Health and metrics never fail."""
    first, second = faulty
    assert (await first.client.put("/faults", json={"error_rate": 1})).status_code == 200
    for app in faulty:
        assert (await app.client.get("/items")).status_code == 500
        assert (await app.client.post("/login", json={"username": "ada"})).status_code == 500
        assert [(await app.client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
    assert (await second.client.delete("/faults")).status_code == 204
    for app in faulty:
        assert (await app.client.get("/items")).status_code == 200
        assert "app_requests_in_progress 0.0" in (await app.client.get("/metrics")).text


async def test_error_rate_is_a_share(faulty: tuple[LocalApp, LocalApp]) -> None:
    """An error rate of one half fails about half of the requests."""
    first, _ = faulty
    await first.client.put("/faults", json={"error_rate": 0.5})
    failed = [(await first.client.get("/items")).status_code == 500 for _ in range(200)]
    assert 60 < sum(failed) < 140  # less than one in ten million runs falls outside


async def test_the_latency_fault_delays_every_request(faulty: tuple[LocalApp, LocalApp]) -> None:
    """The latency fault delays every request, and delayed requests run concurrently."""
    first, _ = faulty
    await first.client.put("/faults", json={"latency_ms": 2000})
    begin = time.monotonic()
    await asyncio.gather(*(first.client.get("/items") for _ in range(10)))
    assert 2 <= time.monotonic() - begin < 12  # in sequence, they would take 20


async def test_leaked_memory_is_in_the_memory_gauge(faulty: tuple[LocalApp, LocalApp]) -> None:
    """Leaked memory is resident, so the gauge that an alert watches shows it."""
    first, _ = faulty
    first.parts.metrics.measure_memory()
    before = first.figure("app_resident_memory_bytes")
    await first.client.put("/faults", json={"leak_bytes": 64 * 2**20})
    for _ in range(4):
        await first.client.get("/items")
    first.parts.metrics.measure_memory()
    grown = first.figure("app_resident_memory_bytes") - before
    assert grown > 128 * 2**20, "of 256; the collector may give others back meanwhile"


async def test_faults_of_a_release_stay(redis_server: Redis, tmp_path: Path) -> None:
    """DELETE removes faults that a PUT set, but not the faults of the release. Only another release ends those."""
    (tmp_path / "release.toml").write_text("[faults]\nerror_rate = 1.0\n")
    async with running_app(settings_for(redis_server, tmp_path, faults_enabled=True)) as app:
        await app.client.put("/faults", json={"latency_ms": 1})
        assert (await app.client.get("/faults")).json() == {
            "error_rate": 1.0, "latency_ms": 1, "leak_bytes": 0, "crash": "no",
        }  # fmt: skip
        await app.client.delete("/faults")
        assert (await app.client.get("/items")).status_code == 500


@pytest.mark.parametrize("body", [{"error_rate": 2}, {"latency_ms": -1}, {"crash": "host"}, {"unknown": 1}, []])
async def test_malformed_faults_are_refused(faulty: tuple[LocalApp, LocalApp], body: object) -> None:
    """An unknown fault or a value out of range gets 422 and changes nothing."""
    first, _ = faulty
    assert (await first.client.put("/faults", json=body)).status_code == 422
    assert not first.parts.faults.current().any()


async def test_full_worker_refuses(redis_server: Redis, tmp_path: Path) -> None:
    """A worker with SHOP_MAX_IN_FLIGHT requests answers 503 at once. Its health endpoint answers, and it recovers."""
    async with running_app(settings_for(redis_server, tmp_path, faults_enabled=True, max_in_flight=2)) as app:
        await app.client.put("/faults", json={"latency_ms": 3000})
        answers = asyncio.gather(*(app.client.get("/items") for _ in range(5)))
        while app.figure("app_requests_in_progress") < 2:
            assert not answers.done(), "the requests in progress were never counted"
            await asyncio.sleep(0.01)
        assert "app_requests_in_progress 2.0" in (await app.client.get("/metrics")).text
        assert (await app.client.get("/readyz")).status_code == 200
        assert sorted(answer.status_code for answer in await answers) == [200, 200, 503, 503, 503]
        assert {answer.json()["error"] for answer in await answers if answer.status_code == 503} == {"overloaded"}
        await app.client.delete("/faults")
        assert (await app.client.get("/items")).status_code == 200
