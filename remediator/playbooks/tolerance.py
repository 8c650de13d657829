"""Tolerances: the losses that need no approval."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from pydantic import Field

from remediator.core.cost import Amount
from remediator.core.types import Duration, Strict

Limit = int | Literal["any"]


class Tolerance(Strict):
    """The losses that need no approval. A greater loss, or an unknown one, needs an approval in every mode.

    ``any`` tolerates every loss, and an unknown one.
    """

    unsaved_writes: Limit | None = Field(
        default=None,
        description="Writes that only the memory of the service has; default: 0. For a cache: any.",
    )
    last_save_age: Duration | Literal["any"] | None = Field(
        default=None, description="Age of the last successful save, if there are unsaved writes; default: any."
    )
    cannot_save: bool | None = Field(
        default=None, description="Whether a service that cannot save its data may be interrupted; default: false."
    )
    refuses: bool | None = Field(
        default=None,
        description="Whether a service that answers and refuses to serve may be interrupted; default: false.",
    )
    only_copy: bool | None = Field(
        default=None, description="Whether the only copy of the data may be interrupted; default: true."
    )
    clients: Limit | None = Field(default=None, description="Clients that lose their connection; default: any.")
    in_flight_requests: Limit | None = Field(
        default=None, description="Requests that the service works on; default: any."
    )
    sole_instance: bool | None = Field(
        default=None, description="Whether the only ready instance may be interrupted; default: true."
    )
    unreplicated_bytes: Limit | None = Field(
        default=None, description="Bytes of the replication stream that no replica has received; default: 0."
    )
    evicted_bytes: Limit | None = Field(
        default=None, description="Bytes of keys that must be evicted at once; default: 0."
    )
    deleted_bytes: Limit | None = Field(
        default=None, description="Bytes of files that are deleted permanently; default: any."
    )
    rolled_back_transactions: Limit | None = Field(
        default=None,
        description="Transactions of a database that have changed something and are rolled back; default: 0.",
    )
    changed_rows: Limit | None = Field(
        default=None, description="Rows of a database that are changed or deleted permanently; default: 0."
    )

    def limits(self) -> dict[str, Amount | None]:
        """Return the written limits, durations in seconds; None for ``any``."""
        written = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: _limit(value) for name, value in written if value is not None}


def _limit(value: Amount | timedelta | str) -> Amount | None:
    if isinstance(value, str) or value is True:
        return None
    return value.total_seconds() if isinstance(value, timedelta) else value


DEFAULT: Mapping[str, Amount] = {
    "unsaved_writes": 0,
    "cannot_save": False,
    "refuses": False,
    "unreplicated_bytes": 0,
    "evicted_bytes": 0,
    "rolled_back_transactions": 0,
    "changed_rows": 0,
}
"""The tolerance if neither the inventory nor the playbook sets one.

It allows no loss of data, and no restart against a cause that a restart does not fix.
"""


def resolve_tolerance(*written: Tolerance) -> dict[str, Amount]:
    """Return the limits that apply. A later tolerance replaces single fields of an earlier one."""
    limits: dict[str, Amount | None] = dict(DEFAULT)
    for tolerance in written:
        limits |= tolerance.limits()
    return {name: limit for name, limit in limits.items() if limit is not None}
