"""The API ``/api/v1``: the console and the CLI as JSON. :data:`OPERATIONS` has all operations.

The description at ``/api/v1/openapi.json`` and ``docs/api.md`` are generated from this list.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import TypedDict

from remediator.core.approval import Permission
from remediator.core.clock import rfc3339
from remediator.errors import NotFound
from remediator.pipeline import decisions, stop_commands
from remediator.pipeline.approval_validity import Validity
from remediator.pipeline.decisions import DecisionRequest
from remediator.reporting import request_text
from remediator.storage import Tx
from remediator.storage.repositories import approvals, audit, episodes, lookup, outbox, runs, stops
from remediator.storage.repositories.approvals import Approval
from remediator.web import api_runs, api_service, form_actions
from remediator.web import decision_answers as answers
from remediator.web.api_request import HEADERS, ApiRequest, Operations, handler
from remediator.web.openapi import LIMIT, REASON, BodyField, NotEmpty, Parameter, bounded, describe, filters
from remediator.web.site import Site
from remediator.web.status import sessions_data, stop_data

_APPROVAL = Parameter("approval_id", "path", "ID of the approval request.")
MAX_ENTRY = 10**15
"""The highest number of an audit entry."""
_STOP_DURATION = (
    "^(([1-9][0-9]?|[12][0-9]{2})d)?([1-9][0-9]{0,2}h)?([1-9][0-9]{0,3}m)?([1-9][0-9]{0,4}s)?$"
    "|^(3[0-5][0-9]|36[0-5])d([1-9]h|1[0-9]h|2[0-3]h)?([1-9]m|[1-5][0-9]m)?([1-9]s|[1-5][0-9]s)?$"
    "|^(366d|1y|52w|([1-9]|[1-4][0-9]|5[01])w([1-6]d)?)$"
)
"""A pattern for durations of a stop as people write them. Not one that it allows is longer than a year."""


class _StopEverything(TypedDict, total=False):
    scope: Literal["global"]
    name: Literal[""]


class _StopOne(TypedDict):
    scope: Literal["playbook", "service"]
    name: NotEmpty


_DECISION: Mapping[str, Any] = {
    "body": {
        "plan_hash": "Required. Hash of the plan you read; a decision on another plan is rejected.",
        "confirm": "Name of the target, required if the plan is destructive.",
        "break_glass": BodyField("true: this decision alone is sufficient; it is announced and needs a reason.", bool),
        **REASON,
    },
    "permission": Permission.DECIDE,
    "answer": answers.DecisionResult,
}

OPERATIONS = Operations((*api_runs.OPERATIONS, *api_service.OPERATIONS))


@OPERATIONS.get("/approvals", answer=list[answers.ApprovalRequest])
async def list_approvals(call: ApiRequest) -> Any:
    """List pending approval requests."""
    return await call.read(list_requests)


def list_requests(connection: Connection) -> list[dict[str, Any]]:
    """Return the pending approval requests as data."""
    return [_approval(item) for item in approvals.list_pending(connection)]


@OPERATIONS.get("/approvals/{approval_id}", _APPROVAL, answer=answers.ApprovalDetails)
async def show_approval(call: ApiRequest) -> Any:
    """Show an approval request, its decisions and whether it is still valid."""
    found = await _find_approval(call)
    made = await call.read(lambda connection: approvals.list_decisions(connection, found.id))
    listed = [
        {
            "person": item.identity,
            "decision": item.verb,
            "at": rfc3339(item.at),
            "identified_by": item.how,
            "reason": item.reason,
        }
        for item in made
    ]
    validity = None
    if found.status == "pending":
        now = await _check_validity(call, found)
        valid = None if now.unknown else now.change is None
        validity = {"valid": valid, "reason": now.unknown or (now.change.why if now.change else None)}
    return {**_approval(found), "decisions": listed, "validity": validity}


async def _check_validity(call: ApiRequest, found: Approval) -> Validity:
    run = await call.read(lambda connection: runs.get(connection, found.run_id))
    return await call.site.validity.check(found, run)


@OPERATIONS.post("/approvals/{approval_id}/refresh", _APPROVAL, permission=Permission.DECIDE, answer=answers.Refreshed)
async def refresh(call: ApiRequest) -> Any:
    """Create a new request if the plan is outdated."""
    found, reason, refreshed = await _find_approval(call), "", False
    if found.status == "pending":
        reason, policy = (await _check_validity(call, found)).refresh_reason(), call.site.service.config.approvals
        refreshed = await call.write(lambda tx: decisions.refresh(tx, call.caller, found.id, reason, policy))
    status = (await _find_approval(call)).status
    return {"id": found.id, "status": status, "refreshed": refreshed, "by": call.caller.id, "reason": reason}


async def _find_approval(call: ApiRequest) -> Approval:
    name = call.request.path_params["approval_id"]
    approval_id = await call.read(lambda connection: lookup.approval_id(connection, name))
    found: Approval | None = await call.read(lambda connection: approvals.get(connection, approval_id))
    if found is None:
        raise NotFound(f"there is no approval request {approval_id[:64]!r}")
    return found


def _approval(item: Approval) -> dict[str, Any]:
    return {
        "id": item.id,
        "run": item.run_id,
        "playbook": item.plan.playbook,
        "target": item.plan.target,
        "plan_hash": item.plan_hash,
        "step": item.step,
        "steps": list(item.steps),
        "calls": list(request_text.call_lines(item.plan, item.steps)),
        "risks": list(request_text.risk_lines(item.plan, item.steps)),
        "why": item.why,
        "status": item.status,
        "groups": list(item.groups),
        "quorum": item.quorum,
        "requested_at": rfc3339(item.requested_at),
        "expires_at": rfc3339(item.expires_at),
        "decided_at": None if item.decided_at is None else rfc3339(item.decided_at),
        "reason": item.reason,
    }


async def _decide(call: ApiRequest, verb: str) -> Any:
    found = await _find_approval(call)
    request = DecisionRequest(
        found.id,
        call.text("plan_hash"),
        verb,
        call.caller,
        call.text("reason"),
        call.text("confirm"),
        call.flag("break_glass"),
    )
    result = await call.write(lambda tx: decisions.decide(tx, request, call.site.service.config.approvals))
    return {"id": found.id, "status": result.status, "counted": result.counted, "by": call.caller.id}


@OPERATIONS.post("/approvals/{approval_id}/approve", _APPROVAL, **_DECISION)
async def approve(call: ApiRequest) -> Any:
    """Approve the plan."""
    return await _decide(call, "approve")


@OPERATIONS.post("/approvals/{approval_id}/reject", _APPROVAL, **_DECISION)
async def reject(call: ApiRequest) -> Any:
    """Reject the plan."""
    return await _decide(call, "reject")


@OPERATIONS.post("/approvals/{approval_id}/snooze", _APPROVAL, **_DECISION)
async def snooze(call: ApiRequest) -> Any:
    """Ask again later."""
    return await _decide(call, "snooze")


@OPERATIONS.get("/stops", answer=list[answers.Stop])
async def list_stops(call: ApiRequest) -> Any:
    """List active stops."""
    now = call.site.now
    return [stop_data(item) for item in await call.read(lambda connection: stops.list_active(connection, now))]


@OPERATIONS.post(
    "/stops",
    body={
        "scope": BodyField("global (default), playbook or service.", Literal["global", "playbook", "service"]),
        "name": "Name of the playbook or service; required for these scopes.",
        "duration": BodyField(
            "From 1s to 1y, for example 30m, 1h30m or 7d; without it, the stop lasts until it is released.",
            Annotated[str, Field(pattern=_STOP_DURATION)],
        ),
        "reason": f"Required. {REASON['reason']}",
    },
    permission=Permission.CREATE_STOP,
    answer=answers.Stop,
    body_forms=_StopEverything | _StopOne,
    forms_hint="a stop for a playbook or a service needs its scope and its name; a global stop has no name",
)
async def create_stop(call: ApiRequest) -> Any:
    """Create a stop."""
    reason, scope, name = call.text("reason"), call.text("scope") or "global", call.text("name")
    duration = form_actions.stop_duration(call.text("duration"))
    form_actions.check_stop_name(call.site.service, scope, name)

    def create(tx: Tx) -> dict[str, Any]:
        made = stops.get(tx.connection, stop_commands.create_stop(tx, call.caller, reason, scope, name, duration))
        assert made is not None, "a stop was created"
        return stop_data(made)

    return await call.write(create)


@OPERATIONS.post(
    "/stops/{stop_id}/release",
    Parameter("stop_id", "path", "ID of the stop."),
    permission=Permission.RELEASE_STOP,
    answer=answers.Released,
)
async def release_stop(call: ApiRequest) -> Any:
    """Release a stop."""
    stop_id = call.request.path_params["stop_id"]
    if not await call.write(lambda tx: stop_commands.release_stop(tx, call.caller, stop_id)):
        raise NotFound(f"there is no active stop {stop_id[:64]!r}")
    return {"released": stop_id}


@OPERATIONS.get("/sessions", permission=Permission.END_SESSIONS, answer=list[answers.Session])
async def list_sessions(call: ApiRequest) -> Any:
    """List the sessions of people."""
    now, idle = call.site.now, call.site.service.access.settings.session_idle
    return await call.read(lambda connection: sessions_data(connection, now, idle))


@OPERATIONS.post("/sessions/end", body={"person": "Required. ID of the person.", **REASON}, answer=answers.Ended)
async def end_sessions(call: ApiRequest) -> Any:
    """End all sessions of a person. All users may end their own sessions."""
    who, reason = call.text("person"), call.text("reason")
    return {"ended": await call.write(lambda tx: decisions.end_sessions(tx, call.caller, who, reason))}


@OPERATIONS.get("/episodes", LIMIT, answer=list[answers.Episode])
async def list_episodes(call: ApiRequest) -> Any:
    """List open episodes."""
    limit = call.query.get("limit", 200)
    return [
        {
            "id": item.id,
            "kind": item.kind.value,
            "alertname": item.alertname,
            "source": item.source,
            "status": item.status.value,
            "labels": item.labels,
            "annotations": item.annotations,
            "started_at": rfc3339(item.started_at),
        }
        for item in await call.read(lambda connection: episodes.list_open(connection, limit))
    ]


@OPERATIONS.get(
    "/audit",
    LIMIT,
    Parameter(
        "before",
        "query",
        "Number of an entry: only earlier entries. Use the last number for the next page.",
        bounded(int, 1, MAX_ENTRY),
    ),
    *filters("run", "kind"),
    answer=list[answers.AuditEntry],
)
async def list_audit_entries(call: ApiRequest) -> Any:
    """List audit log entries, newest first."""
    query = call.query
    found = await call.read(
        lambda connection: audit.list_newest(
            connection, query.get("limit", 50), query.get("before"), query.get("run"), query.get("kind")
        )
    )
    return [json.loads(item.canonical) | {"hash": item.hash.hex()} for item in found]


@OPERATIONS.get("/messages/dead", answer=list[answers.DeadMessage])
async def list_dead_messages(call: ApiRequest) -> Any:
    """List messages that could not be delivered."""
    return [
        {"id": item.id, "channel": item.channel, "kind": item.kind, "run": item.run_id, "error": item.error}
        for item in await call.read(outbox.list_dead)
    ]


def routes(site: Site) -> list[Route]:
    """Return the routes of the API and of its description."""

    @cache
    def document() -> bytes:  # build it only on request: the schemas take a tenth of a second
        return json.dumps(describe([operation for operation, _ in OPERATIONS])).encode()

    async def openapi(request: Request) -> Response:
        return Response(await asyncio.to_thread(document), 200, HEADERS, "application/json")

    return [
        *(
            Route(operation.path, handler(site, operation, handle), methods=[operation.method])
            for operation, handle in OPERATIONS
        ),
        Route("/api/v1/openapi.json", openapi),
    ]
