"""Inhibition as shipped, on a real Alertmanager: a cause holds back what it causes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.servers import until
from tests.servers.alertmanager import Alertmanager
from tests.servers.remediator import ROOT

CASES = [
    ({"alertname": "RedisDown", "service": "redis"}, {"alertname": "AppHighErrorRate", "service": "app"}, True),
    ({"alertname": "RedisDown", "service": "redis"}, {"alertname": "SessionLoss", "service": "app"}, True),
    ({"alertname": "RedisDown", "service": "redis"}, {"alertname": "RedisDiskFull", "service": "redis"}, False),
    (
        {"alertname": "AppDown", "service": "app"},
        {"alertname": "TargetDown", "service": "app", "job": "fastapi-app"},
        True,
    ),
    ({"alertname": "AppDown", "service": "app"}, {"alertname": "TargetDown", "service": "redis"}, False),
    (
        {"alertname": "RedisDown", "service": "redis", "environment": "a"},
        {"alertname": "AppHighErrorRate", "service": "app", "environment": "b"},
        False,
    ),
]


@pytest.mark.parametrize(("cause", "symptom", "held"), CASES)
def test_a_cause_holds_back_what_it_causes(
    make_alertmanager: Callable[..., Alertmanager], cause: dict[str, str], symptom: dict[str, str], held: bool
) -> None:
    """The shipped inhibition rules, as Alertmanager itself applies them."""
    settings = yaml.safe_load((ROOT / "alertmanager.yml").read_text())
    settings["route"] = {"receiver": "nobody", "group_wait": "10ms"}
    settings["receivers"] = [{"name": "nobody"}]
    server = make_alertmanager(configuration=yaml.safe_dump(settings))
    server.fire(**cause)
    server.fire(**symptom)

    def status() -> dict[str, Any]:
        found = server.get(f"/api/v2/alerts?filter=alertname={symptom['alertname']}")
        return found[0]["status"] if found else {"state": "unprocessed", "inhibitedBy": []}

    until(lambda: status()["state"] != "unprocessed", "Alertmanager has looked at it")
    until(lambda: bool(status()["inhibitedBy"]) == held, f"inhibited: {held}")
