"""RBAC for Kubernetes, with exactly the rights that the playbooks need on the services of the inventory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remediator.clients.kubernetes import nodes
from remediator.clients.kubernetes.rights import EVIDENCE, WRITE_EVENTS, Right, rights_for
from remediator.errors import InputError
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.playbooks.platform_bindings import KubernetesBinding, KubernetesNodesBinding
from remediator.playbooks.service_parts import ArgoCd, Flux
from remediator.runtime.preflight import uses

_API = "rbac.authorization.k8s.io"
_STATUS = "service.status"
"""Guards and checks read the status of every service, also if no playbook names this action."""
_APPLICATION = ("argoproj.io", "applications")
_FLUX_KINDS = {
    "Kustomization": ("kustomize.toolkit.fluxcd.io", "kustomizations"),
    "HelmRelease": ("helm.toolkit.fluxcd.io", "helmreleases"),
}
_FLUX_SOURCES = (("source.toolkit.fluxcd.io", "gitrepositories"), ("source.toolkit.fluxcd.io", "ocirepositories"))


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How a cluster is reached; None: from the pod that the remediator runs in."""

    kubeconfig: Path | None = None
    context: str | None = None

    @classmethod
    def of(cls, kubeconfig: Path | None, context: str | None) -> ClusterAccess:
        """Return the access that a binding describes."""
        return cls(None if kubeconfig is None else kubeconfig.resolve(), context)

    def __str__(self) -> str:
        if self.kubeconfig is None:
            return "the cluster of the remediator's pod"
        return f"{self.kubeconfig}" + (f", context {self.context}" if self.context else "")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who gets the rights."""

    kind: str
    """``ServiceAccount``, ``User`` or ``Group``."""
    name: str
    namespace: str = ""
    """The namespace of a service account; empty for users and groups."""

    def document(self) -> dict[str, str]:
        """Return the subject of a binding."""
        if self.kind == "ServiceAccount":
            return {"kind": self.kind, "name": self.name, "namespace": self.namespace}
        return {"apiGroup": _API, "kind": self.kind, "name": self.name}


@dataclass(frozen=True, slots=True)
class Grant:
    """One right in one namespace, on some objects."""

    access: ClusterAccess
    namespace: str
    """The namespace of the objects; empty: the whole cluster."""
    right: Right
    names: tuple[str, ...]
    """Names of the objects; empty: all objects of the kind."""


def grants(playbooks: Iterable[Playbook], inventory: Inventory, *, events: bool) -> Iterator[Grant]:
    """Yield the rights that the playbooks and guards need, each once for every service that needs it.

    Args:
        playbooks: their steps, undos and diagnosis count.
        inventory: the services.
        events: whether Events are written on the objects.
    """
    actions: Mapping[str, set[str]] = defaultdict(set)
    for playbook in playbooks:
        for use in uses(playbook, inventory):
            if use.kind == "action":
                for name in use.services:
                    actions[name].add(use.name)
    for name, service in inventory.services.items():
        used = sorted(actions[name] | {_STATUS})
        yield from _of_platform(service, used, events=events)
        if service.argocd is not None:
            yield from _of_argocd(service.argocd, used)
        if service.flux is not None:
            yield from _of_flux(service.flux, used)


def _of_platform(service: Service, used: Sequence[str], *, events: bool) -> Iterator[Grant]:
    binding = service.platform
    if isinstance(binding, KubernetesBinding):
        access, namespace = ClusterAccess.of(binding.kubeconfig, binding.context), binding.namespace
        names: tuple[str, ...] = (binding.workload_name,) if binding.workload_name else ()
        rights = [each for action in used for each in rights_for(action, binding.workload_kind)]
        for right in (*rights, *EVIDENCE, *([WRITE_EVENTS] if events else [])):
            yield Grant(access, namespace, right, names if right.named else ())
    elif isinstance(binding, KubernetesNodesBinding):
        access = ClusterAccess.of(binding.kubeconfig, binding.context)
        names = () if any(set(each) & set("*?") for each in binding.nodes) else binding.nodes
        for right in (each for action in used for each in nodes.RIGHTS.get(action, ())):
            yield Grant(access, "", right, names if right.named else ())
        if events:
            yield Grant(access, "default", WRITE_EVENTS, ())


def _of_argocd(argocd: ArgoCd, used: Sequence[str]) -> Iterator[Grant]:
    access = ClusterAccess.of(argocd.kubeconfig, argocd.context)
    if any(each.startswith("argocd.") for each in used):
        for verb in ("get", "patch"):
            yield Grant(access, argocd.namespace, Right(verb, *_APPLICATION, named=True), (argocd.application,))


def _of_flux(flux: Flux, used: Sequence[str]) -> Iterator[Grant]:
    access = ClusterAccess.of(flux.kubeconfig, flux.context)
    mine = {each for each in used if each.startswith("flux.")}
    for verb in ("get", "patch"):
        if mine and (verb == "get" or mine & {"flux.suspend", "flux.resume"}):
            yield Grant(access, flux.namespace, Right(verb, *_FLUX_KINDS[flux.kind], named=True), (flux.name,))
        for group, resource in _FLUX_SOURCES if mine & {"flux.rollback", "flux.release"} else ():
            yield Grant(access, flux.namespace, Right(verb, group, resource), ())  # the object names its own source


def choose_cluster(found: Sequence[Grant], kubeconfig: Path | None, context: str | None) -> list[Grant]:
    """Return the rights in one cluster: the only cluster, or the cluster that the arguments name.

    Raises:
        InputError: there are several, or none.
    """
    clusters = list(dict.fromkeys(each.access for each in found))
    if kubeconfig is not None:
        wanted = ClusterAccess.of(kubeconfig, context)
        if wanted not in clusters:
            known = "; ".join(map(str, clusters)) or "none"
            raise InputError(f"no service of the inventory uses {wanted}; used: {known}")
        return [each for each in found if each.access == wanted]
    if not clusters:
        raise InputError("no service of the inventory is on Kubernetes; there is nothing to grant")
    inside = [each for each in found if each.access == ClusterAccess()]
    if inside or len(clusters) == 1:
        return inside or list(found)
    raise InputError(
        f"the services are in several clusters ({'; '.join(map(str, clusters))}); choose one with --kubeconfig and "
        "--context"
    )


def documents(found: Iterable[Grant], subject: Subject, name: str) -> list[dict[str, Any]]:
    """Return the objects for ``kubectl apply``: a Role in each namespace, and a ClusterRole if nodes need one.

    Args:
        found: the rights in one cluster.
        subject: who gets them.
        name: the name of all objects.
    """
    by_namespace: dict[str, list[Grant]] = defaultdict(list)
    for grant in found:
        by_namespace[grant.namespace].append(grant)
    made = []
    for namespace, wanted in sorted(by_namespace.items()):
        kind = "Role" if namespace else "ClusterRole"
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        made.append({"apiVersion": f"{_API}/v1", "kind": kind, "metadata": metadata, "rules": rules(wanted)})
        made.append(
            {
                "apiVersion": f"{_API}/v1",
                "kind": f"{kind}Binding",
                "metadata": metadata,
                "roleRef": {"apiGroup": _API, "kind": kind, "name": name},
                "subjects": [subject.document()],
            }
        )
    return made


def rules(wanted: Iterable[Grant]) -> list[dict[str, list[str]]]:
    """Return the rules of a Role. A right on all objects of a kind includes the right on single objects."""
    names: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    everything: set[tuple[str, str, str]] = set()
    for grant in wanted:
        right = grant.right
        resource = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
        key = (right.group, resource, right.verb)
        names[key].update(grant.names)
        if not grant.names:
            everything.add(key)
    verbs: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for group, resource, verb in sorted(names):
        only = () if (group, resource, verb) in everything else tuple(sorted(names[group, resource, verb]))
        verbs[group, resource, only].append(verb)
    return [
        {
            "apiGroups": [group],
            "resources": [resource],
            **({"resourceNames": list(only)} if only else {}),
            "verbs": found,
        }
        for (group, resource, only), found in verbs.items()
    ]
