"""A recipe of the cookbook in production.

Prometheus evaluates its rule, Alertmanager sends the alert, and the remediator has its inventory and its playbook.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from demo.http_server import QuietHandler, serve
from tests.support.cookbook import COOKBOOK
from tests.support.servers import until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.remediator import TOKEN, Remediator

ENDED = ("succeeded", "failed", "escalated", "cancelled")


class Recipe:
    """The servers of one recipe. Change them and the attributes before the start.

    Args:
        folder: the folder for all files.
        name: name of the recipe.
        hosts: the targets that Prometheus scrapes, each with its address and the label ``host``.
        replaced: replacements in the files of the recipe, such as addresses and paths.
    """

    def __init__(self, folder: Path, name: str, hosts: dict[str, str], replaced: dict[str, str]) -> None:
        self.folder, self.name, self.hosts, self.replaced = folder, name, hosts, replaced
        self.prometheus = Prometheus(folder / "prometheus")
        self.alertmanager = Alertmanager(folder / "alertmanager")
        self.remediator = Remediator(folder / "remediator")
        self.targets = folder / "targets.json"
        """The targets, in the format of file_sd."""
        self.series: Callable[[str], str] = lambda host: ""
        """Return the series of a host's exporter in the text format of Prometheus."""
        self.silent: set[str] = set()
        """Hosts whose exporter does not answer."""

    def file(self, path: str) -> Any:
        """Return a file of the recipe with its replacements."""
        text = (COOKBOOK / self.name / path).read_text()
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return yaml.safe_load(text)

    def playbook(self) -> dict[str, Any]:
        """Return the playbook in mode auto, with a faster verification."""
        made: dict[str, Any] = self.file(f"playbooks/{self.name}.yaml")
        made["mode"] = "auto"
        made["verify"] |= {"settle": "100ms", "within": "60s", "stable": "500ms"}
        return made

    def run(self, target: str, *statuses: str, seconds: float = 240) -> dict[str, Any]:
        """Wait until the run of a target has one of these statuses, by default until it has ended, and return it."""
        wanted = statuses or ENDED

        def found() -> list[dict[str, Any]]:
            return [run for run in self.remediator.runs() if run["target"] == target and run["status"] in wanted]

        try:
            until(lambda: bool(found()), f"a run of {target} is {' or '.join(wanted)}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; runs: {self.remediator.runs()}\n{self.remediator.log}") from None
        return dict(self.remediator.get(f"/api/v1/runs/{found()[0]['id']}"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the servers, and wait until Prometheus has scraped all hosts."""
        with ExitStack() as stack:
            exporter = stack.enter_context(serve(self._exporter()))
            self._write(urlsplit(exporter).netloc)
            for server in (self.alertmanager, self.prometheus, self.remediator):
                stack.callback(server.stop)
                server.start()
            until(lambda: len(self.prometheus.query("up == 1")) == len(self.hosts), "all hosts are scraped")
            yield

    def _write(self, exporter: str) -> None:
        targets = [{"targets": [f"{address}:9100"], "labels": {"host": name}} for name, address in self.hosts.items()]
        self.targets.write_text(json.dumps(targets))
        rules = self.file("alerting/rules.yml")
        for rule in rules["groups"][0]["rules"]:
            rule["for"] = "0s"
        self.prometheus.rules = yaml.safe_dump(rules)
        self.prometheus.configuration = yaml.safe_dump(
            {
                "alerting": {
                    "alertmanagers": [{"static_configs": [{"targets": [urlsplit(self.alertmanager.url).netloc]}]}]
                },
                "scrape_configs": [
                    {
                        "job_name": "node",
                        "scrape_interval": "3s",
                        "scrape_timeout": "3s",
                        "file_sd_configs": [{"files": [str(self.targets)]}],
                        "relabel_configs": [
                            {"source_labels": ["__address__"], "target_label": "instance"},
                            {"source_labels": ["host"], "target_label": "__param_host"},
                            {"replacement": exporter, "target_label": "__address__"},
                        ],
                    }
                ],
            }
        )
        self.alertmanager.configuration = f"""
route: {{receiver: remediator, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: remediator
    webhook_configs:
      - url: {self.remediator.url}/api/v1/alerts
        http_config: {{authorization: {{credentials: {TOKEN}}}}}
"""
        self.remediator.inventory = self.inventory()
        self.remediator.playbooks = [self.playbook()]
        self.remediator.settings["channels"] = {"oncall": {"kind": "log"}}
        self.remediator.settings["alertmanagers"] = [{"url": self.alertmanager.url}]
        self.remediator.settings["prometheus"] = {"url": self.prometheus.url}
        self.remediator.settings["timing"] |= {"probe_timeout": "40s", "observe_within": "5m"}

    def inventory(self) -> dict[str, Any]:
        """Return the inventory."""
        return dict(self.file("inventory.yaml"))

    def _exporter(self) -> type[QuietHandler]:
        recipe = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                (host,) = parse_qs(urlsplit(self.path).query)["host"]
                body = recipe.series(host).encode()
                with suppress(ConnectionError):  # Prometheus does not wait longer than its timeout
                    self.send_response(503 if host in recipe.silent else 200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

        return Handler


def causes(run: dict[str, Any]) -> set[str]:
    """Return the causes that a run names."""
    return {item["name"] for item in run["evidence"] if item["phase"] == "conclude"}


def lines(series: Sequence[tuple[str, dict[str, str], float]]) -> str:
    """Return series in the text format of Prometheus: name, labels and value of each."""
    texts = []
    for name, labels, number in series:
        given = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
        texts.append(f"{name}{{{given}}} {float(number)}\n")
    return "".join(texts)
