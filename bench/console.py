"""Measure what pages of the console cost with ten thousand runs and with a million: ``python -m bench.console --json``.

Budget: with a million, no page takes more than twice as long as with ten thousand. Both are real services that get HTTP
requests in turns. The best round of each page counts, so that only the length of history differs.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, closing
from pathlib import Path

import yaml

from bench import history_fixture
from bench.measure import free_port, server
from remediator.core.run import ENGINE_VERSION

FEW, MANY = 10_000, 1_000_000
BUDGET_RATIO = 2.0
NEWEST = 1_780_000_000_000_000
"""Begin of the newest run in microseconds since the epoch. Each earlier run began one second before the next."""

FILL = f"""
WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :count)
INSERT INTO runs (id, incident_id, severity, status, detail, playbook, playbook_hash, target, mode, engine_version,
                  incident_open, holds_target, created_at, updated_at, finished_at)
SELECT printf('run-%08d', n), printf('incident-%08d', n / 2),
       CASE WHEN n % (:count / 100) = 9 THEN 'critical' ELSE 'warning' END,
       CASE WHEN n % (:count / 100) = 7 THEN 'cancelled'
            WHEN n % 10 = 3 THEN 'failed' ELSE 'succeeded' END,
       '{{}}', 'playbook-' || (n % 7),
       printf('%064d', n % 7), 'service-' || (n % 11), 'auto', {ENGINE_VERSION}, 0, 0,
       {NEWEST} - n * 1000000, {NEWEST} - n * 1000000, {NEWEST} - n * 1000000
FROM number
"""

PAGES = {
    "now": "/",
    "runs": "/runs",
    "runs, the last page": "/runs?before={end}~run-x",
    "runs, failed": "/runs?status=failed",
    "runs of a playbook": "/runs?playbook=playbook-3",
    "runs of a playbook, failed": "/runs?playbook=playbook-3&status=failed",
    "runs, cancelled (100 of all)": "/runs?status=cancelled",
    "runs of a playbook, cancelled": "/runs?playbook=playbook-3&status=cancelled",
    "runs of a service, failed": "/runs?target=service-3&status=failed",
    "runs, critical (100 of all)": "/runs?severity=critical",
    "runs of the last day": "/runs?last=1d&status=failed",
    "search for a service": "/runs?q=service-3",
    "search for what is not there": "/runs?q=nothing",
    "one run": "/runs/run-00000100",
    "incidents": "/incidents",
    "open incidents": "/incidents?open=true",
    "approvals": "/approvals",
    "inventory": "/inventory",
    "statistics": "/statistics?last=90d",
    "one playbook": "/playbooks/playbook-3",
    "playbooks": "/playbooks",
    "audit": "/audit",
    "API": "/api/v1/runs?limit=50",
}


def prepare(folder: Path, count: int, port: int) -> Path:
    """Make the folder of a service with a number of runs. Return its settings file."""
    (folder / "state").mkdir(parents=True)
    database = folder / "state/remediator.db"
    context = history_fixture.open_(database)
    context.dispose()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(FILL, {"count": count})
    head = {"apiVersion": "remediator/v1"}
    (folder / "playbooks").mkdir()
    for number in range(7):
        name = f"playbook-{number}"
        playbook = {**head, "kind": "Playbook", "name": name, "target": "service-3", "match": {"alertname": name}}
        (folder / f"playbooks/{name}.yaml").write_text(yaml.safe_dump(playbook))
    platform = {"kind": "supervisor", "url": "unix:///none", "program": "none"}
    services = {f"service-{number}": {"platform": dict(platform)} for number in range(11)}
    (folder / "inventory.yaml").write_text(yaml.safe_dump({**head, "kind": "Inventory", "services": services}))
    settings = folder / "remediator.yaml"
    here = {"listen": f"127.0.0.1:{port}", "state": "state", "playbooks": ["playbooks"], "inventory": "inventory.yaml"}
    settings.write_text(yaml.safe_dump({**head, "kind": "Config", **here}))
    return settings


def cost(port: int, path: str) -> float:
    """Return the milliseconds for a page over HTTP."""
    begun = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        answer.read()
    return (time.perf_counter() - begun) * 1e3


def measure(rounds: int, many: int) -> dict[str, dict[str, float]]:
    """Return for each page the milliseconds with few and with many runs, and their ratio."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        ports = {}
        for count in (FEW, many):
            folder, port = Path(name) / str(count), free_port()
            argv = [sys.executable, "-m", "remediator", "serve", "--config", str(prepare(folder, count, port))]
            stack.enter_context(server(argv, f"http://127.0.0.1:{port}/livez", folder))
            ports[count] = port
        for page, path in PAGES.items():
            ends = {count: path.format(end=NEWEST - (count - 60) * 1_000_000) for count in ports}
            turns = [{count: cost(port, ends[count]) for count, port in ports.items()} for _ in range(rounds)]
            small, large = (min(turn[count] for turn in turns) for count in ports)
            found[page] = {"ms_few": round(small, 2), "ms_many": round(large, 2), "ratio": round(large / small, 2)}
    return found


def main() -> int:
    """Measure and print. The exit status states whether the budget is kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--rounds", type=int, default=20, help="rounds, of which the best counts")
    parser.add_argument("--runs", type=int, default=MANY, help="how many runs many are")
    asked = parser.parse_args()
    pages = measure(asked.rounds, asked.runs)
    within = all(item["ratio"] <= BUDGET_RATIO for item in pages.values())
    if asked.json:
        print(json.dumps({"bench": "console", "budget": {"ratio": BUDGET_RATIO}, "pages": pages, "within": within}))
    else:
        for page, item in pages.items():
            print(
                f"{page:30} {item['ms_few']:8} ms with {FEW}, {item['ms_many']:8} ms with {asked.runs}: "
                f"{item['ratio']} x"
            )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
