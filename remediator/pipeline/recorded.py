"""Compare a run with what the audit log says about it.

A row is changed by one SQL statement, the audit log is not: a change of it is detected. So a run that was read from a
row is continued only if the audit log says the same, and nothing can make a run act that no decision was recorded for
(promises 6 and 9).
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
    """Return what of a claimed run is not as the audit log says; None if all is.

    What the run was created with decides: its playbook, target and mode. Its last transition says the status, the plan
    and the version of the playbook. A run that was just created has none.
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
    """Return what of a run that is about to act is not as the audit log says; None if all is.

    The mode is part of the plan, and the plan of the hash, so the last transition of the run says what is compared: the
    status, the plan, the mode, and the guard whose *unknown* a person has approved.
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
    """Return the last entry of a kind about a run; None if there is none that can be read."""
    newest = audit.newest_for_run(connection, run.id, kind.value)
    try:
        return None if newest is None else decode(newest.canonical)
    except NotCanonical:
        return None


def _sentence(same: Mapping[str, bool]) -> str | None:
    differs: Iterable[str] = [name for name, equal in same.items() if not equal]
    return f"the {' and the '.join(differs)} of the run are not as the audit log says" if differs else None
