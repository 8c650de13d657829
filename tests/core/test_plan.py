"""The hash of a plan depends on its actions, and not on measurements."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from remediator.core.plan import Plan, PlannedCall
from tests.support.web_service import step

CALL = PlannedCall(
    text="BGSAVE on redis", arguments={"saves": 3, "to": "dump.rdb"}, pin={"run_id": "a"}, volatile_fields=("saves",)
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
        ({"measurement": "12.4 MiB of data at most"}, True),
        ({"arguments": {"saves": 3, "to": "other.rdb"}}, False),
        ({"text": "BGSAVE on redis-2"}, False),
        ({"pin": {"run_id": "b"}}, False),
        ({"risk": "it takes memory"}, False),
        ({"volatile_fields": ("saves", "to")}, False),
        ({"infeasible_reason": "the disk has 17 bytes free"}, False),
    ],
)
def test_a_plan_is_the_same_if_it_would_do_the_same(change: dict[str, Any], same: bool) -> None:
    """Volatile fields and measurements do not change the hash; any other difference needs a new approval."""
    other = _plan(msgspec.structs.replace(CALL, **change))
    assert (other.hash == _plan(CALL).hash) is same
    assert Plan.from_data(other.to_data()).hash == other.hash


@pytest.mark.promise(6)
def test_the_text_of_an_infeasible_reason_does_not_change_the_hash() -> None:
    """The hash contains whether a step is infeasible, not the reason."""
    texts = ("4711 bytes are missing", "4712 bytes are missing")
    first, second = (msgspec.structs.replace(CALL, infeasible_reason=text) for text in texts)
    assert _plan(first).hash == _plan(second).hash
    assert first.summary.endswith("4711 bytes are missing")
