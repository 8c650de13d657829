"""Commands that need an engine or an image name in one sentence what is missing and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.compose import __main__ as demo
from tests.deploy.test_compose import files
from tests.deploy.test_kubernetes import of_kind
from tests.support import engines
from tests.support.servers import cluster_controllers, require
from tests.support.servers.docker import Engine
from tests.support.servers.kubernetes import Cluster
from tests.support.servers.remediator import ROOT


def said(*argv: str, **variables: str) -> str:
    """Return the one sentence that a failed command prints to standard error, without a traceback."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_the_demonstration_without_docker(tmp_path: Path) -> None:
    """Without Docker, the error names the package."""
    assert "docker is not installed; install" in said(sys.executable, "-m", "demo.compose", PATH=str(tmp_path))


def test_the_demonstration_without_compose(tmp_path: Path) -> None:
    """With Docker but without Compose, the error names Compose."""
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    found = said(sys.executable, "-m", "demo.compose", PATH=str(tmp_path))
    assert "Docker Compose is not installed; install docker-compose-plugin" in found


def test_the_demonstration_without_an_engine() -> None:
    """Without an Engine, the error names the address and the variable that changes it."""
    require("docker")
    require("docker-compose")
    found = said(sys.executable, "-m", "demo.compose", DOCKER_HOST="unix:///nowhere.sock")
    assert "no Docker Engine answers at unix:///nowhere.sock; start it, or set DOCKER_HOST" in found


@pytest.mark.docker
def test_the_demonstration_without_images(docker_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without images, the error names the first missing image and the command that builds all of them."""
    require("docker-compose")
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    monkeypatch.setattr(demo, "RELEASES", ("0.0-none",))
    with pytest.raises(demo.DemoError, match=r"no image remediator-app:0.0-none; build all images .*: make images"):
        demo._require()


def test_the_compose_stack_without_a_person_or_an_engine() -> None:
    """The documented command fails before it creates secrets or starts anything."""
    script = str(ROOT / "deploy/compose/up.sh")
    assert "example: deploy/compose/up.sh ann@example.com" in said(script)
    if shutil.which("docker-compose"):
        found = said(script, "ann@example.com", DOCKER_HOST="unix:///nowhere.sock")
        assert "no Docker Engine answers at unix:///nowhere.sock" in found


@pytest.mark.kubernetes
def test_the_tests_of_kubernetes_without_their_image(cluster: Cluster) -> None:
    """The error names the image, why it cannot run, and three fixes. The pod is removed."""
    found = engines.image_problem(str(cluster.kubeconfig), "registry.invalid/none:1", 90)
    assert re.match(
        r"The cluster cannot run the image registry\.invalid/none:1 \((ErrImagePull|ImagePullBackOff)\)", found
    )
    assert "load the image onto each node" in found and "DOCKER_HOST" in found


@pytest.mark.kubernetes
def test_the_controllers_that_a_cluster_lacks_are_started(cluster: Cluster) -> None:
    """Each started controller acts on its objects, and the test objects are removed."""
    with cluster_controllers.running(cluster.kubeconfig):
        assert cluster_controllers.missing(cluster.kubeconfig) == ()
    assert "remediator-test" not in cluster.kubectl("get", "statefulsets,jobs,pv", "--all-namespaces", "--output=name")


def test_the_controllers_that_a_cluster_lacks_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without their program, the error names the missing controllers and two ways to get them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cluster_controllers.problem(()) == ""
    found = cluster_controllers.problem(("statefulset", "job"))
    assert "no controller statefulset, job: start its kube-controller-manager with --controllers='*'" in found
    assert "or install kube-controller-manager, which the tests then start" in found


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"KUBECONFIG": ""}, "KUBECONFIG is not set"),
        ({"KUBECONFIG": "/nowhere"}, "does not answer: start it, or set KUBECONFIG"),
    ],
)
def test_the_tests_of_kubernetes_without_a_cluster(variables: dict[str, str], sentence: str) -> None:
    """Without a cluster, the error comes before any test runs."""
    require("kubectl")
    assert sentence in said(sys.executable, "-m", "tests.support.engines", "kubernetes", **variables)


def test_one_command_builds_every_image() -> None:
    """`make images` builds every image that Compose, the manifests and our Dockerfiles name."""
    script = (ROOT / "demo/compose/build_fake_images.sh").read_text()
    workloads = [
        *of_kind("Deployment"),
        *of_kind("StatefulSet"),
        *(each["spec"]["jobTemplate"] for each in of_kind("CronJob")),
    ]
    pods = [each["spec"]["template"]["spec"] for each in workloads]
    used = {body["image"] for body in files("docker-compose.yml", "docker-compose.prod.yml").values()}
    used |= {container["image"] for pod in pods for container in pod["containers"]}
    bases = {
        base
        for path in ("Dockerfile", "app/Dockerfile")
        for base in re.findall(r"^ARG [A-Z]+_IMAGE=(\S+)", (ROOT / path).read_text(), re.MULTILINE)
    }
    for image in {each.partition("@")[0] for each in used | bases}:
        if not image.startswith(("remediator", "${APP_IMAGE")):
            assert re.search(rf"^image {re.escape(image)} ", script, re.MULTILINE), image
    assert "build remediator:0.1.0" in script and 'build "remediator-app:$release"' in script
    assert set(demo.RELEASES) <= set(re.findall(r"for release in (.*?);", script)[0].split())
    assert "build_fake_images.sh" in (ROOT / "Makefile").read_text()
