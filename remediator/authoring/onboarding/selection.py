"""Connect alerts with services, and choose the first alert for which a playbook is written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from remediator.authoring.onboarding.monitoring import Alert, Monitoring
from remediator.authoring.onboarding.sources.base import FoundService
from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpClient
from remediator.clients.prometheus.client import Target
from remediator.errors import InputError, RemediatorError
from remediator.playbooks.diagnostics import did_you_mean

_OUTAGE = re.compile(r"(Down|Absent|Unavailable|Unreachable|NotReady|NotRunning|Failed|Crash\w*)$")
_UP = re.compile(r"\b(up|probe_success)\b")
_NEVER = re.compile(r"remediator|prometheus|alertmanager|grafana")
"""Services that a playbook must not restart on its own: without them, no person can observe remediator."""
_READY_PATHS = ("/readyz", "/healthz", "/health", "/-/ready", "/livez", "/ready", "/ping")
_TIMEOUT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An alert, and the service that it is about."""

    alert: Alert
    service: FoundService
    label: str
    """The label of the alert that names the service."""
    value: str

    @property
    def score(self) -> int:
        """Return how well a restart of the service fits the alert; higher is better."""
        return (
            4 * bool(_OUTAGE.search(self.alert.name))
            + 2 * (self.alert.severity in ("critical", "page"))
            + bool(_UP.search(self.alert.expression))
        )


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """A readiness endpoint that answered."""

    url: str
    ready: str
    metrics: str


def candidates(monitoring: Monitoring, services: Sequence[FoundService]) -> list[Candidate]:
    """Return every alert that is about a known service, the best one first."""
    known: dict[str, FoundService] = {}
    for service in services:
        for alias in (service.name, *service.aliases):
            known.setdefault(alias, service)
    found = [each for alert in monitoring.alerts for each in _of(alert, known)]
    return sorted(found, key=lambda each: (-each.score, each.alert.name, each.service.name))


def _of(alert: Alert, known: Mapping[str, FoundService]) -> Iterator[Candidate]:
    seen = set()
    for labels in alert.labels:
        for label, value in labels.items():
            service = known.get(value.lower())
            if service is None or _NEVER.search(service.name) or service.name in seen:
                continue
            seen.add(service.name)
            yield Candidate(alert, service, label, value)
            break


def choose(
    monitoring: Monitoring, services: Sequence[FoundService], alert: str = "", service: str = ""
) -> list[Candidate]:
    """Return the candidates that a person can choose from, the best one first.

    Args:
        monitoring: the alerts.
        services: the services.
        alert: name of the alert that the person wants; empty: any.
        service: name of the service that the person wants; empty: any.

    Raises:
        InputError: there is no candidate; the message says what is missing.
    """
    if not monitoring.alerts:
        raise InputError(
            "no alert rule was found; give the address of Prometheus or Alertmanager: "
            "remediator init --from http://127.0.0.1:9090"
        )
    if not services:
        raise InputError(
            "no service was found in Kubernetes, Docker Compose, supervisord or systemd; "
            "see the lines above, or give the address of supervisord with --supervisor"
        )
    names = {each.name for each in monitoring.alerts}
    if alert and alert not in names:
        raise InputError(f"unknown alert {alert!r}; {did_you_mean(alert, names)}")
    by_name = {each.name: each for each in services}
    if service and service not in by_name:
        raise InputError(f"unknown service {service!r}; {did_you_mean(service, by_name)}")
    found = [
        each
        for each in candidates(monitoring, services)
        if alert in ("", each.alert.name) and service in ("", each.service.name)
    ]
    if not found:
        raise InputError(
            f"no label of {f'the alert {alert}' if alert else 'an alert'} names "
            f"{f'the service {service}' if service else 'one of the services found'} "
            f"({', '.join(sorted(by_name)[:12])}); add a label such as 'service: NAME' to the alert rule"
        )
    return found


async def probe(chosen: Candidate, targets: Iterable[Target]) -> HttpProbe | None:
    """Return the readiness endpoint beside the metrics of the service; None if no usual path answers."""
    for target in targets:
        if target.labels.get(chosen.label, "").lower() != chosen.value.lower():
            continue
        parts = urlsplit(target.scrape_url)
        base = f"{parts.scheme}://{parts.netloc}"
        answers = await asyncio.gather(*(_answers(base, path) for path in _READY_PATHS))
        ready = next((path for path, ok in zip(_READY_PATHS, answers, strict=True) if ok), None)
        if ready is not None:
            return HttpProbe(base, ready, parts.path or "/metrics")
    return None


async def _answers(base: str, path: str) -> bool:
    try:
        client = HttpClient(Endpoint(url=base, timeout=_TIMEOUT))
    except ValueError:
        return False
    try:
        await client.get(path)
    except RemediatorError:
        return False
    finally:
        await client.aclose()
    return True
