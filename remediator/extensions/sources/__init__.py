"""Built-in sources of alerts, one file for each. To add one: write its file and add its class to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.sources.alertmanager import AlertmanagerSource
from remediator.extensions.sources.base import Source
from remediator.extensions.sources.grafana import GrafanaSource
from remediator.extensions.sources.json import JsonSource

BUILTIN: tuple[type[Source], ...] = (AlertmanagerSource, GrafanaSource, JsonSource)
"""The class of each kind."""
