"""Images of a service on a Docker host: what they are called, and which came before which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from remediator.clients.docker.client import Docker
from remediator.clients.docker.models import Container, ListedImage
from remediator.clients.docker.replace import own_name
from remediator.errors import TargetError

Age = tuple[int, datetime, datetime]
"""When an image was built, to the second; and where seconds do not tell, to the nanosecond, and when it came here."""


async def ages(client: Docker, images: Sequence[ListedImage]) -> dict[str, Age]:
    """How old these are, by id; those that are equally old cannot be told apart by anything the Engine knows.

    Builds that can be reproduced bear one fixed day: of them, the day on which each came here tells.
    """
    seconds = Counter(image.created for image in images)
    return {image.id: await _age(client, image, exactly=seconds[image.created] > 1) for image in images}


async def _age(client: Docker, image: ListedImage, *, exactly: bool) -> Age:
    never = datetime.min.replace(tzinfo=UTC)
    if not exactly:
        return image.created, never, never
    found = await client.image(image.id)
    return image.created, found.created, found.metadata.last_tag_time or never


async def repository(client: Docker, container: Container) -> str:
    """The name of its image without tag and digest."""
    names = [container.config.image]
    if names[0].startswith("sha256:"):
        names = [*(await client.image(container.image)).tags]
    if not names:
        raise TargetError(f"the image of {own_name(container)} has no name, so no other of its kind can be found")
    name = names[0].partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
