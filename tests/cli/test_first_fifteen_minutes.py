"""The steps of a new user, from an empty folder to a guarded remedy for an alert of the user's own service.

The service, ``checkout``, appears in no playbook of this repository. Prometheus, Alertmanager and supervisord are real.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
import yaml

from tests.support.servers import accepts, free_port, require, until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.remediator import ROOT
from tests.support.servers.supervisord import Supervisord

SERVICE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = {"/health": b"ok\\n", "/metrics": b"checkout_orders_total 1\\n"}
        body = known.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body or b"")
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
RULES = """
groups:
  - name: checkout
    rules:
      - {alert: CheckoutErrors, expr: 'sum(rate(checkout_errors_total{job="checkout"}[1m])) > 1'}
      - alert: CheckoutDown
        expr: up{job="checkout"} == 0
        for: 500ms
        labels: {severity: critical}
        annotations: {summary: No customer can pay.}
"""
SCRAPE = {"job_name": "checkout", "scrape_interval": "5s", "scrape_timeout": "5s"}
"""A slow answer of the service on a busy machine must not look like an outage."""
ALERTMANAGER = """
route:
  receiver: team
  group_by: [alertname]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: team
    webhook_configs: [{url: "http://127.0.0.1:9/"}]
"""


class Company:
    """The installation of a new user before the first command: a service, supervisord, Prometheus and Alertmanager."""

    def __init__(self, folder: Path) -> None:
        self.service_port = free_port()
        self.port = free_port()
        (folder / "checkout.py").write_text(SERVICE)
        self.supervisord = Supervisord(folder / "supervisord")
        self.supervisord.program(
            "checkout", f"{sys.executable} {folder}/checkout.py {self.service_port}", "startsecs=1"
        )
        self.alertmanager = Alertmanager(folder / "alertmanager")
        self.alertmanager.configuration = ALERTMANAGER
        self.prometheus = Prometheus(folder / "prometheus")
        self.prometheus.rules = RULES
        service, alertmanager = f"127.0.0.1:{self.service_port}", f"127.0.0.1:{self.alertmanager.port}"
        self.prometheus.configuration = yaml.safe_dump(
            {
                "scrape_configs": [{**SCRAPE, "static_configs": [{"targets": [service]}]}],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            }
        )
        self.work = folder / "work"
        self.work.mkdir()
        self.service: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start all servers, and wait until Prometheus has scraped the service."""
        for server in (self.supervisord, self.alertmanager, self.prometheus):
            server.start()
        self.control("start")
        until(lambda: accepts(("127.0.0.1", self.service_port)), "the service answers")
        until(lambda: self.prometheus.query('up{job="checkout"} == 1') != [], "the service is scraped")
        until(lambda: self.supervisord_state() == "RUNNING", "supervisord sees it run")

    def control(self, verb: str) -> None:
        """Start or stop the service as an operator would."""
        with self._supervisor() as proxy:
            getattr(proxy.supervisor, f"{verb}Process")("checkout")

    def supervisord_state(self) -> str:
        """Return the state of the service, as supervisord reports it."""
        with self._supervisor() as proxy:
            info: Any = proxy.supervisor.getProcessInfo("checkout")
        return str(info["statename"])

    def _supervisor(self) -> ServerProxy:
        return ServerProxy(f"http://operator:opensesame@127.0.0.1:{self.supervisord.port}/RPC2")

    def remediator(self, *arguments: str, status: int | None = 0) -> str:
        """Run a command in the folder of the user and return its output."""
        done = self.run(*arguments)
        assert status is None or done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder of the user."""
        return subprocess.run(
            [sys.executable, "-m", "remediator", *arguments],
            cwd=self.work,
            env={**os.environ, "PYTHONPATH": str(ROOT), "REMEDIATOR_CONFIG": "remediator.yaml"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def init(self, *arguments: str, status: int | None = 0) -> str:
        """Run ``remediator init`` for these servers."""
        given = ("--yes", "--from", self.prometheus.url, "--supervisor", self.supervisord.url)
        return self.remediator("init", *given, "--listen", f"127.0.0.1:{self.port}", *arguments, status=status)

    def problems(self) -> list[str]:
        """Return the failures that ``remediator doctor`` reports."""
        found = json.loads(self.remediator("doctor", "--format", "json", status=None))["results"]
        return [f"{each['check']} {each['subject']}: {each['text']}" for each in found if each["level"] == "failed"]

    def watchdog_arrived(self) -> bool:
        """Return whether the service has received the Watchdog, the alert that always fires."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            found = re.search(
                r"^remediator_watchdog_last_seen_timestamp_seconds ([0-9.e+]+)", answer.read().decode(), re.MULTILINE
            )
        return found is not None and float(found[1]) > 0

    def paste(self) -> None:
        """Follow the output of ``init``: paste its parts into Alertmanager and Prometheus, and reload both."""
        config = yaml.safe_load(self.alertmanager.configuration)
        parts = yaml.safe_load((self.work / "alertmanager.remediator.yml").read_text())
        config["route"]["routes"] = parts["route"]["routes"]
        for route in config["route"]["routes"]:  # short intervals, as in a demo
            route |= {"group_wait": "100ms", "group_interval": "1s", "repeat_interval": "2s"}
        config["receivers"] += parts["receivers"]
        self.alertmanager.configuration = yaml.safe_dump(config)
        self.alertmanager.reload()
        rules = yaml.safe_load(RULES)["groups"]
        rules += yaml.safe_load((self.work / "prometheus.remediator.yml").read_text())["groups"]
        self.prometheus.rules = yaml.safe_dump({"groups": rules})
        self.prometheus.command()
        os.kill(self.prometheus.pid, signal.SIGHUP)

    def serve(self) -> None:
        """Start the service as the output of ``init`` says."""
        with (self.work / "service.log").open("wb") as log:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "remediator", "serve"],
                cwd=self.work,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self._ready, "the service is ready")

    def _ready(self) -> bool:
        try:
            return bool(self.get("/readyz")["ready"])
        except OSError:
            return False

    def get(self, path: str) -> Any:
        """Return an answer of the service's API, which is faster to poll than a command."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    def wait_for_run(self, status: str) -> dict[str, Any]:
        """Return the newest run when it has this status."""
        found: list[dict[str, Any]] = []

        def reached() -> bool:
            found[:] = self.get("/api/v1/runs")
            return bool(found) and found[0]["status"] == status

        until(reached, f"the newest run is {status}")
        return found[0]

    def stop(self) -> None:
        """Stop all servers."""
        if self.service is not None:
            self.service.terminate()
            self.service.wait(30)
        for server in (self.prometheus, self.alertmanager, self.supervisord):
            server.stop()


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    """Return a company with all servers but without remediator."""
    made = Company(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.long
def test_from_an_empty_folder_to_a_guarded_remedy(
    company: Company, record_property: Callable[[str, object], None]
) -> None:
    """Every command that ``init`` names works. The service is observed in mode shadow and restarted in mode auto."""
    begun = time.monotonic()
    said = company.init()
    assert "alert CheckoutDown, target checkout, mode shadow" in said
    assert re.search(
        r"1\. add prometheus.remediator.yml to 'rule_files:' .*\n +2\. paste alertmanager.remediator.yml", said
    )

    company.remediator("lint", "playbooks", "--fail-on", "error")
    assert "0 failed" in company.remediator("test", "playbooks")
    company.paste()
    with (company.work / "remediator.yaml").open("a") as settings:
        settings.write("timing: {resolve_grace: 1s}\n")  # the default is five minutes
    company.serve()

    until(lambda: company.watchdog_arrived(), "the Watchdog has arrived")
    assert company.problems() == []
    rehearsed = company.remediator("playbook", "trigger", "checkout-down")
    assert "plan     restart: " in rehearsed
    assert "result   the plan is ready; nothing was changed" in rehearsed
    assert company.supervisord_state() == "RUNNING"
    assert company.remediator("run", "list").strip() == "no runs"  # a rehearsal leaves nothing in the store

    company.control("stop")
    shadow = company.wait_for_run("blocked")
    assert "shadow" in str(shadow)
    assert company.supervisord_state() == "STOPPED", "mode shadow must not act"
    company.control("start")
    until(lambda: company.get("/api/v1/runs")[0]["status"] != "blocked", "the alert is resolved, and the run has ended")

    company.remediator("playbook", "set-mode", "checkout-down", "--mode", "auto", "--reason", "the plan was right")
    company.control("stop")
    until(lambda: company.supervisord_state() == "RUNNING", "remediator started the service again")
    company.wait_for_run("succeeded")
    record_property("seconds", round(time.monotonic() - begun, 1))


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Return a company for tests that only run ``init``, each in a new folder."""
    made = Company(tmp_path_factory.mktemp("company"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_init_never_overwrites_a_file(unchanged: Company) -> None:
    """A second run names the existing files and writes nothing, not even missing files."""
    unchanged.init("twice")
    folder = unchanged.work / "twice"
    (folder / "people.yaml").unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    unchanged.init("twice", status=2)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_init_protects_secrets_and_shows_none_of_them(unchanged: Company) -> None:
    """Tokens are only in files of mode 0600. Settings, people and output contain only names and hashes."""
    said = unchanged.init("secrets")
    folder = unchanged.work / "secrets"
    for name in ("webhook.token", "operator.token"):
        path = folder / name
        assert path.stat().st_mode & 0o777 == 0o600
        secret = path.read_text().strip()
        assert secret not in said
        assert all(secret not in each.read_text() for each in folder.rglob("*.y*ml"))


def test_init_refuses_an_alert_that_names_no_service(unchanged: Company) -> None:
    """`init` refuses an alert whose sum drops the service label, because its playbook would never run."""
    unchanged.init("summed", "--alert", "CheckoutErrors", status=2)
    assert not (unchanged.work / "summed").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--from", "foo", "--from foo: invalid URL 'foo'; expected for example http://127.0.0.1:9090"),
        ("--supervisor", "foo", "--supervisor: invalid URL 'foo'; expected for example unix:///run/supervisor.sock"),
        ("--supervisor", "twice.sock", "expected for example unix:///"),
        ("--listen", "8095", "invalid address '8095'; expected ADDRESS:PORT, for example 127.0.0.1:8095"),
    ],
)
def test_init_says_how_to_write_an_address(unchanged: Company, option: str, value: str, said: str) -> None:
    """A wrong address gives one line and status 2, without a traceback and without waiting for a search."""
    (unchanged.work / "twice.sock").touch()
    done = unchanged.run(
        "init",
        "--yes",
        "--supervisor",
        unchanged.supervisord.url,
        "--from",
        unchanged.prometheus.url,
        "x",
        option,
        value,
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (unchanged.work / "x").exists()


def test_existing_receivers_still_get_every_alert(company: Company) -> None:
    """With the pasted parts, amtool shows that existing receivers still get every alert."""
    company.init()
    company.paste()
    amtool = require("amtool")
    file = company.alertmanager.folder / "alertmanager.yml"
    subprocess.run([amtool, "check-config", str(file)], check=True, capture_output=True)

    def receivers(alert: str) -> list[str]:
        argv = [amtool, "config", "routes", "test", f"--config.file={file}", f"alertname={alert}", "job=checkout"]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip().split(",")

    assert receivers("CheckoutDown") == ["remediator", "team"]
    assert receivers("SomethingElse") == ["team"]
