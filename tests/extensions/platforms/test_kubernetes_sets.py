"""StatefulSets and DaemonSets on a real cluster: status, logs, restart, scale, releases and rollback."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from remediator.core.release import ReleaseMemory, previous
from remediator.errors import TargetError
from remediator.extensions.actions.service_rollback import ServiceRollback
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.playbooks.inventory import Service
from tests.extensions.platforms.test_kubernetes import SERVE, bound, current, platform, until, until_state
from tests.support.rollback_history import RollbackHistory
from tests.support.servers.kubernetes import Cluster

__all__ = ["platform"]
pytestmark = [pytest.mark.kubernetes, pytest.mark.usefixtures("controllers")]

KINDS = ("StatefulSet", "DaemonSet")
LOOPS = "echo ModuleNotFoundError: prices >&2; exit 3"


def deploy(cluster: Cluster, kind: str, command: str, **spec: Any) -> Service:
    """Deploy a workload named ``web``, and return the service that is bound to it."""
    more = {"serviceName": "web", **spec} if kind == "StatefulSet" else spec
    cluster.deploy("web", command, kind=kind, **more)
    return bound(cluster, **{kind.lower(): "web"})


def found(cluster: Cluster, kind: str) -> Any:
    """Return the object from the cluster."""
    return cluster.get(kind.lower(), "web")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rollout_is_followed_until_it_serves(platform: KubernetesPlatform, cluster: Cluster, kind: str) -> None:
    """The status has the kind and the revision, and there is no earlier release."""
    service = deploy(cluster, kind, SERVE)
    status = await until_state(platform, service, State.RUNNING)
    assert (status.instances, status.healthy, status.summary) == (1, 1, "web: 1 of 1 pods ready")
    assert (status.facts["kind"], status.facts["revision"], status.facts["updated"]) == (kind, 1, 1)
    assert status.facts["failures"] == [] and status.reasons == () and status.hold == ""
    assert "serving" in await platform.logs(service, 5)
    only = current(await platform.releases(service))
    assert only.name.endswith("revision 1") and only.created_at is not None


@pytest.mark.parametrize("kind", KINDS)
async def test_one_that_is_not_there_is_an_error(platform: KubernetesPlatform, cluster: Cluster, kind: str) -> None:
    """The error reports a missing object; a Deployment with the same name does not count."""
    cluster.deploy("web", SERVE, replicas=0)
    with pytest.raises(TargetError, match=f"{kind} web: not found; correct the inventory"):
        await platform.status(bound(cluster, **{kind.lower(): "web"}))


async def test_pods_of_a_set_are_not_found_by_labels(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The error says how to bind the service instead."""
    service = deploy(cluster, "StatefulSet", SERVE)
    await until_state(platform, service, State.RUNNING)
    with pytest.raises(TargetError, match="found pods of StatefulSet; set statefulset in the inventory"):
        await platform.status(bound(cluster, selector={"app": "web"}))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_restart_replaces_the_pods(platform: KubernetesPlatform, cluster: Cluster, kind: str) -> None:
    """Only the planned object is restarted, and its release does not change."""
    service = deploy(cluster, kind, SERVE)
    before = await until_state(platform, service, State.RUNNING)
    release = current(await platform.releases(service))
    await platform.restart(service, before.pin, 5)
    after = await until_state(platform, service, State.RUNNING)
    assert set(after.lives.values()).isdisjoint(before.lives.values())
    assert current(await platform.releases(service)).key == release.key
    generation = found(cluster, kind)["metadata"]["generation"]
    with pytest.raises(TargetError, match=f"{kind} web was modified after planning; nothing was changed"):
        await platform.restart(service, before.pin, 5)
    assert found(cluster, kind)["metadata"]["generation"] == generation


@pytest.mark.promise(12)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_release_is_rolled_back_and_remembered(
    platform: KubernetesPlatform, cluster: Cluster, kind: str
) -> None:
    """The rollback restores the last good ControllerRevision, and never chooses a bad one again."""
    service = deploy(cluster, kind, f"echo good; {SERVE}")
    await until_state(platform, service, State.RUNNING)
    good = current(await platform.releases(service))
    history = RollbackHistory(ServiceRollback(ClientSet(platforms={"kubernetes": platform})), service)
    for release in ("bad", "worse", "bad"):
        deploy(cluster, kind, f"echo {release}; {LOOPS}")
        await until_state(platform, service, State.CRASH_LOOP)
        assert "ModuleNotFoundError: prices" in await platform.logs(service, 10)

        await history.roll_back()

        status = await until_state(platform, service, State.RUNNING)
        assert current(await platform.releases(service)).id == good.id and status.reasons == ()
        assert found(cluster, kind)["spec"]["template"]["metadata"]["labels"] == {"app": "web"}
        assert "no release before" in await history.refusal()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rollback_by_a_person_is_recognised(platform: KubernetesPlatform, cluster: Cluster, kind: str) -> None:
    """After ``kubectl rollout undo``, the restored release has a new, higher number; the abandoned one is not
    chosen."""
    service = deploy(cluster, kind, f"echo good; {SERVE}")
    await until_state(platform, service, State.RUNNING)
    await asyncio.sleep(1.1)  # the API server has times in whole seconds
    deploy(cluster, kind, f"echo bad; {SERVE}")
    await until(lambda: platform.status(service), lambda seen: seen.facts["revision"] == 2)
    await until_state(platform, service, State.RUNNING)

    cluster.kubectl("rollout", "undo", f"{kind.lower()}/web")

    await until(lambda: platform.status(service), lambda seen: seen.facts["revision"] == 3)
    newest, left = await platform.releases(service)
    assert newest.current and left.facts["redo"] is True
    with pytest.raises(TargetError, match="no release before"):
        previous("web", await platform.releases(service), ReleaseMemory())


async def test_a_rollback_needs_a_recorded_revision(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """An unknown revision and the current one are refused."""
    service = deploy(cluster, "StatefulSet", SERVE)
    status = await until_state(platform, service, State.RUNNING)
    only = current(await platform.releases(service))
    with pytest.raises(TargetError, match="no recorded revision 'web-0'; recorded: web-"):
        await platform.rollback(service, status.pin, "web-0")
    with pytest.raises(TargetError, match="already runs"):
        await platform.rollback(service, status.pin, only.id)
    assert "delete the pods of the current revision" in platform.describe_rollback(service, only.id)


async def test_a_stateful_set_is_scaled(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The set is scaled up and down by its subresource; the first pod stays."""
    service = deploy(cluster, "StatefulSet", SERVE)
    before = await until_state(platform, service, State.RUNNING)
    await platform.scale(service, before.pin, 2)
    status = await until_state(platform, service, State.RUNNING)
    assert sorted(pod["name"] for pod in status.facts["pods"]) == ["web-0", "web-1"]
    await platform.scale(service, status.pin, 1)
    after = await until(lambda: platform.status(service), lambda seen: len(seen.lives) == 1)
    assert after.lives == before.lives


async def test_a_stateful_set_with_an_autoscaler_is_not_scaled(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """Scaling is refused; an autoscaler of a Deployment with the same name does not count."""
    service = deploy(cluster, "StatefulSet", SERVE)
    cluster.deploy("web", SERVE, replicas=0)
    cluster.kubectl("autoscale", "deployment", "web", "--name=other", "--max=4")
    status = await until_state(platform, service, State.RUNNING)
    assert status.scaled_by == "" and status.facts["owner"] is None
    cluster.kubectl("autoscale", "statefulset", "web", "--name=tide", "--min=1", "--max=3")
    status = await platform.status(service)
    assert "HorizontalPodAutoscaler tide sets the number of pods, from 1 to 3" in status.scaled_by
    with pytest.raises(TargetError, match="tide sets the number of pods"):
        await platform.scale(service, status.pin, 2)
    assert found(cluster, "StatefulSet")["spec"]["replicas"] == 1


async def test_a_daemon_set_is_not_scaled(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The nodes determine the number of pods, so scaling is refused; lint reports this from the inventory."""
    service = deploy(cluster, "DaemonSet", SERVE)
    status = await until_state(platform, service, State.RUNNING)
    with pytest.raises(TargetError, match="a DaemonSet runs one pod on each node"):
        platform.describe_scale(service, 2)
    with pytest.raises(TargetError, match="a DaemonSet runs one pod on each node"):
        await platform.scale(service, status.pin, 2)
    assert "service.scale" in KubernetesPlatform.unsupported_on(service)
    assert "service.scale" not in KubernetesPlatform.unsupported_on(bound(cluster))


async def test_a_daemon_set_that_fits_no_node_is_stopped(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A DaemonSet without a matching node is stopped, and the summary has the reason."""
    service = deploy(cluster, "DaemonSet", SERVE)
    await until_state(platform, service, State.RUNNING)
    where = json.dumps({"spec": {"template": {"spec": {"nodeSelector": {"example.com/disk": "none"}}}}})
    cluster.kubectl("patch", "daemonset/web", f"--patch={where}")
    status = await until_state(platform, service, State.STOPPED)
    assert "no node fits its node selector" in status.summary


@pytest.mark.parametrize(
    ("kind", "strategy", "why"),
    [
        ("StatefulSet", {"type": "OnDelete"}, "has the update strategy OnDelete"),
        ("DaemonSet", {"type": "OnDelete"}, "has the update strategy OnDelete"),
        ("StatefulSet", {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}, "its partition 1 keeps the pods"),
    ],
)
async def test_a_rollout_that_leaves_old_pods_is_refused(
    platform: KubernetesPlatform, cluster: Cluster, kind: str, strategy: dict[str, Any], why: str
) -> None:
    """With this update strategy, a restart or a rollback would replace no pods or only some, so it is refused."""
    replicas = {"replicas": 2} if kind == "StatefulSet" else {}
    service = deploy(cluster, kind, SERVE, updateStrategy=strategy, **replicas)
    await until_state(platform, service, State.RUNNING)
    first = current(await platform.releases(service)).id
    deploy(cluster, kind, f"true; {SERVE}", updateStrategy=strategy, **replicas)
    await until(lambda: platform.releases(service), lambda seen: len(seen) == 2)
    status = await until_state(platform, service, State.RUNNING)
    assert why in status.hold
    generation = found(cluster, kind)["metadata"]["generation"]
    for call in (platform.restart(service, status.pin, 1), platform.rollback(service, status.pin, first)):
        with pytest.raises(TargetError, match=why):
            await call
    assert found(cluster, kind)["metadata"]["generation"] == generation
