"""``dependencies.ok``: Check that all dependencies of a service run and answer."""

from __future__ import annotations

import asyncio
import secrets

from remediator.clients.postgres.client import Postgres
from remediator.clients.postgres.connection import PostgresState
from remediator.clients.redis.client import Redis
from remediator.clients.redis.connection import RedisState
from remediator.errors import ClientError, RemediatorError
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import State
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_WORST = (CheckAnswer.FAIL, CheckAnswer.UNKNOWN, CheckAnswer.OK)


class DependenciesOk(Check):
    """Check all direct and indirect dependencies of a service, on their platform, in their Redis or PostgreSQL."""

    name = "dependencies.ok"
    facts = (
        Fact("*", "object", "Result for one dependency; the name is the name of the service."),
        Fact("*.status", "string", "Answer for this dependency.", values=tuple(CheckAnswer)),
        Fact("*.summary", "string", "Reason, for people."),
        Fact(
            "*.state",
            "string",
            "State of a dependency that is a Redis or PostgreSQL; null for other dependencies.",
            values=tuple(dict.fromkeys((*map(str, RedisState), *map(str, PostgresState)))),
        ),
    )

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        inventory = self.clients.inventory()
        needed = (
            [inventory.service(name) for name in inventory.dependencies(service.name)]
            if service.name in inventory
            else []
        )
        if not needed:
            return Evidence(CheckAnswer.OK, f"{service.name} has no dependencies in the inventory")
        results = await asyncio.gather(*(self._look(each) for each in needed))
        answer = min((found.answer for found in results), key=_WORST.index)
        facts = {
            each.name: {"status": found.answer.value, "summary": found.summary, "state": found.facts.get("state")}
            for each, found in zip(needed, results, strict=True)
        }
        summary = "; ".join(f"{each.name}: {found.summary}" for each, found in zip(needed, results, strict=True))
        return Evidence(answer, summary, facts)

    async def _look(self, service: Service) -> Evidence:
        if service.redis is not None:
            return await _redis(Redis(service.redis))
        if service.postgres is not None:
            health = await Postgres(service.postgres).health()
            facts = {"state": health.state.value}
            if health.state is PostgresState.UNASKED:  # our files cannot be read: this says nothing about PostgreSQL
                return Evidence(CheckAnswer.UNKNOWN, f"{health.state}: {health.detail}", facts)
            serves = health.state is PostgresState.SERVING
            return Evidence(CheckAnswer.OK if serves else CheckAnswer.FAIL, health.state.value, facts)
        try:
            status = await self.clients.platform_of(service).status(service)
        except (RemediatorError, KeyError) as error:
            return Evidence(CheckAnswer.UNKNOWN, f"no answer: {error}")
        if status.state is State.UNKNOWN:
            return Evidence(CheckAnswer.UNKNOWN, status.summary)
        return Evidence(CheckAnswer.OK if status.state is State.RUNNING else CheckAnswer.FAIL, status.summary)


async def _redis(redis: Redis) -> Evidence:
    """Check that Redis answers and accepts writes: a read-only replica or a full memory answers PING all the same."""
    health = await redis.health()
    state, detail = health.state, health.detail
    if health.ok:
        try:
            await redis.write_test(secrets.token_hex(8))
        except ClientError as error:
            state, detail = getattr(error, "state", RedisState.REFUSING), str(error)
    facts = {"state": state.value}
    if state is RedisState.UNASKED:  # our own files cannot be read: this says nothing about Redis
        return Evidence(CheckAnswer.UNKNOWN, f"{state}: {detail}", facts)
    return Evidence(CheckAnswer.OK if state is RedisState.SERVING else CheckAnswer.FAIL, state.value, facts)
