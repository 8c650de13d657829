"""Measure memory of two replicas on PostgreSQL at rest, after a storm of alerts, and while pages are read.

``python -m bench.replicas postgresql://user:password@host/empty_database [--json] [--alerts N]``. RSS counts pages that
replicas on one host share. PSS divides them among the processes that share them. The memory limits in
docker-compose.prod.yml and deploy/kubernetes are twice the measured peak.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from bench.ingest import BODY
from bench.measure import ROOT, TOKEN, free_port, server

_REPLICAS = 2
_PAGES = ("/", "/runs", "/approvals", "/playbooks", "/audit", "/metrics")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="URL of an empty PostgreSQL database")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--alerts", type=int, default=2000, help="size of the storm (default: 2000)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, ExitStack() as stack:
        result = _measure(Path(name), stack, asked.url, asked.alerts)
    lines = [f"{key:28} {value}" for key, value in result.items()]
    print(json.dumps(result, indent=2) if asked.json else "\n".join(lines))


def _measure(folder: Path, stack: ExitStack, url: str, alerts: int) -> dict[str, Any]:
    ports = [free_port() for _ in range(_REPLICAS)]
    settings = [_write(folder, port, url) for port in ports]
    for words in (("db", "migrate"), ("keys", "create")):
        subprocess.run(
            [sys.executable, "-m", "remediator", *words, "--config", str(settings[0])],
            check=True,
            cwd=ROOT,
            stdout=sys.stderr,
        )
    pids = []
    for port, path in zip(ports, settings, strict=True):
        argv = [sys.executable, "-m", "remediator", "serve", "--config", str(path)]
        pids.append(stack.enter_context(server(argv, f"http://127.0.0.1:{port}/readyz", folder)).pid)
    time.sleep(5)
    rest = [_memory(pid) for pid in pids]
    for number in range(alerts):
        _alert(ports[number % _REPLICAS], number)
    time.sleep(5)
    storm = [_memory(pid) for pid in pids]
    for port in ports:
        for page in _PAGES * 20:
            _get(port, page)
    pages = [_memory(pid) for pid in pids]
    states = {"at_rest": rest, f"after_{alerts}_alerts": storm, "after_console_pages": pages}
    return {
        f"{state}_{kind}_mb": max(round(each[kind], 1) for each in found)
        for state, found in states.items()
        for kind in ("rss", "pss")
    }


def _write(folder: Path, port: int, url: str) -> Path:
    (folder / "token").write_text(TOKEN)
    (folder / "inventory.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "remediator/v1",
                "kind": "Inventory",
                "services": {
                    name: {"platform": {"kind": "supervisor", "url": "unix:///nonexistent.sock", "program": name}}
                    for name in ("redis", "app")
                },
            }
        )
    )
    settings = {
        "apiVersion": "remediator/v1",
        "kind": "Config",
        "listen": f"127.0.0.1:{port}",
        "state": f"state-{port}",
        "store": url,
        "playbooks": [str(ROOT / "playbooks")],
        "inventory": "inventory.yaml",
        "webhook": {"token_file": "token"},
        "approvals": {"keys_file": "links.key"},
        "audit": {"key_file": "audit.key"},
        "access": {"anonymous_role": "viewer"},
    }
    path = folder / f"remediator-{port}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def _alert(port: int, number: int) -> None:
    body: dict[str, Any] = copy.deepcopy(BODY)
    body["alerts"][0] |= {"fingerprint": f"{number:016x}"}
    body["alerts"][0]["labels"] |= {"instance": f"redis-{number}:6379"}
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v1/alerts", json.dumps(body).encode(), headers)
    urllib.request.urlopen(request, timeout=30).close()


def _get(port: int, page: str) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=30).close()


def _memory(pid: int) -> dict[str, float]:
    """Return RSS and PSS of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return {"rss": kilobytes["Rss"] * 1024 / 1e6, "pss": kilobytes["Pss"] * 1024 / 1e6}


if __name__ == "__main__":
    main()
