"""Rules about verification: the proof that a playbook succeeded."""

from __future__ import annotations

import re
from collections.abc import Iterator

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks.diagnostics import Diagnostic

_ABSENCE = re.compile(r"\b(absent|absent_over_time)\s*\(|\bALERTS(_FOR_STATE)?\b")
_WEAK_CHECKS = frozenset({"service.running"})


class NoVerify(Rule):
    """A playbook changes something but has no check that proves success."""

    id = "no-verify"
    why = "Without proof no run succeeds: every run is escalated, even if the service is healthy."
    fix = "add checks under verify, for example a probe of the service and a PromQL expression"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if context.mutates(playbook) and not playbook.verify.checks:
                yield self.at(context, playbook, ("verify",), "no check proves that the steps helped", key=True)


class ProofByAbsence(Rule):
    """A query in verify holds when data is missing, or when an alert does not fire."""

    id = "proof-by-absence"
    why = "An alert also stops firing when its exporter stops with the service. That proves nothing."
    fix = 'query a value that must be present and correct, for example redis_up{job="redis-exporter"} == 1'

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for at, call in enumerate(playbook.verify.checks):
                found = _ABSENCE.search(str(call.with_.get("query", ""))) if call.check == "promql" else None
                if found is not None:
                    message = f"{found.group().rstrip('( ')} proves nothing: the query also holds when data is missing"
                    yield self.at(context, playbook, ("verify", "checks", at, "with", "query"), message)


class WeakProof(Rule):
    """verify only checks that a process runs."""

    id = "weak-proof"
    why = "A process that hangs, is still loading or refuses writes also runs."
    fix = "add a check that uses the service: a probe, a write test, or PromQL on the results for its users"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            checks = [call.check for call in playbook.verify.checks]
            if context.mutates(playbook) and checks and all(check in _WEAK_CHECKS for check in checks):
                message = "the checks prove that a process runs, not that it serves requests"
                yield self.at(context, playbook, ("verify", "checks"), message, key=True)
