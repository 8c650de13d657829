"""The Kubernetes platform on a real cluster."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.clients.kubernetes import revisions
from remediator.clients.kubernetes.client import KubernetesRefused
from remediator.clients.kubernetes.models import Meta, Selector, Template, Workload, _WorkloadSpec
from remediator.clients.kubernetes.revisions import HISTORY, RESTARTED_AT, UNDONE, Revision
from remediator.core.release import Release, ReleaseMemory, previous
from remediator.errors import BadAnswer, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.actions.service_restart import RestartParameters, ServiceRestart
from remediator.extensions.actions.service_rollback import ServiceRollback
from remediator.extensions.actions.service_scale import ScaleParameters, ServiceScale
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.playbooks.inventory import Service
from tests.support.fake_servers import Authority, listener, peer, read_request, reply
from tests.support.rollback_history import RollbackHistory
from tests.support.servers.kubernetes import Cluster

real = pytest.mark.kubernetes
SERVE = "echo serving; sleep 1000"
READ = {"apiGroups": ["", "apps", "autoscaling"], "resources": ["*"], "verbs": ["get", "list"]}


@pytest.fixture
async def platform() -> AsyncIterator[KubernetesPlatform]:
    """Return the platform, and close it after the test."""
    platform = KubernetesPlatform()
    yield platform
    await platform.aclose()


def bound(cluster: Cluster, name: str = "web", **binding: Any) -> Service:
    """Return a service that is bound to a Deployment in the namespace of the test."""
    where = {"kind": "kubernetes", "namespace": cluster.namespace, "kubeconfig": str(cluster.kubeconfig)}
    by_other = {"selector", "statefulset", "daemonset"} & binding.keys()
    what = binding if by_other else {"deployment": name, **binding}
    return Service.model_validate({"name": name, "platform": {**where, **what}})


async def until(look: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], seconds: float = 240) -> Any:
    """Call ``look`` until its result is as wanted, and return the result."""
    async with asyncio.timeout(seconds):
        while not wanted(seen := await look()):
            await asyncio.sleep(0.2)
    return seen


async def until_state(platform: KubernetesPlatform, service: Service, state: State) -> Any:
    """Wait for a state, and return the status."""
    return await until(lambda: platform.status(service), lambda status: status.state is state)


def current(releases: tuple[Release, ...]) -> Release:
    """Return the current release."""
    return next(each for each in releases if each.current)


@real
async def test_a_rollout_is_followed_until_it_serves(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The state is starting until all pods of the observed generation are ready, and then running."""
    cluster.deploy("web", SERVE, replicas=2)
    service = bound(cluster)
    first = await platform.status(service)
    assert first.state in (State.STARTING, State.RUNNING)
    status = await until_state(platform, service, State.RUNNING)
    assert (status.instances, status.healthy) == (2, 2)
    assert status.summary == "web: 2 of 2 pods ready"
    assert status.facts["owner"] is None and status.facts["revision"] == 1 and status.facts["observed"]


@real
async def test_a_crash_loop_reports_the_exit_code_and_the_logs(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The status has CrashLoopBackOff with the exit code, the restarts, the earlier container's log and the events."""
    cluster.deploy("web", "echo ModuleNotFoundError: prices >&2; exit 3")
    service = bound(cluster)
    status = await until_state(platform, service, State.CRASH_LOOP)
    assert status.healthy == 0
    status = await until(
        lambda: platform.status(service),
        lambda seen: (
            any(each["waiting"] == "CrashLoopBackOff" for each in seen.facts["pods"][0]["containers"])
            and any(event.startswith("BackOff") for event in seen.facts["events"])
        ),
    )
    container = status.facts["pods"][0]["containers"][0]
    assert container["last"]["exit_code"] == 3 and container["restarts"] >= 1
    assert "CrashLoopBackOff, ended with exit code 3 Error" in status.summary
    assert "ModuleNotFoundError: prices" in await platform.logs(service, 10, previous=True)


@real
async def test_a_bad_rollout_beside_pods_that_serve_is_a_crash_loop(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """The old pods still serve and count as healthy; the new pods crash, and are the reason of the state."""
    cluster.deploy("web", SERVE, replicas=2)
    service = bound(cluster)
    await until_state(platform, service, State.RUNNING)
    cluster.deploy("web", "exit 1", replicas=2)
    status = await until_state(platform, service, State.CRASH_LOOP)
    assert status.healthy >= 1


@real
async def test_an_image_that_cannot_be_pulled_is_not_starting(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The state is exited with the reason from Kubernetes, not starting, if the image of a pod cannot be pulled."""
    cluster.deploy("web", SERVE)
    cluster.kubectl("set", "image", "deployment/web", "main=local/none:1")
    cluster.kubectl("scale", "deployment/web", "--replicas=0")
    cluster.kubectl("scale", "deployment/web", "--replicas=1")
    status = await until_state(platform, bound(cluster), State.EXITED)
    assert "ErrImageNeverPull" in status.summary


@real
async def test_a_deployment_of_no_pods_is_stopped(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A Deployment of zero pods is stopped, not running."""
    cluster.deploy("web", SERVE, replicas=0)
    assert (await until_state(platform, bound(cluster), State.STOPPED)).instances == 0


@real
async def test_pods_are_found_by_their_labels_too(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The labels lead to the Deployment of the pods; pods of several Deployments or of none, and no pods, are
    errors."""
    cluster.deploy("web", SERVE)
    service = bound(cluster, selector={"app": "web"})
    await until(lambda: asyncio.to_thread(cluster.get, "pods"), lambda pods: bool(pods["items"]))
    await until_state(platform, service, State.RUNNING)
    with pytest.raises(TargetError, match="no pod"):
        await platform.status(bound(cluster, selector={"app": "none"}))
    cluster.deploy("api", SERVE)
    await until_state(platform, bound(cluster, "api"), State.RUNNING)
    for name in ("web", "api"):
        pods = [each["metadata"]["name"] for each in cluster.get("pods", f"--selector=app={name}")["items"]]
        cluster.kubectl("label", "pod", *pods, "part=both")
    with pytest.raises(TargetError, match="several Deployments: api, web"):
        await platform.restart(bound(cluster, selector={"part": "both"}), {}, 1)
    pod = {"name": "main", "image": cluster.image, "imagePullPolicy": "Never"}
    alone = {"metadata": {"name": "alone", "labels": {"app": "alone"}}, "spec": {"containers": [pod]}}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", **alone})
    with pytest.raises(TargetError, match="pods of Pod"):
        await platform.status(bound(cluster, selector={"app": "alone"}))


@real
async def test_a_deployment_that_is_not_there_is_an_error(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """Every method raises :class:`TargetError`."""
    service = bound(cluster, "none")
    for call in (
        platform.status(service),
        platform.logs(service, 1),
        platform.restart(service, {}, 1),
        platform.scale(service, {}, 2),
        platform.releases(service),
        platform.rollback(service, {}, "x"),
    ):
        with pytest.raises(TargetError, match="not found; correct the inventory"):
            await call


@real
async def test_a_restart_replaces_all_pods(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The state is starting at once, because the new generation is not observed yet; then the new pods run."""
    cluster.deploy("web", SERVE)
    service = bound(cluster)
    before = await until_state(platform, service, State.RUNNING)
    assert "rollout restart" in platform.describe_restart(service, 5)
    await platform.restart(service, before.pin, 5)
    assert (await platform.status(service)).state is State.STARTING
    after = await until_state(platform, service, State.RUNNING)
    assert {pod["name"] for pod in after.facts["pods"]}.isdisjoint(pod["name"] for pod in before.facts["pods"])
    template = cluster.get("deployment", "web")["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in template


@real
@pytest.mark.promise(3)
async def test_a_target_that_another_user_changed_is_refused(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """If another client changed or replaced the Deployment after planning, every change is refused."""
    cluster.deploy("web", SERVE)
    service = bound(cluster)
    planned = (await until_state(platform, service, State.RUNNING)).pin
    cluster.kubectl("scale", "deployment/web", "--replicas=2")
    calls: list[Callable[[], Awaitable[None]]] = [
        lambda: platform.restart(service, planned, 1),
        lambda: platform.scale(service, planned, 3),
        lambda: platform.rollback(service, planned, "web-1"),
    ]
    for call in calls:
        with pytest.raises(TargetError, match="modified after planning"):
            await call()
    assert cluster.get("deployment", "web")["metadata"]["generation"] == 2
    cluster.kubectl("delete", "deployment", "web")
    cluster.deploy("web", SERVE)
    assert cluster.get("deployment", "web")["metadata"]["generation"] == planned["generation"]
    with pytest.raises(TargetError, match="modified after planning"):
        await platform.restart(service, planned, 1)


@real
async def test_a_crash_loop_does_not_prevent_a_restart(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A crash changes the resource version, not the generation, and only the generation is compared."""
    # the kubelet must see the container run before the Deployment's status reports it
    cluster.deploy("web", "sleep 3; exit 1", replicas=3)
    service = bound(cluster)
    planned = (await until_state(platform, service, State.CRASH_LOOP)).pin
    version = cluster.get("deployment", "web")["metadata"]["resourceVersion"]
    await until(
        lambda: asyncio.to_thread(cluster.get, "deployment", "web"),
        lambda seen: seen["metadata"]["resourceVersion"] != version,
    )
    generation = cluster.get("deployment", "web")["metadata"]["generation"]
    await platform.restart(service, planned, 1)
    assert cluster.get("deployment", "web")["metadata"]["generation"] == generation + 1


@real
async def test_scaling_uses_the_subresource(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The platform scales up and down by the subresource; a number below one is refused."""
    cluster.deploy("web", SERVE)
    service = bound(cluster)
    status = await until_state(platform, service, State.RUNNING)
    await platform.scale(service, status.pin, 2)
    status = await until_state(platform, service, State.RUNNING)
    assert (status.instances, status.healthy, status.facts["replicas"]) == (2, 2, 2)
    with pytest.raises(TargetError, match="below one"):
        await platform.scale(service, status.pin, 0)
    await platform.scale(service, status.pin, 1)
    assert (await until_state(platform, service, State.RUNNING)).instances == 1
    assert "scale subresource to 2" in platform.describe_scale(service, 2)


@real
async def test_a_deployment_with_an_autoscaler_is_not_scaled(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The autoscaler is the manager and reverts only scaling, so scaling is refused."""
    cluster.deploy("web", SERVE)
    cluster.kubectl("autoscale", "deployment", "web", "--name=tide", "--max=4")
    service = bound(cluster)
    status = await until_state(platform, service, State.RUNNING)
    owner = status.facts["owner"]
    assert (owner["kind"], owner["name"], owner["undoes"]) == ("hpa", "tide", ["service.scale"])
    assert (owner["minimum"], owner["maximum"]) == (1, 4)
    expected = "HorizontalPodAutoscaler tide sets the number of pods, from 1 to 4, and would revert it"
    assert expected in status.scaled_by
    with pytest.raises(TargetError, match=expected):
        await platform.scale(service, status.pin, 2)
    action = ServiceScale(ClientSet(platforms={"kubernetes": platform}))
    with pytest.raises(TargetError, match=expected):
        await action.plan(service, ScaleParameters(replicas=2))
    assert cluster.get("deployment", "web")["spec"]["replicas"] == 1


@real
@pytest.mark.parametrize(
    ("mark", "value", "owner"),
    [
        ("annotate", "argocd.argoproj.io/tracking-id=shop:apps/Deployment:x/web", ("argocd", "shop")),
        ("label", "argocd.argoproj.io/instance=shop", ("argocd", "shop")),
        ("label", "kustomize.toolkit.fluxcd.io/name=apps", ("flux", "apps")),
        ("label", "helm.toolkit.fluxcd.io/name=web", ("flux", "web")),
    ],
)
async def test_gitops_is_named_as_the_owner(
    platform: KubernetesPlatform, cluster: Cluster, mark: str, value: str, owner: tuple[str, str]
) -> None:
    """Argo CD and Flux are recognised by their metadata; they do not revert a restart."""
    cluster.deploy("web", SERVE, replicas=0)
    cluster.kubectl(mark, "deployment", "web", value)
    found = (await platform.status(bound(cluster))).facts["owner"]
    assert (found["kind"], found["name"]) == owner
    assert "service.rollback" in found["undoes"] and "service.restart" not in found["undoes"]


@real
async def test_a_bad_rollout_is_rolled_back_to_a_recorded_revision(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """The revision is named by its ReplicaSet. A rollback to a newer revision is marked as a redo."""
    cluster.deploy("web", SERVE)
    service = bound(cluster)
    await until_state(platform, service, State.RUNNING)
    good = current(await platform.releases(service))
    cluster.deploy("web", "exit 1")
    status = await until_state(platform, service, State.CRASH_LOOP)
    newest, before = await platform.releases(service)
    assert newest.current and before.id == good.id and not before.facts["redo"] and before.key != newest.key
    assert (newest.facts["revision"], before.facts["revision"]) == (2, 1)
    assert good.id in platform.describe_rollback(service, good.id)

    await platform.rollback(service, status.pin, good.id)

    after = await until_state(platform, service, State.RUNNING)
    assert current(await platform.releases(service)).id == good.id
    labels = cluster.get("deployment", "web")["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app": "web"}
    bad = next(each for each in await platform.releases(service) if each.id == newest.id)
    assert bad.facts["redo"] is True
    with pytest.raises(TargetError, match="already"):
        await platform.rollback(service, after.pin, good.id)
    await platform.rollback(service, after.pin, bad.id)
    assert (await until_state(platform, service, State.CRASH_LOOP)).facts["revision"] == 4


@real
async def test_a_rollback_needs_a_recorded_revision(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """An unknown name and the ReplicaSet of another Deployment are refused, and the error lists the revisions."""
    for name in ("web", "api"):
        cluster.deploy(name, SERVE, replicas=0)
        await until_state(platform, bound(cluster, name), State.STOPPED)
    service = bound(cluster)
    status = await platform.status(service)
    other = current(await platform.releases(bound(cluster, "api"))).id
    for to in ("web-none", other, ""):
        with pytest.raises(TargetError, match=r"no recorded revision .*; recorded: web-"):
            await platform.rollback(service, status.pin, to)


@real
async def test_a_revision_that_is_only_a_restart_is_marked(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A rollback over a mere restart would change nothing, so both revisions have the same key."""
    cluster.deploy("web", SERVE, replicas=0)
    service = bound(cluster)
    status = await until_state(platform, service, State.STOPPED)
    await platform.restart(service, status.pin, 1)
    await until(lambda: platform.releases(service), lambda found: len(found) == 2)
    _, before = await platform.releases(service)
    assert len({each.key for each in await platform.releases(service)}) == 1 and before.facts["redo"] is False


async def rolled_back(platform: KubernetesPlatform, cluster: Cluster, service: Service) -> str:
    """Roll back to the release that the platform chooses, wait until it is in use, and return its command."""
    await until(lambda: platform.status(service), lambda seen: seen.facts["observed"])
    _, to = previous("web", await platform.releases(service), ReleaseMemory())
    await platform.rollback(service, (await platform.status(service)).pin, to.id)
    await until(
        lambda: platform.releases(service), lambda found: any(each.current and each.id == to.id for each in found)
    )
    return command_of(cluster)


def command_of(cluster: Cluster) -> str:
    """Return the command of the containers of the Deployment."""
    command: str = cluster.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    return command


async def released(platform: KubernetesPlatform, cluster: Cluster, command: str) -> None:
    """Deploy a release, and wait until it is current."""
    cluster.deploy("web", command, replicas=0)

    def in_use(found: tuple[Release, ...]) -> bool:
        return any(each.current for each in found) and command_of(cluster) == command

    await until(lambda: platform.status(bound(cluster)), lambda seen: seen.facts["observed"])
    await until(lambda: platform.releases(bound(cluster)), in_use)


@real
async def test_what_was_rolled_back_is_never_chosen_again(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A bad release is not chosen after a second rollback, after a restart, or without the annotation; a good one still
    is."""
    service = bound(cluster)
    await released(platform, cluster, "good")
    await released(platform, cluster, "bad")
    assert await rolled_back(platform, cluster, service) == "good"
    await released(platform, cluster, "worse")
    assert await rolled_back(platform, cluster, service) == "good"
    with pytest.raises(TargetError, match=r"no release before .*; not used, because they were rolled back"):
        previous("web", await platform.releases(service), ReleaseMemory())

    count = len(await platform.releases(service))
    await platform.restart(service, (await platform.status(service)).pin, 1)
    await until(lambda: platform.releases(service), lambda found: len(found) == count + 1)
    with pytest.raises(TargetError, match=r"no release before .*; not used, because they were rolled back"):
        previous("web", await platform.releases(service), ReleaseMemory())

    await released(platform, cluster, "bad")
    assert await rolled_back(platform, cluster, service) == "good"

    cluster.kubectl("annotate", "deployment/web", f"{UNDONE}-")
    await released(platform, cluster, "third")
    assert await rolled_back(platform, cluster, service) == "good"


def made(name: str, number: int, command: str, history: str = "", undone: str = "", restarted: str = "") -> Any:
    """Return a revision and its template."""
    annotations = {HISTORY: history, UNDONE: undone}
    meta = Meta(name=name, annotations={key: value for key, value in annotations.items() if value})
    template = {"metadata": {"annotations": {RESTARTED_AT: restarted}}, "spec": {"command": command}}
    return Revision(meta, number, Template(), ("", "")), template


GOOD, BAD, WORSE = (revisions.digest({"spec": {"command": each}}) for each in ("good", "bad", "worse"))


@pytest.mark.parametrize(
    ("sets", "undone", "expected"),
    [
        pytest.param([("a", 3, "good", "1"), ("b", 2, "bad")], BAD, {"b"}, id="rolled back once"),
        pytest.param(
            [("a", 5, "good", "1,3"), ("c", 4, "worse"), ("b", 2, "bad")],
            f"{BAD},{WORSE}",
            {"b", "c"},
            id="rolled back twice",
        ),
        pytest.param(
            [("a", 5, "good", "1,3"), ("c", 4, "worse"), ("b", 2, "bad")], "", {"b", "c"}, id="by kubectl, twice"
        ),
        pytest.param(
            [("r", 4, "good", "", "", "today"), ("a", 3, "good", "1"), ("b", 2, "bad")],
            "",
            {"b"},
            id="by kubectl, and restarted since",
        ),
        pytest.param([("r", 4, "good"), ("b", 2, "bad")], BAD, {"b"}, id="the history was pruned"),
        pytest.param(
            [("b", 4, "bad", "2"), ("a", 3, "good", "1")],
            BAD,
            {"b"},
            id="the bad one was deployed again, the good stays",
        ),
        pytest.param(
            [("c", 4, "worse"), ("b2", 3, "bad", "", "", "today"), ("a", 1, "good")],
            BAD,
            {"b2"},
            id="the bad one was only restarted",
        ),
        pytest.param(
            [("a", 3, "good", "1", BAD), ("b", 2, "bad")], "", {"b"}, id="only a ReplicaSet remembers it still"
        ),
        pytest.param([("c", 3, "worse"), ("b", 2, "bad"), ("a", 1, "good")], "", set(), id="nothing was rolled back"),
    ],
)
def test_what_must_not_be_chosen(sets: list[tuple[Any, ...]], undone: str, expected: set[str]) -> None:
    """Bad releases are known from the annotation, and from the revision history of a release that was restored."""
    both = [made(*each) for each in sets]
    deployment = Workload(
        metadata=Meta(name="web", annotations={UNDONE: undone}), spec=_WorkloadSpec(selector=Selector())
    )
    templates = {each.name: template for each, template in both}

    assert revisions.bad_names(deployment, [each for each, _ in both], templates) == expected


def test_the_record_keeps_the_newest_and_the_other_annotations() -> None:
    """The annotation keeps the newest entries, other annotations stay, and the release that is restored is not marked
    as bad."""
    both = Meta(name="web", annotations={UNDONE: ",".join(map(str, range(60))), "mine": "kept"})
    deployment = Workload(metadata=both, spec=_WorkloadSpec(selector=Selector()))

    after = revisions.with_rolled_back(deployment, [], BAD, GOOD)
    again = revisions.with_rolled_back(deployment, [], GOOD, "59")

    assert after["mine"] == "kept"
    assert after[UNDONE].split(",") == [*map(str, range(11, 60)), BAD]
    assert GOOD not in again[UNDONE].split(",")


def kubeconfig(folder: Path, url: str, *, token: str = "none", authority: Path | None = None) -> Path:
    """Write a kubeconfig for this API server, and return its path."""
    trust = {"certificate-authority": str(authority)} if authority else {"insecure-skip-tls-verify": True}
    config = {
        "clusters": [{"name": "c", "cluster": {"server": url, **trust}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def server_of(cluster: Cluster) -> str:
    """Return the URL of the API server."""
    url: str = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return url


@real
async def test_what_is_not_allowed_is_refused(platform: KubernetesPlatform, cluster: Cluster, tmp_path: Path) -> None:
    """A read-only account can observe; the API server refuses every change."""
    cluster.deploy("web", SERVE, replicas=0)
    token = cluster.account("reader", READ)
    path = kubeconfig(tmp_path, server_of(cluster), token=token)
    service = bound(cluster, kubeconfig=str(path))
    cluster.deploy("web", "exit 1", replicas=0)
    await until(lambda: platform.releases(service), lambda found: len(found) == 2)
    status = await until_state(platform, service, State.STOPPED)
    old = next(each for each in await platform.releases(service) if not each.current)
    for call in (
        platform.restart(service, status.pin, 1),
        platform.scale(service, status.pin, 2),
        platform.rollback(service, status.pin, old.id),
    ):
        with pytest.raises(KubernetesRefused, match="Forbidden"):
            await call
    assert (await platform.status(service)).pin == status.pin


@real
async def test_without_access_to_autoscalers_the_manager_is_unknown(
    platform: KubernetesPlatform, cluster: Cluster, tmp_path: Path
) -> None:
    """The manager is unknown, so the guard ``managed_by`` asks a person."""
    cluster.deploy("web", SERVE, replicas=0)
    token = cluster.account("halfblind", {**READ, "apiGroups": ["", "apps"]})
    path = kubeconfig(tmp_path, server_of(cluster), token=token)
    owner = (await platform.status(bound(cluster, kubeconfig=str(path)))).facts["owner"]
    assert "cannot read the autoscalers" in owner


@real
@pytest.mark.promise(3)
async def test_a_restart_with_a_lost_answer_is_observed_as_done(
    platform: KubernetesPlatform, cluster: Cluster, tmp_path: Path
) -> None:
    """The patch takes effect, but its answer is lost: the observation answers yes, so the call is not repeated."""
    cluster.deploy("web", SERVE)
    direct = bound(cluster)
    await until_state(platform, direct, State.RUNNING)
    authority = Authority(tmp_path)
    context = authority.server_context(*authority.issue("localhost", "127.0.0.1"))
    withheld: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        head, _, body = request.partition(b"\r\n\r\n")
        host, port = server_of(cluster).removeprefix("https://").split(":")
        theirs, ours = await asyncio.open_connection(host, int(port), ssl=_trusting())
        ours.write(head.replace(b"Bearer none", b"Bearer " + token.encode()) + b"\r\nConnection: close\r\n\r\n" + body)
        answer = await theirs.read()
        ours.close()
        if request.startswith(b"PATCH"):
            withheld.append(answer.split(b"\r\n")[0])
            await reader.read()
            return
        writer.write(answer)

    token = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]["token"]
    async with listener(serve, context) as port:
        path = kubeconfig(tmp_path, f"https://127.0.0.1:{port}", authority=authority.ca_file)
        service = bound(cluster, kubeconfig=str(path), timeout="2s")
        action = ServiceRestart(ClientSet(platforms={"kubernetes": platform}))
        call = await action.plan(service, RestartParameters())
        with pytest.raises(TimedOut):
            await action.execute(service, RestartParameters(), call)
        assert withheld == [b"HTTP/1.1 200 OK"]
    seen = await action.observe(direct, RestartParameters(), call, datetime.now(UTC))
    assert seen.happened is EffectStatus.YES, seen.summary
    assert cluster.get("deployment", "web")["metadata"]["generation"] == call.pin["generation"] + 1


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def far(folder: Path, url: str) -> Service:
    """Return a service of a cluster whose API server fails."""
    path = kubeconfig(folder, url)
    binding = {"kind": "kubernetes", "namespace": "n", "deployment": "web", "kubeconfig": str(path), "timeout": "300ms"}
    return Service.model_validate({"name": "web", "platform": binding})


async def test_an_api_server_that_is_down_is_unreachable(platform: KubernetesPlatform, tmp_path: Path) -> None:
    """Without an API server, the error is :class:`Unreachable`."""
    async with listener(_nobody) as port:
        pass
    with pytest.raises(Unreachable):
        await platform.restart(far(tmp_path, f"http://127.0.0.1:{port}"), {}, 1)


async def _nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_an_invalid_answer_of_the_api_server_is_a_bad_answer(
    platform: KubernetesPlatform, tmp_path: Path
) -> None:
    """An answer that is not JSON, or not a Deployment, is a :class:`BadAnswer`."""
    for body in (b"<html>", b"{}", b'{"metadata": {"name": 1}}', b"[]"):
        async with peer(reply(200, body)) as server:
            with pytest.raises(BadAnswer):
                await platform.status(far(tmp_path, server.url))
            await platform.aclose()
            platform = KubernetesPlatform()


async def test_a_slow_api_server_times_out(platform: KubernetesPlatform, tmp_path: Path) -> None:
    """The timeout of the binding limits each answer."""

    async def slow(_: bytes, writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed()

    async with peer(slow) as server:
        with pytest.raises(TimedOut, match=r"0\.3 s"):
            await platform.status(far(tmp_path, server.url))


async def test_missing_access_to_the_cluster_is_reported(platform: KubernetesPlatform, tmp_path: Path) -> None:
    """The error reports a missing service account of a pod, or an invalid kubeconfig."""
    here = Service.model_validate(
        {"name": "web", "platform": {"kind": "kubernetes", "namespace": "n", "deployment": "web"}}
    )
    with pytest.raises(TargetError, match="cannot access the cluster"):
        await platform.status(here)
    other = Service.model_validate({"name": "x", "platform": {"kind": "systemd", "unit": "x.service"}})
    with pytest.raises(TargetError, match="does not run on Kubernetes"):
        await platform.status(other)


async def deployed(platform: KubernetesPlatform, cluster: Cluster, release: str, state: State) -> None:
    """Deploy a release that starts or fails, and wait for its state."""
    cluster.deploy("web", f"echo {release}; " + (SERVE if state is State.RUNNING else "exit 1"))
    await until(lambda: platform.status(bound(cluster)), lambda seen: seen.facts["observed"])
    await until_state(platform, bound(cluster), state)


@real
@pytest.mark.promise(12)
async def test_every_bad_release_is_rolled_back_to_the_last_good_one(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """Bad releases are deployed one at a time: three new ones, then the first one again.

    After the second rollback, the good release is restarted. Each rollback restores the good release.
    """
    history = RollbackHistory(ServiceRollback(ClientSet(platforms={"kubernetes": platform})), bound(cluster))
    await deployed(platform, cluster, "good", State.RUNNING)
    for release in ("bad-1", "bad-2", "bad-3", "bad-1"):
        await deployed(platform, cluster, release, State.CRASH_LOOP)
        await history.roll_back()
        await until_state(platform, bound(cluster), State.RUNNING)
        assert command_of(cluster).startswith("echo good;")
        assert "no release before" in await history.refusal()
        if release == "bad-2":
            status = await platform.status(bound(cluster))
            await platform.restart(bound(cluster), status.pin, 1)
            await until(lambda: platform.status(bound(cluster)), lambda seen: seen.facts["observed"])
            await until_state(platform, bound(cluster), State.RUNNING)


@real
@pytest.mark.promise(12)
async def test_the_memory_of_the_store_survives_the_loss_of_the_annotations(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """If a GitOps tool or a person removes the annotations, the store still knows the bad release."""
    history = RollbackHistory(ServiceRollback(ClientSet(platforms={"kubernetes": platform})), bound(cluster))
    await deployed(platform, cluster, "good", State.RUNNING)
    await deployed(platform, cluster, "bad-1", State.CRASH_LOOP)
    await history.roll_back()
    await until_state(platform, bound(cluster), State.RUNNING)
    await deployed(platform, cluster, "bad-1", State.CRASH_LOOP)
    await deployed(platform, cluster, "bad-2", State.CRASH_LOOP)
    for kind in ("deployment", "replicaset"):
        cluster.kubectl("annotate", kind, "--all", f"{UNDONE}-")

    await history.roll_back()

    assert command_of(cluster).startswith("echo good;")


@real
async def test_a_release_is_named_by_image_version_revision_and_author(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """The name of a release has the image, version, revision and author, not the hash of its ReplicaSet."""
    cluster.deploy("web", SERVE, replicas=0)
    cluster.kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=ticket 7")
    version = '{"spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/version": "1.4.2"}}}}}'
    cluster.kubectl("patch", "deployment/web", "--patch", version)
    service = bound(cluster)
    await until(lambda: platform.releases(service), lambda found: len(found) == 2 and found[0].current)

    newest, before = await platform.releases(service)

    assert newest.name == f"{cluster.image} version 1.4.2 revision 2 (ticket 7)"
    assert newest.deployed_by.startswith("kubectl") and newest.created_at is not None
    assert before.name == f"{cluster.image} revision 1 (ticket 7)" and before.deployed_by == ""


@real
@pytest.mark.promise(8)
async def test_a_paused_rollout_is_left_to_a_person(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A rollback and a restart are refused; the error names who paused the rollout, and the template does not
    change."""
    await deployed(platform, cluster, "good", State.RUNNING)
    await deployed(platform, cluster, "bad", State.CRASH_LOOP)
    service, clients = bound(cluster), ClientSet(platforms={"kubernetes": platform})
    cluster.kubectl("rollout", "pause", "deployment/web")
    cluster.kubectl("set", "env", "deployment/web", "STAGED=yes")
    await until(lambda: platform.status(service), lambda seen: seen.facts["observed"])
    staged = cluster.get("deployment", "web")["spec"]["template"]
    status, (_, old) = await platform.status(service), await platform.releases(service)

    reason = await RollbackHistory(ServiceRollback(clients), service).refusal()
    with pytest.raises(TargetError, match="paused by kubectl-rollout at "):
        await ServiceRestart(clients).plan(service, RestartParameters())
    for call in (platform.rollback(service, status.pin, old.id), platform.restart(service, status.pin, 1)):
        with pytest.raises(TargetError, match="paused; nothing was changed"):
            await call

    assert "is paused by kubectl-rollout at " in reason and "kubectl rollout resume deployment/web" in reason
    assert status.facts["paused"] is True and "is paused by kubectl-rollout" in status.summary
    assert cluster.get("deployment", "web")["spec"]["template"] == staged


@real
@pytest.mark.promise(7)
async def test_a_restarted_container_has_another_identity(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """After a restart, ``lives`` has another value for the instance. The container runs for some seconds each time."""
    cluster.deploy("web", "sleep 4; exit 1")
    service = bound(cluster)
    first = await until_state(platform, service, State.RUNNING)
    (instance,) = first.lives

    again = await until(
        lambda: platform.status(service), lambda seen: seen.lives.get(instance) != first.lives[instance]
    )

    assert set(again.lives) == {instance}
