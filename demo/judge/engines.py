"""Rows that need a Docker Engine (DOCKER_HOST) or a Kubernetes cluster (KUBECONFIG).

Without it they are listed with what they need, so that no row is silently missing.
"""

from __future__ import annotations

import os
from functools import partial

from demo.judge import docker_faults as docker
from demo.judge import kubernetes_faults as kubernetes
from demo.judge.row import HEALED, Row

_ROLLBACK = frozenset({"service.rollback"})
_BAD_MODULE = frozenset({"bad-release", "missing-module"})

_in_containers = partial(
    Row,
    alert="AppCrashLoopBackOff",
    without=""
    if os.environ.get("DOCKER_HOST")
    else "a Docker Engine, which the local stack does not have; set DOCKER_HOST",
    needs=docker.needed,
    prepare=docker.app_in_containers,
)
_in_pods = partial(
    Row,
    alert="AppCrashLoopBackOff",
    without=""
    if os.environ.get("KUBECONFIG")
    else "a Kubernetes cluster, which the local stack does not have; set KUBECONFIG",
    needs=kubernetes.needed,
    prepare=kubernetes.app_in_pods,
)

ENGINE_ROWS: tuple[Row, ...] = (
    _in_containers(
        number=25,
        fault="release lacks a module, in a container",
        make=docker.lacks_module,
        causes=_BAD_MODULE,
        causes_too=_BAD_MODULE,
        says=("prices_client", "1[.]1"),
        remedies=_ROLLBACK,
        ends=HEALED,
        proof=docker.serves_first_release,
        pages=0,
        seconds=180,
    ),
    _in_pods(
        number=25,
        fault="release lacks a module, in pods",
        make=kubernetes.lacks_module,
        causes=_BAD_MODULE,
        causes_too=_BAD_MODULE,
        says=("prices_client",),
        remedies=_ROLLBACK,
        ends=HEALED,
        proof=kubernetes.serves_first_release,
        must_not=(kubernetes.scaled,),
        pages=0,
        seconds=180,
    ),
    _in_pods(
        number=26,
        fault="three bad releases in a row, in pods",
        make=kubernetes.three_bad_releases,
        causes=_BAD_MODULE,
        says=("prices_client",),
        remedies=_ROLLBACK,
        ends=HEALED,
        proof=kubernetes.serves_first_release,
        must_not=(kubernetes.scaled,),
        pages=0,
        seconds=180,
    ),
    _in_containers(
        number=34,
        fault="a container of the same name in another project crashes",
        make=docker.other_crashes,
        causes=frozenset({"not-our-app"}),
        says=("judge-[0-9a-f]+-other",),
        must_not=(docker.touched,),
    ),
    _in_pods(
        number=34,
        fault="a container of the same name in another namespace crashes",
        make=kubernetes.other_crashes,
        causes=frozenset({"not-our-app"}),
        says=("judge-[0-9a-f]+-other",),
        must_not=(kubernetes.deployment_touched,),
    ),
    _in_containers(
        number=35,
        fault="the release dies six seconds after each start, in a container",
        make=docker.dies_after_six_seconds,
        causes=frozenset({"bad-release"}),
        remedies=_ROLLBACK,
        ends=HEALED,
        proof=docker.serves_first_release,
        pages=0,
        seconds=180,
    ),
    _in_pods(
        number=35,
        fault="the release dies six seconds after each start, in pods",
        make=kubernetes.dies_after_six_seconds,
        causes=frozenset({"bad-release"}),
        remedies=_ROLLBACK,
        ends=HEALED,
        proof=kubernetes.serves_first_release,
        must_not=(kubernetes.scaled,),
        pages=0,
        seconds=180,
    ),
    _in_containers(
        number=36,
        fault="out of memory: the container was killed",
        make=docker.out_of_memory,
        causes=frozenset({"out-of-memory"}),
        says=("limit 32.0 MiB",),
        must_not=(docker.remade,),
    ),
    _in_pods(
        number=36,
        fault="out of memory: the containers of the pods were killed",
        make=kubernetes.out_of_memory,
        causes=frozenset({"out-of-memory"}),
        says=("OOMKilled", "memory limit 32Mi"),
        must_not=(kubernetes.deployment_touched,),
    ),
    _in_pods(
        number=37,
        fault="image cannot be pulled",
        alert="DeploymentFailed",
        make=kubernetes.image_not_pulled,
        causes=frozenset({"image-not-pulled"}),
        says=("registry[.]invalid/app:2",),
        remedies=_ROLLBACK,
        ends=HEALED,
        proof=kubernetes.serves_first_release,
        must_not=(kubernetes.scaled,),
        pages=0,
        seconds=180,
    ),
    _in_pods(
        number=38,
        fault="pod cannot be scheduled",
        alert="DeploymentFailed",
        make=kubernetes.not_scheduled,
        causes=frozenset({"not-scheduled"}),
        says=("nodes? (are|is) available", "didn't match"),
        must_not=(kubernetes.deployment_touched,),
    ),
    _in_pods(
        number=39,
        fault="rollout paused by a person",
        alert="DeploymentFailed",
        make=kubernetes.paused,
        causes=frozenset({"paused"}),
        says=("paused by kubectl",),
        must_not=(kubernetes.deployment_touched,),
    ),
)
