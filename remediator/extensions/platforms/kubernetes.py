"""Manage a Deployment, by name or by the labels of its pods, in one namespace of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from remediator.clients.kubernetes import revisions
from remediator.clients.kubernetes.client import Conflict, Kubernetes, KubernetesRefused, restarted_at
from remediator.clients.kubernetes.events import ObjectEvent, ObjectReference
from remediator.clients.kubernetes.kubeconfig import KubernetesEndpoint, access
from remediator.clients.kubernetes.models import ContainerStatus, Event, Pod, Workload
from remediator.clients.kubernetes.owner import autoscalers_of, owner_of
from remediator.clients.kubernetes.pods import (
    containers,
)
from remediator.clients.kubernetes.rights import missing_rights
from remediator.core.clock import Clock, SystemClock, rfc3339
from remediator.core.plan import PlannedCall
from remediator.core.release import Release
from remediator.errors import ConfigurationError, TargetError
from remediator.extensions.platforms._kubernetes_status import Rollout, rollout_status
from remediator.extensions.platforms.base import Platform, ServiceStatus
from remediator.playbooks.inventory import KubernetesBinding, Service

_TRIES = 5
_MOST_PODS = 5

Change = Callable[[Workload], Coroutine[Any, Any, Any]]


class KubernetesPlatform(Platform):
    """Services that run as Kubernetes Deployments."""

    kind = "kubernetes"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clients: dict[str, Kubernetes] = {}
        self._clock = clock or SystemClock()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def missing_rights(self, service: Service, action: str) -> tuple[str, ...]:
        return await missing_rights(self._of(service), action, _binding(service).deployment or "")

    async def write_event(self, service: Service, call: PlannedCall, event: ObjectEvent) -> None:
        """Write an Event on the workload of the service."""
        client = self._of(service)
        found = (await _deployment(client, service)).metadata
        about = ObjectReference("apps/v1", "Deployment", found.name, found.uid, client.namespace)
        await client.write_event(about, event)

    async def status(self, service: Service) -> ServiceStatus:
        client = self._of(service)
        look = await _look(client, service)
        owner, events, hold = await asyncio.gather(
            owner_of(client, look.deployment), _events(client, look), _hold(client, look.deployment)
        )
        return rollout_status(look, owner, events, hold, self._clock.now())

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of the containers of at most five pods, unready pods and init containers first."""
        client = self._of(service)
        pods = sorted((await _look(client, service)).pods, key=lambda pod: (pod.ready, pod.metadata.name))
        wanted = [(pod, each) for pod in pods[:_MOST_PODS] for each in _with_logs(pod)]
        texts = [await _logs(client, pod, each, lines, previous) for pod, each in wanted]
        return "\n".join(text for text in texts if text)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"{_where(service)}: rollout restart (patch of the template's annotation {revisions.RESTARTED_AT})"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        """Replace all pods with a rollout. ``stop_timeout`` has no effect: the pods have their own grace period."""
        client = self._of(service)
        patch = restarted_at(rfc3339(self._clock.now())[:19] + "Z")

        async def change(seen: Workload) -> None:
            _refuse_if_paused(seen)
            name = seen.metadata.name
            await client.patch("deployments", name, patch, expected=seen.metadata.resource_version)

        await _if_unchanged(client, service, pin, change)

    def describe_scale(self, service: Service, replicas: int) -> str:
        return f"{_where(service)}: set the scale subresource to {replicas} replicas"

    async def scale(self, service: Service, pin: Mapping[str, Any], replicas: int) -> None:
        client = self._of(service)
        if replicas < 1:
            raise TargetError(f"cannot scale {service.name} below one pod")

        async def change(seen: Workload) -> None:
            name = seen.metadata.name
            for autoscaler in await autoscalers_of(client, name):
                raise TargetError(
                    f"HorizontalPodAutoscaler {autoscaler} would revert the scaling of {name}; change its limits"
                )
            await client.set_scale("deployments", name, replicas, expected=seen.metadata.resource_version)

        await _if_unchanged(client, service, pin, change)

    async def releases(self, service: Service) -> tuple[Release, ...]:
        """Return the recorded revisions, the most recently used first. ``id`` is the name of the ReplicaSet."""
        client = self._of(service)
        look = await _look(client, service)
        deployment, sets = look.deployment, look.sets
        current = revisions.current(deployment, sets)
        templates = {each.metadata.name: await revisions.template_of(client, each) for each in sets}
        bad = revisions.bad_names(deployment, sets, templates)
        managers = await client.managers("deployments", deployment.metadata.name)
        author = next((each for each in reversed(managers) if each.manages("spec", "template")), None)
        since = None if current is None else _since(current, look, None if author is None else author.time)
        by = "" if author is None else author.manager
        found = (_release(each, current, templates, by, redo=each.metadata.name in bad) for each in sets)
        return tuple(replace(each, created_at=since) if each.current else each for each in found)

    def describe_rollback(self, service: Service, to: str) -> str:
        return f"{_where(service)}: rollout undo to the revision that ReplicaSet {to} keeps (replace the template)"

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        client = self._of(service)

        async def change(seen: Workload) -> None:
            _refuse_if_paused(seen)
            sets = await _sets(client, seen)
            recorded = _recorded(service, seen, sets, to)
            template = await revisions.template_of(client, recorded)
            left = await client.template("deployments", seen.metadata.name)
            await client.replace_template(
                "deployments",
                seen.metadata.name,
                template,
                expected=seen.metadata.resource_version,
                annotations=revisions.with_rolled_back(seen, sets, revisions.digest(left), revisions.digest(template)),
            )

        await _if_unchanged(client, service, pin, change)

    def _of(self, service: Service) -> Kubernetes:
        binding = _binding(service)
        key = binding.model_dump_json(include={"namespace", "kubeconfig", "context"})
        if key not in self._clients:
            endpoint = KubernetesEndpoint(
                kubeconfig=binding.kubeconfig,
                context=binding.context,
                in_cluster=binding.kubeconfig is None,
                namespace=binding.namespace,
                timeout=binding.timeout,
            )
            self._clients[key] = _connect(endpoint)
        return self._clients[key]


def _connect(endpoint: KubernetesEndpoint) -> Kubernetes:
    try:
        return Kubernetes(access(endpoint))
    except ConfigurationError as error:
        raise TargetError(f"cannot connect to the cluster: {error}") from None


def _binding(service: Service) -> KubernetesBinding:
    if not isinstance(service.platform, KubernetesBinding):
        raise TargetError(f"{service.name} does not run on Kubernetes")
    return service.platform


def _where(service: Service) -> str:
    binding = _binding(service)
    labels = ",".join(f"{name}={value}" for name, value in binding.selector.items())
    what = f"Deployment {binding.deployment}" if binding.deployment else f"Deployment of the pods {labels}"
    return f"Kubernetes, namespace {binding.namespace}: {what}"


async def _deployment(client: Kubernetes, service: Service) -> Workload:
    """Return the Deployment of the service.

    Raises:
        TargetError: there is none, or the selected pods do not belong to exactly one Deployment.
    """
    binding = _binding(service)
    name = binding.deployment or await _owner_of_pods(client, service, binding.selector)
    try:
        return await client.workload("deployments", name)
    except KubernetesRefused as error:
        if error.reason != "NotFound":
            raise
        raise TargetError(f"{_where(service)}: not found; correct the inventory or create it") from None


async def _owner_of_pods(client: Kubernetes, service: Service, selector: Mapping[str, str]) -> str:
    pods = await client.pods(selector)
    makers = {(owner.kind, owner.name) if (owner := pod.metadata.controller) else ("Pod", "alone") for pod in pods}
    other_kinds = sorted(kind for kind, _ in makers if kind != "ReplicaSet")
    if not pods or other_kinds:
        found = f"pods of {', '.join(other_kinds)}" if other_kinds else "no pod"
        raise TargetError(f"{_where(service)}: expected pods of one Deployment, found {found}")
    sets = [await client.workload("replicasets", name) for _, name in sorted(makers)]
    names = {owner.name if (owner := each.metadata.controller) else each.metadata.name for each in sets}
    if len(names) != 1:
        raise TargetError(f"{_where(service)}: the pods belong to several Deployments: {', '.join(sorted(names))}")
    return names.pop()


async def _look(client: Kubernetes, service: Service) -> Rollout:
    deployment = await _deployment(client, service)
    sets, pods = await asyncio.gather(_sets(client, deployment), client.pods(deployment.spec.selector))
    mine = {each.metadata.uid for each in sets}
    ours = (pod for pod in pods if (owner := pod.metadata.controller) is not None and owner.uid in mine)
    return Rollout(deployment, sets, tuple(pod for pod in ours if pod.metadata.deletion_timestamp is None))


async def _sets(client: Kubernetes, deployment: Workload) -> tuple[Workload, ...]:
    """Return the ReplicaSets of a Deployment, the most recently used first."""
    found = await client.workloads("replicasets", deployment.spec.selector)
    mine = [each for each in found if (owner := each.metadata.controller) and owner.uid == deployment.metadata.uid]
    return tuple(sorted(mine, key=lambda each: -(each.revision or 0)))


async def _if_unchanged(client: Kubernetes, service: Service, pin: Mapping[str, Any], change: Change) -> None:
    """Read the Deployment again and change it if it equals ``pin``.

    The order defends that only the planned object is changed: compare UID and generation, then send the resource
    version, which the API server compares once more. The resource version also changes with the status, in a crash
    loop all the time. Such a conflict changed nothing, so that the comparison is repeated a few times.

    Raises:
        TargetError: it is another object, or its specification was changed after planning.
    """
    for left in reversed(range(_TRIES)):
        seen = await _deployment(client, service)
        if {"uid": seen.metadata.uid, "generation": seen.metadata.generation} != dict(pin):
            name = seen.metadata.name
            raise TargetError(f"Deployment {name} was modified after planning; nothing was changed")
        try:
            await change(seen)
            return
        except Conflict:
            if not left:
                raise


def _refuse_if_paused(seen: Workload) -> None:
    if seen.spec.paused:
        raise TargetError(f"the rollout of Deployment {seen.metadata.name} is paused; nothing was changed")


async def _events(client: Kubernetes, look: Rollout) -> tuple[Event, ...]:
    """Return the warnings about unready pods, and about pods that are not created; empty without the right to read."""
    asked = [("Pod", pod.metadata.name) for pod in look.pods if not pod.ready][:_MOST_PODS]
    current = revisions.current(look.deployment, look.sets)
    if current is not None and len(look.newest) < look.deployment.spec.replicas:
        asked.append(("ReplicaSet", current.metadata.name))
    try:
        found = [event for kind, name in asked for event in await client.events(kind, name)]
    except KubernetesRefused:
        return ()
    return tuple(each for each in found if each.type == "Warning")


def _with_logs(pod: Pod) -> list[ContainerStatus]:
    """Return the containers whose logs matter: an init container only until it has ended well."""
    return [each for each in containers(pod) if not (each in pod.status.init_container_statuses and each.ready)]


async def _logs(client: Kubernetes, pod: Pod, container: ContainerStatus, lines: int, previous: bool) -> str:
    try:
        text = await client.logs(pod.metadata.name, container.name, lines, previous=previous, timestamps=True)
    except KubernetesRefused as error:
        if error.status != 400:  # the container has not started, or has no previous instance
            raise
        return ""
    return f"[{pod.metadata.name}/{container.name}]\n{text}"


def _release(
    each: Workload, current: Workload | None, templates: Mapping[str, Mapping[str, Any]], by: str, *, redo: bool
) -> Release:
    """Return the release of a ReplicaSet. ``by`` deployed the current one."""
    is_current = current is not None and each.metadata.name == current.metadata.name
    return Release(
        id=each.metadata.name,
        created_at=each.metadata.creation_timestamp,
        current=is_current,
        facts={
            "revision": each.revision,
            "images": [container.image for container in each.spec.template.spec.containers],
            "change_cause": each.metadata.annotations.get(revisions.CHANGE_CAUSE, ""),
            "redo": redo and not is_current,
        },
        identity=revisions.digest(templates[each.metadata.name]),
        name=revisions.title(each),
        deployed_by=by if is_current else "",
    )


def _since(current: Workload, look: Rollout, written_at: datetime | None) -> datetime | None:
    """Return when the current release was rolled out. An undo restores a ReplicaSet that is older than its rollout.

    Args:
        current: its ReplicaSet.
        look: the Deployment with its pods. A pod that was replaced later is younger than the rollout.
        written_at: when the author of the template last wrote to the Deployment: at the rollout, or later.
    """
    known = [pod.metadata.creation_timestamp for pod in look.newest] + [written_at]
    born = current.metadata.creation_timestamp
    rolled_out = min((each for each in known if each is not None), default=born)
    return rolled_out if born is None or rolled_out is None else max(born, rolled_out)


def _recorded(service: Service, deployment: Workload, sets: Sequence[Workload], to: str) -> Workload:
    """Return the ReplicaSet with this name.

    Raises:
        TargetError: it does not exist, or is the current one.
    """
    found = next((each for each in sets if each.metadata.name == to), None)
    if found is None:
        names = ", ".join(each.metadata.name for each in sets)
        raise TargetError(f"{_where(service)}: no recorded revision {to!r}; recorded: {names or 'none'}")
    current = revisions.current(deployment, sets)
    if current is not None and found.metadata.uid == current.metadata.uid:
        raise TargetError(f"{service.name} already runs {to}")
    return found


async def _hold(client: Kubernetes, deployment: Workload) -> str:
    """Return who paused the rollout, and when; empty if it is not paused."""
    if not deployment.spec.paused:
        return ""
    name = deployment.metadata.name
    managers = await client.managers("deployments", name)
    by = next((each for each in reversed(managers) if each.manages("spec", "paused")), None)
    who = "" if by is None else f" by {by.manager}" + (f" at {rfc3339(by.time)[:19]}Z" if by.time else "")
    return (
        f"the rollout of Deployment {name} is paused{who}: its template may hold staged changes, which stay untouched; "
        f"resume it with 'kubectl rollout resume deployment/{name}', or decide by hand"
    )
