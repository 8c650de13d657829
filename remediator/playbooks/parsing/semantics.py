"""What a playbook means: do the things exist that it names, and can what it says be done?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath

from remediator.playbooks import cel
from remediator.playbooks.catalogue import ActionTraits
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.model import Step
from remediator.playbooks.parameters import REFERENCE
from remediator.playbooks.parsing import check_calls, check_guards
from remediator.playbooks.parsing.check_conditions import impossible
from remediator.playbooks.parsing.nodes import Path
from remediator.playbooks.parsing.subject import CheckSubject

EVIDENCE_FIELDS = ("ok", "status", "facts", "summary")
STEP_FIELDS = ("status", "output")
TARGET_FIELDS = ("name", "platform")


def check(about: CheckSubject) -> Iterator[Diagnostic]:
    """Everything that is wrong with what a playbook means."""
    for part in _PARTS:
        yield from part(about)


def _file_name(about: CheckSubject) -> Iterator[Diagnostic]:
    stem = PurePath(about.playbook.source).name.partition(".")[0]
    if stem and about.knows(("name",)) and stem != about.playbook.name:
        message = f"the file is called {PurePath(about.playbook.source).name}, and its playbook {about.playbook.name!r}"
        yield about.finding(("name",), "file-name", message, f"name the file {about.playbook.name}.yaml")


def _target(about: CheckSubject) -> Iterator[Diagnostic]:
    if not about.knows(("target",)):
        return
    target = about.playbook.target
    whole = REFERENCE.fullmatch(target)
    if whole is not None and whole[1] is None:
        yield from _target_parameter(about, whole[2])
    elif "${" in target:
        hint = "a label may choose a service only as a whole, by a parameter of type service"
        yield about.finding(("target",), "bad-reference", "the target is put together from parts", hint)
    elif about.inventory is not None and target not in about.inventory:
        hint = did_you_mean(target, about.inventory.services)
        yield about.finding(("target",), "unknown-service", f"there is no service {target!r} in the inventory", hint)


def _target_parameter(about: CheckSubject, name: str) -> Iterator[Diagnostic]:
    declared = about.playbook.parameters.get(name)
    if declared is None and name in about.written_names("parameters"):
        return  # what is wrong with it is said where it is declared
    if declared is None:
        hint = did_you_mean(name, about.playbook.parameters) or "declare it under parameters with type: service"
        yield about.finding(("target",), "unknown-parameter", f"${{{name}}} is not a declared parameter", hint)
    elif declared.type != "service":
        message = f"the target comes from {name!r}, which is a {declared.type}"
        yield about.finding(("target",), "wrong-type", message, f"declare {name} with type: service")


def _services(about: CheckSubject) -> Iterator[Diagnostic]:
    """Services that parameters name as constants and defaults."""
    for name, declared in about.playbook.parameters.items():
        for option in ("value", "default"):
            given = getattr(declared, option)
            stranger = isinstance(given, str) and about.inventory is not None and given not in about.inventory
            if declared.type == "service" and stranger and about.inventory is not None:
                hint = did_you_mean(given, about.inventory.services)
                message = f"there is no service {given!r} in the inventory"
                yield about.finding(("parameters", name, option), "unknown-service", message, hint)


def _reading(about: CheckSubject) -> Iterator[Diagnostic]:
    for at, look in enumerate(about.playbook.diagnose):
        if look.action in about.catalogue.actions and about.catalogue.traits_of(str(look.action)).mutates:
            message = f"{look.action} changes something, and a diagnosis only reads"
            yield about.finding(("diagnose", at, "action"), "not-read-only", message, "make it a step")


def _repeating(about: CheckSubject) -> Iterator[Diagnostic]:
    for at, step in enumerate(about.playbook.steps):
        traits = about.catalogue.traits_of(step.action)
        if step.retry.attempts > 1 and step.action in about.catalogue.actions and not traits.idempotent:
            message = f"{step.action} is not idempotent, so it is never tried twice"
            hint = "leave out retry; an unclear outcome is looked at, not repeated"
            yield about.finding(("steps", at, "retry", "attempts"), "not-idempotent", message, hint)


def _undoing(about: CheckSubject) -> Iterator[Diagnostic]:
    for at, step in enumerate(about.playbook.steps):
        traits = about.catalogue.traits_of(step.action)
        if step.undo is not None and step.action in about.catalogue.actions and not traits.mutates:
            message = f"{step.action} only reads, so there is nothing to undo"
            yield about.key_finding(("steps", at, "undo"), "nothing-to-undo", message, "leave out undo")
        elif step.undo is not None and step.undo.action is None and step.action in about.catalogue.actions:
            yield from _own_way_back(about, at, step, traits)


def _own_way_back(about: CheckSubject, at: int, step: Step, traits: ActionTraits) -> Iterator[Diagnostic]:
    """An undo without an action is the step's own, so there has to be one, and it takes no parameters."""
    if not traits.reversible:
        message = f"{step.action} has no way back of its own"
        yield about.key_finding(("steps", at, "undo"), "no-way-back", message, "name the action that puts it back")
    elif step.undo is not None and step.undo.with_:
        message = "with is given without an action"
        hint = "the step's own way back uses what was recorded; leave with out, or name an action"
        yield about.key_finding(("steps", at, "undo", "with"), "no-way-back", message, hint)


def _guards(about: CheckSubject) -> Iterator[Diagnostic]:
    offered, names = about.catalogue.guards, about.playbook.guards.settings
    yield from check_guards.unfit(offered, about.root, names)
    for name in names:
        if name in offered:
            yield from check_calls.check_references(about, ("guards", name))
            yield from check_calls.promql_below(about, ("guards", name))
            yield from check_calls.check_below(about, ("guards", name))
    yield from check_guards.strangers(offered, about.root, enumerate(about.playbook.guards.off))


def _conditions(about: CheckSubject) -> Iterator[Diagnostic]:
    for at, step in enumerate(about.playbook.steps):
        if step.when is None:
            continue
        for reference in cel.compile(step.when).references:
            yield from _wrong(about, at, ("steps", at, "when"), reference)


def _conclusions(about: CheckSubject) -> Iterator[Diagnostic]:
    for at, item in enumerate(about.playbook.conclude):
        for reference in cel.compile(item.when).references:
            yield from _wrong(about, 0, ("conclude", at, "when"), reference)


def _wrong(about: CheckSubject, at: int, path: Path, reference: cel.Reference) -> Iterator[Diagnostic]:
    """What a condition at this path names wrongly; ``at`` is the first step that it cannot ask for."""
    if (referred := _referred(about, at, reference)) is not None:
        rule, message, hint = referred
        yield about.finding(path, rule, message, hint, offset=reference.column)
    elif (compared := impossible(reference, about.playbook.parameters)) is not None:
        message, hint = compared
        yield about.finding(path, "bad-condition", message, hint, offset=reference.column)


def _others(about: CheckSubject) -> Iterator[Diagnostic]:
    """Services that diagnoses look at beside the target."""
    for at, look in enumerate(about.playbook.diagnose):
        if look.service is not None and about.inventory is not None and look.service not in about.inventory:
            hint = did_you_mean(look.service, about.inventory.services)
            message = f"there is no service {look.service!r} in the inventory"
            yield about.finding(("diagnose", at, "service"), "unknown-service", message, hint)


def _referred(about: CheckSubject, at: int, reference: cel.Reference) -> tuple[str, str, str] | None:
    if reference.name is None:
        return None
    known, fields = _scope(about, at)[reference.root]
    name, rule = f"{reference.root}.{reference.name}", f"unknown-{_RULES[reference.root]}"
    if reference.name not in known:
        if reference.root == "steps" and reference.name in about.written_names("steps"):
            return rule, f"nothing is known of {name} yet", "a condition can ask only for earlier steps"
        return rule, f"there is no {name}", did_you_mean(reference.name, known)
    if fields and reference.field is not None and reference.field not in fields:
        return rule, f"{name} has no {reference.field!r}", _either(reference.field, fields)
    return None


def _either(given: str, fields: tuple[str, ...]) -> str:
    hint = did_you_mean(given, fields)
    return hint if hint.startswith("did") else f"it has {', '.join(fields)}; what was seen is under facts or output"


_RULES = {"evidence": "evidence", "steps": "step", "params": "parameter", "target": "field"}


def _scope(about: CheckSubject, at: int) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each root, the names that a step's condition can see, and their fields; only earlier steps have happened."""
    earlier = about.playbook.steps[:at]
    looks = tuple(sorted(about.written_names("diagnose")))
    reads = tuple(step.id for step in earlier if not about.catalogue.traits_of(step.action).mutates)
    return {
        "evidence": ((*looks, *reads), EVIDENCE_FIELDS),
        "steps": (tuple(step.id for step in earlier), STEP_FIELDS),
        "params": (tuple(sorted(about.written_names("parameters"))), ()),
        "target": (TARGET_FIELDS, ()),
    }


_PARTS: tuple[Callable[[CheckSubject], Iterator[Diagnostic]], ...] = (
    _file_name,
    _target,
    _services,
    check_calls.check,
    _reading,
    _repeating,
    _undoing,
    _guards,
    _conditions,
    _conclusions,
    _others,
)
