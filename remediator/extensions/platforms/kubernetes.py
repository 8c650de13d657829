"""Manage a Deployment, by name or by the labels of its pods, in one namespace of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remediator.clients.kubernetes.client import Conflict, Kubernetes, KubernetesRefused, restarted_at
from remediator.clients.kubernetes.kubeconfig import KubernetesEndpoint, access
from remediator.clients.kubernetes.models import ContainerStatus, Pod, Workload
from remediator.clients.kubernetes.pods import containers, loops, pod_facts, stuck, troubles
from remediator.core.clock import Clock, SystemClock, rfc3339
from remediator.errors import ConfigurationError, TargetError
from remediator.extensions.platforms.base import Platform, Release, ServiceStatus, State
from remediator.playbooks.inventory import KubernetesBinding, Service

HASH = "pod-template-hash"
HISTORY = "deployment.kubernetes.io/revision-history"
"""Annotation of a ReplicaSet that came back by an undo: the revisions that it had before."""
UNDONE = "remediator.undone"
"""Annotation of a Deployment: the releases that were rolled back, each as the digest of its template. The controller
copies it to the ReplicaSets, where it is read too, because ``kubectl rollout undo`` replaces the Deployment's own."""
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
CHANGE_CAUSE = "kubernetes.io/change-cause"
_ARGO_CD = ("argocd.argoproj.io/instance", "argocd.argoproj.io/tracking-id")
_FLUX = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name")
_UNDONE_BY_GITOPS = ["service.rollback", "service.scale"]
_REMEMBERED = 50
_TRIES = 5
_MOST_PODS = 5
_MOST_EVENTS = 10

Change = Callable[[Workload], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class _Look:
    """A Deployment, its ReplicaSets and its pods, those of its newest rollout apart."""

    deployment: Workload
    sets: tuple[Workload, ...]
    pods: tuple[Pod, ...]

    @property
    def newest(self) -> tuple[Pod, ...]:
        """The pods of the rollout that is wanted now."""
        current = _current(self.deployment, self.sets)
        hash_ = None if current is None else current.metadata.labels.get(HASH)
        return tuple(pod for pod in self.pods if hash_ and pod.metadata.labels.get(HASH) == hash_)


class KubernetesPlatform(Platform):
    """Services that are Deployments."""

    kind = "kubernetes"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clients: dict[str, Kubernetes] = {}
        self._clock = clock or SystemClock()

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def status(self, service: Service) -> ServiceStatus:
        client = self._of(service)
        look = await _look(client, service)
        owner, events = await asyncio.gather(_owner(client, look.deployment), _events(client, look.pods))
        return _status(look, owner, events)

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        """The ends of all containers of at most five pods, those that are not ready first."""
        client = self._of(service)
        pods = sorted((await _look(client, service)).pods, key=lambda pod: (pod.ready, pod.metadata.name))
        wanted = [(pod, each) for pod in pods[:_MOST_PODS] for each in pod.status.container_statuses]
        texts = [await _logs(client, pod, each, lines, previous) for pod, each in wanted]
        return "\n".join(text for text in texts if text)

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"{_where(service)}: rollout restart (patch of the template's annotation {RESTARTED_AT})"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        """All pods are made anew in the order that the Deployment's strategy says; their own grace period holds."""
        client = self._of(service)
        patch = restarted_at(rfc3339(self._clock.now())[:19] + "Z")

        async def change(seen: Workload) -> None:
            name = seen.metadata.name
            await client.patch("deployments", name, patch, expected=seen.metadata.resource_version)

        await _if_unchanged(client, service, pin, change)

    def describe_scale(self, service: Service, replicas: int) -> str:
        return f"{_where(service)}: set the scale subresource to {replicas} replicas"

    async def scale(self, service: Service, pin: Mapping[str, Any], replicas: int) -> None:
        client = self._of(service)
        if replicas < 1:
            raise TargetError(f"{service.name} cannot be scaled below one pod")

        async def change(seen: Workload) -> None:
            name = seen.metadata.name
            for autoscaler in await _autoscalers(client, name):
                raise TargetError(
                    f"HorizontalPodAutoscaler {autoscaler} scales {name} and would undo this; ask it there"
                )
            await client.set_scale("deployments", name, replicas, expected=seen.metadata.resource_version)

        await _if_unchanged(client, service, pin, change)

    async def releases(self, service: Service) -> tuple[Release, ...]:
        """The Deployment's revisions that are still kept, the last used first. ``id`` is the ReplicaSet's name."""
        client = self._of(service)
        deployment = await _deployment(client, service)
        sets = await _sets(client, deployment)
        current = _current(deployment, sets)
        templates = {each.metadata.name: await _template(client, each) for each in sets}
        bad = _bad(deployment, sets, templates)
        return tuple(_release(each, current, templates, redo=each.metadata.name in bad) for each in sets)

    def describe_rollback(self, service: Service, to: str) -> str:
        return f"{_where(service)}: rollout undo to the revision that ReplicaSet {to} keeps (replace the template)"

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        client = self._of(service)

        async def change(seen: Workload) -> None:
            sets = await _sets(client, seen)
            recorded = _recorded(service, seen, sets, to)
            template = await _template(client, recorded)
            left = await client.template("deployments", seen.metadata.name)
            await client.replace_template(
                "deployments",
                seen.metadata.name,
                template,
                expected=seen.metadata.resource_version,
                annotations=_with_undone(seen, sets, _digest(left), _digest(template)),
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
        raise TargetError(f"the cluster cannot be asked: {error}") from None


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
    """Exactly the Deployment that is meant.

    Raises:
        TargetError: there is none, or the pods of the selector belong to several, or to something else.
    """
    binding = _binding(service)
    name = binding.deployment or await _owner_of_pods(client, service, binding.selector)
    try:
        return await client.workload("deployments", name)
    except KubernetesRefused as error:
        if error.reason != "NotFound":
            raise
        raise TargetError(f"{_where(service)}: there is none; correct the inventory, or create it") from None


async def _owner_of_pods(client: Kubernetes, service: Service, selector: Mapping[str, str]) -> str:
    pods = await client.pods(selector)
    makers = {(owner.kind, owner.name) if (owner := pod.metadata.controller) else ("Pod", "alone") for pod in pods}
    strangers = sorted(kind for kind, _ in makers if kind != "ReplicaSet")
    if not pods or strangers:
        found = f"pods of {', '.join(strangers)}" if strangers else "no pod"
        raise TargetError(f"{_where(service)}: {found} found, where pods of one Deployment were expected")
    sets = [await client.workload("replicasets", name) for _, name in sorted(makers)]
    names = {owner.name if (owner := each.metadata.controller) else each.metadata.name for each in sets}
    if len(names) != 1:
        raise TargetError(f"{_where(service)}: they belong to several: {', '.join(sorted(names))}")
    return names.pop()


async def _look(client: Kubernetes, service: Service) -> _Look:
    deployment = await _deployment(client, service)
    sets, pods = await asyncio.gather(_sets(client, deployment), client.pods(deployment.spec.selector))
    mine = {each.metadata.uid for each in sets}
    ours = (pod for pod in pods if (owner := pod.metadata.controller) is not None and owner.uid in mine)
    return _Look(deployment, sets, tuple(pod for pod in ours if pod.metadata.deletion_timestamp is None))


async def _sets(client: Kubernetes, deployment: Workload) -> tuple[Workload, ...]:
    """The ReplicaSets of a Deployment, the last used first."""
    found = await client.workloads("replicasets", deployment.spec.selector)
    mine = [each for each in found if (owner := each.metadata.controller) and owner.uid == deployment.metadata.uid]
    return tuple(sorted(mine, key=lambda each: -(each.revision or 0)))


def _current(deployment: Workload, sets: Sequence[Workload]) -> Workload | None:
    return next((each for each in sets if each.revision == deployment.revision), None)


async def _if_unchanged(client: Kubernetes, service: Service, pin: Mapping[str, Any], change: Change) -> None:
    """Read it again, and change it if it still is what was planned against; the API server compares once more.

    Its version moves with every change of its status too, which in a crash loop is all the time: such a conflict did
    nothing, so it is read and compared again, a few times.

    Raises:
        TargetError: it is another object, or somebody wants something else of it by now.
    """
    for left in reversed(range(_TRIES)):
        seen = await _deployment(client, service)
        if {"uid": seen.metadata.uid, "generation": seen.metadata.generation} != dict(pin):
            name = seen.metadata.name
            raise TargetError(f"Deployment {name} was changed since the plan was made: somebody was faster")
        try:
            await change(seen)
            return
        except Conflict:
            if not left:
                raise


async def _autoscalers(client: Kubernetes, deployment: str) -> list[str]:
    found = await client.autoscalers()
    targets = [(each.metadata.name, each.spec.scale_target_ref) for each in found]
    return [name for name, target in targets if (target.kind, target.name) == ("Deployment", deployment)]


async def _owner(client: Kubernetes, deployment: Workload) -> dict[str, Any] | str | None:
    """Who else keeps it as it is, and which of our actions that would put back; a sentence if it cannot be told."""
    marks = {**deployment.metadata.labels, **deployment.metadata.annotations}
    for kind, names in (("argocd", _ARGO_CD), ("flux", _FLUX)):
        for name in names:
            if name in marks:
                return {"kind": kind, "name": marks[name].split(":")[0], "undoes": _UNDONE_BY_GITOPS}
    try:
        autoscalers = await _autoscalers(client, deployment.metadata.name)
    except KubernetesRefused as error:
        return f"whether an autoscaler has it cannot be told: {error}"
    return {"kind": "hpa", "name": autoscalers[0], "undoes": ["service.scale"]} if autoscalers else None


async def _events(client: Kubernetes, pods: Sequence[Pod]) -> list[str]:
    """What was noted about pods that are not ready; evidence, so nothing if it may not be read."""
    troubled = [pod for pod in pods if not pod.ready][:_MOST_PODS]
    try:
        found = [event for pod in troubled for event in await client.events("Pod", pod.metadata.name)]
    except KubernetesRefused:
        return []
    return [f"{each.reason}: {each.message}"[:300] for each in found if each.type == "Warning"][-_MOST_EVENTS:]


async def _logs(client: Kubernetes, pod: Pod, container: ContainerStatus, lines: int, previous: bool) -> str:
    try:
        text = await client.logs(pod.metadata.name, container.name, lines, previous=previous)
    except KubernetesRefused as error:
        if error.status != 400:  # it has not started yet, or there was none before it
            raise
        return ""
    return f"[{pod.metadata.name}/{container.name}]\n{text}"


async def _template(client: Kubernetes, replica_set: Workload) -> dict[str, Any]:
    """The template that a ReplicaSet keeps, without what its Deployment added."""
    template = dict(await client.template("replicasets", replica_set.metadata.name))
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH}
    return {**template, "metadata": metadata}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two templates differ in nothing but when they were restarted."""
    return _bare(one) == _bare(other)


def _bare(template: Mapping[str, Any]) -> dict[str, Any]:
    metadata = template.get("metadata") or {}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != RESTARTED_AT}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    return {**template, "metadata": {"labels": labels, "annotations": annotations}}


def _digest(template: Mapping[str, Any]) -> str:
    """Return the same 32 characters for two templates that are the `_same`."""
    return hashlib.sha256(json.dumps(_bare(template), sort_keys=True).encode()).hexdigest()[:32]


def _undone(deployment: Workload, sets: Sequence[Workload]) -> list[str]:
    """Return the digests of the releases that were rolled back, the oldest first."""
    found = [each.metadata.annotations.get(UNDONE, "") for each in (*reversed(sets), deployment)]
    return list(dict.fromkeys(digest for text in found for digest in text.split(",") if digest))


def _with_undone(deployment: Workload, sets: Sequence[Workload], left: str, to: str) -> dict[str, str]:
    """Return the Deployment's annotations with the release that is left remembered as rolled back.

    Going to a release that was itself rolled back tells nothing bad of the one that is left.
    """
    undone = _undone(deployment, sets)
    if to not in undone:
        undone = [*(each for each in undone if each != left), left]
    return {**deployment.metadata.annotations, UNDONE: ",".join(undone[-_REMEMBERED:])}


def _bad(deployment: Workload, sets: Sequence[Workload], templates: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the names of the ReplicaSets that a rollback must not choose.

    Our own rollbacks are on record. What a person undid shows only in the history of the ReplicaSet that came back: it
    has its earlier revisions there, and Kubernetes gave it a new, higher revision. Each revision between those was left
    by going back. A ReplicaSet that is on record as bad tells nothing in this way: it came back by a new deployment.
    """
    undone = set(_undone(deployment, sets))
    recorded = {name for name, template in templates.items() if _digest(template) in undone}
    trusted = [each for each in sets if each.metadata.name not in recorded]
    passed = {each.metadata.name for each in sets for other in trusted if _went_back(each, other)}
    return frozenset(recorded | passed)


def _went_back(each: Workload, other: Workload) -> bool:
    """Return whether ``other`` was in use before ``each`` and came back after it."""
    before = [int(text) for text in other.metadata.annotations.get(HISTORY, "").split(",") if text.isdigit()]
    return bool(before) and min(before) < (each.revision or 0) < (other.revision or 0)


def _release(
    each: Workload, current: Workload | None, templates: Mapping[str, Mapping[str, Any]], *, redo: bool
) -> Release:
    name = each.metadata.name
    is_current = current is not None and name == current.metadata.name
    same = current is not None and not is_current and _same(templates[name], templates[current.metadata.name])
    return Release(
        id=name,
        created_at=each.metadata.creation_timestamp,
        current=is_current,
        facts={
            "revision": each.revision,
            "images": [container.image for container in each.spec.template.spec.containers],
            "change_cause": each.metadata.annotations.get(CHANGE_CAUSE, ""),
            "same": same,
            "redo": redo and not is_current,
        },
    )


def _recorded(service: Service, deployment: Workload, sets: Sequence[Workload], to: str) -> Workload:
    """The ReplicaSet of that name.

    Raises:
        TargetError: it is not kept, or is what is wanted already.
    """
    found = next((each for each in sets if each.metadata.name == to), None)
    if found is None:
        raise TargetError(f"{_where(service)}: no recorded revision {to!r}; there are: {', '.join(_names(sets))}")
    current = _current(deployment, sets)
    if current is not None and found.metadata.uid == current.metadata.uid:
        raise TargetError(f"{service.name} is at {to} already")
    return found


def _names(sets: Sequence[Workload]) -> list[str]:
    return [each.metadata.name for each in sets] or ["none"]


def _status(look: _Look, owner: Any, events: Sequence[str]) -> ServiceStatus:
    deployment, wanted = look.deployment, look.deployment.spec.replicas
    ready = sum(pod.ready for pod in look.pods)
    state = _state(look, ready)
    told = [text for pod in look.pods for text in troubles(pod)]
    started = [pod.status.start_time for pod in look.pods if pod.status.start_time is not None]
    rollout = "" if deployment.observed else ", the last change not yet acted upon"
    summary = f"{deployment.metadata.name}: {ready} of {wanted} pods ready{rollout}"
    return ServiceStatus(
        state=state,
        summary="; ".join([summary, *told[:3]]),
        instances=wanted,
        healthy=ready,
        pin={"uid": deployment.metadata.uid, "generation": deployment.metadata.generation},
        started_at=max(started, default=None),
        facts={
            "replicas": wanted,
            "revision": deployment.revision,
            "observed": deployment.observed,
            "pods": [pod_facts(pod) for pod in look.pods[:20]],
            "conditions": {each.type: f"{each.status} {each.reason}".strip() for each in deployment.status.conditions},
            "events": list(events),
            "owner": owner,
        },
    )


def _state(look: _Look, ready: int) -> State:
    deployment = look.deployment
    wanted = deployment.spec.replicas
    if not deployment.observed:
        return State.STARTING
    if wanted == 0:
        return State.STOPPED
    if any(loops(each) for pod in look.newest for each in containers(pod)):
        return State.CRASH_LOOP
    status = deployment.status
    if status.updated_replicas < wanted or status.replicas > wanted:
        return State.STARTING if _progresses(deployment) else State.MIXED
    if status.available_replicas >= wanted and ready >= wanted:
        return State.RUNNING
    if not _progresses(deployment) or any(stuck(each) for pod in look.newest for each in containers(pod)):
        return State.MIXED if ready else State.EXITED
    return State.STARTING


def _progresses(deployment: Workload) -> bool:
    progressing = deployment.condition("Progressing")
    return progressing is None or progressing.status != "False"
