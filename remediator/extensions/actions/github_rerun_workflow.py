"""``github.rerun_workflow``: Run the failed jobs of the latest run of a workflow again.

It reruns only the latest run on the branch in the inventory, and only if that run failed. An older run would
deploy a version that was replaced later.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from remediator.clients.github.client import Repository, WorkflowRun
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_FAILED = frozenset({"failure", "timed_out", "startup_failure"})
_SETTLED = timedelta(minutes=1)
"""Time after which GitHub shows a requested attempt."""


class RerunParameters(Parameters):
    """Parameters of ``github.rerun_workflow``."""

    workflow: str = Field(description="File name of the workflow, as listed under rerun in the inventory.")


class GithubRerunWorkflow(Action):
    """Rerun the failed jobs of the latest run of a workflow."""

    name = "github.rerun_workflow"
    needs = ("github",)
    Parameters = RerunParameters
    timeout = timedelta(seconds=60)
    facts = (
        Fact("run", "integer", "ID of the workflow run."),
        Fact("url", "string", "URL of the workflow run."),
    )

    async def plan(self, service: Service, parameters: RerunParameters) -> PlannedCall:
        repository = _allowing(service, parameters.workflow)
        latest = await _latest(repository, parameters.workflow)
        if latest.status != "completed" or latest.conclusion not in _FAILED:
            said = latest.conclusion or latest.status
            raise TargetError(f"{repository.name}: the latest run of {parameters.workflow}, {latest.id}, is {said}")
        commit, branch = latest.head_sha[:12], repository.settings.branch
        return PlannedCall(
            text=f"{repository.name}: rerun the failed jobs of run {latest.id} "
            f"({parameters.workflow}, commit {commit} of {branch}, attempt {latest.run_attempt}: {latest.conclusion})",
            arguments={"workflow": parameters.workflow, "run": latest.id},
            pin={"attempt": latest.run_attempt, "commit": latest.head_sha},
            risk="The jobs may repeat the work that they did before they failed.",
        )

    async def execute(self, service: Service, parameters: RerunParameters, call: PlannedCall) -> Result:
        repository = _allowing(service, parameters.workflow)
        latest = await _latest(repository, parameters.workflow)
        seen = {"attempt": latest.run_attempt, "commit": latest.head_sha}
        if latest.id != call.arguments["run"] or seen != dict(call.pin) or latest.status != "completed":
            raise TargetError(
                f"{repository.name}: attempt {latest.run_attempt} of run {latest.id} started after planning; "
                "nothing was changed"
            )
        await repository.rerun_failed(latest.id)
        output = {"run": latest.id, "url": latest.html_url}
        return Result(Outcome.OK, f"{repository.name}: rerun of run {latest.id} requested", output)

    async def observe(
        self, service: Service, parameters: RerunParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Compare the number of attempts, which GitHub updates with a delay."""
        repository = _allowing(service, parameters.workflow)
        run = await repository.run(int(call.arguments["run"]))
        facts = {"attempt": run.run_attempt, "status": run.status}
        summary = f"run {run.id} is at attempt {run.run_attempt}, {run.status}"
        if run.run_attempt > int(call.pin["attempt"]):
            return Observation(EffectStatus.YES, summary, facts)
        late = self.clients.clock.now() - since > _SETTLED
        return Observation(EffectStatus.NO if late else EffectStatus.UNKNOWN, summary, facts)


def _allowing(service: Service, workflow: str) -> Repository:
    repository = bindings.github(service)
    if workflow not in repository.settings.rerun:
        known = ", ".join(repository.settings.rerun) or "none"
        raise TargetError(f"the inventory does not allow to rerun {workflow!r}; allowed: {known}")
    return repository


async def _latest(repository: Repository, workflow: str) -> WorkflowRun:
    found = await repository.runs(workflow, branch=repository.settings.branch)
    if not found:
        raise TargetError(f"{repository.name}: {workflow} has no run on {repository.settings.branch}")
    return max(found, key=lambda run: run.created_at)
