"""Settings, inventory, playbooks and people: the findings of lint."""

from __future__ import annotations

from collections.abc import AsyncIterator

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, warning
from remediator.authoring.lint.runner import Sources, lint
from remediator.config import Config
from remediator.playbooks.diagnostics import Severity
from remediator.reporting.formatting import plural


class Files(DoctorCheck):
    """Runs lint."""

    name = "files"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        config = about.config
        sources = Sources(list(config.playbooks), config.inventory, about.config_path)
        report = lint(sources, about.registry.catalogue(), Config, about.now.date())
        subject = str(about.config_path)
        errors = report.at_least(Severity.ERROR)
        warnings = [found for found in report.at_least(Severity.WARNING) if found.severity is Severity.WARNING]
        elsewhere = [found for found in warnings if found.file != subject]
        for found in warnings:
            if found.file == subject:
                yield warning(found.place, found.message, found.hint)
        if errors:
            yield failed(subject, f"{plural(len(errors), 'error')}; the first: {errors[0]}", "run: remediator lint")
        elif elsewhere:
            text = f"further warnings (playbooks, inventory, people): {len(elsewhere)}; the first: {elsewhere[0]}"
            yield warning("files", text, "run: remediator lint")
        else:
            yield ok(subject, f"{plural(report.playbooks, 'playbook')} can be used")
