"""The operator's desk: a person's word put into the store by a command, beside a running service or without one.

One short transaction through the same sequencer as the service's own, so that the audit log stays one chain. The
service notices by its next look at the store, within a second; what is forbidden is forbidden at once, because every
intent reads the store in its own transaction.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import Connection

from remediator.audit import Redactor
from remediator.config import Config, UrlFile, read_secret, redactor_for
from remediator.errors import ConfigurationError, StoreUnavailable
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import read
from remediator.storage import Tx
from remediator.storage.audit_writer import append
from remediator.storage.migrate import require_current
from remediator.storage.url import parse_postgresql_url

T = TypeVar("T")


def terminal_user() -> str:
    """Return the user of this terminal, as the audit log names people: ``user:ann@host``."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return f"user:{name}@{socket.gethostname()}"


def write(config: Config, work: Callable[[Tx], T]) -> T:
    """Run one piece of work in a transaction, with its audit entries, and commit it.

    Raises:
        StoreUnavailable: there is no database, or it cannot be written now; nothing was changed.
        StoreCorrupt: its schema is not this version's.
    """
    engine = sqlalchemy.create_engine(_url(config), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            require_current(connection)
            return _again(connection, _redactor(config), work)
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"the database cannot be written: {str(error.orig).strip()}") from None
    finally:
        engine.dispose()


def _url(config: Config) -> sqlalchemy.URL:
    if config.store == "sqlite":
        path = config.state / "remediator.db"
        if not path.is_file():
            raise StoreUnavailable(
                f"{path}: there is no database; start the service once, or check 'state' in the settings"
            )
        return sqlalchemy.make_url(f"sqlite:///{path}")
    return parse_postgresql_url(
        read_secret(config.store.url_file) if isinstance(config.store, UrlFile) else config.store
    )


def _redactor(config: Config) -> Redactor:
    try:
        return redactor_for(config, read(config.inventory, Inventory))
    except ConfigurationError:
        return redactor_for(config)  # stopping must not depend on an inventory that can be read


def _again(connection: Connection, redactor: Redactor, work: Callable[[Tx], T]) -> T:
    """As the service's own gate does: a deadlock's victim begins again, a few times."""
    for _ in range(5):
        try:
            return _transact(connection, redactor, work)
        except sqlalchemy.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in ("40P01", "40001"):
                raise
    return _transact(connection, redactor, work)


def _transact(connection: Connection, redactor: Redactor, work: Callable[[Tx], T]) -> T:
    postgres = connection.dialect.name == "postgresql"
    if not postgres:
        connection.exec_driver_sql("PRAGMA busy_timeout=5000")
        connection.exec_driver_sql("PRAGMA synchronous=FULL")
    connection.exec_driver_sql("BEGIN" if postgres else "BEGIN IMMEDIATE")
    try:
        tx = Tx(connection, _now(connection), redactor=redactor)
        result = work(tx)
        if tx.drafts:
            append(connection, tx.drafts, tx.now, redactor)
        for topic in sorted(tx.topics) if postgres else ():
            connection.exec_driver_sql("SELECT pg_notify('remediator', %s)", (topic,))
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")
    return result


def _now(connection: Connection) -> datetime:
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    found: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return found.astimezone(UTC)
