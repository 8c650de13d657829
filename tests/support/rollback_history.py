"""Roll a service back as the pipeline does, with the records that the store keeps between rollbacks."""

from __future__ import annotations

from dataclasses import dataclass, field

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.release import ReleaseMemory, Verdict
from remediator.errors import TargetError
from remediator.extensions.actions.base import RELEASES, Result
from remediator.extensions.actions.service_rollback import RollbackParameters, ServiceRollback
from remediator.playbooks.inventory import Service


@dataclass
class RollbackHistory:
    """The remedy memory of one target over many rollbacks."""

    action: ServiceRollback
    service: Service
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    async def plan(self) -> PlannedCall:
        """Plan a rollback with the present memory."""
        RELEASES.set(ReleaseMemory(self.verdicts))
        return await self.action.plan(self.service, RollbackParameters())

    async def roll_back(self) -> PlannedCall:
        """Roll back, and record the abandoned release and the restored one, which works."""
        call = await self.plan()
        result: Result = await self.action.execute(self.service, RollbackParameters(), call)
        assert result.outcome is Outcome.OK, result.summary
        change = call.release_change
        assert change is not None, "a rollback says which releases it changes"
        self.verdicts |= {change.left: Verdict.BAD, change.restored: Verdict.GOOD}
        return call

    async def refusal(self) -> str:
        """Return why no rollback is possible now."""
        try:
            call = await self.plan()
        except TargetError as error:
            return str(error)
        raise AssertionError(f"expected no rollback, planned: {call.text}")
