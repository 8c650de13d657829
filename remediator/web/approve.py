"""The page of one approval request, by link (``/approve/<token>``) or for people who are signed in
(``/approvals/<id>``). ``GET`` changes nothing and does not use up the link; only the form decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remediator.core import approval as rules
from remediator.core.approval import (
    LINK_HOLDER,
    ApprovalRequirements,
    OpenedLink,
    Permission,
    PermissionDenied,
    Person,
    open_link,
)
from remediator.core.run import EpisodeStatus, Run, Status
from remediator.errors import InputError
from remediator.pipeline import decisions, stop_commands
from remediator.pipeline.approval_validity import Validity
from remediator.pipeline.decisions import DecisionRequest
from remediator.reporting import outcome_text, request_text
from remediator.reporting.alert_links import Link, alert_links
from remediator.reporting.decision_brief import brief
from remediator.reporting.request_view import RequestView
from remediator.storage import Tx
from remediator.storage.repositories import approvals, runs, stops
from remediator.storage.repositories.approvals import Approval
from remediator.storage.repositories.stops import Stop
from remediator.web.authentication import RequestIdentity
from remediator.web.frame import drop_draft, keep_draft, read_draft
from remediator.web.site import HEADERS, NOT_IDENTIFIED, STALE_FORM, Site, form_fields, wrong_token

_VALID = Validity()
_BAD_LINK = "This link is incomplete, or this service did not create it. Copy the whole link, or open the console."


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """Everything that the page shows, from one snapshot of the store."""

    request: RequestView
    requirements: ApprovalRequirements
    stops: Sequence[Stop]
    validity: Validity = _VALID
    """Whether the plan is still current, if the request is pending."""

    @property
    def approval(self) -> Approval:
        """Return the request."""
        return self.request.approval

    @property
    def run(self) -> Run:
        """Return the run of the request."""
        return self.request.run

    @property
    def pending(self) -> bool:
        """Whether the request waits for decisions."""
        return self.approval.status == "pending"


async def by_link(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``/approve/<token>``."""
    await site.load_frame(request, identity)
    opened = open_link(site.service.keyring, request.path_params["token"], site.now)
    if opened is None:
        return site.error_page(request, identity, 404, "This link is not valid", _BAD_LINK)
    return await _answer(site, request, identity, opened.link.approval, opened)


async def by_id(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``/approvals/<id>``, for callers who may read."""
    return await _answer(site, request, identity, request.path_params["approval_id"], None)


async def _answer(
    site: Site, request: Request, identity: RequestIdentity, approval_id: str, opened: OpenedLink | None
) -> Response:
    now = site.now

    def read(connection: Connection) -> ApprovalView | None:
        found = approvals.get(connection, approval_id)
        run = None if found is None else runs.get(connection, found.run_id)
        if found is None or run is None:
            return None
        asked = RequestView.load(connection, found, run)
        return ApprovalView(
            asked, decisions.requirements_of(connection, found, run), stops.list_active(connection, now)
        )

    view = await site.service.context.store.view(read)
    if view is None or (opened is not None and opened.link.run != view.run.id):
        return site.error_page(request, identity, 404, "Approval request not found", _BAD_LINK)
    if request.method == "POST":
        return await _handle_form(site, request, identity, view, opened)
    return _page(site, request, identity, await _with_validity(site, view), opened)


async def _with_validity(site: Site, view: ApprovalView) -> ApprovalView:
    """Add whether the plan is still current. This asks the target, so it can take some time."""
    if not view.pending or site.now >= view.approval.expires_at:
        return view
    return replace(view, validity=await site.validity.check(view.approval, view.run))


def _person(site: Site, identity: RequestIdentity, opened: OpenedLink | None) -> Person | None:
    """Return the caller: signed in, else the person of a personal link, else (if allowed) the link holder."""
    if identity.person is not None:
        return identity.person
    if opened is None or opened.expired:
        return None
    if opened.link.person is not None:
        return site.service.access.people.by_id(opened.link.person, "link")
    return Person(LINK_HOLDER, "link") if site.service.config.approvals.allow_link_only else None


def _page(
    site: Site,
    request: Request,
    identity: RequestIdentity,
    view: ApprovalView,
    opened: OpenedLink | None,
    status: int = 200,
    error: str = "",
    typed: Mapping[str, str] | None = None,
) -> Response:
    """Return the page, with the input of the person before an error or a sign-in."""
    kept_for, kept = read_draft(site.service, request)
    found, run, asked = view.approval, view.run, view.request
    person = _person(site, identity, opened)
    pending = view.pending and site.now < found.expires_at
    change = view.validity.change if pending else None
    same_plan = opened is None or opened.link.plan == found.plan_hash
    link_valid = opened is None or not opened.expired
    return site.render(
        request,
        identity,
        "approve.html",
        status,
        approval=found,
        run=run,
        brief=brief(asked),
        typed={"typed": "", "reason": "", **(kept if kept_for == request.url.path else {}), **(typed or {})},
        alert_links=_links(site, asked, may_read=identity.may(Permission.READ)),
        can_retry=decisions.can_retry(run, asked.alerts) and run.status is not Status.SUCCEEDED,
        fires=any(alert.status is EpisodeStatus.FIRING for alert in asked.alerts),
        # a run can ask for a later step, and a replaced request can be followed by one that is approved
        nothing_done=f"Nothing was done{' because of this request' if outcome_text.changes(asked.attempts) else ''}.",
        decisions=asked.decisions,
        approvers=[item.identity for item in asked.decisions if item.verb == "approve"],
        person=person,
        by_link=person is not None and person.how == "link",
        link_expired=not link_valid,
        open=pending and same_plan and change is None and link_valid,
        outdated=change if same_plan and link_valid else None,
        difference=[] if change is None or change.plan is None else request_text.difference(found, change.plan),
        validity_unknown=view.validity.unknown,
        decided=person is not None and any(rules.same_person(item.identity, person.id) for item in asked.decisions),
        denied=_denied(site, person, view.requirements),
        can_break_glass=person is not None and person.how != "link" and person.may(Permission.BREAK_GLASS),
        destructive=view.requirements.destructive,
        outcome=request_text.outcome_text(run, found) if not pending else "",
        result=asked.happened() if not pending else (),
        alerts=list(request_text.alert_lines(asked.alerts, site.now)),
        has_chart=site.service.clients.prometheus is not None and bool(asked.alerts) and identity.may(Permission.READ),
        causes=asked.causes,
        same_incident=() if asked.incident is None else asked.incident.other_lines(run.id),
        calls=list(request_text.call_lines(found.plan, found.steps)),
        later=list(request_text.later_lines(found.plan, found.steps)) if pending else [],
        changed=asked.changed(),
        later_plan=asked.later_plan(),
        risks=list(request_text.risk_lines(found.plan, found.steps)),
        evidence=[] if run.status is Status.SUCCEEDED else list(request_text.evidence_lines(asked.evidence)),
        deadline=request_text.deadline_text(found, site.now),
        who_may=request_text.approvers_text(found),
        stops=[stop for stop in view.stops if stop.applies_to(run.playbook, run.target)],
        newer=asked.newer,
        void_reason=request_text.void_reason(found),
        until=found.snoozed_until,
        may_read=identity.may(Permission.READ),
        oidc=site.service.config.access.oidc,
        error=error,
        live=True,
        snooze=site.service.config.approvals.snooze_duration,
    )


def _links(site: Site, asked: RequestView, *, may_read: bool) -> list[Link]:
    """Return the links of the first alert to other tools, and those to the pages about the run."""
    run = asked.run
    found: list[Link] = []
    if asked.alerts:
        found += alert_links(site.service.config, asked.alerts[0], run.target, run.playbook, site.now)
    if may_read:
        found += [
            Link("Run", f"/runs/{run.id}", external=False),
            Link("Playbook", f"/playbooks/{run.playbook}", external=False),
            Link("Inventory", f"/inventory#{run.target}", external=False),
        ]
    return found


def _denied(site: Site, person: Person | None, requirements: ApprovalRequirements) -> str:
    """Return why this person may not approve, or an empty string."""
    if person is None:
        return "Sign in or enter your operator token. The link alone is not sufficient."
    try:
        rules.check_may_decide(
            person, "approve", requirements, link_holders=site.service.config.approvals.allow_link_only
        )
    except PermissionDenied as error:
        return str(error)
    return ""


async def _handle_form(
    site: Site, request: Request, identity: RequestIdentity, view: ApprovalView, opened: OpenedLink | None
) -> Response:
    """Make the decision of a form.

    The checks, in this order:

    1. The form is from our own page and this browser.
    2. The link has not expired.
    3. The person is known.
    4. A person known only by a link typed the target's name. A mail scanner that submits forms does not do this.

    :func:`remediator.pipeline.decisions.decide` then checks role, group, requester and plan in the transaction.
    """
    fields = await form_fields(request)

    async def rejected(status: int, reason: str) -> Response:
        checked = await _with_validity(site, view)
        typed = {name: fields.get(name, "") for name in ("typed", "reason")}
        return _page(site, request, identity, checked, opened, status, reason, typed)

    if not site.form_is_genuine(request, fields.get("nonce", "")):
        return await rejected(403, STALE_FORM)
    if opened is not None and opened.expired:
        return await rejected(410, "This link has expired.")
    if fields.get("verb") == "sign_in":
        return _to_sign_in(site, request, fields)
    person = _person(site, identity, opened)
    if token := fields.get("token", "").strip():
        person = await site.check_token(request, token, "" if person is None else person.id)
    if person is None:
        return await rejected(403, wrong_token(token) if token else NOT_IDENTIFIED)
    if person.how == "link" and not rules.names_target(fields.get("typed", ""), view.run.target):
        return await rejected(422, f"Type the name of the target to confirm: {view.run.target}")
    plan_hash = view.approval.plan_hash if opened is None else opened.link.plan
    if fields.get("verb") == "refresh":  # only a refresh asks the target: a stop must not wait for a target that hangs
        view = await _with_validity(site, view)
    try:
        await site.service.context.store.write(lambda tx: _record(tx, site, view, person, plan_hash, fields))
    except (PermissionDenied, InputError) as error:
        await site.guard.denied(request, person, error)
        return await rejected(403 if isinstance(error, PermissionDenied) else 422, str(error))
    response = RedirectResponse(request.url.path, 303, HEADERS)
    drop_draft(site.service, response)
    return response


def _to_sign_in(site: Site, request: Request, fields: Mapping[str, str]) -> Response:
    """Let the person sign in and come back to this page, where everything that was typed is filled in again."""
    response = RedirectResponse(f"/sign-in?next={quote(request.url.path)}", 303, HEADERS)
    keep_draft(site.service, response, request.url.path, fields)
    return response


def _record(tx: Tx, site: Site, view: ApprovalView, person: Person, plan_hash: str, fields: Mapping[str, Any]) -> None:
    verb, reason = str(fields.get("verb", "")), str(fields.get("reason", ""))[:500]
    if verb == "refresh":
        decisions.refresh(tx, person, view.approval.id, view.validity.refresh_reason(), site.service.config.approvals)
        return
    if verb == "pause":
        if person.id == LINK_HOLDER and site.service.config.approvals.allow_link_only:
            # a stop is always safe, so a person who may approve with the link alone may also stop everything with it
            person = replace(person, roles=frozenset({rules.Role.APPROVER}))
        stop_commands.create_stop(tx, person, reason or f"from the approval request of {view.run.id}")
        return
    request = DecisionRequest(
        view.approval.id,
        plan_hash,
        "approve" if verb == "break_glass" else verb,
        person,
        reason,
        str(fields.get("typed", "")),
        verb == "break_glass",
    )
    decisions.decide(tx, request, site.service.config.approvals)
