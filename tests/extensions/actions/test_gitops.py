"""Argo CD and Flux, by their custom resources on a real API server.

Failures of the API server come from a test server.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from remediator.clients.kubernetes.client import KubernetesRefused
from remediator.core.outcome import Outcome
from remediator.errors import BadAnswer, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.extensions.platforms.test_kubernetes import kubeconfig, server_of
from tests.support.action_runner import do, observe, plan, service, undo
from tests.support.fake_servers import hang_up, peer, reply, silence
from tests.support.servers.kubernetes import Cluster

real = pytest.mark.kubernetes
ACTIONS = Registry().make_actions(ClientSet())
PAUSE, RESUME, ROLLBACK = (ACTIONS[f"argocd.{verb}"] for verb in ("pause", "resume", "rollback"))
SUSPEND, HOLD, RELEASE = (ACTIONS[f"flux.{verb}"] for verb in ("suspend", "rollback", "release"))
NAMES = (
    "argocd.pause",
    "argocd.resume",
    "argocd.rollback",
    "flux.suspend",
    "flux.resume",
    "flux.rollback",
    "flux.release",
)
EACH = pytest.mark.parametrize("name", NAMES)
POLICY = {"prune": True, "selfHeal": True}
SOURCE = {"repoURL": "https://git.example/shop", "path": "deploy", "targetRevision": "main"}


def deployed(id_: int, revision: str) -> dict[str, Any]:
    """Return an entry of an Application's history."""
    return {"id": id_, "revision": revision, "source": SOURCE, "deployedAt": "2026-01-05T10:00:00Z"}


OLD, NEW = deployed(1, "a" * 40), deployed(2, "b" * 40)


def application(policy: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """Return an Application with two deployments; with a policy, it syncs automatically."""
    sync = {"syncOptions": ["CreateNamespace=true"], **({} if policy is None else {"automated": policy})}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "shop", **metadata},
        "spec": {"project": "default", "source": SOURCE, "destination": {"namespace": "shop"}, "syncPolicy": sync},
        "status": {"history": [OLD, NEW], "operationState": {"phase": "Succeeded", "operation": {"sync": {}}}},
    }


def flux(kind: str = "Kustomization", *, suspend: bool = False) -> dict[str, Any]:
    """Return the metadata and the status that Flux writes."""
    group = "kustomize.toolkit.fluxcd.io/v1" if kind == "Kustomization" else "helm.toolkit.fluxcd.io/v2"
    spec = {"interval": "5m", "suspend": suspend}
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "shop"}, "spec": spec}


GOOD, BAD, FIX = (f"main@sha1:{digit * 40}" for digit in "abc")
GOOD_DIGEST, BAD_DIGEST = (f"1.{n}@sha256:{n * 64}" for n in "12")


def snapshot(revision: str, status: str = "ReconciliationSucceeded") -> dict[str, Any]:
    """Return an entry of a Kustomization's history, as Flux writes it since 2.7."""
    return {"digest": f"sha256:{revision[-8:]}", "lastReconciledStatus": status, "metadata": {"revision": revision}}


def kustomization(*history: dict[str, Any], kind: str = "GitRepository", **status: Any) -> dict[str, Any]:
    """Return a reconciled Kustomization, with the newest entry first; by default, it went from GOOD to BAD."""
    made = flux()
    made["spec"]["sourceRef"] = {"kind": kind, "name": "shop"}
    history = history or (snapshot(BAD), snapshot(GOOD))
    now = history[0]["metadata"]["revision"]
    made["status"] = {"lastAttemptedRevision": now, "lastAppliedRevision": now, "history": [*history], **status}
    return made


def origin(kind: str = "GitRepository", **ref: str) -> dict[str, Any]:
    """Return the source from which Flux takes the manifests."""
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": kind,
        "metadata": {"name": "shop"},
        "spec": {"interval": "1m", "url": "https://git.example/shop", "ref": ref},
    }


def fitting(name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return objects on which the action is possible, and a change by another client to the field that the action
    changes."""
    match name:
        case "argocd.pause":
            return [application(POLICY)], {"spec": {"syncPolicy": {"automated": {"prune": False}}}}
        case "argocd.resume":
            return [application()], {"spec": {"syncPolicy": {"automated": {"prune": False}}}}
        case "argocd.rollback":
            return [application()], {"status": {"history": [OLD, NEW, deployed(3, "c" * 40)]}}
        case "flux.rollback":
            return [kustomization(), origin(branch="main")], {"spec": {"ref": {"branch": "other"}}}
        case "flux.release":
            return [kustomization(), origin(branch="main", commit="a" * 40)], {"spec": {"ref": {"commit": "c" * 40}}}
    return [flux(suspend=name == "flux.resume")], {"spec": {"suspend": name != "flux.resume"}}


def put(cluster: Cluster, *objects: dict[str, Any]) -> None:
    """Create the objects, and write their status afterwards as a controller does."""
    for each in objects:
        cluster.apply(each)
        if "status" in each and each["kind"] != "Application":
            status = json.dumps({"status": each["status"]})
            cluster.kubectl("patch", each["kind"], "shop", "--type=merge", "--subresource=status", f"--patch={status}")


def bound(cluster: Cluster, kind: str = "Kustomization", path: Path | None = None) -> Service:
    """Return the service that these objects deploy."""
    where = {"namespace": cluster.namespace, "kubeconfig": str(path or cluster.kubeconfig)}
    return service("app", argocd={"application": "shop", **where}, flux={"kind": kind, "name": "shop", **where})


def shop(cluster: Cluster, kind: str = "applications.argoproj.io") -> Any:
    """Return the Application as the cluster has it."""
    return cluster.get(kind, "shop")


def changed(cluster: Cluster, kind: str, patch: dict[str, Any]) -> None:
    """Change the object as another client or a controller."""
    cluster.kubectl("patch", kind, "shop", "--type=merge", f"--patch={json.dumps(patch)}")


@real
async def test_an_application_is_paused_and_resumed_as_it_was(gitops: Cluster) -> None:
    """Pausing removes only the sync policy; the undo restores the recorded policy."""
    gitops.apply(application(POLICY))
    target = bound(gitops)
    call = await plan(PAUSE, target)
    assert (await observe(PAUSE, target, call)).happened is EffectStatus.NO
    result = await do(PAUSE, target, call=call)
    assert result.outcome is Outcome.OK
    assert shop(gitops)["spec"]["syncPolicy"] == {"syncOptions": ["CreateNamespace=true"]}
    assert (await observe(PAUSE, target, call)).happened is EffectStatus.YES
    with pytest.raises(TargetError, match="already paused"):
        await plan(PAUSE, target)

    await undo(PAUSE, ACTIONS, target, call, result)
    assert shop(gitops)["spec"]["syncPolicy"]["automated"] == POLICY
    with pytest.raises(TargetError, match="already"):
        await plan(RESUME, target)


@real
async def test_an_application_with_enabled_false_counts_as_paused(gitops: Cluster) -> None:
    """An Application with ``enabled: false`` counts as paused; the resume action removes this field."""
    gitops.apply(application({"enabled": False, **POLICY}))
    target = bound(gitops)
    with pytest.raises(TargetError, match="already paused"):
        await plan(PAUSE, target)
    await do(RESUME, target, automated={"prune": True})
    assert shop(gitops)["spec"]["syncPolicy"]["automated"] == {"prune": True}


@real
async def test_a_controller_that_may_revert_is_reported(gitops: Cluster) -> None:
    """A parent Application would undo the pause, so the plan warns the approver."""
    gitops.apply(
        application(POLICY, annotations={"argocd.argoproj.io/tracking-id": "root:argoproj.io/Application:x/y"})
    )
    assert "root created it and may revert the change at once" in str((await plan(PAUSE, bound(gitops))).risk)


@real
async def test_an_application_is_rolled_back_to_its_earlier_deployment(gitops: Cluster) -> None:
    """The operation has the recorded revision, source and options. An observation shows it also after the controller
    took it up."""
    gitops.apply(application())
    target = bound(gitops)
    call = await plan(ROLLBACK, target)
    assert (await observe(ROLLBACK, target, call)).happened is EffectStatus.NO
    result = await do(ROLLBACK, target, call=call)
    operation = shop(gitops)["operation"]
    assert operation["sync"] == {
        "revision": OLD["revision"],
        "source": SOURCE,
        "syncOptions": ["CreateNamespace=true"],
        "syncStrategy": {"apply": {}},
    }
    assert operation["initiatedBy"] == {"username": "remediator"}
    with pytest.raises(TargetError, match="another operation is in progress"):
        await do(ROLLBACK, target, call=call)

    again = deployed(3, OLD["revision"])
    state = {"history": [OLD, NEW, again], "operationState": {"phase": "Succeeded", "operation": operation}}
    changed(gitops, "applications.argoproj.io", {"operation": None, "status": state})
    assert (await observe(ROLLBACK, target, call)).happened is EffectStatus.YES
    with pytest.raises(TargetError, match="is already the result of a rollback"):
        await plan(ROLLBACK, target)
    await undo(ROLLBACK, ACTIONS, target, call, result)
    assert shop(gitops)["operation"]["sync"]["revision"] == NEW["revision"]


@real
async def test_an_application_that_syncs_automatically_is_not_rolled_back(gitops: Cluster) -> None:
    """The plan requires a pause first; after the pause, the same action is accepted."""
    gitops.apply(application(POLICY))
    target = bound(gitops)
    call = await plan(ROLLBACK, target)
    assert "an earlier step must pause it" in str(call.measurement)
    with pytest.raises(TargetError, match="pause it first"):
        await do(ROLLBACK, target, call=call)
    await do(PAUSE, target)
    assert (await plan(ROLLBACK, target)).comparable().arguments == call.comparable().arguments
    assert (await do(ROLLBACK, target, call=call)).outcome is Outcome.OK


@real
@pytest.mark.parametrize("kind", ["Kustomization", "HelmRelease"])
async def test_flux_is_suspended_and_resumed(gitops: Cluster, kind: str) -> None:
    """``flux.suspend`` and ``flux.resume`` change only the field ``suspend``."""
    gitops.apply(flux(kind))
    target = bound(gitops, kind)
    call = await plan(SUSPEND, target)
    assert (await observe(SUSPEND, target, call)).happened is EffectStatus.NO
    result = await do(SUSPEND, target, call=call)
    assert shop(gitops, kind.lower())["spec"]["suspend"] is True
    assert (await observe(SUSPEND, target, call)).happened is EffectStatus.YES
    await undo(SUSPEND, ACTIONS, target, call, result)
    assert shop(gitops, kind.lower())["spec"] == {"interval": "5m", "suspend": False}


@real
@pytest.mark.parametrize(
    ("kind", "history", "before", "held"),
    [
        ("GitRepository", (snapshot(BAD), snapshot(GOOD)), {"branch": "main"}, {"commit": "a" * 40}),
        ("GitRepository", (snapshot(BAD, "HealthCheckFailed"), snapshot(GOOD)), {}, {"commit": "a" * 40}),
        (
            "OCIRepository",
            (snapshot(BAD_DIGEST), snapshot(GOOD_DIGEST)),
            {"tag": "1"},
            {"digest": "sha256:" + "1" * 64},
        ),
    ],
)
async def test_flux_is_rolled_back_and_follows_again(
    kind: str, history: tuple[dict[str, Any], ...], before: dict[str, str], held: dict[str, str], gitops: Cluster
) -> None:
    """The rollback pins the source to the earlier revision and keeps the rest of its reference; the undo removes the
    pin."""
    put(gitops, kustomization(*history, kind=kind), origin(kind, **before))
    target = bound(gitops)
    call = await plan(HOLD, target)
    assert (await observe(HOLD, target, call)).happened is EffectStatus.NO
    result = await do(HOLD, target, call=call)
    assert shop(gitops, kind)["spec"]["ref"] == {**before, **held}
    assert (await observe(HOLD, target, call)).happened is EffectStatus.YES
    with pytest.raises(TargetError, match="is already held at"):
        await plan(HOLD, target)

    await undo(HOLD, ACTIONS, target, call, result)
    assert shop(gitops, kind)["spec"].get("ref", {}) == before
    with pytest.raises(TargetError, match="is not held at a revision"):
        await plan(RELEASE, target)


@real
async def test_a_named_revision_is_deployed_and_the_undo_restores_the_earlier_one(gitops: Cluster) -> None:
    """The revision can be named in full or by its commit; a revision that was never applied successfully is refused."""
    put(
        gitops,
        kustomization(snapshot(BAD), snapshot(FIX, "HealthCheckFailed"), snapshot(GOOD)),
        origin(commit="b" * 40),
    )
    target = bound(gitops)
    with pytest.raises(TargetError, match=f"was not applied or is deployed now; other revisions: {GOOD}"):
        await plan(HOLD, target, to=FIX)
    call = await plan(HOLD, target, to="a" * 40)
    assert call.comparable() == (await plan(HOLD, target, to=GOOD)).comparable()
    result = await do(HOLD, target, call=call)
    assert shop(gitops, "gitrepository")["spec"]["ref"] == {"commit": "a" * 40}
    await undo(HOLD, ACTIONS, target, call, result)
    assert shop(gitops, "gitrepository")["spec"]["ref"] == {"commit": "b" * 40}


@real
async def test_an_older_flux_records_only_the_failed_revision(gitops: Cluster) -> None:
    """Without a history, the last applied revision is the target; if it is deployed already, there is no target."""
    put(gitops, kustomization(lastAppliedRevision=GOOD, history=[]), origin(branch="main"))
    assert (await plan(HOLD, bound(gitops))).arguments["revision"] == GOOD
    put(gitops, kustomization(history=[]))
    with pytest.raises(TargetError, match="no other revision was applied before"):
        await plan(HOLD, bound(gitops))


@real
async def test_flux_that_would_deploy_nothing_is_not_rolled_back(gitops: Cluster) -> None:
    """A rollback is refused if Flux is suspended before or after planning, if the kind has no history, or if the source
    is not supported."""
    put(gitops, kustomization(), origin(branch="main"))
    target = bound(gitops)
    call = await plan(HOLD, target)
    await do(SUSPEND, target)
    with pytest.raises(TargetError, match="is suspended"):
        await do(HOLD, target, call=call)
    with pytest.raises(TargetError, match="is suspended"):
        await plan(HOLD, target)
    put(gitops, flux("HelmRelease"), kustomization(kind="Bucket"))
    with pytest.raises(TargetError, match="only a Kustomization"):
        await plan(HOLD, bound(gitops, "HelmRelease"))
    with pytest.raises(TargetError, match="unsupported source kind Bucket"):
        await plan(HOLD, target)


@real
async def test_a_commit_after_planning_is_not_rolled_back(gitops: Cluster) -> None:
    """The rollback is refused after a new commit, because the commit may be the fix."""
    put(gitops, kustomization(), origin(branch="main"))
    target = bound(gitops)
    call = await plan(HOLD, target)
    put(gitops, kustomization(snapshot(FIX), snapshot(BAD), snapshot(GOOD)))
    with pytest.raises(TargetError, match="was modified after planning"):
        await do(HOLD, target, call=call)
    assert shop(gitops, "gitrepository")["spec"]["ref"] == {"branch": "main"}


@real
@EACH
async def test_a_change_after_planning_is_refused(name: str, gitops: Cluster) -> None:
    """If another client changed the object after planning, the action is refused and overwrites nothing."""
    made, meanwhile = fitting(name)
    put(gitops, *made)
    target = bound(gitops)
    call = await plan(ACTIONS[name], target)
    kind = "applications.argoproj.io" if name.startswith("argocd") else made[-1]["kind"]
    changed(gitops, kind, meanwhile)
    before = shop(gitops, kind)
    with pytest.raises(TargetError):
        await do(ACTIONS[name], target, call=call)
    assert shop(gitops, kind) == before


@real
@EACH
async def test_an_account_that_may_only_read_changes_nothing(name: str, gitops: Cluster, tmp_path: Path) -> None:
    """A read-only account can observe; the API server refuses the change."""
    put(gitops, *fitting(name)[0])
    groups = ["argoproj.io", "kustomize.toolkit.fluxcd.io", "source.toolkit.fluxcd.io"]
    token = gitops.account("reader", {"apiGroups": groups, "resources": ["*"], "verbs": ["get"]})
    target = bound(gitops, path=kubeconfig(tmp_path, server_of(gitops), token=token))
    call = await plan(ACTIONS[name], target)
    with pytest.raises(KubernetesRefused, match="Forbidden"):
        await do(ACTIONS[name], target, call=call)


@real
@EACH
async def test_what_is_not_there_is_missing(name: str, gitops: Cluster) -> None:
    """The error reports a missing object or a missing inventory entry."""
    with pytest.raises(TargetError, match="correct the inventory"):
        await plan(ACTIONS[name], bound(gitops))
    with pytest.raises(TargetError, match=r"has no '(argocd|flux)' in the inventory"):
        await plan(ACTIONS[name], service("app"))


def far(folder: Path, url: str, **more: Any) -> Service:
    """Return a service of a cluster whose API server fails."""
    where = {"namespace": "n", "kubeconfig": str(kubeconfig(folder, url)), **more}
    return service(
        "app", argocd={"application": "shop", **where}, flux={"kind": "Kustomization", "name": "shop", **where}
    )


@EACH
async def test_no_server_no_answer_and_invalid_answers(name: str, tmp_path: Path) -> None:
    """An unreachable server, a missing answer and an invalid answer have different errors."""
    with pytest.raises(Unreachable):
        await plan(ACTIONS[name], far(tmp_path, "http://127.0.0.1:9"))
    for script, error in ((silence, TimedOut), (reply(200, b"<html>"), BadAnswer), (reply(200, b"{}"), BadAnswer)):
        async with peer(script) as server:
            with pytest.raises(error):
                await plan(ACTIONS[name], far(tmp_path, server.url, timeout="300ms"))


@EACH
async def test_a_lost_answer_is_observed_as_done(name: str, tmp_path: Path) -> None:
    """The API server accepts the patch and the answer is lost: the outcome is unknown, and an observation shows the
    effect."""
    made = fitting(name)[0]
    for each in made:
        each["metadata"] |= {"uid": "u", "resourceVersion": "7"}
    patched: list[dict[str, Any]] = []

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        plural = request.split(b" ")[1].split(b"/")[-2].decode()
        meant = next((each for each in made if each["kind"].lower()[:-1] in plural), made[-1])
        if request.startswith(b"PATCH"):
            assert meant is made[-1]
            patched.append(json.loads(request.partition(b"\r\n\r\n")[2]))
            _merge(meant, patched[-1])
            await hang_up(request, writer)
            return
        await reply(200, json.dumps(meant).encode(), "connection: close")(request, writer)

    async with peer(script) as server:
        target = far(tmp_path, server.url)
        call = await plan(ACTIONS[name], target)
        with pytest.raises(TimedOut):
            await do(ACTIONS[name], target, call=call)
        assert (await observe(ACTIONS[name], target, call)).happened is EffectStatus.YES
    assert len(patched) == 1 and patched[0]["metadata"] == {"resourceVersion": "7"}


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value
