"""The alerts that Grafana has: its API has the shape of Alertmanager's, with a few differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from remediator.clients.alertmanager.client import Alertmanager, AlertmanagerStatus, Cluster, FiringAlert
from remediator.clients.endpoints import Endpoint

_API = "/api/alertmanager/grafana"
"""Grafana's own Alertmanager; the other names below ``/api/alertmanager`` are data sources."""


class Grafana(Alertmanager):
    """A client of the Alertmanager inside Grafana.

    Grafana adds labels and annotations such as ``__alert_rule_uid__`` for itself and removes them from notifications.
    The client removes them too, so that an alert has the same labels in notifications and in the API.

    Args:
        endpoint: Grafana, with the token of a service account that can read alerts.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.model_copy(update={"url": endpoint.url.rstrip("/") + _API}))

    async def status(self) -> AlertmanagerStatus:
        """Return that nothing is known: Grafana gives its status to administrators only, without a start time."""
        return AlertmanagerStatus(version="", started=None, cluster=Cluster(status="unknown"))

    async def alerts(self, filters: Iterable[str] = (), **options: Any) -> tuple[FiringAlert, ...]:
        """Return the alerts that have not ended; see :meth:`Alertmanager.alerts`."""
        found = await super().alerts(filters, **options)
        return tuple(
            msgspec.structs.replace(item, labels=_public(item.labels), annotations=_public(item.annotations))
            for item in found
        )


def _public(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if not (name.startswith("__") and name.endswith("__"))}
