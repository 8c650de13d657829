"""Kubernetes' API: pods and why they crash, rollouts and their revisions, patches that compare before they change.

There is no exec, no attach, no port forwarding, no creation and no deletion in here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from remediator.clients.http import MEBIBYTE, Answer, HttpClient, HttpRefused
from remediator.clients.kubernetes.kubeconfig import Access
from remediator.clients.kubernetes.models import (
    Autoscaler,
    Document,
    Event,
    ListMeta,
    Pod,
    Scale,
    Selector,
    Workload,
    selector_text,
)
from remediator.errors import BadAnswer, ClientError, InputError, Refused, TargetError, TimedOut

Kind = Literal["deployments", "statefulsets", "replicasets"]
PatchKind = Literal["strategic", "merge"]

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
    """The API server said no. ``reason`` is its own word: Forbidden, NotFound, Invalid, TooManyRequests, …"""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Moved(TargetError):
    """The object has another version by now than the one that was to be changed; nothing was done."""


class _Status(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Version(msgspec.Struct, rename="camel"):
    git_version: str


class _Page(msgspec.Struct):
    items: list[msgspec.Raw] | None = None
    metadata: ListMeta = ListMeta()


class Kubernetes:
    """One cluster, one namespace. Raises what `HttpClient.call` raises, and `KubernetesRefused` for refusals.

    Methods that change something take ``expected``, the ``resource_version`` that was planned against: the API server
    itself compares, and if the object was changed by anybody since, nothing happens and `TargetError` is raised.
    With ``dry_run`` it does all but keep the change.
    """

    def __init__(self, access: Access) -> None:
        self.url = access.endpoint.url
        self.namespace = _checked(access.namespace)
        self._http = HttpClient(
            access.endpoint, max_bytes=64 * MEBIBYTE, context=access.context, credentials=access.credentials
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def version(self) -> str:
        """Such as ``v1.31.2``."""
        return (await self._call("GET", "/version")).json(_Version).git_version

    async def pods(self, selector: Selector | Mapping[str, str]) -> tuple[Pod, ...]:
        """The pods with these labels.

        Raises:
            InputError: the selector is empty.
        """
        return await self._list("/api/v1", "pods", Pod, {"labelSelector": selector_text(selector)})

    async def pod(self, name: str) -> Pod:
        """One pod."""
        return (await self._call("GET", self._path("/api/v1", "pods", name))).json(Pod)

    async def logs(
        self, pod: str, container: str, lines: int = 100, *, previous: bool = False, max_bytes: int = _MAX_LOGS
    ) -> str:
        """The last lines of a container, as many of them as fit; of the one before the last restart if ``previous``."""
        path = self._path("/api/v1", "pods", pod) + "/log"
        while True:
            parameters = {"container": _checked(container), "tailLines": lines, "previous": str(previous).lower()}
            answer = await self._call("GET", path, params=parameters, max_bytes=max_bytes, cut=True)
            if not answer.cut or lines <= 1:
                return answer.body.decode("utf-8", "replace")
            lines = max(lines // 4, 1)

    async def events(self, kind: str, name: str) -> tuple[Event, ...]:
        """What was noted about one object (such as Pod, Deployment) in the last hour, oldest first."""
        fields = f"involvedObject.kind={kind},involvedObject.name={_checked(name)}"
        found = await self._list("/api/v1", "events", Event, {"fieldSelector": fields})
        return tuple(sorted(found, key=lambda event: event.at.timestamp() if event.at else 0))

    async def workloads(self, kind: Kind, selector: Selector | Mapping[str, str]) -> tuple[Workload, ...]:
        """The Deployments, StatefulSets or ReplicaSets with these labels."""
        return await self._list("/apis/apps/v1", kind, Workload, {"labelSelector": selector_text(selector)})

    async def workload(self, kind: Kind, name: str) -> Workload:
        """One of them."""
        return (await self._call("GET", self._path("/apis/apps/v1", kind, name))).json(Workload)

    async def template(self, kind: Kind, name: str) -> Document:
        """The pods that it makes, as the server describes them, with their secrets: for `replace_template` only."""
        document = (await self._call("GET", self._path("/apis/apps/v1", kind, name))).json(dict[str, Any])
        try:
            template = document["spec"]["template"]
        except (KeyError, TypeError):
            raise BadAnswer(f"{self.url}: {kind} {name} has no template") from None
        if not isinstance(template, dict):
            raise BadAnswer(f"{self.url}: the template of {kind} {name} is none")
        return template

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Document,
        *,
        how: PatchKind = "strategic",
        expected: str | None = None,
        dry_run: bool = False,
    ) -> Workload:
        """Change some fields; what it is after that."""
        if expected is not None:
            patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": expected}}
        path = self._path("/apis/apps/v1", kind, name)
        return (await self._patch(path, patch, how, dry_run)).json(Workload)

    async def replace_template(
        self,
        kind: Kind,
        name: str,
        template: Document,
        *,
        expected: str,
        annotations: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Workload:
        """Replace the whole pod template, as ``kubectl rollout undo`` does.

        Args:
            annotations: all annotations that the object has after that, in the same change; None leaves them.
        """
        operations: list[Document] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": expected},
            {"op": "replace", "path": "/spec/template", "value": template},
        ]
        if annotations is not None:
            operations.append({"op": "add", "path": "/metadata/annotations", "value": dict(annotations)})
        path = self._path("/apis/apps/v1", kind, name)
        try:
            return (await self._patch(path, operations, "json", dry_run)).json(Workload)
        except KubernetesRefused as error:
            if error.status == 422 and "test" in str(error):
                raise _changed(path) from None
            raise

    async def custom(self, resource: str, name: str) -> Document:
        """An object of a custom resource, such as ``argoproj.io/v1alpha1/applications``, whole."""
        return (await self._call("GET", self._path(*_custom(resource), name))).json(dict[str, Any])

    async def patch_custom(self, resource: str, name: str, patch: Document, *, expected: str) -> None:
        """Change some fields of it, by a merge patch: what is null there is taken away."""
        versioned = {**patch, "metadata": {"resourceVersion": expected}}
        await self._patch(self._path(*_custom(resource), name), versioned, "merge", False)

    async def scale(self, kind: Kind, name: str) -> Scale:
        """How many replicas are wanted and there."""
        return (await self._call("GET", self._path("/apis/apps/v1", kind, name) + "/scale")).json(Scale)

    async def set_scale(
        self, kind: Kind, name: str, replicas: int, *, expected: str | None = None, dry_run: bool = False
    ) -> Scale:
        """Want so many replicas, by the scale subresource, which needs no right to change anything else."""
        if replicas < 0:
            raise InputError("there cannot be fewer than 0 replicas")
        patch: dict[str, Any] = {"spec": {"replicas": replicas}}
        if expected is not None:
            patch["metadata"] = {"resourceVersion": expected}
        path = self._path("/apis/apps/v1", kind, name) + "/scale"
        return (await self._patch(path, patch, "merge", dry_run)).json(Scale)

    async def autoscalers(self) -> tuple[Autoscaler, ...]:
        """The HorizontalPodAutoscalers of the namespace: who scales what is not ours to scale."""
        return await self._list("/apis/autoscaling/v1", "horizontalpodautoscalers", Autoscaler, {})

    async def may(self, verb: str, group: str, resource: str, name: str = "", subresource: str = "") -> bool:
        """Whether we would be allowed to, by the API server's own word. Changes nothing."""
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
        items: list[T] = []
        more = ""
        for _ in range(_MOST_PAGES):
            query = {**parameters, "limit": _PAGE, **({"continue": more} if more else {})}
            answer = await self._call("GET", self._path(group, resource), params=query)
            page = answer.json(_Page)
            items += [_decode(item, type_, answer.call) for item in page.items or ()]
            more = page.metadata.continue_
            if not more:
                return tuple(items)
        raise BadAnswer(f"{self.url}: more than {_PAGE * _MOST_PAGES} {resource}")

    async def _patch(self, path: str, patch: Document | Sequence[Document], how: str, dry_run: bool) -> Answer:
        parameters = {"fieldManager": "remediator", **({"dryRun": "All"} if dry_run else {})}
        headers = {"Content-Type": _PATCHES[how]}
        try:
            return await self._call("PATCH", path, params=parameters, json=patch, headers=headers)
        except KubernetesRefused as error:
            if error.status == 409:
                raise _changed(path) from None
            raise

    def _path(self, group: str, resource: str, name: str | None = None) -> str:
        path = f"{group}/namespaces/{self.namespace}/{resource}"
        return path if name is None else f"{path}/{_checked(name)}"

    async def _call(self, method: str, path: str, **request: Any) -> Answer:
        try:
            return await self._http.call(method, path, **request)
        except HttpRefused as error:
            raise _explained(error, f"{method} {path}", method == "GET" or bool(request.get("reads"))) from None


class _ReviewStatus(msgspec.Struct):
    allowed: bool


class _Review(msgspec.Struct):
    status: _ReviewStatus


def restarted_at(instant: str) -> Document:
    """The patch of ``kubectl rollout restart``: an annotation of the template, so that all pods are made anew."""
    return {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": instant}}}}}


def _explained(error: HttpRefused, call: str, reads: bool) -> ClientError:
    """What the API server said. A 5xx after a change leaves open whether it was kept (etcd may have timed out)."""
    try:
        status = msgspec.json.decode(error.text, type=_Status)
    except msgspec.DecodeError:
        status = _Status("", error.text[:300])
    message = f"Kubernetes: {call}: {error.status} {status.reason}: {status.message}"
    if error.status >= 500 and not reads:
        return TimedOut(f"{message}; whether it was done is unknown")
    return KubernetesRefused(message, error.status, status.reason)


def _changed(path: str) -> Moved:
    return Moved(f"{path} was changed by somebody else since the plan was made; nothing was done")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise InputError(f"{name!r} is not a name in Kubernetes")
    return name


def _custom(resource: str) -> tuple[str, str]:
    group, _, plural = resource.rpartition("/")
    return f"/apis/{group}", plural


def _decode(data: msgspec.Raw, type_: type[T], call: str) -> T:
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        raise BadAnswer(f"{call} answered something unexpected: {error}") from None
