"""The kinds of workloads that keep pods running."""

from __future__ import annotations

from enum import StrEnum


class WorkloadKind(StrEnum):
    """A kind of workload whose controller keeps pods running, and records the revisions of their template."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"

    @property
    def resource(self) -> str:
        """The name of the resource in the API, for example ``statefulsets``."""
        return f"{self.lower()}s"

    @property
    def history(self) -> str:
        """The resource that records its revisions."""
        return "replicasets" if self is WorkloadKind.DEPLOYMENT else "controllerrevisions"
