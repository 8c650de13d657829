"""The rights that the actions on a workload need, and which of them the account does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.kinds import WorkloadKind


@dataclass(frozen=True, slots=True)
class Right:
    """One permission in a namespace, as in a rule of a Role."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    named: bool = False
    """Whether it is enough to have it for the workload of the service."""

    def text(self, name: str) -> str:
        """Return the permission as text, for example ``patch deployments/app``."""
        resource = f"{self.resource}/{name}" if self.named and name else self.resource
        return f"{self.verb} {resource}" + (f" (subresource {self.subresource})" if self.subresource else "")


EVIDENCE = (Right("list", "", "events"), Right("list", "autoscaling", "horizontalpodautoscalers"))
"""For every status. Without them, it lacks the reasons in events, and whether an autoscaler owns it is unknown."""
WRITE_EVENTS = Right("create", "", "events")


def rights_for(action: str, kind: WorkloadKind) -> tuple[Right, ...]:
    """Return the rights that an action needs on a workload of this kind; empty if it needs no rights."""
    workload, history = kind.resource, kind.history
    look = (
        Right("get", "apps", workload, named=True),
        Right("list", "apps", history),
        Right("list", "", "pods"),
    )
    change = (*look, Right("patch", "apps", workload, named=True))
    # the controller of a StatefulSet does not replace pods that never became ready
    stuck = (Right("delete", "", "pods"),) if kind is WorkloadKind.STATEFUL_SET else ()
    removal = (*look, Right("get", "", "pods"), Right("list", "policy", "poddisruptionbudgets"))
    return {
        "service.status": look,
        "service.logs": (*look, Right("get", "", "pods", "log")),
        "service.releases": (*look, Right("get", "apps", history)),
        "service.restart": change,
        "service.rollback": (*change, Right("get", "apps", history), *stuck),
        "service.scale": (
            *look,
            Right("patch", "apps", workload, "scale", named=True),
            Right("list", "autoscaling", "horizontalpodautoscalers"),
        ),
        "job.run": (Right("create", "batch", "jobs"), Right("get", "batch", "jobs")),
        "job.wait": (Right("list", "batch", "jobs"), Right("list", "", "pods"), Right("get", "", "pods", "log")),
        "pod.delete": (*removal, Right("delete", "", "pods")),
        "pod.evict": (*removal, Right("create", "", "pods", "eviction")),
    }.get(action, ())


async def missing_rights(client: Kubernetes, action: str, kind: WorkloadKind, name: str) -> tuple[str, ...]:
    """Return the rights that the account lacks for an action, as text; empty if the API server does not report them.

    Args:
        client: the client of the namespace.
        action: name of the action.
        kind: kind of the workload.
        name: name of the workload; empty if only labels of its pods are known.
    """
    return await lacking(client, rights_for(action, kind), name)


async def lacking(client: Kubernetes, rights: Sequence[Right], name: str) -> tuple[str, ...]:
    """Return the rights that the account lacks, as text; empty if the API server does not report them.

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
    except KubernetesRefused:  # the account may not check its rights; the action itself then reports missing rights
        return ()
    return tuple(right.text(name) for right, yes in zip(rights, allowed, strict=True) if not yes)
