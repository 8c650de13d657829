"""The metrics of the app. Under gunicorn, each answer sums the metrics of all workers, live and dead."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

import app

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STARTED_AT = "APP_STARTED_AT"
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """All metrics. `http_request_duration_seconds_count` is the number of requests."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "http_request_duration_seconds",
            "Duration of requests, by route template",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.cache_requests = Counter(
            "cache_requests", "Reads of items, by result: hit, miss, bypass", ["result"], registry=registry
        )
        self.record_loads = Counter(
            "record_loads", "Items loaded from SQLite because of a miss or bypass", registry=registry
        )
        self.redis_errors = Counter("redis_errors", "Failed Redis operations", ["operation", "kind"], registry=registry)
        self.sessions = Counter(
            "sessions", "Sessions, by event: login, logout, unknown, unavailable", ["event"], registry=registry
        )
        self.redis_up = Gauge(
            "app_redis_up", "1 when every worker reaches Redis", registry=registry, multiprocess_mode="livemin"
        )
        self.in_progress = Gauge(
            "app_requests_in_progress",
            "Requests that the workers serve now, without health and metrics",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.memory = Gauge(
            "app_resident_memory_bytes",
            "Resident memory of all workers",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._workers = Gauge("app_workers", "Live workers", registry=registry, multiprocess_mode="livesum")
        self._worker_starts = Counter("app_worker_starts", "Workers started", registry=registry)
        self._started = Gauge(
            "app_start_time_seconds", "Start time of the master", registry=registry, multiprocess_mode="livemax"
        )
        self._build = Gauge(
            "app_build_info",
            "Version and release; the value is always 1",
            ["version", "release"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def begin(self, release: str, now: float) -> None:
        """Record the start of this worker. `now` is Unix time in seconds."""
        for result in ("hit", "miss", "bypass"):
            self.cache_requests.labels(result)
        self._workers.set(1)
        self._worker_starts.inc()
        self._started.set(float(os.environ.get(STARTED_AT, now)))
        self._build.labels(app.__version__, release).set(1)
        self.measure_memory()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. `route` is a template such as `/items/{item_id}`, never a path."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).observe(seconds)

    def measure_memory(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.set(pages * os.sysconf("SC_PAGE_SIZE"))

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format. This reads files, so call it outside the event loop."""
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self.registry)
        whole = CollectorRegistry()
        whole.register(_Workers(Path(os.environ[MULTIPROCESS_DIR])))
        return generate_latest(whole)


class _Workers(Collector):
    """Collect the files of all workers, except empty ones.

    A worker creates its files before it fills them, and the library treats an empty file as corrupt
    (prometheus/client_python issue 1199). If the worker is killed at that moment, the file stays empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._folder.glob("*.db") if _size(file)]
        return cast(Iterable[Metric], MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # gauges of a dead worker, removed in the meantime
        return 0
