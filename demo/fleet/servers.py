"""The servers of the fleet demonstration: Prometheus, Alertmanager and the remediator, each a process on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from demo.stack.processes import PASSED_ON, wait
from demo.stack.programs import find
from demo.stack.settings import ROOT

STARTS_WITHIN = 120.0
"""Timeout of a start in seconds, long for a busy machine."""


@dataclass
class Server:
    """One process, which ends with the block.

    Args:
        folder: the folder of the server's files and log.
        port: the port on loopback.
        argv: the command that starts the server in the foreground.
        ready: the path that answers when the server is ready.
    """

    folder: Path
    port: int
    argv: Sequence[str]
    ready: str
    _process: subprocess.Popen[bytes] | None = field(default=None)

    def __enter__(self) -> Self:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"PYTHONPATH": str(ROOT)}
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait(
                lambda: self.get(self.ready) is not None, Path(self.argv[0]).name, STARTS_WITHIN, lambda: f"See {log}."
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> str | None:
        """Return the text of an answer, or None without a good answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return str(answer.read(), "utf-8", "replace")
        except (urllib.error.URLError, OSError):
            return None

    def json(self, path: str) -> Any:
        """Return an answer in JSON, or None without a good answer."""
        text = self.get(path)
        return None if text is None else json.loads(text)


def prometheus(folder: Path, port: int, *, exporter: str, alertmanager: str) -> Server:
    """Return a Prometheus that scrapes the exporter each second and reports failed units."""
    rule = {
        "alert": "SystemdServiceFailed",
        "expr": 'node_systemd_unit_state{state="failed"} == 1',
        "labels": {"severity": "critical"},
        "annotations": {"summary": "{{ $labels.name }} failed on {{ $labels.service }}"},
    }
    _write(folder / "rules.yml", {"groups": [{"name": "fleet", "interval": "1s", "rules": [rule]}]})
    scrape = {"job_name": "node", "honor_labels": True, "static_configs": [{"targets": [_address(exporter)]}]}
    managers = {"alertmanagers": [{"static_configs": [{"targets": [_address(alertmanager)]}]}]}
    common = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    content = {"global": common, "rule_files": ["rules.yml"], "alerting": managers, "scrape_configs": [scrape]}
    _write(folder / "prometheus.yml", content)
    argv = [find("prometheus") or "prometheus", f"--config.file={folder}/prometheus.yml"]
    argv += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    return Server(folder, port, argv, "/-/ready")


def alertmanager(folder: Path, port: int, *, remediator: str, token_file: Path) -> Server:
    """Return an Alertmanager that sends everything to the remediator."""
    webhook = {
        "url": f"{remediator}/api/v1/alerts",
        "send_resolved": True,
        "http_config": {"authorization": {"type": "Bearer", "credentials_file": str(token_file)}},
    }
    route = {"receiver": "remediator", "group_by": ["alertname"], "group_wait": "1s", "group_interval": "2s"}
    receivers = [{"name": "remediator", "webhook_configs": [webhook]}]
    _write(folder / "alertmanager.yml", {"route": {**route, "repeat_interval": "1h"}, "receivers": receivers})
    argv = [find("prometheus-alertmanager") or "prometheus-alertmanager"]
    argv += [f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    return Server(folder, port, argv, "/-/ready")


def remediator(folder: Path, port: int, files: Mapping[str, Any]) -> Server:
    """Return a remediator with these files. ``remediator.yaml`` is the settings file."""
    for name, content in files.items():
        _write(folder / name, content)
    argv = [sys.executable, "-m", "remediator", "serve", "--config", str(folder / "remediator.yaml")]
    return Server(folder, port, argv, "/readyz")


def _address(url: str) -> str:
    return url.removeprefix("http://")


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
