"""``proof-by-absence``: success is read from something being gone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic

_GONE = re.compile(r"\b(absent|absent_over_time)\s*\(|\bALERTS(_FOR_STATE)?\b")


class ProofByAbsence(Rule):
    """Queries of ``verify`` that hold when data is missing or an alert has gone."""

    id = "proof-by-absence"
    what = "A query in verify holds when data is missing, or when an alert does not fire."
    why = "An alert also stops firing when its exporter stops with the service. That proves nothing."
    mend = 'query a value that must be present and correct, for example redis_up{job="redis-exporter"} == 1'

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for at, call in enumerate(playbook.verify.checks):
                found = _GONE.search(str(call.with_.get("query", ""))) if call.check == "promql" else None
                if found is not None:
                    message = f"{found.group().rstrip('( ')} is no proof: no data is not the same as well"
                    yield self.at(context, playbook, ("verify", "checks", at, "with", "query"), message)
