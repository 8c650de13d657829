"""Faults of an app in containers, made on a real Docker Engine (DOCKER_HOST) or Kubernetes cluster (KUBECONFIG).

The local stack runs as always. Only the service ``app`` of its inventory is another one: containers or a Deployment of
busybox, under a name of this row's own, removed after it. Alerts carry the labels that ``alerting/rules.yml`` gives.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from typing import Any

from demo.judge.scene import Scene
from demo.stack.settings import StackError

IMAGE = "busybox:1"
_NO_IMAGE = f"the image {IMAGE} on the engine: run 'make images', or pull it"
_SERVE = "while [ ! -e /tmp/leak ]; do sleep 0.5; done; exec tail /dev/zero"
"""Serves until a file exists; then needs more memory until it is killed, also after each restart."""
_COMPOSE = "com.docker.compose."
_SECONDS = 90.0


# -- what is needed


def needs_docker(_: Scene) -> str | None:
    """Return what is missing on the Engine of DOCKER_HOST."""
    if _run("docker", "version").returncode:
        return f"a Docker Engine that answers at {os.environ['DOCKER_HOST']}"
    return _NO_IMAGE if _run("docker", "image", "inspect", IMAGE).returncode else None


def needs_kubernetes(_: Scene) -> str | None:
    """Return what is missing to use the cluster of KUBECONFIG."""
    if _run("kubectl", "version", "--request-timeout=10s").returncode:
        return f"a cluster that answers by {os.environ['KUBECONFIG']}"
    return None


# -- containers


def app_in_containers(scene: Scene) -> None:
    """Let a container with little memory be the app, and wait until it runs."""
    project = _name(scene)
    scene.noted["app"] = _container(scene, project, "--memory=32m", "--memory-swap=32m", command=_SERVE)
    _let_be_app(scene, {"kind": "docker", "url": os.environ["DOCKER_HOST"], "project": project})
    scene.noted["begun"] = _inspect(scene.noted["app"], "{{.State.StartedAt}}")


def other_container_crashes(scene: Scene) -> None:
    """Let a container of a Compose service that is named app as well crash again and again, in another project."""
    project = f"{_name(scene)}-other"
    other = _container(scene, project, command="echo no prices; exit 3")
    scene.wait(lambda: int(_inspect(other, "{{.RestartCount}}")) >= 3, "three crashes", _SECONDS)
    _fire_of_container(scene, project, other)


def out_of_memory(scene: Scene) -> None:
    """Let the app need more memory than it has, until the kernel kills it, again and again."""
    app = scene.noted["app"]
    _must("docker", "exec", app, "touch", "/tmp/leak")
    scene.wait(lambda: int(_inspect(app, "{{.RestartCount}}")) >= 3, "three kills", _SECONDS)
    scene.wait(lambda: _inspect(app, "{{.State.OOMKilled}}") == "true", "a container that was killed", _SECONDS)
    _fire_of_container(scene, _name(scene), app)


def container_touched(scene: Scene) -> str | None:
    """Return a sentence if the healthy container is not as it was."""
    if _inspect(scene.noted["app"], "{{.State.StartedAt}}") == scene.noted["begun"]:
        return None
    return "the healthy app was restarted or replaced"


def _container(scene: Scene, project: str, *flags: str, command: str) -> str:
    labels = {"project": project, "service": "app", "container-number": "1", "oneoff": "False"}
    marks = [f"--label={_COMPOSE}{name}={value}" for name, value in labels.items()]
    name = f"{project}_app_1"
    scene.cleanup.callback(_run, "docker", "rm", "--force", "--volumes", name)
    return _must(
        "docker", "run", "--detach", "--restart=always", "--stop-signal=KILL", f"--name={name}", *marks, *flags, IMAGE,
        *("sh", "-c", command),
    )  # fmt: skip


def _fire_of_container(scene: Scene, project: str, container: str) -> None:
    scene.fire(
        "AppCrashLoopBackOff",
        service="app",
        platform="docker",
        name=_inspect(container, "{{.Name}}").lstrip("/"),
        container_label_com_docker_compose_project=project,
        container_label_com_docker_compose_service="app",
    )


def _inspect(container: str, template: str) -> str:
    return _must("docker", "inspect", "--format", template, container)


# -- pods


def app_in_pods(scene: Scene) -> None:
    """Let a Deployment of two pods be the app, and wait until both are ready."""
    namespace = _name(scene)
    _namespace(scene, namespace)
    _apply(_deployment(namespace, _SERVE))
    _must("kubectl", "rollout", "status", "deployment/app", f"--namespace={namespace}", f"--timeout={_SECONDS:g}s")
    _let_be_app(
        scene,
        {
            "kind": "kubernetes",
            "namespace": namespace,
            "deployment": "app",
            "kubeconfig": os.environ["KUBECONFIG"],
        },
    )


def other_pod_crashes(scene: Scene) -> None:
    """Let a container that is named app as well crash again and again, in another namespace."""
    namespace = f"{_name(scene)}-other"
    _namespace(scene, namespace)
    _apply(_deployment(namespace, "echo no prices; exit 3"))
    _until_waiting(scene, namespace, "CrashLoopBackOff")
    _note_generation(scene)
    (pod, *_) = _pods(namespace)
    scene.fire(
        "AppCrashLoopBackOff",
        service="app",
        platform="kubernetes",
        namespace=namespace,
        pod=pod["metadata"]["name"],
        container="app",
        reason="CrashLoopBackOff",
    )


def image_not_pulled(scene: Scene) -> None:
    """Roll out a release whose registry does not exist."""
    namespace = _name(scene)
    _kubectl(scene, "set", "image", "deployment/app", "app=registry.invalid/app:2")
    _until_waiting(scene, namespace, "ErrImagePull", "ImagePullBackOff")
    _rollout_failed(scene)


def not_scheduled(scene: Scene) -> None:
    """Roll out a release that wants a node which does not exist."""
    where = {"spec": {"template": {"spec": {"nodeSelector": {"example.com/disk": "none"}}}}}
    _kubectl(scene, "patch", "deployment", "app", "--patch", json.dumps(where))
    scene.wait(lambda: any(map(_unscheduled, _pods(_name(scene)))), "a pod that no node takes", _SECONDS)
    _rollout_failed(scene)


def paused(scene: Scene) -> None:
    """Pause the rollout as a person does, and stage another image."""
    _kubectl(scene, "rollout", "pause", "deployment/app")
    _kubectl(scene, "set", "image", "deployment/app", "app=registry.invalid/app:2")
    _rollout_failed(scene)


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
        namespace=_name(scene),
        deployment="app",
        condition="Progressing",
        status="false",
    )


def _note_generation(scene: Scene) -> None:
    scene.noted["generation"] = _deployed(scene)["metadata"]["generation"]


def _deployment(namespace: str, command: str) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", command],
    }
    pod = {"terminationGracePeriodSeconds": 0, "enableServiceLinks": False, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 10,
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}, "spec": pod},
        },
    }


def _namespace(scene: Scene, name: str) -> None:
    scene.cleanup.callback(_run, "kubectl", "delete", "namespace", name, "--wait=false", "--ignore-not-found")
    _must("kubectl", "create", "namespace", name)


def _until_waiting(scene: Scene, namespace: str, *reasons: str) -> None:
    scene.wait(lambda: _waiting(namespace) & set(reasons), f"a container that waits: {reasons[0]}", _SECONDS)


def _waiting(namespace: str) -> set[str]:
    """Return why containers of a namespace wait."""
    states = [each["state"] for pod in _pods(namespace) for each in pod["status"].get("containerStatuses", ())]
    return {state["waiting"].get("reason", "") for state in states if "waiting" in state}


def _unscheduled(pod: Mapping[str, Any]) -> bool:
    return any(each.get("reason") == "Unschedulable" for each in pod["status"].get("conditions", ()))


def _pods(namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_must("kubectl", "get", "pods", f"--namespace={namespace}", "-o", "json"))[
        "items"
    ]
    return found


def _deployed(scene: Scene) -> Any:
    return json.loads(_kubectl(scene, "get", "deployment", "app", "-o", "json"))


def _kubectl(scene: Scene, *arguments: str) -> str:
    return _must("kubectl", f"--namespace={_name(scene)}", *arguments)


def _apply(document: Mapping[str, Any]) -> None:
    _must("kubectl", "apply", "--filename=-", given=json.dumps(document))


# -- both


def _name(scene: Scene) -> str:
    """Return the name of this row's project or namespace."""
    name: str = scene.noted.setdefault("name", f"judge-{secrets.token_hex(4)}")
    return name


def _let_be_app(scene: Scene, binding: Mapping[str, Any]) -> None:
    """Let the service ``app`` of the inventory be on an engine. Its HTTP address stays that of the local app."""

    def change(services: dict[str, Any]) -> None:
        services["app"] = {
            "platform": dict(binding),
            "instances": 1 if binding["kind"] == "docker" else 2,
            "depends_on": ["redis"],
            "http": services["app"]["http"],
        }

    scene.inventory(change)


def _run(*argv: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]} is not installed")


def _must(*argv: str, given: str | None = None) -> str:
    """Run a command and return its output.

    Raises:
        StackError: it failed.
    """
    done = _run(*argv, given=given)
    if done.returncode:
        raise StackError(f"{' '.join(argv[:4])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
