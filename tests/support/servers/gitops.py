"""The custom resources of Argo CD and Flux on a real API server: those of their fields that we read and write.

There are no controllers: what they would do is written by the tests, as they write it. A field that is not in here is
dropped by the API server, as a misspelt one is by theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.servers import until
from tests.support.servers.kubernetes import Cluster

TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


def an(**fields: Any) -> dict[str, Any]:
    """The schema of an object."""
    return {"type": "object", "properties": fields}


def many(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list."""
    return {"type": "array", "items": schema}


SOURCE = an(repoURL=TEXT, path=TEXT, targetRevision=TEXT, chart=TEXT)
FORCED = an(force=FLAG)
SYNC = an(
    revision=TEXT,
    revisions=many(TEXT),
    source=SOURCE,
    sources=many(SOURCE),
    prune=FLAG,
    dryRun=FLAG,
    syncOptions=many(TEXT),
    syncStrategy=an(apply=FORCED, hook=FORCED),
)
OPERATION = an(
    initiatedBy=an(username=TEXT, automated=FLAG),
    info=many({**an(name=TEXT, value=TEXT), "required": ["name", "value"]}),
    sync=SYNC,
)
POLICY = an(automated=an(prune=FLAG, selfHeal=FLAG, allowEmpty=FLAG, enabled=FLAG), syncOptions=many(TEXT))
DEPLOYED = an(id=WHOLE, revision=TEXT, revisions=many(TEXT), source=SOURCE, sources=many(SOURCE), deployedAt=TEXT)
APPLICATION = an(
    spec=an(project=TEXT, source=SOURCE, destination=an(server=TEXT, namespace=TEXT), syncPolicy=POLICY),
    operation=OPERATION,
    status=an(history=many(DEPLOYED), operationState=an(operation=OPERATION, phase=TEXT, startedAt=TEXT)),
)
SNAPSHOT = an(
    digest=TEXT,
    firstReconciled=TEXT,
    lastReconciled=TEXT,
    lastReconciledDuration=TEXT,
    lastReconciledStatus=TEXT,
    totalReconciliations=WHOLE,
    metadata={"type": "object", "additionalProperties": TEXT},
)
FLUX = an(
    spec=an(interval=TEXT, suspend=FLAG, sourceRef=an(kind=TEXT, name=TEXT, namespace=TEXT)),
    status=an(observedGeneration=WHOLE, lastAppliedRevision=TEXT, lastAttemptedRevision=TEXT, history=many(SNAPSHOT)),
)
GIT = an(spec=an(interval=TEXT, suspend=FLAG, url=TEXT, ref=an(branch=TEXT, tag=TEXT, semver=TEXT, commit=TEXT)))
OCI = an(spec=an(interval=TEXT, suspend=FLAG, url=TEXT, ref=an(tag=TEXT, semver=TEXT, digest=TEXT)))
CRDS = (
    ("argoproj.io", "v1alpha1", "Application", "applications", APPLICATION, {}),
    ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations", FLUX, {"subresources": {"status": {}}}),
    ("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases", FLUX, {"subresources": {"status": {}}}),
    ("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories", GIT, {"subresources": {"status": {}}}),
    ("source.toolkit.fluxcd.io", "v1", "OCIRepository", "ocirepositories", OCI, {"subresources": {"status": {}}}),
)


@pytest.fixture(scope="module")
def created_definitions() -> Iterator[dict[str, Cluster]]:
    """The definitions that the tests of a module created, by name. They are removed at its end, with their objects."""
    created: dict[str, Cluster] = {}
    yield created
    for name, cluster in created.items():
        cluster.kubectl("delete", "customresourcedefinition", name, "--ignore-not-found", "--timeout=60s")


@pytest.fixture
def gitops(cluster: Cluster, created_definitions: dict[str, Cluster]) -> Cluster:
    """The cluster, where these kinds are known; those that it knew already are left as they are."""
    known = cluster.kubectl("get", "customresourcedefinitions", "--output=name").splitlines()
    for group, version, kind, plural, schema, more in CRDS:
        name = f"{plural}.{group}"
        if f"customresourcedefinition.apiextensions.k8s.io/{name}" not in known:
            created_definitions[name] = cluster
            cluster.apply(_definition(group, version, kind, plural, schema, more))
        until(lambda path=f"/apis/{group}/{version}", served=plural: _served(cluster, path, served), plural)
    return cluster


def _definition(
    group: str, version: str, kind: str, plural: str, schema: dict[str, Any], more: dict[str, Any]
) -> dict[str, Any]:
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **more}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [served],
        },
    }


def _served(cluster: Cluster, path: str, plural: str) -> bool:
    path = f"{path}/namespaces/{cluster.namespace}/{plural}"
    try:
        cluster.kubectl("get", "--raw", path)
    except AssertionError:
        return False
    return True
