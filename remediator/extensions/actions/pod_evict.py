"""``pod.evict``: Evict one pod through the eviction API, which enforces every PodDisruptionBudget.

Use it to move a pod that serves, for example from a node with a fault. A refusal names the budget and its numbers.
"""

from __future__ import annotations

from remediator.extensions.actions._pod_removal import PodRemoval
from remediator.extensions.platforms.base import Removal


class PodEvict(PodRemoval):
    """Evict one pod of a service on Kubernetes, if its PodDisruptionBudgets allow it."""

    name = "pod.evict"
    removal = Removal.EVICT
