"""Real remediators for real targets. Each start of a target is a line in its log."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from xmlrpc.client import ServerProxy

import sqlalchemy

from remediator.cli.audit_verify import NOT_ANCHORED
from remediator.storage.url import open_engine, parse_postgresql_url
from tests.support.servers import until
from tests.support.servers.remediator import ROOT, Remediator
from tests.support.servers.supervisord import Supervisord
from tests.support.stores import migrate_database

PLAYBOOK: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "target-down",
    "match": {"alertname": "TargetDown"},
    "mode": "auto",
    "target": "${service}",
    "parameters": {"service": {"label": "service", "type": "service"}},
    "conclude": [{"id": "down", "when": "true", "cause": "The target does not run."}],
    "steps": [
        {
            "id": "restart",
            "action": "service.restart",
            "for": "down",
            "with": {"stop_timeout": "3s"},
            "timeout": "5s",
        }
    ],
    "verify": {"settle": "50ms", "within": "10s", "checks": [{"check": "service.running"}, {"check": "http.ok"}]},
    "escalate": {"to": ["oncall"]},
}


class Installation:
    """Targets under a supervisord, and replicas of the remediator on one store.

    Args:
        stubborn: number of a target that ignores SIGTERM, so that its restart takes supervisord six seconds.
    """

    def __init__(self, folder: Path, targets: int = 1, store: str = "sqlite", stubborn: int = -1) -> None:
        self.folder = folder
        self.store = store
        self.supervisord = Supervisord(folder / "supervisord")
        self.targets = [f"target-{number}" for number in range(targets)]
        for number, name in enumerate(self.targets):
            deaf = 'trap "" TERM; ' if number == stubborn else ""
            command = f"sh -c '{deaf}echo started >> {folder}/{name}.log; exec sleep 1000'"
            self.supervisord.program(name, command, "stopwaitsecs=6")
        self.replicas: list[CrashingRemediator] = []
        self.fixed: Callable[[str], bool] = lambda name: self.starts(name) > 1
        """Return whether a target is healthy. By default it runs from the beginning, and is healthy after a second
        start.
        """
        self._health = _health(lambda name: self.fixed(name))
        if store != "sqlite":
            migrate_database(parse_postgresql_url(store))

    def start(self) -> None:
        """Start the targets."""
        self.supervisord.start()
        with self._rpc() as proxy:
            proxy.supervisor.startAllProcesses()
        until(lambda: all(self.starts(name) == 1 for name in self.targets), "the targets run")

    def http(self, name: str) -> dict[str, str]:
        """Return the URL of a target's health, for the inventory."""
        return {"url": f"http://127.0.0.1:{self._health.server_port}", "ready": f"/{name}"}

    def _rpc(self) -> ServerProxy:
        return ServerProxy(f"http://operator:opensesame@127.0.0.1:{self.supervisord.port}/RPC2")

    def replica(self, crash_at: str = "", tree: Path = ROOT, **settings: Any) -> CrashingRemediator:
        """Return one more remediator with the code in ``tree``. It is not started."""
        made = CrashingRemediator(self.folder / f"remediator-{len(self.replicas)}")
        made.crash_at, made.tree = crash_at, tree
        made.playbooks = [PLAYBOOK]
        bound = {"kind": "supervisor", "url": self.supervisord.url}
        made.inventory["services"] = {
            name: {"platform": {**bound, "program": name}, "http": self.http(name)} for name in self.targets
        }
        made.settings["store"] = self.store
        made.settings["timing"] = {"resolve_grace": "2s", "guard_recheck_interval": "500ms", "lease": "3s"}
        made.settings["guards"]["concurrency"] = {"global": 100, "playbook": 100}
        made.settings["guards"]["ramp"] = [1000]
        made.settings["guards"]["off"].append({"guard": "still_firing", "reason": "no Alertmanager here"})
        made.settings.update(settings)
        self.replicas.append(made)
        return made

    def stop(self) -> None:
        """Stop everything."""
        for replica in self.replicas:
            replica.kill()
        self.supervisord.stop()
        self._health.shutdown()
        self._health.server_close()

    def starts(self, target: str) -> int:
        """Return how often the target was started, from its log."""
        log = self.folder / f"{target}.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


def _health(well: Callable[[str], bool]) -> ThreadingHTTPServer:
    """Run a server that answers 200 at the path of a healthy target, and 503 at any other path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if well(self.path.lstrip("/")) else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class CrashingRemediator(Remediator):
    """A remediator that is killed or stopped at a place in its code."""

    forked = False
    crash_at = ""
    tree = ROOT
    """Folder of the code that it runs."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "REMEDIATOR_CRASH_AT": self.crash_at, "PYTHONPATH": str(self.tree)}

    def command_line(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands with its settings."""
        self.write()
        command = [sys.executable, "-m", "remediator", *argv, "--config", str(self.config)]
        environment = self.environment() | {"REMEDIATOR_CRASH_AT": ""}
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self.folder, check=False)

    @property
    def ended(self) -> bool:
        """Return whether its process is gone."""
        return self._process is None or self._process.poll() is not None

    @property
    def stopped(self) -> bool:
        """Return whether it is stopped by SIGSTOP."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def tell(self, target: str, status: str = "firing", tries: int = 1) -> bool:
        """Send the alert of the target. Return whether it was acknowledged."""
        body = self.notification(status, alertname="TargetDown", service=target)
        for _ in range(tries):
            try:
                if self.post(body)[0] == 200:
                    return True
            except (URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.1)
        return False

    def verified(self) -> None:
        """Verify the audit log with the command, and check the result."""
        argv = [sys.executable, "-m", "remediator", "audit", "verify", "--db", str(self.folder / "state/remediator.db")]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.environment(), check=False)
        assert done.returncode == NOT_ANCHORED, done.stdout + done.stderr  # these tests store no checkpoints elsewhere

    def inbox(self) -> list[bytes]:
        """Return the notifications in the file of the store."""
        with sqlite3.connect(f"file:{self.folder}/state/remediator.db?mode=ro", uri=True) as connection:
            return [bytes(body) for (body,) in connection.execute("SELECT body FROM notifications")]


def succeeded(replica: CrashingRemediator) -> set[str]:
    """Return the targets that have a successful run."""
    return {run["target"] for run in replica.runs() if run["status"] == "succeeded"}


def rows(url: str, statement: str) -> list[Any]:
    """Return rows of a PostgreSQL, read directly."""
    engine = open_engine(parse_postgresql_url(url))
    with engine.connect() as connection:
        found = list(connection.execute(sqlalchemy.text(statement)))
    engine.dispose()
    return found


def counted(url: str, statement: str) -> int:
    """Return a number from a PostgreSQL, read directly."""
    return int(rows(url, statement)[0][0])


def changed(url: str, statement: str) -> None:
    """Run a statement on a PostgreSQL directly, without the service."""
    engine = open_engine(parse_postgresql_url(url))
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()
