"""The ``postgres.*`` actions on a real PostgreSQL, with their effects and refusals seen in the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from remediator.clients.postgres.connection import PostgresTimedOut
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import BadAnswer, Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service
from tests.support.fake_servers import listener
from tests.support.servers import free_port, until
from tests.support.servers.postgres import MakePostgres
from tests.support.servers.postgres_target import ROLE, STATEMENTS, Target, make_target, pid, rights

ACTIONS: dict[str, Action] = Registry().make_actions(ClientSet())
TERMINATE, CANCEL, EXECUTE = (
    ACTIONS["postgres.terminate_backends"],
    ACTIONS["postgres.cancel_queries"],
    ACTIONS["postgres.execute"],
)
IDLE = {"idle_in_transaction_over": "50ms"}
RELEASE = {"statement": "release-jobs", "values": {"queue": "mail"}}
DELETE = {"statement": "delete-sessions", "values": {"shop": 1}}
GIVEN: dict[str, dict[str, Any]] = {
    "postgres.cancel_queries": {"running_over": "50ms"},
    "postgres.execute": RELEASE,
    "postgres.terminate_backends": IDLE,
}
each_action = pytest.mark.parametrize("name", sorted(GIVEN))


def hold(target: Target, statement: str = "UPDATE jobs SET secret = 'x' WHERE id = 1", **who: Any) -> Any:
    """Open a session that is idle in a transaction, wait until it exceeds the limit, and return it."""
    session = target.open(**who)
    session.execute("BEGIN")
    session.execute(statement)
    until(lambda: in_state(target, session) > 0.06, "idle for long enough")
    return session


def in_state(target: Target, session: Any) -> float:
    """Return the seconds since the session entered its state."""
    found = target.server.sql(
        f"SELECT extract(epoch FROM clock_timestamp() - state_change) FROM pg_stat_activity WHERE pid = {pid(session)}"
    )
    return float(found)


def jobs(target: Target, number: int) -> None:
    """Insert stuck jobs."""
    target.sql(
        "INSERT INTO jobs SELECT id, 'mail', 'running', 'w1', now() - interval '2 hours', 's3cret' "
        f"FROM generate_series(1, {number}) AS id"
    )


@pytest.fixture
def waiters(pg_target: Target) -> Iterator[list[threading.Thread]]:
    """Collect threads that wait for locks, and join them after the test."""
    started: list[threading.Thread] = []
    yield started
    for session in pg_target.sessions:
        with suppress(psycopg.Error):
            session.cancel()
    pg_target.close()
    for thread in started:
        thread.join(10)


def run_in_background(target: Target, started: list[threading.Thread], statement: str, **who: Any) -> Any:
    """Run a statement in a separate session without waiting for it."""
    session = target.open(**who)

    def run() -> None:
        with suppress(psycopg.Error):
            session.execute(statement)

    started.append(threading.Thread(target=run))
    started[-1].start()
    state = f"SELECT state FROM pg_stat_activity WHERE pid = {pid(session)}"
    until(lambda: target.server.sql(state) == "active", "the statement runs")
    return session


# --- sessions


async def test_a_session_idle_in_a_transaction_is_ended(pg_target: Target) -> None:
    """The changes of the session are rolled back. A session without a transaction and a protected session stay."""
    jobs(pg_target, 3)
    idle, calm = hold(pg_target), pg_target.open("calm")
    backup = hold(pg_target, "SELECT 1", application="pg_dump")
    root = hold(pg_target, "SELECT 1", user="postgres")
    ours = hold(pg_target, "SELECT 1", application="remediator")
    call = await plan(TERMINATE, pg_target.service(), **IDLE)
    assert f"for 1 sessions, at most 5: {pid(idle)} (shop, shop, 127.0.0.1)" in call.text
    cost = await TERMINATE.cost(pg_target.service(), TERMINATE.Parameters.model_validate(IDLE), call)
    assert (cost.clients, cost.rolled_back_transactions) == (1, 1)
    result = await do(TERMINATE, pg_target.service(), call=call, **IDLE)
    assert (result.outcome, result.output["ended"]) == (Outcome.OK, [pid(idle)])
    assert not pg_target.is_there(idle)
    assert all(pg_target.is_there(each) for each in (calm, backup, root, ours))
    assert pg_target.sql("SELECT count(*) FROM jobs WHERE secret = 'x'") == "0"
    assert (await observe(TERMINATE, pg_target.service(), call, **IDLE)).happened is EffectStatus.YES


async def test_a_session_that_ran_another_statement_is_not_ended(pg_target: Target) -> None:
    """If the session ran another statement after planning, it is not ended: the approval was for the earlier state."""
    jobs(pg_target, 1)
    idle = hold(pg_target)
    call = await plan(TERMINATE, pg_target.service(), **IDLE)
    idle.execute("SELECT 1")
    until(lambda: in_state(pg_target, idle) > 0.06, "idle again")
    result = await do(TERMINATE, pg_target.service(), call=call, **IDLE)
    assert (result.outcome, result.output["left"]) == (Outcome.FAILED, [pid(idle)])
    assert pg_target.is_there(idle)


async def test_another_session_with_the_same_process_id_is_not_terminated(pg_target: Target) -> None:
    """The start time is part of a session's identity, so a reused process ID is not mistaken for the session."""
    idle = hold(pg_target, "SELECT 1")
    call = await plan(TERMINATE, pg_target.service(), **IDLE)
    (pinned,) = call.arguments["sessions"]
    earlier = {**pinned, "began": "2020-01-01T00:00:00+00:00"}
    other = PlannedCall(call.text, {"sessions": [earlier]}, call.pin)
    assert (await do(TERMINATE, pg_target.service(), call=other, **IDLE)).outcome is Outcome.FAILED
    assert pg_target.is_there(idle)


async def test_never_more_than_the_limit(pg_target: Target) -> None:
    """The sessions that have been idle longest are ended first."""
    sessions = [hold(pg_target, "SELECT 1") for _ in range(3)]
    given = {**IDLE, "limit": 2}
    call = await plan(TERMINATE, pg_target.service(), **given)
    assert call.measurement == "3 sessions meet the conditions"
    await do(TERMINATE, pg_target.service(), call=call, **given)
    assert [pg_target.is_there(each) for each in sessions] == [False, False, True]


async def test_only_protected_sessions_are_named_and_left(pg_target: Target) -> None:
    """If all matching sessions are protected, the plan is infeasible and names them."""
    hold(pg_target, "SELECT 1", application="pg_dump")
    with pytest.raises(TargetError, match=r"all sessions .* are protected: .*protects the application pg_dump"):
        await plan(TERMINATE, pg_target.service(), **IDLE)
    protected = pg_target.service(protected={"users": ["shop"], "applications": []})
    with pytest.raises(TargetError, match="protects the role shop"):
        await plan(TERMINATE, protected, **IDLE)


async def test_idle_sessions_of_one_application_are_ended(pg_target: Target) -> None:
    """In a connection leak, only idle sessions of the application are ended."""
    leaked = [pg_target.open("leaky") for _ in range(2)]
    for session in leaked:
        session.execute("SELECT 1")
    calm = pg_target.open("calm")
    calm.execute("SELECT 1")
    until(lambda: min(in_state(pg_target, each) for each in leaked) > 0.06, "idle")
    given = {"idle_over": "50ms", "application": "leaky"}
    result = await do(TERMINATE, pg_target.service(), **given)
    assert len(result.output["ended"]) == 2
    assert pg_target.is_there(calm) and not any(pg_target.is_there(each) for each in leaked)


async def test_the_root_of_a_chain_of_locks_is_ended(pg_target: Target, waiters: list[threading.Thread]) -> None:
    """The waiting sessions continue, also a session that itself blocks others."""
    jobs(pg_target, 2)
    root = hold(pg_target)
    middle = run_in_background(
        pg_target,
        waiters,
        "BEGIN; UPDATE jobs SET worker = 'm' WHERE id = 2; UPDATE jobs SET worker = 'm' WHERE id = 1",
    )
    end = run_in_background(pg_target, waiters, "UPDATE jobs SET worker = 'e' WHERE id = 2")
    given = {"blocking_over": "50ms"}

    def waiting() -> bool:
        return pg_target.server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == "2"

    until(waiting, "two sessions wait")
    await asyncio.sleep(0.1)
    call = await plan(TERMINATE, pg_target.service(), **given)
    assert [each["pid"] for each in call.arguments["sessions"]] == [pid(root)]
    assert (await do(TERMINATE, pg_target.service(), call=call, **given)).output["ended"] == [pid(root)]
    assert pg_target.is_there(middle) and pg_target.is_there(end)


async def test_only_the_planned_query_is_cancelled(pg_target: Target, waiters: list[threading.Thread]) -> None:
    """The planned query is cancelled; its session stays open."""
    slow = run_in_background(pg_target, waiters, "SELECT pg_sleep(60)")
    until(lambda: in_state(pg_target, slow) > 0.06, "it runs for long enough")
    given = {"running_over": "50ms"}
    call = await plan(CANCEL, pg_target.service(), **given)
    cost = await CANCEL.cost(pg_target.service(), CANCEL.Parameters.model_validate(given), call)
    assert cost == Cost(in_flight_requests=1, rolled_back_transactions=0)
    assert (await observe(CANCEL, pg_target.service(), call, **given)).happened is EffectStatus.NO
    result = await do(CANCEL, pg_target.service(), call=call, **given)
    assert (result.outcome, result.output["ended"]) == (Outcome.OK, [pid(slow)])
    waiters[0].join(10)
    assert slow.execute("SELECT 1").fetchone() == (1,)
    assert (await observe(CANCEL, pg_target.service(), call, **given)).happened is EffectStatus.YES
    assert (await do(CANCEL, pg_target.service(), call=call, **given)).outcome is Outcome.FAILED


async def test_the_next_query_of_a_session_is_not_cancelled(pg_target: Target, waiters: list[threading.Thread]) -> None:
    """If the same session has started another query, that query is not cancelled."""
    session = run_in_background(pg_target, waiters, "SELECT pg_sleep(60)")
    until(lambda: in_state(pg_target, session) > 0.06, "it runs for long enough")
    given = {"running_over": "50ms"}
    call = await plan(CANCEL, pg_target.service(), **given)
    session.cancel()
    waiters[0].join(10)
    waiters.append(threading.Thread(target=lambda: session.execute("SELECT pg_sleep(1)")))
    waiters[-1].start()
    until(lambda: in_state(pg_target, session) > 0.06, "the next one runs")
    result = await do(CANCEL, pg_target.service(), call=call, **given)
    assert (result.outcome, result.output["left"]) == (Outcome.FAILED, [pid(session)])
    waiters[-1].join(10)


@pytest.mark.parametrize("given", [{}, {"idle_over": "1m", "blocking_over": "1m"}, {"idle_over": "0s"}])
def test_conditions_are_bounded(given: dict[str, Any]) -> None:
    """A call without a condition is refused, because every session would match."""
    with pytest.raises(ValidationError):
        TERMINATE.Parameters.model_validate(given)
    with pytest.raises(ValidationError):
        CANCEL.Parameters.model_validate({"limit": 3})


# --- statements


async def test_the_plan_shows_the_statement_its_values_and_the_rows(pg_target: Target) -> None:
    """The plan shows the statement, its values and the number of rows, and changes nothing."""
    jobs(pg_target, 4)
    call = await plan(EXECUTE, pg_target.service(), **RELEASE)
    assert 'UPDATE "shop"."jobs" SET "state" = (\'queued\')' in call.text
    assert "with queue='mail'; at most 5 rows" in call.text
    assert call.measurement == "4 rows match now"
    cost = await EXECUTE.cost(pg_target.service(), EXECUTE.Parameters.model_validate(RELEASE), call)
    assert cost.changed_rows == 4
    assert pg_target.sql("SELECT count(*) FROM jobs WHERE state = 'running'") == "4"


async def test_a_statement_changes_exactly_its_rows(pg_target: Target) -> None:
    """A second call with the same plan is refused by the server, so the rows change once."""
    jobs(pg_target, 4)
    pg_target.sql("UPDATE jobs SET locked_at = now() WHERE id = 4")
    call = await plan(EXECUTE, pg_target.service(), **RELEASE)
    assert (await observe(EXECUTE, pg_target.service(), call, **RELEASE)).happened is EffectStatus.NO
    result = await do(EXECUTE, pg_target.service(), call=call, **RELEASE)
    assert (result.outcome, result.output["rows"]) == (Outcome.OK, 3)
    assert pg_target.sql("SELECT id FROM jobs WHERE state = 'running'") == "4"
    seen = await observe(EXECUTE, pg_target.service(), call, **RELEASE)
    assert (seen.happened, seen.facts["rows"]) == (EffectStatus.YES, 3)
    pg_target.sql("UPDATE jobs SET state = 'running'")
    with pytest.raises(Refused, match="duplicate key"):
        await do(EXECUTE, pg_target.service(), call=call, **RELEASE)
    assert pg_target.sql("SELECT count(*) FROM jobs WHERE state = 'running'") == "4"


async def test_more_rows_than_allowed_are_not_planned(pg_target: Target) -> None:
    """The plan is infeasible if more rows match than the limit, or none."""
    assert (await plan(EXECUTE, pg_target.service(), **RELEASE)).infeasible_reason == (
        "no row matches; nothing is to be done"
    )
    jobs(pg_target, 6)
    call = await plan(EXECUTE, pg_target.service(), **RELEASE)
    assert call.infeasible_reason == "more than 5 rows match 'release-jobs', which is the limit"


async def test_more_rows_than_allowed_are_rolled_back(pg_target: Target) -> None:
    """If more rows match after planning, the whole statement is rolled back."""
    jobs(pg_target, 5)
    call = await plan(EXECUTE, pg_target.service(), **RELEASE)
    pg_target.sql("INSERT INTO jobs VALUES (9, 'mail', 'running', 'w', now() - interval '3 hours')")
    with pytest.raises(TargetError, match="would change 6 rows; at most 5 are allowed"):
        await do(EXECUTE, pg_target.service(), call=call, **RELEASE)
    assert pg_target.sql("SELECT count(*) FROM jobs WHERE state = 'running'") == "6"
    assert pg_target.sql("SELECT count(*) FROM remediator.applied_calls") == "0"


@pytest.mark.parametrize(
    "trap",
    [
        "SELECT 1",
        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN "
        "INSERT INTO shop.items SELECT 100 + 10 * OLD.id + g, 9 FROM generate_series(1, 5) AS g; RETURN NULL; END$$;"
        "INSERT INTO sessions VALUES (9, 9);"
        "CREATE CONSTRAINT TRIGGER late AFTER DELETE ON sessions DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION more()",
    ],
    ids=["a foreign key", "a trigger at COMMIT"],
)
async def test_rows_that_follow_count(pg_target: Target, trap: str) -> None:
    """Rows that foreign keys and triggers change count too: two rows are allowed, and these are more."""
    follows = "a foreign key" if trap == "SELECT 1" else ""
    pg_target.sql("INSERT INTO sessions SELECT g, 1 FROM generate_series(1, 2) AS g")
    if follows:
        pg_target.sql("INSERT INTO items SELECT g, 1 FROM generate_series(1, 4) AS g")
    pg_target.sql(trap)
    call = await plan(EXECUTE, pg_target.service(), **DELETE)
    assert call.measurement == "2 rows match now"
    with pytest.raises(
        TargetError, match=r"would change 2 rows, \d+ including the rows that triggers and foreign keys change"
    ):
        await do(EXECUTE, pg_target.service(), call=call, **DELETE)
    assert pg_target.sql("SELECT count(*) FROM sessions WHERE shop = 1") == "2"


async def test_a_percent_sign_and_a_quote_stay_data(pg_target: Target) -> None:
    """A value with a percent sign or a quote is never parsed as SQL."""
    pg_target.sql("INSERT INTO sessions VALUES (1, 1, 'keep me'), (2, 1, 'x')")
    assert (await do(EXECUTE, pg_target.service(), **DELETE)).output["rows"] == 1
    assert pg_target.sql("SELECT note FROM sessions") == "keep me"
    jobs(pg_target, 2)
    pg_target.sql("UPDATE jobs SET queue = 'o''neill' WHERE id = 2")
    given = {"statement": "release-jobs", "values": {"queue": "o'neill"}}
    assert (await do(EXECUTE, pg_target.service(), **given)).output["rows"] == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"statement": "drop-all"}, "does not allow the statement 'drop-all'; allowed: delete-sessions, release-jobs"),
        ({"statement": "release-jobs"}, "needs exactly these values: queue"),
        ({**RELEASE, "values": {"queue": "mail", "more": 1}}, "needs exactly these values: queue"),
        ({**RELEASE, "values": {"queue": "' OR true --"}}, 'does not allow "\' OR true --"'),
        ({**DELETE, "values": {"shop": 101}}, "does not allow '101'"),
        ({**DELETE, "values": {"shop": "1"}}, "does not allow '1'"),
        ({**DELETE, "values": {"shop": True}}, "does not allow 'True'"),
    ],
)
async def test_what_the_inventory_does_not_allow_is_refused(given: dict[str, Any], why: str) -> None:
    """A statement that the inventory does not allow is refused before any connection."""
    target = service("postgresql", postgres={"port": 1, "statements": STATEMENTS})
    with pytest.raises(TargetError) as refused:
        await plan(EXECUTE, target, **given)
    assert why in str(refused.value)


async def test_a_statement_that_was_changed_after_planning_is_refused(pg_target: Target) -> None:
    """The statement is refused if the inventory, the table or the server changed after planning."""
    jobs(pg_target, 1)
    call = await plan(EXECUTE, pg_target.service(), **RELEASE)
    changed = {**STATEMENTS, "release-jobs": {**STATEMENTS["release-jobs"], "max_rows": 4}}
    with pytest.raises(TargetError, match="was changed in the inventory after planning"):
        await do(EXECUTE, pg_target.service(statements=changed), call=call, **RELEASE)
    other = PlannedCall(call.text, call.arguments, {**call.pin, "server": "1/1"})
    with pytest.raises(TargetError, match="is another server than during planning"):
        await do(EXECUTE, pg_target.service(), call=other, **RELEASE)
    pg_target.sql("ALTER TABLE jobs RENAME TO old; CREATE TABLE jobs (LIKE old)")
    pg_target.sql("INSERT INTO jobs SELECT * FROM old; GRANT ALL ON jobs TO remediator")
    with pytest.raises(TargetError, match="was replaced after planning"):
        await do(EXECUTE, pg_target.service(), call=call, **RELEASE)
    assert pg_target.sql("SELECT count(*) FROM jobs WHERE state = 'running'") == "1"


@pytest.mark.parametrize("name", ["postgres.terminate_backends", "postgres.cancel_queries"])
async def test_sessions_of_another_server_are_not_touched(
    name: str, pg_target: Target, waiters: list[threading.Thread]
) -> None:
    """The identity of the server is compared on the same connection that sends the signals."""
    hold(pg_target, "SELECT 1")
    slow = run_in_background(pg_target, waiters, "SELECT pg_sleep(60)")
    until(lambda: in_state(pg_target, slow) > 0.06, "it runs for long enough")
    call = await plan(ACTIONS[name], pg_target.service(), **GIVEN[name])
    other = PlannedCall(call.text, call.arguments, {"server": "1/1"})
    with pytest.raises(TargetError, match="is another server than during planning"):
        await do(ACTIONS[name], pg_target.service(), call=other, **GIVEN[name])


async def test_the_wait_for_a_lock_ends_at_its_timeout(pg_target: Target) -> None:
    """While another session holds the lock, the statement ends at its timeout, and nothing is changed."""
    jobs(pg_target, 2)
    hold(pg_target)
    short = {"release-jobs": {**STATEMENTS["release-jobs"], "timeout": "200ms"}}
    target = pg_target.service(statements=short)
    call = await plan(EXECUTE, target, **RELEASE)
    with pytest.raises(Refused, match="refused UPDATE: canceling statement due to statement timeout"):
        await do(EXECUTE, target, call=call, **RELEASE)
    assert (await observe(EXECUTE, target, call, **RELEASE)).happened is EffectStatus.NO


# --- servers that refuse, are silent, or whose answer is lost


@each_action
async def test_without_an_address_or_an_answer_nothing_is_planned(name: str) -> None:
    """The plan fails without an inventory entry, and without a server."""
    with pytest.raises(TargetError, match="has no 'postgres' in the inventory"):
        await plan(ACTIONS[name], service("postgresql"), **GIVEN[name])
    with pytest.raises(Unreachable, match="Connection refused"):
        await plan(ACTIONS[name], at(free_port()), **GIVEN[name])


def at(port: int, **more: Any) -> Service:
    """Return a service whose inventory entry has a PostgreSQL on this port."""
    return service("postgresql", postgres={"port": port, "statements": STATEMENTS, **more})


@each_action
async def test_without_the_rights_nothing_is_changed(name: str, bare_target: Target) -> None:
    """PostgreSQL refuses, and the error names the missing right."""
    jobs(bare_target, 1)
    idle = hold(bare_target, "SELECT 1")
    with pytest.raises(Refused, match=r"permission denied|GRANT pg_monitor"):
        await do(ACTIONS[name], bare_target.service(), **GIVEN[name])
    assert bare_target.is_there(idle)


@each_action
async def test_an_invalid_answer_is_a_bad_answer(name: str) -> None:
    """If another program listens on the port, the error is :class:`BadAnswer`."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listener(nonsense) as port:
        with pytest.raises(BadAnswer):
            await do(ACTIONS[name], at(port), **GIVEN[name])


@each_action
async def test_silence_is_bounded(name: str) -> None:
    """If the server accepts the connection and never answers, nothing was sent, so nothing happened."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with listener(silent) as port:
        with pytest.raises(Unreachable, match=r"within 0\.3 s"):
            await do(ACTIONS[name], at(port, timeout="300ms"), **GIVEN[name])


@asynccontextmanager
async def cut(port: int, word: bytes, *, delivered: bool) -> AsyncIterator[int]:
    """Forward the traffic to a server until ``word`` is sent, and drop all answers after it.

    Args:
        port: port of the server.
        word: part of the traffic.
        delivered: whether the server receives the word and the traffic after it.
    """
    silent = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal silent
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)

        async def back() -> None:
            while data := await theirs.read(65536):
                if not silent:
                    writer.write(data)

        passing = asyncio.create_task(back())
        try:
            while data := await reader.read(65536):
                silent = silent or word in data
                if delivered or not silent:
                    ours.write(data)
            if not delivered and silent:
                await asyncio.sleep(60)  # the connection stays open for the server
        finally:
            passing.cancel()
            ours.close()

    async with listener(serve) as proxy:
        yield proxy


async def test_a_lost_answer_to_a_commit_is_observed(pg_target: Target) -> None:
    """COMMIT was sent and not answered: the outcome is unknown, and the marker in the database proves the change."""
    jobs(pg_target, 2)
    call = await plan(EXECUTE, pg_target.service(), **RELEASE)
    async with cut(pg_target.server.port, b"COMMIT\0", delivered=True) as port:
        with pytest.raises(TimedOut, match="did not answer COMMIT"):
            await do(EXECUTE, pg_target.service(port=port, timeout="500ms"), call=call, **RELEASE)
    seen = await observe(EXECUTE, pg_target.service(), call, **RELEASE)
    assert (seen.happened, seen.facts["rows"]) == (EffectStatus.YES, 2)
    assert pg_target.sql("SELECT count(*) FROM jobs WHERE state = 'queued'") == "2"


async def test_a_commit_that_is_still_under_way_stays_unknown(pg_target: Target) -> None:
    """If the session is open and has not committed, the COMMIT may still arrive, so a person is asked."""
    jobs(pg_target, 2)
    target = pg_target.service(timeout="60s")  # otherwise the server would end the transaction after this time
    call = await plan(EXECUTE, target, **RELEASE)
    async with cut(pg_target.server.port, b"COMMIT\0", delivered=False) as port:
        through = pg_target.service(port=port, timeout="60s")
        attempt = asyncio.create_task(do(EXECUTE, through, call=call, **RELEASE))
        name = f"remediator {call.arguments['marker']}"
        state = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND query ~ '^.INSERT'"
        while await asyncio.to_thread(pg_target.server.sql, state) != "1":
            assert not attempt.done(), attempt
            await asyncio.sleep(0.05)
        attempt.cancel()
        with suppress(asyncio.CancelledError, PostgresTimedOut):
            await attempt
        assert (await observe(EXECUTE, target, call, **RELEASE)).happened is EffectStatus.UNKNOWN
        pg_target.server.sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
        )
        gone = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"
        until(lambda: pg_target.server.sql(gone) == "0", "the session is gone")
        assert (await observe(EXECUTE, target, call, **RELEASE)).happened is EffectStatus.NO


async def test_a_lost_answer_before_the_commit_changes_nothing(pg_target: Target) -> None:
    """If the connection closes before COMMIT is sent, nothing happened for certain, so the outcome is not unknown."""
    jobs(pg_target, 2)
    statements = {"release-jobs": {**STATEMENTS["release-jobs"], "timeout": "300ms"}}
    call = await plan(EXECUTE, pg_target.service(statements=statements), **RELEASE)
    async with cut(pg_target.server.port, b"UPDATE", delivered=True) as port:
        with pytest.raises(Unreachable, match="did not answer UPDATE"):
            await do(EXECUTE, pg_target.service(port=port, statements=statements), call=call, **RELEASE)
    assert (await observe(EXECUTE, pg_target.service(), call, **RELEASE)).happened is EffectStatus.NO
    assert pg_target.sql("SELECT count(*) FROM jobs WHERE state = 'running'") == "2"


@pytest.mark.parametrize("name", ["postgres.terminate_backends", "postgres.cancel_queries"])
async def test_a_lost_answer_to_a_signal_is_observed(
    name: str, pg_target: Target, waiters: list[threading.Thread]
) -> None:
    """The observation shows that the session or query has ended; a reused process ID does not count as the same
    session."""
    hold(pg_target, "SELECT 1")
    slow = run_in_background(pg_target, waiters, "SELECT pg_sleep(60)")
    until(lambda: in_state(pg_target, slow) > 0.06, "it runs for long enough")
    call = await plan(ACTIONS[name], pg_target.service(), **GIVEN[name])
    word = b"pg_terminate_backend" if "terminate" in name else b"pg_cancel_backend"
    async with cut(pg_target.server.port, word, delivered=True) as port:
        with pytest.raises(TimedOut):
            await do(ACTIONS[name], pg_target.service(port=port, timeout="500ms"), call=call, **GIVEN[name])
    assert (await observe(ACTIONS[name], pg_target.service(), call, **GIVEN[name])).happened is EffectStatus.YES


async def test_a_server_that_is_frozen_or_stopped_during_the_statement(make_postgres: MakePostgres) -> None:
    """A hung server gives no answer in time. A stopped server closes the connection, and the transaction is rolled
    back."""
    target = make_target(make_postgres())
    target.grant(*rights(target.service()))
    jobs(target, 2)
    call = await plan(EXECUTE, target.service(), **RELEASE)
    target.server.pause()
    with pytest.raises(Unreachable):
        await do(EXECUTE, target.service(timeout="500ms"), call=call, **RELEASE)
    target.server.resume()
    blocker = hold(target)
    attempt = asyncio.create_task(do(EXECUTE, target.service(), call=call, **RELEASE))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while await asyncio.to_thread(target.server.sql, waits) != "1":
        await asyncio.sleep(0.05)
    await asyncio.to_thread(target.server.stop)
    with pytest.raises(Unreachable, match="terminating connection"):
        await attempt
    target.server.start()
    assert (await observe(EXECUTE, target.service(), call, **RELEASE)).happened is EffectStatus.NO
    assert target.sql("SELECT count(*) FROM jobs WHERE state = 'running'") == "2"
    blocker.close()


# --- rights


async def test_exactly_the_documented_rights_suffice(bare_target: Target) -> None:
    """With the documented rights, nothing is missing. Without any one of them, the missing right is named as SQL."""
    target = bare_target.service()

    async def missing() -> list[str]:
        found = [await ACTIONS[name].missing_rights(target) for name in sorted(GIVEN)]
        return list(dict.fromkeys(statement for each in found for statement in each))

    needed = await missing()
    bare_target.grant(*needed)
    assert await missing() == []
    jobs(bare_target, 2)
    bare_target.sql("INSERT INTO sessions VALUES (1, 1)")
    idle = hold(bare_target, "SELECT 1")
    for name, given in (
        ("postgres.execute", RELEASE),
        ("postgres.execute", DELETE),
        ("postgres.terminate_backends", IDLE),
    ):
        assert (await do(ACTIONS[name], target, **given)).outcome is Outcome.OK
    assert not bare_target.is_there(idle)
    for statement in needed:
        if statement.startswith("GRANT"):
            bare_target.grant(statement.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM "))
            assert statement in await missing(), statement
            bare_target.grant(statement)
    assert await missing() == []


async def test_the_role_can_do_nothing_else(pg_target: Target) -> None:
    """The role can read and change only the tables of its statements, and is not a superuser."""
    jobs(pg_target, 1)
    with psycopg.connect(
        f"host=127.0.0.1 port={pg_target.server.port} dbname={pg_target.database} user={ROLE}"
    ) as role:
        role.autocommit = True
        for statement in (
            "UPDATE jobs SET secret = 'x'",
            "DELETE FROM jobs",
            "SELECT * FROM items",
            "DELETE FROM remediator.applied_calls",
            "CREATE TABLE shop.x ()",
            "COPY jobs TO PROGRAM 'true'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(statement)
