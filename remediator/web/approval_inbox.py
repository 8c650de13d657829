"""The inbox of approval requests: those that the signed-in person may decide first."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Why the person may not decide it; empty if the person may, or is not signed in."""


@dataclass(frozen=True, slots=True)
class DecidedRequest:
    """A request that was decided, expired or outdated."""

    approval: Approval
    run: Run
    outcome: str


async def inbox(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /approvals``."""
    waiting, decided = await site.service.context.store.view(
        lambda connection: (_waiting(connection, site, identity.person), _decided(connection))
    )
    return site.render(
        request,
        identity,
        "approvals.html",
        mine=[item for item in waiting if item.mine],
        others=[item for item in waiting if not item.mine],
        decided=decided,
        live=True,
    )


def _waiting(connection: Connection, site: Site, person: Person | None) -> Sequence[WaitingRequest]:
    found = []
    for approval in approvals.list_pending(connection, _MAX_WAITING):
        run = runs.get(connection, approval.run_id)
        if run is None or approval.expires_at <= site.now:
            continue
        view = RequestView.load(connection, approval, run)
        why_not = "" if person is None else _why_not(connection, view, person)
        found.append(WaitingRequest(approval, run, brief(view), person is not None and not why_not, why_not))
    return found


def _why_not(connection: Connection, view: RequestView, person: Person) -> str:
    if any(rules.same_person(item.identity, person.id) for item in view.decisions):
        return "you have decided; others have to"
    try:
        rules.check_may_decide(
            person, "approve", decisions.requirements_of(connection, view.approval, view.run), link_holders=False
        )
    except PermissionDenied as error:
        return str(error)
    return ""


def _decided(connection: Connection) -> Sequence[DecidedRequest]:
    return [
        DecidedRequest(item, run, outcome_text(run, item))
        for item in approvals.list_decided(connection, _MAX_DECIDED)
        if (run := runs.get(connection, item.run_id)) is not None
    ]
