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
    "unreadable": Explained("The file cannot be read.", "Correct the path or the permissions of the file."),
    "encoding": Explained("The file is not plain UTF-8.", "Save it as UTF-8 without a byte order mark."),
    "empty-file": Explained("The file is empty.", "Add content, or remove the file."),
    "too-big": Explained("The file is larger than the limit (1 MiB, 50,000 values).", "Split the file."),
    "too-deep": Explained("The file is nested more than 40 levels deep.", "Reduce the nesting."),
    # YAML
    "yaml-syntax": Explained(
        "The file is not valid YAML.", "See the message for what was expected. Quotes around the value often help."
    ),
    "tab": Explained("A line is indented with a tab.", "Indent with spaces."),
    "duplicate-key": Explained(
        "A mapping contains the same key twice. YAML would silently use the last one.", "Remove one of the two."
    ),
    "alias": Explained(
        ("Anchors, aliases and merge keys are not supported: they hide what runs, and can expand without limit."),
        "Write the value out, or move the shared part into a fragment.",
    ),
    "tag": Explained("YAML tags (!…) are not supported.", "Remove the tag."),
    "bad-key": Explained("A key is missing or is not text.", "Write a name before the ':'."),
    "several-documents": Explained(
        "The file contains several documents, separated by '---'. Only one is allowed.",
        "Use one file for each document.",
    ),
    # shape
    "unknown-key": Explained("The key is unknown here.", "Correct the key. The message lists the known keys."),
    "missing-key": Explained("A required key is missing.", "Add the key. The message explains it."),
    "no-value": Explained(
        "A key has no value. It would silently mean the default.",
        "Add a value, or remove the key.",
    ),
    "wrong-type": Explained(
        ("A value has the wrong type, for example text instead of a number, or 'no' instead of false."),
        ("Use the type in the message. Only true and false are booleans; 010, 1e3 and 12:30 are text."),
    ),
    "wrong-value": Explained(
        "A value is not allowed, or outside its limits.", "See the message for the allowed values."
    ),
    # small languages
    "bad-matcher": Explained(
        "The text is not a valid Alertmanager matcher.", 'Use a form like severity="critical" or env=~"prod|demo".'
    ),
    "bad-pattern": Explained(
        "RE2 does not accept this regular expression.", "Remove look-around and other features that RE2 lacks."
    ),
    "bad-condition": Explained(
        "The text is not a valid CEL condition.",
        "Use evidence, params, steps and target. The result must be true or false.",
    ),
    "bad-promql": Explained(
        "The text is not a valid PromQL expression: unclosed, incomplete or of the wrong type.",
        "Try it in the Prometheus web interface, with values for the parameters.",
    ),
    # names
    "file-name": Explained(
        "The file and the playbook have different names.", "Rename the file to the name of the playbook."
    ),
    "duplicate-name": Explained("Two files define the same name.", "Rename one of them."),
    "duplicate-id": Explained("Two diagnoses or steps have the same ID.", "Rename one of them."),
    "unknown-action": Explained("The action does not exist.", "Correct the name. The message lists the known actions."),
    "unknown-check": Explained("The check does not exist.", "Correct the name. The message lists the known checks."),
    "unknown-guard": Explained("The guard does not exist.", "Correct the name. The message lists the known guards."),
    "unknown-service": Explained(
        "The inventory does not contain this service.", "Correct the name, or add the service."
    ),
    "unknown-fragment": Explained("The fragment does not exist.", "Correct the name, or add the fragment."),
    "unknown-step": Explained(
        "The step does not exist, or comes after the condition that refers to it.", "Correct the ID."
    ),
    "unknown-evidence": Explained(
        "No diagnosis before this step has this ID, so the condition could never be evaluated.",
        "Add a diagnosis with this ID, or correct the ID.",
    ),
    "unknown-parameter": Explained(
        "The parameter is not declared.", "Declare it under parameters, or correct the name."
    ),
    "unknown-field": Explained("The target has only the fields name and platform.", "Use one of the two."),
    # meaning
    "fragment-circle": Explained("Fragments include each other in a cycle.", "Remove one of the includes."),
    "dependency-circle": Explained("Services depend on each other in a cycle.", "Remove one of the dependencies."),
    "backward-goto": Explained("goto refers to an earlier step. A run only moves forward.", "Move that step down."),
    "bad-reference": Explained(
        ("A parameter stands where its value could be more than a value: a key, part of the target, bare PromQL."),
        "Put it into quotes, or use a parameter of type service, integer, number or duration.",
    ),
    "bad-default": Explained(
        "A default, constant or enum value does not have the type of its parameter.", "Correct the value."
    ),
    "not-read-only": Explained("A diagnosis uses an action that changes something.", "Make it a step."),
    "not-idempotent": Explained("retry is set on an action that must not be repeated blindly.", "Remove retry."),
    "no-way-back": Explained(
        "undo without an action is set on a step that is not reversible.", "Name the action for the undo."
    ),
    "nothing-to-undo": Explained("undo is set on an action that only reads.", "Remove undo."),
    # exceptions
    "bad-snooze": Explained(
        "A comment that should suppress a warning is not valid, or names an error.",
        "Use the form # remediator: off RULE until 2027-01-01 because REASON.",
    ),
}
