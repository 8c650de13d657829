"""Looks at what requests are for: however many people open one page at once, its target is asked once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from remediator.core.run import Run
from remediator.pipeline.approval_validity import Standing, look
from remediator.service import Service
from remediator.storage.repositories.approvals import Approval


@dataclass(slots=True)
class Standings:
    """Whether the requests of one service stand."""

    service: Service
    _asking: dict[str, asyncio.Task[Standing]] = field(default_factory=dict)

    async def of(self, approval: Approval, run: Run) -> Standing:
        """How a pending request is."""
        asking = self._asking.get(approval.id)
        if asking is None:
            plans = self.service.role != "receive"  # that role has no business with targets, and may not reach them
            looking = look(self.service.context, approval, run, plans=plans)
            asking = asyncio.create_task(looking, name=f"does {approval.id} stand?")
            self._asking[approval.id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(approval.id, None))
        return await asyncio.shield(asking)
