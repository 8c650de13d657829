"""Links from an alert to other tools: runbook, expression, silence form and dashboards.

The URLs of an alert come from everyone who can send alerts (promise 8). So only http and https URLs become links, and
the text of a link shows its host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, urlsplit

from remediator.config import Config
from remediator.core.alert import ALERTMANAGER
from remediator.core.run import Episode

_MAX_URL = 2000
_BEFORE = timedelta(minutes=30)
"""A dashboard shows this much of the time before the alert."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link with its label."""

    label: str
    url: str
    external: bool = True


def alert_links(config: Config, alert: Episode, service: str, playbook: str, now: datetime) -> list[Link]:
    """Return the links of an alert.

    Args:
        config: the settings, with the templates of dashboards.
        alert: the alert.
        service: the service of the alert; empty if unknown.
        playbook: the matching playbook; empty if no playbook matched.
        now: the current time.
    """
    found = []
    for label, url in (
        ("Runbook", alert.annotations.get("runbook_url", "")),
        ("Dashboard of the alert", alert.annotations.get("dashboard_url", "")),
        ("Expression", alert.generator_url),
        ("Silence", alert.annotations.get("silence_url", "")),
    ):
        if host := _host(url):
            found.append(Link(f"{label} ({host})", url))
    base = config.links.alertmanager or next((peer.url for peer in config.alertmanagers if peer.socket is None), "")
    if base and alert.source == ALERTMANAGER:
        # a silence of exactly this alert, with the matchers as Alertmanager's form reads them
        labels: Sequence[tuple[str, str]] = sorted({"alertname": alert.alertname, **alert.labels}.items())
        matchers = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels)
        url = f"{base}/#/silences/new?filter={quote('{' + matchers + '}', safe='')}"
        found.append(Link("Silence in Alertmanager", url))
    values = {"service": service, "alertname": alert.alertname, "playbook": playbook}
    values |= {"from": _millis(alert.started_at - _BEFORE), "to": _millis(now)}
    values |= {f"label.{name}": value for name, value in alert.labels.items()}
    for label, template in config.links.dashboards.items():
        url = re.sub(r"\{([^{}]*)\}", lambda name: quote(values.get(name[1], ""), safe=""), template)
        found.append(Link(label, url))
    return found


def _host(url: str) -> str:
    """Return the host of a URL that may become a link; empty for any other text."""
    if len(url) > _MAX_URL or not url.startswith(("http://", "https://")) or not url.isprintable():
        return ""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _millis(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))
