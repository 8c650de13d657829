"""If a file of remediator is unreadable, the state of Redis is unknown, never failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory, Service
from tests.support.action_runner import service
from tests.support.servers.redis import MakeRedis, Redis

CHECKS = Registry().make_checks(ClientSet())


def broken(case: str, folder: Path, port: int) -> dict[str, Any]:
    """Return a Redis entry that refers to unreadable files."""
    where: dict[str, Any] = {"host": "127.0.0.1", "port": port}
    invalid = folder / "invalid.pem"
    invalid.write_text("not a certificate\n")
    sentinel = {"master": "main", "sentinels": [{"host": "127.0.0.1", "port": port}]}
    return {
        "password file missing": {**where, "password_file": str(folder / "gone")},
        "password file is a folder": {**where, "password_file": str(folder)},
        "password file empty": {**where, "password_file": "/dev/null"},
        "CA file missing": {**where, "tls": {"ca_file": str(folder / "gone.pem")}},
        "CA file invalid": {**where, "tls": {"ca_file": str(invalid)}},
        "client certificate invalid": {**where, "tls": {"cert_file": str(invalid), "key_file": str(invalid)}},
        "password file of the Sentinels missing": {"sentinel": {**sentinel, "password_file": str(folder / "gone")}},
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        "password file missing",
        "password file is a folder",
        "password file empty",
        "CA file missing",
        "CA file invalid",
        "client certificate invalid",
        "password file of the Sentinels missing",
    ],
)
async def test_an_error_of_the_service_itself_is_unknown(case: str, redis_server: Redis, tmp_path: Path) -> None:
    """``redis.ping``, ``redis.write_test`` and ``redis.info`` answer unknown, and ``redis.ping`` names the state."""
    target = service("redis", redis=broken(case, tmp_path, redis_server.port))
    given = {"redis.ping": {}, "redis.write_test": {}, "redis.info": {"field": "role", "equals": "master"}}
    for name, parameters in given.items():
        check = CHECKS[name]
        found = await check.ask(target, check.Parameters.model_validate(parameters))
        assert found.answer is CheckAnswer.UNKNOWN, f"{name}: {found.summary}"
        if name == "redis.ping":
            assert found.facts["state"] == "not asked", found.summary


async def test_a_dependency_that_was_not_asked_is_unknown(redis_server: Redis, tmp_path: Path) -> None:
    """If the password file is missing, ``dependencies.ok`` does not report Redis as failed."""
    binding = {"kind": "supervisor", "url": "unix:///nowhere/s.sock", "program": "x"}
    where = broken("password file missing", tmp_path, redis_server.port)
    services = {"redis": {"platform": binding, "redis": where}, "app": {"platform": binding, "depends_on": ["redis"]}}
    inventory = Inventory.model_validate({"apiVersion": "remediator/v1", "kind": "Inventory", "services": services})
    check = Registry().make_checks(ClientSet(inventory=lambda: inventory))["dependencies.ok"]
    app: Service = inventory.service("app")

    assert (await check.ask(app, check.Parameters())).answer is CheckAnswer.UNKNOWN


async def test_a_rejected_password_still_fails(make_redis: MakeRedis, tmp_path: Path) -> None:
    """A server that rejects the password has answered, so the check fails and names the state."""
    (tmp_path / "password").write_text("wrong")
    server = make_redis(password="right")
    target = service(
        "redis", redis={"host": "127.0.0.1", "port": server.port, "password_file": str(tmp_path / "password")}
    )
    found = await CHECKS["redis.ping"].ask(target, CHECKS["redis.ping"].Parameters())

    assert (found.answer, found.facts["state"]) == (CheckAnswer.FAIL, "wrong password")
