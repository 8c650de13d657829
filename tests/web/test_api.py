"""The API has a complete description, the same rules as the console, and errors of one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sqlalchemy import insert
from starlette.routing import Route

from remediator.core.run import TERMINAL, TRANSITIONS, Status
from remediator.core.run_detail import CancelledDetail
from remediator.errors import InputError
from remediator.pipeline.stages import advance
from remediator.storage.repositories import runs
from remediator.storage.schema import runs as table
from remediator.web.api import OPERATIONS
from remediator.web.api_request import RequestReader
from remediator.web.application import Application
from remediator.web.openapi import Operation, Parameter, describe
from tests.support import api_reference
from tests.support.guard_history import MINUTE, NOON, row
from tests.support.web_service import WebService, nonce_of


async def test_every_route_is_described(web: WebService) -> None:
    """openapi.json describes exactly the routes under /api/v1."""
    async with web.client() as client:
        described = (await client.get("/api/v1/openapi.json")).json()
    told = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    routes = [route for route in (await Application(web.service).console()).routes if isinstance(route, Route)]
    there = {
        (method, route.path)
        for route in routes
        if route.path.startswith("/api/v1/") and not route.path.endswith("/alerts/")
        for method in (route.methods or {"POST"}) - {"HEAD"}
    }
    assert told == there
    assert described["openapi"].startswith("3.1")


async def test_operations_check_the_role(web: WebService) -> None:
    """List, decide, stop, release and cancel need a token with the right role."""
    asked = await web.request_approval()
    ann, oscar = web.bearer("ann"), web.bearer("oscar")
    async with web.client() as client:
        path = f"/api/v1/approvals/{asked.id}"
        assert [item["id"] for item in (await client.get("/api/v1/approvals")).json()] == [asked.id]
        for body, who, status in (
            ({"plan_hash": asked.plan_hash}, {}, 401),
            ({"plan_hash": asked.plan_hash}, web.bearer("victor"), 403),
            ({}, ann, 400),
            ([], ann, 400),
        ):
            answer = await client.post(f"{path}/approve", json=body, headers=who)
            assert answer.status_code == status
            assert "\n" not in answer.json()["error"]
        other = await client.post(f"{path}/approve", json={"plan_hash": "0" * 64}, headers=ann)
        assert other.json() == {"id": asked.id, "status": "pending", "counted": False, "by": "ann"}
        said = await client.post(f"{path}/approve", json={"plan_hash": asked.plan_hash}, headers=ann)
        assert said.json() == {"id": asked.id, "status": "approved", "counted": True, "by": "ann"}
        assert (await client.get(path)).json()["decisions"][0]["person"] == "ann"
        stop = (await client.post("/api/v1/stops", json={"reason": "look"}, headers=ann)).json()["id"]
        assert (await client.post(f"/api/v1/stops/{stop}/release", headers=ann)).status_code == 403
        assert (await client.post(f"/api/v1/stops/{stop}/release", headers=oscar)).status_code == 200
        done = await client.post(f"/api/v1/runs/{asked.run_id}/cancel", json={"reason": "no"}, headers=oscar)
        assert "being cancelled" in done.json()["result"]
        for path in ("/runs", "/episodes", "/playbooks", "/audit", "/stops", "/messages/dead", f"/runs/{asked.run_id}"):
            assert (await client.get(f"/api/v1{path}")).status_code == 200, path
        assert (await client.get("/api/v1/runs/none")).status_code == 404


async def test_runs_are_paged_to_the_end(web: WebService) -> None:
    """The last ID of a page leads to the next page, and each run appears once. A wrong filter is an error."""
    made = [(await web.request_approval()).run_id for _ in range(7)]
    seen: list[str] = []
    async with web.client() as client:
        while page := (await client.get("/api/v1/runs?limit=3" + (f"&before={seen[-1]}" if seen else ""))).json():
            seen += [item["id"] for item in page]
        assert seen == sorted(made, reverse=True)
        for slip in ({"status": "fail"}, {"severity": ""}, {"limit": "0"}, {"open": "null"}, {"since": "soon"}):
            answer = await client.get("/api/v1/runs", params=slip)
            assert answer.status_code == 400 and answer.json()["error"], slip
        assert (await client.get("/api/v1/incidents?open=null")).status_code == 400
        for missing in ("runs?before=run-none", "runs/none/timeline", "runs/none/timeline?format=html"):
            assert (await client.get(f"/api/v1/{missing}")).status_code == 404, missing
        assert (await client.get("/api/v1/audit?before=123456789012345")).status_code == 200


@pytest.mark.parametrize(
    ("path", "valid", "invalid"),
    [
        (
            "/api/v1/explain",
            [{"labels": {"a": "b"}}, {"fingerprint": "f"}],
            [
                {},
                {"labels": {}},
                {"fingerprint": " "},
                {"fingerprint": "f", "labels": {"a": ["b"]}},
                {"labels": {"a": "b"}, "fingerprint": " "},
                {"labels": {"a": "b"}, "source": ""},
            ],
        ),
        (
            "/api/v1/runs",
            [{"playbook": "p", "parameters": {"a": "b"}}],
            [{"playbook": "p", "parameters": {"a": 1}}, {"playbook": "\u0085"}, {"playbook": "p", "dryrun": True}],
        ),
        (
            "/api/v1/incidents/{incident_id}/comments",
            [{"text": "hm"}, {"text": " " * 3000 + "hm"}, {"acknowledge": True}, {"acknowledge": True, "text": " "}],
            [{}, {"text": " "}, {"text": "\u001f\u0085"}, {"acknowledge": False}],
        ),
        (
            "/api/v1/stops",
            [
                {"reason": "x", "duration": ""},
                {"reason": "x", "duration": "1h30m"},
                {"reason": "x", "duration": "299d999h9999m99999s"},
                {"reason": "x", "duration": "365d23h59m59s"},
                {"reason": "x", "duration": "366d"},
                {"reason": "x", "duration": "1y"},
                {"reason": "x", "duration": "51w6d"},
                {"reason": "x", "duration": "52w"},
                {"reason": "x", "scope": "service", "name": "redis", "duration": "1s"},
                {"reason": "x", "scope": "service", "name": "nowhere"},
            ],
            [
                {"reason": " "},
                {"reason": "x", "": 1},
                {"reason": "x", "duration": "0"},
                {"reason": "x", "duration": "0s"},
                {"reason": "x", "duration": "9999d"},
                {"reason": "x", "duration": "367d"},
                {"reason": "x", "duration": "53w"},
                {"reason": "x", "duration": "1m1h"},
                {"reason": "x", "name": "redis"},
                {"reason": "x", "scope": "service", "name": ""},
                {"reason": "x", "scope": "service"},
                {"reason": "x", "scope": ""},
                {"reason": "x", "scope": " global "},
                {"reason": "x", "name": " "},
            ],
        ),
    ],
)
async def test_the_description_refuses_what_the_api_refuses(
    web: WebService, path: str, valid: list[Any], invalid: list[Any]
) -> None:
    """The API accepts the form of a body if and only if its description allows it."""
    asked = await web.request_approval()
    described = describe([operation for operation, _ in OPERATIONS])["paths"][path]["post"]
    validator = Draft202012Validator(described["requestBody"]["content"]["application/json"]["schema"])
    async with web.client(headers=web.bearer("oscar")) as client:
        for body in invalid:
            answer = await client.post(path.format(incident_id=asked.run_id), json=body)
            assert (answer.status_code, validator.is_valid(body)) == (400, False), body
        for body in valid:
            assert validator.is_valid(body), body
            answer = await client.post(path.format(incident_id=asked.run_id), json=body)
            assert answer.status_code != 400, answer.text
        unknown = await client.post("/api/v1/runs", json={"playbook": "nowhere"})
        assert unknown.status_code == 404
        slip = await client.post("/api/v1/runs", json={"playbook": "redis-disk-full", "dryrun": True})
        assert "unknown field 'dryrun'; did you mean 'dry_run'?" in slip.json()["error"]
        no_such = await client.post("/api/v1/runs", json={"playbook": "redis-disk-full", "parameters": {"none": ""}})
        assert no_such.status_code == 409, no_such.text


TEXTS = (
    "",
    " ",
    "\u001c",
    "\u0085",
    "\ufeff",
    "x",
    "global",
    " global",
    "service",
    "auto",
    "auto ",
    "5m",
    " 5m",
    "9999d",
)
NUMBERS = (0, 1, 1.5, True, False, None)
VALUES = (*TEXTS, *NUMBERS, [], ["x"], {}, {"a": "b"}, {"a": 1}, {str(number): "" for number in range(101)})
POSTS = {operation.path: operation for operation, _ in OPERATIONS if operation.method == "POST"}


@cache
def _validator(path: str) -> Draft202012Validator:
    described = describe([POSTS[path]])["paths"][path]["post"]["requestBody"]
    return Draft202012Validator(described["content"]["application/json"]["schema"])


@pytest.mark.parametrize("path", POSTS)
@given(st.data())
def test_every_body_is_checked_as_it_is_described(path: str, data: st.DataObject) -> None:
    """A body is refused if and only if its schema in the description refuses it. An empty scope stops nothing."""
    fields = {name: st.sampled_from(VALUES) for name in (*POSTS[path].body, "z")}
    body = data.draw(st.fixed_dictionaries({}, optional=fields))
    if _validator(path).is_valid(body):
        RequestReader(POSTS[path]).check_body(body)
    else:
        with pytest.raises(InputError):
            RequestReader(POSTS[path]).check_body(body)


QUERIES = [
    (operation, parameter)
    for operation, _ in OPERATIONS
    for parameter in operation.parameters
    if parameter.place == "query"
]
GIVEN = (
    *("", " ", "1", "0", "500", "501", " 5", "5 ", "1_0", "\uff15", "-1", "10000.5", "nan", "true", "True", "yes"),
    *("md", "json", "failed", "critical", "2h", "1440m", "1000h", "99y", "9999y", "3\uff48", "5m1h", "0s", "soon"),
    *("2026-01-31", "20260131", "2026-W05-6", "2026-01-31T08:00Z", "2026-01-31t08:00:00z", "2026-02-30T08:00:00Z"),
    *("2026-01-31T08:00:00.5+01:00", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-01-31T08:00:00"),
)


@pytest.mark.parametrize(("operation", "parameter"), QUERIES, ids=lambda item: getattr(item, "path", None) or item.name)
def test_every_query_is_checked_as_it_is_described(operation: Operation, parameter: Parameter) -> None:
    """A parameter of a query is refused if and only if its schema in the description refuses it."""
    described = describe([operation])["paths"][operation.path][operation.method.lower()]["parameters"]
    schema = next(item["schema"] for item in described if item["name"] == parameter.name)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for text in GIVEN:
        if validator.is_valid(_typed(text, schema.get("type", "string"))):
            RequestReader(operation).read_query({parameter.name: text})
        else:
            with pytest.raises(InputError, match=parameter.name):
                RequestReader(operation).read_query({parameter.name: text})


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"reason": "x", "scope": ""}, "scope: expected 'global', 'playbook' or 'service'"),
        ({"scope": "global"}, "reason: it is missing."),
        ({"reason": "x", "scope": "service"}, "a stop for a playbook or a service needs its scope and its name"),
        ({"reason": "x", "duration": "soon"}, "duration: the value has a wrong form. From 1s to 1y, for example 30m"),
        ({"reason": 5}, "reason: expected a valid string"),
    ],
)
async def test_a_refused_stop_is_explained_and_not_made(web: WebService, body: Mapping[str, Any], error: str) -> None:
    """A stop with a wrong field is not taken for a stop of everything."""
    async with web.client(headers=web.bearer("oscar")) as client:
        answer = await client.post("/api/v1/stops", json=body)
        assert answer.status_code == 400
        assert error in answer.json()["error"]
        assert (await client.get("/api/v1/stops")).json() == []


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/runs?since=2h", 200, ""),
        ("/runs?since=99y&until=0001-01-01T00:00:00%2B01:00", 200, ""),
        ("/runs?since=9999y", 400, "since: expected a time like 2026-01-31T08:00:00Z, a date, or a duration like 2h"),
        ("/runs?playbok=x", 400, "the query has an unknown parameter 'playbok'; did you mean 'playbook'?"),
        ("/runs?limit=501", 400, "limit: expected less than or equal to 500. Maximum number of results, at most 500."),
        ("/runs?status=gone", 400, "status: expected 'matched'"),
        ("/incidents?open=yes", 400, "open: "),
        ("/report?since=99y&minutes_per_incident=0", 200, ""),
        ("/report?minutes_per_incident=nan", 400, "minutes_per_incident: "),
        ("/audit?before=1&limit=5", 200, ""),
    ],
)
async def test_a_wrong_query_is_explained(web: WebService, path: str, status: int, error: str) -> None:
    """A filter with a mistake does not show everything, and the error names it."""
    async with web.client(headers=web.bearer("oscar")) as client:
        answer = await client.get(f"/api/v1{path}")
    assert answer.status_code == status, answer.text
    assert (error in answer.json()["error"]) if error else "error" not in answer.json()


def _typed(text: str, kind: str) -> Any:
    """Return a text of a query as its schema reads it."""
    if kind in ("integer", "number") and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return int(text) if "." not in text else float(text)
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


@pytest.mark.parametrize("status", list(Status))
async def test_cancel_works_in_every_state(web: WebService, status: Status) -> None:
    """A waiting or running run ends at the next step, or when an unknown outcome is resolved.

    An ended run releases its target lock.
    """
    over = status in TERMINAL
    more = {"lease_owner": "replica-1", "lease_until": NOON + MINUTE, "fence": 1}
    more |= {"finished_at": NOON, "holds_target": True} if over else {}
    values = row("run-x", "redis-disk-full", "redis", status.value, NOON, **more)
    await web.context.store.write(lambda tx: tx.connection.execute(insert(table), values))
    async with web.client(headers=web.bearer("oscar")) as client:
        said = (await client.post("/api/v1/runs/run-x/cancel", json={"reason": "enough"})).json()["result"]
    assert ("is released" if over else "is being cancelled") in said
    run = await web.context.store.read(lambda connection: runs.get(connection, "run-x"))
    assert run is not None and (run.cancel_request is None) is over and not (over and run.holds_target)
    if status is Status.UNKNOWN_OUTCOME:
        assert {Status.CANCELLED, Status.RUNNING, Status.VERIFYING} <= TRANSITIONS[status]
    elif not over:
        after = (await advance(web.context, run)).run
        assert (after.status, after.reason) == (Status.CANCELLED, "cancelled")
        assert after.detail == CancelledDetail(who="oscar", reason="enough")


async def test_a_session_cookie_alone_changes_nothing(web: WebService) -> None:
    """A request from another site, or not as JSON, is rejected although the browser sends the cookie."""
    async with web.client() as client:
        page = await client.get("/sign-in")
        await client.post("/sign-in", data={"nonce": nonce_of(page.text), "token": web.tokens["oscar"]})
        body = {"reason": "look"}
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        assert (await client.post("/api/v1/stops", json=body, headers=elsewhere)).status_code == 403
        assert (await client.post("/api/v1/stops", content='{"reason":"x"}')).status_code == 400
        assert (await client.post("/api/v1/stops", json=body)).status_code == 200


def test_the_reference_is_current() -> None:
    """docs/api.md is current. ``python -m tests.support.api_reference`` writes it."""
    assert api_reference.PAGE.read_text() == api_reference.page()
