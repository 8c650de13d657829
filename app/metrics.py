"""What the app measures. Under gunicorn the figures of all workers, living and dead, are summed by each answer."""

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
    """The instruments. `http_request_duration_seconds_count` is also the count of requests: there is no other."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "http_request_duration_seconds",
            "Time to answer, by route template",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.cache_requests = Counter(
            "cache_requests", "Reads of items, by what the cache did: hit, miss, bypass", ["result"], registry=registry
        )
        self.record_loads = Counter("record_loads", "Items loaded from the record for a read", registry=registry)
        self.redis_errors = Counter(
            "redis_errors", "Redis operations that failed", ["operation", "kind"], registry=registry
        )
        self.sessions = Counter(
            "sessions", "Sessions, by event: login, logout, unknown, unavailable", ["event"], registry=registry
        )
        self.redis_up = Gauge(
            "app_redis_up", "1 when every worker reaches Redis", registry=registry, multiprocess_mode="livemin"
        )
        self.memory = Gauge(
            "app_resident_memory_bytes", "Memory of all workers", registry=registry, multiprocess_mode="livesum"
        )
        self._workers = Gauge("app_workers", "Living workers", registry=registry, multiprocess_mode="livesum")
        self._worker_starts = Counter("app_worker_starts", "Workers started", registry=registry)
        self._started = Gauge(
            "app_start_time_seconds", "When the service started", registry=registry, multiprocess_mode="livemax"
        )
        self._build = Gauge(
            "app_build_info",
            "Always 1; the labels say what runs",
            ["version", "release"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def begin(self, release: str, now: float) -> None:
        """Says that this worker has started; `now` is in seconds since the epoch."""
        for result in ("hit", "miss", "bypass"):
            self.cache_requests.labels(result)
        self._workers.set(1)
        self._worker_starts.inc()
        self._started.set(float(os.environ.get(STARTED_AT, now)))
        self._build.labels(app.__version__, release).set(1)
        self.measure_memory()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answered request; `route` is a template such as `/items/{item_id}`, never a path."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).observe(seconds)

    def measure_memory(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.set(pages * os.sysconf("SC_PAGE_SIZE"))

    def render(self) -> bytes:
        """All figures in Prometheus' text format. Reads files: call it off the event loop."""
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self.registry)
        whole = CollectorRegistry()
        whole.register(_Workers(Path(os.environ[MULTIPROCESS_DIR])))
        return generate_latest(whole)


class _Workers(Collector):
    """All workers' files but the empty ones: a worker makes its files before it sizes them, and the library takes an
    empty one for a broken one (prometheus/client_python issue 1199), for ever if the worker was killed right then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._folder.glob("*.db") if _size(file)]
        return cast(Iterable[Metric], MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # a dead worker's gauges, removed meanwhile
        return 0
