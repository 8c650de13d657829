"""``pod.delete``: Delete one pod, so that its controller creates it again.

A pod that serves is deleted only if every PodDisruptionBudget allows it. A pod that does not serve is deleted in any
case. Examples are a hung pod, and a pod of a StatefulSet that never became ready. The pod ends within its grace period,
and is never deleted by force.
"""

from __future__ import annotations

from remediator.extensions.actions._pod_removal import PodRemoval
from remediator.extensions.platforms.base import Removal


class PodDelete(PodRemoval):
    """Delete one pod of a service on Kubernetes."""

    name = "pod.delete"
    removal = Removal.DELETE
