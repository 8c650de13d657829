"""Independent checks of the demonstration, which ask every server directly and do not rely on the remediator."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from demo import proc
from demo.stack.processes import Supervisor
from demo.stack.settings import Settings, StackError


class Probe:
    """Check a running local stack."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._supervisor = Supervisor(settings)

    def pid(self, program: str) -> int:
        """Return the PID of a program under supervisord, 0 if it does not run."""
        return int(self._supervisor.info(program)["pid"])

    def signal(self, program: str, number: int) -> int:
        """Send a signal to a program, and return its PID.

        Raises:
            StackError: the program does not run. PID 0 would signal the process group of the demonstration itself.
        """
        pid = self.pid(program)
        if pid == 0:
            raise StackError(f"{program} does not run, so it gets no signal; logs/{program}.log in STATE may say why")
        os.kill(pid, number)
        return pid

    def workers(self) -> int:
        """Return the number of app workers, from the kernel's list of child processes."""
        return len(proc.children(self.pid("app")))

    def starts(self, program: str) -> int:
        """Return how often supervisord has started a program, from its log."""
        log = (self.settings.state / "logs/supervisord.log").read_text(errors="replace")
        return len(re.findall(rf"spawned: '{re.escape(program)}' with pid", log))

    def redis_serves(self) -> str | None:
        """Return a sentence if Redis accepts and returns a write and the app is ready, otherwise None."""
        try:
            with self.redis() as client:
                client.ping()
                client.set("demo:probe", "1", ex=10)
                if client.get("demo:probe") != b"1":
                    return None
        except redis.RedisError:
            return None
        return "PING, SET and GET answered, app ready" if self.app_ready() else None

    def redis_run_id(self) -> str:
        """Return the run_id of Redis, which changes with each start, empty while Redis does not answer."""
        try:
            with self.redis() as client:
                return str(client.info("server")["run_id"])
        except redis.RedisError:
            return ""

    def redis(self) -> redis.Redis:
        """Return a Redis client with short timeouts."""
        return redis.Redis(
            port=self.settings.ports.redis,
            password=self.settings.secret("redis.password"),
            socket_timeout=1,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
        )

    def app_ready(self) -> bool:
        """Return whether the app reports ready."""
        return self.get(self.settings.ports.app, "/readyz") is not None

    def firing(self, alertname: str) -> bool:
        """Return whether Alertmanager has this alert as active, True if Alertmanager does not answer."""
        query = urllib.parse.urlencode({"filter": f'alertname="{alertname}"'})
        found = self.get(self.settings.ports.alertmanager, f"/api/v2/alerts?{query}")
        return found is None or bool(found)

    def targets_up(self) -> bool:
        """Return whether Prometheus scrapes all its targets."""
        found = self.get(self.settings.ports.prometheus, "/api/v1/targets?state=active")
        targets = found["data"]["activeTargets"] if found is not None else []
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def watchdog_heard(self) -> bool:
        """Return whether the Watchdog alert came through Prometheus and Alertmanager to the remediator."""
        text = self.text(self.settings.ports.remediator, "/metrics") or ""
        found = re.search(r"^remediator_watchdog_last_seen_timestamp_seconds (\S+)$", text, re.MULTILINE)
        return found is not None and float(found[1]) > 0

    def traffic_flows(self) -> bool:
        """Return whether Prometheus counts requests, so that rates exist."""
        query = urllib.parse.urlencode({"query": "sum(rate(http_request_duration_seconds_count[10s])) > 0"})
        found = self.get(self.settings.ports.prometheus, f"/api/v1/query?{query}")
        return found is not None and bool(found["data"]["result"])

    def runs(self, alertname: str) -> list[dict[str, Any]]:
        """Return the runs for an alert, newest first, empty while the remediator does not answer."""
        newest = self.get(self.settings.ports.remediator, "/api/v1/runs?limit=20") or []
        told = (self.run(run["id"]) for run in newest)
        return [run for run in told if run and alertname in {alert["alertname"] for alert in run["alerts"]}]

    def at_rest(self, alertname: str) -> bool:
        """Return whether alert, runs and resolve grace are over, so that the next alert is a new incident."""
        if self.firing(alertname):
            return False
        return all(
            run["finished_at"] and all(alert["status"] == "closed" for alert in run["alerts"])
            for run in self.runs(alertname)
        )

    def unwatched(self, alertname: str, window: timedelta) -> bool:
        """Return whether no success of a run is watched any more, so that the next alert is no recurrence."""
        ended = (run["finished_at"] for run in self.runs(alertname))
        return all(text and datetime.now(UTC) - datetime.fromisoformat(text) > window for text in ended)

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Return one run with its timeline, or None while the remediator does not answer."""
        found: dict[str, Any] | None = self.get(self.settings.ports.remediator, f"/api/v1/runs/{run_id}")
        return found

    def get(self, port: int, path: str) -> Any:
        """Return JSON from a server of the stack, or None without a good answer."""
        text = self.text(port, path)
        return None if text is None else json.loads(text)

    def text(self, port: int, path: str) -> str | None:
        """Return text from a server of the stack, or None without a good answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return str(answer.read(), "utf-8", "replace")
        except (urllib.error.URLError, OSError):
            return None
