"""Compare a run with the audit log.

A row is changed by one SQL statement, the audit log is not: a change of it is detected. So a run that was read from a
row is continued only if it equals the audit log. No run can act without a recorded decision (promises 6 and 9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from remediator.audit import Entry, Kind, Redactor, decode, redact_json
from remediator.audit.canonical import NotCanonical
from remediator.core.plan import Plan
from remediator.core.run import Run, Status
from remediator.storage.repositories import audit


def claimed_problem(connection: Connection, run: Run, redactor: Redactor) -> str | None:
    """Return how a claimed run differs from the audit log; None if both are equal.

    The entry of its creation has its playbook, target and mode. Its last transition has the status, the plan and the
    version of the playbook. A new run has no transition.
    """
    created, last = _newest(connection, run, Kind.RUN_MATCHED), _newest(connection, run, Kind.RUN_TRANSITION)
    if created is None:
        return f"the audit log does not have the start of run {run.id}"
    same = {
        "status": run.status.value == (Status.MATCHED.value if last is None else last.data.get("to")),
        "playbook": (created.playbook, (last or created).playbook_hash) == (run.playbook, run.playbook_hash),
        "target": created.data.get("target") == redact_json(run.target, redactor),
        "mode": created.data.get("mode") == run.mode,
        "plan": run.plan_hash == (None if last is None else last.plan_hash),
    }
    return _sentence(same)


def planned_problem(connection: Connection, run: Run, plan: Plan) -> str | None:
    """Return how a run that is about to act differs from the audit log; None if both are equal.

    The mode is part of the plan, and the plan is part of the hash. So the last transition of the run has all compared
    values: the status, the plan, the mode, and the guard whose *unknown* a person has approved.
    """
    last = _newest(connection, run, Kind.RUN_TRANSITION)
    said: Mapping[str, Any] = {} if last is None else last.data
    detail = run.detail.to_data()
    same = {
        "status": said.get("to") == run.status.value,
        "plan": last is not None and last.plan_hash == run.plan_hash == plan.hash,
        "mode": run.mode == plan.mode,
        "override": all(detail.get(key) == said.get("detail", {}).get(key) for key in ("overrides", "guard")),
    }
    return _sentence(same)


def _newest(connection: Connection, run: Run, kind: Kind) -> Entry | None:
    """Return the last readable entry of a kind about a run; None if there is no such entry."""
    newest = audit.newest_for_run(connection, run.id, kind.value)
    try:
        return None if newest is None else decode(newest.canonical)
    except NotCanonical:
        return None


def _sentence(same: Mapping[str, bool]) -> str | None:
    differs: Iterable[str] = [name for name, equal in same.items() if not equal]
    return f"the {' and the '.join(differs)} of the run differ from the audit log" if differs else None
