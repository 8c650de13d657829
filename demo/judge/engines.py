"""Rows that need more than the local stack. They are listed with what they need, so that no row is silently missing."""

from __future__ import annotations

from demo.judge.row import Row
from demo.judge.scene import Scene
from demo.stack.settings import StackError

_KUBERNETES = "a Kubernetes cluster, which the local stack does not have; see `make test-kubernetes`"
_DOCKER = "a Docker Engine or a Kubernetes cluster, which the local stack does not have; see `make test-docker`"


def _make(_: Scene) -> None:
    raise StackError("this fault cannot be made on the local stack")


def _row(number: int, fault: str, alert: str, causes: str, needs: str) -> Row:
    return Row(
        number=number,
        fault=fault,
        alert=alert,
        make=_make,
        causes=frozenset(causes.split()),
        without=needs,
    )


ENGINE_ROWS: tuple[Row, ...] = (
    _row(34, "a container of the same name elsewhere crashes", "AppCrashLoopBackOff", "not-our-app", _DOCKER),
    _row(36, "out of memory: the container was killed", "AppCrashLoopBackOff", "", _DOCKER),
    _row(37, "image cannot be pulled", "DeploymentFailed", "", _KUBERNETES),
    _row(38, "pod cannot be scheduled", "DeploymentFailed", "", _KUBERNETES),
    _row(39, "rollout paused by a person", "DeploymentFailed", "", _KUBERNETES),
)
