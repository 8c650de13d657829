"""Check whether the plan of a pending request is still current, before a person decides.

The check changes nothing: it makes no request outdated and uses up no link. It determines the choices of people. The
approve stage plans again after the decision, and that plan counts (promise 6).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from remediator.core.run import Run
from remediator.errors import Conflict, RemediatorError
from remediator.pipeline.approve import Change, what_changed
from remediator.pipeline.context import DEFECTS, PipelineContext
from remediator.pipeline.run_context import RunContext
from remediator.storage.repositories.approvals import Approval

TARGET_TIMEOUT = 2.0
"""Seconds that a page waits for the target."""


@dataclass(frozen=True, slots=True)
class Validity:
    """The validity of a pending request now."""

    change: Change | None = None
    """Why the request can no longer be approved; None if it is valid."""
    unknown: str = ""
    """Why the validity is unknown at the moment; empty if it is known."""

    def refresh_reason(self) -> str:
        """Return the reason that is recorded when the request is refreshed.

        Raises:
            Conflict: it is valid, or that is unknown. A refresh must not discard the decisions of other people.
        """
        if self.unknown:
            raise Conflict(f"whether this request is still valid is unknown now: {self.unknown}; try again later")
        if self.change is None:
            raise Conflict("this request is still valid: decide this request")
        return self.change.why


async def check_validity(
    context: PipelineContext, approval: Approval, run: Run, *, plans: bool = True, patience: float = TARGET_TIMEOUT
) -> Validity:
    """Return the validity of a pending request.

    Args:
        context: the dependencies.
        approval: the request.
        run: the run of the request.
        plans: False compares the playbook only and asks no target.
        patience: seconds to wait for the target.
    """
    try:
        async with asyncio.timeout(patience):
            return Validity(await what_changed(RunContext(context, run), approval, plans=plans))
    except TimeoutError:
        return Validity(unknown=f"{run.target} gave no answer within {patience:g} s")
    except (RemediatorError, *DEFECTS) as error:  # a defect in an action must not break the page
        return Validity(unknown=str(error))
