"""The demonstration's own eyes: it asks every server itself and believes nothing that the remediator says of them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import redis

from deploy.local.settings import Settings
from deploy.local.stack import Supervisor


class Probe:
    """Looks at a running local stack."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._supervisor = Supervisor(settings)

    def pid(self, program: str) -> int:
        """Of a program under supervisord; 0 if it does not run."""
        return int(str(self._supervisor.info(program)["pid"]))

    def redis_serves(self) -> str | None:
        """A sentence if Redis takes a write and gives it back and the app finds nothing missing; else None."""
        password = (self.settings.state / "redis.password").read_text()
        client = redis.Redis(
            port=self.settings.ports.redis, password=password, socket_timeout=1, socket_connect_timeout=1, retry=None
        )
        try:
            client.set("demo:probe", "1", ex=10)
            if client.get("demo:probe") != b"1":
                return None
        except redis.RedisError:
            return None
        finally:
            client.close()
        return "SET and GET answered, app ready" if self.get(self.settings.ports.app, "/readyz") is not None else None

    def firing(self, alertname: str) -> bool:
        """Whether Alertmanager holds this alert as not ended."""
        found = self.get(self.settings.ports.alertmanager, f"/api/v2/alerts?filter=alertname%3D%22{alertname}%22")
        return bool(found)

    def targets_up(self) -> bool:
        """Whether Prometheus scrapes all of its targets."""
        found = self.get(self.settings.ports.prometheus, "/api/v1/targets?state=active")
        return found is not None and all(target["health"] == "up" for target in found["data"]["activeTargets"])

    def watchdog_heard(self) -> bool:
        """Whether an alert has come all the way: Prometheus, Alertmanager, remediator."""
        text = self.text(self.settings.ports.remediator, "/metrics") or ""
        line = next(
            (line for line in text.splitlines() if line.startswith("remediator_watchdog_last_seen_seconds ")), "0"
        )
        return float(line.split()[-1]) > 0

    def runs(self) -> list[dict[str, Any]]:
        """The remediator's runs, newest first; empty while it does not answer."""
        return self.get(self.settings.ports.remediator, "/api/v1/runs?limit=50") or []

    def run(self, run_id: str) -> dict[str, Any] | None:
        """One run with its timeline; None while it does not answer."""
        found: dict[str, Any] | None = self.get(self.settings.ports.remediator, f"/api/v1/runs/{run_id}")
        return found

    def get(self, port: int, path: str) -> Any:
        """JSON from a server of the stack; None if it does not answer well."""
        text = self.text(port, path)
        return None if text is None else json.loads(text)

    def text(self, port: int, path: str) -> str | None:
        """Text from a server of the stack; None if it does not answer well."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return str(answer.read(), "utf-8", "replace")
        except (urllib.error.URLError, OSError):
            return None
