"""A resolved alert with unusual times ends its episode, or gives the reason why not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.core.episode import AlertUpdate, EpisodeChange, fold
from remediator.core.run import EpisodeStatus
from tests.support.guard_history import MINUTE, NOON, alert

UNSET = "0001-01-01T00:00:00Z"
BEFORE, AT, AFTER = ((NOON + span).isoformat() for span in (-MINUTE, timedelta(0), MINUTE))

CASES = {
    "an end after the start": (AT, AFTER, EpisodeChange.RESOLVED),
    "an end at the start": (AT, AT, EpisodeChange.RESOLVED),
    "an end before its own start": (AT, BEFORE, EpisodeChange.RESOLVED),
    "an end that is not set": (AT, UNSET, EpisodeChange.RESOLVED),
    "neither start nor end": (UNSET, UNSET, EpisodeChange.RESOLVED),
    "the end of an earlier firing": ((NOON - 3 * MINUTE).isoformat(), BEFORE, EpisodeChange.STALE),
    "an earlier firing without an end": (BEFORE, UNSET, EpisodeChange.STALE),
}


@pytest.mark.parametrize("starts, ends, expected", CASES.values(), ids=CASES)
def test_a_resolved_alert_ends_the_firing_that_it_is_about(starts: str, ends: str, expected: EpisodeChange) -> None:
    """The known firing began at noon; the result depends on the times of the resolved alert."""
    current = alert(instance="a")
    seen = AlertUpdate(current.identity, False, current.labels, {}, starts, ends)

    change, after = fold(current, seen, NOON + 2 * MINUTE, 5 * MINUTE, "")

    assert after is not None
    assert change is expected
    assert (after.status is EpisodeStatus.RESOLVED) == (expected is EpisodeChange.RESOLVED)
