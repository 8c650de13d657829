"""GitHub Actions on a test server that keeps workflow runs and speaks HTTP like GitHub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from remediator.clients.endpoints import WorkflowInput
from remediator.core.outcome import Outcome
from remediator.errors import BadAnswer, Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.actions.github_dispatch_workflow import GithubDispatchWorkflow
from remediator.extensions.actions.github_rerun_workflow import GithubRerunWorkflow
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service
from tests.support.fake_servers import Script, hang_up, peer, reply, silence

RERUN, DISPATCH = GithubRerunWorkflow(ClientSet()), GithubDispatchWorkflow(ClientSet())
CHANGES: list[tuple[Action, dict[str, Any]]] = [
    (RERUN, {"workflow": "deploy.yml"}),
    (DISPATCH, {"dispatch": "rollback", "inputs": {"version": "v1.2.3", "dry": False}}),
]
EACH = pytest.mark.parametrize(("action", "given"), CHANGES, ids=lambda value: getattr(value, "name", ""))
INPUTS = {"version": {"pattern": "v[0-9.]+"}, "dry": {"type": "boolean"}}


class Hub:
    """The workflow runs of a repository. With ``loses``, a call takes effect but gets no answer."""

    def __init__(self, *, loses: bool = False, denies: bool = False) -> None:
        self.runs = [self.made(1, "deploy.yml", "push", "failure")]
        self.posted: list[tuple[str, Any]] = []
        self.heads: list[bytes] = []
        self._loses, self._denies = loses, denies

    def made(self, id_: int, workflow: str, event: str, conclusion: str | None) -> dict[str, Any]:
        """Return a workflow run of the branch ``main``."""
        return {
            "id": id_,
            "run_attempt": 1,
            "workflow": workflow,
            "event": event,
            "status": "completed" if conclusion else "queued",
            "conclusion": conclusion,
            "head_sha": f"{id_:040d}",
            "head_branch": "main",
            "created_at": (datetime.now(UTC) + timedelta(seconds=id_)).isoformat(),
            "repository": {"description": "x" * 100_000},
        }

    async def script(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        self.heads.append(head)
        method, target = head.split(b" ")[:2]
        url = urlsplit(target.decode())
        path = url.path.removeprefix("/repos/acme/shop/actions")
        if method == b"GET":
            answer: Any = self._told(path, {name: value[0] for name, value in parse_qs(url.query).items()})
        elif self._denies:
            await reply(403, b'{"message": "Resource not accessible"}', "connection: close")(request, writer)
            return
        else:
            self._do(path, json.loads(body or b"null"))
            answer = {}
            if self._loses:
                await hang_up(request, writer)
                return
        await reply(200, json.dumps(answer).encode(), "connection: close")(request, writer)

    def _told(self, path: str, query: dict[str, str]) -> Any:
        if path.startswith("/runs/"):
            return next(run for run in self.runs if path == f"/runs/{run['id']}")
        found = [run for run in self.runs if path == f"/workflows/{run['workflow']}/runs"]
        return {"workflow_runs": [run for run in found if query.get("event") in (None, run["event"])]}

    def _do(self, path: str, body: Any) -> None:
        self.posted.append((path, body))
        if path.endswith("/rerun-failed-jobs"):
            self.runs[0] |= {"run_attempt": 2, "status": "queued", "conclusion": None}
        else:
            self.runs.append(self.made(2, path.split("/")[2], "workflow_dispatch", None))


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """Write the token to a file, and return its path."""
    (tmp_path / "token").write_text("ghp_secret\n")
    return tmp_path / "token"


def at(url: str, token: Path, **more: Any) -> Service:
    """Return a service that this repository deploys."""
    rollback = {"workflow": "rollback.yml", "inputs": INPUTS}
    given = {"repository": "acme/shop", "token_file": str(token), "url": url, "private": True, "rerun": ["deploy.yml"]}
    return service("app", github={**given, "dispatch": {"rollback": rollback}, **more})


@asynccontextmanager
async def served(hub: Hub, token: Path) -> AsyncIterator[Service]:
    """Return the service of this repository."""
    async with peer(hub.script) as web:
        yield at(web.url, token)


async def test_the_failed_jobs_of_the_latest_run_are_run_again(token: Path) -> None:
    """The failed jobs of the latest run are started again once, with the token from its file and one Host header."""
    hub = Hub()
    async with served(hub, token) as target:
        call = await plan(RERUN, target, workflow="deploy.yml")
        result = await do(RERUN, target, call=call, workflow="deploy.yml")

    assert result.outcome is Outcome.OK and hub.posted == [("/runs/1/rerun-failed-jobs", None)]
    assert b"authorization: bearer ghp_secret" in hub.heads[-1].lower()
    assert hub.heads[-1].lower().count(b"\r\nhost: 127.0.0.1:") == 1
    assert "ghp_secret" not in repr(call) and "rerun the failed jobs of run 1 " in call.text


async def test_an_older_run_is_never_run_again(token: Path) -> None:
    """A rerun of an older run would deploy a version that was replaced since; an open run is not started again."""
    hub = Hub()
    async with served(hub, token) as target:
        for conclusion, said in (("success", "is success"), (None, "is queued")):
            hub.runs[1:] = [hub.made(5, "deploy.yml", "push", conclusion)]
            with pytest.raises(TargetError, match=f"5, {said}"):
                await plan(RERUN, target, workflow="deploy.yml")


async def test_a_workflow_is_started_with_its_inputs(token: Path) -> None:
    """The call uses the workflow file and the branch of the inventory, and text values. It is refused while another run
    is open."""
    hub = Hub()
    async with served(hub, token) as target:
        result = await do(DISPATCH, target, **CHANGES[1][1])
        with pytest.raises(TargetError, match="already in progress"):
            await plan(DISPATCH, target, **CHANGES[1][1])

    sent = {"ref": "main", "inputs": {"version": "v1.2.3", "dry": "false"}}
    assert result.outcome is Outcome.OK and hub.posted == [("/workflows/rollback.yml/dispatches", sent)]


@pytest.mark.parametrize(
    ("action", "given", "says"),
    [
        (RERUN, {"workflow": "other.yml"}, "does not allow to rerun 'other.yml'"),
        (RERUN, {"workflow": "../../x"}, "does not allow"),
        (DISPATCH, {"dispatch": "destroy"}, "does not allow the workflow 'destroy'"),
        (
            DISPATCH,
            {"dispatch": "rollback", "inputs": {"version": "v1", "dry": True, "ref": "x"}},
            "not accept the inputs: ref",
        ),
        (DISPATCH, {"dispatch": "rollback", "inputs": {"version": "v1"}}, "requires the input 'dry'"),
        (
            DISPATCH,
            {"dispatch": "rollback", "inputs": {"version": "v1; rm -rf /", "dry": True}},
            "does not allow the value 'v1; rm",
        ),
        (
            DISPATCH,
            {"dispatch": "rollback", "inputs": {"version": "v1", "dry": "yes"}},
            "does not allow the value 'yes'",
        ),
    ],
)
async def test_what_the_inventory_does_not_allow_is_refused(
    action: Action, given: dict[str, Any], says: str, token: Path
) -> None:
    """The action is refused before a request is sent, also if the inventory names no repository."""
    with pytest.raises(TargetError, match=says):
        await plan(action, at("http://127.0.0.1:9", token), **given)
    with pytest.raises(TargetError, match="service 'app' has no 'github' in the inventory"):
        await plan(action, service("app"), **given)


@EACH
async def test_what_github_does_not_have_is_missing(action: Action, given: dict[str, Any], token: Path) -> None:
    """A 404 is reported as missing or not permitted, because GitHub answers 404 in both cases."""
    async with peer(reply(404, b'{"message": "Not Found"}', "connection: close")) as web:
        with pytest.raises(TargetError, match="the token has no access"):
            await plan(action, at(web.url, token), **given)


@pytest.mark.parametrize(
    "given", [{}, {"pattern": "a", "enum": ["b"]}, {"pattern": "("}, {"type": "number", "enum": ["1"]}]
)
def test_an_input_is_bounded(given: dict[str, Any]) -> None:
    """The inventory does not accept an input without a pattern or a list of values."""
    with pytest.raises(ValidationError):
        WorkflowInput.model_validate(given)


@EACH
async def test_a_token_that_may_not_is_refused(action: Action, given: dict[str, Any], token: Path) -> None:
    """The error contains the message of GitHub, and no workflow is started."""
    hub = Hub(denies=True)
    async with served(hub, token) as target:
        with pytest.raises(Refused, match="Resource not accessible"):
            await do(action, target, **given)

    assert not hub.posted


@EACH
async def test_no_server_no_answer_and_invalid_answers(action: Action, given: dict[str, Any], token: Path) -> None:
    """An unreachable server, a missing answer and an invalid answer have different errors.

    A loopback address and a redirect are refused unless the inventory allows them.
    """
    with pytest.raises(Unreachable):
        await plan(action, at("http://127.0.0.1:9", token), **given)
    with pytest.raises(Refused, match="nothing was sent"):
        await plan(action, at("http://localhost:9", token, private=False), **given)
    await _fails(silence, TimedOut, action, given, token, timeout="300ms")
    await _fails(reply(200, b"<html>"), BadAnswer, action, given, token)
    await _fails(reply(200, b"x" * 5_000_000), BadAnswer, action, given, token)
    await _fails(reply(302, b"", "location: http://127.0.0.1:9/"), Refused, action, given, token)


async def _fails(
    script: Script, error: type[Exception], action: Action, given: dict[str, Any], token: Path, **more: Any
) -> None:
    async with peer(script) as web:
        with pytest.raises(error):
            await plan(action, at(web.url, token, **more), **given)


@EACH
async def test_a_lost_answer_is_observed_as_done(action: Action, given: dict[str, Any], token: Path) -> None:
    """The call is sent once; then the list of runs shows the outcome. Until GitHub lists it, the outcome is unknown."""
    hub = Hub(loses=True)
    async with served(hub, token) as target:
        call = await plan(action, target, **given)
        now, long_ago = datetime.now(UTC), datetime.now(UTC) - timedelta(minutes=5)
        assert (await observe(action, target, call, since=now, **given)).happened is EffectStatus.UNKNOWN
        assert (await observe(action, target, call, since=long_ago, **given)).happened is EffectStatus.NO
        with pytest.raises(TimedOut):
            await do(action, target, call=call, **given)
        assert (await observe(action, target, call, since=now, **given)).happened is EffectStatus.YES

    assert len(hub.posted) == 1


@EACH
async def test_a_change_after_planning_is_refused(action: Action, given: dict[str, Any], token: Path) -> None:
    """If another user ran the workflow, or the inventory changed, the action is refused."""
    hub = Hub()
    async with served(hub, token) as target:
        call = await plan(action, target, **given)
        hub.runs[0]["run_attempt"] = 2
        hub.runs.append(hub.made(7, "rollback.yml", "workflow_dispatch", None))
        with pytest.raises(TargetError, match=r"nothing was (changed|started)"):
            await do(action, target, call=call, **given)
        other = {"rollback": {"workflow": "rollback.yml", "ref": "other", "inputs": INPUTS}}
        elsewhere = at(target.github.url if target.github else "", token, dispatch=other, rerun=[])
        with pytest.raises(TargetError, match="the inventory"):
            await do(action, elsewhere, call=call, **given)

    assert not hub.posted
