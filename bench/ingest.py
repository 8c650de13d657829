"""Measure durable webhooks per second against two references: ``python -m bench.ingest [--json]``

The references are a bare Starlette endpoint that parses the same body, and Debian's ``webhook`` that runs
``/bin/true``. All three run in turns. Goal: at least 0.9 times the rate of the bare endpoint and 5 times that of
webhook; p99 at most 3 times that of the bare endpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import TELL_P999, TOKEN, Load, configure, free_port, server, wrk
from demo.stack.programs import find

BODY = {
    "version": "4",
    "groupKey": '{}:{alertname="RedisDown"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "remediator",
    "groupLabels": {"alertname": "RedisDown"},
    "commonLabels": {"alertname": "RedisDown", "severity": "critical", "service": "redis"},
    "commonAnnotations": {"summary": "Redis does not answer"},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "RedisDown", "severity": "critical", "service": "redis", "instance": "redis:6379"},
            "annotations": {"summary": "Redis does not answer", "description": "No cache, no sessions."},
            "startsAt": "2026-01-01T00:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=redis_up",
            "fingerprint": "2f5b0d5d2c1a3a4e",
        }
    ],
}


def main() -> None:
    """Run all three in turns and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, ExitStack() as stack:
        folder = Path(name)
        argv, url = empty_service(folder)
        stack.enter_context(server(argv, f"{url}/readyz", folder))
        targets = {
            "remediator": f"{url}/api/v1/alerts",
            "bare": _bare(folder, stack),
            "webhook": _webhook(folder, stack),
        }
        script = _script(folder)
        loads: dict[str, list[Load]] = {name: [] for name in targets}
        for _ in range(asked.rounds):
            for name, url in targets.items():
                loads[name].append(wrk(url, script, asked.connections, asked.seconds))
    result = _result(loads)
    print(json.dumps(result, indent=2) if asked.json else _text(result))
    sys.exit(0 if result["failed_requests"] == 0 else 1)


def _script(folder: Path) -> Path:
    """Return a script that posts a thousand different alerts in turn, so that no cache can help."""
    path = folder / "post.lua"
    body = json.dumps(BODY).replace("redis:6379", "redis-%03d:6379").replace("%3D", "%%3D")
    path.write_text(
        f"local body = [==[{body}]==]\nlocal n = 0\n"
        f"local headers = {{['Content-Type'] = 'application/json', ['Authorization'] = 'Bearer {TOKEN}'}}\n"
        "request = function()\n  n = (n + 1) % 1000\n"
        "  return wrk.format('POST', nil, headers, string.format(body, n))\nend\n" + TELL_P999
    )
    return path


def empty_service(folder: Path) -> tuple[list[str], str]:
    """Write the files of a service without playbooks and targets. Return the command that starts it, and its URL."""
    (folder / "playbooks").mkdir()
    (folder / "inventory.yaml").write_text("apiVersion: remediator/v1\nkind: Inventory\nservices: {}\n")
    return configure(folder)


def _bare(folder: Path, stack: ExitStack) -> str:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/alerts"
    stack.enter_context(server([sys.executable, "-m", "bench.baseline", str(port)], url, folder))
    return url


def _webhook(folder: Path, stack: ExitStack) -> str:
    program = find("webhook")
    if program is None:
        raise SystemExit("webhook is missing: as root, run 'apt-get install webhook', then try again.")
    port = free_port()
    hooks = [{"id": "alerts", "execute-command": "/bin/true", "include-command-output-in-response": True}]
    (folder / "hooks.json").write_text(json.dumps(hooks))
    argv = [program, "-hooks", str(folder / "hooks.json"), "-ip", "127.0.0.1", "-port", str(port)]
    stack.enter_context(server(argv, f"http://127.0.0.1:{port}/", folder))
    return f"http://127.0.0.1:{port}/hooks/alerts"


def _result(loads: dict[str, list[Load]]) -> dict[str, Any]:
    def ratios(of: str, to: str, what: str) -> float:
        pairs = zip(loads[of], loads[to], strict=True)
        return round(median([getattr(a, what) / getattr(b, what) for a, b in pairs]), 2)

    return {
        "per_second": {name: round(median([load.per_second for load in each])) for name, each in loads.items()},
        "p50_ms": {name: round(median([load.p50 for load in each]) * 1000, 2) for name, each in loads.items()},
        "p99_ms": {name: round(median([load.p99 for load in each]) * 1000, 2) for name, each in loads.items()},
        "p99.9_ms": {name: round(median([load.p999 for load in each]) * 1000, 2) for name, each in loads.items()},
        "rate_to_bare": ratios("remediator", "bare", "per_second"),
        "rate_to_webhook": ratios("remediator", "webhook", "per_second"),
        "p99_to_bare": ratios("remediator", "bare", "p99"),
        "failed_requests": sum(load.failed for load in loads["remediator"]),
    }


def _text(result: dict[str, Any]) -> str:
    lines = ["durable ingest (each webhook is committed and fsynced before its 2xx)"]
    for name, rate in result["per_second"].items():
        lines.append(f"  {name:11} {rate:7} /s   p50 {result['p50_ms'][name]:8} ms   p99 {result['p99_ms'][name]:8} ms")
    lines.append(f"  rate to bare Starlette: {result['rate_to_bare']} (goal: at least 0.9)")
    lines.append(f"  rate to webhook:        {result['rate_to_webhook']} (goal: at least 5)")
    lines.append(f"  p99 to bare Starlette:  {result['p99_to_bare']} (goal: at most 3)")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
