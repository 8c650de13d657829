"""GitHub Actions API client: runs of a workflow, re-run of failed jobs, start of a workflow.

The host is resolved once per call and checked as in `allowed_requests`. Redirects are not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from remediator.clients.allowed_requests import connected
from remediator.clients.endpoints import GitHub, HttpAuth
from remediator.clients.http import Answer, HttpRefused, Part
from remediator.core.clock import rfc3339
from remediator.core.sizes import MEBIBYTE
from remediator.errors import TargetError, TimedOut

_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_LARGEST = 4 * MEBIBYTE  # one run takes 20 kB, since GitHub includes the whole repository object
_PAGE = 20


class WorkflowRun(Part, frozen=True, kw_only=True):
    """A run of a workflow. ``status`` is queued, in_progress, completed, …; ``conclusion`` is success, failure, …"""

    id: int
    run_attempt: int
    status: str
    head_sha: str
    conclusion: str | None = None
    created_at: datetime
    html_url: str = ""


class _Runs(Part, frozen=True, kw_only=True):
    workflow_runs: tuple[WorkflowRun, ...]


class Repository:
    """A client of one repository. Raises what `HttpClient.call` raises, and ``TargetError`` if something is missing.

    After a 5xx to a change, the outcome is unknown: ``TimedOut``.
    """

    def __init__(self, settings: GitHub) -> None:
        self.settings = settings
        self.name = f"GitHub, {settings.repository}"

    async def runs(self, workflow: str, **filters: str) -> tuple[WorkflowRun, ...]:
        """Return the latest runs, newest first. Filters have GitHub's names: branch, event, created."""
        query = {**filters, "per_page": str(_PAGE)}
        return (await self._call("GET", f"/workflows/{workflow}/runs", query)).json(_Runs).workflow_runs

    async def dispatched(self, workflow: str, ref: str, since: datetime) -> tuple[WorkflowRun, ...]:
        """Return the runs started manually or by the API since a time."""
        start = rfc3339(since)[:19] + "Z"
        return await self.runs(workflow, branch=ref, event="workflow_dispatch", created=f">={start}")

    async def run(self, run_id: int) -> WorkflowRun:
        """Return one run."""
        return (await self._call("GET", f"/runs/{run_id}")).json(WorkflowRun)

    async def rerun_failed(self, run_id: int) -> None:
        """Re-run the failed jobs and the jobs that depend on them."""
        await self._call("POST", f"/runs/{run_id}/rerun-failed-jobs")

    async def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, Any]) -> None:
        """Start a workflow."""
        # GitHub accepts only strings, whatever type the workflow declares
        texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in inputs.items()}
        body = {"ref": ref, "inputs": texts}
        await self._call("POST", f"/workflows/{workflow}/dispatches", body=body)

    async def _call(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Answer:
        given = self.settings
        auth = HttpAuth(token_file=given.token_file, headers=_HEADERS)
        try:
            async with connected(
                given.url, auth, given.tls, given.timeout, private=given.private, max_bytes=_LARGEST
            ) as client:
                path = f"/repos/{given.repository}/actions{path}"
                return await client.call(method, path, params=query, json=body)
        except HttpRefused as error:
            if error.status == 404:
                raise TargetError(f"{error}; it does not exist, or the token has no access") from None
            if error.status >= 500 and method != "GET":
                raise TimedOut(f"{error}; the outcome is unknown") from None
            raise
