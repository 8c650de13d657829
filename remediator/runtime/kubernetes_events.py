"""Write the actions of a run as Kubernetes Events on their objects, from the committed audit log."""

from __future__ import annotations

from datetime import datetime, timedelta

from remediator.audit import Kind
from remediator.audit.entry import Entry
from remediator.clients.kubernetes.client import KubernetesRefused
from remediator.clients.kubernetes.events import ObjectEvent
from remediator.core.outcome import Outcome
from remediator.core.run import Status
from remediator.errors import ConfigurationError, TargetError
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.step_execution import planned_call
from remediator.runtime.run_export import PermanentlyRefused
from remediator.storage.repositories import attempts
from remediator.storage.repositories.attempts import Attempt

_TOO_OLD = timedelta(hours=1)
"""Kubernetes keeps Events for about an hour, so older Events are not written."""
_ENDS = {Status.SUCCEEDED.value: "Healed", Status.FAILED.value: "NotHealed", Status.ESCALATED.value: "Escalated"}
_OUTCOMES = {
    Outcome.OK.value: "ActionSucceeded",
    Outcome.FAILED.value: "ActionFailed",
    Outcome.UNKNOWN.value: "ActionOutcomeUnknown",
}


class KubernetesEventsExporter:
    """Writes an Event when an action starts, when it ends, and when a run that acted ends.

    Args:
        context: has the inventory, the platforms and the store.
    """

    name = "kubernetes events"

    def __init__(self, context: PipelineContext) -> None:
        self._context = context

    async def send(self, entry: Entry) -> None:
        """Write the Event of an entry, if it is about an action on a Kubernetes object.

        Raises:
            PermanentlyRefused: the account may not write Events, or the object does not exist.
            ClientError: the API server did not accept the Event; it is sent again later.
        """
        run = entry.run
        reason = _reason(entry)
        written = datetime.fromisoformat(entry.written)
        if run is None or reason is None or self._context.clock.now() - written > _TOO_OLD:
            return
        tried = await self._context.store.read(lambda connection: attempts.list_for_run(connection, run))
        attempt = _attempt(entry, [each for each in tried if each.mutates])
        inventory = self._context.playbooks.inventory
        if attempt is None or attempt.target not in inventory:
            return
        service = inventory.service(attempt.target)
        prefix = "Undo: " if attempt.is_undo else ""
        event = ObjectEvent(
            key=f"{run} {entry.seq}",
            at=written,
            reason=reason,
            message=f"{prefix}{_text(entry, attempt)} (run {run}, playbook {attempt.playbook})",
            is_warning=reason not in ("ActionStarted", "ActionSucceeded", "Healed"),
            action=attempt.action,
            instance=entry.actor,
        )
        try:
            await self._context.platforms[service.platform.kind].write_event(service, planned_call(attempt), event)
        except (KubernetesRefused, TargetError, ConfigurationError) as error:
            raise PermanentlyRefused(str(error)) from None


def _reason(entry: Entry) -> str | None:
    """Return the reason of the Event of an entry; None if the entry has no Event."""
    if entry.kind == Kind.ACTION_INTENDED.value:
        return "ActionStarted"
    if entry.kind == Kind.ACTION_OUTCOME.value:
        return _OUTCOMES.get(str(entry.data.get("outcome")))
    if entry.kind == Kind.RUN_TRANSITION.value:
        return _ENDS.get(str(entry.data["to"]))
    return None


def _attempt(entry: Entry, tried: list[Attempt]) -> Attempt | None:
    """Return the attempt that an entry is about; for the end of a run, the last one, if there is one."""
    if entry.kind == Kind.RUN_TRANSITION.value:
        return next((each for each in reversed(tried) if not each.is_undo), None)
    return next((each for each in tried if each.id == entry.data.get("attempt")), None)


def _text(entry: Entry, attempt: Attempt) -> str:
    if entry.kind == Kind.ACTION_OUTCOME.value:
        return f"{attempt.action}: {entry.data.get('summary') or entry.data['outcome']}"
    if entry.kind == Kind.RUN_TRANSITION.value:
        return f"the run ended: {entry.data['to']}"
    return str(attempt.call.get("text", attempt.action))
