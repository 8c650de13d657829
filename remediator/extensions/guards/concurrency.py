"""``concurrency``: one hand on a target, and few hands in all."""

from __future__ import annotations

from pydantic import Field
from sqlalchemy import Connection

from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, listed
from remediator.storage.repositories import runs


class ConcurrencySettings(Settings):
    """How many runs may act at once; a target never has more than one, whatever is written here."""

    global_: int = Field(default=4, ge=1, alias="global", description="Runs that act at the same time, in all.")
    playbook: int = Field(default=4, ge=1, description="Runs of one playbook that act at the same time.")


class Concurrency(Guard):
    """Blocks while another run has its hand on the target, or too many act. The store's unique index is the net."""

    name = "concurrency"
    reasons = frozenset({"target_busy", "playbook_busy", "all_busy"})
    Settings = ConcurrencySettings
    waits_for_runs = True

    def decide(self, connection: Connection, question: GuardInput) -> Verdict:
        holding = [run for run in runs.list_lock_holders(connection) if run.id != question.run.id]
        same_target = [run.id for run in holding if run.target == question.service.name]
        if same_target:
            text = f"concurrency 1 for {question.service.name} used by run {same_target[0]}"
            return Verdict(GuardAnswer.BLOCK, "target_busy", text, {"run": same_target[0]})
        same_playbook = [run.id for run in holding if run.playbook == question.playbook.name]
        if len(same_playbook) >= question.settings.playbook:
            return _full(
                "playbook_busy", f"playbook {question.playbook.name}", same_playbook, question.settings.playbook
            )
        if len(holding) >= question.settings.global_:
            return _full("all_busy", "all playbooks", [run.id for run in holding], question.settings.global_)
        return ALLOW


def _full(reason: str, scope: str, acting: list[str], limit: int) -> Verdict:
    text = f"concurrency {limit} for {scope} used by runs {listed(acting)}"
    return Verdict(GuardAnswer.BLOCK, reason, text, {"scope": scope, "limit": limit, "runs": acting})
