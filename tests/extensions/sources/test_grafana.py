"""Grafana Alerting: documented bodies become alerts, and its API has the same alerts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.grafana.client import Grafana
from remediator.errors import PayloadError, Refused
from remediator.extensions.sources.grafana import GrafanaSettings, GrafanaSource
from tests.support.servers import grafana as server

SOURCE = GrafanaSource("grafana", GrafanaSettings())


def test_a_documented_body_becomes_an_alert() -> None:
    """Labels, times and link come from the body; the links and values of Grafana become annotations."""
    body = server.notification(alertname="RedisDown", grafana_folder="Infra")
    SOURCE.check(body)
    notification = SOURCE.read(body)
    (alert,) = notification.alerts
    assert (notification.receiver, alert.status) == ("remediator", "firing")
    assert alert.labels == {"alertname": "RedisDown", "grafana_folder": "Infra"}
    assert alert.starts_at == "2026-01-01T09:51:03.157076+02:00"
    assert alert.generator_url == "https://play.grafana.org/alerting/1afz29v7z/edit"
    assert alert.annotations == {
        "summary": "Redis is down",
        "silence_url": "https://play.grafana.org/alerting/silence/new?alertmanager=grafana",
        "values": "B=44.23943737541908, C=1",
    }


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": "4"}, "unsupported version '4': expected '1', which Grafana sends"),
        ({"alerts": [{"status": "firing", "labels": {}}]}, "labels is empty"),
        ({"alerts": [{"status": "pending", "labels": {"a": "b"}}]}, "not a notification of Grafana"),
        ({"alerts": [{"status": "firing", "labels": {"a": "b"}, "startsAt": "now"}]}, "not an RFC 3339 time"),
        ({"alerts": {}}, "not a notification of Grafana"),
    ],
)
def test_a_body_that_no_retry_can_make_valid_is_refused(change: dict[str, object], why: str) -> None:
    """The sender gets the reason, so it does not retry."""
    with pytest.raises(PayloadError, match=why):
        SOURCE.check(json.dumps({"version": "1", "alerts": [], **change}).encode())


async def test_its_api_has_the_alerts_with_the_labels_of_notifications(tmp_path: Path) -> None:
    """The labels are the same as in the notification, without labels that Grafana adds. A wrong token is refused."""
    (tmp_path / "token").write_text(server.TOKEN)
    with server.grafana() as running:
        running.fire(alertname="RedisDown")
        right = Grafana(Endpoint(url=running.url, token_file=tmp_path / "token"))
        wrong = Grafana(Endpoint(url=running.url))
        try:
            (alert,) = await right.alerts(['alertname="RedisDown"'])
            with pytest.raises(Refused, match="401"):
                await wrong.alerts()
        finally:
            await right.aclose()
            await wrong.aclose()
    assert (alert.labels, alert.annotations, alert.status.suppressed) == ({"alertname": "RedisDown"}, {}, False)
    assert [receiver.name for receiver in alert.receivers] == ["remediator"]
    assert running.requests[0].startswith("/api/alertmanager/grafana/api/v2/alerts?")
