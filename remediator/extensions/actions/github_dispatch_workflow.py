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
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service

_SETTLED = timedelta(minutes=2)
"""So long GitHub may take until a workflow that was started is in its lists."""


class DispatchParameters(Parameters):
    """Which one, and what to give to it. File, branch and what may be given are the inventory's alone."""

    dispatch: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the workflow under dispatch in the inventory."
    )
    inputs: dict[str, str | int | float | bool] = Field(
        default={}, description="Values of its inputs; each must match the rule in the inventory."
    )


class GithubDispatchWorkflow(Action):
    """Start a workflow on GitHub Actions, as the inventory allows. What it does cannot be seen from here."""

    name = "github.dispatch_workflow"
    Parameters = DispatchParameters
    timeout = timedelta(seconds=45)

    def __init__(self, world: ClientSet) -> None:
        self._clock = world.clock

    async def plan(self, service: Service, parameters: DispatchParameters) -> PlannedCall:
        repository, allowed = _allowed(service, parameters)
        if running := await self._running(repository, allowed):
            raise TargetError(
                f"{repository.name}: run {running} of {allowed.workflow} was started already, and goes on"
            )
        given = ", ".join(f"{name}={value}" for name, value in parameters.inputs.items())
        return PlannedCall(
            text=f"{repository.name}: start {allowed.workflow} of {allowed.ref}" + (f" with {given}" if given else ""),
            arguments=_arguments(repository, allowed, parameters),
            risk="What the workflow does is not known here; who may change it may do anything that it may.",
        )

    async def _running(self, repository: Repository, allowed: Dispatch) -> int | None:
        found = await repository.runs(allowed.workflow, branch=allowed.ref, event="workflow_dispatch")
        return next((run.id for run in found if run.status != "completed"), None)

    async def execute(self, service: Service, parameters: DispatchParameters, call: PlannedCall) -> Result:
        repository, allowed = _allowed(service, parameters)
        if _arguments(repository, allowed, parameters) != dict(call.arguments):
            raise TargetError(f"the inventory says something else of {parameters.dispatch!r} than when it was planned")
        if running := await self._running(repository, allowed):
            raise TargetError(f"{repository.name}: run {running} was started since the plan; nothing was done")
        await repository.dispatch(allowed.workflow, allowed.ref, parameters.inputs)
        return Result(Outcome.OK, f"{repository.name}: {allowed.workflow} was started", dict(call.arguments))

    async def observe(
        self, service: Service, parameters: DispatchParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """A run that was started since then, by whomever: another would be one too many. None, only after a while."""
        repository, allowed = _allowed(service, parameters)
        found = await repository.dispatched(allowed.workflow, allowed.ref, since)
        facts = {"runs": [run.id for run in found]}
        told = f"{len(found)} runs of {allowed.workflow} were started since"
        if found:
            return Observation(EffectStatus.YES, told, facts)
        late = self._clock.now() - since > _SETTLED
        return Observation(EffectStatus.NO if late else EffectStatus.CANNOT_TELL, told, facts)


def _allowed(service: Service, parameters: DispatchParameters) -> tuple[Repository, Dispatch]:
    repository = bindings.github(service)
    allowed = repository.settings.dispatch.get(parameters.dispatch)
    if allowed is None:
        known = ", ".join(sorted(repository.settings.dispatch)) or "none"
        raise TargetError(f"the inventory allows no workflow {parameters.dispatch!r}; allowed are: {known}")
    if strangers := sorted(set(parameters.inputs) - set(allowed.inputs)):
        raise TargetError(f"{parameters.dispatch} takes no {', '.join(strangers)}")
    for name, declared in allowed.inputs.items():
        if name not in parameters.inputs and declared.required:
            raise TargetError(f"{parameters.dispatch} needs {name}")
        if name in parameters.inputs and not declared.fits(parameters.inputs[name]):
            raise TargetError(f"{name}: {str(parameters.inputs[name])[:60]!r} is not what the inventory allows")
    return repository, allowed


def _arguments(repository: Repository, allowed: Dispatch, parameters: DispatchParameters) -> dict[str, Any]:
    where = {"repository": repository.settings.repository, "workflow": allowed.workflow, "ref": allowed.ref}
    return {**where, "inputs": dict(parameters.inputs)}
