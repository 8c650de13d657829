"""The reference for ``bench.throughput``: DBOS workflows that check, fix and check again, eight at a time.

``python bench/dbos_peer.py URL COUNT DATABASE_URL``, run by an interpreter that has DBOS, prints seconds.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

THREADS = 8


def ready(url: str, target: str) -> bool:
    """Return whether the target is ready."""
    try:
        with urllib.request.urlopen(f"{url}/{target}/ready") as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def heal(url: str, target: str) -> int:
    """Fix the target."""
    request = urllib.request.Request(f"{url}/heal", json.dumps({"target": target}).encode())
    with urllib.request.urlopen(request) as answer:
        return int(answer.status)


def main() -> None:
    """Run all workflows and print their total time."""
    from dbos import DBOS  # type: ignore[import-not-found]  # noqa: PLC0415 - no dependency of ours

    url, count, database = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    ask, mend = DBOS.step()(ready), DBOS.step()(heal)

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    def recover(target: str) -> bool:
        ask(url, target)
        mend(url, target)
        return bool(ask(url, target))

    if database.startswith("sqlite"):
        with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    logging.disable(logging.WARNING)
    DBOS(config={"name": "bench", "system_database_url": database, "log_level": "WARNING"})
    DBOS.launch()
    assert recover("warm") is True
    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(recover, [f"d{number}" for number in range(count)]))
    print(time.perf_counter() - begun, flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
