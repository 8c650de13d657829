"""The standbys of PostgreSQL: whether a failover can lose commits."""

from __future__ import annotations

from sqlalchemy import Connection

from remediator.storage.replacement import Incarnation

_STATE = """
SELECT (SELECT count(*) FROM pg_stat_replication) AS standbys,
       current_setting('synchronous_standby_names') AS synchronous, current_setting('synchronous_commit') AS commits
"""
_SERVER = """
SELECT system_identifier::text || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
FROM pg_control_system()
"""


def incarnation(connection: Connection) -> Incarnation:
    """Return which server this is."""
    return Incarnation(server(connection), is_synchronous(connection))


def server(connection: Connection) -> str:
    """Return the system identifier and the timeline of the server. A promotion begins a new timeline."""
    return str(connection.exec_driver_sql(_SERVER).scalar_one())


def is_synchronous(connection: Connection) -> bool:
    """Return whether commits wait for a standby. A cluster manager fails over to such a standby only."""
    found = connection.exec_driver_sql(_STATE).one()
    return bool(found.synchronous) and found.commits != "local"


def failover_risk(connection: Connection) -> str:
    """Return why a failover of the server could lose acknowledged commits; an empty text without a reason.

    A disconnected standby is not visible.
    """
    found = connection.exec_driver_sql(_STATE).one()
    if not found.standbys:
        return ""
    if not found.synchronous:
        return (
            f"PostgreSQL has {found.standbys} standby connection(s) and no synchronous standby: a failover can lose "
            "acknowledged alerts and intents; set synchronous_standby_names (in Patroni: synchronous_mode)"
        )
    if found.commits == "local":
        return (
            "synchronous_commit is 'local', so commits do not wait for the synchronous standby: a failover can lose "
            "acknowledged alerts and intents; set it to 'on'"
        )
    return ""
