"""Alertmanager, alone or as gossiping peers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server, free_port, require, until

CONFIGURATION = """
route:
  receiver: default
  group_by: [alertname]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: default
inhibit_rules:
  - source_matchers: [role="cause"]
    target_matchers: [role="symptom"]
    equal: [service]
"""


class Alertmanager(Server):
    """One Alertmanager. Change ``configuration``, ``prefix``, ``web`` or ``peers`` before the start."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.cluster_port: int | None = None
        self.configuration = CONFIGURATION
        self.prefix = ""
        self.web = ""
        self.peers: list[Alertmanager] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def command(self) -> list[str]:
        program = require("prometheus-alertmanager", "alertmanager")
        (self.folder / "alertmanager.yml").write_text(self.configuration)
        argv = [program, f"--config.file={self.folder}/alertmanager.yml", f"--storage.path={self.folder}/data"]
        argv += [f"--web.listen-address=127.0.0.1:{self.port}", f"--web.route-prefix={self.prefix or '/'}"]
        argv += [f"--web.external-url={self.url}", *self._web(), *self._cluster()]
        return argv

    def _web(self) -> list[str]:
        if not self.web:
            return []
        (self.folder / "web.yml").write_text(self.web)
        return [f"--web.config.file={self.folder}/web.yml"]

    def _cluster(self) -> list[str]:
        if self.cluster_port is None:
            return ["--cluster.listen-address="]
        argv = [f"--cluster.listen-address=127.0.0.1:{self.cluster_port}", "--cluster.settle-timeout=5s"]
        return argv + [f"--cluster.peer=127.0.0.1:{peer.cluster_port}" for peer in self.peers if peer is not self]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False

    def reload(self) -> None:
        """Read ``configuration`` again."""
        self.command()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/reload", method="POST"), timeout=60).close()

    def fire(self, **labels: str) -> None:
        """Make an alert fire."""
        self._post("/api/v2/alerts", [{"labels": labels}])

    def send(self, **alert: Any) -> None:
        """Make an alert with annotations or other fields fire."""
        self._post("/api/v2/alerts", [alert])

    def resolve(self, ends_at: str, **labels: str) -> None:
        """End an alert at an instant in RFC 3339."""
        self._post("/api/v2/alerts", [{"labels": labels, "startsAt": "2000-01-01T00:00:00Z", "endsAt": ends_at}])

    def get(self, path: str) -> Any:
        """Return an answer of the API, read without the code under test."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def _post(self, path: str, body: Any) -> None:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """Return a running Alertmanager for one test."""
    server = Alertmanager(tmp_path / "alertmanager")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def alertmanager_pair(tmp_path: Path) -> Iterator[tuple[Alertmanager, Alertmanager]]:
    """Return two Alertmanagers that have joined and gossip silences."""
    first, second = Alertmanager(tmp_path / "alertmanager-1"), Alertmanager(tmp_path / "alertmanager-2")
    for each in (first, second):
        each.cluster_port, each.peers = free_port(), [first, second]
    for each in (first, second):
        each.start()
    until(lambda: all(_members(each) == 2 for each in (first, second)), "two Alertmanagers joined")
    yield first, second
    for each in (first, second):
        each.stop()


def _members(server: Alertmanager) -> int:
    return len(server.get("/api/v2/status")["cluster"]["peers"])


@pytest.fixture
def make_alertmanager(tmp_path: Path) -> Iterator[Callable[..., Alertmanager]]:
    """Return a function that starts an Alertmanager with other settings, given as keyword arguments."""
    made: list[Alertmanager] = []

    def make(**settings: Any) -> Alertmanager:
        server = Alertmanager(tmp_path / f"alertmanager-made-{len(made)}")
        made.append(server)
        for name, value in settings.items():
            setattr(server, name, value)
        server.start()
        return server

    yield make
    for server in made:
        server.stop()
