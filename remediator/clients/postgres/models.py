"""The reports of a PostgreSQL server, as typed values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediator.core.text import printable, shorten

CLIENT = "client backend"
IDLE_IN_TRANSACTION = ("idle in transaction", "idle in transaction (aborted)")
_LONGEST_QUERY = 160
_LITERAL = re.compile(
    r"/\*.*?(?:\*/|$)|--[^\n]*"  # comments
    r"|\$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|$)"  # $$text$$
    r"|'(?:[^'\\]|\\.|'')*(?:'|$)"  # 'text'; the server may have cut off its end
    r"|(?<![\w$\"])\d+(?:\.\d+)?",  # 42
    re.DOTALL,
)


def query_shape(text: str) -> str:
    """Return a query without its values, comments and line breaks: the values may be personal data or passwords."""
    without = _LITERAL.sub(lambda found: " " if found[0][:2] in ("/*", "--") else "?", text)
    return shorten(printable(" ".join(without.split())), _LONGEST_QUERY)


@dataclass(frozen=True, slots=True)
class Session:
    """A process of the server. Times are in seconds."""

    pid: int
    began: datetime
    kind: str
    """``client backend``, ``walsender``, ``autovacuum worker`` …"""
    user: str
    database: str
    application: str
    client: str
    """Address of the client; empty for a unix socket."""
    state: str
    """``active``, ``idle``, ``idle in transaction`` …; empty for a background process."""
    state_since: datetime | None
    """When the state changed. It is the same as long as the session does nothing else."""
    in_state: float
    in_transaction: float | None
    """Age of the transaction; None without one."""
    writes: bool
    """The transaction has changed something."""
    waiting: float | None
    """Time of the wait for a lock; None if the session does not wait for a lock."""
    blocked_by: tuple[int, ...]
    """Process IDs of the sessions that it waits for. 0 is a prepared transaction."""
    superuser: bool
    own: bool
    """A session of the role of remediator."""
    query: str
    """Shape of the current query, or of the last one."""

    @property
    def is_client(self) -> bool:
        """Whether it serves a client."""
        return self.kind == CLIENT

    @property
    def is_idle_in_transaction(self) -> bool:
        """Whether it holds a transaction open and does nothing."""
        return self.state in IDLE_IN_TRANSACTION

    @property
    def text(self) -> str:
        """Name for messages."""
        names = [printable(each) for each in (self.user, self.application, self.client) if each]
        return f"{self.pid} ({', '.join(names) or self.kind})"

    @classmethod
    def of(cls, row: dict[str, Any]) -> Session:
        """Return the session of a row of ``SESSIONS``."""
        row = {**row, "blocked_by": tuple(row["blocked_by"]), "query": query_shape(row["query"])}
        return cls(**row)


SESSIONS = """
SELECT a.pid, a.backend_start AS began, a.backend_type AS kind, coalesce(a.usename, '')::text AS "user",
       coalesce(a.datname, '')::text AS database, coalesce(a.application_name, '') AS application,
       coalesce(host(a.client_addr), '') AS client, coalesce(a.state, '') AS state, a.state_change AS state_since,
       coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0)::float8 AS in_state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS in_transaction,
       a.backend_xid IS NOT NULL AS writes,
       CASE WHEN a.wait_event_type = 'Lock'
            THEN coalesce(extract(epoch FROM clock_timestamp() - w.since), 0)::float8 END AS waiting,
       CASE WHEN a.wait_event_type = 'Lock' THEN pg_blocking_pids(a.pid) ELSE '{}' END AS blocked_by,
       coalesce(r.rolsuper, false) AS superuser, coalesce(r.rolname = current_user, false) AS own,
       coalesce(a.query, '') AS query
FROM pg_stat_activity AS a
LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
LEFT JOIN (SELECT pid, min(waitstart) AS since FROM pg_locks WHERE NOT granted GROUP BY pid) AS w ON w.pid = a.pid
WHERE a.pid <> pg_backend_pid()
ORDER BY a.pid
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of connections, of the server, a database or a role."""

    name: str
    """``server``, ``database NAME`` or ``role NAME``."""
    used: int
    most: int
    """Connections that roles without special rights can have."""

    @property
    def percent(self) -> float:
        """Used part of the limit."""
        return round(100 * self.used / self.most, 1) if self.most else 100.0


LIMITS = """
WITH sessions AS MATERIALIZED (SELECT datid, usesysid FROM pg_stat_activity WHERE backend_type = 'client backend')
SELECT 'server' AS name, (SELECT count(*) FROM sessions)::int AS used,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true)::int, 0) AS most
UNION ALL
SELECT 'database ' || datname, (SELECT count(*) FROM sessions WHERE datid = d.oid)::int, datconnlimit
FROM pg_database AS d WHERE datconnlimit > 0
UNION ALL
SELECT 'role ' || rolname, (SELECT count(*) FROM sessions WHERE usesysid = r.oid)::int, rolconnlimit
FROM pg_roles AS r WHERE rolconnlimit > 0 AND rolcanlogin
"""


@dataclass(frozen=True, slots=True)
class Standby:
    """A standby of a primary."""

    application: str
    client: str
    state: str
    sync: str
    lag_bytes: int | None
    lag_seconds: float | None


STANDBYS = """
SELECT application_name AS application, coalesce(host(client_addr), '') AS client, state, sync_state AS sync,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes,
       extract(epoch FROM replay_lag)::float8 AS lag_seconds
FROM pg_stat_replication WHERE state <> 'backup' ORDER BY application_name, pid
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot. It keeps WAL that its reader has not confirmed."""

    name: str
    active: bool
    wal_status: str
    kept_bytes: int | None


SLOTS = """
SELECT slot_name::text AS name, active, coalesce(wal_status, '') AS wal_status,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
                       restart_lsn)::bigint AS kept_bytes
FROM pg_replication_slots ORDER BY slot_name
"""


@dataclass(frozen=True, slots=True)
class Replay:
    """The receive and replay positions of a standby."""

    receiving: bool
    paused: bool
    lag_bytes: int | None
    """Received and not replayed."""
    lag_seconds: float | None
    """Age of the last replayed transaction; 0 if all that was received is replayed."""
    conflicting: bool = False
    """A query on the standby delays the replay."""


REPLAY = """
SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') AS receiving,
       pg_is_wal_replay_paused() AS paused,
       pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint AS lag_bytes,
       CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS lag_seconds,
       EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup'
               AND (wait_event_type IN ('Lock', 'BufferPin') OR wait_event LIKE 'RecoveryConflict%%')) AS conflicting
"""


@dataclass(frozen=True, slots=True)
class Replication:
    """Replication, as this server sees it."""

    standby: bool
    standbys: tuple[Standby, ...]
    slots: tuple[Slot, ...]
    replay: Replay | None
    """On a standby."""


@dataclass(frozen=True, slots=True)
class Database:
    """The size of a database."""

    name: str
    size: int


SIZES = """
SELECT datname::text AS name, pg_database_size(oid) AS size FROM pg_database
WHERE datallowconn ORDER BY pg_database_size(oid) DESC, datname
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The content of the data folder, in bytes."""

    databases: tuple[Database, ...]
    wal: int
    """Size of the WAL files."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Prepared transactions. They hold locks and belong to no session."""

    count: int
    oldest: float
    """Age of the oldest transaction in seconds."""
    xid_age: int
    """Transactions since the oldest row that is not frozen; PostgreSQL stops writing before 2 billion."""


PREPARED = """
SELECT (SELECT count(*) FROM pg_prepared_xacts)::int AS count,
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(prepared)), 0)::float8
        FROM pg_prepared_xacts) AS oldest,
       (SELECT max(age(datfrozenxid)) FROM pg_database)::bigint AS xid_age
"""
