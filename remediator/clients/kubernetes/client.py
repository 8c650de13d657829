"""Kubernetes API client: pods and their failures, rollouts and revisions, and changes with a version check.

It has no exec, attach or port forwarding. It deletes nothing but single pods, and creates nothing but Events. `Jobs`
and `Nodes` add to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from remediator.clients.http import Answer, HttpClient, HttpRefused, decoded
from remediator.clients.kubernetes.conflicts import Conflict
from remediator.clients.kubernetes.events import ObjectEvent, ObjectReference, event_document
from remediator.clients.kubernetes.kubeconfig import Access
from remediator.clients.kubernetes.models import (
    Autoscaler,
    ControllerRevision,
    DisruptionBudget,
    Document,
    Event,
    FieldManager,
    ListMeta,
    Pod,
    Scale,
    Selector,
    Workload,
    selector_text,
)
from remediator.core import untrusted_json
from remediator.core.sizes import MEBIBYTE
from remediator.errors import BadAnswer, ClientError, InputError, Refused, TimedOut

Kind = str
"""A resource of ``apps/v1``: deployments, statefulsets, daemonsets, replicasets or controllerrevisions."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_PATCHES: Mapping[str, str] = {
    "strategic": "application/strategic-merge-patch+json",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
}
_PAGE = 500
_MOST_PAGES = 20
_MAX_LOGS = 4 * MEBIBYTE

T = TypeVar("T")


class KubernetesRefused(Refused):
    """The API server rejected the call. ``reason`` is its reason: Forbidden, NotFound, Invalid, TooManyRequests, …"""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class _Cause(msgspec.Struct):
    message: str = ""


class _Details(msgspec.Struct):
    causes: tuple[_Cause, ...] = ()


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""
    details: _Details | None = None


class _Version(msgspec.Struct, rename="camel"):
    git_version: str


class _ManagedMeta(msgspec.Struct, rename="camel"):
    managed_fields: tuple[FieldManager, ...] = ()


class _Managed(msgspec.Struct):
    metadata: _ManagedMeta


class _Resource(msgspec.Struct):
    name: str
    group: str = ""
    version: str = ""


class _Resources(msgspec.Struct):
    resources: tuple[_Resource, ...] = ()


class _Page(msgspec.Struct):
    items: list[msgspec.Raw] | None = None
    metadata: ListMeta = ListMeta()


class Kubernetes:
    """A client of one namespace of a cluster. Raises what `HttpClient.call` raises, and `KubernetesRefused`.

    Methods that change something take ``expected``, the ``resource_version`` of the plan. The API server compares it:
    if the object was changed since, they raise `TargetError` and change nothing.
    """

    def __init__(self, access: Access) -> None:
        self.url = access.endpoint.url
        self.namespace = _checked(access.namespace)
        self._access = access
        self._eviction = ""
        self._http = HttpClient(
            access.endpoint, max_bytes=64 * MEBIBYTE, context=access.context, credentials=access.credentials
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def version(self) -> str:
        """Return the version of the cluster, for example ``v1.31.2``."""
        return (await self._call("GET", "/version")).json(_Version).git_version

    async def pods(self, selector: Selector | Mapping[str, str]) -> tuple[Pod, ...]:
        """Return the pods with these labels.

        Raises:
            InputError: the selector is empty.
        """
        return await self._list("/api/v1", "pods", Pod, {"labelSelector": selector_text(selector)})

    async def pod(self, name: str) -> Pod:
        """Return one pod."""
        return (await self._call("GET", self._path("/api/v1", "pods", name))).json(Pod)

    async def logs(
        self,
        pod: str,
        container: str,
        lines: int = 100,
        *,
        previous: bool = False,
        timestamps: bool = False,
        max_bytes: int = _MAX_LOGS,
    ) -> str:
        """Return the last lines of a container that fit ``max_bytes``.

        Args:
            pod: name of the pod.
            container: name of the container.
            lines: maximum number of lines.
            previous: the lines before the last restart of the container.
            timestamps: begin each line with its time (RFC 3339).
            max_bytes: maximum size of the answer.
        """
        path = self._path("/api/v1", "pods", pod) + "/log"
        while True:
            parameters = {
                "container": _checked(container),
                "tailLines": lines,
                "previous": str(previous).lower(),
                "timestamps": str(timestamps).lower(),
            }
            answer = await self._call("GET", path, params=parameters, max_bytes=max_bytes, cut=True)
            if not answer.cut or lines <= 1:
                return answer.body.decode("utf-8", "replace")
            lines = max(lines // 4, 1)

    async def events(self, kind: str, name: str) -> tuple[Event, ...]:
        """Return the events of one object (kind Pod, Deployment, …), oldest first. They expire after about an hour."""
        fields = f"involvedObject.kind={kind},involvedObject.name={_checked(name)}"
        found = await self._list("/api/v1", "events", Event, {"fieldSelector": fields})
        return tuple(sorted(found, key=lambda event: event.at.timestamp() if event.at else 0))

    async def workloads(self, kind: Kind, selector: Selector | Mapping[str, str]) -> tuple[Workload, ...]:
        """Return the Deployments, StatefulSets, DaemonSets or ReplicaSets with these labels."""
        return await self._list("/apis/apps/v1", kind, Workload, {"labelSelector": selector_text(selector)})

    async def controller_revisions(self, selector: Selector | Mapping[str, str]) -> tuple[ControllerRevision, ...]:
        """Return the recorded templates of StatefulSets and DaemonSets with these labels."""
        query = {"labelSelector": selector_text(selector)}
        return await self._list("/apis/apps/v1", "controllerrevisions", ControllerRevision, query)

    async def workloads_of_all_namespaces(self, kind: Kind) -> tuple[Workload, ...]:
        """Return the Deployments, StatefulSets or DaemonSets of every namespace. This needs a ClusterRole."""
        return await self._list_at(f"/apis/apps/v1/{kind}", Workload, {})

    async def workload(self, kind: Kind, name: str) -> Workload:
        """Return one Deployment, StatefulSet, DaemonSet or ReplicaSet."""
        return (await self._call("GET", self._path("/apis/apps/v1", kind, name))).json(Workload)

    async def template(self, kind: Kind, name: str) -> Document:
        """Return the pod template, secrets included. Use it only for `replace_template`."""
        document = (await self._call("GET", self._path("/apis/apps/v1", kind, name))).json(dict[str, Any])
        try:
            template = document.get("data", document)["spec"]["template"]  # data: of a ControllerRevision
        except (KeyError, TypeError):
            raise BadAnswer(f"{self.url}: {kind} {name} has no pod template") from None
        if not isinstance(template, dict):
            raise BadAnswer(f"{self.url}: the pod template of {kind} {name} is not an object")
        # this annotation is an instruction of the controller
        return {key: value for key, value in template.items() if key != "$patch"}

    async def managers(self, kind: Kind, name: str) -> tuple[FieldManager, ...]:
        """Return the programs that manage the fields of an object, ordered by their latest change."""
        found = (await self._call("GET", self._path("/apis/apps/v1", kind, name))).json(_Managed)
        return tuple(sorted(found.metadata.managed_fields, key=lambda each: each.time.timestamp() if each.time else 0))

    async def patch(self, kind: Kind, name: str, patch: Document, *, expected: str | None = None) -> Workload:
        """Change some fields by a strategic merge patch. Return the object after the change."""
        if expected is not None:
            patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": expected}}
        path = self._path("/apis/apps/v1", kind, name)
        return (await self._patch(path, patch, "strategic")).json(Workload)

    async def replace_template(
        self,
        kind: Kind,
        name: str,
        template: Document,
        *,
        expected: str,
        annotations: Mapping[str, str] | None = None,
    ) -> Workload:
        """Replace the whole pod template, as ``kubectl rollout undo`` does.

        Args:
            annotations: all annotations of the object after the change; None keeps the current ones.
        """
        operations: list[Document] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": expected},
            {"op": "replace", "path": "/spec/template", "value": template},
        ]
        if annotations is not None:
            operations.append({"op": "add", "path": "/metadata/annotations", "value": dict(annotations)})
        path = self._path("/apis/apps/v1", kind, name)
        try:
            return (await self._patch(path, operations, "json")).json(Workload)
        except KubernetesRefused as error:
            if error.status == 422 and "test" in str(error):
                raise _changed(path) from None
            raise

    async def custom(self, resource: str, name: str) -> Document:
        """Return a custom resource object, for example of ``argoproj.io/v1alpha1/applications``."""
        return (await self._call("GET", self._path(*_custom(resource), name))).json(dict[str, Any])

    async def patch_custom(self, resource: str, name: str, patch: Document, *, expected: str) -> None:
        """Change some fields of a custom resource object by a merge patch. Fields with null are removed."""
        versioned = {**patch, "metadata": {"resourceVersion": expected}}
        await self._patch(self._path(*_custom(resource), name), versioned, "merge")

    async def scale(self, kind: Kind, name: str) -> Scale:
        """Return the desired and current number of replicas."""
        return (await self._call("GET", self._path("/apis/apps/v1", kind, name) + "/scale")).json(Scale)

    async def set_scale(self, kind: Kind, name: str, replicas: int, *, expected: str | None = None) -> Scale:
        """Set the number of replicas with the scale subresource, which needs no other permission."""
        if replicas < 0:
            raise InputError(f"replicas must be 0 or more, not {replicas}")
        patch: dict[str, Any] = {"spec": {"replicas": replicas}}
        if expected is not None:
            patch["metadata"] = {"resourceVersion": expected}
        path = self._path("/apis/apps/v1", kind, name) + "/scale"
        return (await self._patch(path, patch, "merge")).json(Scale)

    async def autoscalers(self) -> tuple[Autoscaler, ...]:
        """Return the HorizontalPodAutoscalers of the namespace. Workloads that they scale must not be scaled here."""
        return await self._list("/apis/autoscaling/v1", "horizontalpodautoscalers", Autoscaler, {})

    async def write_event(self, about: ObjectReference, event: ObjectEvent) -> None:
        """Create an Event on an object. An Event that exists already is kept."""
        document = event_document(about, event)
        try:
            await self._call("POST", f"/api/v1/namespaces/{document['metadata']['namespace']}/events", json=document)
        except KubernetesRefused as error:
            if error.reason != "AlreadyExists":
                raise

    async def disruption_budgets(self) -> tuple[DisruptionBudget, ...]:
        """Return the PodDisruptionBudgets of the namespace."""
        return await self._list(f"/apis/{await self._eviction_version()}", "poddisruptionbudgets", DisruptionBudget, {})

    async def delete_pod(self, name: str, uid: str) -> None:
        """Delete a pod with its own grace period, never by force. PodDisruptionBudgets do not apply.

        Raises:
            Conflict: another pod has this name now.
        """
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        await self._change("DELETE", self._path("/api/v1", "pods", name), json=body)

    async def evict_pod(self, name: str, uid: str, namespace: str = "") -> None:
        """Evict a pod, if the PodDisruptionBudgets allow it.

        Args:
            name: name of the pod.
            uid: its UID.
            namespace: its namespace; default: the namespace of the client.

        Raises:
            Conflict: another pod has this name now.
            KubernetesRefused: a PodDisruptionBudget forbids the eviction (status 429).
        """
        body = {
            "apiVersion": await self._eviction_version(),
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace or self.namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        await self._change("POST", self._path("/api/v1", "pods", name, namespace) + "/eviction", json=body)

    async def _eviction_version(self) -> str:
        """Return the version of evictions and their budgets: ``policy/v1beta1`` before Kubernetes 1.22."""
        if not self._eviction:
            found = (await self._call("GET", "/api/v1")).json(_Resources).resources
            versions = [f"{each.group}/{each.version}" for each in found if each.name == "pods/eviction"]
            if not versions:
                raise BadAnswer(f"{self.url}: the API server knows no evictions of pods")
            self._eviction = versions[0]
        return self._eviction

    async def may(self, verb: str, group: str, resource: str, name: str = "", subresource: str = "") -> bool:
        """Ask the API server whether we have this permission. Changes nothing."""
        wanted = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": self.namespace, **wanted}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._call("POST", path, json=body, reads=True)
        return answer.json(_Review).status.allowed

    async def _list(self, group: str, resource: str, type_: type[T], parameters: Mapping[str, str]) -> tuple[T, ...]:
        return await self._list_at(self._path(group, resource), type_, parameters)

    async def _list_at(self, path: str, type_: type[T], parameters: Mapping[str, str]) -> tuple[T, ...]:
        items: list[T] = []
        more = ""
        for _ in range(_MOST_PAGES):
            query = {**parameters, "limit": _PAGE, **({"continue": more} if more else {})}
            answer = await self._call("GET", path, params=query)
            page = answer.json(_Page)
            items += [decoded(item, type_, f"{answer.call}: unexpected answer") for item in page.items or ()]
            more = page.metadata.continue_
            if not more:
                return tuple(items)
        raise BadAnswer(f"{self.url}: more than {_PAGE * _MOST_PAGES} objects at {path}")

    async def _patch(self, path: str, patch: Document | Sequence[Document], how: str) -> Answer:
        parameters = {"fieldManager": "remediator"}
        headers = {"Content-Type": _PATCHES[how]}
        return await self._change("PATCH", path, params=parameters, json=patch, headers=headers)

    async def _change(self, method: str, path: str, **request: Any) -> Answer:
        try:
            return await self._call(method, path, **request)
        except KubernetesRefused as error:
            if error.status == 409:
                raise _changed(path) from None
            raise

    def _path(self, group: str, resource: str, name: str | None = None, namespace: str = "") -> str:
        path = f"{group}/namespaces/{namespace or self.namespace}/{resource}"
        return path if name is None else f"{path}/{_checked(name)}"

    async def _call(self, method: str, path: str, **request: Any) -> Answer:
        if self._access.log_in is not None:
            await self._access.log_in()
        try:
            return await self._http.call(method, path, **request)
        except HttpRefused as error:
            if error.status == 401 and self._access.rejected is not None:
                self._access.rejected()  # the next call logs in again; this call is not repeated
            raise _refused(error, f"{method} {path}", method == "GET" or bool(request.get("reads"))) from None


class _ReviewStatus(msgspec.Struct):
    allowed: bool


class _Review(msgspec.Struct):
    status: _ReviewStatus


def restarted_at(instant: str) -> Document:
    """Return the patch of ``kubectl rollout restart``: a template annotation, so that all pods are recreated."""
    return {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": instant}}}}}


def _refused(error: HttpRefused, call: str, reads: bool) -> ClientError:
    """Return the error of a rejected call. After a 5xx to a change, the outcome is unknown: etcd may have timed out."""
    try:
        status = untrusted_json.decode(error.text, _Status)
    except msgspec.DecodeError:
        status = _Status("", error.text[:300])
    message = f"Kubernetes: {call}: {error.status} {status.reason}: {status.message}"
    if error.status == 429 and status.details is not None:  # the message names the PodDisruptionBudget
        message = " ".join((message, *(each.message for each in status.details.causes)))
    if error.status >= 500 and not reads:
        return TimedOut(f"{message}; the outcome is unknown")
    return KubernetesRefused(message, error.status, status.reason)


def _changed(path: str) -> Conflict:
    return Conflict(f"{path} was changed after planning; nothing was changed")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise InputError(f"{name!r} is not a valid Kubernetes name")
    return name


def _custom(resource: str) -> tuple[str, str]:
    group, _, plural = resource.rpartition("/")
    return f"/apis/{group}", plural
