"""``/api/v1``: the powers of the console and the CLI, as JSON. :data:`OPERATIONS` is the list; the description that
``/api/v1/openapi.json`` gives is made from it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from remediator.core.approval import Permission
from remediator.core.clock import rfc3339
from remediator.pipeline import decisions
from remediator.pipeline.approval_validity import Standing
from remediator.pipeline.decisions import DecisionRequest
from remediator.reporting import run_timeline
from remediator.runtime.settings import archive_folder
from remediator.storage.repositories import approvals, audit, autonomy, episodes, outbox, runs, stops
from remediator.storage.repositories.approvals import Approval
from remediator.web import form_actions, paging
from remediator.web.api_request import SAFE, Answer, Call, NotFound, handler
from remediator.web.openapi import Operation, Parameter, describe
from remediator.web.site import Site


async def _runs(call: Call) -> Any:
    asked, limit = call.request.query_params, call.whole("limit", 50, 500)
    found = await call.read(lambda connection: paging.asked_for(connection, asked, limit))
    return [run_timeline.summary(run) for run in found]


async def _run(call: Call) -> Any:
    run_id = call.request.path_params["run_id"]
    told = await call.read(lambda connection: run_timeline.load_timeline(connection, run_id))
    if told is None:
        raise NotFound(await asyncio.to_thread(run_timeline.unknown, run_id, archive_folder(call.site.service.config)))
    return run_timeline.as_data(told)


async def _cancel(call: Call) -> Any:
    run_id, reason = call.request.path_params["run_id"], call.text("reason")
    return {"result": await call.write(lambda tx: decisions.cancel(tx, call.somebody, run_id, reason))}


async def _retry(call: Call) -> Any:
    run_id, reason, service = call.request.path_params["run_id"], call.text("reason"), call.site.service
    return run_timeline.summary(
        await call.write(lambda tx: form_actions.again(tx, service, call.somebody, run_id, reason))
    )


async def _approvals(call: Call) -> Any:
    return [_approval(item) for item in await call.read(approvals.list_pending)]


async def _asked(call: Call) -> Any:
    found = await _request(call)
    said = await call.read(lambda connection: approvals.decisions_of(connection, found.id))
    words = [
        {"who": item.identity, "said": item.verb, "at": rfc3339(item.at), "how": item.how, "reason": item.reason}
        for item in said
    ]
    return {**_approval(found), "said": words, "standing": await _standing(call, found)}


async def _standing(call: Call, found: Approval) -> dict[str, Any] | None:
    """Whether it could be approved as things are, as its page says; None if it waits no more."""
    if found.status != "pending":
        return None
    now = await _look(call, found)
    stands = None if now.unsure else now.change is None
    return {"stands": stands, "because": now.unsure or (now.change.why if now.change else None)}


async def _look(call: Call, found: Approval) -> Standing:
    run = await call.read(lambda connection: runs.get(connection, found.run_id))
    return await call.site.standings.of(found, run)


async def _renew(call: Call) -> Any:
    found = await _request(call)
    if found.status != "pending":
        return {"status": found.status, "renewed": False}
    why, rules = (await _look(call, found)).why_anew(), call.site.rules
    renewed = await call.write(lambda tx: decisions.renew(tx, call.somebody, found.id, why, rules))
    return {"status": (await _request(call)).status, "renewed": renewed}


async def _request(call: Call) -> Approval:
    approval_id = call.request.path_params["approval_id"]
    found: Approval | None = await call.read(lambda connection: approvals.get(connection, approval_id))
    if found is None:
        raise NotFound(f"there is no request {approval_id[:64]}")
    return found


def _approval(item: Approval) -> dict[str, Any]:
    return {
        "id": item.id,
        "run": item.run_id,
        "plan_hash": item.plan_hash,
        "step": item.step,
        "status": item.status,
        "groups": list(item.groups),
        "quorum": item.quorum,
        "requested_at": rfc3339(item.requested_at),
        "expires_at": rfc3339(item.expires_at),
        "decided_at": None if item.decided_at is None else rfc3339(item.decided_at),
        "reason": item.reason,
    }


def _decision(verb: str) -> Answer:
    async def decide(call: Call) -> Any:
        word = DecisionRequest(
            call.request.path_params["approval_id"],
            call.text("plan_hash", required=True),
            verb,
            call.somebody,
            call.text("reason"),
            call.text("confirm"),
            call.body.get("break_glass") is True,
        )
        heard = await call.write(lambda tx: decisions.decide(tx, word, call.site.rules))
        return {"status": heard.status, "counted": heard.counted}

    return decide


async def _stops(call: Call) -> Any:
    now = call.site.now
    return [
        {
            "id": item.id,
            "stops": item.what,
            "scope": item.scope,
            "name": item.name,
            "reason": item.reason,
            "who": item.who,
            "since": rfc3339(item.set_at),
            "until": None if item.expires_at is None else rfc3339(item.expires_at),
        }
        for item in await call.read(lambda connection: stops.standing(connection, now))
    ]


async def _pause(call: Call) -> Any:
    reason, scope, name = call.text("reason", required=True), call.text("scope") or "global", call.text("name")
    lasts = form_actions.span(call.text("for"))
    form_actions.known(call.site.service, scope, name)
    return {"id": await call.write(lambda tx: decisions.pause(tx, call.somebody, reason, scope, name, lasts))}


async def _resume(call: Call) -> Any:
    stop_id = call.request.path_params["stop_id"]
    if not await call.write(lambda tx: decisions.resume(tx, call.somebody, stop_id)):
        raise NotFound(f"{stop_id[:64]} does not stand")
    return {"released": stop_id}


async def _episodes(call: Call) -> Any:
    return [
        {
            "id": item.id,
            "alertname": item.alertname,
            "status": item.status.value,
            "labels": item.labels,
            "annotations": item.annotations,
            "started_at": rfc3339(item.started_at),
        }
        for item in await call.read(lambda connection: episodes.list_open(connection, call.whole("limit", 200, 1000)))
    ]


async def _playbooks(call: Call) -> Any:
    book = call.site.service.context.playbooks

    def look(connection: Connection) -> Any:
        return [
            {
                "name": playbook.name,
                "summary": playbook.summary,
                "mode": autonomy.effective(connection, playbook.name, playbook.mode_in(book.environment)),
                "version": playbook.content_hash,
                "results": runs.results(connection, playbook.name),
            }
            for playbook in book.active
        ]

    return await call.read(look)


async def _audit(call: Call) -> Any:
    asked = call.request.query_params
    before = call.whole("before", 0, 10**15) if "before" in asked else None
    limit = call.whole("limit", 50, 500)
    found = await call.read(
        lambda connection: audit.newest(connection, limit, before, asked.get("run"), asked.get("kind"))
    )
    return [json.loads(item.canonical) | {"hash": item.hash.hex()} for item in found]


async def _dead(call: Call) -> Any:
    return [
        {"id": item.id, "channel": item.channel, "kind": item.kind, "run": item.run_id, "error": item.error}
        for item in await call.read(outbox.list_dead)
    ]


_LIMIT = Parameter("limit", "query", "Maximum number of results.", "integer")
_RUN = Parameter("run_id", "path", "ID of the run.")
_APPROVAL = Parameter("approval_id", "path", "ID of the approval request.")
_REASON = {"reason": "Reason, shown to other users."}
_DECIDE = {
    "plan_hash": "Required. Hash of the plan you read; a decision on another plan is rejected.",
    "confirm": "Name of the target, required if the plan is destructive.",
    "break_glass": "true: this decision alone is sufficient; it is announced and needs a reason.",
    **_REASON,
}


def _filters(*names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, "query", f"Only this {name}.") for name in names)


_BEFORE = Parameter("before", "query", "Run ID: only runs that began earlier. Use the last ID for the next page.")
_OPEN = Parameter("open", "query", "true: only runs that have not ended.", "boolean")
_WHICH = _filters("playbook", "target", "status")

OPERATIONS: tuple[tuple[Operation, Answer], ...] = (
    (
        Operation("GET", "/api/v1/runs", "List runs, newest first.", (_LIMIT, _BEFORE, _OPEN, *_WHICH)),
        _runs,
    ),
    (Operation("GET", "/api/v1/runs/{run_id}", "Show a run with its timeline.", (_RUN,)), _run),
    (Operation("POST", "/api/v1/runs/{run_id}/cancel", "Cancel a run.", (_RUN,), _REASON, Permission.CANCEL), _cancel),
    (
        Operation(
            "POST",
            "/api/v1/runs/{run_id}/retry",
            "Start another run for the same incident.",
            (_RUN,),
            _REASON,
            Permission.RETRY,
        ),
        _retry,
    ),
    (Operation("GET", "/api/v1/approvals", "List pending approval requests."), _approvals),
    (
        Operation(
            "GET",
            "/api/v1/approvals/{approval_id}",
            "Show an approval request, its decisions and whether it is still valid.",
            (_APPROVAL,),
        ),
        _asked,
    ),
    *(
        (
            Operation(
                "POST", f"/api/v1/approvals/{{approval_id}}/{verb}", text, (_APPROVAL,), _DECIDE, Permission.DECIDE
            ),
            _decision(verb),
        )
        for verb, text in (
            ("approve", "Approve the plan."),
            ("reject", "Reject the plan."),
            ("snooze", "Ask again later."),
        )
    ),
    (
        Operation(
            "POST",
            "/api/v1/approvals/{approval_id}/renew",
            "Create a new request if the plan is outdated.",
            (_APPROVAL,),
            {},
            Permission.DECIDE,
        ),
        _renew,
    ),
    (Operation("GET", "/api/v1/stops", "List active stops."), _stops),
    (
        Operation(
            "POST",
            "/api/v1/stops",
            "Create a stop.",
            (),
            {
                "scope": "global (default), playbook or service.",
                "name": "Name of the playbook or service.",
                "for": "Duration, for example 30m; without it, the stop lasts until it is released.",
                **_REASON,
            },
            Permission.PAUSE,
        ),
        _pause,
    ),
    (
        Operation(
            "POST",
            "/api/v1/stops/{stop_id}/release",
            "Release a stop.",
            (Parameter("stop_id", "path", "ID of the stop."),),
            {},
            Permission.RESUME,
        ),
        _resume,
    ),
    (Operation("GET", "/api/v1/episodes", "List open episodes.", (_LIMIT,)), _episodes),
    (Operation("GET", "/api/v1/playbooks", "List playbooks with their mode and results."), _playbooks),
    (
        Operation(
            "GET",
            "/api/v1/audit",
            "List audit log entries, newest first.",
            (
                _LIMIT,
                Parameter(
                    "before",
                    "query",
                    "Number of an entry: only earlier entries. Use the last number for the next page.",
                    "integer",
                ),
                *_filters("run", "kind"),
            ),
        ),
        _audit,
    ),
    (Operation("GET", "/api/v1/messages/dead", "List messages that could not be delivered."), _dead),
)


def routes(site: Site) -> list[Route]:
    """The API's routes, and its description."""
    made = [
        Route(operation.path, handler(site, operation, answer), methods=[operation.method])
        for operation, answer in OPERATIONS
    ]
    described = describe([operation for operation, _ in OPERATIONS])

    async def openapi(request: Request) -> Response:
        return JSONResponse(described, 200, SAFE)

    return [*made, Route("/api/v1/openapi.json", openapi)]
