"""Rules about causes: whether a step knows the fault that it is for."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks import cel
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook


class NoCause(Rule):
    """In mode auto, a step that interrupts or destroys something names no cause that it is for."""

    id = "no-cause"
    why = "Without an established cause, such a step never runs automatically: every run needs an approval."
    fix = "give the conclusion of this fault an id, and add for: [ID] to the step"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if "auto" not in playbook.modes or playbook.approval.required:
                continue
            for at, step in enumerate(playbook.steps):
                traits = context.traits(step)
                if step.for_ or step.approval == "required" or traits.requires_approval:
                    continue
                if traits.interrupts or traits.destructive:
                    message = f"{step.action} interrupts the service and names no cause, so every run needs an approval"
                    if not traits.interrupts:
                        message = (
                            f"{step.action} may lose data and names no cause, so nothing shows that it fits the fault"
                        )
                    yield self.at(context, playbook, ("steps", at, "action"), message)


class NegatedOk(Rule):
    """A mutating step runs whenever a check is not ok, in every state of the service."""

    id = "negated-ok"
    why = "Not ok means down, loading, a wrong password or a full disk. A restart helps in few of these states."
    fix = "use facts that name the state, for example evidence.ping.facts.state == 'down'"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            # a PromQL expression as the diagnosis has only one answer, and no states to distinguish
            single = {item.id for item in playbook.diagnose if item.check in context.catalogue.uses_prometheus}
            facts = context.catalogue.check_facts
            # a check distinguishes states if one of its facts has a list of values
            telling = {
                item.id
                for item in playbook.diagnose
                if item.check is not None and any(fact.values for fact in facts.get(item.check, ()))
            }
            for place, condition in _gates(context, playbook):
                for found in negated_ok(condition):
                    if found not in single and (place[0] == "steps" or found in telling):
                        message = f"the condition holds in every state in which {found!r} is not ok"
                        hint = f"use facts that name the state, for example evidence.{found}.facts.state == 'down'"
                        yield self.at(context, playbook, place, message, hint)


def _gates(context: LintContext, playbook: Playbook) -> Iterator[tuple[tuple[str, int, str], str]]:
    """Return the conditions that let a step change something, with their places: its own, and those of its causes.

    A cause may depend on a check of a limit, which has no states to distinguish; see :func:`_with_states`.
    """
    changing = [(at, step) for at, step in enumerate(playbook.steps) if context.traits(step).mutates]
    causes = {cause for _, step in changing for cause in step.for_}
    for at, step in changing:
        if step.when is not None:
            yield ("steps", at, "when"), step.when
    for at, conclusion in enumerate(playbook.conclude):
        if conclusion.id in causes:
            yield ("conclude", at, "when"), conclusion.when


def negated_ok(text: str) -> tuple[str, ...]:
    """Return the evidence whose negated ``ok`` is enough for a condition, in one of its alternatives.

    An alternative that also reads facts, or the output of a step, distinguishes the states.
    """
    return tuple(dict.fromkeys(_negated(cel.tokenize(text), False)))


_TELLING = frozenset({"facts", "output"})
_NOT_OK = {("ok", "==", "false"), ("ok", "!=", "true"), ("status", "==", "fail"), ("status", "!=", "ok")}
_OK = {("ok", "==", "true"), ("ok", "!=", "false"), ("status", "==", "ok"), ("status", "!=", "fail")}


def _negated(words: list[str], negative: bool) -> list[str]:
    """Return the evidence that a part of a condition only negates.

    Args:
        words: the tokens of the part.
        negative: whether the part is inside a ``!``.
    """
    while words[:1] == ["("] and _closing(words) == len(words) - 1:
        words = words[1:-1]
    if "?" in words:
        return []
    for operator, is_alternative in (("|", not negative), ("&", negative)):
        parts = _split(words, operator)
        if len(parts) > 1:
            if not is_alternative and any(_TELLING & set(part) for part in parts):
                return []
            return [name for part in parts for name in _negated(part, negative)]
    if words[:1] == ["!"]:
        return _negated(words[1:], not negative)
    # the evidence of a comparison like `evidence.ping.ok == false`, or of `evidence.ping.ok` alone
    dotted = [word.strip("'\"") for word in words if word not in (".", "[", "]")]
    if len(dotted) < 3 or dotted[0] != "evidence":
        return []
    _, name, field, *compared = dotted
    if not compared:
        return [name] if field == "ok" and negative else []
    comparison = (field, "".join(compared[:-1]), compared[-1])
    return [name] if comparison in (_OK if negative else _NOT_OK) else []


def _closing(words: list[str]) -> int:
    """Return the position of the bracket that closes the first one."""
    depth = 0
    for at, word in enumerate(words):
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth == 0:
            return at
    return -1


_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


def _split(words: list[str], operator: str) -> list[list[str]]:
    """Split at ``&&`` or ``||`` outside of brackets. The tokens of an operator are its single characters."""
    parts: list[list[str]] = [[]]
    depth, at = 0, 0
    while at < len(words):
        word = words[at]
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth == 0 and word == operator and words[at + 1 : at + 2] == [operator]:
            parts.append([])
            at += 2
        else:
            parts[-1].append(word)
            at += 1
    return parts
