"""Whether a request still stands, asked before anybody decides: looking only, so nothing is voided and no link burnt.

What it finds decides what the page offers; what counts is still found out again after a decision, by the engine.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from remediator.approve import Change, what_changed
from remediator.errors import RemediatorError
from remediator.planning import MISTAKES
from remediator.records.approvals import Approval
from remediator.run import Run
from remediator.service import Service

PATIENCE = 2.0
"""Seconds that a page waits for the target to say how it is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a pending request is, now."""

    change: Change | None = None
    """Why nobody can approve it any more; None while it stands."""
    unsure: str = ""
    """Why that cannot be told at the moment."""


@dataclass(slots=True)
class Standings:
    """Looks at what requests are for; however many look at one page at once, the target is asked once."""

    service: Service
    _asking: dict[str, asyncio.Task[Standing]] = field(default_factory=dict)

    async def of(self, approval: Approval, run: Run) -> Standing:
        """How a pending request is."""
        asking = self._asking.get(approval.id)
        if asking is None:
            asking = asyncio.create_task(self._look(approval, run), name=f"does {approval.id} stand?")
            self._asking[approval.id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(approval.id, None))
        return await asyncio.shield(asking)

    async def _look(self, approval: Approval, run: Run) -> Standing:
        plans = self.service.role != "receive"  # that role has no business with targets, and may not reach them
        try:
            async with asyncio.timeout(PATIENCE):
                return Standing(await what_changed(self.service.engine, run, approval, plans=plans))
        except TimeoutError:
            return Standing(unsure=f"{run.target} gave no answer within {PATIENCE:g} s")
        except (RemediatorError, *MISTAKES) as error:  # a page is no place to fail for an action's defect
            return Standing(unsure=str(error))
