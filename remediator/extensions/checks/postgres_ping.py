"""``postgres.ping``: Check that PostgreSQL accepts connections and answers, and whether it is primary or standby."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remediator.clients.postgres.connection import PostgresState
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PostgresPingParameters(Parameters):
    """Parameters of ``postgres.ping``."""

    role: Literal["any", "primary", "standby"] = Field(
        default="any", description="The role that the server must have; the check fails for another role."
    )


class PostgresPing(Check):
    """Connect to PostgreSQL and run one query."""

    name = "postgres.ping"
    needs = ("postgres",)
    Parameters = PostgresPingParameters
    facts = (
        Fact("state", "string", "State of the server.", values=tuple(PostgresState)),
        Fact("version", "string", "Version of the server; empty if unknown."),
        Fact("role", "string", "Replication role; empty if unknown.", values=("", "primary", "standby")),
    )

    async def observe(self, service: Service, parameters: PostgresPingParameters) -> Evidence:
        health = await bindings.postgres(service).health()
        serves = health.state is PostgresState.SERVING
        facts = {"state": health.state.value, "version": health.version, "role": health.role}
        detail = f"{health.role}, version {health.version}" if serves else health.detail
        summary = f"PostgreSQL: {health.state.value} ({detail})"
        if health.state is PostgresState.UNASKED:  # our own files cannot be read: this says nothing about PostgreSQL
            return Evidence(CheckAnswer.UNKNOWN, summary, facts)
        well = serves and parameters.role in ("any", health.role)
        return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, summary, facts)
