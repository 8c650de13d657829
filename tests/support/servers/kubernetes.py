"""An existing Kubernetes cluster (KUBECONFIG), with a namespace that is removed after the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.engines import IMAGE
from tests.support.servers import cluster_controllers, require, until
from tests.support.servers.docker import Engine


class Cluster:
    """The cluster, used by kubectl, which is not the code under test."""

    def __init__(self, kubeconfig: Path, context: Engine | None) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = f"test-{uuid4().hex[:12]}"
        self.image = context.image if context else IMAGE
        self._policy = "Never" if context else "IfNotPresent"

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl in the namespace of the test and return its output."""
        flags = (f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}")
        done = subprocess.run([require("kubectl"), *flags, *arguments], input=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def get(self, *what: str) -> Any:
        """Return an object or a list as parsed JSON."""
        return json.loads(self.kubectl("get", *what, "--output=json"))

    def apply(self, *objects: Any) -> None:
        """Create or change objects."""
        for each in objects:
            self.kubectl("apply", "--filename=-", given=json.dumps(each))

    def deploy(
        self,
        name: str,
        command: str,
        *,
        kind: str = "Deployment",
        container: Mapping[str, Any] | None = None,
        pod: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        """Create or change a Deployment of one pod with a shell command and the label ``app: name``.

        Args:
            container: further fields of its only container, for example probes.
            pod: further fields of the pod specification, for example volumes.
        """
        inside = {"terminationGracePeriodSeconds": 0, "containers": [self.container(command) | dict(container or {})]}
        template = {"metadata": {"labels": {"app": name}}, "spec": inside | dict(pod or {})}
        body = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
        metadata = {"name": name, "labels": {"app": name}}
        self.apply({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": body})

    def container(self, command: str, name: str = "main") -> dict[str, Any]:
        """Return a container that runs a shell command."""
        shell = ["/bin/sh", "-c", command]
        return {"name": name, "image": self.image, "imagePullPolicy": self._policy, "command": shell}

    def until_available(self, name: str) -> None:
        """Wait until the rollout is complete. After a timeout, the error states what the pods wait for.

        A loaded node takes a minute to start a pod, and an image that the node lacks never becomes available.
        """
        try:
            self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=180s")
        except AssertionError as error:
            states = "jsonpath={range .items[*]}{.metadata.name}: {.status.containerStatuses[*].state}\n{end}"
            pods = self.kubectl("get", "pods", f"--selector=app={name}", f"--output={states}")
            events = self.kubectl("get", "events", "--field-selector=type=Warning", "--output=name")
            raise AssertionError(f"{error}; pods of {name}:\n{pods}\nwarnings: {events or 'none'}") from None

    def account(self, name: str, *rules: dict[str, list[str]]) -> str:
        """Create a service account with exactly these rights, and return its token."""
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        self.apply(
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace}],
            },
        )
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{name}/token"
        request = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        answer = json.loads(self.kubectl("create", "--raw", path, "--filename=-", given=request))
        token: str = answer["status"]["token"]
        return token

    def authority(self) -> str:
        """Return the CA certificate of the API server, as pods get it."""
        until(lambda: bool(self.get("configmaps")["items"]), "the namespace's CA certificate")
        text: str = self.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"]
        return text


@pytest.fixture(scope="session")
def node_engine() -> Iterator[Engine | None]:
    """With DOCKER_HOST, the Engine of the node, build an image for the pods, so that none is pulled."""
    host = os.environ.get("DOCKER_HOST")
    if not host:
        yield None
        return
    context = Engine(host)
    context.build("1")
    yield context
    until(lambda: not context.cli("ps", "--quiet", "--filter", f"ancestor={context.image}"), "pods gone")
    context.clean()


@pytest.fixture(scope="session")
def controllers() -> Iterator[None]:
    """Start the controllers of StatefulSets, DaemonSets and PodDisruptionBudgets that the cluster lacks."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig:
        pytest.skip("needs a Kubernetes cluster: set KUBECONFIG")
    with cluster_controllers.running(Path(kubeconfig)):
        yield


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Return the cluster that KUBECONFIG names, with an empty namespace."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig:
        pytest.skip("needs a Kubernetes cluster: set KUBECONFIG")
    if shutil.which("kubectl") is None:
        pytest.skip("needs the kubectl command")
    cluster = Cluster(Path(kubeconfig), request.getfixturevalue("node_engine"))
    cluster.kubectl("create", "namespace", cluster.namespace)
    until(lambda: "serviceaccount/default" in cluster.kubectl("get", "serviceaccounts", "--output=name"), "namespace")
    yield cluster
    cluster.kubectl(
        "delete", "deployments,statefulsets,daemonsets,pods", "--all", "--grace-period=0", "--force", "--wait=false"
    )
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")
