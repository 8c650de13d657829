"""The page on which a person decides: behind a link (``/approve/<token>``) or for somebody who has signed in
(``/approvals/<id>``). Looking changes nothing and uses nothing up; only the form decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remediator.core import approval as words
from remediator.core.approval import (
    LINK_HOLDER,
    ApprovalRequirements,
    OpenedLink,
    Permission,
    PermissionDenied,
    Person,
    open_link,
)
from remediator.core.plan import from_data
from remediator.core.run import Episode, Run
from remediator.errors import InputError, StoreError
from remediator.pipeline import decisions
from remediator.pipeline.approval_validity import Standing
from remediator.pipeline.decisions import DecisionRequest
from remediator.reporting import messages
from remediator.storage import Tx
from remediator.storage.repositories import approvals, episodes, evidence, runs, stops
from remediator.storage.repositories.approvals import Approval, Decision
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.repositories.stops import Stop
from remediator.web.authentication import RequestIdentity
from remediator.web.site import HEADERS, STALE_FORM, Handler, Site, form_fields

_STANDS = Standing()
_FALSE = "This link is not one of ours, or it is not whole. Copy all of it, or open the console."


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that the page shows, from one snapshot of the store."""

    approval: Approval
    run: Run
    said: Sequence[Decision]
    alerts: Sequence[Episode]
    evidence: Sequence[EvidenceRecord]
    asked: ApprovalRequirements
    stops: Sequence[Stop]
    until: datetime | None
    """When the question comes back, if it was snoozed."""
    newer: Approval | None
    """The request that came after this one."""
    standing: Standing = _STANDS
    """Whether it could be approved as things are, if it waits."""

    @property
    def pending(self) -> bool:
        """Whether it waits for people."""
        return self.approval.status == "pending"


def by_link(site: Site) -> Handler:
    """``/approve/<token>``, to look and to decide."""

    async def handle(request: Request) -> Response:
        visitor = site.visitor(request)
        opened = open_link(site.service.keyring, request.path_params["token"], site.now)
        if opened is None:
            return site.sorry(request, visitor, 404, "This link is not valid", _FALSE)
        return await _answer(site, request, visitor, opened.link.approval, opened)

    return handle


def by_id(site: Site) -> Handler:
    """``/approvals/<id>``, for people who have signed in, or who may look."""

    async def handle(request: Request, visitor: RequestIdentity) -> Response:
        return await _answer(site, request, visitor, request.path_params["approval_id"], None)

    return site.page(handle)


async def _answer(
    site: Site, request: Request, visitor: RequestIdentity, approval_id: str, opened: OpenedLink | None
) -> Response:
    try:
        shown = await site.service.context.store.read(lambda connection: _look(connection, approval_id, site))
        if shown is None or (opened is not None and opened.link.run != shown.run.id):
            return site.sorry(request, visitor, 404, "There is no such request", _FALSE)
        if request.method == "POST":
            return await _decide(site, request, visitor, shown, opened)
    except StoreError as error:
        return site.sorry(request, visitor, 503, "The store does not answer", str(error))
    return _page(site, request, visitor, await _checked(site, shown), opened)


async def _checked(site: Site, shown: Shown) -> Shown:
    """With whether it could be approved as things are; that asks the target, which may take its time."""
    if not shown.pending or site.now >= shown.approval.expires_at:
        return shown
    return replace(shown, standing=await site.standings.of(shown.approval, shown.run))


def _look(connection: Connection, approval_id: str, site: Site) -> Shown | None:
    found = approvals.get(connection, approval_id)
    run = None if found is None else runs.get(connection, found.run_id)
    if found is None or run is None or run.plan is None:
        return None
    latest = approvals.latest_of(connection, run.id)
    return Shown(
        found,
        run,
        approvals.decisions_of(connection, found.id),
        episodes.of_run(connection, run.id),
        evidence.of_run(connection, run.id),
        decisions.asked_of(connection, found, run),
        stops.standing(connection, site.now),
        approvals.snoozed_until(connection, found) if found.status == "void" else None,
        latest if latest is not None and latest.id != found.id else None,
    )


def _who(site: Site, visitor: RequestIdentity, opened: OpenedLink | None) -> Person | None:
    """The best that we know of who is here; a link says the least."""
    if visitor.person is not None:
        return visitor.person
    if opened is None or opened.expired:
        return None
    if opened.link.person is not None:
        return site.service.people.by_id(opened.link.person, "link")
    return Person(LINK_HOLDER, "link") if site.service.config.approvals.link_holders else None


def _page(
    site: Site,
    request: Request,
    visitor: RequestIdentity,
    shown: Shown,
    opened: OpenedLink | None,
    status: int = 200,
    refused: str = "",
) -> Response:
    assert shown.run.plan is not None
    plan = from_data(shown.run.plan)
    found, run = shown.approval, shown.run
    person = _who(site, visitor, opened)
    pending = shown.pending and site.now < found.expires_at
    change = shown.standing.change if pending else None
    same = opened is None or opened.link.plan == found.plan_hash == run.plan_hash
    agreed = [item.identity for item in shown.said if item.verb == "approve"]
    return site.render(
        request,
        visitor,
        "approve.html",
        status,
        approval=found,
        run=run,
        said=shown.said,
        agreed=agreed,
        person=person,
        by_link=person is not None and person.how == "link",
        link_expired=opened is not None and opened.expired,
        open=pending and same and change is None and (opened is None or not opened.expired),
        changed=change if same and (opened is None or not opened.expired) else None,
        would_be=[] if change is None or change.plan is None else list(messages.calls(change.plan, found.step)),
        unsure=shown.standing.unsure,
        spoken=person is not None and any(words.same_person(item.identity, person.id) for item in shown.said),
        may=_may(site, person, shown.asked),
        can_break_glass=person is not None and person.can(Permission.BREAK_GLASS),
        destructive=shown.asked.destructive,
        became=messages.outcome_text(run, found) if not pending else "",
        fires=list(messages.fires(shown.alerts, site.now)),
        calls=list(messages.calls(plan, found.step, shown.evidence)),
        risks=list(messages.risks(plan, found.step)),
        evidence=list(messages.proof(shown.evidence)),
        why=messages.why_asked(run),
        who_may=messages.who_may(found),
        stops=[stop for stop in shown.stops if stop.covers(run.playbook, run.target)],
        newer=shown.newer,
        void=messages.why_void(found),
        until=shown.until,
        may_look=visitor.may(Permission.SEE),
        oidc=site.service.config.access.oidc,
        refused=refused,
        live=True,
        snooze=site.service.config.approvals.snooze,
    )


def _may(site: Site, person: Person | None, asked: ApprovalRequirements) -> str:
    """Empty if this person may approve, else why not."""
    if person is None:
        return "Sign in, or give your operator token below: a link alone is not enough here."
    try:
        words.check_may_decide(person, "approve", asked, link_holders=site.service.config.approvals.link_holders)
    except PermissionDenied as error:
        return str(error)
    return ""


async def _decide(
    site: Site, request: Request, visitor: RequestIdentity, shown: Shown, opened: OpenedLink | None
) -> Response:
    fields = await form_fields(request)

    async def again(status: int, why: str) -> Response:
        return _page(site, request, visitor, await _checked(site, shown), opened, status, why)

    if not site.genuine(request, fields.get("nonce", "")):
        return await again(403, STALE_FORM)
    if opened is not None and opened.expired:
        return await again(410, "This link is too old to decide by.")
    person = _who(site, visitor, opened)
    if fields.get("token"):
        person = site.service.people.by_token(fields["token"])
    if person is None:
        return await again(403, "We do not know who you are: sign in, or give your operator token.")
    if person.how == "link" and not words.fits(fields.get("typed", ""), shown.run.target):
        return await again(422, f"Type the name of what this is about to confirm: {shown.run.target}")
    plan_hash = shown.approval.plan_hash if opened is None else opened.link.plan
    if fields.get("verb") == "renew":  # whatever else is said waits for nobody: a stop is a stop at once
        shown = await _checked(site, shown)
    try:
        await site.service.context.store.write(lambda tx: _write(tx, site, shown, person, plan_hash, fields))
    except PermissionDenied as error:
        return await again(403, str(error))
    except InputError as error:
        return await again(422, str(error))
    return RedirectResponse(request.url.path, 303, HEADERS)


def _write(tx: Tx, site: Site, shown: Shown, person: Person, plan_hash: str, fields: Mapping[str, Any]) -> None:
    verb, reason = str(fields.get("verb", "")), str(fields.get("reason", ""))[:500]
    if verb == "renew":
        decisions.renew(tx, person, shown.approval.id, shown.standing.why_anew(), site.rules)
        return
    if verb == "pause":
        decisions.pause(tx, _pausing(site, person), reason or f"from the request for {shown.run.id}")
        return
    word = DecisionRequest(
        shown.approval.id,
        plan_hash,
        "approve" if verb == "break_glass" else verb,
        person,
        reason,
        str(fields.get("typed", "")),
        verb == "break_glass",
    )
    decisions.decide(tx, word, site.rules)


def _pausing(site: Site, person: Person) -> Person:
    """Whoever is trusted with a link alone may stop everything with it: that is always the safe side."""
    if person.id == LINK_HOLDER and site.service.config.approvals.link_holders:
        return replace(person, roles=frozenset({words.Role.APPROVER}))
    return person
