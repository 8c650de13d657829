"""``postgres.execute``: Run an UPDATE or DELETE that the inventory allows by name, with a limit of rows.

The plan shows the statement, its values, the number of rows that match now, and the limit of rows. The statement runs
in one transaction. The transaction is rolled back if the statement, its triggers and its foreign keys change more rows
than allowed. The same transaction writes a row with a unique marker into the table ``remediator.applied_calls``. After
a broken connection, this row shows the outcome, and the server refuses a second identical call.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pydantic import Field

from remediator.clients.postgres.settings import Statement
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.postgres_statements import NAME, allowed
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_ENDING = 5.0
_POLL = 0.2


class ExecuteParameters(Parameters):
    """Parameters of ``postgres.execute``. The inventory defines the statement and the rules of its values."""

    statement: str = Field(
        pattern=NAME,
        description="Name of the statement under postgres.statements in the inventory.",
    )
    values: dict[str, str | int | bool] = Field(
        default={}, description="Values of the statement; each must match the rule in the inventory."
    )


class PostgresExecute(Action):
    """Run a statement that the inventory allows, with a limit of rows."""

    name = "postgres.execute"
    needs = ("postgres",)
    Parameters = ExecuteParameters
    destructive = True
    measures = ("changed_rows",)
    timeout = timedelta(seconds=60)
    facts = (
        Fact("statement", "string", "Name of the statement."),
        Fact("rows", "integer", "Changed rows, without the rows that triggers and foreign keys changed."),
    )

    async def plan(self, service: Service, parameters: ExecuteParameters) -> PlannedCall:
        postgres, statement = allowed(service, parameters.statement, parameters.values)
        identity = await postgres.identity()
        table = await postgres.table_id(statement, parameters.values)
        rows = await postgres.count(statement, parameters.values)
        given = ", ".join(f"{name}={value!r}" for name, value in parameters.values.items())
        text = " ".join(statement.text.split())
        call = PlannedCall(
            text=f"{service.name}: {text}"
            + (f" with {given}" if given else "")
            + f"; at most {statement.max_rows} rows",
            arguments={**_arguments(statement, parameters), "marker": secrets.token_hex(16)},
            pin={"server": identity, "table": table},
            risk=statement.risk or "Committed changes cannot be undone.",
            volatile_fields=("marker",),
            measurement=f"{rows} rows match now",
        )
        if rows > statement.max_rows:
            why = f"more than {statement.max_rows} rows match {parameters.statement!r}, which is the limit"
            return msgspec.structs.replace(call, infeasible_reason=why)
        return (
            call if rows else msgspec.structs.replace(call, infeasible_reason="no row matches; nothing is to be done")
        )

    async def cost(self, service: Service, parameters: ExecuteParameters, call: PlannedCall) -> Cost:
        postgres, statement = allowed(service, parameters.statement, parameters.values)
        rows = await postgres.count(statement, parameters.values)
        return Cost(changed_rows=rows)

    async def execute(self, service: Service, parameters: ExecuteParameters, call: PlannedCall) -> Result:
        postgres, statement = allowed(service, parameters.statement, parameters.values)
        planned = {name: value for name, value in call.arguments.items() if name != "marker"}
        if _arguments(statement, parameters) != planned:
            raise TargetError(
                f"{parameters.statement!r} was changed in the inventory after planning; nothing was changed"
            )
        rows = await postgres.apply(
            statement,
            parameters.values,
            name=parameters.statement,
            marker=str(call.arguments["marker"]),
            table=int(call.pin["table"]),
            expected=str(call.pin["server"]),
        )
        outcome = Outcome.OK if rows else Outcome.FAILED
        return Result(outcome, f"{rows} rows changed", {"statement": parameters.statement, "rows": rows})

    async def observe(
        self, service: Service, parameters: ExecuteParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Look for the session of the call, then for the row of its marker. An open session may still commit."""
        postgres, marker = bindings.postgres(service), str(call.arguments["marker"])
        deadline = time.monotonic() + _ENDING
        is_open, rows = await postgres.applied(marker)
        while is_open and rows is None and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
            is_open, rows = await postgres.applied(marker)
        facts = {"marker": marker, "rows": rows}
        if rows is not None:
            return Observation(EffectStatus.YES, f"the transaction was committed: {rows} rows changed", facts)
        if is_open:
            return Observation(EffectStatus.UNKNOWN, "the session of the call is still open and may commit", facts)
        return Observation(EffectStatus.NO, "the transaction was not committed, and its session has ended", facts)

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_statements()


def _arguments(statement: Statement, parameters: ExecuteParameters) -> Mapping[str, Any]:
    return {"sql": statement.text, "values": dict(parameters.values), "max_rows": statement.max_rows}
