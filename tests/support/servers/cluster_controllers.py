"""Controllers that a cluster for development may lack: those of StatefulSets, DaemonSets, Jobs and volumes.

A complete cluster has all of them. On another cluster, the tests of the installation start a second
kube-controller-manager with the missing controllers, if that program is installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.servers import free_port, until

PROGRAM = "kube-controller-manager"
_KINDS = {
    "StatefulSet": ("statefulset", "observedGeneration"),
    "DaemonSet": ("daemonset", "observedGeneration"),
    "Job": ("job", "startTime"),
    "PersistentVolume": ("persistentvolume-binder", "phase"),
}
"""For each kind of object, the controller that acts on it, and a field of the status that only it writes."""
_UNSEEN = (None, 0, "Pending")
"""Values of such a field before a controller has written it."""
_WITH_THEM = ("cronjob", "pv-protection", "pvc-protection", "disruption")
"""Controllers that are started with the missing ones, because volumes cannot be removed without them."""


def missing(kubeconfig: Path, seconds: float = 15) -> tuple[str, ...]:
    """Return the names of the controllers that do not act on their objects within this time."""
    name = f"remediator-test-{uuid4().hex[:12]}"
    kinds, selector = ",".join(_KINDS), f"--selector=app={name}"
    _kubectl(kubeconfig, "apply", "--filename=-", given=json.dumps(_objects(name)))
    try:
        deadline, silent = time.monotonic() + seconds, tuple[str, ...]()
        while True:
            found = json.loads(_kubectl(kubeconfig, "get", kinds, selector, "--output=json"))["items"]
            status = {each["kind"]: each.get("status", {}).get(_KINDS[each["kind"]][1]) for each in found}
            silent = tuple(_KINDS[kind][0] for kind, value in status.items() if value in _UNSEEN)
            if not silent or time.monotonic() > deadline:
                return silent
            time.sleep(0.5)
    finally:
        _kubectl(kubeconfig, "delete", kinds, selector, "--wait=false")
        nothing = '{"metadata": {"finalizers": null}}'  # the controller that removes this finalizer may be missing
        with suppress(subprocess.CalledProcessError):  # the volume is already removed
            _kubectl(kubeconfig, "patch", "persistentvolume", name, "--type=merge", f"--patch={nothing}")


def _objects(name: str) -> dict[str, Any]:
    """Return one object of each kind. None starts a pod."""
    metadata = {"name": name, "labels": {"app": name}}
    pod = {"metadata": metadata, "spec": {"containers": [{"name": "none", "image": "none"}]}}
    set_ = {"replicas": 0, "serviceName": name, "selector": {"matchLabels": {"app": name}}, "template": pod}
    nowhere = {"metadata": metadata, "spec": {**pod["spec"], "nodeSelector": {"example.com/node": "none"}}}
    daemons = {"selector": {"matchLabels": {"app": name}}, "template": nowhere}
    job = {"completions": 0, "template": {"spec": {**pod["spec"], "restartPolicy": "Never"}}}
    where = {"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}
    bodies = [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": set_},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": daemons},
        {"apiVersion": "batch/v1", "kind": "Job", "spec": job},
        {"apiVersion": "v1", "kind": "PersistentVolume", "spec": {"capacity": {"storage": "1Mi"}, **where}},
    ]
    return {"apiVersion": "v1", "kind": "List", "items": [{**body, "metadata": metadata} for body in bodies]}


def problem(absent: Sequence[str]) -> str:
    """Return a sentence with what is missing and how to get it, empty if nothing is or if the tests can start it."""
    if not absent or shutil.which(PROGRAM):
        return ""
    return (
        f"The cluster runs no controller {', '.join(absent)}: start its {PROGRAM} with --controllers='*', "
        f"or install {PROGRAM}, which the tests then start."
    )


@contextmanager
def running(kubeconfig: Path) -> Iterator[None]:
    """Start the missing controllers until the context ends.

    Raises:
        AssertionError: some controllers are missing and cannot be started.
    """
    absent = missing(kubeconfig)
    if not absent:
        yield
        return
    assert not problem(absent), problem(absent)
    with tempfile.TemporaryDirectory() as folder:
        wanted = ",".join((*absent, *_WITH_THEM))
        argv = [PROGRAM, f"--kubeconfig={kubeconfig}", f"--controllers={wanted}", "--leader-elect=false"]
        argv += [f"--secure-port={free_port()}", f"--cert-dir={folder}"]
        if "--port " in subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout:
            argv.append("--port=0")  # before 1.24 there is a second port, which the cluster's own process uses
        log = Path(folder, "log")
        with log.open("wb") as output, subprocess.Popen(argv, stdout=output, stderr=output) as process:
            try:
                until(lambda: not missing(kubeconfig, 5) or process.poll() is not None, f"{PROGRAM} acts")
                assert process.poll() is None, log.read_text()[-2000:]
                yield
            finally:
                process.terminate()


def _kubectl(kubeconfig: Path, *arguments: str, given: str | None = None) -> str:
    argv = ["kubectl", f"--kubeconfig={kubeconfig}", "--namespace=default", *arguments]
    return subprocess.run(argv, input=given, capture_output=True, text=True, check=True).stdout
