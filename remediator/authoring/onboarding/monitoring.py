"""Find Prometheus and Alertmanager, the alert rules that they have, and the labels of each alert."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.alertmanager.routes import top_receiver
from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import AlertRule, Prometheus, Target
from remediator.clients.prometheus.promql import selectors
from remediator.clients.prometheus.result_labels import ResultLabels, result_labels
from remediator.errors import BadAnswer, ClientError, InputError, Refused, RemediatorError
from remediator.reporting.formatting import plural

LOCAL = ("http://127.0.0.1:9090", "http://127.0.0.1:9093")
IN_CLUSTER = ("http://prometheus-operated.monitoring.svc:9090", "http://alertmanager-operated.monitoring.svc:9093")
NAMING_LABELS = (
    "service",
    "app",
    "deployment",
    "container_label_com_docker_compose_service",
    "container",
    "program",
    "name",
    "job",
)
"""Labels that name a service, the most specific first. A job is often an exporter, so it is the last."""
_TIMEOUT = timedelta(seconds=3)
_MAX_QUERIES = 200
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that can fire here."""

    name: str
    expression: str
    labels: tuple[Mapping[str, str], ...]
    """The known labels of its instances: one mapping for each, with the labels that name a service."""
    severity: str = ""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The answers of Prometheus and Alertmanager."""

    prometheus: str | None = None
    alertmanagers: tuple[str, ...] = ()
    default_receiver: str = "default"
    """The receiver of the top route of the first Alertmanager."""
    alerts: tuple[Alert, ...] = ()
    targets: tuple[Target, ...] = ()
    watchdog: str | None = None
    """Name of the alert that always fires, or None."""
    notes: tuple[str, ...] = ()
    """The servers that were found, and the servers that did not answer: one line for each server."""


async def find_monitoring(addresses: Iterable[str], *, in_cluster: bool = False) -> Monitoring:
    """Look at the given addresses, or at the usual ones.

    Args:
        addresses: URLs of Prometheus or Alertmanager; empty: the usual ports of this host.
        in_cluster: also look at the usual services of a Kubernetes cluster.

    Raises:
        InputError: a given address is not a URL, or nothing usable answers there.
    """
    given = tuple(addresses)
    prometheus, alertmanagers, notes = None, list[str](), list[str]()
    for url in given or (*LOCAL, *(IN_CLUSTER if in_cluster else ())):
        try:
            kind = await _kind(url)
        except RemediatorError as error:
            if given:
                raise InputError(f"--from {url}: {error}") from None
            notes.append(f"{url}: no answer")
            continue
        if kind == "prometheus" and prometheus is None:
            prometheus = url.rstrip("/")
        elif kind == "alertmanager":
            alertmanagers.append(url.rstrip("/"))
    if prometheus is None and alertmanagers:
        prometheus = await _prometheus_of(alertmanagers[0])
    if prometheus is None:
        return await _from_alertmanager(alertmanagers, notes)
    return await _from_prometheus(prometheus, alertmanagers, notes)


def _endpoint(url: str) -> Endpoint:
    try:
        return Endpoint(url=url, timeout=_TIMEOUT)
    except ValueError:
        raise InputError(f"invalid URL {url!r}; expected for example {LOCAL[0]}") from None


async def _kind(url: str) -> str:
    """Return which of the two servers answers at a URL."""
    endpoint = _endpoint(url)
    prometheus, alertmanager = Prometheus(endpoint), Alertmanager(endpoint)
    try:
        await prometheus.version()
        return "prometheus"
    except (Refused, BadAnswer):
        await alertmanager.status()
        return "alertmanager"
    finally:
        await prometheus.aclose()
        await alertmanager.aclose()


async def _prometheus_of(alertmanager: str) -> str | None:
    """Return the Prometheus that sends alerts to an Alertmanager, from the links in its alerts."""
    async with aclosing(Alertmanager(_endpoint(alertmanager))) as client:
        try:
            alerts = await client.alerts()
        except ClientError:
            return None
    for link in dict.fromkeys(alert.generator_url.partition("/graph?")[0] for alert in alerts):
        if urlsplit(link).scheme in ("http", "https"):
            try:
                if await _kind(link) == "prometheus":
                    return link
            except RemediatorError:
                continue
    return None


async def _default_receiver(alertmanagers: Iterable[str], notes: list[str]) -> str:
    """Return the receiver of the top route, and note the version and state of each Alertmanager."""
    found = ""
    for url in alertmanagers:
        async with aclosing(Alertmanager(_endpoint(url))) as client:
            try:
                names = await client.receivers()
                status = await client.status()
            except ClientError as error:
                notes.append(f"alertmanager {url}: {error}")
            else:
                notes.append(f"alertmanager {url} (version {status.version}), receivers: {', '.join(names)}")
                found = found or top_receiver(status.configuration) or next(iter(names), "")
    return found or "default"


async def _from_alertmanager(alertmanagers: list[str], notes: list[str]) -> Monitoring:
    """Return the alerts that fire now: without Prometheus, no other alert is known."""
    receiver = await _default_receiver(alertmanagers, notes)
    found: dict[str, list[Mapping[str, str]]] = {}
    for url in alertmanagers:
        async with aclosing(Alertmanager(_endpoint(url))) as client:
            try:
                for alert in await client.alerts():
                    found.setdefault(alert.labels.get("alertname", ""), []).append(alert.labels)
            except ClientError:
                continue  # the notes already have this error
    alerts = tuple(
        Alert(name, "", tuple(_naming(each) for each in labels), labels[0].get("severity", ""))
        for name, labels in found.items()
        if name and not _is_watchdog(name, "")
    )
    watchdog = next((name for name in found if _is_watchdog(name, "")), None)
    return Monitoring(None, tuple(alertmanagers), receiver, alerts, (), watchdog, tuple(notes))


async def _from_prometheus(url: str, alertmanagers: list[str], notes: list[str]) -> Monitoring:
    async with aclosing(Prometheus(_endpoint(url))) as client:
        version = await client.version()
        for each in await client.alertmanagers():
            if each not in alertmanagers and await _answers(each):
                alertmanagers.append(each)
        rules = {rule.name: rule for group in await client.alert_rules() for rule in group.rules}
        targets = await client.targets()
        limit = asyncio.Semaphore(_AT_ONCE)
        wanted = [rule for rule in rules.values() if not _is_watchdog(rule.name, rule.query)][:_MAX_QUERIES]
        alerts = await asyncio.gather(*(_alert(client, rule, limit) for rule in wanted))
    notes.insert(
        0, f"prometheus {url} (version {version}), {plural(len(rules), 'alert rule')}, {plural(len(targets), 'target')}"
    )
    receiver = await _default_receiver(alertmanagers, notes)
    watchdog = next((name for name, rule in rules.items() if _is_watchdog(name, rule.query)), None)
    return Monitoring(url, tuple(alertmanagers), receiver, tuple(alerts), targets, watchdog, tuple(notes))


async def _answers(url: str) -> bool:
    try:
        return await _kind(url) == "alertmanager"
    except RemediatorError:
        return False


def _is_watchdog(name: str, expression: str) -> bool:
    """Return whether an alert always fires, to prove that alerts arrive."""
    return "".join(expression.split()) == "vector(1)" or name in ("Watchdog", "DeadMansSwitch")


async def _alert(client: Prometheus, rule: AlertRule, limit: asyncio.Semaphore) -> Alert:
    fixed = {name: value for name, value in rule.labels.items() if "{{" not in value}
    try:
        result = result_labels(rule.query)
    except InputError:
        result = ResultLabels(only=frozenset())
    known = _naming({**result.values, **fixed})
    labels = (known,) if known else await _live_labels(client, rule, result, limit)
    return Alert(rule.name, rule.query, labels, rule.labels.get("severity", ""))


async def _live_labels(
    client: Prometheus, rule: AlertRule, result: ResultLabels, limit: asyncio.Semaphore
) -> tuple[Mapping[str, str], ...]:
    """Return the labels of the series that the rule reads now, as far as its alerts keep them."""
    kept = [label for label in NAMING_LABELS if result.may_have(label)]
    read = selectors(rule.query)
    if not kept or not read:
        return ()
    async with limit:
        try:
            vector = await client.query(f"group by ({', '.join(kept)}) ({read[0]})")
        except ClientError:
            return ()
    return tuple(labels for sample in vector.samples if (labels := _naming(sample.labels)))


def _naming(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: labels[name] for name in NAMING_LABELS if labels.get(name)}
