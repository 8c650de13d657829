"""The connection to Redis with a circuit breaker: every call has a timeout, and while Redis is down no call is made.

The first call that fails opens the circuit. While it is open, callers get an error at once. Only the monitor probes
Redis in the background, and closes the circuit when Redis answers. A dead Redis costs one refused connection. A hung
one costs the calls in progress one timeout. No request of a user is spent on probing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.logs import Throttle, fields
from app.metrics import Metrics
from app.settings import Settings

T = TypeVar("T")
log = logging.getLogger("app.redis")

# The first matching class gives the kind of an error: from special to general.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "auth"),
    (exceptions.BusyLoadingError, "loading"),
    (exceptions.TimeoutError, "timeout"),
    (exceptions.ConnectionError, "connection"),
    (exceptions.ReadOnlyError, "readonly"),
    (exceptions.OutOfMemoryError, "oom"),
)
OPENING = frozenset({"auth", "loading", "timeout", "connection"})
LOG_PERIOD = 5.0


class RedisUnavailableError(Exception):
    """Redis was not called, or the call failed. `kind` is one of KINDS, `misconf` or `refused`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class RedisLink:
    """The circuit breaker; one per worker. It starts closed, and the monitor keeps it up to date."""

    def __init__(self, client: Redis, timeout: float, metrics: Metrics) -> None:
        self._client = client
        self._timeout = timeout
        self._metrics = metrics
        self._throttle = Throttle(LOG_PERIOD)
        self._failure: RedisUnavailableError | None = None
        self._since: datetime | None = None
        self.opened = asyncio.Event()

    @property
    def up(self) -> bool:
        return self._failure is None

    @property
    def problem(self) -> str | None:
        """Why and since when Redis is down, or None while it is up."""
        return f"{self._failure} (since {self._since:%Y-%m-%dT%H:%M:%SZ})" if self._failure else None

    async def call(self, operation: str, command: Callable[[Redis], Awaitable[T]], *, probe: bool = False) -> T:
        """Run `command`. Raise RedisUnavailableError within the timeout, or at once while the circuit is open.

        With `probe`, Redis is called even then. Only the monitor does this.
        """
        if self._failure and not probe:
            raise RedisUnavailableError(self._failure.kind, str(self._failure))
        try:
            async with asyncio.timeout(self._timeout):
                return await command(self._client)
        except TimeoutError:
            late = exceptions.TimeoutError(f"no answer within {self._timeout} s")
            raise self._failed(operation, late) from late
        except (exceptions.RedisError, OSError) as error:
            raise self._failed(operation, error) from error

    def open_circuit(self, reason: RedisUnavailableError) -> None:
        """Open the circuit: from now on, `call` fails at once."""
        if self._failure is None:
            self._since = datetime.now(UTC)
            self._metrics.redis_up.set(0)
            self.opened.set()
        self._failure = reason

    def close_circuit(self) -> None:
        """Close the circuit, after Redis has answered."""
        if self._failure is not None:
            log.warning("Redis is available again", extra=fields(down_since=self._since))
        self._failure = None
        self._metrics.redis_up.set(1)
        self.opened.clear()

    async def close(self) -> None:
        await self._client.aclose()

    def _failed(self, operation: str, error: Exception) -> RedisUnavailableError:
        kind = kind_of(error)
        detail = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        self._metrics.redis_errors.labels(operation, kind).inc()
        suppressed = self._throttle.suppressed_before((operation, kind))
        if suppressed is not None:
            more = fields(operation=operation, kind=kind, suppressed=suppressed or None)
            log.error("Redis connection not available. %s", detail, extra=more)
        unavailable = RedisUnavailableError(kind, detail)
        if kind in OPENING:
            self.open_circuit(unavailable)
        return unavailable


def kind_of(error: Exception) -> str:
    """Return the kind of a Redis error, from a closed list, since it becomes a metric label."""
    for cls, kind in KINDS:
        if isinstance(error, cls):
            return kind
    if isinstance(error, OSError):
        return "connection"
    return "misconf" if str(error).startswith("MISCONF") else "refused"


def connect(settings: Settings) -> Redis:
    """Return a client that connects at its first call. It never retries; the caller decides on that."""
    pool = BlockingConnectionPool(
        host=settings.redis_host,
        port=settings.redis_port,
        db=settings.redis_db,
        password=settings.redis_secret(),
        max_connections=settings.max_in_flight + 2,
        timeout=settings.redis_timeout,
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=False,
    )
    return Redis.from_pool(pool)
