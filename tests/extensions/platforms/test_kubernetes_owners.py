"""Who manages a Deployment, and since when its release is in use, on a real API server."""

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
    """Write marks to the Deployment as this client does, by its name as the manager of the fields."""
    patch = json.dumps({"metadata": metadata})
    cluster.kubectl("patch", "deployment/web", f"--field-manager={manager}", "--type=merge", f"--patch={patch}")


async def owner(platform: KubernetesPlatform, cluster: Cluster) -> Any:
    """What the status says."""
    return (await platform.status(bound(cluster))).facts["owner"]


async def test_argo_cd_is_recognised_by_its_default_label(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """``app.kubernetes.io/instance`` is Argo CD's tracking label, and a label of many charts: its writer tells."""
    cluster.deploy("web", SERVE, replicas=0)
    written_by(cluster, "helm", labels={INSTANCE: "shop"})
    assert await owner(platform, cluster) is None

    written_by(cluster, "argocd-controller", annotations={"example.com/synced": "1"})
    found = await owner(platform, cluster)
    assert (found["kind"], found["name"]) == ("argocd", "shop")
    assert "service.rollback" in found["undoes"]


async def test_a_helm_release_is_named_and_undoes_nothing(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """Helm writes only at the next upgrade, so a rollback lasts until then. An autoscaler comes first: it acts now."""
    cluster.deploy("web", SERVE, replicas=0)
    marks = {"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": cluster.namespace}
    written_by(cluster, "helm", labels={"app.kubernetes.io/managed-by": "Helm", INSTANCE: "shop"}, annotations=marks)
    assert await owner(platform, cluster) == {"kind": "helm", "name": "shop", "undoes": []}

    cluster.kubectl("autoscale", "deployment/web", "--max=3")
    found = await owner(platform, cluster)
    assert (found["kind"], found["name"], found["undoes"]) == ("hpa", "web", ["service.scale"])


async def test_a_release_is_in_use_since_its_rollout(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """After an undo, that is later than the birth of its ReplicaSet; a pod that is replaced later changes nothing."""
    service = bound(cluster)
    cluster.deploy("web", SERVE)
    await until_state(platform, service, State.RUNNING)
    born = current(await platform.releases(service)).created_at
    assert born is not None
    await asyncio.sleep(2)  # times of the API server are whole seconds
    cluster.deploy("web", f"true; {SERVE}")
    await asyncio.to_thread(cluster.until_available, "web")  # before that, the first release is still in use
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
