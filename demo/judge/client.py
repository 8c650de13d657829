"""A client of the app that counts its failed requests per second."""

from __future__ import annotations

import http.client
import threading
import time
from typing import Self

_PAUSE = 0.1
_PATIENCE = 3.0


class Client:
    """A client that sends ten requests a second through nginx, and records the time and success of each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._answers: list[tuple[float, bool]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def count(self, since: float, until: float) -> tuple[int, int]:
        """Return the failed requests and all requests between two times of the monotonic clock."""
        found = [well for at, well in list(self._answers) if since <= at < until]
        return found.count(False), len(found)

    def share(self, since: float, until: float) -> float:
        """Return the share of failed requests between two times, from 0 to 1, and 0 without requests."""
        failed, total = self.count(since, until)
        return failed / total if total else 0.0

    def _run(self) -> None:
        while not self._end.wait(_PAUSE):
            self._answers.append((time.monotonic(), self._ask()))

    def _ask(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        try:
            connection.request("GET", "/items/1", headers={"X-Client": "judge"})
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
