"""Real faults of an app in containers, on a Docker Engine (DOCKER_HOST)."""

from __future__ import annotations

import json
import os

from demo.judge.engine import DIES, IMAGE, LACKS_MODULE, SECONDS, SERVE, let_be_app, must, own_name, run
from demo.judge.scene import Scene

_COMPOSE = "com.docker.compose."
_LITTLE_MEMORY = ("--memory=32m", "--memory-swap=32m")


def needed(_: Scene) -> str | None:
    """Return the requirements that the Engine of DOCKER_HOST lacks."""
    if run("docker", "version").returncode:
        return f"a Docker Engine that answers at {os.environ['DOCKER_HOST']}"
    missing = run("docker", "image", "inspect", IMAGE).returncode
    return f"the image {IMAGE} on the engine: run 'make images', or pull it" if missing else None


def app_in_containers(scene: Scene) -> None:
    """Make a container with little memory the app, from the first image of a repository for this row."""
    project = own_name(scene)
    _deploy(scene, project, "1.0", SERVE)
    let_be_app(scene, {"kind": "docker", "url": os.environ["DOCKER_HOST"], "project": project})
    scene.noted["begun"] = _inspect(_container(project), "{{.State.StartedAt}}")


def lacks_module(scene: Scene) -> None:
    """Deploy a release that ends at its start, because a module is missing."""
    _deploy(scene, own_name(scene), "1.1", LACKS_MODULE)
    _fire_after_crashes(scene, own_name(scene))


def dies_after_six_seconds(scene: Scene) -> None:
    """Deploy a release that starts, and ends six seconds later, after each restart."""
    _deploy(scene, own_name(scene), "1.1", DIES)
    _fire_after_crashes(scene, own_name(scene))


def other_crashes(scene: Scene) -> None:
    """Make a container of a Compose service named app crash repeatedly in another project."""
    project = f"{own_name(scene)}-other"
    _deploy(scene, project, "1.0", "echo no prices; exit 3")
    _fire_after_crashes(scene, project)


def out_of_memory(scene: Scene) -> None:
    """Make the app need more memory than it has, so that the kernel kills it repeatedly."""
    app = _container(own_name(scene))
    must("docker", "exec", app, "touch", "/tmp/leak")
    scene.wait(lambda: _restarts(app) >= 3, "three kills", SECONDS)
    scene.wait(lambda: _inspect(app, "{{.State.OOMKilled}}") == "true", "a container that was killed", SECONDS)
    _fire(scene, own_name(scene))


def touched(scene: Scene) -> str | None:
    """Return a sentence if the healthy container has changed."""
    if _inspect(_container(own_name(scene)), "{{.State.StartedAt}}") == scene.noted["begun"]:
        return None
    return "the healthy app was restarted or replaced"


def remade(scene: Scene) -> str | None:
    """Return a sentence if the container was replaced, or has another image than the deployed one."""
    image = _inspect(_container(own_name(scene)), "{{.Config.Image}}")
    return None if image == f"{own_name(scene)}:1.0" else f"the app has the image {image}"


def serves_first_release(scene: Scene) -> str | None:
    """Return proof that a container of the first release runs, and has not crashed."""
    app = _container(own_name(scene))
    image = _inspect(app, "{{.Image}} {{.State.Running}} {{.RestartCount}}")
    first = must("docker", "image", "inspect", "--format", "{{.Id}}", f"{own_name(scene)}:1.0")
    return "a container of the image 1.0 runs" if image == f"{first} true 0" else None


def _deploy(scene: Scene, project: str, version: str, command: str) -> None:
    """Build an image that runs a command, and replace the container of the project, as a deployment does."""
    image = f"{project}:{version}"
    scene.cleanup.callback(run, "docker", "image", "rm", "--force", image)
    source = f"FROM {IMAGE}\nLABEL org.opencontainers.image.version={version}\n"
    must("docker", "build", "--quiet", "--tag", image, "-", given=f"{source}CMD {json.dumps(['sh', '-c', command])}\n")
    labels = {"project": project, "service": "app", "container-number": "1", "oneoff": "False"}
    marks = [f"--label={_COMPOSE}{name}={value}" for name, value in labels.items()]
    name = _container(project)
    run("docker", "rm", "--force", "--volumes", name)
    scene.cleanup.callback(run, "docker", "rm", "--force", "--volumes", name)
    must(
        "docker", "run", "--detach", "--restart=always", "--stop-signal=KILL", f"--name={name}", *marks,
        *_LITTLE_MEMORY, image,
    )  # fmt: skip


def _fire_after_crashes(scene: Scene, project: str) -> None:
    scene.wait(lambda: _restarts(_container(project)) >= 3, "three crashes", SECONDS)
    _fire(scene, project)


def _fire(scene: Scene, project: str) -> None:
    scene.fire(
        "AppCrashLoopBackOff",
        service="app",
        platform="docker",
        name=_container(project),
        container_label_com_docker_compose_project=project,
        container_label_com_docker_compose_service="app",
    )


def _container(project: str) -> str:
    return f"{project}_app_1"


def _restarts(container: str) -> int:
    return int(_inspect(container, "{{.RestartCount}}"))


def _inspect(container: str, template: str) -> str:
    return must("docker", "inspect", "--format", template, container)
