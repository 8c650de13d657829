"""The link to Redis: every call is bounded in time, and while Redis is away no call is made at all.

The first call that finds Redis gone breaks the circuit. From then on callers are told so at once; only the monitor
knocks, in the background, and closes the circuit when Redis answers. So a dead Redis costs one refused connection, a
hung one costs the calls in flight one timeout, and no user's request is ever spent on finding out.
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

# The first class that fits names the kind of an error: from special to general.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "auth"),
    (exceptions.BusyLoadingError, "loading"),
    (exceptions.TimeoutError, "timeout"),
    (exceptions.ConnectionError, "connection"),
    (exceptions.ReadOnlyError, "readonly"),
    (exceptions.OutOfMemoryError, "oom"),
)
BREAKING = frozenset({"auth", "loading", "timeout", "connection"})
LOG_PERIOD = 5.0


class RedisUnavailableError(Exception):
    """Redis was not asked or did not do it; `kind` is one of KINDS, `misconf` or `refused`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class RedisLink:
    """One per worker. It is made in the belief that Redis is there; the monitor keeps that belief true."""

    def __init__(self, client: Redis, timeout: float, metrics: Metrics) -> None:
        self._client = client
        self._timeout = timeout
        self._metrics = metrics
        self._throttle = Throttle(LOG_PERIOD)
        self._trouble: RedisUnavailableError | None = None
        self._since: datetime | None = None
        self.broken = asyncio.Event()

    @property
    def up(self) -> bool:
        return self._trouble is None

    @property
    def trouble(self) -> str | None:
        """Why and since when Redis is away, in a sentence; None while it is there."""
        return f"{self._trouble} (since {self._since:%Y-%m-%dT%H:%M:%SZ})" if self._trouble else None

    async def call(self, operation: str, command: Callable[[Redis], Awaitable[T]], *, knock: bool = False) -> T:
        """Does `command`. Raises RedisUnavailableError within the timeout, or at once while the circuit is broken.

        `knock` asks Redis even then: that is for the monitor alone.
        """
        if self._trouble and not knock:
            raise RedisUnavailableError(self._trouble.kind, str(self._trouble))
        try:
            async with asyncio.timeout(self._timeout):
                return await command(self._client)
        except TimeoutError:
            late = exceptions.TimeoutError(f"no answer within {self._timeout} s")
            raise self._failed(operation, late) from late
        except (exceptions.RedisError, OSError) as error:
            raise self._failed(operation, error) from error

    def break_off(self, reason: RedisUnavailableError) -> None:
        """Breaks the circuit: from now on `call` refuses at once."""
        if self._trouble is None:
            self._since = datetime.now(UTC)
            self._metrics.redis_up.set(0)
            self.broken.set()
        self._trouble = reason

    def mend(self) -> None:
        """Closes the circuit: Redis has answered."""
        if self._trouble is not None:
            log.warning("Redis is back", extra=fields(away_since=self._since))
        self._trouble = None
        self._metrics.redis_up.set(1)
        self.broken.clear()

    async def close(self) -> None:
        await self._client.aclose()

    def _failed(self, operation: str, error: Exception) -> RedisUnavailableError:
        kind = kind_of(error)
        detail = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        self._metrics.redis_errors.labels(operation, kind).inc()
        held = self._throttle.held_back((operation, kind))
        if held is not None:
            more = fields(operation=operation, kind=kind, suppressed=held or None)
            log.error("Redis connection not available. %s", detail, extra=more)
        unavailable = RedisUnavailableError(kind, detail)
        if kind in BREAKING:
            self.break_off(unavailable)
        return unavailable


def kind_of(error: Exception) -> str:
    """The kind of a Redis error, from a closed list: it is a metric label."""
    for cls, kind in KINDS:
        if isinstance(error, cls):
            return kind
    if isinstance(error, OSError):
        return "connection"
    return "misconf" if str(error).startswith("MISCONF") else "refused"


def connect(settings: Settings) -> Redis:
    """A client that has not connected yet. It never retries: a bounded call is better repeated by who knows why."""
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
