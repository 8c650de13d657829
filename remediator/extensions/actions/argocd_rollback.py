"""``argocd.rollback``: Tell Argo CD to deploy the previous entry of an application's deployment history.

As in Argo CD, automatic sync must be paused first (``argocd.pause`` in an earlier step); otherwise Argo CD would
sync from git again at once. Nothing is pruned. By default, an entry that was rolled back before is never deployed
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.gitops.client import automated, busy, history, operations, uid
from remediator.clients.kubernetes.models import Document
from remediator.core.clock import rfc3339
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.release import Release, ReleaseChange, ReleaseMemory, previous
from remediator.errors import TargetError
from remediator.extensions import bindings, costs
from remediator.extensions.actions.base import RELEASES, RUN, Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_MARK = "remediator"
_WHAT = ("revision", "revisions", "source", "sources")


class RollbackParameters(Parameters):
    """Parameters of the rollback."""

    to: int | None = Field(default=None, ge=0, description="ID in the history; default: the entry deployed before.")


class ArgocdRollback(Action):
    """Roll an Argo CD Application back to an earlier deployment."""

    name = "argocd.rollback"
    needs = ("argocd",)
    Parameters = RollbackParameters
    interrupts = True
    measures = (*costs.REDIS_FIELDS, *costs.INSTANCE_FIELDS)
    reversible = True
    reads_releases = True
    timeout = timedelta(seconds=60)
    facts = (
        Fact("from", "integer", "History ID before the action."),
        Fact("to", "integer", "Requested history ID."),
        Fact("mark", "string", "Mark of the run in the operation."),
    )

    async def plan(self, service: Service, parameters: RollbackParameters) -> PlannedCall:
        managed = bindings.argocd(service)
        seen = await managed.read()
        now, before = _current_and_previous(managed.name, history(seen), parameters.to, RELEASES.get())
        paused = automated(seen) is None
        new, old = _release(now, current=True), _release(before)
        return PlannedCall(
            text=f"{managed.name}: sync to history {before['id']}, {old.title}, from {now['id']}, {new.title}",
            arguments={
                "from": now["id"],
                "to": before["id"],
                "mark": f"run {RUN.get() or '?'}, {rfc3339(self.clients.clock.now())}",
            },
            pin={"uid": uid(seen), "current": now["id"]},
            volatile_fields=("mark",),
            undo=f"sync to history {now['id']} again",
            risk="Git still contains the newer version: revert it there before you resume automatic sync.",
            release_change=ReleaseChange(new.key, new.title, old.key, old.title),
            measurement=None if paused else "automatic sync is on; an earlier step must pause it",
        )

    async def cost(self, service: Service, parameters: RollbackParameters, call: PlannedCall) -> Cost:
        return await costs.interruption(self.clients, service)

    async def execute(self, service: Service, parameters: RollbackParameters, call: PlannedCall) -> Result:
        managed = bindings.argocd(service)

        def decide(seen: Document) -> Document:
            if automated(seen) is not None:
                raise TargetError(
                    f"{managed.name}: automatic sync would revert the rollback; pause it first with argocd.pause"
                )
            if busy(seen):
                raise TargetError(f"{managed.name}: another operation is in progress; nothing was changed")
            now, before = _current_and_previous(managed.name, history(seen), int(call.arguments["to"]), RELEASES.get())
            if {"uid": uid(seen), "current": now["id"]} != dict(call.pin):
                raise TargetError(f"{managed.name} was modified after planning; nothing was changed")
            sync = {name: before[name] for name in _WHAT if before.get(name)}
            options = (seen["spec"].get("syncPolicy") or {}).get("syncOptions")
            # the controller starts the operation and then removes it from the object
            return {
                "operation": {
                    "initiatedBy": {"username": _MARK},
                    "info": [{"name": _MARK, "value": str(call.arguments["mark"])}],
                    "sync": {**sync, **({"syncOptions": options} if options else {}), "syncStrategy": {"apply": {}}},
                }
            }

        await managed.change(decide)
        summary = f"{managed.name}: requested a sync to history {call.arguments['to']}"
        return Result(Outcome.OK, summary, dict(call.arguments))

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall(self.name, {"to": call.arguments["from"]})

    async def observe(
        self, service: Service, parameters: RollbackParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for the mark of this run in the requested operation and in the last one."""
        managed = bindings.argocd(service)
        seen = await managed.read()
        marks = [each.get("value") for operation in operations(seen) for each in operation.get("info") or ()]
        if call.arguments["mark"] in marks:
            return Observation(EffectStatus.YES, f"{managed.name} has the requested operation", {"marks": marks})
        now = history(seen)[0]["id"] if history(seen) else None
        untouched = now == call.pin["current"] and not busy(seen)
        happened = EffectStatus.NO if untouched else EffectStatus.UNKNOWN
        return Observation(
            happened, f"{managed.name} is at history {now}, without the requested operation", {"current": now}
        )


def _current_and_previous(
    name: str, deployed: Sequence[dict[str, Any]], to: int | None, memory: ReleaseMemory
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the current deployment and the target of a rollback: that ID, or the newest deployment that was not rolled
    back.

    Raises:
        TargetError: there is no such deployment, or the current deployment seems to be the result of an unknown
            rollback.
    """
    if not deployed:
        raise TargetError(f"{name} has not deployed anything yet")
    now, older = deployed[0], deployed[1:]
    if to is not None:
        found = next((each for each in deployed if each.get("id") == to), None)
        if found is None or _same(found, now):
            ids = ", ".join(str(each.get("id")) for each in older) or "none"
            raise TargetError(f"{name}: history {to} does not exist or is deployed now; other entries: {ids}")
        return now, found
    releases = [_release(each, current=each is now) for each in deployed]
    others = [each for each in older if not _same(each, now)]
    if not others:
        raise TargetError(f"{name}: no other version was deployed before {releases[0].title}")
    current, restored = previous(name, releases, memory)
    came_back = len(others) < len(older) and not _same(older[0], now)
    if came_back and not memory.is_bad(current) and not memory.is_good(restored):
        raise TargetError(f"{name}: {current.title} is already the result of a rollback; to go back further, set 'to'")
    return now, next(each for each in deployed if str(each["id"]) == restored.id)


def _release(deployed: Mapping[str, Any], *, current: bool = False) -> Release:
    """Return an entry of the history as a release; two entries of the same version have one identity."""
    at, by = deployed.get("deployedAt"), deployed.get("initiatedBy") or {}
    revisions = deployed.get("revisions") or [deployed.get("revision", "?")]
    what = json.dumps({key: deployed[key] for key in _WHAT if deployed.get(key)}, sort_keys=True)
    return Release(
        id=str(deployed["id"]),
        created_at=None if at is None else datetime.fromisoformat(str(at)),
        current=current,
        identity=what,
        name="+".join(str(each)[:12] for each in revisions),
        deployed_by="automatic sync" if by.get("automated") else str(by.get("username") or ""),
    )


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in _WHAT)
