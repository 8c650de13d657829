"""The errors that make a file unusable: what each means and how to mend it. They cannot be switched off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explained:
    """An id that the loader gives to its findings."""

    what: str
    mend: str


ERRORS: Mapping[str, Explained] = {
    # the file
    "unreadable": Explained("The file cannot be read.", "Correct the path or the file's permissions."),
    "encoding": Explained("The file is not plain UTF-8.", "Save it as UTF-8 without a byte order mark."),
    "empty-file": Explained("There is nothing in the file.", "Write something, or remove the file."),
    "too-big": Explained("The file is larger than any playbook (1 MiB, 50,000 values).", "Split it."),
    "too-deep": Explained("The file is nested more than 40 deep.", "Write it flatter."),
    # YAML
    "yaml-syntax": Explained("This is not YAML.", "The message says what was expected; quotes mend most of it."),
    "tab": Explained("A tab indents a line.", "Indent with spaces."),
    "duplicate-key": Explained(
        "A key is given twice in one mapping; YAML would silently keep the last.", "Remove one of the two."
    ),
    "alias": Explained(
        "Anchors, aliases and merge keys are not part of the language: they hide what runs, and can explode.",
        "Write it out, or put what is shared into a fragment.",
    ),
    "tag": Explained("YAML tags (!…) are not part of the language.", "Leave the tag out."),
    "bad-key": Explained("A key is missing, or is not text.", "Write a word before the ':'."),
    "several-documents": Explained("A file holds one document; '---' begins another.", "Use a file for each."),
    # shape
    "unknown-key": Explained("There is no such key here.", "Correct it; the message lists what there is."),
    "missing-key": Explained("A required key is missing.", "Add it; the message says what it means."),
    "no-value": Explained(
        "A key has no value. It would silently mean the default, and whoever wrote it meant something.",
        "Give it a value, or remove the key.",
    ),
    "wrong-type": Explained(
        "A value is of another kind than expected: text for a number, 'no' for false.",
        "Write it as the message says. Only true and false are booleans; 010, 1e3 and 12:30 are text.",
    ),
    "wrong-value": Explained("A value is not one of those allowed, or out of bounds.", "See the message."),
    # small languages
    "bad-matcher": Explained(
        "This is not an Alertmanager matcher.", 'Write it like severity="critical" or env=~"prod|demo".'
    ),
    "bad-pattern": Explained("RE2 does not take this regular expression.", "Leave out look-around and the like."),
    "bad-condition": Explained(
        "This is not a condition in CEL.", "It speaks of evidence, params, steps and target, and is true or false."
    ),
    "bad-promql": Explained(
        "This is not a PromQL expression: something is not closed, is missing, or is of the wrong type.",
        "Try it in Prometheus' own page, with values for the parameters.",
    ),
    # names
    "file-name": Explained("File and playbook have different names.", "Give the file the playbook's name."),
    "duplicate-name": Explained("Two files have the same name inside.", "Rename one of them."),
    "duplicate-id": Explained("Two diagnoses or steps have the same id.", "Rename one of them."),
    "unknown-action": Explained("There is no such action.", "Correct the name; the message lists what there is."),
    "unknown-check": Explained("There is no such check.", "Correct the name; the message lists what there is."),
    "unknown-guard": Explained("There is no such guard.", "Correct the name; the message lists what there is."),
    "unknown-service": Explained("The inventory has no such service.", "Correct the name, or add the service."),
    "unknown-fragment": Explained("There is no such fragment.", "Correct the name, or write the fragment."),
    "unknown-step": Explained(
        "There is no such step, or it comes later than the condition that asks for it.", "Correct the id."
    ),
    "unknown-evidence": Explained(
        "Nothing before this step collects such evidence, so the condition could never be told.",
        "Add a diagnosis of this id, or correct it.",
    ),
    "unknown-parameter": Explained("No such parameter is declared.", "Declare it under parameters, or correct it."),
    "unknown-field": Explained("The target has only name and platform.", "Use one of the two."),
    # meaning
    "fragment-circle": Explained("Fragments include each other in a circle.", "Break the circle."),
    "dependency-circle": Explained("Services depend on each other in a circle.", "Break the circle."),
    "backward-goto": Explained("goto leads to an earlier step; a run only goes forward.", "Move the step down."),
    "bad-reference": Explained(
        "A parameter stands where its value could be more than a value: a key, a part of the target, bare PromQL.",
        "Put it into quotes, or use a parameter of type service, integer, number or duration.",
    ),
    "bad-default": Explained("A default, constant or enum value is not of its parameter's type.", "Correct it."),
    "not-read-only": Explained("A diagnosis would change something.", "Make it a step."),
    "not-idempotent": Explained("retry on an action that may not be repeated blindly.", "Leave out retry."),
    "no-way-back": Explained("undo without an action, on a step that has no way back.", "Name the action."),
    "nothing-to-undo": Explained("undo on an action that only reads.", "Leave out undo."),
    # exceptions
    "bad-snooze": Explained(
        "A comment that should switch a warning off is not understood, or names an error.",
        "Write # remediator: off RULE until 2027-01-01 because REASON.",
    ),
}
