"""A Redis under supervisord with the production engine and the shipped playbooks, for tests with real faults."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.servers import Server, free_port, require, until
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.remediator import ROOT, Remediator
from tests.support.servers.supervisord import Supervisord

PLAYBOOKS = ("redis-down", "redis-connection-errors", "redis-disk-full", "cache-hit-ratio-low")
OF_APP = ("RedisConnectionErrors", "CacheHitRatioLow")
KEYS = 200


class Exporter(Server):
    """The exporter of a Redis."""

    def __init__(self, folder: Path, redis_port: int) -> None:
        super().__init__(folder)
        self.redis_port = redis_port

    def command(self) -> list[str]:
        program = require("prometheus-redis-exporter", "redis_exporter")
        argv = [program, f"-web.listen-address=127.0.0.1:{self.port}", "-connection-timeout=800ms"]
        return [*argv, f"-redis.addr=redis://127.0.0.1:{self.redis_port}"]


class Bench:
    """A Redis under supervisord, its exporter, Prometheus and the remediator with the shipped playbooks."""

    def __init__(self, folder: Path, *settings: str, server: str = "redis-server") -> None:
        self.port = free_port()
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir(parents=True)
        self.configuration = folder / "redis.conf"
        persistence = settings or ("appendonly yes", "appendfsync always", 'save ""')
        lines = (f"port {self.port}", "bind 127.0.0.1", f"dir {self.data}", *persistence)
        self.configuration.write_text("\n".join(lines) + "\n")
        self.supervisord = Supervisord(folder / "supervisord")
        program = f"{require(server)} {self.configuration}"
        self.supervisord.program(
            "redis", program, "startsecs=1", "startretries=0", "stopwaitsecs=2", "redirect_stderr=true"
        )
        self.exporter = Exporter(folder / "exporter", self.port)
        self.prometheus = Prometheus(folder / "prometheus")
        self.remediator = Remediator(folder / "remediator")
        self.password: str | None = None
        self.calls = ExitStack()
        self.targets: list[int] = []
        """Ports of more exporters that Prometheus scrapes."""
        self.supervised = False
        self.playbooks = [yaml.safe_load((ROOT / "playbooks" / f"{name}.yaml").read_text()) for name in PLAYBOOKS]
        self.binding: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}

    def start(self) -> None:
        """Start all servers, with keys in Redis."""
        self.start_redis()
        self.exporter.start()
        targets = ", ".join(f"'127.0.0.1:{port}'" for port in (self.exporter.port, *self.targets))
        scrape = f"{{job_name: redis-exporter, static_configs: [{{targets: [{targets}]}}]}}"
        self.prometheus.configuration = f"scrape_configs: [{scrape}]\n"
        self.prometheus.start()
        self.start_remediator()
        with self.client() as client:
            client.mset({f"key:{number}": "value" for number in range(KEYS)})

    def change(self, playbook: str, item: str, **given: Any) -> None:
        """Change parameters of a step or a diagnosis, before the remediator starts."""
        [found] = [each for each in self.playbooks if each["name"] == playbook]
        [changed] = [each for each in (*found["diagnose"], *found["steps"]) if each["id"] == item]
        changed["with"] = {**changed.get("with", {}), **given}

    def start_redis(self) -> None:
        """Start supervisord and Redis, unless they run."""
        if not self.supervised:
            self.supervised = True
            self.supervisord.start()
            self.control("startProcess")

    def start_remediator(self) -> None:
        """Start the remediator with the current inventory."""
        self.remediator.playbooks = self.playbooks
        settings = self.remediator.settings
        settings |= {"environment": "demo", "prometheus": {"url": self.prometheus.url}}
        settings["channels"] = {name: {"kind": "log"} for name in ("infrastructure", "development")}
        reasons = {"watchdog": "these tests send no Watchdog", "still_firing": "these tests have no Alertmanager"}
        settings["guards"]["off"] = [{"guard": guard, "reason": reason} for guard, reason in reasons.items()]
        url = self.supervisord.url
        self.remediator.inventory["services"] = {
            "redis": {
                "platform": {"kind": "supervisor", "url": url, "program": "redis"},
                "redis": self.binding,
                "disk": {"path": str(self.data)},
                "backups": {"path": str(self.folder / "backups"), "pattern": "*.rdb"},
                "alert_label_values": {"instance": ["redis"]},
            },
            "app": {
                "platform": {"kind": "supervisor", "url": url, "program": "app"},
                "http": {"url": "http://127.0.0.1:1", "ready": "/readyz"},
                "depends_on": ["redis"],
            },
        }
        self.remediator.start()

    def stop(self) -> None:
        """Stop all servers."""
        self.calls.close()
        for server in (self.remediator, self.prometheus, self.exporter, self.supervisord):
            with suppress(AssertionError):
                server.stop()

    def client(self, seconds: float = 2) -> redis.Redis:
        """Return a client that does not repeat commands."""
        return redis.Redis(port=self.port, password=self.password, socket_timeout=seconds, retry=Retry(NoBackoff(), 0))

    def control(self, method: str, *arguments: object) -> Any:
        """Start or stop Redis through supervisord, as an operator does."""
        with ServerProxy(f"http://operator:opensesame@127.0.0.1:{self.supervisord.port}/RPC2") as proxy:
            return getattr(proxy.supervisor, method)("redis", *arguments)

    def kill(self) -> None:
        """Kill Redis with SIGKILL."""
        os.kill(int(self.control("getProcessInfo")["pid"]), signal.SIGKILL)
        until(lambda: self.control("getProcessInfo")["pid"] == 0, "supervisord saw Redis end")

    @property
    def starts(self) -> int:
        """Return how often supervisord has started Redis."""
        return len(re.findall(r"spawned: 'redis' with pid", self.supervisord.log))

    def judge(self, alert: str = "RedisDown", seconds: float = 90, **labels: str) -> dict[str, Any]:
        """Send the alert, and return the run as soon as it has ended or asks a person."""
        of = {"service": "app"} if alert in OF_APP else {"service": "redis", "instance": "redis"}
        body = self.remediator.notification("firing", alertname=alert, **{**of, **labels})
        status, _ = self.remediator.post(body)
        assert status == 200

        def ended() -> bool:
            runs = self.remediator.runs()
            return bool(runs) and runs[0]["status"] in ("succeeded", "escalated", "cancelled", "awaiting_approval")

        until(ended, "the run has ended", seconds)
        found: dict[str, Any] = self.remediator.get(f"/api/v1/runs/{self.remediator.runs()[0]['id']}")
        return found


def causes(run: dict[str, Any]) -> set[str]:
    """Return the IDs of the causes that the run names."""
    concluded = {item["name"] for item in run["evidence"] if item["phase"] == "conclude"}
    return {name for name in concluded if not name.startswith("hint-")}


def said(run: dict[str, Any], name: str) -> str:
    """Return the newest summary of one piece of evidence."""
    found: str = [item["summary"] for item in run["evidence"] if item["name"] == name][-1]
    return found


def started(made: Bench) -> Iterator[Bench]:
    """Start a bench, and stop it after the test."""
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Untouched:
    """A check that Redis was not changed: its starts, its keys and its settings."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._starts = bench, bench.starts
        with bench.client() as client:
            self._settings, self._keys = self._read(client), client.dbsize()

    @staticmethod
    def _read(client: redis.Redis) -> dict[str, Any]:
        found: dict[str, Any] = client.config_get("*")
        return {name: value for name, value in found.items() if name in ("maxmemory-policy", "save", "appendonly")}

    def check(self) -> None:
        """Compare the current state with the recorded one."""
        assert self._bench.starts == self._starts, "Redis was started again"
        with self._bench.client() as client:
            assert client.dbsize() >= self._keys, "keys were lost"
            assert self._read(client) == self._settings, "a setting was changed"


def refusal(bench: Bench) -> str:
    """Return the reason why Redis refuses a PING, empty if it does not."""
    try:
        with bench.client() as client:
            client.ping()
    except redis.RedisError as error:
        return str(error)
    return ""


def both(fixture: str) -> pytest.MarkDecorator:
    """Run a test that depends on texts of the server with Redis and with Valkey."""
    return pytest.mark.parametrize(fixture, ["redis-server", "valkey-server"], indirect=True)
