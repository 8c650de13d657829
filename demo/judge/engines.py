"""Rows that need more than the local stack: a Docker Engine (DOCKER_HOST), or a Kubernetes cluster
(KUBECONFIG). Without it they are listed with what they need, so that no row is silently missing."""

from __future__ import annotations

import os

from demo.judge import engine_faults as engine
from demo.judge.row import Row

_KUBERNETES = "a Kubernetes cluster, which the local stack does not have; set KUBECONFIG"
_DOCKER = "a Docker Engine, which the local stack does not have; set DOCKER_HOST"
_EITHER = "a Docker Engine or a Kubernetes cluster, which the local stack does not have; set DOCKER_HOST or KUBECONFIG"


def _without(needs: str, *variables: str) -> str:
    """Return what a row needs; empty if one of the environment variables is set."""
    return "" if any(os.environ.get(each) for each in variables) else needs


_ON_KUBERNETES = bool(os.environ.get("KUBECONFIG"))

ENGINE_ROWS: tuple[Row, ...] = (
    Row(
        number=34,
        fault="a container of the same name elsewhere crashes",
        alert="AppCrashLoopBackOff",
        without=_without(_EITHER, "DOCKER_HOST", "KUBECONFIG"),
        needs=engine.needs_kubernetes if _ON_KUBERNETES else engine.needs_docker,
        prepare=engine.app_in_pods if _ON_KUBERNETES else engine.app_in_containers,
        make=engine.other_pod_crashes if _ON_KUBERNETES else engine.other_container_crashes,
        causes=frozenset({"not-our-app"}),
        must_not=(engine.deployment_touched if _ON_KUBERNETES else engine.container_touched,),
    ),
    Row(
        number=36,
        fault="out of memory: the container was killed",
        alert="AppCrashLoopBackOff",
        without=_without(_DOCKER, "DOCKER_HOST"),
        needs=engine.needs_docker,
        prepare=engine.app_in_containers,
        make=engine.out_of_memory,
        causes=frozenset({"out-of-memory"}),
        true_too=frozenset({"bad-release"}),  # the container was made a minute ago
    ),
    Row(
        number=37,
        fault="image cannot be pulled",
        alert="DeploymentFailed",
        without=_without(_KUBERNETES, "KUBECONFIG"),
        needs=engine.needs_kubernetes,
        prepare=engine.app_in_pods,
        make=engine.image_not_pulled,
        causes=frozenset({"image-not-pulled"}),
        must_not=(engine.deployment_touched,),
    ),
    Row(
        number=38,
        fault="pod cannot be scheduled",
        alert="DeploymentFailed",
        without=_without(_KUBERNETES, "KUBECONFIG"),
        needs=engine.needs_kubernetes,
        prepare=engine.app_in_pods,
        make=engine.not_scheduled,
        causes=frozenset({"not-scheduled"}),
        must_not=(engine.deployment_touched,),
    ),
    Row(
        number=39,
        fault="rollout paused by a person",
        alert="DeploymentFailed",
        without=_without(_KUBERNETES, "KUBECONFIG"),
        needs=engine.needs_kubernetes,
        prepare=engine.app_in_pods,
        make=engine.paused,
        causes=frozenset({"paused"}),
        must_not=(engine.deployment_touched,),
    ),
)
