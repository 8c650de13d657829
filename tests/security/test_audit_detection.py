"""What the verification of the audit log detects without any option."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from remediator.audit import GENESIS, Draft, Kind, Problem, seal, verify

pytestmark = pytest.mark.promise(9)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_a_recorded_root_that_does_not_fit_is_found(forged: bool, strict: bool) -> None:
    """An entry about a checkpoint is compared with the entries that the checkpoint covers, also without a witness."""
    first, head = seal(GENESIS, [Draft(Kind.SERVICE_STARTED, "test") for _ in range(1500)], NOW)
    root = bytes(32).hex() if forged else head.root().hex()
    drafts = [Draft(Kind.CHECKPOINT_SIGNED, "test", data={"size": head.seq, "root": root}), Draft(Kind.EVIDENCE, "x")]
    second, _ = seal(head, drafts, NOW)
    result = verify([*first, *second], strict=strict)
    assert result.ok is not forged
    if forged:
        assert (result.findings[0].problem, result.findings[0].seq) == (Problem.REWRITTEN, 1501)
