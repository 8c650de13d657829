"""An alert is about a service only if a label says this and no label contradicts it."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.target_identity import Relation, compare

SUPERVISOR = {"kind": "supervisor", "url": "unix:///run/s.sock", "program": "x"}
CLUSTER = {"kind": "kubernetes", "namespace": "shop", "deployment": "app"}


def service(name: str, **fields: Any) -> Service:
    """Return a service of an inventory."""
    data = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {name: {"platform": SUPERVISOR} | fields}}
    return Inventory.model_validate(data).service(name)


REDIS = service("redis", redis={"host": "127.0.0.1", "port": 6379}, disk={"path": "/data/redis/db"})
BESIDE = service("redis", disk={"path": "/srv/remediator/../redis"})  # the form of a relative path of the inventory
APP = service("app", platform=CLUSTER)
NAMED = service("redis", redis={"host": "Cache.Internal", "port": 6379}, disk={"path": "/data/redis"})
SIX = service("redis", redis={"host": "::1", "port": 6379})
BY_SENTINEL = service("redis", redis={"sentinel": {"master": "main", "sentinels": [{"host": "10.0.0.1"}]}})
REMOTE = service(
    "db",
    host={"address": "DB-1.example.com", "identity_file": "/etc/id", "known_hosts": "/etc/known_hosts"},
    disk={"path": "/srv/db"},
)
COMPOSE = service("app", platform={"kind": "docker", "project": "shop"})


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("target", "labels", "relation"),
    [
        (REDIS, {"service": "redis"}, Relation.ABOUT),
        (REDIS, {"instance": "redis://127.0.0.1:6379"}, Relation.ABOUT),
        (REDIS, {}, Relation.UNKNOWN),
        (REDIS, {"service": "kube-state-metrics"}, Relation.UNKNOWN),
        (REDIS, {"service": "redis", "instance": "exporter:9121"}, Relation.ABOUT),
        # the disk of another host, although the rule names the service
        (REDIS, {"service": "redis", "instance": "10.20.30.40:9100", "mountpoint": "/data/redis"}, Relation.OTHER),
        (REDIS, {"service": "redis", "instance": "10.20.30.40", "device": "/dev/sdb"}, Relation.OTHER),
        (REDIS, {"service": "redis", "instance": "localhost:9100", "mountpoint": "/data/redis"}, Relation.ABOUT),
        (REDIS, {"service": "redis", "mountpoint": "/var"}, Relation.OTHER),
        # a service with SSH: the disk is on its host
        (REMOTE, {"service": "db", "instance": "db-1.example.com:9100", "mountpoint": "/srv"}, Relation.ABOUT),
        (REMOTE, {"service": "db", "instance": "db-2.example.com:9100", "mountpoint": "/srv"}, Relation.OTHER),
        (BESIDE, {"service": "redis", "mountpoint": "/srv/redis"}, Relation.ABOUT),
        # a container with the same name in another namespace
        (APP, {"service": "app", "container": "app", "namespace": "team-b", "pod": "app-5d9-x2x4z"}, Relation.OTHER),
        (APP, {"container": "app", "namespace": "shop", "pod": "app-7c9d6bf5b8-x2x4z"}, Relation.ABOUT),
        (APP, {"service": "app", "namespace": "shop", "pod": "other-7c9d6bf5b8-x2x4z"}, Relation.OTHER),
        # labels that all workloads of a namespace or project have identify none of them
        (APP, {"namespace": "shop", "container": "worker"}, Relation.UNKNOWN),
        (APP, {"namespace": "shop", "deployment": "app"}, Relation.ABOUT),
        (COMPOSE, {"container_label_com_docker_compose_project": "shop"}, Relation.UNKNOWN),
        (COMPOSE, {"container_label_com_docker_compose_project": "other", "service": "app"}, Relation.OTHER),
        # two servers on one host: the exporter names the server that it asks
        (REDIS, {"service": "redis", "instance": "redis://127.0.0.1:6380"}, Relation.OTHER),
        (REDIS, {"service": "redis", "instance": "rediss://[::1]:6379"}, Relation.ABOUT),
        (REDIS, {"instance": "localhost:6379"}, Relation.ABOUT),
        # other forms of the same address: IPv6, upper case, and a name instead of an address
        (SIX, {"instance": "[::1]:6379"}, Relation.ABOUT),
        (SIX, {"instance": "[::1]:9100", "mountpoint": "/"}, Relation.UNKNOWN),
        (SIX, {"service": "redis", "instance": "[2001:db8::7]:9100", "device": "/dev/sdb"}, Relation.OTHER),
        (NAMED, {"instance": "cache.internal:6379"}, Relation.ABOUT),
        (NAMED, {"service": "redis", "instance": "CACHE.internal:9100", "mountpoint": "/data/redis"}, Relation.ABOUT),
        (NAMED, {"service": "redis", "instance": "10.0.0.5:9100", "mountpoint": "/data/redis"}, Relation.OTHER),
        # behind Sentinels the address can change, so the default address proves nothing
        (BY_SENTINEL, {"instance": "127.0.0.1:6379"}, Relation.UNKNOWN),
        (BY_SENTINEL, {"service": "redis", "instance": "redis://10.0.0.9:6379"}, Relation.ABOUT),
    ],
)
def test_both_sides_are_compared(target: Service, labels: dict[str, str], relation: Relation) -> None:
    """If the alert contradicts the target, the text shows both values."""
    found = compare({"alertname": "X"} | labels, target)

    assert found.relation is relation
    if relation is Relation.OTHER:
        assert any(value in found.text for value in labels.values())
        assert target.name in found.text


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("labels", "relation"),
    [
        ({"service": "redis", "instance": "127.0.0.1:6379"}, Relation.ABOUT),
        ({"service": "redis", "instance": "127.0.0.1:6380"}, Relation.OTHER),  # the other Redis on this host
        ({"service": "redis", "instance": "localhost:6380"}, Relation.OTHER),
        ({"service": "redis", "instance": "127.0.0.1:9121"}, Relation.ABOUT),  # an exporter
        ({"service": "redis", "instance": "127.0.0.1:8000"}, Relation.ABOUT),  # the app reports about its Redis
        ({"service": "app", "instance": "127.0.0.1:8001"}, Relation.OTHER),
        ({"service": "app", "instance": "127.0.0.1:8080"}, Relation.ABOUT),  # the gateway depends on the app
        ({"service": "app", "instance": "127.0.0.1:6380"}, Relation.ABOUT),  # not an address of this kind of service
    ],
)
def test_two_services_are_distinguished_by_their_ports_alone(labels: dict[str, str], relation: Relation) -> None:
    """The address of another service contradicts, unless the other service depends on this one."""
    services: dict[str, dict[str, Any]] = {
        "redis": {"redis": {"host": "127.0.0.1", "port": 6379}},
        "cache": {"redis": {"host": "127.0.0.1", "port": 6380}},
        "app": {"http": {"url": "http://127.0.0.1:8000"}, "depends_on": ["redis"]},
        "shop": {"http": {"url": "http://127.0.0.1:8001"}},
        "gateway": {"http": {"url": "http://127.0.0.1:8080"}, "depends_on": ["app"]},
    }
    data = {"apiVersion": "remediator/v1", "kind": "Inventory"}
    bound = {name: {"platform": SUPERVISOR} | fields for name, fields in services.items()}
    inventory = Inventory.model_validate(data | {"services": bound})

    assert compare({"alertname": "X"} | labels, inventory.service(labels["service"])).relation is relation


def test_the_inventory_says_which_values_are_known() -> None:
    """``alert_label_values`` accepts values and patterns; ``alerts_as`` can contradict too."""
    target = service("redis", alert_label_values={"instance": ["10.0.0.5:*", "10.0.0.6:9100"], "host": "db1"})
    written = service("redis", alerts_as={"job": "redis", "tier": "cache"})

    assert compare({"instance": "10.0.0.5:9121"}, target).relation is Relation.ABOUT
    assert compare({"instance": "10.0.0.7:9121", "service": "redis"}, target).relation is Relation.OTHER
    assert compare({"host": "db2", "service": "redis"}, target).relation is Relation.OTHER
    assert compare({"job": "other", "tier": "cache"}, written).relation is Relation.OTHER
    assert compare({"job": "redis"}, written).relation is Relation.ABOUT
