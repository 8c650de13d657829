"""Direct access to the database, for commands that change something while the service runs, or without it.

A command writes one short transaction with the code of the service's own writer, :mod:`remediator.storage.transaction`:
the same savepoints, audit chain, retries and notifications. A running service notices it within one second. A stop
applies from its commit, because every intent reads the stops in its own transaction.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy
import sqlalchemy.exc

from remediator.config import Config, redactor_for
from remediator.errors import ConfigurationError, StoreUnavailable
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import read
from remediator.runtime.store_access import own_database, store_url
from remediator.storage import Tx
from remediator.storage.direct_access import DirectAccess
from remediator.storage.migrate import require_current
from remediator.storage.transaction import BeginFailed, Job, run_group, to_store_error
from remediator.storage.url import open_engine

T = TypeVar("T")


def terminal_user() -> str:
    """Return the user of this terminal, as the audit log names people: ``user:ann@host``.

    The name comes from the user ID of the process, never from a variable such as ``LOGNAME``, which every user can set.
    With sudo, root acts for another user: ``user:root(ann)@host``. Only root can set ``SUDO_UID`` to another ID.
    """
    uid = os.getuid()
    name, behind = _user_name(uid), os.environ.get("SUDO_UID", "")
    if uid == 0 and behind.isascii() and behind.isdigit() and len(behind) < 11 and int(behind) != 0:
        name = f"{name}({_user_name(int(behind))})"
    return f"user:{name}@{socket.gethostname()}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def write(config: Config, work: Callable[[Tx], T]) -> T:
    """Run one piece of work in a transaction, with its audit entries, commit it, and return its result.

    Raises:
        StoreUnavailable: there is no database, or it cannot be written now; nothing was changed.
        StoreCorrupt: the schema has another version.
    """
    if config.store == "sqlite":
        path = own_database(config.state)
        if not path.is_file():
            raise StoreUnavailable(f"{path}: no such database; start the service once, or run 'remediator db migrate'")
        url = sqlalchemy.make_url(f"sqlite:///{path}")
    else:
        url = store_url(config)
    try:  # the secrets of channels are redacted
        models = Registry.load(config.plugins).models(config)
    except ConfigurationError:  # a stop must not depend on a valid plugin
        models = Registry().models(config)
    try:
        redactor = redactor_for(config, read(config.inventory, Inventory), *models)
    except ConfigurationError:  # stops must work without a valid inventory
        redactor = redactor_for(config, *models)
    engine = open_engine(url)
    job = Job(work)
    try:
        dialect = DirectAccess(engine, redactor)
        with dialect.connect() as connection:
            require_current(connection)
            run_group(dialect, connection, [job])
    except (BeginFailed, sqlalchemy.exc.SQLAlchemyError) as error:
        raise to_store_error(error.__cause__ if isinstance(error, BeginFailed) else error) from None
    finally:
        engine.dispose()
    if job.error is not None:
        raise to_store_error(job.error)
    result: T = job.result
    return result
