"""The running stack of one row, with helpers for making faults."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
import yaml

from demo import proc
from demo.judge.client import Client
from demo.probe import Probe
from demo.stack import files, processes
from demo.stack.settings import Settings


class Scene:
    """The stack of one row. Faults put their clean-up on ``cleanup``, which runs before the stack is stopped."""

    def __init__(self, settings: Settings, cleanup: ExitStack, client: Client, calls: list[dict[str, Any]]) -> None:
        self.settings = settings
        self.probe = Probe(settings)
        self.supervisor = processes.Supervisor(settings)
        self.cleanup = cleanup
        self.client = client
        self.messages = calls
        """Messages that the remediator sent to people."""
        self.redis_port = settings.ports.redis
        """Port of the Redis that has the data; a failover changes it."""
        self.password: str | None = None
        """Password of Redis, if the fault changes it."""
        self.noted: dict[str, Any] = {}
        """Values that a fault stores for the probes of its row."""

    # -- the stack

    def restart(self, program: str, *, wait: bool = True) -> None:
        """Stop and start a program, as a person does."""
        if self.supervisor.info(program)["pid"]:
            self.supervisor.call("stopProcess", program)
        self.supervisor.call("startProcess", program, wait)

    def reconfigure(self, program: str, **changes: str) -> None:
        """Change lines in a program's section of supervisord.conf and apply them."""
        parser = configparser.RawConfigParser()
        parser.read(self.settings.supervisord_conf)
        for key, value in changes.items():
            parser.set(f"program:{program}", key, value)
        with self.settings.supervisord_conf.open("w") as file:
            parser.write(file, space_around_delimiters=False)
        self.supervisor.call("reloadConfig")
        with suppress(Exception):
            self.supervisor.call("stopProcess", program)
        self.supervisor.call("removeProcessGroup", program)
        self.supervisor.call("addProcessGroup", program)

    def command(self, program: str) -> str:
        """Return the command of a program."""
        parser = configparser.RawConfigParser()
        parser.read(self.settings.supervisord_conf)
        return parser.get(f"program:{program}", "command")

    def variable(self, name: str, value: str) -> None:
        """Set an environment variable of the app and restart it. An empty value removes the variable."""
        parser = configparser.RawConfigParser()
        parser.read(self.settings.supervisord_conf)
        variables = dict(item.split("=", 1) for item in parser.get("program:app", "environment").split(","))
        variables[name] = f'"{value}"'
        if not value:
            del variables[name]
        self.reconfigure("app", environment=",".join(f"{key}={text}" for key, text in variables.items()))

    def inventory(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the inventory of the remediator, which it reloads at once."""
        path = self.settings.remediator_yaml.with_name("inventory.yaml")
        content = yaml.safe_load(path.read_text())
        change(content["services"])
        path.write_text(files.dump(content))
        processes.restart(self.settings, "remediator")

    def redis_conf(self, *lines: str) -> None:
        """Add lines to redis.conf, which apply after the next start of Redis."""
        with (self.settings.state / "redis/redis.conf").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def redis(self, *, seconds: float = 5) -> redis.Redis:
        """Return a client with the current password."""
        return redis.Redis(
            port=self.redis_port,
            password=self.password or self.settings.secret("redis.password"),
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
        )

    def release(self, version: str, manifest: str = "", *, wait: bool = False) -> None:
        """Deploy a release of the app as usual: new folder, link, restart."""
        files.release(self.settings, version, manifest)
        files.switch(self.settings, version)
        if self.supervisor.info("app")["pid"]:
            self.supervisor.call("stopProcess", "app")
        self.supervisor.call("startProcess", "app", wait)

    def age_release(self) -> None:
        """Change the running release to one of yesterday, so that it is no recent change."""
        yesterday = time.time() - 86_400
        app = self.settings.state / "app"
        os.utime(app / "releases" / files.FIRST_RELEASE, (yesterday, yesterday))
        os.utime(app / "current", (yesterday, yesterday), follow_symlinks=False)

    def app_processes(self) -> list[int]:
        """Return the process IDs of the app's workers."""
        return proc.children(self.probe.pid("app"))

    # -- alerts

    def fire(self, alertname: str, seconds: float = 600, **labels: str) -> None:
        """Send a firing alert to Alertmanager directly, for faults that no rule of this stack detects."""
        now = datetime.now(UTC)
        self._post_alert(alertname, labels, now, now + timedelta(seconds=seconds))
        self.cleanup.callback(self.resolve, alertname, **labels)

    def resolve(self, alertname: str, **labels: str) -> None:
        """End an alert that was sent directly."""
        now = datetime.now(UTC)
        with suppress(OSError):
            self._post_alert(alertname, labels, now - timedelta(seconds=1), now)

    def _post_alert(self, name: str, labels: dict[str, str], start: datetime, end: datetime) -> None:
        alert = {
            "labels": {"alertname": name, "severity": "critical", **labels},
            "annotations": {"summary": "sent by the judgement"},
            "startsAt": start.isoformat(),
            "endsAt": end.isoformat(),
        }
        self._alertmanager("/api/v2/alerts", [alert])

    def silence(self, alertname: str) -> None:
        """Silence an alert in Alertmanager."""
        now = datetime.now(UTC)
        matcher = {"name": "alertname", "value": alertname, "isRegex": False, "isEqual": True}
        silence = {
            "matchers": [matcher],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "judge",
            "comment": "the alert of the dependency itself is silenced",
        }
        self._alertmanager("/api/v2/silences", silence)

    def _alertmanager(self, path: str, body: object) -> None:
        url = f"http://127.0.0.1:{self.settings.ports.alertmanager}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60):
            pass

    # -- helpers of faults

    def process(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the row."""
        started = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.cleanup.callback(started.wait)
        self.cleanup.callback(started.kill)
        return started

    def listener(self, port: int) -> subprocess.Popen[bytes]:
        """Start another program that listens on a port, and return when it does."""
        code = (
            "import socket,time\ns=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
            f"while True:\n  try: s.bind(('127.0.0.1',{port})); break\n  except OSError: time.sleep(.005)\n"
            "s.listen()\nwhile True: s.accept()[0].close()"
        )
        return self.process(sys.executable, "-c", code)

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait until a condition holds.

        Raises:
            StackError: the condition did not hold in time.
        """
        processes.wait(lambda: bool(condition()), what, seconds)

    def kill(self, program: str, number: int) -> None:
        """Send a signal to a program."""
        self.probe.signal(program, number)

    def sleep(self, seconds: float) -> None:
        """Wait for this time, for faults that depend on time."""
        time.sleep(seconds)
