"""``kill_switch``: a person has said stop, for everything, this playbook or this service."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Verdict, clock_time
from remediator.storage.repositories import stops


class KillSwitch(Guard):
    """Blocks while a stop stands. Looks into the store inside the intent's own transaction, on every replica."""

    name = "kill_switch"
    reasons = frozenset({"stopped", "stop_file"})

    def __init__(self, world: ClientSet) -> None:
        self._state = world.state

    async def ask(self, question: GuardInput) -> Verdict:
        """A file may say it too, even where the store cannot be written."""
        said = None if self._state is None else read_stop_file(self._state)
        if said is None:
            return ALLOW
        inputs = {"file": str(said.path), "reason": said.reason, "since": said.since.isoformat()}
        since = clock_time(said.since, question.now)
        return Verdict(GuardAnswer.BLOCK, "stop_file", f"stop file {said.path} since {since}: {said.reason}", inputs)

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        for stop in stops.list_active(connection, question.now):
            if not stop.applies_to(question.playbook.name, question.service.name):
                continue
            until = f", until {clock_time(stop.expires_at, question.now)}" if stop.expires_at else ""
            at = clock_time(stop.created_at, question.now)
            return Verdict(
                GuardAnswer.BLOCK,
                "stopped",
                f"{stop.subject} stopped by {stop.created_by} at {at}{until}: {stop.reason} "
                f"(resume with: remediator resume {stop.id})",
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
