"""The inbox of approval requests: those that the signed-in person may decide first."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.core import approval as rules
from remediator.core.approval import PermissionDenied, Person
from remediator.core.run import Run
from remediator.pipeline import decisions
from remediator.reporting.decision_brief import DecisionBrief, brief
from remediator.reporting.request_text import outcome_text
from remediator.reporting.request_view import RequestView
from remediator.storage.repositories import approvals, runs
from remediator.storage.repositories.approvals import Approval
from remediator.web.authentication import RequestIdentity
from remediator.web.site import Site

_MAX_WAITING = 100
_MAX_DECIDED = 20


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A pending request, as the inbox shows it."""

    approval: Approval
    run: Run
    brief: DecisionBrief
    mine: bool
    """The signed-in person may decide it and has not yet."""
    why_not: str
    """The reason why the person may not decide; empty if the person may decide, or is not signed in."""


@dataclass(frozen=True, slots=True)
class DecidedRequest:
    """A request that was decided, expired or outdated."""

    approval: Approval
    run: Run
    outcome: str


async def inbox(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /approvals``."""
    person, now = identity.person, site.now

    def read(connection: Connection) -> tuple[list[WaitingRequest], list[DecidedRequest]]:
        waiting, decided = [], []
        for approval in approvals.list_pending(connection, _MAX_WAITING):
            run = runs.get(connection, approval.run_id)
            if run is not None and approval.expires_at > now:
                view = RequestView.load(connection, approval, run)
                why_not = "" if person is None else _why_not(connection, view, person)
                mine = person is not None and not why_not
                waiting.append(WaitingRequest(approval, run, brief(view), mine, why_not))
        for approval in approvals.list_decided(connection, _MAX_DECIDED):
            run = runs.get(connection, approval.run_id)
            if run is not None:
                decided.append(DecidedRequest(approval, run, outcome_text(run, approval)))
        return waiting, decided

    waiting, decided = await site.service.context.store.view(read)
    return site.render(
        request,
        identity,
        "approvals.html",
        mine=[item for item in waiting if item.mine],
        others=[item for item in waiting if not item.mine],
        decided=decided,
        live=True,
    )


def _why_not(connection: Connection, view: RequestView, person: Person) -> str:
    if any(rules.same_person(item.identity, person.id) for item in view.decisions):
        return "you have decided; other approvers must decide"
    try:
        rules.check_may_decide(
            person, "approve", decisions.requirements_of(connection, view.approval, view.run), link_holders=False
        )
    except PermissionDenied as error:
        return str(error)
    return ""
