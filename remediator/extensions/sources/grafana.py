"""Grafana Alerting: the webhook of its contact points (version 1), and its Alertmanager-compatible API."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import Field

from remediator.clients.endpoints import Endpoint
from remediator.clients.grafana.client import Grafana
from remediator.core.alert import Alert, Notification, check_alerts, decoded
from remediator.core.types import Strict
from remediator.errors import PayloadError
from remediator.extensions.sources.base import Source

_WHAT = "a notification of Grafana"


class GrafanaSettings(Strict):
    """Grafana Alerting."""

    api: Endpoint | None = Field(
        default=None,
        description="URL of Grafana, with the token of a service account that can read alerts. Without this URL, it "
        "is unknown whether an alert still fires, so a person is asked before each action.",
    )
    receiver: str | None = Field(
        default=None, description="Contact point that sends to this service. Default: those seen so far."
    )


class _Alert(Alert, frozen=True, rename="camel"):
    """An alert of Grafana: Alertmanager's, and links and values."""

    silence_url: str = msgspec.field(default="", name="silenceURL")
    dashboard_url: str = msgspec.field(default="", name="dashboardURL")
    panel_url: str = msgspec.field(default="", name="panelURL")
    values: dict[str, Any] | None = None
    value_string: str = ""


class _Notification(Notification, frozen=True, rename="camel"):
    alerts: list[_Alert]  # type: ignore[assignment]


_decoder = msgspec.json.Decoder(_Notification)


class GrafanaSource(Source):
    """Reads the webhook of a contact point (version 1), and asks Grafana which alerts fire."""

    kind = "grafana"
    Settings = GrafanaSettings

    def __init__(self, name: str, settings: GrafanaSettings) -> None:
        super().__init__(name, settings)
        self.peers = () if settings.api is None else (Grafana(settings.api),)
        self.receiver = settings.receiver

    def check(self, body: bytes) -> None:
        notification = decoded(_decoder.decode, body, _WHAT)
        if notification.version != "1":
            raise PayloadError(f"unsupported version {notification.version[:20]!r}: expected '1', which Grafana sends")
        check_alerts(notification.alerts)

    def read(self, body: bytes) -> Notification:
        notification = decoded(_decoder.decode, body, _WHAT)
        alerts = []
        for alert in notification.alerts:
            values = ", ".join(f"{name}={value}" for name, value in sorted((alert.values or {}).items()))
            extras = {
                "dashboard_url": alert.panel_url or alert.dashboard_url,
                "silence_url": alert.silence_url,
                "values": values or alert.value_string,
            }
            # the annotations of the rule have priority
            annotations = {**{name: text for name, text in extras.items() if text}, **alert.annotations}
            alerts.append(msgspec.structs.replace(alert, annotations=annotations))
        return msgspec.structs.replace(notification, alerts=alerts)
