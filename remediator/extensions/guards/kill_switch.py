"""``kill_switch``: block while a stop is active for all playbooks, this playbook or this service."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.extensions.guards._stop_file import read_stop_file
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Verdict, clock_time
from remediator.storage.repositories import stops


class KillSwitch(Guard):
    """Blocks while a stop is active.

    The stops are read in the transaction that commits the intent, so a stop applies on every replica from its commit.
    """

    name = "kill_switch"
    reasons = frozenset({"stopped", "stop_file"})
    same_for_all_steps = True
    applies_to_undo = True

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        """Check for the stop file, which works even if the store cannot be written."""
        stop_file = None if self.clients.state is None else read_stop_file(self.clients.state)
        if stop_file is None:
            return ALLOW
        inputs = {"file": str(stop_file.path), "reason": stop_file.reason, "since": stop_file.since.isoformat()}
        since = clock_time(stop_file.since, guard_input.now)
        return Verdict(
            GuardAnswer.BLOCK, "stop_file", f"stop file {stop_file.path} since {since}: {stop_file.reason}", inputs
        )

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        for stop in stops.list_active(connection, guard_input.now):
            if not stop.applies_to(guard_input.playbook.name, guard_input.service.name):
                continue
            until = f", until {clock_time(stop.expires_at, guard_input.now)}" if stop.expires_at else ""
            at = clock_time(stop.created_at, guard_input.now)
            return Verdict(
                GuardAnswer.BLOCK,
                "stopped",
                f"{stop.subject} stopped by {stop.created_by} at {at}{until}: {stop.reason} "
                f"(release it with: remediator stop release {stop.id})",
                {
                    "stop": stop.id,
                    "scope": stop.scope,
                    "name": stop.name,
                    "who": stop.created_by,
                    "reason": stop.reason,
                    "set_at": stop.created_at.isoformat(),
                },
                stop.expires_at,
            )
        return ALLOW
