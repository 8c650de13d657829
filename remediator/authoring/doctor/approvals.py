"""Approvability: each playbook that can ask has enough approvers, and a channel that reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from remediator.authoring.approvers import approvers_of
from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.playbooks.model import Playbook
from remediator.storage.repositories.autonomy import MODES


class Approvals(DoctorCheck):
    """Counts the people who may approve each playbook."""

    name = "approvals"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        access = about.config.access
        if not about.config.public_url:
            yield warning("public_url", "is not set: messages have no links", "set public_url in the settings")
        by_group = access.oidc is not None or access.proxy is not None
        for playbook in about.playbooks:
            mode = playbook.mode_in(about.config.environment)
            if not any(step.action for step in playbook.steps):
                yield skipped(playbook.name, "has no steps, so it never asks")
            else:
                yield _approvable(playbook, mode, about, by_group=by_group)


def _approvable(playbook: Playbook, mode: str, about: Examination, *, by_group: bool) -> Result:
    approvers = sorted(approvers_of(playbook, about.people, about.config))
    quorum = playbook.approval.quorum
    groups = f" in {', '.join(playbook.approval.groups)}" if playbook.approval.groups else ""
    asks = MODES.index(mode) >= MODES.index("approve")
    if len(approvers) < quorum and not by_group:
        text = f"needs {quorum} of {len(approvers)} approvers{groups}, so nobody can approve it"
        fix = "add people with the role approver and a token or chat to the people file, or lower approval.quorum"
        return failed(playbook.name, text, fix) if asks else warning(playbook.name, f"mode {mode}: {text}", fix)
    routes = [*about.config.approvals.channels, *playbook.escalate.to]
    reached = [name for name in routes if name in about.config.channels and about.config.channels[name].kind != "log"]
    if not reached:
        text = "a request reaches no chat and no pager; it is only in the console and the log"
        return warning(playbook.name, text, "set approvals.channels to a channel that people read")
    people = ", ".join(approvers) or "members of groups of the identity provider"
    return ok(playbook.name, f"mode {mode}, quorum {quorum}, asked in {reached[0]}: {people}")
