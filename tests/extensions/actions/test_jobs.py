"""Jobs on a real cluster: each Job is created once from a manifest of the inventory, and its logs are evidence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.clients.kubernetes.client import KubernetesRefused
from remediator.clients.kubernetes.jobs import job_name
from remediator.core.outcome import Outcome
from remediator.errors import TargetError
from remediator.extensions.actions.base import RUN, STEP, EffectStatus, Result
from remediator.extensions.actions.job_run import JobRun
from remediator.extensions.actions.job_wait import JobWait
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.playbooks.inventory import Inventory, Service
from tests.support.action_runner import do, observe, plan
from tests.support.servers import cluster_controllers
from tests.support.servers.kubernetes import Cluster

real = pytest.mark.kubernetes


@pytest.fixture(scope="module")
def job_controller() -> Iterator[None]:
    """Start a Job controller if the cluster has none."""
    if "KUBECONFIG" not in os.environ:
        pytest.skip("needs a Kubernetes cluster: set KUBECONFIG")
    with cluster_controllers.running(Path(os.environ["KUBECONFIG"])):
        yield


PLATFORMS: list[KubernetesPlatform] = []


@pytest.fixture(autouse=True)
async def _in_a_run() -> AsyncIterator[None]:
    """Close the connections after the test."""
    yield
    while PLATFORMS:
        await PLATFORMS.pop().aclose()


def manifest(folder: Path, image: str, command: str, policy: str = "Never", **spec: Any) -> Path:
    """Return the manifest of a Job that runs a shell command."""
    container = {"name": "main", "image": image, "imagePullPolicy": policy, "command": ["/bin/sh", "-c", command]}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    body = {"backoffLimit": 0, "template": {"spec": pod}, **spec}
    path = folder / "job.yaml"
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "ignored", "labels": {"a": "b"}}, "spec": body}
    path.write_text(yaml.safe_dump(job))
    return path


def shop(cluster: Cluster, path: Path, **template: Any) -> Service:
    """Return a service with one allowed Job."""
    where = {"kind": "kubernetes", "namespace": cluster.namespace, "kubeconfig": str(cluster.kubeconfig)}
    jobs = {"reindex": {"manifest": str(path), **template}}
    return Service.model_validate({"name": "shop", "platform": {**where, "deployment": "shop"}, "jobs": jobs})


def actions(service: Service) -> tuple[JobRun, JobWait]:
    """Return both Job actions for this service, in a step of a run."""
    RUN.set("run-01hq2v9r3kx5n8w7c")
    STEP.set("reindex")
    inventory = Inventory(apiVersion="remediator/v1", kind="Inventory", services={"shop": service})
    PLATFORMS.append(KubernetesPlatform())
    clients = ClientSet(platforms={"kubernetes": PLATFORMS[-1]}, inventory=lambda: inventory)
    return JobRun(clients), JobWait(clients)


async def ended(wait: JobWait, service: Service) -> Result:
    """Call the wait action until it does not ask for another call."""
    async with asyncio.timeout(150):
        while (result := await do(wait, service, job="reindex")).poll is not None:
            await asyncio.sleep(0.3)
    return result


@real
async def test_a_job_runs_with_its_values_and_its_logs_are_evidence(
    cluster: Cluster, job_controller: None, tmp_path: Path
) -> None:
    """The plan creates nothing. The Job has its name, labels and limits; values are environment variables, never part
    of a command."""
    path = manifest(tmp_path, cluster.image, 'echo "table=$TABLE"; echo done')
    service = shop(cluster, path, values={"TABLE": "[a-z; $()]+"}, timeout="5m", destructive=False, interrupts=False)
    run, wait = actions(service)
    values = {"TABLE": "orders; $(id)"}
    call = await plan(run, service, job="reindex", values=values)
    assert call.text == (
        f"Kubernetes, namespace {cluster.namespace}: create the Job reindex with TABLE=orders; $(id), "
        "which may run for 5m"
    )
    assert cluster.get("jobs")["items"] == [] and call.risk is None
    assert (await observe(run, service, call, job="reindex", values=values)).happened is EffectStatus.NO
    result = await do(run, service, call=call, job="reindex", values=values)
    assert result.outcome is Outcome.OK
    job = cluster.get("job", result.output["job"])
    assert job["metadata"]["labels"] == {"a": "b", "remediator.run": RUN.get(), "remediator.job": "reindex"}
    assert (job["spec"]["activeDeadlineSeconds"], job["spec"].get("ttlSecondsAfterFinished", 86400)) == (300, 86400)
    done = await ended(wait, service)
    assert done.outcome is Outcome.OK and done.output["state"] == "complete", done.summary
    assert "table=orders; $(id)\ndone" in done.output["logs"] and "/main]" in done.output["logs"]
    seen = await observe(run, service, call, job="reindex", values=values)
    assert seen.happened is EffectStatus.YES and seen.facts["state"] == "complete"


@real
async def test_a_job_is_never_created_twice(cluster: Cluster, tmp_path: Path) -> None:
    """A second attempt after a crash or a lost answer creates no other Job; an existing Job that the run did not create
    is refused."""
    path = manifest(tmp_path, cluster.image, "true")
    service = shop(cluster, path)
    run, _ = actions(service)
    call = await plan(run, service, job="reindex")
    first = await do(run, service, call=call, job="reindex")
    again = await do(run, service, call=call, job="reindex")
    assert first.output == again.output and again.outcome is Outcome.OK
    assert len(cluster.get("jobs")["items"]) == 1
    STEP.set("another")
    taken = job_name("reindex", RUN.get(), "another")
    foreign = yaml.safe_load(path.read_text())
    foreign["metadata"] = {"name": taken}
    cluster.apply(foreign)
    with pytest.raises(TargetError, match="this run did not create it; nothing was created"):
        await do(run, service, call=call, job="reindex")
    assert (await observe(run, service, call, job="reindex")).happened is EffectStatus.UNKNOWN
    RUN.set("run-another")
    STEP.set("reindex")
    await do(run, service, call=call, job="reindex")
    assert len(cluster.get("jobs")["items"]) == 3


@real
async def test_a_job_that_fails_shows_why(cluster: Cluster, job_controller: None, tmp_path: Path) -> None:
    """The result has the last line of the log and the reason from Kubernetes, also if the Job exceeded its time
    limit."""
    path = manifest(tmp_path, cluster.image, "echo cannot connect to db; exit 3")
    service = shop(cluster, path)
    run, wait = actions(service)
    assert (await do(wait, service, job="reindex")).output["state"] == "missing"
    await do(run, service, job="reindex")
    failed = await ended(wait, service)
    assert failed.outcome is Outcome.FAILED and failed.output["state"] == "failed"
    assert "BackoffLimitExceeded" in failed.summary and "cannot connect to db" in failed.output["logs"]
    RUN.set("run-slow")
    slow = shop(cluster, manifest(tmp_path, cluster.image, "sleep 600"), timeout="2s")
    await do(run, slow, job="reindex")
    stopped = await ended(wait, slow)
    assert "DeadlineExceeded" in stopped.summary


@real
async def test_what_the_server_would_refuse_is_found_before_a_person_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    """The plan sends a dry run to the API server, so an invalid Job fails before the approval."""
    path = manifest(tmp_path, cluster.image, "true", completions=-1)
    run, _ = actions(shop(cluster, path))
    with pytest.raises(KubernetesRefused, match="Invalid"):
        await plan(run, shop(cluster, path), job="reindex")


@real
async def test_a_manifest_that_changed_after_planning_is_not_run(cluster: Cluster, tmp_path: Path) -> None:
    """The Job is refused if its manifest changed after planning, or if the inventory declares more harm than before."""
    service = shop(cluster, manifest(tmp_path, cluster.image, "true"))
    run, _ = actions(service)
    call = await plan(run, service, job="reindex")
    harmless = shop(cluster, tmp_path / "job.yaml", destructive=False)
    with pytest.raises(TargetError, match="was changed after planning"):
        await do(run, harmless, call=call, job="reindex")
    manifest(tmp_path, cluster.image, "rm -rf /")
    with pytest.raises(TargetError, match="was changed after planning"):
        await do(run, service, call=call, job="reindex")
    assert cluster.get("jobs")["items"] == []


@real
async def test_missing_rights_are_named_before_a_plan(cluster: Cluster, tmp_path: Path) -> None:
    """If the account may not create Jobs, the plan fails and names the missing rights."""
    token = cluster.account("little", {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{**each, "user": {"token": token}} for each in config["users"]]
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    service = shop(cluster, manifest(tmp_path, cluster.image, "true"))
    platform = service.platform.model_copy(update={"kubeconfig": tmp_path / "config"})
    service = service.model_copy(update={"platform": platform})
    run, wait = actions(service)
    with pytest.raises(TargetError, match="no right to create jobs, get jobs"):
        await plan(run, service, job="reindex")
    with pytest.raises(TargetError, match="no right to list jobs, get pods"):
        await plan(wait, service, job="reindex")


FAR = {"kind": "kubernetes", "namespace": "shop", "deployment": "shop"}


def far(path: Path, **template: Any) -> Service:
    """Return a service whose cluster gets no request."""
    jobs = {"reindex": {"manifest": str(path), **template}}
    return Service.model_validate({"name": "shop", "platform": FAR, "jobs": jobs})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"job": "reindx"}, "does not allow the Job 'reindx' for shop; did you mean 'reindex'"),
        ({"job": "reindex"}, "needs exactly these values: TABLE"),
        ({"job": "reindex", "values": {"TABLE": "a", "PATH": "/tmp"}}, "needs exactly these values: TABLE"),
        ({"job": "reindex", "values": {"TABLE": "Orders"}}, "TABLE: 'Orders' is not allowed: it must match"),
        ({"job": "reindex", "values": {"TABLE": "a\n"}}, "is not allowed"),
    ],
)
async def test_only_what_the_inventory_allows_is_run(given: Any, message: str, tmp_path: Path) -> None:
    """A Job or a value that the inventory does not allow is refused, because values can come from labels."""
    service = far(manifest(tmp_path, "none", "true"), values={"TABLE": "[a-z]+"})
    with pytest.raises(TargetError, match=message):
        await actions(service)[0].plan(service, JobRun.Parameters.model_validate(given))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the manifest .*job.yaml.: No such file"),
        (b"\xff", "not UTF-8"),
        (b"a: [", "cannot use the manifest .*job.yaml.: "),
        (b"kind: Job\n---\nkind: Job\n", "cannot use the manifest"),
        (b"apiVersion: v1\nkind: Pod\n", "it is not a Job"),
        (b"apiVersion: batch/v1\nkind: Job\n", "it has no containers"),
        (b"apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: {containers: []}}}\n", "it has no containers"),
        (b"apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: {containers: [a]}}}\n", "it has no containers"),
    ],
)
async def test_a_manifest_that_cannot_be_used_is_named(text: bytes | None, message: str, tmp_path: Path) -> None:
    """The error contains the path of the manifest and the problem."""
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_bytes(text)
    service = far(path)
    with pytest.raises(TargetError, match=message):
        await actions(service)[0].plan(service, JobRun.Parameters.model_validate({"job": "reindex"}))


def test_what_is_not_declared_is_assumed(tmp_path: Path) -> None:
    """A Job without a declaration counts as destructive and interrupting, so it needs an approval in every mode."""
    path = manifest(tmp_path, "none", "true")
    for service, expected in (
        (far(path), (True, True)),
        (far(path, destructive=False), (False, True)),
        (far(path, destructive=False, interrupts=False), (False, False)),
    ):
        traits = actions(service)[0].traits_for(JobRun.Parameters.model_validate({"job": "reindex"}))
        assert (traits.destructive, traits.interrupts) == expected
        unknown = actions(service)[0].traits_for(JobRun.Parameters.model_validate({"job": "other"}))
        assert unknown.destructive and unknown.interrupts


def test_names_are_stable_and_fit() -> None:
    """Every process computes the same Job name for a step of a run, within the maximum length of a label."""
    name = job_name("a" * 30, "run-1", "step")
    assert name == job_name("a" * 30, "run-1", "step") and len(name) <= 63
    assert len({name, job_name("a" * 30, "run-2", "step"), job_name("a" * 30, "run-1", "other")}) == 3


def test_jobs_need_a_namespace_to_run_in(tmp_path: Path) -> None:
    """A Job needs the namespace of its Kubernetes platform; other platforms are refused."""
    with pytest.raises(ValueError, match="a service on systemd cannot have jobs"):
        Service.model_validate(
            {
                "name": "x",
                "platform": {"kind": "systemd", "unit": "x.service"},
                "jobs": {"a": {"manifest": str(tmp_path / "a")}},
            }
        )
    with pytest.raises(ValueError, match="values"):
        far(tmp_path / "a", values={"A": "("})
