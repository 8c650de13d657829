"""The model of ``discover`` in the inventory: where targets are looked up, and which of them may become services.

A discovered target is a set of labels. Every label that a template uses is in the allow-list, with the values that it
may have. Everything else never becomes a target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from remediator.clients.endpoints import Endpoint, TlsSettings
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.core.types import FieldError, FilePath, PositiveDuration, Strict, raise_all
from remediator.core.urls import Url
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.field_types import as_list
from remediator.playbooks.references import references

SAFE_VALUE = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,252}")
"""Allowed values of a label. Such a value cannot leave its place in a URL, a pattern, PromQL or an argument."""


_WRITTEN = frozenset({"jobs", "github", "statements", "pattern"})
"""Keys in a template whose values are SQL, patterns or allow-lists: a label is never a part of them."""


def _pattern(text: str) -> str:
    if "/" in text:
        try:
            ip_network(text, strict=False)
        except ValueError as error:
            raise ValueError(f"{error}; write a network like 10.0.0.0/24, or a pattern like web-*") from None
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(as_list), Field(min_length=1)]


class Allow(Strict):
    """Targets and names that are allowed. Everything else is left out and reported."""

    names: Patterns = Field(description="Names that the services may have, for example web-*.")
    labels: dict[str, Patterns] = Field(
        default={},
        description="Values that each label may have: values, patterns like web-*, or networks like 10.0.0.0/24. A "
        "template can use only these labels.",
    )
    targets: int = Field(
        ge=1,
        le=20_000,
        description="Maximum number of targets. A source with more changes nothing, and people are notified.",
    )


class Discovery(Strict):
    """A source of targets, the targets that are allowed, and the template of the service for each of them."""

    name: str = Field(min_length=1, description="Name of each service; ${label} is replaced by the value of a label.")
    template: dict[str, Any] = Field(
        description="Entry of each service, as under services; ${label} is replaced by the value of a label."
    )
    allow: Allow = Field(description="Targets and names that are allowed.")
    match: dict[str, Patterns] = Field(
        default={},
        description="Label values of the targets to use; other targets are ignored. Values as in allow.labels.",
    )
    refresh: PositiveDuration = Field(default=timedelta(minutes=1), description="Time between two lookups.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=30), description="Timeout of one lookup.")
    max_loss: int = Field(
        default=49,
        ge=0,
        le=100,
        description="Services that one lookup may remove, in percent. If a lookup would remove more, nothing "
        "changes, and people are notified. 100 removes this limit.",
    )

    @model_validator(mode="after")
    def _placeholders(self) -> Discovery:
        raise_all(tuple(self._wrong_placeholders()))
        return self

    def _wrong_placeholders(self) -> Iterator[FieldError]:
        if not set(references(self.name)):
            yield FieldError("name has no placeholder, so all targets would have one name", ("name",))
        texts = [(path, text) for path, text in leaves(self.template, ("template",)) if isinstance(text, str)]
        for path, text in [*texts, (("name",), self.name)]:
            for label in references(text):
                if label not in self.allow.labels:
                    hint = did_you_mean(label, self.allow.labels) or "list its values under allow.labels"
                    yield FieldError(f"label {label!r} is not in allow.labels", path, hint=hint)
        platform = self.template.get("platform")
        if isinstance(platform, Mapping) and set(references(platform.get("kind"))):
            yield FieldError("a label cannot choose the platform", ("template", "platform", "kind"))
        for path, text in texts:
            if any(references(text)) and any(part in _WRITTEN for part in path):
                message = "a label cannot be part of an allow-list or a matcher"
                yield FieldError(message, path, hint="write the value; it is the same for all targets")
        if "name" in self.template:
            yield FieldError("name is beside template", ("template", "name"), hint="remove it here", at_key=True)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Return whether a target is used."""
        return all(any(fits(each, labels.get(label, "")) for each in self.match[label]) for label in self.match)

    def refusal(self, labels: Mapping[str, str]) -> str:
        """Return why the labels of a target are not allowed; empty if they are."""
        for label, patterns in self.allow.labels.items():
            value = labels.get(label)
            if not value:
                return f"it has no label {label!r}"
            if not SAFE_VALUE.fullmatch(value) or ".." in value:
                return f"label {label}={value[:60]!r} has characters other than letters, digits and . _ : -"
            if not any(fits(each, value) for each in patterns):
                return f"label {label}={value!r} is not allowed; allowed: {', '.join(patterns)}"
        return ""


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every value that is not a mapping or a list, with its path; also empty ones."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple) and value:
        for at, item in enumerate(value):
            yield from leaves(item, (*path, at))
    else:
        yield path, value


def fits(pattern: str, value: str) -> bool:
    """Return whether a value fits a pattern of an allow-list."""
    if "/" not in pattern:
        return fnmatchcase(value, pattern)
    try:
        return ip_address(value) in _network(pattern)
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


class PrometheusTargets(Discovery):
    """The scrape targets of Prometheus, with the labels that their series have."""

    kind: Literal["prometheus_targets"] = Field(description="Kind of the source.")
    server: Endpoint | None = Field(
        default=None, description="Prometheus to query; default: the Prometheus of the settings."
    )


class FileSd(Discovery):
    """Files in the format of file_sd_configs in Prometheus, JSON or YAML."""

    kind: Literal["file_sd"] = Field(description="Kind of the source.")
    files: tuple[FilePath, ...] = Field(
        min_length=1, description="Files; the last part of a path may be a pattern such as *.json."
    )


class HttpSd(Discovery):
    """A server with targets in the format of http_sd_configs in Prometheus."""

    kind: Literal["http_sd"] = Field(description="Kind of the source.")
    server: Endpoint = Field(description="Server to ask; url is the whole URL of the targets.")


class KubernetesObjects(Discovery, ClusterSettings):
    """Kubernetes objects with these labels, in the named namespaces of one cluster."""

    kind: Literal["kubernetes"] = Field(description="Kind of the source.")
    namespaces: tuple[Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")], ...] = Field(
        min_length=1, description="Namespaces to look in."
    )
    kinds: tuple[Literal["Deployment", "StatefulSet", "DaemonSet"], ...] = Field(
        min_length=1, description="Kinds of the objects."
    )
    selector: dict[str, str] = Field(min_length=1, description="Labels of the objects; all must match.")


class DockerLabels(Discovery):
    """Containers with these labels on one Docker Engine; the containers of a Compose service are one target."""

    kind: Literal["docker_labels"] = Field(description="Kind of the source.")
    url: Url = Field(default="unix:///var/run/docker.sock", description="URL of the Engine API, or of a proxy for it.")
    tls: TlsSettings = Field(default=TlsSettings(), description="For https: trusted CA and client certificate.")
    labels: dict[str, str] = Field(min_length=1, description="Labels of the containers; all must match.")


class AnsibleInventory(Discovery):
    """Hosts of groups of an Ansible inventory, from the output of ``ansible-inventory --list`` in a file."""

    kind: Literal["ansible_inventory"] = Field(description="Kind of the source.")
    file: FilePath = Field(description="File with the JSON of ansible-inventory --list.")
    groups: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, description="Groups; the hosts of the groups below them count too."
    )


AnyDiscovery = Annotated[
    PrometheusTargets | FileSd | HttpSd | KubernetesObjects | DockerLabels | AnsibleInventory,
    Field(discriminator="kind"),
]
