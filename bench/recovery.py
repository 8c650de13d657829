"""Measure the time from an acknowledged notification to the action and the proof: ``python -m bench.recovery [--json]``

The bench also measures a storm of 10,000 alerts. The target is a server of the bench. It records when the remedy
arrives and is healthy after it, so that no restart time counts. In turns with it, Debian's ``webhook`` runs ``curl``
for the same alert, without guards, plan, record or proof. Goal: from the 2xx to the call at most 1.3 times, and until
the recovery is proved at most 3 times the median of ``webhook`` and ``curl``, on SQLite. In a storm, one run per target
and no 5xx.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import TOKEN, configure, free_port, percentiles_ms, server
from demo.stack.programs import find

STORM, AT_ONCE, SENDERS = 10_000, 100, 8
TARGETS = 20
"""Targets in the storm."""


class Patients(ThreadingHTTPServer):
    """Targets over HTTP: ``POST /heal`` fixes the target in its body, and ``GET /NAME/ready`` returns its health."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Ward)
        self.healed: dict[str, float] = {}
        """Time of the first recovery of each target, by ``time.perf_counter``."""
        self.times: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Ward(BaseHTTPRequestHandler):
    server: Patients
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        at = time.perf_counter()
        target = str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["target"])
        self.server.healed.setdefault(target, at)
        self.server.times[target] += 1
        self._say(200)

    def do_GET(self) -> None:
        self._say(200 if self.path.split("/")[1] in self.server.healed else 503)

    def _say(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder, patients = Path(name), Patients()
        result = {**_heals(folder, patients, asked.rounds), **_storm(folder, patients)}
    print(
        json.dumps(result, indent=2) if asked.json else "\n".join(f"{key:32} {value}" for key, value in result.items())
    )
    sys.exit(0 if result["storm_5xx"] == 0 and result["storm_runs"] == result["storm_actions"] == TARGETS else 1)


def _heals(folder: Path, patients: Patients, rounds: int) -> dict[str, Any]:
    ours, theirs, proved = [], [], []
    with ExitStack() as stack:
        where = _remediator(folder / "heals", patients, [f"t{number}" for number in range(rounds)], stack)
        hook = _webhook(folder, patients, stack)
        for number in range(rounds):
            name = f"t{number}"
            begun = time.time()
            _post(where, _notification([name]))
            acknowledged = time.perf_counter()
            _until(lambda name=name: name in patients.healed)  # type: ignore[misc]
            ours.append(patients.healed[name] - acknowledged)
            proved.append(_proved(folder / "heals", name) - begun)
            begun = time.perf_counter()
            _post(hook, json.dumps({"target": f"w{number}"}).encode())
            _until(lambda number=number: f"w{number}" in patients.healed)  # type: ignore[misc]
            theirs.append(patients.healed[f"w{number}"] - begun)
    return {
        "acknowledged_to_action_ms": percentiles_ms(ours),
        "webhook_and_curl_ms": percentiles_ms(theirs),
        "to_webhook_and_curl": round(median([a / b for a, b in zip(ours, theirs, strict=True)]), 2),
        "own_share_of_recovery_ms": percentiles_ms(proved),
        "own_share_to_webhook_and_curl": round(median([a / b for a, b in zip(proved, theirs, strict=True)]), 2),
    }


def _storm(folder: Path, patients: Patients) -> dict[str, Any]:
    names = [f"s{number}" for number in range(TARGETS)]
    bodies = [
        _notification(names, [f"i{start + number}" for number in range(AT_ONCE)]) for start in range(0, STORM, AT_ONCE)
    ]
    with ExitStack() as stack:
        where = _remediator(folder / "storm", patients, names, stack)
        begun = time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as pool:
            statuses = Counter(pool.map(lambda body: _post(where, body), bodies))
        acknowledged = time.perf_counter() - begun
        database = folder / "storm/state/remediator.db"
        _until(lambda: _ask(database, "SELECT count(*) FROM notifications WHERE processed_at IS NULL") == 0, 300)
        _until(lambda: _ask(database, "SELECT count(*) FROM runs WHERE finished_at IS NULL") == 0, 300)
        return {
            "storm_alerts": STORM,
            "storm_5xx": sum(count for status, count in statuses.items() if status >= 500),
            "storm_acknowledged_s": round(acknowledged, 2),
            "storm_over_s": round(time.perf_counter() - begun, 1),
            "storm_episodes": _ask(database, "SELECT count(*) FROM episodes"),
            "storm_runs": _ask(database, "SELECT count(*) FROM runs"),
            "storm_actions": sum(patients.times[name] for name in names),
        }


def _remediator(
    folder: Path, patients: Patients, targets: list[str], stack: ExitStack, more: Mapping[str, Any] | None = None
) -> str:
    """Return a service whose playbook asks a target to recover, with every guard that needs no other server.

    Args:
        folder: for the files of the service, which is created.
        patients: the targets.
        targets: their names.
        stack: stops the service at its end.
        more: further settings.
    """
    (folder / "playbooks").mkdir(parents=True)
    bound = {"kind": "supervisor", "url": "unix:///nowhere", "program": "none"}
    services = {
        name: {"platform": bound, "http": {"url": patients.url, "ready": f"/{name}/ready", "live": f"/{name}/ready"}}
        for name in targets
    }
    _write(folder / "inventory.yaml", {"apiVersion": "remediator/v1", "kind": "Inventory", "services": services})
    playbook = {
        "apiVersion": "remediator/v1",
        "kind": "Playbook",
        "name": "heal",
        "match": {"alertname": "Down"},
        "mode": "auto",
        "target": "${service}",
        "parameters": {"service": {"label": "service", "type": "service"}},
        "diagnose": [{"id": "ready", "check": "http.ok"}],
        "steps": [
            {"id": "heal", "action": "http.request", "with": {"request": "heal", "fields": {"target": "${service}"}}}
        ],
        "verify": {"settle": "0s", "within": "10s", "checks": [{"check": "http.ok"}]},
        "escalate": {"to": ["oncall"], "message": "still down"},
    }
    _write(folder / "playbooks/heal.yaml", playbook)
    harmless = {"destructive": False, "interrupts": False}  # without this, every call would need an approval
    settings = {
        "requests": {"heal": {"url": f"{patients.url}/heal", "private": True, "fields": ["target"], **harmless}},
        "guards": {
            "rate_limit": {"playbook": ["500/1h"], "global": ["500/1h"]},
            "concurrency": {"playbook": 500, "global": 500},
            "storm": {"alerts": 100_000, "min_instances": 100_000},
            "off": [{"guard": guard, "reason": "no Alertmanager here"} for guard in ("watchdog", "still_firing")],
        },
    }
    argv, url = configure(folder, **settings, **(more or {}))
    stack.enter_context(server(argv, f"{url}/readyz", folder))
    return f"{url}/api/v1/alerts"


def _webhook(folder: Path, patients: Patients, stack: ExitStack) -> str:
    program, curl = find("webhook"), find("curl")
    if program is None or curl is None:
        raise SystemExit("webhook or curl is missing: as root, run 'apt-get install webhook curl', then try again.")
    port = free_port()
    passed = [
        *({"source": "string", "name": word} for word in ("-s", "-X", "POST", f"{patients.url}/heal", "-d")),
        {"source": "entire-payload"},
    ]
    hooks = [{"id": "heal", "execute-command": curl, "pass-arguments-to-command": passed}]
    (folder / "hooks.json").write_text(json.dumps(hooks))
    argv = [program, "-hooks", str(folder / "hooks.json"), "-ip", "127.0.0.1", "-port", str(port)]
    stack.enter_context(server(argv, f"http://127.0.0.1:{port}/", folder))
    return f"http://127.0.0.1:{port}/hooks/heal"


def _notification(services: list[str], instances: list[str] | None = None) -> bytes:
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "Down", "service": services[number % len(services)], "instance": instance},
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
        }
        for number, instance in enumerate(instances or services)
    ]
    return json.dumps({"version": "4", "receiver": "remediator", "alerts": alerts}).encode()


def _post(url: str, body: bytes) -> int:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _proved(folder: Path, target: str) -> float:
    """Return when the run of a target succeeded, in seconds since 1970."""
    database = folder / "state/remediator.db"
    asked = f"SELECT count(*) FROM runs WHERE target = '{target}' AND finished_at IS NOT NULL"
    _until(lambda: _ask(database, asked) == 1)
    status, at = _row(database, f"SELECT status, finished_at FROM runs WHERE target = '{target}'")
    assert status == "succeeded", status
    return float(at) / 1e6


def _ask(database: Path, statement: str) -> int:
    return int(_row(database, statement)[0])


def _row(database: Path, statement: str) -> tuple[Any, ...]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        row: tuple[Any, ...] = connection.execute(statement).fetchone()
    connection.close()
    return row


def _until(done: Any, seconds: float = 30.0, pause: float = 0.002) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("it did not come to an end; the remediator's server.log says why")
        time.sleep(pause)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))  # JSON is valid YAML


if __name__ == "__main__":
    main()
