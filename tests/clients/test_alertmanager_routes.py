"""The client follows the routing tree exactly as amtool does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from remediator.clients.alertmanager.routes import receivers_for, top_receiver
from tests.support.servers import require

CONFIG = """
route:
  receiver: top
  routes:
    - {receiver: first, matchers: ['alertname=~"Redis.*"'], continue: true}
    - receiver: second
      match: {team: data}
      routes:
        - {matchers: ['severity="critical"'], receiver: pager}
        - {match_re: {severity: "warn.*"}}
    - {receiver: third, matchers: [env!="dev", alertname!~"Info.*"], continue: true}
    - {receiver: third, matchers: ['team=""']}
receivers: [{name: top}, {name: first}, {name: second}, {name: third}, {name: pager}]
"""
ALERTS = [
    {"alertname": "RedisDown", "env": "prod"},
    {"alertname": "RedisDown", "env": "dev", "team": "data", "severity": "critical"},
    {"alertname": "Other", "env": "dev", "team": "data", "severity": "warning"},
    {"alertname": "Other", "env": "dev", "team": "data"},
    {"alertname": "InfoX", "env": "dev", "team": "x"},
    {"alertname": "InfoX", "env": "dev"},
]


@pytest.mark.parametrize("labels", ALERTS, ids=lambda labels: "-".join(labels.values()))
def test_alerts_reach_the_same_receivers_as_with_amtool(labels: dict[str, str], tmp_path: Path) -> None:
    """The receivers equal those of amtool for all matcher kinds, nested routes and ``continue``."""
    file = tmp_path / "alertmanager.yml"
    file.write_text(CONFIG)
    argv = [require("amtool"), "config", "routes", "test", f"--config.file={file}"]
    argv += [f"{name}={value}" for name, value in labels.items()]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    assert list(receivers_for(yaml.safe_load(CONFIG)["route"], labels)) == list(dict.fromkeys(said.split(",")))


def test_a_route_that_contains_itself_ends() -> None:
    """The search ends even if a YAML anchor in another system's configuration makes a route contain itself."""
    route: dict[str, object] = {"receiver": "top"}
    route["routes"] = [route]
    assert receivers_for(route, {}) == ("top",)


@pytest.mark.parametrize("text", ["", "{", "route: []", "receivers: []"])
def test_an_unreadable_configuration_has_no_top_receiver(text: str) -> None:
    """An unreadable configuration gives no top receiver and no error. The caller uses a placeholder."""
    assert top_receiver(text) == ""
