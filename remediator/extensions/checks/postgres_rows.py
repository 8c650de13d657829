"""``postgres.rows``: Check that at most a given number of rows match the condition of a statement in the inventory.

The check proves the effect of ``postgres.execute``: afterwards, no row matches. The check changes nothing.
"""

from __future__ import annotations

from pydantic import Field

from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.extensions.postgres_statements import NAME, allowed
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PostgresRowsParameters(Parameters):
    """Parameters of ``postgres.rows``. The inventory defines the statement and the rules of its values."""

    statement: str = Field(
        pattern=NAME, description="Name of the statement under postgres.statements in the inventory."
    )
    values: dict[str, str | int | bool] = Field(
        default={}, description="Values of the statement; each must match the rule in the inventory."
    )
    maximum: int = Field(default=0, ge=0, description="More rows fail.")


class PostgresRows(Check):
    """Count the rows that a statement would change."""

    name = "postgres.rows"
    needs = ("postgres",)
    Parameters = PostgresRowsParameters
    facts = (Fact("rows", "integer", "Rows that match, counted up to one more than the limit of the statement."),)

    async def observe(self, service: Service, parameters: PostgresRowsParameters) -> Evidence:
        postgres, statement = allowed(service, parameters.statement, parameters.values)
        rows = await postgres.count(statement, parameters.values)
        if rows > statement.max_rows and parameters.maximum >= statement.max_rows:
            why = f"more than {statement.max_rows} rows match, which is the limit of the count"
            return Evidence(CheckAnswer.UNKNOWN, why, {"rows": rows})
        answer = CheckAnswer.OK if rows <= parameters.maximum else CheckAnswer.FAIL
        more = "more than " if rows > statement.max_rows else ""
        shown = statement.max_rows if more else rows
        return Evidence(answer, f"{more}{shown} rows match {parameters.statement!r}", {"rows": rows})

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_counts()
