"""alertmanager.yml: receivers and inhibitions, evaluated by a real Alertmanager."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from remediator.config import Watchdog
from remediator.core.clock import parse_duration
from tests.support.servers import require, until
from tests.support.servers.alertmanager import Alertmanager

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "alertmanager.yml").read_text()
SETTINGS: dict[str, Any] = yaml.safe_load(TEXT)

Labels = dict[str, str]


def alert(name: str, **labels: str) -> Labels:
    return {"alertname": name, "environment": "production"} | labels


CAUSES = (
    alert("RedisDown", service="redis"),
    alert("AppCrashLoopBackOff", service="app", environment="staging"),
    alert("AppDown", service="app", job="fastapi-app", environment="test"),
)
SILENCED = (
    alert("RedisConnectionErrors", service="app"),
    alert("AppHighErrorRate", service="app"),
    alert("AppHighLatency", service="app"),
    alert("CacheHitRatioLow", service="app"),
    alert("SessionLoss", service="app"),
    alert("AppDown", service="app", environment="staging"),
    alert("AppHighErrorRate", service="app", environment="staging"),
    alert("TargetDown", service="app", job="fastapi-app", environment="test"),
    alert("AppHighLatency", service="app", environment="test"),
)
HEARD = (
    *CAUSES,
    alert("RedisDiskFull", service="redis"),
    alert("AppCrashLoopBackOff", service="app"),
    alert("Watchdog", service="monitoring"),
    alert("TargetDown", service="redis", job="redis-exporter"),
    alert("TargetDown", service="host", job="node", environment="test"),
    alert("SessionLoss", service="app", environment="staging"),
    alert("AppHighErrorRate", service="shop", environment="staging"),
    alert("RedisConnectionErrors", service="app", environment="test"),
    alert("AppHighErrorRate", service="app", environment="elsewhere"),
)


def test_settings_are_valid() -> None:
    """amtool accepts the settings."""
    done = subprocess.run(
        [require("amtool"), "check-config", str(ROOT / "alertmanager.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cause_silences_what_it_causes(make_alertmanager: Callable[..., Alertmanager]) -> None:
    """A firing cause inhibits exactly its symptoms, and only in the same environment."""
    server = make_alertmanager(configuration=TEXT)
    for labels in (*CAUSES, *SILENCED, *HEARD):
        server.fire(**labels)

    def inhibited() -> set[frozenset[tuple[str, str]]]:
        found = server.get("/api/v2/alerts")
        return {frozenset(item["labels"].items()) for item in found if item["status"]["inhibitedBy"]}

    wanted = {frozenset(labels.items()) for labels in SILENCED}
    until(lambda: inhibited() >= wanted, "symptoms are inhibited")
    assert inhibited() == wanted


def test_the_webhook_gets_resolved_alerts_and_a_token() -> None:
    """The webhook has send_resolved, a bearer token from a file, and a limit on the size of a notification."""
    [receiver] = SETTINGS["receivers"]
    [hook] = receiver["webhook_configs"]
    assert hook["send_resolved"] is True
    assert hook["http_config"]["authorization"]["type"] == "Bearer"
    assert "credentials_file" in hook["http_config"]["authorization"]
    assert 0 < hook["max_alerts"] <= 10_000


def test_the_watchdog_arrives_often_enough() -> None:
    """Each group interval sends the Watchdog, and one may be missed before the alerts count as outdated."""
    watchdog = next(route for route in SETTINGS["route"]["routes"] if "Watchdog" in route["matchers"][0])
    interval, repeat = parse_duration(watchdog["group_interval"]), parse_duration(watchdog["repeat_interval"])
    assert repeat < interval
    assert 2 * interval < Watchdog().max_silence
