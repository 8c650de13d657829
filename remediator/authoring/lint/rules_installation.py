"""Rules about the installation: programs, approvers, the data of a running Prometheus, and rights on the platforms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from remediator.authoring.approvers import approvers_of
from remediator.authoring.lint import LintContext, Rule
from remediator.authoring.lint.live import metrics_of
from remediator.playbooks.diagnostics import Diagnostic, Severity, similar_name
from remediator.playbooks.parsing.nodes import find
from remediator.runtime.preflight import uses


class MissingProgram(Rule):
    """A command of the settings names a program that this machine does not have."""

    id = "missing-program"
    severity = Severity.INFO
    why = (
        "If the program is missing on the machine of the service too, the step fails. On other machines, ignore "
        "this finding."
    )
    fix = "install the program, or correct its path; 'remediator doctor' examines the machine of the service"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        if context.config is None or context.settings is None:
            return
        for name, command in context.config.commands.items():
            program = Path(command.argv[0])
            if not command.on_host and not (program.is_file() and os.access(program, os.X_OK)):
                node = find(context.settings, ("commands", name, "argv", 0))[0]
                yield self.at_node(node, f"this machine has no program {command.argv[0]!r}")


class NotApprovable(Rule):
    """A playbook that asks for approval has fewer approvers than its quorum."""

    id = "not-approvable"
    why = "No person can approve its requests: each request expires, and the on-call is paged instead."
    fix = (
        "add people with the role approver, the group, and a token or chat to the people file, or lower approval.quorum"
    )

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        config, people = context.config, context.people
        if config is None or people is None or config.access.oidc is not None or config.access.proxy is not None:
            return  # only the identity provider knows the members of a group
        for playbook in context.playbooks:
            asks = "approve" in playbook.modes or playbook.approval.required
            if not asks or not context.mutates(playbook):
                continue
            approvers, quorum = sorted(approvers_of(playbook, people, config)), playbook.approval.quorum
            if len(approvers) < quorum:
                groups = f" in {', '.join(playbook.approval.groups)}" if playbook.approval.groups else ""
                message = (
                    f"it needs {quorum} approvers{groups}, and the people file has {len(approvers)} who can sign in"
                )
                yield self.at(context, playbook, ("approval", "quorum"), message)


class UnknownMetric(Rule):
    """A PromQL expression uses a metric that the Prometheus of --prometheus does not have."""

    id = "unknown-metric"
    why = "There is no data: the check is unknown, and a person is asked."
    fix = "correct the name, or scrape the exporter of the metric"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks if context.live is not None else ():
            for path, query in playbook.promql:
                for metric in metrics_of(query):
                    if context.live is not None and metric not in context.live.names:
                        hint = similar_name(metric, context.live.names)
                        yield self.at(context, playbook, path, f"{context.live.url} has no metric {metric!r}", hint)


class MissingRight(Rule):
    """A playbook uses an action that the account of the remediator may not do on its target (only with ``--live``)."""

    id = "missing-right"
    why = "The action fails during an incident, and its plan is refused."
    fix = "grant the right to the account of the remediator, or take the action out of the playbook"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        if context.inventory is None:
            return
        problems = {(each.service, each.action): each for each in context.rights or ()}
        for playbook in context.playbooks:
            for use in uses(playbook, context.inventory):
                for service in use.services if use.kind == "action" else ():
                    if problem := problems.get((service, use.name)):
                        message = f"{use.name} on {service}: rights {problem.text}"
                        yield self.at(context, playbook, use.path, message)
