"""The loops of the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from remediator.core.run import Run, Status
from remediator.pipeline.context import StageResult, proceed, wait_until
from remediator.pipeline.match import Index
from remediator.pipeline.run_context import Origin
from remediator.runtime import worker
from tests.support.guard_history import NOON

_RUN = Run(
    **{
        **dict.fromkeys(Run.__dataclass_fields__),
        **{"id": "run-1", "status": Status.RUNNING, "cursor": "first", "wakeup_count": 0},
    }
)


@dataclass
class _Context:
    """A context whose clock notes each requested wait, and whose store accepts every change."""

    slept: list[float] = field(default_factory=list)

    @property
    def clock(self) -> _Context:
        return self

    @property
    def store(self) -> _Context:
        return self

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def write(self, work: Callable[..., Any]) -> None:
        """Accept a change without a commit."""


async def _slept(monkeypatch: pytest.MonkeyPatch, results: list[StageResult]) -> list[float]:
    left = iter(results)

    async def advance(*_: object) -> StageResult:
        return next(left)

    monkeypatch.setattr(worker, "advance", advance)
    context: Any = _Context()
    await worker.Worker(context, Index((), "Watchdog"), Any)._advance_until_wait(_RUN, Origin.CLAIMED, ())  # type: ignore[arg-type]
    slept: list[float] = context.slept
    return slept


async def test_a_run_that_does_not_change_is_evaluated_again_after_a_growing_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pause doubles after each evaluation without a change, up to one second."""
    again = [proceed(replace(_RUN, wakeup_count=count)) for count in range(1, 11)]
    slept = await _slept(monkeypatch, [*again, wait_until(_RUN, None)])
    assert slept[:3] == [0.02, 0.04, 0.08] and slept == sorted(slept) and slept[-1] == 1.0


async def test_a_run_that_changes_continues_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of step or status, the run is evaluated again without a pause."""
    changed = [replace(_RUN, cursor="second"), replace(_RUN, cursor="second", status=Status.VERIFYING)]
    assert await _slept(monkeypatch, [*map(proceed, changed), wait_until(changed[-1], None)]) == []


@dataclass
class _Idle(_Context):
    """A store whose next episode closes at ``due``; the first sleep ends the loop."""

    due: datetime | None = None
    closed: int = 0

    async def read(self, work: Callable[..., Any]) -> datetime | None:
        return self.due

    async def write(self, work: Callable[..., Any]) -> None:
        self.closed += 1

    def now(self) -> datetime:
        return NOON

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("due_in", "closed", "pause"), [(None, 0, 1.0), (30.0, 0, 1.0), (0.3, 0, 0.3), (0.0, 1, 0.05), (-9.0, 1, 0.05)]
)
async def test_episodes_are_closed_when_one_is_due(due_in: float | None, closed: int, pause: float) -> None:
    """An idle service opens no write transaction to close episodes."""
    idle: Any = _Idle(due=None if due_in is None else NOON + timedelta(seconds=due_in))
    with pytest.raises(asyncio.CancelledError):
        await worker.Worker(idle, Index((), "Watchdog"), Any).run_close_loop()  # type: ignore[arg-type]
    assert (idle.closed, idle.slept) == (closed, [pytest.approx(pause)])
