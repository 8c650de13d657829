"""Alertmanager: it answers, and a route leads here for the alerts of each playbook and for the Watchdog."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import yaml

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.alertmanager.routes import receivers_for
from remediator.config import Config
from remediator.core.clock import format_duration
from remediator.errors import ClientError, InputError, RemediatorError
from remediator.extensions.guard_settings import watchdog_max_silence
from remediator.runtime.store_access import read_only_connection
from remediator.storage.repositories import key_values

_PASTE = "add the route that 'remediator init' writes to alertmanager.remediator.yml, then reload Alertmanager"


class AlertmanagerCheck(DoctorCheck):
    """Asks every peer for its status, and follows its routing tree."""

    name = "alertmanager"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        if not about.config.alertmanagers and about.config.sources:
            yield skipped("alertmanagers", f"alerts come from {', '.join(about.config.sources)}")
        elif not about.config.alertmanagers:
            fix = "set 'alertmanagers' to the URL of every peer"
            yield warning("alertmanagers", "the settings contain no Alertmanager, so silences are not seen", fix)
        for endpoint in about.config.alertmanagers:
            try:
                async with aclosing(Alertmanager(endpoint)) as client:
                    status = await client.status()
            except ClientError as error:
                fix = "check that Alertmanager runs, and 'alertmanagers' in the settings"
                yield failed(endpoint.url, str(error), fix)
                continue
            yield ok(endpoint.url, f"version {status.version}, cluster {status.cluster.status}")
            try:
                config = yaml.safe_load(status.configuration) or {}
            except yaml.YAMLError as error:
                text = f"its configuration is not YAML: {error}"
                yield failed(endpoint.url, text, "check it with amtool check-config")
                continue
            for result in examine_routes(config, about):
                yield Result(result.level, f"{endpoint.url} {result.subject}", result.text, result.fix)
        yield _watchdog(about)


@dataclass(frozen=True, slots=True)
class _Receiver:
    """A receiver that may lead here, and its webhook."""

    name: str
    webhook: Mapping[str, Any]


def examine_routes(config: Mapping[str, Any], about: Examination) -> Iterator[Result]:
    """Yield whether the configuration of an Alertmanager routes the alerts of the playbooks to this service."""
    ours = {each.name: each for each in _receivers(config, about.config)}
    if not ours:
        yield failed("receivers", "no receiver has a webhook to this service", _PASTE)
        return
    for receiver in ours.values():
        yield from _receiver(receiver, about.config)
    wanted = {"watchdog": {"alertname": about.config.watchdog.alertname}, **about.labels}
    if watchdog_max_silence(about.config) is None:
        del wanted["watchdog"]
    for name, labels in wanted.items():
        try:
            reached = receivers_for(config.get("route") or {}, labels)
        except InputError as error:
            yield failed("routes", str(error), "check it with amtool check-config")
            return
        alert = labels.get("alertname", "without a name")
        if ours.keys() & set(reached):
            yield _sent(name, alert, reached, ours, config)
        else:
            yield failed(name, f"alert {alert} goes to {', '.join(reached) or 'nobody'}, not here", _PASTE)


def _sent(name: str, alert: str, reached: Sequence[str], ours: Collection[str], config: Mapping[str, Any]) -> Result:
    """Return a warning if the alert reached another receiver before the route to this service was added."""
    others = [each for each in reached if each not in ours]
    top = str((config.get("route") or {}).get("receiver", ""))
    if name != "watchdog" and not others and top not in ours:
        text = f"alert {alert} is sent here and nowhere else: a route that matches replaces the receiver {top!r}"
        return warning(name, text, f"add '- receiver: {top}' as the last of the routes")
    return ok(name, f"alert {alert} is sent here{' and to ' + ', '.join(others) if others else ''}")


def _receivers(config: Mapping[str, Any], settings: Config) -> Iterator[_Receiver]:
    """Yield the receivers with a webhook here. Newer versions hide URLs: then every webhook may be ours."""
    hosts = [f":{address.port}/" for address in settings.addresses if address.port]
    hosts += [f"{settings.public_url}/"] if settings.public_url else []
    for receiver in config.get("receivers") or ():
        name = str(receiver.get("name", ""))
        for webhook in receiver.get("webhook_configs") or ():
            url = str(webhook.get("url", ""))
            named = settings.alertmanager_receiver == name
            if (
                named
                or "<secret>" in url
                or (url.rstrip("/").endswith("/alerts") and any(each in url for each in hosts))
            ):
                yield _Receiver(name, webhook)


def _receiver(receiver: _Receiver, settings: Config) -> Iterator[Result]:
    subject = f"receiver {receiver.name}"
    http = receiver.webhook.get("http_config") or {}
    if receiver.webhook.get("send_resolved") is False:
        text = "send_resolved is false, so runs never see that an alert is over"
        yield failed(subject, text, "set send_resolved: true")
    if settings.webhook.token_file is not None and not http.get("authorization"):
        yield failed(subject, "sends no token, so each notification gets 401", "set http_config.authorization")
    elif settings.webhook.basic is not None and not http.get("basic_auth"):
        yield failed(subject, "sends no password, so each notification gets 401", "set http_config.basic_auth")
    elif receiver.webhook.get("send_resolved") is not False:
        yield ok(subject, "sends resolved alerts and credentials")


def _watchdog(about: Examination) -> Result:
    limit = watchdog_max_silence(about.config)
    if limit is None:
        return skipped("watchdog", "the guard is off: nothing notices that alerts stop arriving")
    try:
        with read_only_connection(about.config) as connection:
            problem = key_values.watchdog_problem(connection, about.now, limit)
    except RemediatorError:
        return skipped("watchdog", "the service has not run yet")
    name = about.config.watchdog.alertname
    if problem:
        return failed("watchdog", problem, f"add an alert {name} with the expression vector(1), and a route for it")
    return ok("watchdog", f"{name} arrived within {format_duration(limit)}")
