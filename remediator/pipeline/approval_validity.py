"""Whether a request still stands, asked before anybody decides: looking only, so nothing is voided and no link burnt.

What it finds decides what people are offered; what counts is still found out again after a decision, by the engine.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from remediator.core.run import Run
from remediator.errors import InputError, RemediatorError
from remediator.pipeline.approve import Change, what_changed
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.planning import MISTAKES
from remediator.storage.repositories.approvals import Approval

PATIENCE = 2.0
"""Seconds that a page waits for the target to say how it is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a pending request is, now."""

    change: Change | None = None
    """Why nobody can approve it any more; None while it stands."""
    unsure: str = ""
    """Why that cannot be told at the moment."""

    def why_anew(self) -> str:
        """What is on record when people are asked anew.

        Raises:
            InputError: it stands, or that cannot be told: nobody gets rid of what others have said by asking again.
        """
        if self.unsure:
            raise InputError(f"whether this request stands cannot be told now: {self.unsure}")
        if self.change is None:
            raise InputError("this request stands as it is; there is nothing to ask anew")
        return self.change.why


async def look(
    context: PipelineContext, approval: Approval, run: Run, *, plans: bool = True, patience: float = PATIENCE
) -> Standing:
    """How a pending request is.

    Args:
        plans: False looks at the playbook only and asks no target.
        patience: for the target to answer, in seconds.
    """
    try:
        async with asyncio.timeout(patience):
            return Standing(await what_changed(context, run, approval, plans=plans))
    except TimeoutError:
        return Standing(unsure=f"{run.target} gave no answer within {patience:g} s")
    except (RemediatorError, *MISTAKES) as error:  # looking is no place to fail for an action's defect
        return Standing(unsure=str(error))
