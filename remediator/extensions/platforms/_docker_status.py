"""The status of a service on Docker, from the containers that were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.docker.models import Container
from remediator.clients.docker.replace import own_name
from remediator.core.clock import rfc3339
from remediator.core.sizes import format_size
from remediator.extensions.platforms.base import OWN_RESTARTS, Reason, ServiceStatus, State
from remediator.playbooks.inventory import Service

_LOOPING = 3
_CALM = timedelta(minutes=1)
_ALWAYS = frozenset({"always", "unless-stopped"})
"""Restart policies with which Docker starts a container again after each end, unless an operator stopped it."""


@dataclass(frozen=True, slots=True)
class FoundContainers:
    """The containers of a service, and the leftovers of an interrupted change."""

    instances: tuple[Container, ...]
    leftovers: tuple[Container, ...]


def container_status(service: Service, found: FoundContainers, now: datetime) -> ServiceStatus:
    """Return the status of all containers of a service together."""
    states = [_state(each, now) for each in found.instances]
    healthy = sum(_healthy(each, state) for each, state in zip(found.instances, states, strict=True))
    state = _together(states, len(states) < service.instances)
    missing = service.instances - len(states)
    parts = [_summary(each, state) for each, state in zip(found.instances, states, strict=True)]
    if missing > 0:
        parts.append(f"{missing} of {service.instances} missing")
    return ServiceStatus(
        state=state,
        summary="; ".join(parts),
        instances=max(len(states), service.instances),
        healthy=healthy,
        pin=_pin(found.instances),
        started_at=max(each.state.started_at for each in found.instances),
        facts={
            "replicas": len(states),
            "containers": [_facts(each, state) for each, state in zip(found.instances, states, strict=True)],
            "leftovers": [own_name(each) for each in found.leftovers],
            "owner": next((owner for each in found.instances if (owner := _owner(each))), None),
        },
        lives={each.id: f"{each.restart_count} {each.state.started_at.isoformat()}" for each in found.instances},
        reasons=(Reason.OUT_OF_MEMORY,) if any(each.state.oom_killed for each in found.instances) else (),
    )


def _pin(instances: Sequence[Container]) -> dict[str, Any]:
    """Return the identity of the instances. A crash loop is pinned separately, so that the plan and its approval stay
    valid after another restart by Docker."""
    looping = [each for each in instances if each.restart_count]
    steady = {each.id: {"started": each.state.started_at.isoformat()} for each in instances}
    pin: dict[str, Any] = {"containers": steady | {each.id: {} for each in looping}}
    if looping:
        pin[OWN_RESTARTS] = {
            each.id: {"started": each.state.started_at.isoformat(), "restarts": each.pin.restarts} for each in looping
        }
    return pin


def _state(container: Container, now: datetime) -> State:
    seen = container.state
    if seen.restarting or (seen.status == "exited" and seen.exit_code and container.restart_count):
        return State.CRASH_LOOP
    if seen.status == "running":
        if container.restart_count >= _LOOPING and now - seen.started_at < _CALM:
            return State.CRASH_LOOP
        return State.STARTING if seen.health is not None and seen.health.status == "starting" else State.RUNNING
    if seen.status == "exited" and not seen.error and container.host_config.restart_policy.name in _ALWAYS:
        return State.STOPPED
    words = {"exited": State.EXITED, "dead": State.EXITED, "created": State.STOPPED, "paused": State.STOPPED}
    return words.get(seen.status, State.UNKNOWN)


def _healthy(container: Container, state: State) -> bool:
    health = container.state.health
    return state is State.RUNNING and (health is None or health.status in ("healthy", "none"))


def _together(states: Sequence[State], some_missing: bool) -> State:
    different = set(states)
    for telling in (State.CRASH_LOOP, State.UNKNOWN):
        if telling in different:
            return telling
    if some_missing and State.RUNNING in different:
        return State.MIXED
    if len(different) == 1:
        return states[0]
    return State.STARTING if different == {State.RUNNING, State.STARTING} else State.MIXED


def _summary(container: Container, state: State) -> str:
    seen = container.state
    text = f"{own_name(container)} is {seen.status}"
    if seen.status == "running":
        health = "" if seen.health is None else f", {seen.health.status}"
        text += f" (since {rfc3339(seen.started_at)[:19]}Z{health}{_out_of_memory(container)})"
    elif seen.status != "created":
        text += f" (exit code {seen.exit_code}{_out_of_memory(container)})"
    if state is State.CRASH_LOOP:
        text += f", restarted {container.restart_count} times by Docker"
    return f"{text}: {seen.error}" if seen.error else text


def _out_of_memory(container: Container) -> str:
    if not container.state.oom_killed:
        return ""
    limit = container.host_config.memory
    return f", out of memory, limit {format_size(limit)}" if limit else ", out of memory"


def _facts(container: Container, state: State) -> dict[str, Any]:
    seen = container.state
    return {
        "name": own_name(container),
        "id": container.id[:12],
        "state": state.value,
        "status": seen.status,
        "health": None if seen.health is None else seen.health.status,
        "exit_code": seen.exit_code,
        "oom_killed": seen.oom_killed,
        "memory_limit": container.host_config.memory or None,
        "restarts": container.restart_count,
        "image": container.config.image,
        "image_id": container.image,
    }


def _owner(container: Container) -> dict[str, str] | None:
    """Return the controller of a container, Swarm or a kubelet, which would revert a change."""
    for label, kind in (("com.docker.swarm.service.name", "swarm"), ("io.kubernetes.pod.name", "kubernetes")):
        if label in container.labels:
            return {"kind": kind, "name": container.labels[label]}
    return None
