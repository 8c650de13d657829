"""``stop_button``: a person has said stop, for everything, this playbook or this service."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.guards import ALLOW, Answer, Guard, Question, Verdict
from remediator.records import stops


class StopButton(Guard):
    """Blocks while a stop stands. Looks into the store inside the intent's own transaction, on every replica."""

    name = "stop_button"
    reasons = frozenset({"stopped"})

    def decide(self, connection: Connection, question: Question) -> Verdict:
        for stop in stops.standing(connection, question.now):
            if not _covers(stop, question):
                continue
            scope = stop.scope if stop.scope == "global" else f"{stop.scope} {stop.name}"
            until = f", until {stop.expires_at.isoformat()}" if stop.expires_at else ""
            return Verdict(
                Answer.BLOCK,
                "stopped",
                f"stop button: {scope} stopped by {stop.who} at {stop.set_at:%Y-%m-%d %H:%M}Z{until}: {stop.reason}",
                {"stop": stop.id, "scope": stop.scope, "name": stop.name, "who": stop.who, "reason": stop.reason},
                stop.expires_at,
            )
        return ALLOW


def _covers(stop: stops.Stop, question: Question) -> bool:
    named = {"playbook": question.playbook.name, "service": question.service.name}
    return stop.scope == "global" or named.get(stop.scope) == stop.name
