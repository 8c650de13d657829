"""The store: version, durability, standbys, connection pooler and clock."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import sqlalchemy
from sqlalchemy import Connection

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, warning
from remediator.config import Config
from remediator.core.clock import format_duration
from remediator.core.sizes import format_size
from remediator.errors import RemediatorError
from remediator.runtime.maintenance import REPLICA_TIMEOUT
from remediator.runtime.store_access import read_only_connection, store_url
from remediator.service import MAX_CLOCK_OFFSET
from remediator.storage import postgres_connection
from remediator.storage.grants import FIX, role_power
from remediator.storage.postgres_replication import failover_risk
from remediator.storage.repositories import replicas
from remediator.storage.url import open_engine

_MIN_FREE = 1024**3
_OLDEST_POSTGRESQL = 130000


class StoreCheck(DoctorCheck):
    """Opens the database read-only, as the service does."""

    name = "store"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        for result in await asyncio.to_thread(lambda: list(examine(about.config, about.now))):
            yield result


def examine(config: Config, now: datetime) -> Iterator[Result]:
    """Yield the results for the database and for the replicas that use it."""
    subject = "sqlite" if config.store == "sqlite" else "postgresql"
    if config.store == "sqlite":
        existing = next(path for path in (config.state, *config.state.resolve().parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < _MIN_FREE:
            fix = "free disk space, or move 'state' to a larger disk"
            yield warning(str(config.state), f"{format_size(free)} are free", fix)
        else:
            yield ok(str(config.state), f"{format_size(free)} are free")
    try:
        with read_only_connection(config) as connection:
            if config.store == "sqlite":
                version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
                yield ok(subject, f"SQLite {version}, schema is current; every commit is fsynced")
            else:
                yield from _server(connection)
            alive = replicas.list_alive(connection, now - REPLICA_TIMEOUT)
    except RemediatorError as error:
        yield failed(subject, str(error), "start the service once, or run: remediator db migrate")
        return
    if config.store != "sqlite":
        yield from _pooler(config)
    if alive:
        yield ok("replicas", ", ".join(f"{each.id} ({each.role}, {each.version})" for each in alive))
        for each in alive:
            for what, text in (each.problems or {}).items():
                yield warning(f"replica {each.id}", f"{what}: {text}", "see the log of this replica")
    else:
        text = f"no replica was seen in the last {format_duration(REPLICA_TIMEOUT)}"
        yield failed("replicas", text, "run: remediator serve")


def _server(connection: Connection) -> Iterator[Result]:
    def setting(name: str) -> str:
        return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())

    if int(setting("server_version_num")) < _OLDEST_POSTGRESQL:
        yield failed("postgresql", f"version {setting('server_version')} is too old", "use PostgreSQL 13 or newer")
    else:
        yield ok("postgresql", f"version {setting('server_version')}, schema is current")
    if setting("fsync") != "on":
        yield failed("postgresql", "fsync is off: a power failure loses acknowledged alerts", "set fsync = on")
    if setting("transaction_read_only") == "on":
        yield failed("postgresql", "the server is a read-only standby", "configure the URL of the primary")
    power = role_power(connection)
    if power.problem:
        yield warning("role", power.problem, FIX)
    else:
        yield ok("role", f"{power.role} may append to the audit log and not change it")
    if risk := failover_risk(connection):
        what, _, fix = risk.partition("; ")
        yield warning("standbys", what, fix)
    elif standbys := setting("synchronous_standby_names"):
        yield ok("standbys", f"synchronous standbys: {standbys}")
    else:
        yield ok("standbys", "no standby is connected")
    offset = abs(datetime.now(UTC) - connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one())
    if offset > MAX_CLOCK_OFFSET / 2:
        yield failed(
            "clock", f"differs from the database by {offset.total_seconds():.1f} s", "run an NTP client on both"
        )
    else:
        yield ok("clock", f"differs from the database by {offset.total_seconds():.1f} s")


def _pooler(config: Config) -> Iterator[Result]:
    """Yield whether a pooler is in front of the server, and in which mode."""
    engine = open_engine(store_url(config))
    try:
        with engine.connect() as connection, engine.connect() as other:
            if not postgres_connection.is_pooled(connection):
                yield ok("pooler", "no pooler is in front of PostgreSQL")
            elif postgres_connection.keeps_session(connection, other):
                yield ok("pooler", "a pooler in session mode is in front of PostgreSQL")
            else:
                yield ok("pooler", "a pooler in transaction mode is in front of PostgreSQL; the replicas poll")
    except sqlalchemy.exc.DBAPIError as error:
        yield failed("pooler", f"the connection failed: {error.orig}", "check the server and its connection limit")
    finally:
        engine.dispose()
