"""``redis.write_test``: Check that Redis can write, read and delete a value, not only answer."""

from __future__ import annotations

import secrets

from remediator.clients.redis.client import Redis
from remediator.errors import ClientError
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class RedisWriteTest(Check):
    """Writes one short-lived key of our own."""

    name = "redis.write_test"

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        if service.redis is None:
            return Evidence(CheckAnswer.UNKNOWN, f"the inventory does not say where the Redis of {service.name} is")
        try:
            await Redis(service.redis).write_test(secrets.token_hex(8))
        except ClientError as error:
            return Evidence(CheckAnswer.FAIL, f"Redis does not take writes: {error}")
        return Evidence(CheckAnswer.OK, "Redis: a value was written, read back and deleted")
