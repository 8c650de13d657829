"""Manage the containers of a Compose service, or containers with given labels, on one Docker Engine.

To replace a container, the platform creates the new container under a second name and stops the old container. It
removes the old container only when the new container runs. If the process ends between these steps, two containers
remain, and at most one of them runs. The next observation detects this state.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from remediator.clients.docker.client import Docker, DockerRefused
from remediator.clients.docker.images import ages, repository, title
from remediator.clients.docker.models import Container, ContainerPin, ListedImage
from remediator.clients.docker.replace import (
    ADDED,
    NEW,
    NUMBER,
    REPLACES,
    STOP_TIMEOUT,
    UNDONE,
    add,
    own_name,
    replace,
    tidy,
)
from remediator.clients.docker.rights import missing_rights
from remediator.clients.endpoints import Endpoint
from remediator.core.clock import Clock, SystemClock, rfc3339
from remediator.core.release import Release
from remediator.errors import InputError, TargetError
from remediator.extensions.log_lines import of_last_start
from remediator.extensions.platforms._docker_status import FoundContainers, container_status
from remediator.extensions.platforms.base import OWN_RESTARTS, Platform, ServiceStatus
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import DockerBinding

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"


class DockerPlatform(Platform):
    """Services that run as Docker containers."""

    kind = "docker"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clients: dict[str, Docker] = {}
        self._clock = clock or SystemClock()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def missing_rights(self, service: Service, action: str) -> tuple[str, ...]:
        _, client = self._of(service)
        return await missing_rights(client, action)

    async def status(self, service: Service) -> ServiceStatus:
        _, client = self._of(service)
        return container_status(service, await _find(client, service), self._clock.now())

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of all containers since their last start, or with ``previous``, before it."""
        _, client = self._of(service)
        instances = (await _find(client, service)).instances
        texts = []
        for each in instances:
            boundary = _until(each)
            since, until = (None, boundary) if previous else (boundary, None)
            text = (await client.logs(each.id, lines, since=since, until=until, timestamps=True)).text
            # the container does not run, and Docker does not report when its output began
            if boundary is None and not previous:
                text = of_last_start(text)
            texts.append(text if len(instances) == 1 else f"[{own_name(each)}]\n{text}")
        return "\n".join(texts)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"{_where(service)}: restart one container after the other, each with {stop_timeout:g} s to stop"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        _, client = self._of(service)
        for each in _as_planned(service, await _find(client, service), pin):
            await client.restart(each.id, stop_timeout=max(round(stop_timeout), 1), expected=each.pin)

    def describe_scale(self, service: Service, replicas: int) -> str:
        return f"{_where(service)}: create or remove containers until {replicas} exist; volumes are kept"

    async def scale(self, service: Service, pin: Mapping[str, Any], replicas: int) -> None:
        _, client = self._of(service)
        if replicas < 1:
            raise TargetError(f"cannot scale {service.name} below one container")
        found = await _find(client, service)
        instances = _as_planned(service, found, pin)
        await tidy(client, found.leftovers, instances)
        last = max(_order(each)[0] for each in instances)
        for number in range(last + 1, last + 1 + replicas - len(instances)):
            try:
                await add(client, instances[0], number)
            except InputError as error:
                raise TargetError(f"cannot scale {service.name}: {error}") from None
        # remove containers that scaling created first, in reverse order
        ordered = sorted(instances, key=lambda each: (ADDED in each.labels, *_order(each)), reverse=True)
        for each in ordered[: max(len(instances) - replicas, 0)]:
            await client.stop(each.id, stop_timeout=STOP_TIMEOUT)
            await client.remove(each.id)

    async def releases(self, service: Service) -> tuple[Release, ...]:
        """Return the images of the repository of the service on this host, the newest build first.

        Images with the same build time (as in reproducible builds) are ordered by their arrival on this host.
        ``created_at`` is the deployment time of the current release, and the build time of the others.
        """
        _, client = self._of(service)
        instances = (await _find(client, service)).instances
        images = await client.images(reference=await repository(client, instances[0]))
        known = await ages(client, images)
        how_many = Counter(known.values())
        ordered = sorted(images, key=lambda each: known[each.id], reverse=True)
        return tuple(_release(image, instances, tied=how_many[known[image.id]] > 1) for image in ordered)

    def describe_rollback(self, service: Service, to: str) -> str:
        what = "with its networks, volumes and configuration"
        return f"{_where(service)}: create each container again from that image {what}, then remove the old one"

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        _, client = self._of(service)
        found = await _find(client, service)
        instances = _as_planned(service, found, pin)
        if all(each.image == to for each in instances):
            raise TargetError(f"{service.name} already runs {to[:19]}")
        name = await repository(client, instances[0])
        images = {image.id: image for image in await client.images(reference=name)}
        if to not in images:
            raise TargetError(f"{to[:19]} is not an image of {name} on {client.url}")
        image = next(iter(images[to].repo_tags or ()), to)
        await tidy(client, found.leftovers, instances)
        for each in instances:
            if each.image != to:
                try:
                    await replace(client, each, image, to)
                except InputError as error:
                    raise TargetError(f"cannot roll back {service.name}: {error}") from None

    def _of(self, service: Service) -> tuple[DockerBinding, Docker]:
        binding = _binding(service)
        key = binding.model_dump_json(include={"url", "tls", "timeout"})
        if key not in self._clients:
            self._clients[key] = Docker(Endpoint(url=binding.url, tls=binding.tls, timeout=binding.timeout))
        return binding, self._clients[key]


def _binding(service: Service) -> DockerBinding:
    if not isinstance(service.platform, DockerBinding):
        raise TargetError(f"{service.name} does not run on Docker")
    return service.platform


def _where(service: Service) -> str:
    binding = _binding(service)
    if binding.project is None:
        labels = ",".join(f"{name}={value}" for name, value in binding.labels.items())
        return f"Docker at {binding.url}: containers with labels {labels}"
    return f"Docker at {binding.url}: containers of Compose service {binding.project}/{binding.service or service.name}"


async def _find(client: Docker, service: Service) -> FoundContainers:
    """Return the containers of the service.

    Raises:
        TargetError: there is no container, there are more than in the inventory, or two have the same number.
    """
    binding = _binding(service)
    labels: dict[str, str | None] = dict(binding.labels)
    if binding.project is not None:
        labels = {PROJECT: binding.project, SERVICE: binding.service or service.name, **binding.labels}
    listed = await client.containers(labels)
    found_now = await asyncio.gather(*(_look(client, each.id) for each in listed))
    found = _separate([each for each in found_now if each is not None and each.labels.get(ONE_OFF) != "True"])
    if not found.instances:
        raise TargetError(f"{_where(service)}: not found; correct the inventory or create it")
    declared = [each for each in found.instances if ADDED not in each.labels]
    numbers = [each.labels[NUMBER] for each in found.instances if NUMBER in each.labels]
    if len(declared) > service.instances or len(numbers) != len(set(numbers)):
        names = ", ".join(sorted(own_name(each) for each in found.instances))
        raise TargetError(f"{_where(service)}: expected {service.instances}, found {names}")
    return found


async def _look(client: Docker, container: str) -> Container | None:
    """Return a container; None if it was removed after it was listed."""
    try:
        return await client.container(container)
    except DockerRefused as error:
        if error.status != 404:
            raise
        return None


def _separate(containers: Sequence[Container]) -> FoundContainers:
    """Separate instances from leftovers. A started replacement is the instance; before that, the old container is."""
    there = {each.id for each in containers}
    unborn = {
        each.id
        for each in containers
        if own_name(each).endswith(NEW) and not each.state.running and each.labels.get(REPLACES) in there
    }
    unborn |= {each.id for each in containers if ADDED in each.labels and each.state.status == "created"}
    replaced = {each.labels.get(REPLACES) for each in containers if each.id not in unborn}
    gone = {each.id for each in containers if each.id in unborn or each.id in replaced}
    return FoundContainers(
        tuple(sorted((each for each in containers if each.id not in gone), key=_order)),
        tuple(each for each in containers if each.id in gone),
    )


def _order(container: Container) -> tuple[int, str]:
    return int(container.labels.get(NUMBER, "0") or 0), own_name(container)


def _until(container: Container) -> datetime | None:
    """Return a time between the last end and the last start of a container; None if it does not run.

    Docker records a start after the first output of the process, and an end before its last output.
    """
    ended, started = container.state.finished_at, container.state.started_at
    if ended.year == 1:
        return container.created  # the container never ended, so there is no previous instance
    return None if ended >= started else ended + (started - ended) / 2


def _as_planned(service: Service, found: FoundContainers, pin: Mapping[str, Any]) -> tuple[Container, ...]:
    """Return the instances if they are the instances of the plan. Restarts of a crashing container by Docker are
    ignored.

    Raises:
        TargetError: other instances run, or an instance was restarted after planning.
    """
    planned = pin.get("containers", {})
    if {each.id for each in found.instances} != set(planned):
        now = ", ".join(f"{own_name(each)} ({each.id[:12]})" for each in found.instances)
        raise TargetError(
            f"{service.name} has other containers than when the plan was made: {now}; nothing was changed"
        )
    for each in found.instances:
        then = planned[each.id] or pin[OWN_RESTARTS][each.id]
        if not each.matches(ContainerPin(each.id, datetime.fromisoformat(then["started"]), then.get("restarts", 0))):
            raise TargetError(f"{own_name(each)} was restarted after planning; nothing was changed")
    return found.instances


def _release(image: ListedImage, instances: Sequence[Container], *, tied: bool) -> Release:
    running = [each for each in instances if each.image == image.id]
    built = datetime.fromtimestamp(image.created, UTC)
    undone = {each for container in instances for each in container.labels.get(UNDONE, "").split(",")}
    return Release(
        id=image.id,
        created_at=max((each.created for each in running), default=built),
        current=bool(running),
        facts={
            "tags": list(image.repo_tags or ()),
            "built_at": rfc3339(built),
            "redo": image.id in undone,
            **({"tied": True} if tied else {}),
        },
        name=title(image),
    )
