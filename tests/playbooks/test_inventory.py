"""The inventory: what can be a target, what depends on what, and which alerts speak of it."""

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
    """An inventory of these services, all under one supervisord unless they say otherwise."""
    made = {name: {"platform": PLATFORM, **service} for name, service in services.items()}
    content = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": made}
    return Inventory.model_validate(content, context={"base": base})


CHAIN = {"redis": {}, "app": {"depends_on": ["redis"]}, "web": {"depends_on": ["app"]}, "mail": {}}


def test_causes_and_dependants_reach_through() -> None:
    """A cause of a cause is a cause; the nearest comes first; unrelated services stay out."""
    known = inventory(**CHAIN)
    assert known.dependencies("web") == ("app", "redis")
    assert known.dependents("redis") == ("app", "web")
    assert known.dependencies("mail") == known.dependents("mail") == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_a_graph_is_refused_exactly_if_it_has_a_cycle(edges: list[tuple[int, int]]) -> None:
    """Otherwise nobody is its own cause, and cause and dependant are two ends of one thing."""
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
def test_what_is_not_in_it_cannot_be_a_target() -> None:
    """Neither a near name nor a pattern is a service."""
    known = inventory(**CHAIN)
    for stranger in ("Redis", "redis ", "*", "", "re"):
        assert stranger not in known
        with pytest.raises(ConfigurationError, match="known: app, mail, redis, web"):
            known.service(stranger)


def test_files_are_beside_the_inventory(tmp_path: Path) -> None:
    """A relative file is found wherever the process was started."""
    known = inventory(tmp_path, redis={"redis": {"password_file": "redis.password"}, "disk": {"path": "/data"}})
    redis, disk = known.service("redis").redis, known.service("redis").disk
    assert redis is not None
    assert redis.password_file == tmp_path / "redis.password"
    assert disk is not None
    assert disk.path == Path("/data")


def test_alerts_are_known_by_labels() -> None:
    """By service=<name>, or by what the inventory says instead."""
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
def test_what_cannot_work_is_refused(service: dict[str, Any]) -> None:
    """Unknown platforms, credentials in urls, everything of a namespace, paths in patterns, impossible numbers."""
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
def test_every_platform_can_be_written(platform: dict[str, Any]) -> None:
    """The kinds that the product speaks of."""
    assert inventory(x={"platform": platform}).service("x").platform.kind == platform["kind"]
