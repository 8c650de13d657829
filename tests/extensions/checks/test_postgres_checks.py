"""The ``postgres.*`` checks and ``postgres.diagnose`` on a real primary with a real standby, with real faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from remediator.core.outcome import Outcome
from remediator.errors import TimedOut
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.actions.postgres_diagnose import PostgresDiagnose
from remediator.extensions.actions.postgres_execute import PostgresExecute
from remediator.extensions.checks.base import CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.runtime.preflight import Capabilities, RightsProblem, find_missing_rights
from remediator.storage.url import open_engine, parse_postgresql_url
from tests.support.action_runner import do, observe, plan, service
from tests.support.servers import free_port, until
from tests.support.servers.pgbouncer import PgBouncer
from tests.support.servers.postgres import Postgres, _folder
from tests.support.servers.postgres_target import Target, make_target, pid, remove, rights, start_standby

CHECKS = Registry().make_checks(ClientSet())
SIZES = {"max_bytes": 10**12}


async def check(name: str, target: Service, **given: Any) -> Evidence:
    """Run a check."""
    made = CHECKS[name]
    return await made.ask(target, made.Parameters.model_validate(given))


async def diagnose(target: Service, **given: Any) -> Any:
    """Run postgres.diagnose."""
    return await do(PostgresDiagnose(ClientSet()), target, **given)


async def test_a_healthy_server(pg_target: Target) -> None:
    """Every check is ok, and the diagnosis finds no problem."""
    target = pg_target.service()
    for name, given in (("ping", {}), ("connections", {}), ("locks", {}), ("idle_transactions", {}), ("size", SIZES)):
        found = await check(f"postgres.{name}", target, **given)
        assert found.answer is CheckAnswer.OK, found
    assert (await check("postgres.ping", target, role="standby")).answer is CheckAnswer.FAIL
    assert (await check("postgres.replication", target)).answer is CheckAnswer.OK
    assert (await check("postgres.replication", target, standbys=1)).answer is CheckAnswer.FAIL
    assert (await check("postgres.size", target, max_bytes=1000)).answer is CheckAnswer.FAIL
    assert (await check("postgres.size", target, max_wal_bytes=1000)).answer is CheckAnswer.FAIL
    assert (await check("postgres.size", target, database="none", **SIZES)).answer is CheckAnswer.UNKNOWN
    result = await diagnose(target, parts=["connections", "locks", "transactions", "replication", "size"])
    assert (result.outcome, result.output["problems"]) == (Outcome.OK, [])


@pytest.mark.parametrize("name", ["connections", "locks", "idle_transactions", "replication", "size"])
async def test_without_pg_monitor_the_answer_is_unknown(name: str, bare_target: Target) -> None:
    """Hidden sessions do not count as 0: the answer is unknown, and the message has the missing grant."""
    found = await check(f"postgres.{name}", bare_target.service(), **(SIZES if name == "size" else {}))
    assert found.answer is CheckAnswer.UNKNOWN
    assert 'GRANT pg_monitor TO "remediator"' in found.summary
    assert await CHECKS[f"postgres.{name}"].missing_rights(bare_target.service()) == (
        'GRANT pg_monitor TO "remediator"',
    )
    parts = await diagnose(bare_target.service())
    assert "GRANT pg_monitor" in parts.output["connections"]["error"]


async def test_rows_that_match_a_statement(bare_target: Target) -> None:
    """The check needs only SELECT, and stops counting at the limit of the statement."""
    target, given = bare_target.service(), {"statement": "release-jobs", "values": {"queue": "mail"}}
    assert (await check("postgres.rows", target, **given)).answer is CheckAnswer.UNKNOWN
    made = CHECKS["postgres.rows"]
    needed = await made.missing_rights(target)
    assert 'GRANT SELECT ON "shop"."jobs" TO "remediator"' in needed
    bare_target.grant(*needed)
    assert await made.missing_rights(target) == ()
    assert (await check("postgres.rows", target, **given)).answer is CheckAnswer.OK
    bare_target.sql("INSERT INTO jobs SELECT g, 'mail', 'running', '', '2020-01-01' FROM generate_series(1, 9) AS g")
    found = await check("postgres.rows", target, **given)
    assert (found.answer, found.summary) == (CheckAnswer.FAIL, "more than 5 rows match 'release-jobs'")
    assert (await check("postgres.rows", target, **given, maximum=7)).answer is CheckAnswer.UNKNOWN
    assert (await check("postgres.rows", target, statement="none")).answer is CheckAnswer.UNKNOWN


async def test_missing_rights_are_reported_as_the_sql_that_grants_them(bare_target: Target) -> None:
    """Missing rights of checks and actions are reported before an incident; without a missing right, nothing is
    reported."""
    target = bare_target.service()
    supervised = {"platform": PLATFORM, "postgres": target.postgres}
    services = {"postgresql": supervised, "other": {"platform": PLATFORM}}
    inventory = Inventory.model_validate({"apiVersion": "remediator/v1", "kind": "Inventory", "services": services})
    playbook = Playbook.model_validate(
        {
            "apiVersion": "remediator/v1",
            "kind": "Playbook",
            "name": "postgresql-blocked",
            "match": {"alertname": "Blocked"},
            "target": "postgresql",
            "diagnose": [{"id": "locks", "check": "postgres.locks"}],
            "steps": [{"id": "end", "action": "postgres.terminate_backends", "with": {"idle_over": "1m"}}],
        }
    )
    registry, clients = Registry(), ClientSet()
    capabilities = Capabilities(
        registry.make_platforms(), registry.make_actions(clients), registry.make_checks(clients)
    )
    found = await find_missing_rights((playbook,), inventory, capabilities)
    statistics, signals = 'GRANT pg_monitor TO "remediator"', 'GRANT pg_signal_backend TO "remediator"'
    assert found == [
        RightsProblem("postgresql", "postgres.terminate_backends", f"missing: {statistics}; {signals}"),
        RightsProblem("postgresql", "postgres.locks", f"missing: {statistics}"),
    ]
    bare_target.grant(statistics, signals)
    assert await find_missing_rights((playbook,), inventory, capabilities) == []


def test_sessions_of_the_store_are_known(postgres: Postgres, postgres_url: str) -> None:
    """The application name of the store protects its sessions if the store uses the same server as the playbooks."""
    with open_engine(parse_postgresql_url(postgres_url)).connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar_one() == "remediator"


async def test_exhausted_connections_name_the_clients_that_hold_them(pg_target: Target) -> None:
    """All connections of a database are in use: the diagnosis names the clients that hold them.

    The check connects to another database.
    """
    name = pg_target.database
    pg_target.sql(f"ALTER DATABASE {name} CONNECTION LIMIT 4")
    for _ in range(4):
        pg_target.open("leaky")
    with pytest.raises(psycopg.OperationalError, match="too many connections for database"):
        pg_target.open("calm")
    target = pg_target.service(database="postgres")
    found = await check("postgres.connections", target)
    assert (found.answer, found.facts["limit"], found.facts["percent"]) == (CheckAnswer.FAIL, f"database {name}", 100)
    assert found.facts["by_application"][0]["application"] == "leaky"
    facts = (await diagnose(target)).output["connections"]
    assert (facts["full"], facts["top_application"]) == (True, "leaky")
    # a connection to the same database would be rejected too
    found = await check("postgres.connections", pg_target.service())
    assert (found.answer, found.facts["rejected"]) == (CheckAnswer.FAIL, True)
    assert (await check("postgres.locks", pg_target.service())).answer is CheckAnswer.UNKNOWN


@pytest.fixture
def blocked(pg_target: Target) -> Iterator[Target]:
    """Open a session that is idle in a transaction, and one that waits for its lock."""
    pg_target.sql("INSERT INTO jobs VALUES (1, 'mail', 'running', 'w', now(), 'x')")
    root = pg_target.open("reports")
    root.execute("BEGIN; UPDATE jobs SET secret = 'pa$$word' WHERE id = 1")
    waiter = pg_target.open("shop")

    def wait() -> None:
        with suppress(psycopg.Error):
            waiter.execute("UPDATE jobs SET secret = 'y' WHERE id = 1")

    thread = threading.Thread(target=wait)
    thread.start()
    waits = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0) FROM pg_locks WHERE NOT granted"
    until(lambda: float(pg_target.server.sql(waits)) > 0.1, "the session waits")
    yield pg_target
    root.close()
    thread.join(10)


async def test_a_session_that_blocks_others_is_the_root(blocked: Target) -> None:
    """The blocking session is named with its state; the values of its query are not shown."""
    target = blocked.service()
    root = blocked.sessions[0]
    found = await check("postgres.locks", target, waiting_over="50ms")
    assert (found.answer, found.facts["root"]) == (CheckAnswer.FAIL, pid(root))
    assert found.facts["root_state"] == "idle in transaction"
    assert (await check("postgres.locks", target)).answer is CheckAnswer.OK
    found = await check("postgres.idle_transactions", target, idle_over="50ms")
    assert (found.answer, found.facts["sessions"]) == (CheckAnswer.FAIL, 1)
    result = await diagnose(target, waiting_over="50ms", idle_over="50ms")
    locks = result.output["locks"]
    assert (locks["root_state"], locks["root_blocks"], locks["root_protected"]) == ("idle in transaction", 1, "")
    assert locks["roots"][0]["query"] == "BEGIN; UPDATE jobs SET secret = ? WHERE id = ?"
    assert "pa$$word" not in repr(result)


async def test_a_prepared_transaction_that_blocks_is_named(pg_target: Target) -> None:
    """A prepared transaction has no session, so no action can end it."""
    server = Postgres(_folder())
    server.settings = {"max_prepared_transactions": "2"}
    server.start()
    try:
        target = make_target(server)
        target.grant(*rights(target.service()))
        target.sql("INSERT INTO jobs (id) VALUES (1)")
        target.sql("BEGIN; UPDATE jobs SET state = 'x'; PREPARE TRANSACTION 'forgotten'")
        waiter = target.open()
        thread = threading.Thread(target=lambda: _quietly(waiter, "UPDATE jobs SET state = 'y'"))
        thread.start()
        until(lambda: server.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1", "it waits")
        facts = (await diagnose(target.service(), waiting_over="1ms")).output
        assert facts["locks"]["root_state"] == "prepared transaction"
        assert facts["transactions"]["prepared"] == 1
        target.sql("ROLLBACK PREPARED 'forgotten'")
        thread.join(10)
        target.close()
    finally:
        remove(server)


def _quietly(session: Any, statement: str) -> None:
    with suppress(psycopg.Error):
        session.execute(statement)


@pytest.fixture
def pair() -> Iterator[tuple[Target, Postgres]]:
    """Return a primary with a database, and its standby."""
    primary = Postgres(_folder())
    primary.start()
    standby = None
    try:
        target = make_target(primary)
        target.grant(*rights(target.service()))
        standby = start_standby(primary)
        yield target, standby
        target.close()
    finally:
        for server in filter(None, (standby, primary)):
            remove(server)


@pytest.mark.process
async def test_replication_of_a_real_standby(pair: tuple[Target, Postgres]) -> None:
    """The facts show a paused replay, a missing standby whose slot retains WAL, and a commit that waits for the
    standby."""
    target, standby = pair
    primary, replica = target.service(), target.service(port=standby.port)
    found = await check("postgres.replication", primary, standbys=1)
    assert (found.answer, found.facts["streaming"]) == (CheckAnswer.OK, 1)
    found = await check("postgres.replication", replica)
    assert (found.answer, found.facts["role"]) == (CheckAnswer.OK, "standby")
    assert (await check("postgres.ping", replica, role="standby")).answer is CheckAnswer.OK

    standby.sql("SELECT pg_wal_replay_pause()")
    until(lambda: standby.sql("SELECT pg_get_wal_replay_pause_state()") == "paused", "the replay is paused")
    target.sql("INSERT INTO jobs (id) SELECT generate_series(1, 1000)")
    until(lambda: lag(standby) > 10_000, "the standby has received it")
    found = await check("postgres.replication", replica)
    assert (found.answer, found.facts["paused"]) == (CheckAnswer.FAIL, True)
    result = await diagnose(replica, parts=["replication"])
    assert result.output["replication"]["receiving"] is True
    assert "the replay of this standby is paused" in result.output["problems"]
    found = await check("postgres.replication", primary, max_bytes=10_000)
    assert (found.answer, found.facts["lag_bytes"] > 10_000) == (CheckAnswer.FAIL, True)

    standby.kill()
    until(lambda: target.server.sql("SELECT count(*) FROM pg_stat_replication") == "0", "the standby is gone")
    found = await check("postgres.replication", primary, standbys=1)
    assert (found.answer, found.facts["streaming"]) == (CheckAnswer.FAIL, 0)
    target.sql("INSERT INTO jobs (id) SELECT generate_series(2001, 3000)")
    result = await diagnose(primary, parts=["replication"], kept_over=10_000)
    assert "a replication slot without a reader keeps" in result.output["problems"][0]

    # COMMIT waits for the missing standby: it is neither done nor undone, and its session still exists
    target.sql("INSERT INTO jobs VALUES (0, 'mail', 'running', 'w', now() - interval '2h')")
    action, given = PostgresExecute(ClientSet()), {"statement": "release-jobs", "values": {"queue": "mail"}}
    call = await plan(action, primary, **given)
    target.server.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
    target.server.sql("SELECT pg_reload_conf()")
    until(lambda: target.server.sql("SHOW synchronous_standby_names") == "standby", "commits wait")
    with pytest.raises(TimedOut, match="did not answer COMMIT"):
        await do(action, target.service(timeout="1s"), call=call, **given)
    assert (await observe(action, primary, call, **given)).happened is EffectStatus.UNKNOWN
    standby.start()
    until(lambda: target.sql("SELECT count(*) FROM remediator.applied_calls") == "1", "the standby confirmed it")
    assert (await observe(action, primary, call, **given)).happened is EffectStatus.YES
    # the standby may not have the change yet, so only its role is checked
    found = await check("postgres.ping", replica, role="standby")
    assert found.answer is CheckAnswer.OK, found


def lag(standby: Postgres) -> int:
    """Return the bytes that a standby has received but not replayed."""
    return int(standby.sql("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint"))


async def test_states_of_a_server(pg_target: Target, tmp_path: Any) -> None:
    """Each state has a name that playbooks can compare; an error of remediator is unknown, never fail."""
    port, database = pg_target.server.port, pg_target.database
    (tmp_path / "password").write_text("secret\n")
    states = {
        "down": {"port": free_port()},
        "no such database": {"port": port, "database": "gone"},
        "no permission": {"port": port, "username": "stranger"},
        "not trusted": {"port": port, "tls": {}},
        "out of reach": {"port": port, "host": "no-such-host.invalid"},
    }
    for state, endpoint in states.items():
        found = await check("postgres.ping", service("postgresql", postgres=endpoint))
        assert (found.answer, found.facts["state"]) == (CheckAnswer.FAIL, state), found
    for mine in ({"password_file": str(tmp_path / "gone")}, {"tls": {"ca_file": str(tmp_path / "gone.pem")}}):
        found = await check("postgres.ping", service("postgresql", postgres={"port": port, **mine}))
        assert (found.answer, found.facts["state"]) == (CheckAnswer.UNKNOWN, "not asked"), found
    inventory = Inventory.model_validate(
        {
            "apiVersion": "remediator/v1",
            "kind": "Inventory",
            "services": {
                "db": {"platform": PLATFORM, "postgres": {"port": port, "database": database}},
                "shop": {"platform": PLATFORM, "depends_on": ["db"]},
            },
        }
    )
    dependencies = Registry().make_checks(ClientSet(inventory=lambda: inventory))["dependencies.ok"]
    found = await dependencies.ask(inventory.service("shop"), dependencies.Parameters())
    assert (found.answer, found.facts["db"]["state"]) == (CheckAnswer.OK, "serving")
    assert (await check("tcp.connect", pg_target.service(), endpoint="postgres")).answer is CheckAnswer.OK


PLATFORM = {"kind": "systemd", "unit": "postgresql.service"}


async def test_a_missing_driver_is_unknown(pg_target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional; the message says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    found = await check("postgres.ping", pg_target.service())
    assert (found.answer, found.facts["state"]) == (CheckAnswer.UNKNOWN, "not asked")
    assert "pip install 'remediator[postgres]'" in found.summary


async def test_a_pooler_is_refused(pg_target: Target, tmp_path: Any) -> None:
    """Behind a pooler, a session cannot be identified, so no pin is possible."""
    bouncer = PgBouncer(tmp_path, pg_target.server, "transaction")
    bouncer.start()
    try:
        found = await check("postgres.ping", pg_target.service(port=bouncer.port, username="postgres"))
    finally:
        bouncer.stop()
    assert (found.answer, found.facts["state"]) == (CheckAnswer.FAIL, "behind a pooler"), found
