"""``owner``: does somebody else keep this thing as it is? Argo CD, Flux or an autoscaler would put it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.errors import RemediatorError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, listed


class ManagedBySettings(Settings):
    """On which platforms things have owners, and which of those do not mind."""

    platforms: tuple[str, ...] = Field(default=("kubernetes",), description="Platforms that are asked for an owner.")
    allow: tuple[str, ...] = Field(default=(), description="Kinds of owners that do not undo what we do.")

    def off(self) -> str:
        if not self.platforms:
            return "no platform is asked"
        return f"it allows {listed(self.allow)}" if self.allow else ""


class ManagedBy(Guard):
    """Blocks an action that an owner would undo, and says where to propose the change instead.

    A platform's status names it in ``facts["owner"]``: a mapping with ``kind`` (argocd, flux, hpa…), ``name``, and
    ``undoes``: the actions that it would put back; without it, all of them. None or absent: nobody owns it.
    """

    name = "managed_by"
    reasons = frozenset({"owned", "owner_unclear", "platform_silent"})
    Settings = ManagedBySettings

    def __init__(self, world: ClientSet) -> None:
        """It asks the platform through the question's sight."""

    async def ask(self, question: GuardInput) -> Verdict:
        if question.service.platform.kind not in question.settings.platforms:
            return ALLOW
        try:
            owner = (await question.sight.status()).facts.get("owner")
        except RemediatorError as error:
            text = f"who owns {question.service.name}? the platform does not say: {error}"
            return Verdict(GuardAnswer.UNKNOWN, "platform_silent", text)
        if owner is None:
            return ALLOW
        if not isinstance(owner, Mapping) or "kind" not in owner:
            text = f"{question.service.name} has an owner that is not understood: {str(owner)[:100]}"
            return Verdict(GuardAnswer.UNKNOWN, "owner_unclear", text, {"owner": str(owner)[:200]})
        return _owned(question, owner)


def _owned(question: GuardInput, owner: Mapping[str, Any]) -> Verdict:
    kind, name = str(owner["kind"]), str(owner.get("name", ""))
    if kind in question.settings.allow:
        return ALLOW
    undoes = owner.get("undoes")
    actions = _actions(question)
    conflicting = [action for action in actions if undoes is None or action in undoes]
    if not conflicting:
        return ALLOW
    who = f"{kind} {name}".strip()
    return Verdict(
        GuardAnswer.BLOCK,
        "owned",
        f"owner of {question.service.name} is {who}, which would undo {', '.join(conflicting)}; propose it there",
        {"owner": {"kind": kind, "name": name}, "actions": conflicting},
    )


def _actions(question: GuardInput) -> list[str]:
    if question.step is not None:
        return [question.step.action]
    steps = (question.run.plan or {}).get("steps", ())
    return sorted({str(step["action"]) for step in steps if step["mutates"]})
