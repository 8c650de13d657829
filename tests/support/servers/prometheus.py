"""Prometheus with data from before the test, or from rules and scraping."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server, require

_HEAD = """
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: [rules.yml]
"""


class Prometheus(Server):
    """One Prometheus. Change its attributes before the start.

    ``rules``, ``configuration`` (more of prometheus.yml, with SELF for its own address), ``flags``, ``prefix``, and
    ``history`` (OpenMetrics text with timestamps, without ``# EOF``).
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.rules = "groups: []\n"
        self.configuration = ""
        self.history = ""
        self.prefix = ""
        self.flags: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def command(self) -> list[str]:
        program = require("prometheus")
        (self.folder / "rules.yml").write_text(self.rules)
        (self.folder / "prometheus.yml").write_text(
            _HEAD + self.configuration.replace("SELF", f"127.0.0.1:{self.port}")
        )
        argv = [program, f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data"]
        argv += [f"--web.listen-address=127.0.0.1:{self.port}", f"--web.external-url={self.url}"]
        return [*argv, *self.flags]

    def launch(self) -> None:
        if self.history:
            self._write_history()
        super().launch()

    def _write_history(self) -> None:
        path = self.folder / "history.om"
        path.write_text(self.history.rstrip("\n") + "\n# EOF\n")
        argv = [require("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(path), str(self.folder / "data")]
        subprocess.run(argv, check=True, capture_output=True)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):
                return True
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current value of an expression, read without the code under test."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=60) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


@pytest.fixture
def make_prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Return a function that starts a Prometheus with these settings, given as keyword arguments."""
    made: list[Prometheus] = []

    def make(**settings: Any) -> Prometheus:
        server = Prometheus(tmp_path / f"prometheus-{len(made)}")
        made.append(server)
        for name, value in settings.items():
            setattr(server, name, value)
        server.start()
        return server

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def prometheus(make_prometheus: Callable[..., Prometheus]) -> Prometheus:
    """Return a running Prometheus for one test, without rules and targets."""
    return make_prometheus()
