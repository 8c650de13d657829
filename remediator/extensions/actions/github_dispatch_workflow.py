"""``github.dispatch_workflow``: Start a GitHub workflow that the inventory allows by name, for example a rollback."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.endpoints import Dispatch
from remediator.clients.github.client import Repository
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_SETTLED = timedelta(minutes=2)
"""Time after which GitHub lists a started workflow run."""


class DispatchParameters(Parameters):
    """Parameters of ``github.dispatch_workflow``. The inventory defines the file, branch and allowed inputs."""

    dispatch: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the workflow under dispatch in the inventory."
    )
    inputs: dict[str, str | int | float | bool] = Field(
        default={}, description="Values of its inputs; each must match the rule in the inventory."
    )


class GithubDispatchWorkflow(Action):
    """Start a GitHub workflow that the inventory allows."""

    name = "github.dispatch_workflow"
    needs = ("github",)
    Parameters = DispatchParameters
    timeout = timedelta(seconds=45)
    facts = (
        Fact("repository", "string", "Repository as owner/name."),
        Fact("workflow", "string", "File of the workflow."),
        Fact("ref", "string", "Branch or tag."),
        Fact("inputs", "object", "Inputs of the workflow."),
    )

    async def plan(self, service: Service, parameters: DispatchParameters) -> PlannedCall:
        repository, allowed = _allowed(service, parameters)
        if running := await self._running(repository, allowed):
            raise TargetError(f"{repository.name}: run {running} of {allowed.workflow} is already in progress")
        given = ", ".join(f"{name}={value}" for name, value in parameters.inputs.items())
        return PlannedCall(
            text=f"{repository.name}: start {allowed.workflow} on {allowed.ref}" + (f" with {given}" if given else ""),
            arguments=_arguments(repository, allowed, parameters),
            risk="The effect of the workflow is unknown. Anyone who can edit the workflow can change it.",
        )

    async def _running(self, repository: Repository, allowed: Dispatch) -> int | None:
        found = await repository.runs(allowed.workflow, branch=allowed.ref, event="workflow_dispatch")
        return next((run.id for run in found if run.status != "completed"), None)

    async def execute(self, service: Service, parameters: DispatchParameters, call: PlannedCall) -> Result:
        repository, allowed = _allowed(service, parameters)
        if _arguments(repository, allowed, parameters) != dict(call.arguments):
            raise TargetError(
                f"{parameters.dispatch!r} was changed in the inventory after planning; it was not started"
            )
        if running := await self._running(repository, allowed):
            raise TargetError(f"{repository.name}: run {running} was started after planning; nothing was started")
        await repository.dispatch(allowed.workflow, allowed.ref, parameters.inputs)
        return Result(Outcome.OK, f"{repository.name}: {allowed.workflow} was started", dict(call.arguments))

    async def observe(
        self, service: Service, parameters: DispatchParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for a run started since then.

        A run by another user counts too, so that no workflow is started twice.
        """
        repository, allowed = _allowed(service, parameters)
        found = await repository.dispatched(allowed.workflow, allowed.ref, since)
        facts = {"runs": [run.id for run in found]}
        summary = f"{len(found)} runs of {allowed.workflow} were started since the attempt began"
        if found:
            return Observation(EffectStatus.YES, summary, facts)
        late = self.clients.clock.now() - since > _SETTLED
        return Observation(EffectStatus.NO if late else EffectStatus.UNKNOWN, summary, facts)


def _allowed(service: Service, parameters: DispatchParameters) -> tuple[Repository, Dispatch]:
    repository = bindings.github(service)
    allowed = repository.settings.dispatch.get(parameters.dispatch)
    if allowed is None:
        known = ", ".join(sorted(repository.settings.dispatch)) or "none"
        raise TargetError(f"the inventory does not allow the workflow {parameters.dispatch!r}; allowed: {known}")
    if unknown := sorted(set(parameters.inputs) - set(allowed.inputs)):
        raise TargetError(f"{parameters.dispatch!r} does not accept the inputs: {', '.join(unknown)}")
    for name, declared in allowed.inputs.items():
        if name not in parameters.inputs and declared.required:
            raise TargetError(f"{parameters.dispatch!r} requires the input {name!r}")
        if name in parameters.inputs and not declared.fits(parameters.inputs[name]):
            raise TargetError(
                f"input {name!r}: the inventory does not allow the value {str(parameters.inputs[name])[:60]!r}"
            )
    return repository, allowed


def _arguments(repository: Repository, allowed: Dispatch, parameters: DispatchParameters) -> dict[str, Any]:
    where = {"repository": repository.settings.repository, "workflow": allowed.workflow, "ref": allowed.ref}
    return {**where, "inputs": dict(parameters.inputs)}
