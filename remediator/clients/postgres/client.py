"""PostgreSQL client: diagnosis, the end of sessions and queries, and the statements that the inventory allows.

Nothing else can be sent. Everything except :meth:`Postgres.apply` runs in read-only transactions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from remediator.clients.postgres import models
from remediator.clients.postgres.connection import (
    APPLICATION,
    PostgresBadAnswer,
    PostgresConnection,
    PostgresRefused,
    PostgresState,
    PostgresTimedOut,
    PostgresUnreachable,
    connect,
)
from remediator.clients.postgres.models import (
    Database,
    Limit,
    Prepared,
    Replay,
    Replication,
    Session,
    Sizes,
    Slot,
    Standby,
)
from remediator.clients.postgres.settings import PostgresEndpoint, Statement, Value
from remediator.errors import TargetError

MARKERS = "remediator.applied_calls"
"""Table in which each call writes a row in the same transaction, so that its outcome can be observed later."""
SETUP = (
    "CREATE SCHEMA IF NOT EXISTS remediator",
    f"CREATE TABLE IF NOT EXISTS {MARKERS} (call text PRIMARY KEY, statement text NOT NULL, changed bigint NOT NULL, "
    "at timestamptz NOT NULL DEFAULT now())",
)
_ENDING = 5.0
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Health:
    """State of the server. ``latency`` is the time of a connection with one query, if it was answered."""

    state: PostgresState
    detail: str
    version: str = ""
    role: str = ""
    """``primary`` or ``standby``; empty if unknown."""
    latency: timedelta | None = None


class Signal(StrEnum):
    """How sessions are ended: by the SQL function of this name."""

    TERMINATE = "pg_terminate_backend"
    CANCEL = "pg_cancel_backend"
    """Ends the query; the session stays."""


@dataclass(frozen=True, slots=True)
class PinnedSession:
    """A session in one state: process ID and start name the session, the time of its last change names the state."""

    pid: int
    began: datetime
    state_since: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of ending sessions or queries, by process ID."""

    ended: tuple[int, ...]
    left: tuple[int, ...]
    """Sessions that did something else before the signal, or had ended."""
    remaining: tuple[int, ...]
    """Sessions that got the signal and still run."""
    refused: str = ""
    """Reason why the server refused to signal a session."""


class Postgres:
    """A client of one PostgreSQL server. Every call opens and closes its own connection.

    Every method raises PostgresUnreachable, PostgresTimedOut, PostgresRefused and PostgresBadAnswer, each with its
    ``state``. Methods that change something take ``expected``, an identity from `identity`. If another server answers,
    or a standby was promoted, they raise `TargetError` and change nothing.
    """

    def __init__(self, endpoint: PostgresEndpoint) -> None:
        self.endpoint = endpoint

    async def health(self) -> Health:
        """Return the state of the server. A failure is an answer, not an exception."""
        begun = time.monotonic()
        try:
            async with connect(self.endpoint) as connection:
                server = connection.server
        except (PostgresUnreachable, PostgresTimedOut, PostgresRefused, PostgresBadAnswer) as error:
            return Health(error.state, str(error))
        role = "standby" if server.standby else "primary"
        latency = timedelta(seconds=time.monotonic() - begun)
        return Health(PostgresState.SERVING, "answers", server.version, role, latency)

    async def identity(self) -> str:
        """Return the system identifier and the timeline of the server."""
        async with connect(self.endpoint) as connection:
            return connection.server.identity

    async def sessions(self) -> tuple[Session, ...]:
        """Return all processes of the server, except that of this connection."""
        async with connect(self.endpoint) as connection:
            _require_statistics(connection)
            return tuple(Session.of(row) for row in await connection.read(models.SESSIONS))

    async def limits(self) -> tuple[Limit, ...]:
        """Return the limits of connections, the most used limit first."""
        async with connect(self.endpoint) as connection:
            _require_statistics(connection)
            found = [Limit(**row) for row in await connection.read(models.LIMITS)]
            return tuple(sorted(found, key=lambda each: -each.percent))

    async def prepared(self) -> Prepared:
        """Return the prepared transactions."""
        async with connect(self.endpoint) as connection:
            (row,) = await connection.read(models.PREPARED)
            return Prepared(**row)

    async def replication(self) -> Replication:
        """Return standbys and slots; on a standby, its receive and replay positions."""
        async with connect(self.endpoint) as connection:
            _require_statistics(connection)
            is_standby = connection.server.standby
            slots = tuple(Slot(**row) for row in await connection.read(models.SLOTS))
            if is_standby:
                (row,) = await connection.read(models.REPLAY)
                return Replication(True, (), slots, Replay(**row))
            standbys = tuple(Standby(**row) for row in await connection.read(models.STANDBYS))
            return Replication(False, standbys, slots, None)

    async def sizes(self) -> Sizes:
        """Return the sizes of the databases, the biggest first, and of the WAL."""
        async with connect(self.endpoint) as connection:
            _require_statistics(connection)
            databases = tuple(Database(**row) for row in await connection.read(models.SIZES))
            (wal,) = await connection.read("SELECT coalesce(sum(size), 0)::bigint AS size FROM pg_ls_waldir()")
            return Sizes(databases, int(wal["size"]))

    async def still_going(self, signal: Signal, chosen: Sequence[PinnedSession]) -> tuple[int, ...]:
        """Return the sessions that still exist in any state, or still run the pinned query."""
        async with connect(self.endpoint) as connection:
            return await _still_going(connection, signal, chosen)

    async def signal(self, signal: Signal, chosen: Sequence[PinnedSession], *, expected: str) -> Ended:
        """End sessions that are still in the pinned state, or their queries, and wait up to 5 s for their end."""
        statement, _ = _STATEMENTS[signal]
        signalled: list[int] = []
        refused = ""
        async with connect(self.endpoint) as connection:
            _check(connection, expected)
            for each in chosen:
                try:
                    rows = await connection.write(statement, _pins([each]))
                except PostgresRefused as error:
                    if not signalled:
                        raise
                    refused = str(error)  # the earlier signals were sent; the caller reports both groups
                    break
                signalled += [row["pid"] for row in rows if row["signalled"]]
            pinned = [each for each in chosen if each.pid in signalled]
            deadline = time.monotonic() + _ENDING  # a signal is only sent; its effect follows
            while remaining := await _still_going(connection, signal, pinned):
                if time.monotonic() >= deadline:
                    break
                await asyncio.sleep(_POLL)
        ended = tuple(pid for pid in signalled if pid not in remaining)
        return Ended(ended, tuple(each.pid for each in chosen if each.pid not in signalled), remaining, refused)

    async def count(self, statement: Statement, values: Mapping[str, Value]) -> int:
        """Return how many rows a statement would change, up to one more than allowed."""
        async with connect(self.endpoint) as connection:
            (found,) = await connection.read(statement.count_text, values)
            return int(found["count"])

    async def table_id(self, statement: Statement, values: Mapping[str, Value]) -> int:
        """Return the ID of the table of a statement, after EXPLAIN has proved that the statement can run.

        EXPLAIN changes nothing, and checks the text and the rights as the statement itself does.
        """
        async with connect(self.endpoint) as connection:
            await connection.read(f"EXPLAIN {statement.text}", values)
            return await _table_id(connection, statement)

    async def apply(
        self, statement: Statement, values: Mapping[str, Value], *, name: str, marker: str, table: int, expected: str
    ) -> int:
        """Run a statement once, with a row of `MARKERS` in the same transaction. Return the number of changed rows.

        Args:
            statement: what to run.
            values: its values.
            name: its name, for the row of the marker.
            marker: names this call. The server accepts each marker once, so a call is never made twice.
            table: ID of the table, as counted for the plan.
            expected: identity of the server.

        Raises:
            TargetError: nothing was changed: more rows than allowed, or the table was replaced.
            PostgresTimedOut: COMMIT was sent and not answered. Only :meth:`applied` shows the outcome.
        """
        async with connect(self.endpoint, writes=True, name=session_name(marker)) as connection:
            _check(connection, expected)
            changed = await _apply(connection, statement, values, name, marker, table)
            await connection.commit()
            return changed

    async def applied(self, marker: str) -> tuple[bool, int | None]:
        """Return whether a call may still be committed, and how many rows it changed; None if it changed nothing.

        The session is looked for first: if it is gone, its transaction has ended, and the row of its marker decides.
        """
        async with connect(self.endpoint) as connection:
            if connection.server.standby:
                why = f"{connection.name} is a standby now, which may not have received the transaction"
                raise PostgresRefused(why, PostgresState.READ_ONLY)
            (session,) = await connection.read(_SESSIONS_OF, {"name": session_name(marker)})
            rows = await connection.read(
                "SELECT changed FROM remediator.applied_calls WHERE call = %(call)s", {"call": marker}
            )
            return session["count"] > 0, rows[0]["changed"] if rows else None

    async def missing_for_sessions(self, *, signals: bool) -> tuple[str, ...]:
        """Return the SQL that grants the missing rights to see sessions, and to end them if ``signals``."""
        async with connect(self.endpoint) as connection:
            missing = [] if connection.server.reads_statistics else ["pg_monitor"]
            if signals:
                (row,) = await connection.read(_MAY_SIGNAL)
                missing += [] if row["may"] else ["pg_signal_backend"]
            return tuple(f'GRANT {each} TO "{self.endpoint.username}"' for each in missing)

    async def missing_for_statements(self) -> tuple[str, ...]:
        """Return the SQL that is missing for the statements of the inventory: the table of the markers, and grants."""
        role = self.endpoint.username
        async with connect(self.endpoint) as connection:
            markers = await connection.read(_MAY_MARK)
            missing = list(() if markers else SETUP)
            if not markers or not markers[0]["may"]:
                missing += [
                    f'GRANT USAGE ON SCHEMA remediator TO "{role}"',
                    f'GRANT SELECT, INSERT ON {MARKERS} TO "{role}"',
                ]
            for name, statement in self.endpoint.statements.items():
                missing += await _missing_for(connection, name, statement.text, statement, statement.grants(role))
        return tuple(dict.fromkeys(missing))

    async def missing_for_counts(self) -> tuple[str, ...]:
        """Return the SQL that is missing to count the rows of the statements of the inventory."""
        missing: list[str] = []
        async with connect(self.endpoint) as connection:
            for name, statement in self.endpoint.statements.items():
                grants = statement.count_grants(self.endpoint.username)
                missing += await _missing_for(connection, name, statement.count_text, statement, grants)
        return tuple(dict.fromkeys(missing))


def session_name(marker: str) -> str:
    """Return the application name of the session that makes a call."""
    return f"{APPLICATION} {marker}"


def _require_statistics(connection: PostgresConnection) -> None:
    if not connection.server.reads_statistics:
        why = f'{connection.name} hides the sessions of other users: GRANT pg_monitor TO "{connection.username}"'
        raise PostgresRefused(why, PostgresState.NO_PERMISSION)


def _check(connection: PostgresConnection, expected: str) -> None:
    if connection.server.identity != expected:
        raise TargetError(
            f"{connection.name} is another server than during planning, or a standby was promoted; nothing was changed"
        )


_PINNED = """
WITH pinned AS MATERIALIZED (
    SELECT * FROM unnest(%(pids)s::int[], %(began)s::timestamptz[], %(since)s::timestamptz[]) AS p (pid, began, since)
), found AS MATERIALIZED (
    SELECT a.pid FROM pg_stat_activity AS a JOIN pinned AS p ON a.pid = p.pid AND a.backend_start = p.began
    WHERE a.backend_type = 'client backend' {}
)
SELECT {} FROM found
"""
_SAME_STATE = "AND a.state_change = p.since"
_SAME_QUERY = f"{_SAME_STATE} AND a.state = 'active'"
_STATEMENTS = {
    signal: (_PINNED.format(before, f"pid, {signal}(pid) AS signalled"), _PINNED.format(after, "pid"))
    for signal, before, after in (
        (Signal.TERMINATE, _SAME_STATE, ""),
        (Signal.CANCEL, _SAME_QUERY, _SAME_QUERY),
    )
}
"""The statements that signal sessions in the pinned state, and that find sessions that still run."""
_SESSIONS_OF = "SELECT count(*) AS count FROM pg_stat_activity WHERE application_name = %(name)s"
_MAY_SIGNAL = "SELECT pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS may"
_MAY_MARK = """
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
       AND has_table_privilege(c.oid, 'INSERT') AS may
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'remediator' AND c.relname = 'applied_calls'
"""


def _pins(chosen: Sequence[PinnedSession]) -> dict[str, Any]:
    return {
        "pids": [each.pid for each in chosen],
        "began": [each.began for each in chosen],
        "since": [each.state_since for each in chosen],
    }


async def _still_going(
    connection: PostgresConnection, signal: Signal, chosen: Sequence[PinnedSession]
) -> tuple[int, ...]:
    _, statement = _STATEMENTS[signal]
    return tuple(row["pid"] for row in await connection.read(statement, _pins(chosen)))


async def _apply(
    connection: PostgresConnection,
    statement: Statement,
    values: Mapping[str, Value],
    name: str,
    marker: str,
    table: int,
) -> int:
    """Run a statement in a transaction that is not committed yet. The order of the steps is the safety argument."""
    seconds = statement.timeout.total_seconds()
    await connection.change("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    await connection.change(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
    # 1. Run deferred triggers and constraints before the rows are counted.
    await connection.change("SET CONSTRAINTS ALL IMMEDIATE")
    before = await _changed_rows(connection)
    changed = await connection.change(statement.text, values, seconds=seconds + 1)
    # 2. The table is the planned one. The statement has locked it, so that it cannot be replaced any more.
    if await _table_id(connection, statement) != table:
        raise TargetError(f"table {statement.table} was replaced after planning; nothing was changed")
    # 3. Count all rows that the transaction changed, including rows changed by triggers and foreign keys.
    total = max(changed, await _changed_rows(connection) - before)
    if total > statement.max_rows:
        more = f", {total} including the rows that triggers and foreign keys change" if total > changed else ""
        raise TargetError(
            f"{name!r} would change {changed} rows{more}; at most {statement.max_rows} are allowed, so it was rolled "
            "back and nothing was changed"
        )
    # 4. Write the marker. A second call with this marker waits for the first call, and is refused if that was
    # committed.
    row = {"call": marker, "statement": name, "changed": changed}
    await connection.change(_MARK, row)
    return changed


_MARK = """
INSERT INTO remediator.applied_calls (call, statement, changed) VALUES (%(call)s, %(statement)s, %(changed)s)
"""


async def _table_id(connection: PostgresConnection, statement: Statement) -> int:
    text = "SELECT %(table)s::regclass::oid::bigint AS id"
    (found,) = await connection.read(text, {"table": statement.table})
    return int(found["id"])


async def _changed_rows(connection: PostgresConnection) -> int:
    """Return the rows that the current transaction has changed in all tables.

    Raises:
        PostgresRefused: the server does not count (track_counts is off).
    """
    (row,) = await connection.read(_CHANGED)
    if not row["counts"]:
        why = f"{connection.name} does not count changed rows: set track_counts = on; nothing was changed"
        raise PostgresRefused(why, PostgresState.REFUSING)
    return int(row["changed"])


_CHANGED = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint AS changed,
       current_setting('track_counts')::bool AS counts
FROM pg_stat_xact_user_tables
"""


async def _missing_for(
    connection: PostgresConnection, name: str, text: str, statement: Statement, grants: Sequence[str]
) -> list[str]:
    """Return the grants that a text lacks. EXPLAIN checks the rights as the statement itself does."""
    try:
        await connection.read(f"EXPLAIN {text}", dict.fromkeys(statement.values))
    except PostgresRefused as error:
        if error.state is PostgresState.NO_PERMISSION:
            return list(grants)
        return [f"statement {name!r} cannot run: {error}"]
    return []
