"""``redis.ping``: Check that Redis answers and has finished loading."""

from __future__ import annotations

from remediator.clients.redis.connection import RedisState
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RedisPing(Check):
    """Send PING to Redis, and check that it has finished loading."""

    name = "redis.ping"
    needs = ("redis",)
    facts = (
        Fact("state", "string", "State of the server.", values=tuple(RedisState)),
        Fact("version", "string", "Version of the server; empty if unknown."),
        Fact("role", "string", "Replication role; empty if unknown.", values=("", "master", "replica")),
        Fact(
            "address",
            "string",
            "Address that answered: with Sentinels, the current master; empty if no address answered.",
        ),
        Fact("loaded_percent", "number", "Loaded part of the data set; null unless it loads.", unit="%"),
        Fact("loading_eta", "number", "Time until it has loaded, by Redis; null unless it loads.", unit="s"),
    )

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        health = await bindings.redis(service).health()
        facts = {
            "state": health.state.value,
            "version": health.version,
            "role": health.role,
            "address": health.address,
            "loaded_percent": health.loaded_percent,
            "loading_eta": None if health.loading_eta is None else health.loading_eta.total_seconds(),
        }
        summary = f"Redis: {health.state.value}" + ("" if health.ok else f" ({health.detail})")
        if health.state is RedisState.UNASKED:  # our own files cannot be read: this says nothing about Redis
            return Evidence(CheckAnswer.UNKNOWN, summary, facts)
        return Evidence(CheckAnswer.OK if health.ok else CheckAnswer.FAIL, summary, facts)
