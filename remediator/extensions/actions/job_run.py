"""``job.run``: Create a Kubernetes Job from a manifest that the inventory allows by name.

The name of the Job comes from the run and the step, so a crash or a lost answer never creates it twice. The action
ends when the Job exists; ``job.wait`` follows it and records its logs. The inventory declares what the Job can damage;
every damage that is not excluded there is assumed, so such a Job always needs an approval.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import Field

from remediator.clients.kubernetes.client import KubernetesRefused
from remediator.clients.kubernetes.jobs import job_name
from remediator.core.clock import format_duration
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions.actions.base import RUN, STEP, Action, EffectStatus, Observation, Result
from remediator.extensions.allowed_jobs import AllowedJob, JobParameters
from remediator.playbooks.catalogue import ActionTraits
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_UNKNOWN_RISK = "The inventory does not declare the possible damage of this Job."


class JobRunParameters(JobParameters):
    """Parameters of ``job.run``."""

    values: dict[str, str] = Field(
        default={}, description="Values of its environment variables; each must match its pattern in the inventory."
    )


class JobRun(Action):
    """Create a Kubernetes Job that the inventory allows."""

    name = "job.run"
    needs = ("jobs",)
    Parameters = JobRunParameters
    destructive = True
    interrupts = True
    timeout = timedelta(seconds=60)
    facts = (Fact("job", "string", "Name of the Job."), Fact("namespace", "string", "Its namespace."))

    def traits_for(self, parameters: JobRunParameters) -> ActionTraits:
        """Return what the inventory declares.

        If several services have a Job with this name, the worst declaration counts.
        """
        services = self.clients.inventory().services.values()
        found = [each.jobs[parameters.job] for each in services if each.jobs and parameters.job in each.jobs]
        return replace(
            self.declared_traits(),
            destructive=not found or any(each.destructive for each in found),
            interrupts=not found or any(each.interrupts for each in found),
        )

    async def plan(self, service: Service, parameters: JobRunParameters) -> PlannedCall:
        allowed = AllowedJob.of(service, parameters.job)
        allowed.check_values(parameters.values)
        manifest, digest = allowed.manifest()
        await self.clients.platform_of(service).require_rights(service, self.name)
        # a dry run, so that objections of the server come before a person is asked
        async with allowed.connected() as client:
            await client.create(allowed.filled(manifest, parameters.values, "planned", "planned"), dry_run=True)
        given = "".join(f" {name}={value}" for name, value in parameters.values.items())
        template = allowed.template
        return PlannedCall(
            text=f"{allowed.where}: create the Job {parameters.job}{' with' + given if given else ''}, which may run "
            f"for {format_duration(template.timeout)}",
            arguments={"job": parameters.job, "values": dict(parameters.values)},
            pin={"manifest": digest, "destructive": template.destructive, "interrupts": template.interrupts},
            risk=template.risk or (_UNKNOWN_RISK if template.destructive or template.interrupts else None),
        )

    async def execute(self, service: Service, parameters: JobRunParameters, call: PlannedCall) -> Result:
        allowed, run, step = AllowedJob.of(service, parameters.job), RUN.get(), STEP.get()
        allowed.check_values(parameters.values)
        manifest, digest = allowed.manifest()
        now = {"destructive": allowed.template.destructive, "interrupts": allowed.template.interrupts}
        if {"manifest": digest, **now} != dict(call.pin):
            raise TargetError(f"the Job {parameters.job!r} was changed after planning; it was not created")
        filled = allowed.filled(manifest, parameters.values, run, step)
        async with allowed.connected() as client:
            try:
                made = await client.create(filled)
            except KubernetesRefused as error:
                if error.reason != "AlreadyExists":
                    raise
                found = await client.job(filled["metadata"]["name"])
                if found is None or not found.was_made_by(run, step):
                    raise TargetError(
                        "a Job with this name exists already, and this run did not create it; nothing was created"
                    ) from None
                made = found
        facts = {"job": made.metadata.name, "namespace": allowed.binding.namespace}
        return Result(Outcome.OK, f"the Job {made.metadata.name} was created", facts)

    async def observe(
        self, service: Service, parameters: JobRunParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the Job by its name. If it may have been removed after its end, whether it existed is unknown."""
        allowed, run, step = AllowedJob.of(service, parameters.job), RUN.get(), STEP.get()
        name = job_name(parameters.job, run, step)
        async with allowed.connected() as client:
            found = await client.job(name)
        if found is None:
            if self.clients.clock.now() - since > allowed.template.keep:
                return Observation(EffectStatus.UNKNOWN, f"the Job {name} does not exist; it may have been removed")
            return Observation(EffectStatus.NO, f"the Job {name} does not exist")
        facts = {"job": name, "state": found.state}
        if not found.was_made_by(run, step):
            return Observation(EffectStatus.UNKNOWN, f"the Job {name} exists, and this run did not create it", facts)
        return Observation(EffectStatus.YES, f"the Job {name} exists and is {found.state}", facts)
