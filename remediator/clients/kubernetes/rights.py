"""The rights that the actions on a Deployment need, and which of them the account does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused


@dataclass(frozen=True, slots=True)
class Right:
    """One permission in a namespace, as in a rule of a Role."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    named: bool = False
    """Whether it is enough to have it for the Deployment of the service."""

    def text(self, name: str) -> str:
        """Return the permission as text, for example ``patch deployments/app``."""
        resource = f"{self.resource}/{name}" if self.named and name else self.resource
        return f"{self.verb} {resource}" + (f" (subresource {self.subresource})" if self.subresource else "")


_LOOK = (
    Right("get", "apps", "deployments", named=True),
    Right("list", "apps", "replicasets"),
    Right("list", "", "pods"),
)
_CHANGE = (*_LOOK, Right("patch", "apps", "deployments", named=True))
RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "service.status": _LOOK,
    "service.logs": (*_LOOK, Right("get", "", "pods", "log")),
    "service.releases": (*_LOOK, Right("get", "apps", "replicasets")),
    "job.run": (Right("create", "batch", "jobs"), Right("get", "batch", "jobs")),
    "job.wait": (Right("list", "batch", "jobs"), Right("list", "", "pods"), Right("get", "", "pods", "log")),
    "service.restart": _CHANGE,
    "service.rollback": (*_CHANGE, Right("get", "apps", "replicasets")),
    "service.scale": (
        *_LOOK,
        Right("patch", "apps", "deployments", "scale", named=True),
        Right("list", "autoscaling", "horizontalpodautoscalers"),
    ),
}
"""By action; other actions need no right in the cluster."""


EVIDENCE = (Right("list", "", "events"), Right("list", "autoscaling", "horizontalpodautoscalers"))
"""For every status. Without them, it lacks the reasons in events, and whether an autoscaler owns it is unknown."""
WRITE_EVENTS = Right("create", "", "events")


async def missing_rights(client: Kubernetes, action: str, deployment: str) -> tuple[str, ...]:
    """Return the rights that the account lacks for an action, as text; empty if the API server does not say.

    Args:
        client: the client of the namespace.
        action: name of the action.
        deployment: name of the Deployment; empty if only labels of its pods are known.
    """
    return await lacking(client, RIGHTS.get(action, ()), deployment)


async def lacking(client: Kubernetes, rights: Sequence[Right], name: str) -> tuple[str, ...]:
    """Return those of some rights that the account lacks, as text; empty if the API server does not say.

    Args:
        client: the client of the namespace or of the cluster.
        rights: the rights.
        name: name of the object for rights that are enough for one object; empty if it is not known.
    """
    try:
        allowed = await asyncio.gather(
            *(
                client.may(each.verb, each.group, each.resource, name if each.named else "", each.subresource)
                for each in rights
            )
        )
    except KubernetesRefused:  # the account may not ask; the action itself then reports what it may not do
        return ()
    return tuple(right.text(name) for right, yes in zip(rights, allowed, strict=True) if not yes)
