"""``postgres.locks``: Check that no session of PostgreSQL waits for a lock for too long, and name the root blocker."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from remediator.core.types import PositiveDuration
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.extensions.postgres_sessions import root_blockers
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PostgresLocksParameters(Parameters):
    """Parameters of ``postgres.locks``."""

    waiting_over: PositiveDuration = Field(default=timedelta(seconds=30), description="A longer wait for a lock fails.")


class PostgresLocks(Check):
    """Measure the longest wait for a lock."""

    name = "postgres.locks"
    needs = ("postgres",)
    Parameters = PostgresLocksParameters
    facts = (
        Fact("waiting", "integer", "Sessions that wait for a lock for longer than waiting_over."),
        Fact("longest", "number", "Longest wait.", unit="s"),
        Fact("root", "integer", "Process ID of the root blocker; 0 for a prepared transaction; null without a wait."),
        Fact("root_state", "string", "State of the root blocker; empty if there is none or it has no session."),
    )

    async def observe(self, service: Service, parameters: PostgresLocksParameters) -> Evidence:
        sessions = await bindings.postgres(service).sessions()
        waits = [session.waiting for session in sessions if session.waiting is not None]
        over = sum(wait > parameters.waiting_over.total_seconds() for wait in waits)
        root = next(iter(root_blockers(sessions)), None)
        facts = {
            "waiting": over,
            "longest": round(max(waits, default=0.0), 1),
            "root": None if root is None else root.pid,
            "root_state": root.session.state if root is not None and root.session is not None else "",
        }
        summary = f"{len(waits)} sessions wait for a lock, {over} of them too long"
        if root is not None:
            summary += (
                f"; the longest for {root.longest:.0f} s behind {root.session.text if root.session else root.pid}"
            )
        return Evidence(CheckAnswer.FAIL if over else CheckAnswer.OK, summary, facts)

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=False)
