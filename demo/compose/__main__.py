"""``python -m demo.compose``: real faults in the Compose stack on a real Docker Engine, and how they are fixed.

The demonstration needs docker, docker-compose (or ``docker compose``) and the images. If none can be pulled, ``make
images`` builds them. Environment: DOCKER_HOST; FAULT=<alert> shows one fault; KEEP=1 leaves the stack running; STATE is
the folder for the files of the demonstration.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.compose.faults import FAULTS, Fault
from demo.stack import fast_timings
from remediator.errors import RemediatorError

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "remediator-demo"
PORTS = {"NGINX_PORT": "18080", "GRAFANA_PORT": "13000", "REMEDIATOR_PORT": "18095"}
RELEASES = ("1.0", "1.1-crash", "1.2", "1.3-errors")
"""Tags of the app's image that the faults deploy."""
PATIENCE = 180.0
ENDS = ("succeeded", "failed", "escalated", "cancelled")


class DemoError(Exception):
    """The demonstration cannot run. The message says why."""


@dataclass(frozen=True)
class Stack:
    """The Compose stack with short intervals."""

    state: Path

    def compose(self, *arguments: str) -> str:
        """Run Compose and return its output."""
        files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(self.state / "overlay.yml")]
        argv = [*_compose(), "-p", PROJECT, *files, *arguments]
        return self._run(argv)

    def docker(self, *arguments: str) -> str:
        """Run docker and return its output."""
        return self._run(["docker", *arguments])

    def _run(self, argv: list[str]) -> str:
        done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **self._environment()}, capture_output=True, text=True)
        if done.returncode:
            raise DemoError(f"{' '.join(argv[:6])} …: {done.stderr.strip()[-600:]}")
        return done.stdout.strip()

    def _environment(self) -> dict[str, str]:
        socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        if not Path(socket).exists() or not stat.S_ISSOCK(os.stat(socket).st_mode):
            raise DemoError(f"no Docker Engine at {socket}; set DOCKER_HOST to a unix socket")
        chosen = {name: os.environ.get(name, port) for name, port in PORTS.items()}
        group = str(os.stat(socket).st_gid)
        return {
            **chosen,
            "DOCKER_SOCKET": socket,
            "DOCKER_GID": group,
            "FAULTS_ENABLED": "true",
            "EXPORTER_PATIENCE": "1500ms",
        }

    def container(self, service: str, number: int = 1) -> str:
        """Return the ID of one container of a service."""
        labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]
        labels.append(f"com.docker.compose.container-number={number}")
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        return self.docker("ps", "--all", "--quiet", *filters).split("\n")[0]

    def url(self, name: str) -> str:
        """Return the URL of a published port."""
        return f"http://127.0.0.1:{self._environment()[name]}"

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs of the remediator."""
        found = _get(f"{self.url('REMEDIATOR_PORT')}/api/v1/runs")
        return list(found or ())

    def deploy(self, release: str) -> None:
        """Deploy as a person or a CI job does: set another tag, and Compose recreates the containers."""
        os.environ["APP_RELEASE"] = release
        self.compose("up", "-d", "--no-deps", "app")


def main() -> int:
    """Return the exit status: 0 all faults fixed, 1 not all fixed or it cannot run, 2 wrong usage."""
    wanted = os.environ.get("FAULT", "")
    faults = [fault for fault in FAULTS if wanted in ("", fault.ALERT)]
    if not faults:
        print(f"unknown fault {wanted!r}; known faults: {', '.join(fault.ALERT for fault in FAULTS)}")
        return 2
    stack = Stack(Path(os.environ.get("STATE") or ROOT / "state/compose").resolve())
    traffic = None
    try:
        _require()
        _write(stack)
        _up(stack)
        argv = [sys.executable, "-m", "demo.stack.traffic", stack.url("NGINX_PORT")]
        traffic = subprocess.Popen(argv, cwd=ROOT)
        healed = [_show(stack, fault) for fault in faults]
        return 0 if all(healed) else 1
    except (DemoError, RemediatorError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 1
    finally:
        if traffic is not None:
            traffic.terminate()
            traffic.wait()
        if os.environ.get("KEEP", "") in ("", "0") and (stack.state / "overlay.yml").exists():
            stack.compose("down", "--volumes", "--timeout", "5")


def _compose() -> list[str]:
    if program := shutil.which("docker-compose"):
        return [program]
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    raise DemoError("Docker Compose is not installed; install docker-compose-plugin (Debian: docker-compose)")


def _require() -> None:
    """Check what the demonstration needs before it writes or starts anything.

    Raises:
        DemoError: a requirement is missing. The message says how to get it.
    """
    if shutil.which("docker") is None:
        raise DemoError("docker is not installed; install the package docker.io, or Docker's own docker-ce")
    _compose()
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        raise DemoError(f"no Docker Engine answers at {host}; start it, or set DOCKER_HOST")
    asked = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    there = set(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split())
    if missing := sorted({f"remediator-app:{release}" for release in RELEASES} - there):
        raise DemoError(
            f"the engine has no image {missing[0]}; build all images of the demonstration with: make images"
        )


def _write(stack: Stack) -> None:
    """Write the settings of the stack with short intervals, and an overlay that uses them."""
    stack.state.mkdir(parents=True, exist_ok=True)
    subprocess.run([ROOT / "deploy/compose/secrets.sh", "demo@example.com"], check=True)
    prometheus = _read("deploy/compose/prometheus.yml")
    prometheus["global"] |= {"scrape_interval": "2s", "evaluation_interval": "1s", "scrape_timeout": "2s"}
    token = "/etc/alertmanager/webhook.token"
    receiver = "http://remediator:8095/api/v1/alerts"
    written = {
        "prometheus.yml": prometheus,
        "rules.yml": fast_timings.rules(_read("alerting/rules.yml")),
        "alertmanager.yml": fast_timings.alertmanager(_read("alertmanager.yml"), receiver, token),
        "remediator.yaml": _settings(_read("deploy/compose/remediator.yaml")),
        "overlay.yml": _overlay(stack.state),
    }
    for name, data in written.items():
        (stack.state / name).write_text(yaml.safe_dump(data, sort_keys=False, width=200))
    (stack.state / "playbooks").mkdir(exist_ok=True)
    for path in (ROOT / "playbooks").glob("*.yaml"):
        (stack.state / "playbooks" / path.name).write_text(fast_timings.playbook(path.read_text()))


def _read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    everything = {"target": ["20/1h"], "playbook": ["50/1h"], "global": ["100/1h"]}
    return {
        **settings,
        "environment": "demo",
        # the demonstration asks from outside the container, and the port is published on loopback only
        "access": {"anonymous_role": "viewer"},
        "watchdog": {"alertname": "Watchdog", "max_silence": "1m"},
        "timing": {"resolve_grace": "3s", "guard_recheck_interval": "2s"},
        "guards": {
            "cooldown": "1s",
            "rate_limit": everything,
            "circuit_breaker": {"ineffective": "20/6h"},  # the demonstration injects one fault after the other
            "dependency": {"settle": "20s"},  # time for the app to recover from the Redis fault before its own faults
        },
    }


def _overlay(state: Path) -> dict[str, Any]:
    """Return the overlay of docker-compose.yml. The volume of Redis is a small file system, so that it can fill."""
    places = {
        "prometheus": {
            "prometheus.yml": "/etc/prometheus/prometheus.yml",
            "rules.yml": "/etc/prometheus/alerting/rules.yml",
        },
        "alertmanager": {"alertmanager.yml": "/etc/alertmanager/alertmanager.yml"},
        "remediator": {"remediator.yaml": "/etc/remediator/remediator.yaml"},
    }
    services: dict[str, Any] = {
        service: {"volumes": [f"{state / name}:{place}:ro" for name, place in files.items()]}
        for service, files in places.items()
    }
    services["remediator"]["volumes"].append(f"{state / 'playbooks'}:/srv/playbooks:ro")
    small = {"type": "tmpfs", "device": "tmpfs", "o": "size=48m,uid=999,gid=999,mode=0755"}
    return {"services": services, "volumes": {"redis_data": {"driver_opts": small}}}


def _up(stack: Stack) -> None:
    print("starting the app twice, nginx, Redis, exporters, Prometheus, Alertmanager, Grafana, two socket proxies …")
    os.environ.setdefault("APP_RELEASE", "1.0")
    stack.compose("up", "-d")
    wait(lambda: _heard(stack), "the Watchdog alert at the remediator")
    print(f"all up: {stack.url('NGINX_PORT')} (app)  {stack.url('REMEDIATOR_PORT')} (remediator)\n", flush=True)


def _heard(stack: Stack) -> bool:
    try:
        with urllib.request.urlopen(f"{stack.url('REMEDIATOR_PORT')}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return False
    seen = [line for line in lines if line.startswith("remediator_watchdog_") and not line.startswith("#")]
    return any(float(line.rsplit(" ", 1)[1]) > 0 for line in seen)


def _quiet(stack: Stack) -> bool:
    """Return whether no alert of the demonstration is active and no run is open."""
    question = ["wget", "-q", "-O", "-", "http://127.0.0.1:9093/api/v2/alerts"]
    alerts = json.loads(stack.docker("exec", stack.container("alertmanager"), *question))
    names = {alert["labels"]["alertname"] for alert in alerts}
    return names.isdisjoint(fault.ALERT for fault in FAULTS) and all(run["status"] in ENDS for run in stack.runs())


def _show(stack: Stack, fault: Fault) -> bool:
    """Inject the fault, follow the run that fixes it, and check the result independently."""
    wait(lambda: _quiet(stack), "the end of earlier alerts")
    known = {run["id"] for run in stack.runs()}
    begun = time.monotonic()
    print(f"── {fault.ALERT}: {fault.TELLS}", flush=True)
    fault.inject(stack)
    told = ""

    def over() -> bool:
        nonlocal told
        for run in stack.runs():
            if run["id"] in known or run["playbook"] not in fault.PLAYBOOKS:
                continue
            line = f"{run['playbook']}: {run['status']} {run.get('reason') or ''}".strip()
            if line != told:
                told = line
                print(f"  {time.monotonic() - begun:6.1f} s  remediator: {line}", flush=True)
            if run["status"] in ENDS:
                return True
        return False

    try:
        wait(over, f"the end of {fault.ALERT}")
        wait(lambda: fault.healed(stack) is not None, f"independent proof that {fault.ALERT} is over", 240)
    except DemoError as error:
        print(f"  {time.monotonic() - begun:6.1f} s  NOT healed: {error}", flush=True)
        return False
    print(f"  {time.monotonic() - begun:6.1f} s  healed, checked independently: {fault.healed(stack)}\n", flush=True)
    return told.split(": ")[1].startswith("succeeded")


def wait(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Poll until the condition holds.

    Raises:
        DemoError: the condition did not hold before the timeout.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
