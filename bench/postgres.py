"""Measure the service on PostgreSQL: ``python -m bench.postgres [--json] [--dbos PYTHON]``

The bench measures durable ingest with 1, 2 and 4 replicas, the reaction through a proxy that delays each answer by 1
ms, and complete runs per second against DBOS. It starts a PostgreSQL from Debian's packages that fsyncs each commit.
Without these packages it measures nothing and says so. The proxy also counts round trips: how often the service sent
data after an answer of the server. Goals: from the 2xx to the action at most 5 round trips, and at least 1.5 times as
many runs as DBOS workflows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from bench.ingest import _bare, _script
from bench.measure import ROOT, free_port, percentiles_ms, wrk
from bench.recovery import Patients, _notification, _post, _remediator, _until
from bench.throughput import theirs
from tests.support.servers.postgres import Postgres

LATENCY = 0.001
REPLICAS = (1, 2, 4)
CONNECTIONS = 64


class DelayingProxy:
    """A TCP proxy in a thread, which delays the data of the server and counts round trips."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port = free_port()
        self.round_trips = 0
        self._server_port, self._seconds = port, seconds
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._server_port)
        waits = [True]

        async def ask() -> None:
            while data := await reader.read(65_536):
                self.round_trips += waits[0]
                waits[0] = False
                requests.write(data)
            requests.close()

        async def answer() -> None:
            while data := await answers.read(65_536):
                waits[0] = True
                await asyncio.sleep(self._seconds)
                writer.write(data)
            writer.close()

        await asyncio.gather(ask(), answer(), return_exceptions=True)

    def stop(self) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._loop.stop)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4, help="of each round of load")
    parser.add_argument("--reactions", type=int, default=20)
    parser.add_argument("--incidents", type=int, default=200)
    parser.add_argument("--dbos", metavar="PYTHON", default=os.environ.get("DBOS_PYTHON"))
    asked = parser.parse_args()
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        print(json.dumps({"skipped": "PostgreSQL is not installed: as root, run 'apt-get install postgresql'"}))
        return
    with tempfile.TemporaryDirectory() as name, _postgres(Path(name)) as database:
        folder = Path(name) / "bench"
        folder.mkdir()
        result = {
            **_ingest(folder, database, asked.rounds, asked.seconds),
            **_reaction(folder, database, asked.reactions),
            **_throughput(folder, database, asked.incidents, asked.dbos),
        }
    print(
        json.dumps(result, indent=2) if asked.json else "\n".join(f"{key:40} {value}" for key, value in result.items())
    )


@contextmanager
def _postgres(folder: Path) -> Iterator[Postgres]:
    folder.chmod(0o755)
    (folder / "postgres").mkdir()
    started = Postgres(folder / "postgres")
    started.durable = True
    started.settings = {"shared_buffers": "128MB"}
    started.start()
    try:
        yield started
    finally:
        started.stop()


def _settings(folder: Path, url: str) -> Mapping[str, Any]:
    """Return settings that several replicas on one database share. The database is migrated."""
    folder.mkdir()
    shared = {
        "store": url,
        "approvals": {"keys_file": str(folder / "links.key")},
        "audit": {"key_file": str(folder / "audit.key")},
    }
    path = folder / "shared.yaml"
    rest = {"kind": "Config", "state": "state", "playbooks": [], "inventory": "none"}
    path.write_text(json.dumps({"apiVersion": "remediator/v1", **rest, **shared}))
    (folder / "none").write_text("apiVersion: remediator/v1\nkind: Inventory\nservices: {}\n")
    for words in (("db", "migrate"), ("keys", "create")):
        argv = [sys.executable, "-m", "remediator", *words, "--config", str(path)]
        subprocess.run(argv, check=True, cwd=ROOT, stdout=sys.stderr)
    return shared


def _ingest(folder: Path, database: Postgres, rounds: int, seconds: float) -> dict[str, Any]:
    """Load 1, 2 and 4 replicas on one database, and a bare endpoint, in turns."""
    script = _script(folder)
    rates: dict[str, list[float]] = {}
    failed, patients = 0, Patients()
    with ExitStack() as stack:
        stack.callback(patients.shutdown)
        bare = _bare(folder, stack)
        for count in REPLICAS:
            shared = _settings(folder / f"shared-{count}", database.url(database.database()))
            with ExitStack() as replicas:
                urls = [
                    _remediator(folder / f"ingest-{count}-{number}", patients, ["t0"], replicas, shared)
                    for number in range(count)
                ]
                for _ in range(rounds):
                    with ThreadPoolExecutor(count) as pool:
                        loads = list(pool.map(lambda url: wrk(url, script, CONNECTIONS // count, seconds), urls))  # noqa: B023
                    rates.setdefault(f"replicas_{count}", []).append(sum(load.per_second for load in loads))
                    failed += sum(load.failed for load in loads)
                    if count == 1:
                        rates.setdefault("bare", []).append(wrk(bare, script, CONNECTIONS, seconds).per_second)
    found = {f"ingest_per_second.{name}": round(median(each)) for name, each in rates.items()}
    ratio = median([ours / other for ours, other in zip(rates["replicas_1"], rates["bare"], strict=True)])
    return {**found, "ingest_rate_to_bare": round(ratio, 2), "ingest_failed_requests": failed}


def _reaction(folder: Path, database: Postgres, rounds: int) -> dict[str, Any]:
    """React to alerts one at a time, directly and through the proxy."""
    result: dict[str, Any] = {}
    for name, latency in (("direct", None), ("with_1_ms", LATENCY)):
        base = database.database()
        proxy = None if latency is None else DelayingProxy(database.port, latency)
        port = database.port if proxy is None else proxy.port
        shared = _settings(folder / f"reaction-{name}-shared", database.url(base, tcp=True))
        patients, names = Patients(), [f"t{number}" for number in range(rounds)]
        took, trips = [], []
        with ExitStack() as stack:
            through = {**shared, "store": f"postgresql://postgres@127.0.0.1:{port}/{base}"}
            where = _remediator(folder / f"reaction-{name}", patients, names, stack, through)
            for target in names:
                _post(where, _notification([target]))
                acknowledged, before = time.perf_counter(), 0 if proxy is None else proxy.round_trips
                _until(lambda target=target, patients=patients: target in patients.healed)  # type: ignore[misc]
                trips.append(0 if proxy is None else proxy.round_trips - before)
                took.append(patients.healed[target] - acknowledged)
                time.sleep(0.1)
        patients.shutdown()
        result[f"acknowledged_to_action_ms.{name}"] = percentiles_ms(took)
        if proxy is not None:
            proxy.stop()
            result["acknowledged_to_action_round_trips"] = median(trips)
    return result


def _throughput(folder: Path, database: Postgres, incidents: int, dbos: str | None) -> dict[str, Any]:
    """Fix many targets at once, and then make the same calls with DBOS."""
    patients, names = Patients(), [f"t{number}" for number in range(incidents)]
    url = database.url(database.database())
    with ExitStack() as stack:
        where = _remediator(folder / "runs", patients, names, stack, _settings(folder / "runs-shared", url))
        begun = time.perf_counter()
        _post(where, _notification(names))
        with psycopg.connect(url, autocommit=True) as connection:
            _until(lambda: _succeeded(connection) == incidents, 300)
        ours = incidents / (time.perf_counter() - begun)
    patients.shutdown()
    result: dict[str, Any] = {"incidents_at_once": incidents, "runs_per_second": round(ours, 1)}
    if dbos is None:
        return {**result, "rate_to_dbos": "skipped: name an interpreter that has DBOS in DBOS_PYTHON"}
    other = incidents / theirs(dbos, incidents, database.url(database.database()))
    return {**result, "dbos_workflows_per_second": round(other, 1), "rate_to_dbos": round(ours / other, 2)}


def _succeeded(connection: psycopg.Connection[Sequence[Any]]) -> int:
    row = connection.execute("SELECT count(*) FROM runs WHERE status = 'succeeded'").fetchone()
    time.sleep(0.02)
    return 0 if row is None else int(row[0])


if __name__ == "__main__":
    main()
