"""Compare the labels of an alert with the identity of a service: is the alert about this service?

The identity has three parts. ``alerts_as`` are labels that every alert about the service has. ``alert_label_values``
lists the values that a label may have if the alert has it. Bindings give more names: the namespace and the names of a
Kubernetes target, the names of nodes, and the containers of a Docker target. They also give the addresses of its
endpoints and the mount point of its disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase, translate
from pathlib import PurePosixPath
from posixpath import normpath
from urllib.parse import urlsplit

from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.core.matchers import Matcher, Operator
from remediator.core.text import MAX_LABEL, shorten
from remediator.playbooks.endpoint_addresses import fixed_addresses
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import DockerBinding, KubernetesBinding, KubernetesNodesBinding

_COMPOSE_PROJECT = "container_label_com_docker_compose_project"
_COMPOSE_SERVICE = "container_label_com_docker_compose_service"
_SHARED = frozenset({"namespace", _COMPOSE_PROJECT})
"""Derived labels that other services have too: another value contradicts, and the same value names no service."""
_REDIS_SCHEMES = frozenset({"redis", "rediss"})
_POD_SUFFIX = {
    WorkloadKind.DEPLOYMENT: (r"-[a-z0-9]+(-[a-z0-9]{5})?", "-5d4f8c7b9-x2x4z"),
    WorkloadKind.STATEFUL_SET: (r"-[0-9]+", "-0"),
    WorkloadKind.DAEMON_SET: (r"-[a-z0-9]{5}", "-x2x4z"),
}
"""Suffixes that the controller adds to the name of a workload in the names of its pods: pattern and example."""


class Relation(StrEnum):
    """How an alert relates to a service."""

    ABOUT = "about"
    """A label names the service, and no label contradicts that."""
    OTHER = "other"
    """A label names something else."""
    UNKNOWN = "unknown"
    """No label names a service."""


@dataclass(frozen=True, slots=True)
class Side:
    """One label of an alert beside the expected values of the service."""

    label: str
    alert: str
    """Value in the alert."""
    service: str
    """Value or values of the service, as text."""
    same: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing the labels of an alert with a service."""

    relation: Relation
    text: str
    """Both sides in one sentence."""


def compare(labels: Mapping[str, str], service: Service) -> Comparison:
    """Return whether an alert with these labels is about the service."""
    agreeing, differing = [], []
    written = {*service.alerts_as, *service.alert_label_values}
    for side in sides(labels, service):
        if not side.same:
            differing.append(side)
        elif side.label in written or side.label not in _SHARED:
            agreeing.append(side.label)
    if differing:
        theirs = ", ".join(f"{item.label}={item.alert!r}" for item in differing)
        ours = ", ".join(f"{item.label}={item.service}" for item in differing)
        text = f"the alert has {theirs}; {service.name} has {ours}"
        return Comparison(Relation.OTHER, text)
    if agreeing:
        return Comparison(Relation.ABOUT, f"{', '.join(sorted(set(agreeing)))} of the alert name {service.name}")
    shown = (f"{label}={shorten(value, MAX_LABEL)!r}" for label, value in sorted(labels.items()))
    theirs = ", ".join(shown) or "no labels"
    ours = ", ".join(f"{label}={value}" for label, value in sorted(_identity(service).items()))
    text = f"no label of the alert ({theirs}) names {service.name}, which has {ours}"
    return Comparison(Relation.UNKNOWN, text)


def _identity(service: Service) -> dict[str, str]:
    """Return the labels that identify alerts about a service, each with its value or values as text."""
    known = {label: expected for label, _, expected in _derived(service)}
    if addresses := _endpoints(service)[1]:
        known["instance"] = " or ".join(map(repr, sorted(addresses)))
    if service.disk is not None and service.disk.path is not None:
        known["mountpoint"] = repr(normpath(service.disk.path))
    known |= {label: repr(value) for label, value in service.alert_labels.items()}
    return known | {label: " or ".join(map(repr, values)) for label, values in service.alert_label_values.items()}


def sides(labels: Mapping[str, str], service: Service) -> tuple[Side, ...]:
    """Return every label of an alert that identifies a service, beside the value of this service."""
    found: list[tuple[str, bool, str]] = []  # label, whether its value belongs to the service, the expected value
    for label, value in service.alert_labels.items():
        if labels.get(label) == value:
            found.append((label, True, value))
        elif label in labels and service.alerts_as:
            # the default, service=<name>, is a convention that other exporters do not follow
            found.append((label, False, repr(value)))
    for label, values in service.alert_label_values.items():
        if label in labels:
            same = any(fnmatchcase(labels[label], value) for value in values)
            found.append((label, same, " or ".join(map(repr, values))))
    for label, pattern, expected in _derived(service):
        if label in labels and label not in service.alert_label_values and label not in service.alerts_as:
            found.append((label, re.fullmatch(pattern, labels[label]) is not None, expected))
    found += _addresses(labels, service)
    return tuple(Side(label, labels[label], expected, same) for label, same, expected in found)


def naming_matchers(service: Service) -> tuple[str, ...]:
    """Return matchers that accept only alerts about the service, the best one first."""
    values: dict[str, tuple[str, ...]] = {label: (value,) for label, value in service.alerts_as.items()}
    values |= service.alert_label_values
    if not values:
        values = {label: (value,) for label, value in service.alert_labels.items()}
    found = []
    for label, listed in values.items():
        if len(listed) == 1 and not re.search(r"[*?\[]", listed[0]):
            found.append(Matcher(label, Operator.EQUAL, listed[0]))
        else:
            found.append(Matcher(label, Operator.MATCHES, "|".join(map(_glob_as_pattern, listed))))
    return tuple(map(str, found))


def _glob_as_pattern(value: str) -> str:
    """Return an RE2 pattern for a value of ``alert_label_values``, which may be a glob."""
    return re.sub(r"\[!?[^\]]+\]|.", lambda found: _GLOB.get(found[0], _escaped(found[0])), value)


_GLOB = {"*": ".*", "?": "."}


def _escaped(part: str) -> str:
    """Return a part of a glob for RE2: a class of characters, or one character."""
    if len(part) > 1:
        return part.replace("[!", "[^", 1)
    return re.sub(r"[.+()|^$\\{}\[\]]", r"\\\g<0>", part)


def example_value(matcher: Matcher, service: Service) -> str:
    """Return a value that the matcher accepts, preferably a value of the service; empty if no value is known."""
    return min(matcher.literals if matcher.literals is not None else _samples(matcher, service), default="")


def names_target(matcher: Matcher, service: Service) -> bool:
    """Return whether a matcher accepts only alerts that name the service by one of its labels."""
    if matcher.operator in (Operator.NOT_EQUAL, Operator.NOT_MATCHES) or matcher.accepts(""):
        return False
    values = matcher.literals if matcher.literals is not None else _samples(matcher, service)
    return bool(values) and all(compare({matcher.name: value}, service).relation is Relation.ABOUT for value in values)


def _samples(matcher: Matcher, service: Service) -> frozenset[str]:
    """Return values of the service for the label of a pattern, as far as the pattern accepts them."""
    known = {service.alert_labels.get(matcher.name, "")}
    known |= {re.sub(r"[*?]", "x", value) for value in service.alert_label_values.get(matcher.name, ())}
    platform = service.platform
    if isinstance(platform, KubernetesBinding):
        kind, name = platform.workload_kind, platform.workload_name
        bound = {"namespace": platform.namespace, kind.lower(): name, "pod": name + _POD_SUFFIX[kind][1]}
        known.add(bound.get(matcher.name, ""))
    if isinstance(platform, KubernetesNodesBinding) and matcher.name == "node":
        known |= {re.sub(r"[*?]", "x", name) for name in platform.nodes}
    if isinstance(platform, DockerBinding) and platform.project is not None:
        known.add(
            {_COMPOSE_PROJECT: platform.project, _COMPOSE_SERVICE: platform.service or service.name}.get(
                matcher.name, ""
            )
        )
    if matcher.name == "instance":
        known |= _endpoints(service)[1]
    return frozenset(value for value in known if value and matcher.accepts(value))


def _derived(service: Service) -> Iterator[tuple[str, str, str]]:
    """Yield labels that the platform's binding knows: name, pattern of the value, and the value as text."""
    platform = service.platform
    if isinstance(platform, KubernetesBinding):
        yield "namespace", re.escape(platform.namespace), repr(platform.namespace)
        if service.disk is not None and service.disk.claim is not None:
            yield "persistentvolumeclaim", re.escape(service.disk.claim), repr(service.disk.claim)
        if name := platform.workload_name:
            kind = platform.workload_kind
            yield kind.lower(), re.escape(name), repr(name)
            yield "pod", re.escape(name) + _POD_SUFFIX[kind][0], f"{name}-…"
    elif isinstance(platform, KubernetesNodesBinding):
        names = "|".join(map(translate, platform.nodes))
        yield "node", names, " or ".join(map(repr, platform.nodes))
    elif isinstance(platform, DockerBinding) and platform.project is not None:
        compose = platform.service or service.name
        yield _COMPOSE_PROJECT, re.escape(platform.project), repr(platform.project)
        yield _COMPOSE_SERVICE, re.escape(compose), repr(compose)


def _addresses(labels: Mapping[str, str], service: Service) -> Iterator[tuple[str, bool, str]]:
    """Compare ``instance``, ``mountpoint`` and ``device``.

    An exporter often runs on another host with its own address. So a different ``instance`` contradicts only if it
    belongs to another service of the inventory, or if the alert has a mount point or device. In the second case, the
    disk is on that host.
    """
    hosts, addresses = _endpoints(service)
    instance = labels.get("instance")
    about_host = "mountpoint" in labels or "device" in labels
    if instance is not None and "instance" not in service.alert_label_values and "instance" not in service.alerts_as:
        split = urlsplit(instance if "//" in instance else f"//{instance}")
        host = split.hostname or instance
        # with the scheme of Redis, the exporter names the server that it queries, not itself
        names_server = service.redis is not None and split.scheme in _REDIS_SCHEMES
        if split.netloc.lower() in addresses:
            yield "instance", True, instance
        elif addresses and (names_server or service.is_neighbour(split.netloc.lower())):
            yield "instance", False, " or ".join(sorted(addresses))
        elif about_host and hosts and host not in hosts:
            yield "instance", False, f"a host of {', '.join(sorted(hosts))}"
    mount = labels.get("mountpoint")
    known = "mountpoint" in service.alert_label_values or "mountpoint" in service.alerts_as
    if mount is not None and service.disk is not None and service.disk.path is not None and not known:
        path = PurePosixPath(normpath(service.disk.path))  # the inventory may be relative to the settings: a/../b
        belongs = path == PurePosixPath(mount) or PurePosixPath(mount) in path.parents
        if not belongs:
            yield "mountpoint", False, repr(str(path))


def _endpoints(service: Service) -> tuple[set[str], set[str]]:
    """Return the hosts of the service, and its addresses as ``host:port``."""
    endpoints = (service.redis, service.postgres, service.http)
    hosts, addresses = fixed_addresses([each for each in endpoints if each is not None])
    return hosts | ({service.host.address.lower()} if service.host is not None else set()), addresses
