"""``no-default-mode``: modes by environment, without one for the others."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic, Severity


class NoDefaultMode(Rule):
    """Mappings under ``mode`` without ``default``."""

    id = "no-default-mode"
    severity = Severity.INFO
    what = "mode lists environments but has no default for the others."
    why = "A misspelled environment silently means approve."
    mend = "add default: approve, or the mode you want"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if isinstance(playbook.mode, dict) and "default" not in playbook.mode:
                yield self.at(
                    context, playbook, ("mode",), "environments that are not named here get approve", key=True
                )
