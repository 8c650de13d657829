"""The custom resources of Argo CD and Flux on a real API server, with the fields that remediator reads and writes.

There are no controllers: the tests write what the controllers would write. The API server drops a field that is not
defined here, as the real definitions do with a misspelt one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.servers import until
from tests.support.servers.kubernetes import Cluster

TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


def an(**fields: Any) -> dict[str, Any]:
    """Return the schema of an object."""
    return {"type": "object", "properties": fields}


def many(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list."""
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
    """Return the names of the definitions that the tests of a module created.

    They are removed at the end of the module, with their objects.
    """
    created: dict[str, Cluster] = {}
    yield created
    for name, cluster in created.items():
        cluster.kubectl("delete", "customresourcedefinition", name, "--ignore-not-found", "--timeout=60s")


@pytest.fixture
def gitops(cluster: Cluster, created_definitions: dict[str, Cluster]) -> Cluster:
    """Return the cluster with these kinds. Kinds that it already had are not changed."""
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
