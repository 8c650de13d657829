"""``guard-off``: a guard is switched off."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.findings import Finding
from remediator.lint import Context, Rule


class GuardOff(Rule):
    """Every entry of ``guards.off``: the reason is for the audit log, this is for the reviewer."""

    id = "guard-off"
    what = "A guard is switched off for this playbook."
    why = "Guards are what keeps a remedy from making things worse; each one that is off should be seen in review."
    mend = "leave it on, or accept it here with a date: # remediator: off guard-off until DATE because REASON"

    def check(self, context: Context) -> Iterator[Finding]:
        for playbook in context.playbooks:
            for at, off in enumerate(playbook.guards.off):
                message = f"the guard {off.guard} is switched off: {off.reason}"
                yield self.at(context, playbook, ("guards", "off", at, "guard"), message)
