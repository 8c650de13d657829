"""``concurrency``: limit how many runs act at the same time."""

from __future__ import annotations

from pydantic import Field
from sqlalchemy import Connection

from remediator.core.text import join_names
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict
from remediator.storage.repositories import target_locks


class ConcurrencySettings(Settings):
    """How many runs may act at the same time. On one target, at most one run acts: that limit is fixed."""

    global_: int = Field(default=4, ge=1, alias="global", description="Limit for all playbooks together.")
    playbook: int = Field(default=4, ge=1, description="Limit for this playbook.")


class Concurrency(Guard):
    """Blocks while another run holds the target lock, or while too many runs act.

    A unique index in the store enforces the target lock. This guard reports it before the index would refuse.
    """

    name = "concurrency"
    reasons = frozenset({"target_busy", "playbook_busy", "all_busy"})
    same_for_all_steps = True
    passing_reasons = reasons
    Settings = ConcurrencySettings
    waits_for_runs = True

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        holding = [run for run in target_locks.list_locks(connection) if run.id != guard_input.run.id]
        same_target = [run.id for run in holding if run.target == guard_input.service.name]
        if same_target:
            text = f"concurrency 1 for {guard_input.service.name} used by run {same_target[0]}"
            return Verdict(GuardAnswer.BLOCK, "target_busy", text, {"run": same_target[0]})
        same_playbook = [run.id for run in holding if run.playbook == guard_input.playbook.name]
        if len(same_playbook) >= guard_input.settings.playbook:
            return _full(
                "playbook_busy", f"playbook {guard_input.playbook.name}", same_playbook, guard_input.settings.playbook
            )
        if len(holding) >= guard_input.settings.global_:
            return _full("all_busy", "all playbooks", [run.id for run in holding], guard_input.settings.global_)
        return ALLOW


def _full(reason: str, scope: str, acting: list[str], limit: int) -> Verdict:
    text = f"concurrency {limit} for {scope} used by runs {join_names(acting)}"
    return Verdict(GuardAnswer.BLOCK, reason, text, {"scope": scope, "limit": limit, "runs": acting})
