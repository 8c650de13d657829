"""The small real stack: the remediator as a process, a Redis under supervisord, and an Alertmanager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
import yaml

from remediator.audit import keys as audit_keys
from remediator.core.tokens import create_keyring
from tests.support import commands
from tests.support.servers import DEADLINE, Server, free_port, require, until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.supervisord import Supervisord

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "a-token-for-the-webhook"

PLAYBOOK: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "redis-down",
    "match": {"alertname": "RedisDown"},
    "mode": "auto",
    "target": "redis",
    "diagnose": [{"id": "ping", "check": "redis.ping"}, {"id": "logs", "action": "service.logs"}],
    "conclude": [
        {
            "id": "down",
            "when": 'evidence.ping.facts.state in ["down", "silent"]',
            "cause": "Redis does not run or hangs.",
        }
    ],
    "steps": [{"id": "restart", "action": "service.restart", "for": "down"}],
    "verify": {"settle": "100ms", "within": "20s", "checks": [{"check": "redis.ping"}, {"check": "redis.write_test"}]},
    "escalate": {"to": ["infrastructure"], "message": "still down"},
}


class Remediator(Server):
    """A remediator process. Change ``settings``, ``playbooks`` and ``inventory`` before the start."""

    forked = True
    """Whether the process is forked from one with all imports (:mod:`tests.support.commands`). A test that changes
    the command or the Python environment sets False.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.file_limit: int | None = None
        """Longest file in bytes that it may write, which simulates a full disk."""
        self.shares_keys = True
        """Whether replicas on PostgreSQL in neighbouring folders get the same keys."""
        self.playbooks: list[dict[str, Any]] = [PLAYBOOK]
        self.inventory: dict[str, Any] = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {}}
        self.settings: dict[str, Any] = {
            "apiVersion": "remediator/v1",
            "kind": "Config",
            "listen": f"127.0.0.1:{self.port}",
            "state": "state",
            "playbooks": ["playbooks"],
            "inventory": "inventory.yaml",
            "webhook": {"token_file": "token"},
            "timing": {"resolve_grace": "2s", "guard_recheck_interval": "500ms"},
            "guards": {
                "cooldown": "1s",
                "rate_limit": {"target": ["50/1h"], "playbook": ["500/1h"], "global": ["500/1h"]},
                "ramp": [50],
                "circuit_breaker": {"ineffective": "50/1h", "failures": 50},
                "storm": {"alerts": 100_000},
                "off": [{"guard": "watchdog", "reason": "these tests send no Watchdog"}],
            },
        }

    @property
    def config(self) -> Path:
        """Return the path of the settings file."""
        return self.folder / "remediator.yaml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> Mapping[str, str]:
        unless = "ignore:'imghdr' is deprecated:DeprecationWarning"  # Apprise imports it
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": f"error,{unless}"}

    def write(self) -> None:
        """Write the files of the remediator."""
        (self.folder / "playbooks").mkdir(exist_ok=True)
        for playbook in self.playbooks:
            (self.folder / "playbooks" / f"{playbook['name']}.yaml").write_text(yaml.safe_dump(playbook))
        (self.folder / "inventory.yaml").write_text(yaml.safe_dump(self.inventory))
        (self.folder / "token").write_text(TOKEN)
        if self.shares_keys and self.settings.get("store", "sqlite") != "sqlite":
            self._share_keys()
        self.config.write_text(yaml.safe_dump(self.settings))

    def _share_keys(self) -> None:
        """Name keys that all replicas in neighbouring folders share, unless the test names other keys."""
        links, audit = self.folder.parent / "links.key", self.folder.parent / "audit.key"
        create_keyring(links)
        audit_keys.create(audit, "remediator/default")
        self.settings["approvals"] = {"keys_file": str(links), **self.settings.get("approvals", {})}
        self.settings["audit"] = {"key_file": str(audit), **self.settings.get("audit", {})}

    def _started(self) -> subprocess.Popen[bytes] | commands.Command:
        if not self.forked or self.file_limit is not None:
            return super()._started()
        self.write()
        argv = ("serve", "--config", str(self.config))
        return commands.Command(argv, self.log_file, self.log_file, self.folder, self.environment())

    def command(self) -> list[str]:
        self.write()
        argv = [sys.executable, "-m", "remediator", "serve", "--config", str(self.config)]
        return argv if self.file_limit is None else [require("prlimit"), f"--fsize={self.file_limit}", *argv]

    def ready(self) -> bool:
        try:
            return bool(self.get("/readyz")["ready"])
        except OSError:
            return False

    def get(self, path: str) -> Any:
        """Return an answer of the API."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:  # the first request loads the API
            return json.load(answer)

    def text(self, path: str) -> str:
        """Return a page."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:  # the first request loads the pages
            return str(answer.read(), "utf-8")

    def post(self, body: bytes, path: str = "/api/v1/alerts", token: str | None = TOKEN) -> tuple[int, Any]:
        """Send a body as Alertmanager does. Return status and answer."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{self.url}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def notification(self, status: str, **labels: str) -> bytes:
        """Return a body of version 4 with one alert."""
        return self.notification_of([labels], status)

    def notification_of(self, alerts: list[dict[str, str]], status: str = "firing") -> bytes:
        """Return a body of version 4 with one alert for each set of labels."""
        times = {"startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z"}
        told = [{"status": status, "labels": labels, **times} for labels in alerts]
        return json.dumps({"version": "4", "receiver": "remediator", "alerts": told}).encode()

    def memory(self) -> int:
        """Return the resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metrics(self) -> str:
        """Return the metrics in the text format."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            return str(answer.read(), "utf-8")

    def audit_has(self, text: str) -> bool:
        """Return whether an entry of the audit log contains this text."""
        found = commands.remediator("audit", "search", text, "--db", str(self.folder / "state/remediator.db"))
        assert found.returncode == 0, found.stderr
        return text in found.stdout

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, newest first."""
        found: list[dict[str, Any]] = self.get("/api/v1/runs?limit=500")
        return found

    def wait_for(self, status: str, seconds: float = DEADLINE) -> dict[str, Any]:
        """Wait until the newest run has this status, and return it."""

        def reached() -> bool:
            found = self.runs()
            return bool(found) and found[0]["status"] == status

        try:
            until(reached, f"a run is {status}", seconds, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}; runs: {self.runs()}\n{self.log}") from None
        newest: dict[str, Any] = self.get(f"/api/v1/runs/{self.runs()[0]['id']}")
        return newest


class Stack:
    """A Redis under supervisord, an Alertmanager that notifies the remediator, and the remediator."""

    def __init__(self, folder: Path) -> None:
        self.redis_port = free_port()
        self.supervisord = Supervisord(folder / "supervisord")
        self.supervisord.program(
            "redis",
            f"redis-server --port {self.redis_port} --bind 127.0.0.1 --dir {folder} --appendonly yes --save ''",
            "startsecs=1",
            "stopwaitsecs=2",
        )
        self.remediator = Remediator(folder / "remediator")
        self.alertmanager = Alertmanager(folder / "alertmanager")
        self.alertmanager.configuration = f"""
route: {{receiver: remediator, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: remediator
    webhook_configs:
      - url: {self.remediator.url}/api/v1/alerts
        http_config: {{authorization: {{credentials: {TOKEN}}}}}
"""
        self.remediator.settings["alertmanagers"] = [{"url": self.alertmanager.url}]
        self.remediator.inventory["services"] = {
            "redis": {
                "platform": {"kind": "supervisor", "url": self.supervisord.url, "program": "redis"},
                "redis": {"host": "127.0.0.1", "port": self.redis_port},
                "alert_label_values": {"instance": ["redis:6379"]},
            }
        }

    def start(self) -> None:
        """Start all servers, Redis included."""
        require("redis-server")
        self.supervisord.start()
        self.control("start")
        self.alertmanager.start()
        self.remediator.start()

    def stop(self) -> None:
        """Stop all servers."""
        self.remediator.stop()
        self.alertmanager.stop()
        self.supervisord.stop()

    def control(self, verb: str, program: str = "redis") -> None:
        """Call ``startProcess`` or ``stopProcess`` for Redis or another program, as an operator would."""
        self._rpc(f"{verb}Process", program)

    def redis(self) -> dict[str, Any]:
        """Return what supervisord reports about Redis."""
        found: dict[str, Any] = self._rpc("getProcessInfo")
        return found

    def _rpc(self, method: str, program: str = "redis") -> Any:
        with ServerProxy(f"http://operator:opensesame@127.0.0.1:{self.supervisord.port}/RPC2") as proxy:
            return getattr(proxy.supervisor, method)(program)

    def kill_redis(self) -> int:
        """Kill Redis with kill -9, and return its pid."""
        pid = int(self.redis()["pid"])
        os.kill(pid, 9)
        until(lambda: self.redis()["pid"] == 0, "supervisord saw Redis die")
        return pid


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Return the started small real stack."""
    made = Stack(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()
