"""Real faults of an app in pods, on a Kubernetes cluster (KUBECONFIG)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from demo.judge.engine import DIES, IMAGE, LACKS_MODULE, SECONDS, SERVE, let_be_app, must, own_name, run
from demo.judge.scene import Scene

_BAD_IMAGE = "registry.invalid/app:2"


def needed(_: Scene) -> str | None:
    """Return the requirements that are missing for the cluster of KUBECONFIG."""
    if run("kubectl", "version", "--request-timeout=10s").returncode:
        return f"a cluster that answers by {os.environ['KUBECONFIG']}"
    return None


def app_in_pods(scene: Scene) -> None:
    """Make a Deployment of two pods the app, and wait until both are ready."""
    namespace = own_name(scene)
    _namespace(scene, namespace)
    _apply(_deployment(namespace, SERVE))
    must("kubectl", "rollout", "status", "deployment/app", f"--namespace={namespace}", f"--timeout={SECONDS:g}s")
    let_be_app(
        scene,
        {
            "kind": "kubernetes",
            "namespace": namespace,
            "deployment": "app",
            "kubeconfig": os.environ["KUBECONFIG"],
        },
    )


def lacks_module(scene: Scene) -> None:
    """Roll out a release that ends at its start, because a module is missing."""
    _apply(_deployment(own_name(scene), LACKS_MODULE))
    _fire_after_crashes(scene, own_name(scene))


def three_bad_releases(scene: Scene) -> None:
    """Roll out a bad release, wait for its rollback and the end of its incident, and roll out the next one."""
    namespace = own_name(scene)
    for version in ("1.1", "1.2", "1.3"):
        _apply(_deployment(namespace, f"echo release {version}; {LACKS_MODULE}"))
        crashing = _fire_after_crashes(scene, namespace)
        if version != "1.3":
            scene.wait(lambda: serves_first_release(scene), f"the rollback of {version}", 150)
            scene.resolve("AppCrashLoopBackOff", **crashing)
            scene.wait(lambda: scene.probe.at_rest("AppCrashLoopBackOff"), f"the end of the incident of {version}", 150)


def dies_after_six_seconds(scene: Scene) -> None:
    """Roll out a release that starts, and ends six seconds later, after each restart."""
    _apply(_deployment(own_name(scene), DIES))
    _fire_after_crashes(scene, own_name(scene))


def out_of_memory(scene: Scene) -> None:
    """Make a pod need more memory than it has, so that the kernel kills its container repeatedly."""
    namespace = own_name(scene)
    for pod in _pods(namespace):
        _kubectl(scene, "exec", pod["metadata"]["name"], "--", "touch", "/tmp/leak")
    _fire_after_crashes(scene, namespace)


def other_crashes(scene: Scene) -> None:
    """Make a container named app crash repeatedly in another namespace."""
    namespace = f"{own_name(scene)}-other"
    _namespace(scene, namespace)
    _apply(_deployment(namespace, "echo no prices; exit 3"))
    _fire_after_crashes(scene, namespace)


def image_not_pulled(scene: Scene) -> None:
    """Roll out a release whose registry does not exist."""
    namespace = own_name(scene)
    _kubectl(scene, "set", "image", "deployment/app", f"app={_BAD_IMAGE}")
    _until_waiting(scene, namespace, "ErrImagePull", "ImagePullBackOff")
    _rollout_failed(scene)


def not_scheduled(scene: Scene) -> None:
    """Roll out a release that requires a node that does not exist."""
    where = {"spec": {"template": {"spec": {"nodeSelector": {"example.com/disk": "none"}}}}}
    _kubectl(scene, "patch", "deployment", "app", "--patch", json.dumps(where))
    scene.wait(lambda: any(map(_unscheduled, _pods(own_name(scene)))), "a pod that no node takes", SECONDS)
    _rollout_failed(scene)


def paused(scene: Scene) -> None:
    """Pause the rollout as a person does, and stage another image."""
    _kubectl(scene, "rollout", "pause", "deployment/app")
    _kubectl(scene, "set", "image", "deployment/app", f"app={_BAD_IMAGE}")
    _rollout_failed(scene)


def serves_first_release(scene: Scene) -> str | None:
    """Return proof that two pods of the first template are available, and no other pod is left."""
    found = _deployed(scene)
    container = found["spec"]["template"]["spec"]["containers"][0]
    first = (container["image"], container["command"][-1]) == (IMAGE, SERVE)
    status = found["status"]
    counts = {status.get(name) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    return "two pods of the first release are available, and no other" if first and counts == {2} else None


def scaled(scene: Scene) -> str | None:
    """Return a sentence if the Deployment has another number of replicas."""
    wanted = _deployed(scene)["spec"]["replicas"]
    return None if wanted == 2 else f"the Deployment was scaled to {wanted}"


def deployment_touched(scene: Scene) -> str | None:
    """Return a sentence if the Deployment was changed after the fault."""
    if _deployed(scene)["metadata"]["generation"] == scene.noted["generation"]:
        return None
    return "the Deployment was changed after the fault"


def _rollout_failed(scene: Scene) -> None:
    _note_generation(scene)
    scene.fire(
        "DeploymentFailed",
        service="app",
        namespace=own_name(scene),
        deployment="app",
        condition="Progressing",
        status="false",
    )


def _fire_after_crashes(scene: Scene, namespace: str) -> dict[str, str]:
    """Wait for a container in back-off after its crashes, and fire as its alert rule does. Return the labels."""
    seen: list[str] = []

    def waits() -> bool:
        seen[:] = _looping(namespace)
        return bool(seen)

    scene.wait(waits, "a container that waits: CrashLoopBackOff", SECONDS)
    _note_generation(scene)
    labels = {
        "service": "app",
        "platform": "kubernetes",
        "namespace": namespace,
        "pod": seen[0],
        "container": "app",
        "reason": "CrashLoopBackOff",
    }
    scene.fire("AppCrashLoopBackOff", 600, **labels)
    return labels


def _looping(namespace: str) -> list[str]:
    """Return the names of the pods with a container in a crash loop."""
    return [pod["metadata"]["name"] for pod in _pods(namespace) if "CrashLoopBackOff" in _reasons(pod)]


def _note_generation(scene: Scene) -> None:
    scene.noted["generation"] = _deployed(scene)["metadata"]["generation"]


def _deployment(namespace: str, command: str) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", command],
        "resources": {"limits": {"memory": "32Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "terminationGracePeriodSeconds": 0,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 60,
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}, "spec": pod},
        },
    }


def _namespace(scene: Scene, name: str) -> None:
    scene.cleanup.callback(run, "kubectl", "delete", "namespace", name, "--wait=false", "--ignore-not-found")
    must("kubectl", "create", "namespace", name)


def _until_waiting(scene: Scene, namespace: str, *reasons: str) -> None:
    def waits() -> bool:
        return any(_reasons(pod) & set(reasons) for pod in _pods(namespace))

    scene.wait(waits, f"a container that waits: {reasons[0]}", SECONDS)


def _reasons(pod: Mapping[str, Any]) -> set[str]:
    """Return the reasons why containers of a pod wait."""
    states = [each["state"] for each in pod["status"].get("containerStatuses", ())]
    return {state["waiting"].get("reason", "") for state in states if "waiting" in state}


def _unscheduled(pod: Mapping[str, Any]) -> bool:
    return any(each.get("reason") == "Unschedulable" for each in pod["status"].get("conditions", ()))


def _pods(namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(must("kubectl", "get", "pods", f"--namespace={namespace}", "-o", "json"))[
        "items"
    ]
    return found


def _deployed(scene: Scene) -> Any:
    return json.loads(_kubectl(scene, "get", "deployment", "app", "-o", "json"))


def _kubectl(scene: Scene, *arguments: str) -> str:
    return must("kubectl", f"--namespace={own_name(scene)}", *arguments)


def _apply(document: Mapping[str, Any]) -> None:
    must("kubectl", "apply", "--filename=-", given=json.dumps(document))
