"""The errors that make a file unusable, with their meaning and fix. They cannot be suppressed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ErrorHelp(NamedTuple):
    """The meaning of an error ID, for the reference."""

    summary: str
    fix: str


ERRORS: Mapping[str, ErrorHelp] = {
    # the file
    "unreadable": ErrorHelp("The file cannot be read.", "Correct the path or the permissions of the file."),
    "encoding": ErrorHelp("The file is not plain UTF-8.", "Save it as UTF-8 without a byte order mark."),
    "empty-file": ErrorHelp("The file is empty.", "Add content, or remove the file."),
    "too-big": ErrorHelp("The file is larger than the limit (1 MiB, 50,000 values).", "Split the file."),
    "too-deep": ErrorHelp("The file is nested more than 40 levels deep.", "Reduce the nesting."),
    # YAML
    "yaml-syntax": ErrorHelp(
        "The file is not valid YAML.", "The message names the expected value. Quotes around the value often help."
    ),
    "tab": ErrorHelp("A line is indented with a tab.", "Indent with spaces."),
    "duplicate-key": ErrorHelp(
        "A mapping contains the same key twice. YAML would silently use the last one.", "Remove one of the two."
    ),
    "alias": ErrorHelp(
        (
            "Anchors, aliases and merge keys are not supported: they hide the effective values, and can expand without "
            "limit."
        ),
        "Write the value out, or move the shared part into a fragment.",
    ),
    "tag": ErrorHelp("YAML tags (!…) are not supported.", "Remove the tag."),
    "bad-key": ErrorHelp("A key is missing or is not text.", "Write a name before the ':'."),
    "several-documents": ErrorHelp(
        "The file contains several documents, separated by '---'. Only one is allowed.",
        "Use one file for each document.",
    ),
    # shape
    "unknown-key": ErrorHelp("The key is unknown here.", "Correct the key. The message lists the known keys."),
    "missing-key": ErrorHelp("A required key is missing.", "Add the key. The message explains it."),
    "no-value": ErrorHelp(
        "A key has no value. It would silently mean the default.",
        "Add a value, or remove the key.",
    ),
    "wrong-type": ErrorHelp(
        ("A value has the wrong type, for example text instead of a number, or 'no' instead of false."),
        ("Use the type in the message. Only true and false are booleans; 010, 1e3 and 12:30 are text."),
    ),
    "wrong-value": ErrorHelp(
        "A value is not allowed, or outside its limits.", "See the message for the allowed values."
    ),
    # matchers, patterns, durations and conditions
    "bad-matcher": ErrorHelp(
        "The text is not a valid Alertmanager matcher.", 'Use a form like severity="critical" or env=~"prod|demo".'
    ),
    "bad-pattern": ErrorHelp(
        "RE2 does not accept this regular expression.", "Remove look-around and other features that RE2 lacks."
    ),
    "bad-condition": ErrorHelp(
        "The text is not a valid CEL condition.",
        "Use evidence, params, steps and target. The result must be true or false.",
    ),
    "bad-promql": ErrorHelp(
        "The text is not a valid PromQL expression: unclosed, incomplete or of the wrong type.",
        "Try it in the Prometheus web interface, with values for the parameters.",
    ),
    # names
    "file-name": ErrorHelp(
        "The file and the playbook have different names.", "Rename the file to the name of the playbook."
    ),
    "duplicate-name": ErrorHelp("Two files define the same name.", "Rename one of them."),
    "duplicate-id": ErrorHelp("Two diagnoses or steps have the same ID.", "Rename one of them."),
    "unknown-action": ErrorHelp("The action does not exist.", "Correct the name. The message lists the known actions."),
    "unknown-check": ErrorHelp("The check does not exist.", "Correct the name. The message lists the known checks."),
    "unknown-guard": ErrorHelp("The guard does not exist.", "Correct the name. The message lists the known guards."),
    "unknown-command": ErrorHelp(
        "The settings do not allow this command.", "Correct the name, or add the command under commands."
    ),
    "unknown-request": ErrorHelp(
        "The settings do not allow this request.", "Correct the name, or add the request under requests."
    ),
    "unknown-service": ErrorHelp(
        "The inventory does not contain this service.", "Correct the name, or add the service."
    ),
    "unknown-fragment": ErrorHelp("The fragment does not exist.", "Correct the name, or add the fragment."),
    "unknown-step": ErrorHelp(
        "The step does not exist, or comes after the condition that refers to it.", "Correct the ID."
    ),
    "unknown-cause": ErrorHelp(
        "A step is for a cause that no conclusion has as its ID.",
        "Correct the ID, or give a conclusion this ID.",
    ),
    "unknown-evidence": ErrorHelp(
        "No diagnosis before this step has this ID, so the condition could never be evaluated.",
        "Add a diagnosis with this ID, or correct the ID.",
    ),
    "unknown-parameter": ErrorHelp(
        "The parameter is not declared.", "Declare it under parameters, or correct the name."
    ),
    "unknown-field": ErrorHelp(
        "Evidence has the fields ok, status and facts; a step has status and output; the target has name and platform. "
        "The summary of evidence is text for people, and a condition cannot read it.",
        "Use one of these fields, for example evidence.ping.facts.state == 'down'.",
    ),
    "unknown-fact": ErrorHelp(
        "The check or action does not report a fact with this name, so that the condition could never be evaluated.",
        "Correct the name. The reference of checks and actions lists the facts of each.",
    ),
    "impossible-value": ErrorHelp(
        "A condition compares a fact with a string that the fact never has, or with null.",
        "Correct the value. The reference of checks and actions lists the possible values. For a fact that may be "
        "missing, use has().",
    ),
    # meaning
    "fragment-cycle": ErrorHelp("Fragments include each other in a cycle.", "Remove one of the includes."),
    "dependency-cycle": ErrorHelp("Services depend on each other in a cycle.", "Remove one of the dependencies."),
    "backward-goto": ErrorHelp("goto refers to an earlier step. A run only moves forward.", "Move that step down."),
    "bad-reference": ErrorHelp(
        ("A parameter is at a place where its value could change more: a key, part of the target, bare PromQL."),
        "Put it into quotes, or use a parameter of type service, integer, number or duration.",
    ),
    "bad-default": ErrorHelp(
        "A default, constant or enum value does not have the type of its parameter.", "Correct the value."
    ),
    "not-read-only": ErrorHelp("A diagnosis uses an action that changes something.", "Make it a step."),
    "not-idempotent": ErrorHelp("retry is set on an action that must not be repeated blindly.", "Remove retry."),
    "no-undo": ErrorHelp(
        "undo without an action is set on a step that is not reversible.", "Name the action for the undo."
    ),
    "nothing-to-undo": ErrorHelp("undo is set on an action that only reads.", "Remove undo."),
    # suppressions
    "bad-suppression": ErrorHelp(
        "A comment that should suppress a warning is not valid, or names an error.",
        "Use the form # remediator: off RULE until 2027-01-01 because REASON.",
    ),
}
