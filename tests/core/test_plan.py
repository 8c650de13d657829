"""What makes two plans the same: what would be done, not what was measured on the way."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from remediator.core.plan import Plan, PlannedCall, as_data, from_data
from tests.support.web_service import step

CALL = PlannedCall(
    text="BGSAVE on redis", arguments={"saves": 3, "to": "dump.rdb"}, pin={"run_id": "a"}, fresh=("saves",)
)


def _plan(call: PlannedCall) -> Plan:
    return Plan(
        playbook="redis-disk-full",
        playbook_hash="0" * 64,
        target="redis",
        mode="approve",
        parameters={},
        steps=(msgspec.structs.replace(step(), call=call),),
        checks=(),
        settle=1.0,
        within=30.0,
        escalate_to=(),
        escalate_message="",
    )


@pytest.mark.promise(6)
@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"arguments": {"saves": 4, "to": "dump.rdb"}}, True),
        ({"note": "12.4 MiB of data at most"}, True),
        ({"arguments": {"saves": 3, "to": "other.rdb"}}, False),
        ({"text": "BGSAVE on redis-2"}, False),
        ({"pin": {"run_id": "b"}}, False),
        ({"risk": "it takes memory"}, False),
        ({"fresh": ("saves", "to")}, False),
        ({"impossible": "the disk has 17 bytes free"}, False),
    ],
)
def test_a_plan_is_the_same_if_it_would_do_the_same(change: dict[str, Any], same: bool) -> None:
    """Counters, names made up for the occasion and notes differ each time; all else needs people again."""
    other = _plan(msgspec.structs.replace(CALL, **change))
    assert (other.hash == _plan(CALL).hash) is same
    assert from_data(as_data(other)).hash == other.hash


@pytest.mark.promise(6)
def test_why_a_step_is_not_possible_may_change_by_a_byte() -> None:
    """That it is not possible counts; how many bytes are missing does not."""
    first, second = (msgspec.structs.replace(CALL, impossible=f"{number} bytes are missing") for number in (4711, 4712))
    assert _plan(first).hash == _plan(second).hash
    assert first.told.endswith("4711 bytes are missing")
