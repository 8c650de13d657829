"""Replace and add containers. The order of the calls shows how far an interrupted change came.

The new container is created under a temporary name. Then the old container is stopped, and removed only when the new
container runs. If this process dies between these calls, two containers exist and at most one of them runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from remediator.clients.docker.client import Docker, DockerRefused
from remediator.clients.docker.container_spec import ContainerSpec, clone_spec, successor_spec, with_labels
from remediator.clients.docker.models import Container

NUMBER = "com.docker.compose.container-number"
REPLACES = "remediator.replaces"
"""Label of a replaced container: the ID of its predecessor."""
UNDONE = "remediator.undone"
"""Label: IDs of the images that a service was rolled back from. A rollback never returns to one of them."""
ADDED = "remediator.added"
"""Label of a container that scaling created."""
NEW = ".remediator-new"
"""Suffix of a new container's name until the old container is removed."""
STOP_TIMEOUT = 10
_REMEMBERED = 10


def own_name(container: Container) -> str:
    """Return the name of a container without the leading slash."""
    return container.name.removeprefix("/")


async def add(client: Docker, like: Container, number: int) -> None:
    """Create and start another container of the same Compose service.

    Raises:
        InputError: the container cannot run twice.
    """
    made = clone_spec(await client.document(like.id), await client.image_document(like.image))
    name = re.sub(r"[-_]\d+$", "", _final_name(like))
    separator = "_" if re.search(r"_\d+$", _final_name(like)) else "-"
    labels = {NUMBER: str(number), ADDED: "scale", REPLACES: None}
    container = await _create(client, f"{name}{separator}{number}", with_labels(made, labels))
    try:
        await client.start(container)
    except DockerRefused:
        await client.remove(container)
        raise


async def replace(client: Docker, old: Container, image: str, image_id: str) -> None:
    """Replace a container by one with another image. If the new one does not start, start the old one again."""
    made = successor_spec(await client.document(old.id), await client.image_document(old.image), image)
    undone = [each for each in old.labels.get(UNDONE, "").split(",") if each and each != image_id]
    labels = {REPLACES: old.id, UNDONE: ",".join([*undone, old.image][-_REMEMBERED:])}
    new = await _create(client, f"{_final_name(old)}{NEW}", with_labels(made, labels))
    await client.stop(old.id, stop_timeout=STOP_TIMEOUT, expected=old.pin)
    try:
        await client.start(new)
    except DockerRefused:
        await client.start(old.id)
        await client.remove(new)
        raise
    await client.remove(old.id)
    await client.rename(new, _final_name(old))


async def tidy(client: Docker, leftovers: Iterable[Container], instances: Iterable[Container]) -> None:
    """Clean up after an interrupted change: remove stopped leftovers, and rename containers with a temporary name."""
    for each in leftovers:
        if not each.state.running:
            with suppress(DockerRefused):
                await client.remove(each.id)
    for each in instances:
        if own_name(each).endswith(NEW):
            await client.rename(each.id, _final_name(each))


def _final_name(container: Container) -> str:
    return own_name(container).removesuffix(NEW)


async def _create(client: Docker, name: str, made: ContainerSpec) -> str:
    container = await client.create(name, made.body)
    for network, settings in made.more_networks.items():
        await client.connect(network, container, settings)
    return container
