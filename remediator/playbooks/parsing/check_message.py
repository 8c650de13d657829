"""Check the references in ``escalate.message``: parameters, and facts of the diagnosis."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.facts import fact_at, names_in
from remediator.playbooks.parameters import fact_path
from remediator.playbooks.parsing.check_conditions import declared_facts
from remediator.playbooks.parsing.subject import CheckSubject
from remediator.playbooks.references import REFERENCE

_PATH = ("escalate", "message")


def check_message(subject: CheckSubject) -> Iterator[Diagnostic]:
    """Check that each ``${…}`` in the message names a parameter, or a declared fact of a diagnosis."""
    for found in REFERENCE.finditer(subject.playbook.escalate.message):
        mistake = None if found[1] is not None else _mistake(subject, found[2])
        if mistake is not None:
            yield subject.diagnostic(_PATH, *mistake, offset=found.start() + 1)


def _mistake(subject: CheckSubject, name: str) -> tuple[str, str, str] | None:
    """Return rule, message and hint; None if the reference is valid."""
    path = fact_path(name)
    if path is None:
        known = sorted(subject.written_names("parameters"))
        hint = did_you_mean(name, known) or "write ${PARAMETER} or ${evidence.ID.facts.NAME}"
        return None if name in known else ("unknown-parameter", f"unknown parameter ${{{name}}}", hint)
    look, *fact = path
    looks = sorted(subject.written_names("diagnose") | subject.written_names("steps"))
    if look not in looks:
        return "unknown-evidence", f"unknown evidence.{look}", did_you_mean(look, looks)
    facts = declared_facts(subject, "evidence", look)
    if not facts or fact_at(facts, fact) is not None:
        return None
    known = list(names_in(facts, fact[:-1]))
    hint = did_you_mean(fact[-1], known) or f"known: {', '.join(known)}"
    return "unknown-fact", f"evidence.{look} has no fact {'.'.join(fact)!r}", hint
