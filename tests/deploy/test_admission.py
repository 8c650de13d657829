"""The admission policy, evaluated by a CEL library with the function that Kubernetes adds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import re2
import yaml
from cel_expr_python import cel

from tests.deploy.test_kubernetes import FOLDER, of_kind


def _find(text: str, pattern: str) -> str:
    found = re2.search(pattern, text)
    return str(found.group()) if found else ""


FIND = cel.Overload("string_find_string", cel.Type.STRING, [cel.Type.STRING, cel.Type.STRING], is_member=True)
ENVIRONMENT = cel.NewEnv(
    variables={"object": cel.Type.DYN, "oldObject": cel.Type.DYN},
    functions=[cel.FunctionDecl("find", [FIND])],
    function_impls={"string_find_string": _find},
)


def refused(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the messages of the validations that do not hold for a change. An error counts as refusal."""
    policy = next(yaml.safe_load_all((FOLDER / "admission.yaml").read_text()))
    given = {"object": new, "oldObject": old}
    results = {
        each["message"]: ENVIRONMENT.compile(each["expression"]).eval(data=given).value()
        for each in policy["spec"]["validations"]
    }
    return [message for message, result in results.items() if result is not True]


def deployment(image: str = "remediator-app:1.0", name: str = "app") -> dict[str, Any]:
    """Return a Deployment of the shop as shipped, with this image."""
    found = copy.deepcopy(next(each for each in of_kind("Deployment") if each["metadata"]["name"] == name))
    found["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return found


def pod(of: dict[str, Any]) -> dict[str, Any]:
    """Return the pod specification of a Deployment's template."""
    spec: dict[str, Any] = of["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("name", ["app", "redis"])
def test_a_restart_is_allowed(name: str) -> None:
    """The policy allows an annotation of the template with every form of image name."""
    for image in ("app", "app:1", "r.example:5000/a/app", "r.example:5000/app:1", "app@sha256:ab", "r/app:1@sha256:ab"):
        old = deployment(image, name)
        new = copy.deepcopy(old)
        new["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
        assert refused(old, new) == [], image


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("app:1", "app:2"),
        ("r.example:5000/app:1", "r.example:5000/app@sha256:ab"),
        ("r.example/app:2@sha256:cd", "r.example/app:1@sha256:ab"),
    ],
)
def test_a_rollback_is_allowed(old: str, new: str) -> None:
    """The policy allows another image of the same repository and other variables."""
    after = deployment(new)
    pod(after)["containers"][0]["env"] = []
    assert refused(deployment(old), after) == []


INIT = {"name": "extra", "image": "anything"}
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another repository": (lambda new: pod(new)["containers"][0].update(image="evil:1.0"), "repository"),
    "another registry": (lambda new: pod(new)["containers"][0].update(image="evil/remediator-app:1.0"), "repository"),
    "a registry with a port": (
        lambda new: pod(new)["containers"][0].update(image="remediator-app:1/x:1"),
        "repository",
    ),
    "one more container": (lambda new: pod(new)["containers"].append(INIT), "the same containers"),
    "an init container": (lambda new: pod(new).update(initContainers=[INIT]), "init containers"),
    "security settings": (lambda new: pod(new)["containers"][0].pop("securityContext"), "security settings"),
    "an account": (lambda new: pod(new).update(serviceAccountName="admin"), "service account"),
    "a node's volume": (
        lambda new: pod(new)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        "the node's files",
    ),
    "the node's network": (lambda new: pod(new).update(hostNetwork=True), "the node's namespaces"),
    "replicas": (lambda new: new["spec"].update(replicas=0), "scale"),
    "labels": (lambda new: new["metadata"].pop("labels"), "own labels"),
    "the pods' labels": (lambda new: new["spec"]["template"]["metadata"]["labels"].update(x="y"), "labels of the pods"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_everything_else_is_refused(what: str) -> None:
    """The policy refuses every other change that the right to patch would allow, with a sentence."""
    change, told = CHANGES[what]
    old = deployment()
    new = copy.deepcopy(old)
    change(new)
    assert any(told in message for message in refused(old, new)), refused(old, new)


def test_an_init_container_that_is_there_keeps_its_repository() -> None:
    """An existing init container may get another tag, as in a rollback, but no other repository."""
    old = deployment()
    pod(old)["initContainers"] = [{"name": "migrate", "image": "r:5000/tool:1"}]
    new = copy.deepcopy(old)
    pod(new)["initContainers"][0]["image"] = "r:5000/tool:2"
    assert refused(old, new) == []
    pod(new)["initContainers"][0]["image"] = "r:5000/other:1"
    assert any("init containers" in message for message in refused(old, new))
