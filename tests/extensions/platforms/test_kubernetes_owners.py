"""The manager of a Deployment, and the time since its release is in use, on a real API server."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from tests.extensions.platforms.test_kubernetes import SERVE, bound, current, platform, until, until_state
from tests.support.servers.kubernetes import Cluster

__all__ = ["platform"]
pytestmark = pytest.mark.kubernetes
INSTANCE = "app.kubernetes.io/instance"


def written_by(cluster: Cluster, manager: str, **metadata: dict[str, str]) -> None:
    """Patch the metadata of the Deployment with this field manager."""
    patch = json.dumps({"metadata": metadata})
    cluster.kubectl("patch", "deployment/web", f"--field-manager={manager}", "--type=merge", f"--patch={patch}")


async def owner(platform: KubernetesPlatform, cluster: Cluster) -> Any:
    """Return the manager in the status."""
    return (await platform.status(bound(cluster))).facts["owner"]


async def test_argo_cd_is_recognised_by_its_default_label(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """Many charts use ``app.kubernetes.io/instance`` too; a write by the controller of Argo CD makes it a mark of Argo
    CD."""
    cluster.deploy("web", SERVE, replicas=0)
    written_by(cluster, "helm", labels={INSTANCE: "shop"})
    assert await owner(platform, cluster) is None

    written_by(cluster, "argocd-controller", annotations={"example.com/synced": "1"})
    found = await owner(platform, cluster)
    assert (found["kind"], found["name"]) == ("argocd", "shop")
    assert "service.rollback" in found["undoes"]


async def test_a_helm_release_is_named_and_undoes_nothing(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """Helm writes only at its next upgrade, so it reverts nothing until then. An autoscaler has priority over Helm."""
    cluster.deploy("web", SERVE, replicas=0)
    marks = {"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": cluster.namespace}
    written_by(cluster, "helm", labels={"app.kubernetes.io/managed-by": "Helm", INSTANCE: "shop"}, annotations=marks)
    assert await owner(platform, cluster) == {"kind": "helm", "name": "shop", "undoes": []}

    cluster.kubectl("autoscale", "deployment/web", "--max=3")
    found = await owner(platform, cluster)
    assert (found["kind"], found["name"], found["undoes"]) == ("hpa", "web", ["service.scale"])


async def test_a_release_is_in_use_since_its_rollout(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """After an undo, the time is the start of the rollout, not the creation of the ReplicaSet; a replaced pod does not
    change it."""
    service = bound(cluster)
    cluster.deploy("web", SERVE)
    await until_state(platform, service, State.RUNNING)
    born = current(await platform.releases(service)).created_at
    assert born is not None
    await asyncio.sleep(2)  # the API server has times in whole seconds
    cluster.deploy("web", f"true; {SERVE}")
    await asyncio.to_thread(cluster.until_available, "web")  # until then, the first release is in use
    await asyncio.sleep(2)
    cluster.kubectl("rollout", "undo", "deployment/web")
    await until(lambda: platform.status(service), lambda seen: seen.facts["revision"] == 3)
    await until_state(platform, service, State.RUNNING)

    since = current(await platform.releases(service)).created_at

    assert since is not None and since - born >= timedelta(seconds=3)
    await asyncio.sleep(2)
    cluster.kubectl("delete", "pods", "--selector=app=web", "--grace-period=0", "--force")
    await until_state(platform, service, State.RUNNING)
    again = current(await platform.releases(service)).created_at
    assert again is not None and again - since < timedelta(seconds=2)
