"""``job.wait``: Wait until the Job that this run created with ``job.run`` has ended, and record its logs. Read-only."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from remediator.clients.kubernetes.client import KubernetesRefused
from remediator.clients.kubernetes.jobs import Job, Jobs
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.extensions.actions.base import RUN, Action, Poll, Result
from remediator.extensions.allowed_jobs import AllowedJob, JobParameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_LOOK = timedelta(seconds=2)
_MARGIN = timedelta(minutes=1)
"""Time for Kubernetes to stop an overdue Job and to report this."""
_MOST_PODS = 3
_MOST_LOGS = 4000
"""Characters of the end of the logs that are kept."""


class JobWaitParameters(JobParameters):
    """Parameters of ``job.wait``."""

    within: Duration | None = Field(
        default=None, description="Time after which the wait fails; default: the timeout of the Job and one minute."
    )
    lines: int = Field(default=50, ge=1, le=1000, description="Lines of the logs of each container.")


class JobWait(Action):
    """Wait for the Job of this run and record its logs. Read-only."""

    name = "job.wait"
    needs = ("jobs",)
    Parameters = JobWaitParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("job", "string", "Name of the Job."),
        Fact("state", "string", "State of the Job.", values=("complete", "failed", "running", "missing")),
        Fact("why", "string", "Reason of the failure, from Kubernetes; empty otherwise."),
        Fact("logs", "string", "End of the logs of its newest pods, with the names of pod and container."),
    )

    async def plan(self, service: Service, parameters: JobWaitParameters) -> PlannedCall:
        allowed = AllowedJob.of(service, parameters.job)
        await self.clients.platform_of(service).require_rights(service, self.name)
        return PlannedCall(
            text=f"wait at most {_within(allowed, parameters).total_seconds():g} s for the Job {parameters.job}"
        )

    async def execute(self, service: Service, parameters: JobWaitParameters, call: PlannedCall) -> Result:
        allowed = AllowedJob.of(service, parameters.job)
        async with allowed.connected() as client:
            found = await client.jobs_of(RUN.get(), parameters.job)
            if not found:
                facts = {"job": "", "state": "missing", "why": "", "logs": ""}
                return Result(Outcome.FAILED, f"this run has no Job {parameters.job}", facts)
            job = found[0]
            logs = "" if job.state == "running" else await _logs(client, job, parameters.lines)
        facts = {"job": job.metadata.name, "state": job.state, "why": job.why, "logs": logs}
        if job.state == "running":
            text = f"the Job {job.metadata.name} is running"
            return Result(Outcome.FAILED, text, facts, Poll(_LOOK, _within(allowed, parameters)))
        if job.state == "failed":
            last = logs.strip().rpartition("\n")[2][:200]
            text = f"the Job {job.metadata.name} failed ({job.why})" + (f": {last}" if last else "")
            return Result(Outcome.FAILED, text, facts)
        return Result(Outcome.OK, f"the Job {job.metadata.name} is complete", facts)


def _within(allowed: AllowedJob, parameters: JobWaitParameters) -> timedelta:
    return parameters.within if parameters.within is not None else allowed.template.timeout + _MARGIN


async def _logs(client: Jobs, job: Job, lines: int) -> str:
    """Return the end of the logs of the newest pods, without unreadable logs."""
    texts = []
    for pod in (await client.pods_of(job.metadata.name))[:_MOST_PODS]:
        for container in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            try:
                text = await client.logs(pod.metadata.name, container.name, lines)
            except KubernetesRefused as error:
                if error.status not in (400, 404):  # the pod has not started, or was deleted
                    raise
            else:
                texts.append(f"[{pod.metadata.name}/{container.name}]\n{text}")
    return "\n".join(reversed(texts))[-_MOST_LOGS:]
