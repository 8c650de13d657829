"""The inventory: possible targets, their dependencies, and the alerts that belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remediator.errors import ConfigurationError
from remediator.playbooks.inventory import Inventory

PLATFORM = {"kind": "supervisor", "url": "unix:///run/supervisor.sock", "program": "x"}


def inventory(base: Path | None = None, **services: dict[str, Any]) -> Inventory:
    """Return an inventory of these services, by default on one supervisord."""
    made = {name: {"platform": PLATFORM, **service} for name, service in services.items()}
    content = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": made}
    return Inventory.model_validate(content, context={"base": base})


CHAIN = {"redis": {}, "app": {"depends_on": ["redis"]}, "web": {"depends_on": ["app"]}, "mail": {}}


def test_dependencies_and_dependents_are_transitive() -> None:
    """Indirect dependencies count, the nearest ones come first, and unrelated services are not listed."""
    known = inventory(**CHAIN)
    assert known.dependencies("web") == ("app", "redis")
    assert known.dependents("redis") == ("app", "web")
    assert known.dependencies("mail") == known.dependents("mail") == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_a_graph_is_refused_exactly_if_it_has_a_cycle(edges: list[tuple[int, int]]) -> None:
    """Without a cycle, no service depends on itself, and dependents are the inverse of dependencies. A cycle is
    refused."""
    services: dict[str, Any] = {f"s{number}": {"depends_on": []} for number in range(6)}
    for service, other in edges:
        services[f"s{service}"]["depends_on"].append(f"s{other}")
    try:
        known = inventory(**services)
    except ValidationError as refused:
        assert "cycle" in str(refused)
        return
    for name in services:
        assert name not in known.dependencies(name)
        for cause in known.dependencies(name):
            assert name in known.dependents(cause)


def test_a_cycle_is_shown() -> None:
    """The message contains the whole cycle."""
    with pytest.raises(ValidationError, match="a -> b -> c -> a"):
        inventory(a={"depends_on": ["b"]}, b={"depends_on": ["c"]}, c={"depends_on": ["a"]})


@pytest.mark.promise(8)
def test_only_services_of_the_inventory_are_targets() -> None:
    """A similar name or a pattern is not a service."""
    known = inventory(**CHAIN)
    for stranger in ("Redis", "redis ", "*", "", "re"):
        assert stranger not in known
        with pytest.raises(ConfigurationError, match="known: app, mail, redis, web"):
            known.service(stranger)


def test_relative_paths_start_at_the_folder_of_the_inventory(tmp_path: Path) -> None:
    """The working folder of the process has no effect."""
    known = inventory(tmp_path, redis={"redis": {"password_file": "redis.password"}, "disk": {"path": "/data"}})
    redis, disk = known.service("redis").redis, known.service("redis").disk
    assert redis is not None
    assert redis.password_file == tmp_path / "redis.password"
    assert disk is not None
    assert disk.path == Path("/data")


def test_labels_assign_alerts_to_services() -> None:
    """An alert belongs to a service by ``service=NAME``, or by ``alerts_as`` of the inventory."""
    known = inventory(redis={}, app={"alerts_as": {"job": "fastapi-app", "tier": "web"}})
    about = [service.name for service in known.services_for({"service": "redis", "job": "fastapi-app", "tier": "web"})]
    assert about == ["redis", "app"]
    assert known.services_for({"job": "fastapi-app"}) == ()


@pytest.mark.parametrize(
    "service",
    [
        {"platform": {"kind": "mainframe"}},
        {"platform": {"kind": "supervisor", "url": "http://u:p@host:1", "program": "x"}},
        {"platform": {"kind": "supervisor", "url": "unix:///s", "program": "x", "username": "u"}},
        {"platform": {"kind": "kubernetes", "namespace": "demo"}},
        {"platform": {"kind": "kubernetes", "namespace": "demo", "deployment": "a", "selector": {"app": "a"}}},
        {"platform": {"kind": "systemd", "unit": "redis.service; reboot"}},
        {"depends_on": ["nobody"]},
        {"depends_on": ["x"]},
        {"minimum_healthy": 2},
        {"name": "other"},
        {"app_server": {"pid_file": "p", "min_workers": 4, "max_workers": 2}},
        {"backups": {"path": "/b", "pattern": "../*"}},
        {"http": {"url": "ftp://host"}},
        {"http": {"url": "http://host", "ready": "readyz"}},
        {"unknown": 1},
    ],
)
def test_invalid_services_are_refused(service: dict[str, Any]) -> None:
    """Unknown platforms, credentials in URLs, bindings without a selection, paths in patterns, and impossible numbers
    are refused."""
    with pytest.raises(ValidationError):
        inventory(x=service)


@pytest.mark.parametrize(
    "platform",
    [
        {"kind": "docker", "project": "demo"},
        {"kind": "docker", "labels": {"role": "cache"}},
        {"kind": "kubernetes", "namespace": "demo", "deployment": "redis"},
        {"kind": "kubernetes", "namespace": "demo", "selector": {"app": "redis"}},
        {"kind": "systemd", "unit": "redis-server@1.service"},
    ],
)
def test_every_platform_kind_is_valid(platform: dict[str, Any]) -> None:
    """Each kind of platform binding can be loaded."""
    assert inventory(x={"platform": platform}).service("x").platform.kind == platform["kind"]


def test_what_is_derived_from_an_inventory_is_no_difference() -> None:
    """A reload compares inventories; addresses that were resolved in between are not a difference."""
    services = {name: {"http": {"url": f"http://{name}:80"}} for name in ("app", "web")}
    used, fresh = inventory(**services), inventory(**services)
    assert used.services["app"].is_neighbour("web:80")
    assert used == fresh
