"""``ladder``: a playbook that was demoted since a run began asks, or only watches, from then on."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Verdict, clock_time
from remediator.storage.repositories import autonomy


class Autonomy(Guard):
    """Unknown, that is *ask*, if the playbook may not act by itself any more; blocks if it may only watch."""

    name = "autonomy"
    reasons = frozenset({"demoted"})

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        name = question.playbook.name
        put = autonomy.get_override(connection, name)
        mode = question.run.mode
        if put is None or autonomy.lower_mode(put.mode, mode) == mode:
            return ALLOW
        at = clock_time(put.at, question.now)
        text = f"ladder: {name} was put from {mode} to {put.mode} by {put.who} at {at}: {put.reason}"
        inputs = {"mode": mode, "now": put.mode, "who": put.who, "reason": put.reason, "at": put.at.isoformat()}
        answer = GuardAnswer.UNKNOWN if put.mode == "approve" else GuardAnswer.BLOCK
        return Verdict(answer, "demoted", text, inputs)
