"""Check the meaning of a playbook: whether its references exist, and whether its steps are possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath

from remediator.playbooks import cel
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean, similar_name
from remediator.playbooks.parsing.check_calls import (
    check_calls,
    check_calls_below,
    check_promql_below,
    check_references,
)
from remediator.playbooks.parsing.check_conditions import check_facts, constant_comparison
from remediator.playbooks.parsing.check_message import check_message
from remediator.playbooks.parsing.check_settings import check_disabled_guards, check_guard_settings
from remediator.playbooks.parsing.nodes import Path
from remediator.playbooks.parsing.subject import CheckSubject
from remediator.playbooks.references import REFERENCE

EVIDENCE_FIELDS = ("ok", "status", "facts")
STEP_FIELDS = ("status", "output")
TARGET_FIELDS = ("name", "platform")
_RULES = {
    "evidence": "unknown-evidence",
    "steps": "unknown-step",
    "params": "unknown-parameter",
    "target": "unknown-field",
    "cost": "unknown-fact",
}


def check(subject: CheckSubject) -> Iterator[Diagnostic]:
    """Yield every semantic error of a playbook."""
    for part in _CHECKS:
        yield from part(subject)


def _file_name(subject: CheckSubject) -> Iterator[Diagnostic]:
    name, file = subject.playbook.name, PurePath(subject.playbook.source).name
    stem = file.partition(".")[0]
    if stem and subject.contains(("name",)) and stem != name:
        message = f"the file {file} contains the playbook {name!r}"
        yield subject.diagnostic(("name",), "file-name", message, f"rename the file to {name}.yaml")


def _target(subject: CheckSubject) -> Iterator[Diagnostic]:
    target = subject.playbook.target
    reference = REFERENCE.fullmatch(target)
    if not subject.contains(("target",)):
        return
    if reference is not None and reference[1] is None:
        name = reference[2]
        declared = subject.playbook.parameters.get(name)
        # otherwise the error is reported at the declaration
        if declared is None and name not in subject.written_names("parameters"):
            hint = did_you_mean(name, subject.playbook.parameters) or "declare it under parameters with type: service"
            yield subject.diagnostic(("target",), "unknown-parameter", f"unknown parameter ${{{name}}}", hint)
        elif declared is not None and declared.type != "service":
            message = f"the target must be a service, but ${{{name}}} is a {declared.type}"
            yield subject.diagnostic(("target",), "wrong-type", message, f"declare {name} with type: service")
    elif "${" in target:
        hint = "use one parameter of type service as the whole target"
        yield subject.diagnostic(("target",), "bad-reference", "a parameter cannot be a part of the target", hint)
    else:
        yield from _service(subject, ("target",), target)


def _service(subject: CheckSubject, path: Path, name: str) -> Iterator[Diagnostic]:
    """Check that the inventory contains the service that a path names, or may discover it."""
    if subject.inventory is not None and not subject.inventory.may_contain(name):
        hint = did_you_mean(name, subject.inventory.services)
        yield subject.diagnostic(path, "unknown-service", f"unknown service {name!r}", hint)


def _services(subject: CheckSubject) -> Iterator[Diagnostic]:
    """Check the services that diagnoses name, and that are constants and defaults of parameters."""
    for name, declared in subject.playbook.parameters.items():
        for option in ("value", "default"):
            given = getattr(declared, option)
            if declared.type == "service" and isinstance(given, str):
                yield from _service(subject, ("parameters", name, option), given)
    for at, look in enumerate(subject.playbook.diagnose):
        if look.service is not None:
            yield from _service(subject, ("diagnose", at, "service"), look.service)


def _read_only_diagnoses(subject: CheckSubject) -> Iterator[Diagnostic]:
    for at, look in enumerate(subject.playbook.diagnose):
        if (
            look.action in subject.catalogue.actions
            and subject.catalogue.traits_of(str(look.action), look.with_).mutates
        ):
            message, hint = f"a diagnosis must not change anything, but {look.action} does", "move it to steps"
            calls = subject.catalogue.declared.get(str(look.action))
            if calls is not None:
                hint = f"if it changes nothing, declare read_only: true in {calls.section} of the settings"
            yield subject.diagnostic(("diagnose", at, "action"), "not-read-only", message, hint)


def _retries(subject: CheckSubject) -> Iterator[Diagnostic]:
    for at, step in enumerate(subject.playbook.steps):
        traits = subject.catalogue.traits_of(step.action, step.with_)
        if step.retry.attempts > 1 and step.action in subject.catalogue.actions and not traits.idempotent:
            message = f"{step.action} is not idempotent, so it cannot be retried"
            hint = "remove retry; if the outcome of a call is unknown, the target is observed instead"
            yield subject.diagnostic(("steps", at, "retry", "attempts"), "not-idempotent", message, hint)


def _undos(subject: CheckSubject) -> Iterator[Diagnostic]:
    for at, step in enumerate(subject.playbook.steps):
        if step.undo is None or step.action not in subject.catalogue.actions:
            continue
        traits, path = subject.catalogue.traits_of(step.action, step.with_), ("steps", at, "undo")
        if not traits.mutates:
            message = f"{step.action} only reads, so there is nothing to undo"
            yield subject.key_diagnostic(path, "nothing-to-undo", message, "remove undo")
        elif step.undo.action is None and not traits.reversible:
            message = f"{step.action} cannot be undone without another action"
            yield subject.key_diagnostic(path, "no-undo", message, "name the action for the undo: undo: {action: …}")
        elif step.undo.action is None and step.undo.with_:
            message = "'with' needs an action"
            hint = "the action of the step uses the values that it recorded; remove with, or name an action"
            yield subject.key_diagnostic((*path, "with"), "no-undo", message, hint)


def _guards(subject: CheckSubject) -> Iterator[Diagnostic]:
    known, names = subject.catalogue.guards, subject.playbook.guards.settings
    yield from check_guard_settings(known, subject.root, names)
    for name in names:
        if name in known:
            yield from check_references(subject, ("guards", name))
            yield from check_promql_below(subject, ("guards", name))
            yield from check_calls_below(subject, ("guards", name))
    yield from check_disabled_guards(known, subject.root, enumerate(subject.playbook.guards.off))


def _conditions(subject: CheckSubject) -> Iterator[Diagnostic]:
    for at, step in enumerate(subject.playbook.steps):
        if step.when is not None:
            yield from _condition(subject, at, ("steps", at, "when"), step.when)
    for at, conclusion in enumerate(subject.playbook.conclude):
        yield from _condition(subject, 0, ("conclude", at, "when"), conclusion.when, in_step=False)


def _condition(subject: CheckSubject, at: int, path: Path, text: str, *, in_step: bool = True) -> Iterator[Diagnostic]:
    """Check a condition that is evaluated before step number ``at``."""
    for reference in cel.compile(text).references:
        if reference.root == "cost":
            found = _unknown_cost(subject, at, reference) if in_step else _COST_OF_NOTHING
        else:
            found = _unknown_reference(subject, at, reference)
        if found is None and (compared := constant_comparison(reference, subject.playbook.parameters)) is not None:
            found = ("bad-condition", *compared)
        if found is not None:
            rule, message, hint = found
            yield subject.diagnostic(path, rule, message, hint, offset=reference.column)


_COST_OF_NOTHING = ("unknown-fact", "cost is known in the conditions of steps only", "move the condition to a step")


def _unknown_cost(subject: CheckSubject, at: int, reference: cel.Reference) -> tuple[str, str, str] | None:
    """Return ID, message and hint for a cost that the action of step number ``at`` does not measure."""
    action, given = subject.playbook.steps[at].action, subject.playbook.steps[at].with_
    measured = subject.catalogue.traits_of(action, given).measures
    if reference.name is None or reference.name in measured:
        return None
    known = ", ".join(measured) or "nothing"
    hint = did_you_mean(reference.name, measured) or f"it measures {known}"
    return "unknown-fact", f"{action} does not measure cost.{reference.name}", hint


def _unknown_reference(subject: CheckSubject, at: int, reference: cel.Reference) -> tuple[str, str, str] | None:
    """Return ID, message and hint for a name or field that does not exist before step number ``at``."""
    if reference.name is None:
        return None
    earlier = subject.playbook.steps[:at]
    looks = tuple(sorted(subject.written_names("diagnose")))
    reads = tuple(step.id for step in earlier if not subject.catalogue.traits_of(step.action, step.with_).mutates)
    known, fields = {
        "evidence": ((*looks, *reads), EVIDENCE_FIELDS),
        "steps": (tuple(step.id for step in earlier), STEP_FIELDS),
        "params": (tuple(sorted(subject.written_names("parameters"))), ()),
        "target": (TARGET_FIELDS, ()),
    }[reference.root]
    name, rule = f"{reference.root}.{reference.name}", _RULES[reference.root]
    if reference.name not in known:
        if reference.root == "steps" and reference.name in subject.written_names("steps"):
            return rule, f"{name} has not run before this condition", "a condition can use earlier steps only"
        return rule, f"unknown {name}", did_you_mean(reference.name, known)
    if fields and reference.field is not None and reference.field not in fields:
        hint = f"known: {', '.join(fields)}; observed values are under {'output' if 'output' in fields else 'facts'}"
        if reference.root == "evidence" and reference.field == "summary":
            hint = f"the summary is text for people and can change; use facts, for example {name}.facts.state == 'down'"
        message = f"{name} has no field {reference.field!r}"
        return "unknown-field", message, similar_name(reference.field, fields) or hint
    return None


_CHECKS: tuple[Callable[[CheckSubject], Iterator[Diagnostic]], ...] = (
    _file_name,
    _target,
    _services,
    check_calls,
    _read_only_diagnoses,
    _retries,
    _undos,
    _guards,
    _conditions,
    check_facts,
    check_message,
)
