"""Images of a service on a Docker host: their names and their order in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from remediator.clients.docker.client import Docker
from remediator.clients.docker.models import Container, ListedImage
from remediator.clients.docker.replace import own_name
from remediator.errors import TargetError

_OCI = "org.opencontainers.image"
Age = tuple[int, datetime, datetime]
"""Build time in seconds; if several images share it: build time in nanoseconds, and time of arrival on this host."""


async def ages(client: Docker, images: Sequence[ListedImage]) -> dict[str, Age]:
    """Return the age of each image, by ID. The Engine knows no difference between images of equal age.

    Reproducible builds share a fixed build time, so the time of arrival on this host decides between them.
    """
    seconds = Counter(image.created for image in images)
    never = datetime.min.replace(tzinfo=UTC)
    found: dict[str, Age] = {}
    for image in images:
        if seconds[image.created] == 1:
            found[image.id] = image.created, never, never
        else:
            details = await client.image(image.id)
            found[image.id] = image.created, details.created, details.metadata.last_tag_time or never
    return found


async def repository(client: Docker, container: Container) -> str:
    """Return the name of the container's image without tag and digest."""
    names = [container.config.image]
    if names[0].startswith("sha256:"):
        names = [*(await client.image(container.image)).tags]
    if not names:
        raise TargetError(f"the image of {own_name(container)} has no name, so its other versions cannot be found")
    name = names[0].partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def title(image: ListedImage) -> str:
    """Return the name of an image for people: its tags, its labels for version and commit, or a short ID."""
    labels = image.labels or {}
    tags = [tag for tag in image.repo_tags or () if tag != "<none>:<none>"]
    version, commit = labels.get(f"{_OCI}.version", ""), labels.get(f"{_OCI}.revision", "")[:12]
    name = ", ".join(tags) or f"image {image.id.removeprefix('sha256:')[:12]}"
    more = [
        f"version {version}" if version and version not in name else "",
        f"commit {commit}" if commit and commit not in name else "",
    ]
    return " ".join(part for part in (name, *more) if part)
