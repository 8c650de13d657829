"""Remove single pods, so that their controller creates them again: deletion and eviction.

A PodDisruptionBudget limits how many pods may be removed. The API server enforces it for an eviction only. Here, a
deletion of a pod that serves is refused if the budget does not allow it. A budget does not protect a pod that does not
serve. No pod is removed by force, because its containers might still run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.conflicts import Conflict
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.models import DisruptionBudget, Pod
from remediator.errors import TargetError
from remediator.extensions.platforms.base import SERVES, Instance, Removal

_TOO_MANY = 429
_GONE = 404


async def instance(
    client: Kubernetes, service: str, kind: WorkloadKind, pods: Sequence[Pod], name: str | None, removal: Removal
) -> Instance:
    """Return the pod to remove; see `Platform.instance`."""
    known = {pod.metadata.name: pod for pod in pods}
    if name is None:
        failing = sorted(key for key, pod in known.items() if not pod.ready)
        if len(failing) != 1:
            found = f"several pods do not serve: {', '.join(failing)}" if failing else "every pod serves"
            raise TargetError(f"which pod of {service} is unclear: {found}; name one with the parameter pod")
        name = failing[0]
    if name not in known:
        raise TargetError(f"{name} is not a pod of {service}; its pods: {', '.join(sorted(known)) or 'none'}")
    pod = known[name]
    if refusal := _refusal(pod, await _budgets(client, pod), removal):
        raise TargetError(refusal)
    meta = pod.metadata
    claims = f"; the data of {', '.join(pod.spec.claims)} stays" if pod.spec.claims else ""
    return Instance(
        name=meta.name,
        ready=pod.ready,
        pin={"pod": meta.name, "uid": meta.uid, SERVES: pod.ready},
        text=f"Kubernetes, namespace {client.namespace}: {removal} pod {meta.name}, which its {kind} creates again",
        risk=f"Connections to the pod end, and files outside of persistent volumes are lost{claims}.",
    )


async def remove(client: Kubernetes, pin: Mapping[str, Any], removal: Removal) -> None:
    """Remove the pod that ``pin`` identifies.

    The order defends that only the planned pod is removed, and no more pods than the budgets allow. First, the UID is
    compared. Then the budgets are read again. The UID is sent too, and the API server compares it once more.
    """
    name, uid = str(pin["pod"]), str(pin["uid"])
    pod = await _pod(client, name)
    if pod is None or pod.metadata.uid != uid:
        raise TargetError(f"pod {name} was replaced after planning; nothing was changed")
    if pod.metadata.deletion_timestamp is not None:
        raise TargetError(f"pod {name} is already being removed; nothing was changed")
    if pod.ready and not pin[SERVES]:
        raise TargetError(f"pod {name} serves again; nothing was changed")
    budgets = await _budgets(client, pod)
    if refusal := _refusal(pod, budgets, removal):
        raise TargetError(f"{refusal}; nothing was changed")
    if removal is Removal.DELETE:
        await client.delete_pod(name, uid)
        return
    try:
        await client.evict_pod(name, uid)
    except KubernetesRefused as error:
        if error.status != _TOO_MANY:
            raise
        protects = "; ".join(map(str, budgets)) or str(error)
        raise TargetError(f"cannot evict pod {name}: {protects}; {_way_out(pod)}; nothing was changed") from None


async def is_removed(client: Kubernetes, pin: Mapping[str, Any]) -> bool:
    """Return whether the pod that ``pin`` identifies is gone, or ends now."""
    pod = await _pod(client, str(pin["pod"]))
    return pod is None or pod.metadata.uid != pin["uid"] or pod.metadata.deletion_timestamp is not None


async def delete_stuck(client: Kubernetes, pods: Sequence[Pod]) -> None:
    """Delete the pods that are not ready. Call it after the controller has observed the restored template.

    Raises:
        TargetError: a pod could not be deleted. The template was replaced.
    """
    for pod in pods:
        if pod.ready:
            continue
        try:
            await client.delete_pod(pod.metadata.name, pod.metadata.uid)
        except Conflict:
            continue  # the controller has already replaced the pod, which was the aim
        except KubernetesRefused as error:
            if error.status == _GONE:
                continue
            raise TargetError(
                f"the template was replaced, but pod {pod.metadata.name} of the release before was not deleted, and a "
                f"StatefulSet does not replace it: {error}"
            ) from None


async def _budgets(client: Kubernetes, pod: Pod) -> list[DisruptionBudget]:
    return [each for each in await client.disruption_budgets() if each.covers(pod.metadata.labels)]


def _refusal(pod: Pod, budgets: Sequence[DisruptionBudget], removal: Removal) -> str:
    """Return why a pod must not be removed; empty if it may be.

    The eviction of a pod that does not serve is left to the API server: its answer depends on the version.
    """
    name = pod.metadata.name
    if removal is Removal.EVICT and len(budgets) > 1:
        names = ", ".join(each.metadata.name for each in budgets)
        return f"cannot evict pod {name}: it has more than one PodDisruptionBudget ({names}), which Kubernetes refuses"
    exhausted = [str(each) for each in budgets if each.status.disruptions_allowed < 1]
    if exhausted and pod.ready:
        return f"cannot {removal} pod {name}, which serves: {'; '.join(exhausted)}; {_way_out(pod)}"
    return ""


def _way_out(pod: Pod) -> str:
    if pod.ready:
        return "wait until more pods are healthy, or change the budget"
    return "the pod does not serve, so that pod.delete removes it without breaking the budget"


async def _pod(client: Kubernetes, name: str) -> Pod | None:
    try:
        return await client.pod(name)
    except KubernetesRefused as error:
        if error.status != _GONE:
            raise
        return None
