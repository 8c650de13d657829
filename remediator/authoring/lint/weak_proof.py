"""``weak-proof``: that a process runs does not prove that it serves."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic

_ALIVE = frozenset({"service.running"})


class WeakProof(Rule):
    """Playbooks whose only proof is that something runs."""

    id = "weak-proof"
    what = "verify only checks that a process runs."
    why = "A process that hangs, is still loading or refuses writes also runs."
    mend = "add a check that uses the service: a probe, a write test, or PromQL on what its users see"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            checks = [call.check for call in playbook.verify.checks]
            if context.changes(playbook) and checks and all(check in _ALIVE for check in checks):
                path = ("verify", "checks")
                message = "a process that runs is all the proof there is, and it need not serve"
                yield self.at(context, playbook, path, message, key=True)
