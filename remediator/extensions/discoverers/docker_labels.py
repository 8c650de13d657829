"""``docker_labels``: containers of a Docker Engine, by their labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from remediator.clients.docker.client import Docker
from remediator.clients.docker.models import Listed
from remediator.clients.endpoints import Endpoint
from remediator.extensions.discoverers.base import Discoverer, Labels
from remediator.playbooks.discovery import DockerLabels

_COMPOSE = "com.docker.compose"


class DockerLabelsDiscoverer(Discoverer):
    """Lists containers, running or not. The containers of a Compose service are one target."""

    kind = "docker_labels"

    async def find(self, discovery: DockerLabels) -> Sequence[Labels]:
        endpoint = Endpoint(url=discovery.url, tls=discovery.tls, timeout=discovery.timeout)
        async with aclosing(Docker(endpoint)) as client:
            containers = await client.containers(discovery.labels)
        groups: dict[tuple[str, str], list[Listed]] = {}
        for each in containers:
            labels = each.labels or {}
            if labels.get(f"{_COMPOSE}.oneoff", "").lower() == "true":
                continue  # 'docker compose run' created this container; it is not an instance of the service
            project, service = labels.get(f"{_COMPOSE}.project", ""), labels.get(f"{_COMPOSE}.service", "")
            groups.setdefault((project, service) if project and service else ("", each.name), []).append(each)
        targets = []
        for (project, name), group in groups.items():
            common = set.intersection(*(set((each.labels or {}).items()) for each in group))
            own = {f"label.{label}": value for label, value in common}  # the labels that all its containers have
            compose = {"project": project, "service": name} if project else {}
            targets.append({**own, **compose, "name": name, "instances": str(len(group))})
        return targets
