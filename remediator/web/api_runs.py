"""The API of runs and incidents: list, show, start, undo, cancel, retry, comment, explain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from remediator.authoring import explain
from remediator.core.alert import ALERTMANAGER
from remediator.core.approval import Permission
from remediator.core.run import Status
from remediator.core.severity import SEVERITIES
from remediator.errors import Conflict, NotFound
from remediator.pipeline import decisions, manual_undo
from remediator.pipeline.manual_start import StartRequest
from remediator.reporting import incident_document, run_timeline
from remediator.reporting.run_view import run_view
from remediator.runtime.settings import archive_folder
from remediator.storage.repositories import lookup
from remediator.storage.repositories.comments import CommentKind
from remediator.web import form_actions, paging
from remediator.web import run_answers as answers
from remediator.web.api_request import HEADERS, ApiRequest, Operations
from remediator.web.incidents import list_incidents, show_incident
from remediator.web.openapi import LIMIT, REASON, BodyField, Flag, Moment, NotEmpty, Parameter, Texts, filters

_RUN = Parameter("run_id", "path", "ID of the run, its beginning, or @latest.")
_INCIDENT = Parameter("incident_id", "path", "ID of an incident, or of one of its runs, its beginning, or @latest.")
_BEFORE = Parameter("before", "query", "Run ID: only runs that began earlier. Use the last ID for the next page.")
_OPEN = Parameter("open", "query", "true: only runs that have not ended.", Flag)
_NOT_OVER = Parameter("open", "query", "true: only incidents that are not over.", Flag)
_FILTERS = (
    *filters("playbook", "target"),
    Parameter("status", "query", "Only this status.", Literal[tuple(item.value for item in Status)]),
    Parameter("severity", "query", "Only runs with an alert of this severity.", Literal[SEVERITIES]),
    Parameter(
        "since", "query", "Only runs that began then or later: RFC 3339, a date, or a duration such as 2h.", Moment
    ),
    Parameter("until", "query", "Only runs that began before: RFC 3339, a date, or a duration such as 2h.", Moment),
)


class _WithText(TypedDict):
    text: NotEmpty


class _Acknowledged(TypedDict):
    acknowledge: Literal[True]


class _WithLabels(TypedDict):
    labels: Annotated[Texts, Field(min_length=1)]


class _WithFingerprint(TypedDict):
    fingerprint: NotEmpty


_COMMENT: Mapping[str, Any] = {
    "body": {
        "text": "The comment; optional for an acknowledgement.",
        "acknowledge": BodyField("true: you take care of it, and other users see that.", bool),
    },
    "permission": Permission.COMMENT,
    "answer": answers.Comment,
    "body_forms": _WithText | _Acknowledged,
    "forms_hint": "a comment needs a text, for example 'looking into it'; an acknowledgement needs 'acknowledge': true",
}

OPERATIONS = Operations()


@OPERATIONS.get("/runs", LIMIT, _BEFORE, _OPEN, *_FILTERS, answer=list[answers.RunSummary])
async def list_runs(call: ApiRequest) -> Any:
    """List runs, newest first."""
    query, now = call.query, call.site.now
    found = await call.read(lambda connection: paging.query_runs(connection, query, now))
    return [run_timeline.summary(run) for run in found]


@OPERATIONS.get("/runs/{run_id}", _RUN, answer=answers.Run)
async def show_run(call: ApiRequest) -> Any:
    """Show a run with its timeline."""
    run_id, config, now = await call.run_id(), call.site.service.config, call.site.now
    found = await call.read(lambda connection: run_view(connection, run_id, None, now, config.public_url))
    if found is None:
        raise NotFound(await asyncio.to_thread(run_timeline.missing_run_hint, run_id, archive_folder(config)))
    return found


@OPERATIONS.post(
    "/runs",
    body={
        "playbook": "Required. Name of the playbook.",
        "service": "Name of the target in the inventory; without it, the playbook needs a fixed target.",
        "parameters": BodyField("Values of parameters by name, each as a string.", Texts),
        "dry_run": BodyField("true: only show the plan of the run.", bool),
        **REASON,
    },
    permission=Permission.START,
    answer=answers.RunSummary | answers.Explanation,
)
async def start_run(call: ApiRequest) -> Any:
    """Start a run by hand, through the same guards, approval and audit."""
    request = StartRequest(call.text("playbook"), call.text("service"), call.texts("parameters"), call.text("reason"))
    context = call.site.service.context
    if call.flag("dry_run"):
        if not call.site.service.reaches_targets:
            raise Conflict("dry_run: this replica has no access to targets; ask a replica that runs the loops")
        return explain.as_json(await explain.explain_start(context, call.caller, request))
    return run_timeline.summary(await call.write(lambda tx: form_actions.start_run(tx, context, call.caller, request)))


@OPERATIONS.post(
    "/runs/{run_id}/undo",
    _RUN,
    body={
        "confirm": "Name of the target; required if the undo can lose data or costs more than its tolerance.",
        **REASON,
    },
    permission=Permission.UNDO,
    answer=answers.UndoRequested,
)
async def undo_run(call: ApiRequest) -> Any:
    """Undo the actions of a finished run, as its playbook and actions declare. This works once for each run."""
    run_id, reason, confirm = await call.run_id(), call.text("reason"), call.text("confirm")
    steps = await call.write(lambda tx: manual_undo.request_undo(tx, call.caller, run_id, reason, confirm))
    return {"run": run_id, "steps": [{"step": item.step.id, "how": item.how} for item in steps]}


@OPERATIONS.post("/incidents/{incident_id}/comments", _INCIDENT, **_COMMENT)
@OPERATIONS.post("/runs/{run_id}/comments", _RUN, **_COMMENT)
async def comment_run(call: ApiRequest) -> Any:
    """Comment on a run or on the newest run of an incident, or acknowledge it."""
    if "run_id" in call.request.path_params:
        name = await call.run_id()
    else:
        incident = call.request.path_params["incident_id"]
        name = await call.read(lambda connection: lookup.incident_id(connection, incident))
    kind = CommentKind.ACKNOWLEDGEMENT if call.flag("acknowledge") else CommentKind.COMMENT
    text = call.text("text", limit=decisions.MAX_COMMENT)
    made = await call.write(lambda tx: decisions.comment(tx, call.caller, name, text, kind))
    return run_timeline.comment_data(made)


@OPERATIONS.post(
    "/explain",
    body={
        "labels": BodyField("Labels of the alert, by name.", Texts),
        "source": BodyField("Source of the alert with these labels; default: alertmanager.", NotEmpty),
        "fingerprint": BodyField("Instead of labels: Alertmanager's fingerprint of a firing alert.", NotEmpty),
    },
    answer=answers.ExplainedAlert,
    body_forms=_WithLabels | _WithFingerprint,
    forms_hint="give the labels of an alert, or the fingerprint of a firing alert",
)
async def explain_alert(call: ApiRequest) -> Any:
    """Show the plan for an alert, and the reasons; change nothing."""
    service = call.site.service
    if not service.reaches_targets:
        raise Conflict("this replica has no access to targets; ask a replica that runs the loops")
    labels, source = call.texts("labels"), call.text("source") or ALERTMANAGER
    if not labels:
        source, labels = await explain.by_fingerprint(service.config, call.text("fingerprint"))
    return explain.as_alert_json(labels, await explain.explain_alert(service.context, service.config, labels, source))


@OPERATIONS.get(
    "/runs/{run_id}/timeline",
    Parameter("run_id", "path", "ID of a run or an episode, or @latest."),
    Parameter("format", "query", "md (default) or html.", Literal[tuple(incident_document.FORMATS)]),
    media=("text/markdown", "text/html"),
)
async def show_timeline(call: ApiRequest) -> Response:
    """Show the post-incident document of a run, or of all runs of an episode."""
    service, name = call.site.service, call.request.path_params["run_id"]
    format_ = call.query.get("format", "md")
    folder = archive_folder(service.config)
    timelines = await call.read(lambda connection: run_timeline.load_timelines(connection, name, folder))
    measured = []
    for each in timelines:
        prometheus = service.clients.prometheus if format_ == "html" else None
        measured.append((each, await incident_document.measure(prometheus, each, call.site.now)))
    return Response(incident_document.render(measured, format_), 200, HEADERS, incident_document.FORMATS[format_])


@OPERATIONS.post("/runs/{run_id}/cancel", _RUN, body=REASON, permission=Permission.CANCEL, answer=answers.Result)
async def cancel_run(call: ApiRequest) -> Any:
    """Cancel a run."""
    run_id, reason = await call.run_id(), call.text("reason")
    return {"result": await call.write(lambda tx: decisions.cancel(tx, call.caller, run_id, reason))}


@OPERATIONS.post("/runs/{run_id}/retry", _RUN, body=REASON, permission=Permission.RETRY, answer=answers.RunSummary)
async def retry_run(call: ApiRequest) -> Any:
    """Start another run for the same incident."""
    run_id, reason, loaded = await call.run_id(), call.text("reason"), call.site.service.context.playbooks
    run = await call.write(lambda tx: decisions.retry(tx, call.caller, run_id, loaded, reason))
    return run_timeline.summary(run)


OPERATIONS.get("/incidents", LIMIT, _NOT_OVER, answer=list[answers.Incident])(list_incidents)
OPERATIONS.get("/incidents/{incident_id}", _INCIDENT, answer=answers.Incident)(show_incident)
