"""The dialect of commands that write one transaction beside the service, or without it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import sqlalchemy
from sqlalchemy import Connection

from remediator.audit import Redactor
from remediator.storage import postgres_connection, sqlite_settings
from remediator.storage.postgres import CHANNEL


class DirectAccess:
    """A :class:`~remediator.storage.transaction.Dialect` without the lock and the threads of the service's store.

    Args:
        engine: of :func:`remediator.storage.url.open_engine`.
        redactor: knows the secrets of this installation.
    """

    def __init__(self, engine: sqlalchemy.Engine, redactor: Redactor) -> None:
        self._engine = engine
        self._postgres = engine.dialect.name == "postgresql"
        self.redactor = redactor
        self.placeholder = "%s" if self._postgres else "?"

    def connect(self) -> Connection:
        connection = self._engine.connect()
        if not self._postgres:
            try:
                for statement in sqlite_settings.STATEMENTS:
                    connection.exec_driver_sql(statement)
                sqlite_settings.verify(connection, self._engine.url.database)
            except BaseException:
                connection.close()
                raise
        return connection

    def begin(self, connection: Connection) -> None:
        if self._postgres:
            postgres_connection.begin(connection)
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def now(self, connection: Connection) -> datetime:
        if not self._postgres:
            return datetime.now(UTC)
        now: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return now.astimezone(UTC)

    def version_inside(self, connection: Connection) -> int | None:
        """Return None: the service writes too."""
        return None

    def count_change(self) -> None:
        """Do nothing: nothing is read here."""

    def monotonic(self) -> float:
        return time.monotonic()

    def notify_replicas(self, connection: Connection, topics: set[str]) -> None:
        for topic in sorted(topics) if self._postgres else ():
            connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, topic))
