"""``redis.write_test``: Check that Redis can write, read and delete a value, not only answer."""

from __future__ import annotations

import secrets

from remediator.clients.redis.connection import RedisState
from remediator.errors import ClientError
from remediator.extensions import bindings
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RedisWriteTest(Check):
    """Write, read and delete a test key with a short expiry."""

    name = "redis.write_test"
    needs = ("redis",)
    facts = (
        Fact(
            "state",
            "string",
            "Why the test failed; absent if it succeeded or the reason is unknown.",
            values=tuple(RedisState),
        ),
    )

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        try:
            await bindings.redis(service).write_test(secrets.token_hex(8))
        except ClientError as error:
            state = getattr(error, "state", None)
            facts = {} if state is None else {"state": state.value}
            if state is RedisState.UNASKED:  # our own files cannot be read: this says nothing about Redis
                return Evidence(CheckAnswer.UNKNOWN, f"Redis: {error}", facts)
            return Evidence(CheckAnswer.FAIL, f"Redis does not accept writes: {error}", facts)
        return Evidence(CheckAnswer.OK, "Redis: a value was written, read back and deleted")
