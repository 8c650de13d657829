"""``service.status``: Read the state of the processes of a service, on any platform."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import Reason, ServiceStatus, State
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_YOUNG = timedelta(seconds=15)
"""A service that started within this time is observed for longer: it may be between two crashes."""
_LOOKS = 15
"""Maximum number of further observations, a second apart, unless the service restarts."""
_YOUNG_AFTER_A_CRASH = timedelta(seconds=45)
_LOOKS_AFTER_A_CRASH = 45
"""The same if it has just crashed: a program that starts slowly runs for longer before it crashes again."""
_LOOKS_AT_ENDED = 5
"""The same for a service whose process has ended: platforms restart it within seconds."""
_CALM = timedelta(minutes=1)
"""A service that crashed again and again, and has run for less than this, is still in its crash loop."""
_LOOPING = 2
"""Number of crashes shortly before the last start that are a loop."""


class ServiceStatusAction(Action):
    """Read the state of the instances of a service. Read-only."""

    name = "service.status"
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=10) + timedelta(seconds=_LOOKS_AFTER_A_CRASH)
    observes = timedelta(seconds=_LOOKS_AFTER_A_CRASH)
    facts = (
        Fact("state", "string", "State of all instances together.", values=tuple(State)),
        Fact("instances", "integer", "Expected instances."),
        Fact("healthy", "integer", "Healthy instances."),
        Fact(
            "reasons", "list", f"Reasons why instances do not serve, if the platform reports them: {', '.join(Reason)}."
        ),
        Fact("uptime", "number", "Time since the last start; absent if unknown.", unit="s"),
        Fact("replicas", "integer", "Docker, Kubernetes: configured or existing instances."),
        Fact(
            "owner",
            "object",
            "Docker, Kubernetes: controller that would revert a change; null if there is no such controller.",
        ),
        Fact("containers", "list", "Docker: containers with their state."),
        Fact("leftovers", "list", "Docker: names of other containers of the service."),
        Fact("kind", "string", "Kubernetes: kind of the workload.", values=tuple(WorkloadKind)),
        Fact("revision", "integer", "Kubernetes: number of the current revision."),
        Fact("observed", "boolean", "Kubernetes: whether the controller has observed the current generation."),
        Fact("paused", "boolean", "Kubernetes: whether a person paused the rollout."),
        Fact("updated", "integer", "Kubernetes: pods of the current revision."),
        Fact(
            "failures",
            "list",
            "Kubernetes: why pods of the current revision do not serve. Each has reason, pod, container, init, "
            "restarts, exit_code and message.",
        ),
        Fact("pods", "list", "Kubernetes: up to 20 pods with their state, containers, resources and claims."),
        Fact("claims", "list", "Kubernetes: PersistentVolumeClaims of the pods."),
        Fact("conditions", "object", "Kubernetes: status and reason by type of condition."),
        Fact("events", "list", "Kubernetes: recent warnings, each with its object, count and last time."),
        Fact("process_state", "string", "supervisord: state of the process."),
        Fact("exit_status", "integer", "supervisord, systemd: exit status of the last process."),
        Fact("description", "string", "supervisord: description of the process."),
        Fact("result", "string", "systemd: result of the unit."),
        Fact("restarts", "integer", "systemd: restarts by systemd."),
    )

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        return PlannedCall(text=f"read the state of {service.name}")

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        status = await self._settled(service)
        outcome = Outcome.OK if status.state is State.RUNNING else Outcome.FAILED
        facts: dict[str, Any] = {
            "state": status.state.value,
            "instances": status.instances,
            "healthy": status.healthy,
            "reasons": [each.value for each in status.reasons],
        }
        if status.started_at is not None:
            facts["uptime"] = round((self.clients.clock.now() - status.started_at).total_seconds(), 1)
        return Result(
            outcome, status.summary, dict(status.facts) | facts
        )  # common names override the names of the platform

    async def _settled(self, service: Service) -> ServiceStatus:
        """Return the state. If the service has just started, first observe whether it starts again.

        A program that crashes at its start is *starting*, and for a moment *running* and *exited*, around each crash. A
        single observation could miss the crash loop. So the service is observed until it has run for 15 s, or for 45 s
        if the platform reports a recent crash. If the service starts again while it is observed, it is in a crash loop.
        Several crashes before the last start are a crash loop too: a program with a slow start may run for longer.
        """
        platform = self.clients.platform_of(service)
        first = status = await platform.status(service)
        calm = status.started_at is None or self.clients.clock.now() - status.started_at > _CALM
        if status.state in (State.RUNNING, State.STARTING, State.EXITED) and status.crashes >= _LOOPING and not calm:
            summary = f"{status.summary}; it crashed {status.crashes} times in the two minutes before its last start"
            return replace(status, state=State.CRASH_LOOP, summary=summary, healthy=0)
        limit, looks = (_YOUNG_AFTER_A_CRASH, _LOOKS_AFTER_A_CRASH) if status.crashes else (_YOUNG, _LOOKS)
        for look in range(looks):
            if status.state is State.EXITED and look >= _LOOKS_AT_ENDED:
                break
            young = status.started_at is not None and self.clients.clock.now() - status.started_at < limit
            if status.state is not State.STARTING and not (status.state in (State.RUNNING, State.EXITED) and young):
                break
            await self.clients.clock.sleep(1)
            status = await platform.status(service)
            again = status.pin.get("started") not in (None, first.pin.get("started"))
            if again and first.pin.get("started") is not None:
                summary = f"{status.summary}; it started again while it was observed"
                return replace(status, state=State.CRASH_LOOP, summary=summary, healthy=0)
        return status
