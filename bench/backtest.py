"""Measure how long a backtest takes per 1,000 alerts of a history: ``python -m bench.backtest [--json] [--days N]``

Goal: 90 days with 1,000 alerts a day in at most 10 s. Each alert fires and resolves five minutes later. Half of the
alerts have a playbook, so that the whole pipeline runs for them on a virtual clock. The bench replays few days, because
the time grows with the number of alerts, and also prints the time for 90 days.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from remediator.authoring.backtest import Event, History
from remediator.authoring.backtest.replay import replay
from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load, load_config

START = datetime(2026, 1, 1, tzinfo=UTC)
SERVICES = 20
LASTS = timedelta(minutes=5)


def main() -> None:
    """Replay and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--alerts", type=int, default=1000, help="alerts a day (default: 1000)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        config = load_config(_write(Path(name)), Config)
        loaded = load(config.playbooks, config.inventory, Registry.for_settings(config).catalogue())
        history = _history(asked.days, asked.alerts)
        begun = time.perf_counter()
        found = replay(history, loaded, config)
        seconds = time.perf_counter() - begun
    alerts = asked.days * asked.alerts
    result: dict[str, Any] = {
        "alerts": alerts,
        "runs": len(found.runs),
        "backtest_s": round(seconds, 2),
        "ms_per_alert": round(seconds / alerts * 1000, 2),
        "s_for_90_days": round(seconds / alerts * 90_000, 1),
    }
    print(json.dumps(result) if asked.json else "\n".join(f"{key:16} {value}" for key, value in result.items()))


def _history(days: int, alerts: int) -> History:
    """Return alerts at equal distances, of all services in turn. Every second one has no playbook."""
    events = []
    for number in range(days * alerts):
        at = START + timedelta(days=1) * number / alerts
        labels = {
            "alertname": "Down" if number % 2 else "Unknown",
            "service": f"s{number // 2 % SERVICES}",
            "n": str(number),
        }
        for status, when in (("firing", at), ("resolved", at + LASTS)):
            ends = "0001-01-01T00:00:00Z" if status == "firing" else when.isoformat()
            alert = {"status": status, "labels": labels, "startsAt": at.isoformat(), "endsAt": ends}
            body = {"version": "4", "receiver": "bench", "alerts": [alert]}
            events.append(Event(when, json.dumps(body).encode()))
    events.sort(key=lambda event: event.at)
    return History(START, START + timedelta(days=days), tuple(events), "bench")


def _write(folder: Path) -> Path:
    """Write an installation, and return its settings file. The files are JSON, which is valid YAML."""
    head = {"apiVersion": "remediator/v1"}
    bound = {"kind": "supervisor", "url": "unix:///nowhere", "program": "none"}
    services = {f"s{number}": {"platform": bound} for number in range(SERVICES)}
    playbook = {
        **head,
        "kind": "Playbook",
        "name": "heal",
        "match": {"alertname": "Down"},
        "mode": "auto",
        "target": "${service}",
        "parameters": {"service": {"label": "service", "type": "service"}},
        "steps": [{"id": "restart", "action": "service.restart"}],
        "verify": {"settle": "10s", "within": "2m", "checks": [{"check": "service.running"}]},
        "escalate": {"to": ["oncall"], "message": "still down"},
    }
    (folder / "playbooks").mkdir()
    (folder / "playbooks/heal.yaml").write_text(json.dumps(playbook))
    (folder / "inventory.yaml").write_text(json.dumps({**head, "kind": "Inventory", "services": services}))
    settings = {**head, "kind": "Config", "state": "state", "playbooks": ["playbooks"], "inventory": "inventory.yaml"}
    (folder / "remediator.yaml").write_text(json.dumps(settings))
    return folder / "remediator.yaml"


if __name__ == "__main__":
    main()
