"""Alertmanager, and programs that push to it: Prometheus, Mimir, Thanos, vmalert."""

from __future__ import annotations

from pydantic import Field

from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.endpoints import Endpoint
from remediator.core.types import Strict
from remediator.extensions.sources.base import Source


class AlertmanagerSettings(Strict):
    """Another cluster of Alertmanager. The first one has the settings ``webhook`` and ``alertmanagers``."""

    peers: tuple[Endpoint, ...] = Field(
        default=(), description="Every peer of this cluster. Each peer is queried before an action."
    )
    receiver: str | None = Field(
        default=None, description="Receiver that sends to this service. Default: the receivers seen so far."
    )


class AlertmanagerSource(Source):
    """Reads the webhook of Alertmanager (version 4), and asks its API which alerts fire."""

    kind = "alertmanager"
    Settings = AlertmanagerSettings

    def __init__(self, name: str, settings: AlertmanagerSettings) -> None:
        super().__init__(name, settings)
        self.peers = tuple(Alertmanager(endpoint) for endpoint in settings.peers)
        self.receiver = settings.receiver
