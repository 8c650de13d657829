"""The client finds the current revision of a workload in the answers of the API server."""

from __future__ import annotations

import msgspec
import pytest

from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.models import ControllerRevision, Workload
from remediator.clients.kubernetes.revisions import current, of_controller_revision, of_replica_set

REVISION = {"deployment.kubernetes.io/revision": "2"}


def workload(observed: int) -> Workload:
    """Return a workload at its third generation. A Deployment has its revision number as an annotation."""
    given = {
        "metadata": {"name": "web", "generation": 3, "annotations": REVISION},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"observedGeneration": observed},
    }
    return msgspec.convert(given, Workload)


@pytest.mark.promise(13)
@pytest.mark.parametrize("kind", WorkloadKind)
def test_a_change_that_no_controller_has_observed_has_no_current_revision(kind: WorkloadKind) -> None:
    """After an unobserved change, the old revision is not current, so no one may conclude that nothing changed."""
    meta = {"name": "web-2", "annotations": REVISION}
    if kind is WorkloadKind.DEPLOYMENT:
        recorded = of_replica_set(
            msgspec.convert({"metadata": meta, "spec": {"selector": {}, "template": {}}}, Workload)
        )
    else:
        kept = {"metadata": meta, "revision": 2, "data": {"spec": {"template": {}}}}
        recorded = of_controller_revision(kind, msgspec.convert(kept, ControllerRevision))

    assert current(kind, workload(observed=3), [recorded]) is recorded
    assert current(kind, workload(observed=2), [recorded]) is None
