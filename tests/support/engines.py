"""``python -m tests.support.engines docker|kubernetes`` runs the tests that need an existing engine.

The command starts and installs nothing. Docker: the Engine at DOCKER_HOST, or at the default socket. Kubernetes: the
cluster of KUBECONFIG, which is required, because tests create and remove namespaces there. With DOCKER_HOST, the Engine
of the node, the image of the pods is built on the node and never pulled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.servers import cluster_controllers

SOCKET = "unix:///var/run/docker.sock"
IMAGE = "busybox:1"
"""Image of the test pods if the engine of the node is not known."""


def docker(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the environment for the tests, and a sentence about what is missing, or an empty one."""
    host = environment.get("DOCKER_HOST") or SOCKET
    found = {**environment, "DOCKER_HOST": host}
    if missing := _without("docker", "busybox"):
        return found, missing
    argv = ["docker", "version", "--format", "{{.Server.Version}}"]
    return found, _silent(argv, found, f"No Docker Engine answers at {host}: start one, or set DOCKER_HOST.")


def kubernetes(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the environment for the tests of Kubernetes, and a sentence about what is missing, or an empty one."""
    found = dict(environment)
    config = environment.get("KUBECONFIG")
    if not config:
        return found, "KUBECONFIG is not set: name a cluster in which the tests may make and remove namespaces."
    if missing := _without("kubectl"):
        return found, missing
    argv = ["kubectl", f"--kubeconfig={config}", "version", "--request-timeout=10s"]
    if silent := _silent(argv, found, f"The cluster of {config} does not answer: start it, or set KUBECONFIG."):
        return found, silent
    if lacking := cluster_controllers.problem(cluster_controllers.missing(Path(config))):
        return found, lacking
    if environment.get("DOCKER_HOST"):  # the image of the pods is built on the node from this machine's busybox
        return found, _without("docker", "busybox")
    return found, image_problem(config, IMAGE)


def image_problem(kubeconfig: str, image: str, seconds: float = 60) -> str:
    """Start a pod of the image. Return a sentence if the cluster has not run it in time, otherwise an empty text."""
    name = f"remediator-test-{os.getpid()}"
    kubectl = ["kubectl", f"--kubeconfig={kubeconfig}", "--namespace=default"]
    reason = "{.status.containerStatuses[0].state.waiting.reason}"
    command = ["run", name, f"--image={image}", "--restart=Never", "--command", "--", "true"]
    made = subprocess.run([*kubectl, *command], capture_output=True, text=True)
    if made.returncode:
        return f"The cluster starts no pod: {made.stderr.strip()[-200:]}"
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = f"jsonpath={{.status.phase}} {reason}"
            asked = [*kubectl, "get", "pod", name, "--output", status]
            phase, _, waits = subprocess.run(asked, capture_output=True, text=True).stdout.partition(" ")
            if phase == "Succeeded":
                return ""
            if waits in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
                break
            time.sleep(1)
        why = waits or phase or "no answer"
        return (
            f"The cluster cannot run the image {image} ({why}): let its nodes reach a registry, load the image onto "
            "each node, or set DOCKER_HOST to the engine of its only node, on which the tests build the image."
        )
    finally:
        subprocess.run([*kubectl, "delete", "pod", name, "--wait=false", "--ignore-not-found"], capture_output=True)


ENGINES: Mapping[str, Callable[[Mapping[str, str]], tuple[dict[str, str], str]]] = {
    "docker": docker,
    "kubernetes": kubernetes,
}


def main(arguments: list[str]) -> int:
    """Return the exit status of pytest, 1 if something is missing, 2 for wrong usage."""
    if not arguments or arguments[0] not in ENGINES:
        print(f"usage: python -m tests.support.engines {'|'.join(ENGINES)} [pytest's arguments]", file=sys.stderr)
        return 2
    name, *rest = arguments
    environment, missing = ENGINES[name](os.environ)
    if missing:
        print(missing, file=sys.stderr)
        return 1
    # with REQUIRE_ALL, a missing tool fails a test instead of skipping it
    argv = [sys.executable, "-m", "pytest", "-q", "-m", name, *rest]
    return subprocess.run(argv, env={**environment, "REQUIRE_ALL": "1"}).returncode


def _without(*programs: str) -> str:
    missing = [program for program in programs if shutil.which(program) is None]
    return f"Not installed: {', '.join(missing)}." if missing else ""


def _silent(argv: list[str], environment: dict[str, str], sentence: str) -> str:
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return sentence
    return sentence if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
