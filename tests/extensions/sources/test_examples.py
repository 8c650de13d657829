"""The settings in the how-to are valid, and they map the requests of Datadog, Zabbix, and CloudWatch through SNS.

The bodies have the fields that the vendors document: Datadog's webhook variables, Zabbix' macros in a webhook media
type, and the JSON of SNS (Message, TopicArn, Type) that contains the JSON of a CloudWatch alarm.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.extensions.sources.base import Source
from remediator.playbooks.loader import read_model
from remediator.playbooks.parsing.check_settings import check_settings
from tests.support.servers.remediator import ROOT

PAGE = ROOT / "docs/how-to/receive-alerts-from-grafana-and-others.md"
EXAMPLES = re.findall(r"```yaml\n(sources:.*?)```", PAGE.read_text(), re.DOTALL)

DATADOG = {
    "title": "[Triggered on {host:web-1}] Redis is down",
    "name": "Redis is down",
    "transition": "Triggered",
    "cycle": "1766050000000000000",
    "scope": "host:web-1, env:prod",
    "priority": "P1",
    "updated": "1406662672000",
    "link": "https://app.datadoghq.com/event/event?id=1",
}
ZABBIX = {
    "url": "https://remediator.example.com/api/v1/alerts/zabbix",
    "value": "1",
    "id": "4211",
    "name": "Redis is down",
    "host": "web-1",
    "severity": "Disaster",
    "tags": '[{"tag":"component","value":"redis"},{"tag":"scope","value":"availability"}]',
    "since": "1700000000",
}
ALARM = {
    "AlarmName": "RedisDown",
    "AlarmDescription": None,
    "AWSAccountId": "123456789012",
    "NewStateValue": "ALARM",
    "NewStateReason": "Threshold Crossed: 1 datapoint (0.0) was less than the threshold (1.0).",
    "StateChangeTime": "2026-01-03T17:43:27.123+0000",
    "Region": "EU (Ireland)",
    "AlarmArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:RedisDown",
    "OldStateValue": "OK",
    "Trigger": {
        "MetricName": "up",
        "Namespace": "App",
        "Dimensions": [{"value": "web-1", "name": "host"}],
        "Threshold": 1.0,
    },
}
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37",
    "TopicArn": TOPIC,
    "Message": "You have chosen to subscribe to the topic. To confirm, visit the SubscribeURL in this message.",
    "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37",
}


def sns(topic: str = TOPIC, **alarm: str) -> dict[str, str]:
    """Return a message of SNS with an alarm."""
    return {"Type": "Notification", "TopicArn": topic, "Message": json.dumps({**ALARM, **alarm}), "Signature": "x"}


@pytest.fixture
def examples(tmp_path: Path) -> dict[str, Source]:
    """Return the sources of all examples, loaded from one file."""
    for name in ("grafana.hmac", "grafana.token", "datadog.token", "zabbix.token", "sns.password"):
        (tmp_path / name).write_text("0123456789abcdef")
    sources: dict[str, Any] = {}
    for text in EXAMPLES:
        sources |= yaml.safe_load(text)["sources"]
    settings = {"apiVersion": "remediator/v1", "kind": "Config", "state": "s", "playbooks": ["p"], "inventory": "i"}
    (tmp_path / "remediator.yaml").write_text(yaml.safe_dump({**settings, "sources": sources}))
    parsed = read_model(tmp_path / "remediator.yaml", Config)
    assert parsed.model is not None, parsed.diagnostics
    assert parsed.root is not None
    assert list(check_settings(Registry().catalogue(), parsed.root)) == []
    return Registry().make_sources(parsed.model)


def mapped(source: Source, content: Any) -> list[Any]:
    body = json.dumps(content).encode()
    source.check(body)
    return list(source.read(body).alerts)


def test_every_kind_has_an_example(examples: dict[str, Source]) -> None:
    """The how-to has an example for Grafana, Datadog, Zabbix and CloudWatch."""
    assert set(examples) == {"alertmanager", "grafana", "datadog", "zabbix", "cloudwatch"}
    assert [name for name, each in examples.items() if each.peers] == ["grafana"]


def test_a_datadog_monitor_that_triggers_and_recovers_is_one_alert(examples: dict[str, Source]) -> None:
    """A monitor that triggers and recovers is one alert; No Data is ignored."""
    source = examples["datadog"]
    (firing,) = mapped(source, DATADOG)
    assert firing.status == "firing"
    assert firing.labels == {"alertname": "Redis is down", "severity": "critical", "host": "web-1", "env": "prod"}
    assert firing.starts_at.startswith("2014-07-29T19:37:52")
    (recovered,) = mapped(source, {**DATADOG, "transition": "Recovered", "priority": "", "scope": "host:web-1"})
    assert recovered.status == "resolved"
    assert source.identity(recovered) == source.identity(firing)
    assert mapped(source, {**DATADOG, "transition": "No Data"}) == []


def test_a_zabbix_problem_and_its_recovery_are_one_alert(examples: dict[str, Source]) -> None:
    """A problem and its recovery have the same event ID; the tags become labels."""
    source = examples["zabbix"]
    (firing,) = mapped(source, ZABBIX)
    assert firing.status == "firing"
    assert firing.labels == {
        "alertname": "Redis is down",
        "host": "web-1",
        "severity": "critical",
        "component": "redis",
        "scope": "availability",
    }
    (recovered,) = mapped(source, {**ZABBIX, "value": "0"})
    assert (recovered.status, source.identity(recovered)) == ("resolved", source.identity(firing))


def test_cloudwatch_through_sns(examples: dict[str, Source]) -> None:
    """An alarm and its end are one alert. Other topics, missing data and subscription confirmations are ignored."""
    source = examples["cloudwatch"]
    (firing,) = mapped(source, sns())
    assert firing.status == "firing"
    assert firing.labels == {"alertname": "RedisDown", "region": "EU (Ireland)", "host": "web-1"}
    (recovered,) = mapped(source, sns(NewStateValue="OK"))
    assert (recovered.status, source.identity(recovered)) == ("resolved", source.identity(firing))
    for ignored in (sns(NewStateValue="INSUFFICIENT_DATA"), sns("arn:aws:sns:eu-west-1:666:evil"), CONFIRMATION):
        assert mapped(source, ignored) == []


def test_an_expression_that_is_not_cel_is_reported_with_its_place(tmp_path: Path) -> None:
    """The error has the file, line and column of the expression."""
    text = (
        "apiVersion: remediator/v1\nkind: Config\nstate: s\nplaybooks: [p]\ninventory: i\nsources:\n  any:\n"
        "    kind: json\n    token_file: t\n    mapping:\n      status: body.state = 1\n"
        "      labels: {alertname: evidence.name}\n"
    )
    (tmp_path / "remediator.yaml").write_text(text)
    parsed = read_model(tmp_path / "remediator.yaml", Config)
    assert parsed.root is not None
    found = list(check_settings(Registry().catalogue(), parsed.root))
    assert [(item.line, item.column, item.rule) for item in found] == [
        (11, 26, "bad-expression"),
        (12, 27, "bad-expression"),
    ]
    assert "unknown name 'evidence'" in found[1].message
    assert "an expression can use body, alert" in found[1].hint
