"""Manage a Deployment, a StatefulSet or a DaemonSet in one namespace of a cluster.

A restart and a rollback change the pod template, and the controller of the workload replaces the pods. A StatefulSet
does not replace a pod that never became ready. After a rollback, the platform deletes such pods of the abandoned
release, and the controller creates them from the restored release.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from remediator.clients.kubernetes import revisions
from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused, restarted_at
from remediator.clients.kubernetes.conflicts import repeat_on_conflict
from remediator.clients.kubernetes.events import ObjectEvent, ObjectReference
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.kubeconfig import access
from remediator.clients.kubernetes.models import ContainerStatus, Event, Pod, Workload
from remediator.clients.kubernetes.owner import autoscaler_of, owner_of, why_not_scaled
from remediator.clients.kubernetes.pods import containers, loops
from remediator.clients.kubernetes.revisions import Revision
from remediator.clients.kubernetes.rights import missing_rights
from remediator.core.clock import Clock, SystemClock, rfc3339
from remediator.core.plan import PlannedCall
from remediator.core.release import Release
from remediator.errors import TargetError
from remediator.extensions.platforms import _kubernetes_pods as removals
from remediator.extensions.platforms._kubernetes_failures import failures
from remediator.extensions.platforms._kubernetes_status import Rollout, rollout_status
from remediator.extensions.platforms.base import Instance, Platform, Removal, ServiceStatus
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import KubernetesBinding

_MOST_PODS = 5

Change = Callable[[Workload], Coroutine[Any, Any, Any]]


class KubernetesPlatform(Platform):
    """Services that run as workloads of Kubernetes."""

    kind = "kubernetes"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clients: dict[str, Kubernetes] = {}
        self._clock = clock or SystemClock()

    @classmethod
    def unsupported_on(cls, service: Service) -> frozenset[str]:
        """A DaemonSet runs one pod on each node, so it cannot be scaled."""
        binding = service.platform
        daemons = isinstance(binding, KubernetesBinding) and binding.workload_kind is WorkloadKind.DAEMON_SET
        return cls.unsupported() | ({"service.scale"} if daemons else frozenset())

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def missing_rights(self, service: Service, action: str) -> tuple[str, ...]:
        binding = _binding(service)
        return await missing_rights(self._of(service), action, binding.workload_kind, binding.workload_name)

    async def write_event(self, service: Service, call: PlannedCall, event: ObjectEvent) -> None:
        """Write an Event on the workload of the service."""
        client = self._of(service)
        found, kind = (await _workload(client, service)).metadata, _binding(service).workload_kind
        about = ObjectReference("apps/v1", kind, found.name, found.uid, client.namespace)
        await client.write_event(about, event)

    async def status(self, service: Service) -> ServiceStatus:
        client, now = self._of(service), self._clock.now()
        look = await _look(client, service)
        owner, events, hold = await asyncio.gather(
            owner_of(client, look.kind, look.workload), _events(client, look, now), _hold(client, look)
        )
        return rollout_status(look, owner, events, hold, now)

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """Return the last lines of the containers that fail, of at most five pods.

        If no container fails, return the lines of all containers, unready pods first.
        """
        client = self._of(service)
        pods = sorted((await _look(client, service)).pods, key=lambda pod: (pod.ready, pod.metadata.name))
        failing = [(pod, each) for pod in pods for each in _failing(pod, self._clock.now())]
        wanted = failing[:_MOST_PODS] or [(pod, each) for pod in pods[:_MOST_PODS] for each in _with_logs(pod)]
        texts = [await _logs(client, pod, each, lines, previous) for pod, each in wanted]
        return "\n".join(text for text in texts if text)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"{_where(service)}: rollout restart (patch of the template's annotation {revisions.RESTARTED_AT})"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        """Replace all pods with a rollout. ``stop_timeout`` has no effect: the pods have their own grace period."""
        client, kind = self._of(service), _binding(service).workload_kind
        patch = restarted_at(rfc3339(self._clock.now())[:19] + "Z")

        async def change(seen: Workload) -> None:
            _refuse_if_held(kind, seen)
            await client.patch(kind.resource, seen.metadata.name, patch, expected=seen.metadata.resource_version)

        await _if_unchanged(client, service, pin, change)

    def describe_scale(self, service: Service, replicas: int) -> str:
        if _binding(service).workload_kind is WorkloadKind.DAEMON_SET:
            raise TargetError(
                f"cannot scale {service.name}: a DaemonSet runs one pod on each node that fits; "
                "its number of pods follows from the nodes"
            )
        return f"{_where(service)}: set the scale subresource to {replicas} replicas"

    async def scale(self, service: Service, pin: Mapping[str, Any], replicas: int) -> None:
        """Set the number of pods.

        A StatefulSet removes its last pods first and keeps their volumes. It is not scaled down if its policy would
        delete the volumes.
        """
        client, kind = self._of(service), _binding(service).workload_kind
        self.describe_scale(service, replicas)
        if replicas < 1:
            raise TargetError(f"cannot scale {service.name} below one pod")

        async def change(seen: Workload) -> None:
            name = seen.metadata.name
            if (scaler := await autoscaler_of(client, kind, name)) is not None:
                raise TargetError(f"cannot scale {name}: {why_not_scaled(scaler)}")
            if replicas < seen.spec.replicas and seen.deletes_claims:
                raise TargetError(
                    f"cannot scale {name} down: its persistentVolumeClaimRetentionPolicy would delete the volumes of "
                    "the removed pods; nothing was changed"
                )
            await client.set_scale(kind.resource, name, replicas, expected=seen.metadata.resource_version)

        await _if_unchanged(client, service, pin, change)

    async def releases(self, service: Service) -> tuple[Release, ...]:
        """Return the recorded revisions, the most recently used first.

        ``id`` is the name of the ReplicaSet or ControllerRevision.
        """
        client = self._of(service)
        look = await _look(client, service)
        current = look.current
        templates = {each.name: await revisions.template_of(client, look.kind, each.name) for each in look.revisions}
        bad = revisions.bad_names(look.workload, look.revisions, templates)
        managers = await client.managers(look.kind.resource, look.name)
        author = next((each for each in reversed(managers) if each.manages("spec", "template")), None)
        since = None if current is None else _since(current, look, None if author is None else author.time)
        by = "" if author is None else author.manager
        found = (_release(each, current, templates, by, redo=each.name in bad) for each in look.revisions)
        return tuple(replace(each, created_at=since) if each.current else each for each in found)

    def describe_rollback(self, service: Service, to: str) -> str:
        kind = _binding(service).workload_kind
        keeper = "ReplicaSet" if kind is WorkloadKind.DEPLOYMENT else "ControllerRevision"
        text = f"{_where(service)}: rollout undo to the revision that {keeper} {to} keeps (replace the template)"
        if kind is WorkloadKind.STATEFUL_SET:
            text += "; delete the pods of the current revision that are not ready, which a StatefulSet does not replace"
        return text

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        client, kind = self._of(service), _binding(service).workload_kind
        look = await _look(client, service)

        async def change(seen: Workload) -> None:
            _refuse_if_held(kind, seen)
            recorded = await revisions.revisions_of(client, kind, seen)
            names = [each.name for each in recorded]
            if to not in names:
                found = ", ".join(names) or "none"
                raise TargetError(f"{_where(service)}: no recorded revision {to!r}; recorded: {found}")
            current = revisions.current(kind, seen, recorded)
            if current is not None and current.name == to:
                raise TargetError(f"{service.name} already runs {to}")
            template = await revisions.template_of(client, kind, to)
            left = await client.template(kind.resource, seen.metadata.name)
            await client.replace_template(
                kind.resource,
                seen.metadata.name,
                template,
                expected=seen.metadata.resource_version,
                annotations=revisions.with_rolled_back(
                    seen, recorded, revisions.digest(left), revisions.digest(template)
                ),
            )

        await _if_unchanged(client, service, pin, change)
        if kind is WorkloadKind.STATEFUL_SET:
            # before the controller has observed the template, it would create pods from the old template
            while not (await _workload(client, service)).observed:
                await self._clock.sleep(0.5)
            await removals.delete_stuck(client, look.newest)

    async def instance(self, service: Service, name: str | None, removal: Removal) -> Instance:
        client = self._of(service)
        look = await _look(client, service)
        return await removals.instance(client, service.name, look.kind, look.pods, name, removal)

    async def remove(self, service: Service, pin: Mapping[str, Any], removal: Removal) -> None:
        await removals.remove(self._of(service), pin, removal)

    async def is_removed(self, service: Service, pin: Mapping[str, Any]) -> bool:
        return await removals.is_removed(self._of(service), pin)

    def _of(self, service: Service) -> Kubernetes:
        binding = _binding(service)
        key = binding.model_dump_json(include={"namespace", "kubeconfig", "context"})
        if key not in self._clients:
            self._clients[key] = Kubernetes(access(binding, binding.namespace))
        return self._clients[key]


def _binding(service: Service) -> KubernetesBinding:
    if not isinstance(service.platform, KubernetesBinding):
        raise TargetError(f"{service.name} does not run on Kubernetes")
    return service.platform


def _where(service: Service) -> str:
    binding = _binding(service)
    labels = ",".join(f"{name}={value}" for name, value in binding.selector.items())
    what = f" {binding.workload_name}" if binding.workload_name else f" of the pods {labels}"
    return f"Kubernetes, namespace {binding.namespace}: {binding.workload_kind}{what}"


async def _workload(client: Kubernetes, service: Service) -> Workload:
    """Return the workload of the service.

    Raises:
        TargetError: there is no workload, or the selected pods do not belong to exactly one Deployment.
    """
    binding = _binding(service)
    name = binding.workload_name or await _owner_of_pods(client, service, binding.selector)
    try:
        return await client.workload(binding.workload_kind.resource, name)
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
        named = " or ".join(each.lower() for each in WorkloadKind if each in other_kinds)
        hint = f"; set {named} in the inventory instead of selector" if named else ""
        raise TargetError(f"{_where(service)}: expected pods of one Deployment, found {found}{hint}")
    sets = [await client.workload("replicasets", name) for _, name in sorted(makers)]
    names = {owner.name if (owner := each.metadata.controller) else each.metadata.name for each in sets}
    if len(names) != 1:
        raise TargetError(f"{_where(service)}: the pods belong to several Deployments: {', '.join(sorted(names))}")
    return names.pop()


async def _look(client: Kubernetes, service: Service) -> Rollout:
    kind, workload = _binding(service).workload_kind, await _workload(client, service)
    recorded, pods = await asyncio.gather(
        revisions.revisions_of(client, kind, workload), client.pods(workload.spec.selector)
    )
    of_deployment = kind is WorkloadKind.DEPLOYMENT
    makers = {each.meta.uid for each in recorded} if of_deployment else {workload.metadata.uid}
    ours = (pod for pod in pods if (owner := pod.metadata.controller) is not None and owner.uid in makers)
    return Rollout(kind, workload, recorded, tuple(pod for pod in ours if pod.metadata.deletion_timestamp is None))


async def _if_unchanged(client: Kubernetes, service: Service, pin: Mapping[str, Any], change: Change) -> None:
    """Read the workload again and change it if it equals ``pin``.

    The order defends that only the planned object is changed. First, the UID and the generation are compared. Then the
    resource version is sent, and the API server compares it once more.

    Raises:
        TargetError: it is another object, or its specification was changed after planning.
    """

    async def once() -> None:
        seen = await _workload(client, service)
        if {"uid": seen.metadata.uid, "generation": seen.metadata.generation} != dict(pin):
            name = f"{_binding(service).workload_kind} {seen.metadata.name}"
            raise TargetError(f"{name} was modified after planning; nothing was changed")
        await change(seen)

    await repeat_on_conflict(once)


def _refuse_if_held(kind: WorkloadKind, seen: Workload) -> None:
    if seen.spec.paused:
        raise TargetError(f"the rollout of {kind} {seen.metadata.name} is paused; nothing was changed")
    if held := _staged(kind, seen):
        raise TargetError(f"{held}; nothing was changed")


async def _events(client: Kubernetes, look: Rollout, now: datetime) -> tuple[Event, ...]:
    """Return the events of pods that do not serve, of the workload, and of pods that are not created.

    The result is empty without the right to read events.
    """
    failing = [pod for pod in look.pods if not pod.ready or any(loops(each, now) for each in containers(pod))]
    asked = [(look.kind.value, look.name), *(("Pod", pod.metadata.name) for pod in failing[:_MOST_PODS])]
    current = look.current
    if look.kind is WorkloadKind.DEPLOYMENT and current is not None and len(look.newest) < look.wanted:
        asked.append(("ReplicaSet", current.name))
    try:
        found = await asyncio.gather(*(client.events(kind, name) for kind, name in asked))
    except KubernetesRefused:
        return ()
    return tuple(event for events in found for event in events)


def _failing(pod: Pod, now: datetime) -> list[ContainerStatus]:
    """Return the containers of a pod that fail."""
    names = {each.container for each in failures(pod, (), now)}
    return [each for each in containers(pod) if each.name in names]


def _with_logs(pod: Pod) -> list[ContainerStatus]:
    """Return the containers whose logs are relevant: an init container only until it has succeeded."""
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
    each: Revision, current: Revision | None, templates: Mapping[str, Mapping[str, Any]], by: str, *, redo: bool
) -> Release:
    """Return the release of a revision. ``by`` deployed the current one."""
    is_current = current is not None and each.name == current.name
    return Release(
        id=each.name,
        created_at=each.meta.creation_timestamp,
        current=is_current,
        facts={
            "revision": each.number,
            "images": [container.image for container in each.template.spec.containers],
            "change_cause": each.meta.annotations.get(revisions.CHANGE_CAUSE, ""),
            "redo": redo and not is_current,
        },
        identity=revisions.digest(templates[each.name]),
        name=revisions.title(each),
        deployed_by=by if is_current else "",
    )


def _since(current: Revision, look: Rollout, written_at: datetime | None) -> datetime | None:
    """Return when the current release was rolled out. An undo restores a revision that is older than its rollout.

    Args:
        current: the current revision.
        look: the workload with its pods. A pod that was replaced later is younger than the rollout.
        written_at: when the author of the template last wrote to the workload: at the rollout, or later.
    """
    known = [pod.metadata.creation_timestamp for pod in look.newest] + [written_at]
    born = current.meta.creation_timestamp
    rolled_out = min((each for each in known if each is not None), default=born)
    return rolled_out if born is None or rolled_out is None else max(born, rolled_out)


async def _hold(client: Kubernetes, look: Rollout) -> str:
    """Return why a rollout would not replace all pods: who paused it and when, or the update strategy; else empty."""
    if not look.workload.spec.paused:
        return _staged(look.kind, look.workload)
    name = look.name
    managers = await client.managers(look.kind.resource, name)
    by = next((each for each in reversed(managers) if each.manages("spec", "paused")), None)
    who = "" if by is None else f" by {by.manager}" + (f" at {rfc3339(by.time)[:19]}Z" if by.time else "")
    return (
        f"the rollout of Deployment {name} is paused{who}: its template may hold staged changes; "
        f"resume it with 'kubectl rollout resume deployment/{name}', or act by hand"
    )


def _staged(kind: WorkloadKind, workload: Workload) -> str:
    """Return why a rollout of a StatefulSet or DaemonSet leaves old pods; empty if it replaces all."""
    if kind is WorkloadKind.DEPLOYMENT:
        return ""
    strategy, what = workload.spec.update_strategy, f"{kind} {workload.metadata.name}"
    if strategy.type == "OnDelete":
        return f"{what} has the update strategy OnDelete: only a person, or pod.delete, replaces its pods"
    if strategy.rolling_update.partition:
        number = strategy.rolling_update.partition
        return f"a person stages the rollout of {what}: its partition {number} keeps the pods below that number"
    return ""
