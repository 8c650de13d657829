"""The losses that need an approval."""

from __future__ import annotations

import pytest

from remediator.core.cost import EFFECT, FIELDS, Cost, excess
from remediator.playbooks.tolerance import DEFAULT, Tolerance, resolve_tolerance

SILENT = {"unsaved_writes": "Redis does not answer"}


@pytest.mark.parametrize(
    ("cost", "tolerance", "found"),
    [
        (Cost(), {}, ()),
        (Cost(unsaved_writes=0, cannot_save=False, clients=900), {}, ()),
        (Cost(unsaved_writes=1), {}, ("unsaved writes: 1, tolerated: 0",)),
        (Cost(unsaved_writes=1000), {"unsaved_writes": 1000}, ()),
        (Cost(unsaved_writes=1001), {"unsaved_writes": 1000}, ("unsaved writes: 1,001, tolerated: 1,000",)),
        (Cost(unknown=SILENT), {"unsaved_writes": 1000}, ("unsaved writes: unknown (Redis does not answer)",)),
        (Cost(unknown=SILENT), {"unsaved_writes": "any"}, ()),
        (Cost(unsaved_writes=10**9), {"unsaved_writes": "any"}, ()),
        (Cost(cannot_save=True), {}, ("it cannot save its data now",)),
        (Cost(cannot_save=True), {"cannot_save": True}, ()),
        (Cost(last_save_age=7200.0, unsaved_writes=0), {"last_save_age": "5m"}, ()),
        (
            Cost(last_save_age=7200.0, unsaved_writes=5),
            {"last_save_age": "5m", "unsaved_writes": 10},
            ("age of the last save: 2h, tolerated: 5m",),
        ),
        (Cost(sole_instance=True), {}, ()),
        (Cost(sole_instance=True), {"sole_instance": False}, ("no other instance serves during the interruption",)),
        (Cost(unknown={"clients": "no answer"}), {}, ()),
        (Cost(unknown={EFFECT: "not measured"}), {"unsaved_writes": "any"}, ("effect: unknown (not measured)",)),
    ],
)
def test_a_loss_above_the_tolerance_or_unknown_is_named(
    cost: Cost, tolerance: dict[str, object], found: tuple[str, ...]
) -> None:
    """Without a declared tolerance, no data may be lost; ``any`` also tolerates a loss of unknown size."""
    assert excess(cost, resolve_tolerance(Tolerance.model_validate(tolerance))) == found


@pytest.mark.parametrize(
    ("accepted", "now", "covered"),
    [
        (Cost(unsaved_writes=600), Cost(unsaved_writes=600), True),
        (Cost(unsaved_writes=600), Cost(unsaved_writes=1200), True),
        (Cost(unsaved_writes=600), Cost(unsaved_writes=1201), False),
        (Cost(unknown=SILENT), Cost(unknown=SILENT), True),
        (Cost(unknown=SILENT), Cost(unsaved_writes=5), False),
        (Cost(unsaved_writes=600), Cost(unknown=SILENT), False),
        (Cost(cannot_save=True), Cost(cannot_save=True), True),
        (Cost(cannot_save=False), Cost(cannot_save=True), False),
        (Cost(unknown={EFFECT: "a"}), Cost(unknown={EFFECT: "b"}), True),
    ],
)
def test_an_approval_covers_what_it_showed(accepted: Cost, now: Cost, covered: bool) -> None:
    """An approval covers the shown cost, and a growth of up to twice the value.

    For any other cost, a new approval is needed.
    """
    assert (not excess(now, DEFAULT, accepted)) is covered


def test_a_later_tolerance_replaces_single_limits() -> None:
    """The limits of the step override the limits of the service, field by field."""
    service = Tolerance.model_validate({"unsaved_writes": 1000, "clients": 50})
    step = Tolerance.model_validate({"unsaved_writes": 5})
    assert resolve_tolerance(service, step) == {**DEFAULT, "unsaved_writes": 5, "clients": 50}


def test_every_fact_of_a_cost_has_its_phrase() -> None:
    """Each field of a cost has a phrase for messages, and each tolerance belongs to a field."""
    values = {"cannot_save": True, "refuses": True, "only_copy": True, "sole_instance": True}
    for name in FIELDS:
        assert Cost(**{name: values.get(name, 3)}).text  # type: ignore[arg-type]
    assert set(Tolerance.model_fields) <= set(FIELDS)
