"""``postgres.replication``: Check the lag of standbys, on the primary or on a standby itself.

On the primary, every connected standby counts. The primary does not know a disconnected standby, so set ``standbys``.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from remediator.core.sizes import format_size
from remediator.core.types import PositiveDuration
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PostgresReplicationParameters(Parameters):
    """Parameters of ``postgres.replication``."""

    max_lag: PositiveDuration = Field(default=timedelta(minutes=1), description="A longer lag fails.")
    max_bytes: int | None = Field(default=None, ge=1, description="A greater lag in bytes of WAL fails.")
    standbys: int = Field(
        default=0,
        ge=0,
        description="Minimum number of standbys that stream from a primary; with fewer standbys, the check fails.",
    )


class PostgresReplication(Check):
    """Measure the replication lag. A standby that receives no data, or whose replay is paused, fails."""

    name = "postgres.replication"
    needs = ("postgres",)
    Parameters = PostgresReplicationParameters
    facts = (
        Fact("role", "string", "Role of this server.", values=("primary", "standby")),
        Fact("lag_seconds", "number", "Longest lag.", unit="s"),
        Fact("lag_bytes", "integer", "Greatest lag.", unit="bytes"),
        Fact(
            "streaming", "integer", "On a primary: standbys that stream; on a standby: 1 if it receives, otherwise 0."
        ),
        Fact("paused", "boolean", "On a standby: whether the replay is paused; null on a primary."),
    )

    async def observe(self, service: Service, parameters: PostgresReplicationParameters) -> Evidence:
        found = await bindings.postgres(service).replication()
        followers = found.standbys if found.replay is None else (found.replay,)
        seconds = max((each.lag_seconds for each in followers if each.lag_seconds is not None), default=0.0)
        size = max((each.lag_bytes for each in followers if each.lag_bytes is not None), default=0)
        replay = found.replay
        streaming = (
            sum(each.state == "streaming" for each in found.standbys) if replay is None else int(replay.receiving)
        )
        facts = {
            "role": "primary" if replay is None else "standby",
            "lag_seconds": round(seconds, 1),
            "lag_bytes": size,
            "streaming": streaming,
            "paused": None if replay is None else replay.paused,
        }
        wrong = []
        wrong += [f"{streaming} standbys stream"] if replay is None and streaming < parameters.standbys else []
        wrong += ["it receives nothing"] if replay is not None and not replay.receiving else []
        wrong += ["its replay is paused"] if replay is not None and replay.paused else []
        wrong += [f"lag {seconds:.0f} s"] if seconds > parameters.max_lag.total_seconds() else []
        wrong += (
            [f"lag {format_size(size)}"] if parameters.max_bytes is not None and size > parameters.max_bytes else []
        )
        summary = f"{facts['role']}: " + ("; ".join(wrong) or f"{streaming} streaming, lag {seconds:.0f} s")
        return Evidence(CheckAnswer.FAIL if wrong else CheckAnswer.OK, summary, facts)

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        return await bindings.postgres(service).missing_for_sessions(signals=False)
