"""Containers made anew and added, one call after the other, in an order that leaves signs of how far it came.

A container is made anew under a second name beside the old one, which is stopped then, and removed only when the new
one runs. A process that dies in between leaves two containers of which at most one runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from remediator.clients.docker.client import Docker, DockerRefused
from remediator.clients.docker.container_spec import ContainerSpec, clone_spec, successor_spec, with_labels
from remediator.clients.docker.models import Container, ContainerPin

NUMBER = "com.docker.compose.container-number"
REPLACES = "remediator.replaces"
"""Label of a container that was made anew: the id of the one before it."""
UNDONE = "remediator.undone"
"""Label: ids of the images that a service was rolled back from, so that going there again is known to be a redo."""
ADDED = "remediator.added"
"""Label of a container that scaling made."""
NEW = ".remediator-new"
"""End of a new container's name until the old one is gone."""
STOP_TIMEOUT = 10
_REMEMBERED = 10


def own_name(container: Container) -> str:
    """Its name as people write it."""
    return container.name.removeprefix("/")


async def add(client: Docker, like: Container, number: int) -> None:
    """One more container of the same Compose service, started.

    Raises:
        InputError: there can be only one of it.
    """
    made = clone_spec(await client.document(like.id), await client.image_document(like.image))
    name = re.sub(r"[-_]\d+$", "", _lasting(like))
    separator = "_" if re.search(r"_\d+$", _lasting(like)) else "-"
    labels = {NUMBER: str(number), ADDED: "scale", REPLACES: None}
    container = await _create(client, f"{name}{separator}{number}", with_labels(made, labels))
    try:
        await client.start(container)
    except DockerRefused:
        await client.remove(container)
        raise


async def replace(client: Docker, old: Container, image: str, image_id: str) -> None:
    """The same container from another image; if that cannot be started, the old one is started again."""
    made = successor_spec(await client.document(old.id), await client.image_document(old.image), image)
    undone = [each for each in old.labels.get(UNDONE, "").split(",") if each and each != image_id]
    labels = {REPLACES: old.id, UNDONE: ",".join([*undone, old.image][-_REMEMBERED:])}
    new = await _create(client, f"{_lasting(old)}{NEW}", with_labels(made, labels))
    await client.stop(old.id, stop_timeout=STOP_TIMEOUT, expected=await _pin(client, old))
    try:
        await client.start(new)
    except DockerRefused:
        await client.start(old.id)
        await client.remove(new)
        raise
    await client.remove(old.id)
    await client.rename(new, _lasting(old))


async def tidy(client: Docker, leftovers: Iterable[Container], instances: Iterable[Container]) -> None:
    """Clear away what an interrupted change left: of two containers that one counts that runs, and one that was only
    made counts for none."""
    for each in leftovers:
        if not each.state.running:
            with suppress(DockerRefused):
                await client.remove(each.id)
    for each in instances:
        if own_name(each).endswith(NEW):
            await client.rename(each.id, _lasting(each))


def _lasting(container: Container) -> str:
    return own_name(container).removesuffix(NEW)


async def _create(client: Docker, name: str, made: ContainerSpec) -> str:
    container = await client.create(name, made.body)
    for network, settings in made.more_networks.items():
        await client.connect(network, container, settings)
    return container


async def _pin(client: Docker, container: Container) -> ContainerPin:
    """What it has to be still: as it was looked at, unless Docker itself keeps restarting it."""
    return container.pin if container.restart_count == 0 else (await client.container(container.id)).pin
