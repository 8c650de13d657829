"""``postgres.connections``: Check that PostgreSQL accepts more connections, and report the holders of the connections.

The check compares with the limit of the server, without the reserved connections, and with the limits of databases and
roles.
"""

from __future__ import annotations

from pydantic import Field

from remediator.clients.postgres.connection import PostgresRefused, PostgresState
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.extensions.postgres_sessions import by_application
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_SHOWN = 3


class PostgresConnectionsParameters(Parameters):
    """Parameters of ``postgres.connections``."""

    max_percent: int = Field(default=90, ge=1, le=100, description="More connections, in percent of a limit, fail.")


class PostgresConnections(Check):
    """Compare the number of connections with every limit, and group the sessions by application."""

    name = "postgres.connections"
    needs = ("postgres",)
    Parameters = PostgresConnectionsParameters
    facts = (
        Fact("rejected", "boolean", "Whether PostgreSQL rejects our connection because too many are open."),
        Fact("limit", "string", "The limit that is used most: server, database NAME or role NAME."),
        Fact("used", "integer", "Connections that count for this limit."),
        Fact("most", "integer", "This limit, without the connections reserved for superusers."),
        Fact("percent", "number", "Used part of this limit.", unit="%"),
        Fact("by_application", "list", "Client sessions by application and role, most first."),
    )

    async def observe(self, service: Service, parameters: PostgresConnectionsParameters) -> Evidence:
        try:
            postgres = bindings.postgres(service)
            limit, sessions = (await postgres.limits())[0], await postgres.sessions()
        except PostgresRefused as error:
            full = error.state is PostgresState.TOO_MANY_CONNECTIONS
            answer = CheckAnswer.FAIL if full else CheckAnswer.UNKNOWN
            return Evidence(answer, f"cannot read the connections: {error}", {"rejected": full})
        groups = by_application(sessions)
        shown = ", ".join(f"{each['connections']} {each['application'] or each['user']}" for each in groups[:_SHOWN])
        facts = {
            "rejected": False,
            "limit": limit.name,
            "used": limit.used,
            "most": limit.most,
            "percent": limit.percent,
            "by_application": groups,
        }
        well = limit.percent <= parameters.max_percent
        summary = f"{limit.used} of {limit.most} connections of the {limit.name}: {shown or 'none of a client'}"
        return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, summary, facts)

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=False)
