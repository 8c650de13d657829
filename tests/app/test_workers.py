"""The app as gunicorn master with several uvicorn workers."""

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo import proc
from tests.support.servers import DEADLINE, until
from tests.support.servers.app import App
from tests.support.servers.redis import Redis

pytestmark = pytest.mark.long


@pytest.fixture
def running(app_server: App) -> Iterator[App]:
    app_server.start()
    until(lambda: figure(app_server, "app_workers") == 2, "both workers are there")
    yield app_server


def ask(server: App, path: str) -> httpx.Response:
    """Send a GET, and repeat it if the connection is lost: a worker that ends closes connections with unread data."""
    try:
        return httpx.get(server.url + path, timeout=DEADLINE)
    except httpx.RemoteProtocolError:
        return httpx.get(server.url + path, timeout=DEADLINE)


def figure(server: App, name: str, **labels: str) -> float:
    """Return the sum of all samples with this name and these labels."""
    text = ask(server, "/metrics").text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def hit_all(server: App, path: str, times: int) -> set[int]:
    """Send requests on separate connections, so that every worker gets some. Return the status codes."""
    return {httpx.get(server.url + path, timeout=DEADLINE).status_code for _ in range(times)}


def served_by(server: App) -> set[str]:
    return set(re.findall(r"app\.access pid=(\d+) GET /items", server.log))


def test_metrics_are_of_all_workers(running: App) -> None:
    """Every worker returns the sum over all workers in /metrics. The label of the route is a template, never a path."""
    rounds = 0
    while len(served_by(running)) < 2:
        rounds += 1
        assert rounds < 50, "one worker got no request in 1000"
        hit_all(running, "/items/1", 10)
        hit_all(running, "/items/2?x=1", 10)
    expected = 20 * rounds
    for _ in range(10):
        labels = {"route": "/items/{item_id}", "status": "404", "method": "GET"}
        assert figure(running, "http_request_duration_seconds_count", **labels) == expected
        assert figure(running, "cache_requests_total") == expected
    hit_all(running, "/wp-login.php", 1)
    text = httpx.get(f"{running.url}/metrics", timeout=DEADLINE).text
    assert "wp-login" not in text and "/items/1" not in text
    assert figure(running, "http_request_duration_seconds_count", route="unmatched") == 1


def test_metrics_survive_a_killed_worker(running: App) -> None:
    """After kill -9 of a worker, its counts stay, its gauges disappear, and a new worker replaces it."""
    hit_all(running, "/items/1", 20)
    counted = partial(figure, running, "http_request_duration_seconds_count", route="/items/{item_id}")
    until(lambda: counted() == 20, "what is counted after it was answered is counted")
    before = running.workers()
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(running.workers() - before) == 1, "a new worker")
    until(lambda: figure(running, "app_worker_starts_total") == 3, "three workers were started in all")
    until(lambda: figure(running, "app_workers") == 2, "two of them live")
    assert counted() == 20


def test_requests_of_killed_workers_are_no_longer_in_progress(running: App) -> None:
    """After two workers were killed, the gauge counts only requests of running workers."""
    httpx.put(f"{running.url}/faults", json={"latency_ms": 60_000}, timeout=DEADLINE)
    before = running.workers()
    with ThreadPoolExecutor() as threads:
        asked = [threads.submit(httpx.get, f"{running.url}/items", timeout=DEADLINE) for _ in range(3)]
        until(lambda: figure(running, "app_requests_in_progress") == 3, "three requests are in progress")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert all(isinstance(each.exception(), httpx.TransportError) for each in asked)
    until(lambda: len(running.workers() - before) == 2, "two new workers")
    until(lambda: figure(running, "app_requests_in_progress") == 0, "no request is in progress")


def test_metrics_survive_an_empty_file_of_a_killed_worker(running: App) -> None:
    """If a killed worker leaves an empty metrics file, /metrics still works."""
    (running.folder / "state" / "metrics" / str(running.pid) / "counter_1.db").touch()
    assert hit_all(running, "/metrics", 5) == {200}


def test_ttin_ttou_hup(running: App) -> None:
    """The pid file has the pid of the master. TTIN and TTOU change the number of workers. HUP replaces them all."""
    assert int((running.folder / "state" / "app.pid").read_text()) == running.pid
    running.signal(signal.SIGTTIN)
    until(lambda: figure(running, "app_workers") == 3, "TTIN adds a worker")
    running.signal(signal.SIGTTOU)
    until(lambda: figure(running, "app_workers") == 2, "TTOU takes one away")
    before = running.workers()
    running.signal(signal.SIGHUP)
    until(lambda: not running.workers() & before, "HUP replaces the workers")
    until(lambda: figure(running, "app_workers") == 2, "HUP keeps the number of workers")
    assert hit_all(running, "/items", 5) == {200}


def test_same_workers_survive_an_outage(running: App, redis_server: Redis) -> None:
    """While Redis is killed, then hung, then running again, each request gets its 200 from the same processes."""
    lamp = {"name": "lamp", "price_cents": 1}
    item = httpx.post(f"{running.url}/items", json=lamp, timeout=DEADLINE).headers["location"]
    before = running.workers()
    for away, back in ((redis_server.kill, redis_server.start), (redis_server.pause, redis_server.resume)):
        until(lambda: httpx.get(running.url + item, timeout=DEADLINE).headers["x-cache"] == "hit", "hits")
        away()
        answers = [httpx.get(running.url + item, timeout=DEADLINE) for _ in range(20)]
        assert {(answer.status_code, answer.headers["x-degraded"]) for answer in answers} == {(200, "redis")}
        back()
    until(lambda: figure(running, "app_redis_up") == 1, "every worker reaches Redis")
    assert running.workers() == before


def test_release_and_start_time_are_shown(app_server: App) -> None:
    """app_build_info has the running release.

    The start time is that of the master: a new worker does not change it.
    """
    (app_server.folder / "RELEASE").write_text("1.4.2\n")
    app_server.start()
    until(lambda: figure(app_server, "app_workers") == 2, "both workers are there")
    assert figure(app_server, "app_build_info", release="1.4.2") == 1
    started = figure(app_server, "app_start_time_seconds")
    os.kill(min(app_server.workers()), signal.SIGKILL)
    until(lambda: figure(app_server, "app_worker_starts_total") == 3, "a new worker")
    assert figure(app_server, "app_start_time_seconds") == started


def test_service_crash_ends_everything(running: App) -> None:
    """The fault `crash: service` ends master and workers with a status that supervisord reports as unexpected."""
    httpx.put(f"{running.url}/faults", json={"crash": "service"}, timeout=DEADLINE)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{running.url}/items", timeout=DEADLINE)
    assert running.wait() == 3


def test_worker_crash_is_replaced(running: App) -> None:
    """The fault `crash: worker` ends one worker per request, and the service continues."""
    httpx.put(f"{running.url}/faults", json={"crash": "worker"}, timeout=DEADLINE)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{running.url}/items", timeout=DEADLINE)
    until(lambda: figure(running, "app_worker_starts_total") == 3, "a new worker")
    httpx.delete(f"{running.url}/faults", timeout=DEADLINE)
    until(lambda: hit_all(running, "/items", 1) == {200}, "the service answers again")


def test_release_that_misses_a_module_does_not_start(app_server: App) -> None:
    """If a release lacks a module, the app ends at start, and its log has the traceback that the runbook quotes."""
    (app_server.folder / "release.toml").write_text('modules = ["prices_client"]\n')
    app_server.launch()
    assert app_server.wait() in (1, 3)  # gunicorn: 3, or 1 if a second worker fails during the stop
    assert "Traceback" in app_server.log
    assert "ModuleNotFoundError: No module named 'prices_client'" in app_server.log


def test_release_that_misses_a_variable_does_not_start(app_server: App) -> None:
    """If a release requires a variable, the app does not start without it, and one line names the variable."""
    (app_server.folder / "RELEASE").write_text("1.5.0\n")
    (app_server.folder / "release.toml").write_text('requires = ["PRICES_URL"]\n')
    app_server.launch()
    assert app_server.wait() == 78
    assert app_server.log == "ERROR app.settings PRICES_URL: required by release 1.5.0, not set\n"
    (app_server.folder / ".env").write_text("PRICES_URL=http://127.0.0.1:1\n")
    app_server.start()


def test_faults_in_production_do_not_start(app_server: App) -> None:
    """With SHOP_FAULTS_ENABLED and SHOP_APP_ENV=production, the app ends at start with one line."""
    app_server.variables["SHOP_APP_ENV"] = "production"
    app_server.launch()
    assert app_server.wait() == 78
    assert app_server.log == "ERROR app.settings SHOP_FAULTS_ENABLED must be false when SHOP_APP_ENV is production\n"


def test_sigterm_ends_the_app_with_status_0(running: App) -> None:
    """After SIGTERM, the app exits with status 0, logs no traceback, and leaves no folder of metrics."""
    hit_all(running, "/items", 5)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "Traceback" not in running.log
    assert list((running.folder / "state" / "metrics").iterdir()) == []


def test_killed_master_ends_its_workers(running: App) -> None:
    """After kill -9 of the master, no process holds the port, so the app can be started again."""
    workers = running.workers()
    running.kill()
    until(lambda: not any(proc.alive(pid) for pid in workers), "no worker outlives its master")
    running.start()
    assert httpx.get(running.url + "/livez", timeout=DEADLINE).status_code == 200
