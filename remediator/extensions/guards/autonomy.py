"""``autonomy``: apply a mode that was lowered after a run began."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Verdict, clock_time
from remediator.storage.repositories import autonomy


class Autonomy(Guard):
    """Asks for approval if the mode was lowered to ``approve`` after the run began; blocks if it is lower still."""

    name = "autonomy"
    reasons = frozenset({"demoted"})
    same_for_all_steps = True

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        name = guard_input.playbook.name
        lowered = autonomy.get_override(connection, name)
        mode = guard_input.run.mode
        if lowered is None or autonomy.lower_mode(lowered.mode, mode) == mode:
            return ALLOW
        at = clock_time(lowered.at, guard_input.now)
        text = f"{lowered.who} lowered the mode of {name} from {mode} to {lowered.mode} at {at}: {lowered.reason}"
        inputs = {
            "mode": mode,
            "now": lowered.mode,
            "who": lowered.who,
            "reason": lowered.reason,
            "at": lowered.at.isoformat(),
        }
        answer = GuardAnswer.UNKNOWN if lowered.mode == "approve" else GuardAnswer.BLOCK
        return Verdict(answer, "demoted", text, inputs)
