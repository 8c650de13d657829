"""An alert becomes a dead letter only by an error in its own data; after any other error, alerts wait."""

from __future__ import annotations

import errno

import pytest

from remediator.errors import StoreUnavailable
from remediator.pipeline.dead_letter import may_be_caused_by_alert

pytestmark = [pytest.mark.unit, pytest.mark.promise(1)]


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "too many files"), StoreUnavailable("full")])
def test_a_lack_of_memory_descriptors_or_store_is_not_caused_by_an_alert(error: Exception) -> None:
    """After such an error the alert waits, because a retry can succeed."""
    assert not may_be_caused_by_alert(error)


@pytest.mark.parametrize("error", [ValueError("text"), RecursionError(), KeyError("label")])
def test_a_defect_may_be_caused_by_an_alert(error: Exception) -> None:
    """Such an error can come from the data of the alert, so the alert can become a dead letter."""
    assert may_be_caused_by_alert(error)
