"""The event loop of the service: names are resolved in separate threads, in bounded time, and remembered.

A resolver that hangs would otherwise take all threads of the loop's default executor, which the store and the reload
of files need too.
"""

from __future__ import annotations

import asyncio
import errno
import selectors
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

log: Any = structlog.get_logger("remediator.runtime.event_loop")

TIMEOUT = 5.0
"""Seconds for one lookup."""
FRESH = 30.0
"""Seconds for which an answer is used again without asking."""
STALE = 3600.0
"""Seconds for which an old answer is used when the resolver does not answer."""
THREADS = 16
MAX_NAMES = 1024
REPORT_AGAIN = 30.0
"""Seconds between two reports that no connection can be accepted."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_Key = tuple[Any, ...]
_Answer = list[tuple[Any, ...]]


class ServiceLoop(asyncio.SelectorEventLoop):
    """An event loop that resolves names within :data:`TIMEOUT`."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self.set_default_executor(ThreadPoolExecutor(32, thread_name_prefix="work"))
        self._resolvers = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")
        self._running: dict[_Key, asyncio.Future[_Answer]] = {}
        self._answers: dict[_Key, tuple[float, _Answer]] = {}
        self._reported_at = -REPORT_AGAIN

    def call_exception_handler(self, context: Mapping[str, Any]) -> None:
        """Report an error of a callback; of those for connections that cannot be accepted, only one now and then."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _EXHAUSTED):
            super().call_exception_handler(dict(context))
        elif self.time() - self._reported_at >= REPORT_AGAIN:
            self._reported_at = self.time()
            log.warning("no connection can be accepted", message=error.strerror, fix="raise the limit (LimitNOFILE=)")

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> _Answer:
        """Return the addresses of a host.

        Raises:
            socket.gaierror: the name is unknown, or the resolver does not answer in time and never did.
        """
        try:  # an IP address needs no resolver
            return socket.getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        key = (host, port, family, type, proto, flags)
        known_at, known = self._answers.get(key, (-STALE, []))
        if known and self.time() - known_at < FRESH:
            return known
        try:
            async with asyncio.timeout(TIMEOUT):
                return await asyncio.shield(self._look_up(key))
        except (TimeoutError, socket.gaierror) as error:
            temporary = isinstance(error, TimeoutError) or error.errno == socket.EAI_AGAIN
            if known and temporary and self.time() - known_at < STALE:
                return known
            if isinstance(error, TimeoutError):
                text = f"the name {host!r} was not resolved within {TIMEOUT:g} s"
                raise socket.gaierror(socket.EAI_AGAIN, text) from None
            raise

    def _look_up(self, key: _Key) -> asyncio.Future[_Answer]:
        """Ask the resolver, once for all who wait for the same name."""
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= THREADS:
                raise socket.gaierror(socket.EAI_AGAIN, "the resolver does not answer, and no thread is free to ask it")
            running = self.run_in_executor(self._resolvers, _resolve, key)
            self._running[key] = running
            running.add_done_callback(lambda done: self._resolved(key, done))
        return running

    def _resolved(self, key: _Key, done: asyncio.Future[_Answer]) -> None:
        del self._running[key]
        if not done.cancelled() and done.exception() is None:
            if len(self._answers) >= MAX_NAMES:
                self._answers.pop(next(iter(self._answers)))
            self._answers[key] = (self.time(), done.result())

    def close(self) -> None:
        """Close the loop; do not wait for a resolver that hangs."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        super().close()


def _resolve(key: _Key) -> _Answer:
    return socket.getaddrinfo(*key)
