"""``unknown-function``: a PromQL function that is not known here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Path
from remediator.playbooks.parsing.promql import UNKNOWN_FUNCTION, complaint


class UnknownFunction(Rule):
    """PromQL that calls what the grammar of lint does not know."""

    id = "unknown-function"
    what = "A PromQL expression calls an unknown function."
    why = "If Prometheus does not know it either, there is no data: the check is unknown, and a person is asked."
    mend = "correct the name; if your Prometheus is newer than this remediator, suppress the rule with that reason"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for path, query in _queries(playbook):
                said = complaint(query, playbook.parameters)
                if said is not None and said.startswith(UNKNOWN_FUNCTION):
                    yield self.at(context, playbook, path, said)


def _queries(playbook: Playbook) -> Iterator[tuple[Path, str]]:
    for at, look in enumerate(playbook.diagnose):
        if look.check == "promql":
            yield ("diagnose", at, "with", "query"), str(look.with_.get("query", ""))
    for at, proof in enumerate(playbook.verify.checks):
        if proof.check == "promql":
            yield ("verify", "checks", at, "with", "query"), str(proof.with_.get("query", ""))
    yield from _below(playbook.guards.settings, ("guards",))


def _below(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "promql" and isinstance(item, str):
                yield (*path, key), item
            else:
                yield from _below(item, (*path, key))
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from _below(item, (*path, at))
