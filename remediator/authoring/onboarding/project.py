"""Write the first files of an installation, and a configuration for Alertmanager."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from remediator.authoring import json_schema, scaffold
from remediator.authoring._templates import TEMPLATES
from remediator.authoring.onboarding.monitoring import Monitoring
from remediator.authoring.onboarding.selection import Candidate, HttpProbe
from remediator.authoring.onboarding.sources.base import FoundService, service_name
from remediator.config import Config
from remediator.core.identity import hash_token, make_token
from remediator.errors import InputError
from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.inventory import Inventory

_MAX_OTHERS = 30
_SECRET = 0o600
_PLAIN = 0o644
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Plan:
    """The values of the files."""

    service: FoundService
    alert: str
    label: str
    value: str
    http: HttpProbe | None
    others: tuple[FoundService, ...]
    prometheus: str | None
    alertmanagers: tuple[str, ...]
    default_receiver: str
    watchdog: str
    has_watchdog: bool
    """Whether an alert that always fires exists already."""
    listen: str
    public_url: str
    person: str
    token_hash: str
    token_file: str
    """Absolute path of the webhook token."""


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A file to write."""

    text: str
    mode: int = _PLAIN


def default_listen(monitoring: Monitoring) -> str:
    """Return the address to listen on: loopback if everything that was found runs on this host."""
    hosts = {urlsplit(url).hostname for url in monitoring.alertmanagers}
    return f"{'127.0.0.1' if hosts.issubset(_LOOPBACK) else '0.0.0.0'}:8095"  # noqa: S104 - with a token only


def make_project(
    folder: Path,
    chosen: Candidate,
    monitoring: Monitoring,
    services: tuple[FoundService, ...],
    http: HttpProbe | None,
    catalogue: Catalogue,
    *,
    listen: str,
    public_url: str,
    person: str,
) -> dict[str, ProjectFile]:
    """Return the files of an installation by their paths below a folder.

    Args:
        folder: where they will be.
        chosen: the first alert and its service.
        monitoring: Prometheus and Alertmanager.
        services: all services that were found, for a comment in the inventory.
        http: the readiness endpoint of the service, if there is one.
        catalogue: the names that playbooks can use, for the JSON Schemas.
        listen: address and port of the service.
        public_url: URL under which Alertmanager and people reach the service.
        person: ID of the first person.
    """
    token = make_token()
    plan = Plan(
        service=chosen.service,
        alert=chosen.alert.name,
        label=chosen.label,
        value=chosen.value,
        http=http,
        others=tuple(each for each in services if each.name != chosen.service.name)[:_MAX_OTHERS],
        prometheus=monitoring.prometheus,
        alertmanagers=monitoring.alertmanagers,
        default_receiver=monitoring.default_receiver,
        watchdog=monitoring.watchdog or "Watchdog",
        has_watchdog=monitoring.watchdog is not None,
        listen=listen,
        public_url=public_url,
        person=person,
        token_hash=hash_token(token),
        token_file=str((folder / "webhook.token").resolve()),
    )
    names = ["remediator.yaml", "inventory.yaml", "people.yaml", "alertmanager.remediator.yml"]
    names += [] if plan.has_watchdog else ["prometheus.remediator.yml"]
    files = {name: ProjectFile(TEMPLATES.get_template(name).render(plan=plan)) for name in names}
    files["webhook.token"] = ProjectFile(secrets.token_urlsafe(32) + "\n", _SECRET)
    files["operator.token"] = ProjectFile(token + "\n", _SECRET)
    files |= _playbook_files(plan, chosen)
    schemas = json_schema.committed(json_schema.KINDS, catalogue, Config)
    return files | {f"schema/{name}": ProjectFile(text) for name, text in schemas.items()}


def _playbook_files(plan: Plan, chosen: Candidate) -> dict[str, ProjectFile]:
    service: dict[str, Any] = {"platform": dict(plan.service.platform), "owner": "oncall"}
    service["alerts_as"] = {plan.label: plan.value}
    if plan.http is not None:
        service["http"] = {"url": plan.http.url, "ready": plan.http.ready, "metrics": plan.http.metrics}
    data = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {plan.service.name: service}}
    name = playbook_name(plan.alert)
    known = [scaffold.KnownAlert(plan.alert, plan.service.name, chosen.alert.expression)]
    start = scaffold.make_scaffold(
        name, plan.alert, plan.service.name, Inventory.model_validate(data), known, ["oncall"]
    )
    return {
        f"playbooks/{name}.yaml": ProjectFile(scaffold.playbook(start, "../schema/playbook.json")),
        f"playbooks/{name}.test.yaml": ProjectFile(scaffold.test(start, "../schema/test.json")),
    }


def playbook_name(alert: str) -> str:
    """Return the name of an alert as the name of a playbook: ``RedisDown`` becomes ``redis-down``."""
    spaced = "".join(
        f"-{letter}" if letter.isupper() and at and not alert[at - 1].isupper() else letter
        for at, letter in enumerate(alert)
    )
    return service_name(spaced).replace(".", "-")


def write_project(folder: Path, files: Mapping[str, ProjectFile]) -> None:
    """Write all files, or no file if one of them exists already.

    Raises:
        InputError: a file exists already.
        OSError: a file cannot be written.
    """
    existing = [name for name in files if os.path.lexists(folder / name)]
    if existing:
        raise InputError(
            f"{folder}: {', '.join(existing)} already exist; nothing was written; "
            "choose another folder: remediator init FOLDER"
        )
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(file.text)
