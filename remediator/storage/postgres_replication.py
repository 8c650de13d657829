"""What PostgreSQL tells about its standbys: whether a failover can lose commits."""

from __future__ import annotations

from sqlalchemy import Connection

_STATE = """
SELECT (SELECT count(*) FROM pg_stat_replication) AS standbys,
       current_setting('synchronous_standby_names') AS synchronous, current_setting('synchronous_commit') AS commits
"""


def failover_risk(connection: Connection) -> str:
    """Return why a failover of the server could lose acknowledged commits; an empty text if it tells no reason.

    A standby that is not connected now is not seen.
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
