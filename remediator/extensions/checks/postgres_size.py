"""``postgres.size``: Check the size of a PostgreSQL database, of all databases, or of the WAL.

For growth over time, use ``promql`` with the metrics of postgres_exporter.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from remediator.core.sizes import format_size
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PostgresSizeParameters(Parameters):
    """Parameters of ``postgres.size``."""

    database: str | None = Field(default=None, min_length=1, description="Database; default: all together.")
    max_bytes: int | None = Field(default=None, ge=1, description="A greater size of the database, in bytes, fails.")
    max_wal_bytes: int | None = Field(default=None, ge=1, description="A greater size of the WAL, in bytes, fails.")

    @model_validator(mode="after")
    def _some_limit(self) -> PostgresSizeParameters:
        if self.max_bytes is None and self.max_wal_bytes is None:
            raise ValueError("set max_bytes or max_wal_bytes; without a limit, every size would be ok")
        return self


class PostgresSize(Check):
    """Measure the size of databases and WAL."""

    name = "postgres.size"
    needs = ("postgres",)
    Parameters = PostgresSizeParameters
    facts = (
        Fact("bytes", "integer", "Size of the database, or of all databases.", unit="bytes"),
        Fact("wal_bytes", "integer", "Size of the WAL files.", unit="bytes"),
        Fact("biggest", "string", "Name of the biggest database."),
    )

    async def observe(self, service: Service, parameters: PostgresSizeParameters) -> Evidence:
        found = await bindings.postgres(service).sizes()
        chosen = [each for each in found.databases if parameters.database in (None, each.name)]
        if not chosen:
            return Evidence(CheckAnswer.UNKNOWN, f"there is no database {parameters.database!r}")
        size, wal = sum(each.size for each in chosen), found.wal
        is_big = parameters.max_bytes is not None and size > parameters.max_bytes
        has_much_wal = parameters.max_wal_bytes is not None and wal > parameters.max_wal_bytes
        facts = {"bytes": size, "wal_bytes": wal, "biggest": chosen[0].name}
        summary = f"{parameters.database or 'all databases'}: {format_size(size)}, WAL {format_size(wal)}"
        return Evidence(CheckAnswer.FAIL if is_big or has_much_wal else CheckAnswer.OK, summary, facts)

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=False)
