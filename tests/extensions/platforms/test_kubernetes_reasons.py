"""The reasons why pods do not serve, as facts for playbooks, on a real cluster."""

from __future__ import annotations

import json

import pytest

from remediator.extensions.actions.service_rollback import ServiceRollback
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import Reason, State
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from tests.extensions.platforms.test_kubernetes import SERVE, bound, command_of, deployed, platform, until, until_state
from tests.support.rollback_history import RollbackHistory
from tests.support.servers.kubernetes import Cluster

__all__ = ["platform"]
pytestmark = pytest.mark.kubernetes


async def test_an_unschedulable_pod_has_the_message_of_the_scheduler(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """The summary has the message of the scheduler."""
    cluster.deploy("web", SERVE)
    await until_state(platform, bound(cluster), State.RUNNING)
    where = json.dumps({"spec": {"template": {"spec": {"nodeSelector": {"example.com/disk": "none"}}}}})
    cluster.kubectl("patch", "deployment/web", f"--patch={where}")
    status = await until(lambda: platform.status(bound(cluster)), lambda seen: seen.reasons)
    assert status.reasons == (Reason.NOT_SCHEDULED,) and "not scheduled: " in status.summary


async def test_a_container_that_is_killed_at_its_memory_limit(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The reason stays while the container is killed again and again, and ends when it serves."""
    cluster.deploy("web", "exec tail /dev/zero")
    limit = {"name": "main", "resources": {"limits": {"memory": "32Mi"}}}
    patch = json.dumps({"spec": {"template": {"spec": {"containers": [limit]}}}})
    cluster.kubectl("patch", "deployment/web", f"--patch={patch}")
    status = await until(lambda: platform.status(bound(cluster)), lambda seen: Reason.OUT_OF_MEMORY in seen.reasons)
    assert "OOMKilled" in status.summary


async def test_a_paused_rollout(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A paused rollout is reported even if all pods serve."""
    cluster.deploy("web", SERVE, replicas=0)
    assert (await platform.status(bound(cluster))).reasons == ()
    cluster.kubectl("rollout", "pause", "deployment/web")
    assert (await platform.status(bound(cluster))).reasons == (Reason.PAUSED,)


@pytest.mark.promise(12)
async def test_a_release_without_an_image_is_rolled_back_and_remembered(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """Three releases have a missing image, and one is deployed twice: each rollback restores the good release."""
    history = RollbackHistory(ServiceRollback(ClientSet(platforms={"kubernetes": platform})), bound(cluster))
    await deployed(platform, cluster, "good", State.RUNNING)
    for release in ("none:1", "none:2", "none:1"):
        cluster.kubectl("set", "image", "deployment/web", f"main=local/{release}")
        status = await until(lambda: platform.status(bound(cluster)), lambda seen: seen.reasons)
        assert status.reasons == (Reason.IMAGE_NOT_PULLED,)
        await history.roll_back()
        status = await until_state(platform, bound(cluster), State.RUNNING)
        assert status.reasons == () and command_of(cluster).startswith("echo good;")
        image = cluster.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image == cluster.image
        assert "no release before" in await history.refusal()
