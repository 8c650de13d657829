"""``managed_by``: do not make changes that Argo CD, Flux or an autoscaler would revert."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from remediator.core.text import join_names
from remediator.errors import RemediatorError
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict


class ManagedBySettings(Settings):
    """On which platforms to look for a manager, and which managers to allow."""

    platforms: tuple[str, ...] = Field(
        default=("kubernetes",), description="Platforms on which to look for a manager of the target."
    )
    allow: tuple[str, ...] = Field(
        default=(), description="Kinds of managers whose targets may be changed, for example argocd."
    )

    def off(self) -> str:
        if not self.platforms:
            return "its platforms are empty"
        return f"it allows {join_names(self.allow)}" if self.allow else ""


class ManagedBy(Guard):
    """Blocks an action that the manager of the target would revert. The verdict names the manager.

    The status from the platform names the manager in ``facts["owner"]``. This is a mapping with ``kind`` (for example
    argocd, flux or hpa), ``name``, and ``undoes``: the actions that the manager reverts. Without ``undoes``, it reverts
    all actions. If the fact is missing or None, the target has no manager.
    """

    name = "managed_by"
    reasons = frozenset({"owned", "owner_unclear", "platform_silent"})
    applies_to_undo = True
    Settings = ManagedBySettings

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        if guard_input.service.platform.kind not in guard_input.settings.platforms:
            return ALLOW
        try:
            owner = (await guard_input.view.status()).facts.get("owner")
        except RemediatorError as error:
            text = f"the manager of {guard_input.service.name} is unknown: {error}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text)
        if owner is None:
            return ALLOW
        if not isinstance(owner, Mapping) or "kind" not in owner:
            text = f"the platform names a manager of {guard_input.service.name} in an unknown form: {str(owner)[:100]}"
            return Verdict(GuardAnswer.UNKNOWN, "owner_unclear", text, {"owner": str(owner)[:200]})
        kind, name = str(owner["kind"]), str(owner.get("name", ""))
        if kind in guard_input.settings.allow:
            return ALLOW
        undoes = owner.get("undoes")
        if guard_input.step is not None:
            actions = [guard_input.step.action]
        else:
            steps = () if guard_input.run.plan is None else guard_input.run.plan.steps
            actions = sorted({step.action for step in steps if step.mutates})
        conflicting = [action for action in actions if undoes is None or action in undoes]
        if not conflicting:
            return ALLOW
        who = f"{kind} {name}".strip()
        return Verdict(
            GuardAnswer.BLOCK,
            "owned",
            f"{guard_input.service.name} is managed by {who}, which would revert {', '.join(conflicting)}; "
            "make the change there",
            {"owner": {"kind": kind, "name": name}, "actions": conflicting},
        )
