"""Open the store that the settings name, for the service and for commands."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy
import sqlalchemy.exc
import structlog
from sqlalchemy import Connection

from remediator.audit import Redactor
from remediator.clients.host.disk import opened
from remediator.config import Config, UrlFile, read_secret
from remediator.core.clock import Clock
from remediator.core.local_files import own_file
from remediator.errors import ConfigurationError, Refused, StoreUnavailable, TargetError
from remediator.storage import Store
from remediator.storage.migrate import require_current
from remediator.storage.url import open_engine, parse_postgresql_url

log: Any = structlog.get_logger("remediator")


def open_store(config: Config, clock: Clock, redactor: Redactor) -> Store:
    """Open the store that the settings name.

    Raises:
        StoreError: it cannot be used; the message has the next action.
    """
    if config.store == "sqlite":
        from remediator.storage.sqlite import SqliteStore  # noqa: PLC0415 - load only the store in use

        return SqliteStore(database_file(config), clock, redactor)
    from remediator.storage.postgres import PostgresStore  # noqa: PLC0415

    return PostgresStore(store_url(config), clock, redactor)


_DATABASE = "remediator.db"
_PRIVATE = ("*.db", "*.db-wal", "*.db-shm", "*.key", "*.token")


def make_private(state: Path) -> None:
    """Remove the rights of other users on the files of the state folder, which an older version or a copy may have
    left.

    A group keeps its rights on the folder: in Kubernetes, the group owns the volume. A folder of another user than root
    is reported: its owner can replace the database and the keys.
    """
    if state.lstat().st_uid not in (0, os.geteuid()):
        log.warning("the state folder belongs to another user, who can replace its files", path=str(state))
    for path, unwanted in ((state, 0o007), *((file, 0o077) for pattern in _PRIVATE for file in state.glob(pattern))):
        seen = path.lstat()
        if seen.st_mode & unwanted and (stat.S_ISDIR if path == state else stat.S_ISREG)(seen.st_mode):
            with suppress(PermissionError):  # the file belongs to another user; doctor and lint report this
                path.chmod(stat.S_IMODE(seen.st_mode) & ~unwanted)
                log.warning("other users had rights on the state; they were taken away", path=str(path))


def database_file(config: Config) -> Path:
    """Return the path of the SQLite file; create its folder if it is missing.

    Raises:
        StoreUnavailable: the folder cannot be created.
        ConfigurationError: another user owns the folder or a symbolic link in its path; or as :func:`own_database`.
    """
    try:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)  # other users must not read the database
        with opened(config.state, link=True):
            pass
        make_private(config.state)
    except OSError as error:
        raise StoreUnavailable(
            f"{config.state}: the folder cannot be created: {error.strerror}; correct its permissions or 'state'"
        ) from None
    except (TargetError, Refused) as error:
        raise ConfigurationError(f"state: {error}") from None
    return own_database(config.state)


def own_database(state: Path) -> Path:
    """Return the path of the SQLite file, which may not exist yet.

    Raises:
        ConfigurationError: it, its lock or a file of its log is a link, or belongs to another user.
    """
    for suffix in ("-wal", "-shm", "-journal", ".lock"):
        own_file(state, f"{_DATABASE}{suffix}")
    return own_file(state, _DATABASE)


def store_url(config: Config) -> sqlalchemy.URL:
    """Return the PostgreSQL URL, from the settings or from the file that they name.

    Raises:
        ConfigurationError: the text is not a PostgreSQL URL.
    """
    text = read_secret(config.store.url_file) if isinstance(config.store, UrlFile) else config.store
    return parse_postgresql_url(text)


@contextmanager
def read_only_connection(config: Config) -> Iterator[Connection]:
    """Provide a connection for commands that only read, whether the service runs or not.

    Raises:
        StoreUnavailable: the database does not exist or cannot be read.
    """
    if config.store == "sqlite":
        path = own_database(config.state)
        if not path.is_file():
            raise StoreUnavailable(
                f"{path}: there is no database; start the service once, or check 'state' in the settings"
            )
        url = sqlalchemy.make_url(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true")
    else:
        url = store_url(config)
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            require_current(connection)
            yield connection
    except sqlalchemy.exc.DBAPIError as error:
        raise StoreUnavailable(f"the database cannot be read: {error.orig}") from None
    finally:
        engine.dispose()
