"""Alerts of each source heal Redis on a real service, with the same guards as alerts of Alertmanager."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import commands
from tests.support.servers import grafana, until
from tests.support.servers.remediator import Remediator, Stack

pytestmark = [pytest.mark.promise(5), pytest.mark.long]
ALERT = {"alertname": "RedisDown", "instance": "redis:6379"}
ZABBIX_TOKEN = "the-token-of-zabbix-0123"
OPERATOR = "rmo_sources0operator0token0number1"


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[tuple[Stack, grafana.Grafana]]:
    """Return the small real stack with a Grafana that answers, and a Zabbix that cannot be asked."""
    made = Stack(tmp_path)
    folder = made.remediator.folder
    for name, text in (("hmac", grafana.SECRET), ("api", grafana.TOKEN), ("zabbix", ZABBIX_TOKEN)):
        (folder / name).write_text(text)
    ann = {"roles": ["admin"], "groups": ["sre"], "tokens": [hashlib.sha256(OPERATOR.encode()).hexdigest()]}
    people = {"apiVersion": "remediator/v1", "kind": "People", "people": {"ann": ann}}
    (folder / "people.yaml").write_text(yaml.safe_dump(people))
    with grafana.grafana() as running:
        made.remediator.settings["timing"] |= {"reconcile": "1s"}
        made.remediator.settings["access"] = {"people": "people.yaml", "anonymous_role": "viewer"}
        made.remediator.settings["sources"] = {
            "grafana": {
                "kind": "grafana",
                "hmac": {
                    "secret_files": ["hmac"],
                    "header": "X-Grafana-Alerting-Signature",
                    "timestamp_header": "X-Grafana-Alerting-Timestamp",
                },
                "api": {"url": running.url, "token_file": "api"},
            },
            "zabbix": {
                "kind": "json",
                "token_file": "zabbix",
                "mapping": {
                    "status": 'body.value == "0" ? "resolved" : "firing"',
                    "labels": {"alertname": "body.name", "instance": "body.host"},
                    "fingerprint": "body.id",
                },
            },
        }
        try:
            made.start()
            yield made, running
        finally:
            made.stop()


def post(remediator: Remediator, source: str, body: bytes, headers: dict[str, str]) -> int:
    """Send a body to the endpoint of a source, and return the status."""
    request = urllib.request.Request(f"{remediator.url}/api/v1/alerts/{source}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def zabbix(remediator: Remediator, value: str = "1") -> int:
    body = {"value": value, "id": "4211", "name": "RedisDown", "host": "redis:6379"}
    return post(remediator, "zabbix", json.dumps(body).encode(), {"Authorization": f"Bearer {ZABBIX_TOKEN}"})


def command(stack: Stack, *arguments: str) -> str:
    done = commands.remediator(*arguments, "--config", str(stack.remediator.config))
    done.check_returncode()
    return done.stdout


def alerts(run: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["source"], item["status"]) for item in run["alerts"]]


def accepted(remediator: Remediator, source: str) -> bool:
    """Return whether the metric counts accepted notifications of the source."""
    counted = f'remediator_notifications_total{{code="200",result="accepted",source="{source}"}} '
    return any(line.startswith(counted) and not line.endswith(" 0.0") for line in remediator.metrics().splitlines())


def test_an_alert_of_alertmanager_heals_redis(sources: tuple[Stack, grafana.Grafana]) -> None:
    """Alertmanager confirms the alert, so Redis is restarted at once."""
    stack, _ = sources
    pid = stack.kill_redis()
    stack.alertmanager.fire(**ALERT)
    assert alerts(stack.remediator.wait_for("succeeded")) == [("alertmanager", "firing")]
    assert stack.redis()["pid"] not in (0, pid)
    assert accepted(stack.remediator, "alertmanager")


def test_an_alert_of_grafana_heals_redis(sources: tuple[Stack, grafana.Grafana]) -> None:
    """Grafana confirms the alert, so Redis is restarted at once. A body without a signature has no effect."""
    stack, running = sources
    remediator = stack.remediator
    pid = stack.kill_redis()
    running.fire(**ALERT)
    body = grafana.notification(**ALERT)
    assert post(remediator, "grafana", body, {"Content-Type": "application/json"}) == 401
    assert remediator.runs() == []
    assert post(remediator, "grafana", body, grafana.signed(body)) == 200
    assert alerts(remediator.wait_for("succeeded")) == [("grafana", "firing")]
    assert stack.redis()["pid"] not in (0, pid)
    assert accepted(remediator, "grafana")
    running.alerts.clear()
    ended = grafana.notification("resolved", **ALERT)
    assert post(remediator, "grafana", ended, grafana.signed(ended)) == 200
    until(lambda: not remediator.get("/api/v1/episodes"), "the alert is over")


def test_an_alert_of_zabbix_asks_a_person(sources: tuple[Stack, grafana.Grafana]) -> None:
    """Zabbix cannot confirm the alert, so a person decides before Redis is restarted."""
    stack, _ = sources
    remediator = stack.remediator
    pid = stack.kill_redis()
    assert zabbix(remediator) == 200
    asked = remediator.wait_for("awaiting_approval")
    assert stack.redis()["pid"] == 0, "nothing was done before a person decided"
    shown = command(stack, "run", "show", asked["id"])
    assert "the source 'zabbix' cannot be asked" in shown
    assert "} from zabbix firing" in shown
    [request] = remediator.get("/api/v1/approvals")
    decision = json.dumps({"plan_hash": request["plan_hash"], "reason": "it is down"}).encode()
    assert remediator.post(decision, f"/api/v1/approvals/{request['id']}/approve", OPERATOR)[0] == 200
    assert alerts(remediator.wait_for("succeeded")) == [("zabbix", "firing")]
    assert stack.redis()["pid"] not in (0, pid)
    assert accepted(remediator, "zabbix")


def test_what_a_source_does_not_have_is_not_acted_on(sources: tuple[Stack, grafana.Grafana]) -> None:
    """If Grafana does not confirm the alert or has silenced it, nothing is done.

    Alertmanager does not end an alert of Grafana, and an alert that Zabbix resolved needs no approval.
    """
    stack, running = sources
    remediator = stack.remediator
    os.kill(int(stack.redis()["pid"]), signal.SIGSTOP)
    pid = stack.redis()["pid"]
    body = grafana.notification(**ALERT)
    running.fire(("s1",), **ALERT)
    assert post(remediator, "grafana", body, grafana.signed(body)) == 200
    run = remediator.wait_for("blocked")
    assert run["detail"]["guard"] == "still_firing" and "suppressed" in json.dumps(run["detail"])

    until(lambda: remediator.get("/api/v1/episodes")[0]["source"] == "grafana", "the alert is known")
    asked = len(running.requests)
    until(lambda: len(running.requests) > asked + 5, "it was compared several times")
    assert [item["status"] for item in remediator.get("/api/v1/episodes")] == ["firing"], "Alertmanager ended it"
    assert stack.redis()["pid"] == pid

    assert zabbix(remediator) == 200
    until(lambda: len(remediator.get("/api/v1/episodes")) == 2, "the same labels are another alert")
    assert zabbix(remediator, "0") == 200
    over = (["firing"], ["firing", "resolved"])
    until(lambda: sorted(item["status"] for item in remediator.get("/api/v1/episodes")) in over, "it is over")
    assert len(remediator.runs()) == 1
    assert stack.redis()["pid"] == pid
    os.kill(pid, signal.SIGCONT)
