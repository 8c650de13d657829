"""PostgreSQL on a Unix socket and a TCP port, in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from demo import proc
from remediator.storage.url import parse_postgresql_url
from tests.support.servers import DEADLINE, Server, require, until
from tests.support.stores import migrate_database

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "log_min_messages": "warning",
    "autovacuum": "off",
}
_names = count()


class Postgres(Server):
    """One PostgreSQL server. Before the start change ``durable`` (fsync) or ``settings`` (postgresql.conf)."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.folder.chmod(0o755)
        self.data = folder / "data"
        self.durable = False
        self.settings: dict[str, str] = {}
        self._migrated = ""

    def program(self, name: str) -> str:
        """Return the path of a PostgreSQL program of this name, in the newest installed version."""
        installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
        return require(name, *map(str, reversed(installed)))

    def user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        settings = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.data)}
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings |= self.settings
        flags = [f"--{name}={value}" for name, value in settings.items()]
        return [self.program("postgres"), "-D", str(self.data), *flags]

    def launch(self) -> None:
        if not self.data.exists():
            self._create()
        super().launch()

    def _create(self) -> None:
        self.data.mkdir(mode=0o700)
        if self.user():
            shutil.chown(self.data, "postgres", "postgres")
        how = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self._run("initdb", "-D", str(self.data), *how)

    def _run(self, program: str, *arguments: str) -> str:
        argv = [self.program(program), *arguments]
        who = self.user()
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, user=who, group=who, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as superuser. Return one row a line, with ``|`` between columns."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            result = connection.pgconn.exec_(statement.encode())
            assert result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK), result.error_message.decode()
            columns = range(result.nfields)
            rows = ([result.get_value(row, column) or b"" for column in columns] for row in range(result.ntuples))
            return b"\n".join(b"|".join(row) for row in rows).decode().strip()

    def ready(self) -> bool:
        if not (self.data / f".s.PGSQL.{self.port}").exists():
            return False
        try:
            return self.sql("SELECT 1") == "1"
        except psycopg.OperationalError:
            return False

    def url(self, database: str, *, tcp: bool = False) -> str:
        """Return the URL of a database for libpq, over the Unix socket by default."""
        if tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        return f"postgresql://postgres@/{database}?host={self.data}&port={self.port}"

    def database(self, template: str = "template1") -> str:
        """Create a database, empty or from a template, and return its name."""
        name = f"test_{next(_names)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")  # three times as fast as the default
        return name

    def migrated_database(self) -> str:
        """Create a database with the schema of this version, and return its name."""
        if not self._migrated:
            self._migrated = self.database()
            migrate_database(parse_postgresql_url(self.url(self._migrated)))
        return self.database(self._migrated)

    def drop(self, database: str) -> None:
        """Drop a database, and disconnect its clients."""
        self.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def children(self) -> list[int]:
        """Return the background and client processes of the server."""
        return proc.children(self.pid)

    def stop(self) -> None:
        """Stop the server without waiting for its clients, but with a checkpoint."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(DEADLINE)
        self._process = None

    def kill(self) -> None:
        """Kill all processes of the server with kill -9, and wait until they are gone."""
        if self._process is None:
            return
        children = self.children() if self._process.poll() is None else []
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in children:
            _send(pid, signal.SIGKILL)
        until(lambda: not any(proc.alive(pid) for pid in children), "PostgreSQL's processes gone")

    def _signal(self, number: signal.Signals) -> None:
        super()._signal(number)
        if self._process is not None and self._process.poll() is None:
            for pid in self.children():
                _send(pid, number)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _folder() -> Path:
    """Return a temporary folder. Those of pytest are closed to the user of PostgreSQL and too long for a socket."""
    return Path(tempfile.mkdtemp(prefix="pg-"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a running server that all tests share, each with its own database. Do not stop it."""
    server = Postgres(_folder())
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """Return the URL of a new and empty database for libpq."""
    name = postgres.database()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def migrated_url(postgres: Postgres) -> Iterator[str]:
    """Return the URL of a new database with the schema of this version, for libpq."""
    name = postgres.migrated_database()
    yield postgres.url(name)
    postgres.drop(name)


MakePostgres = Callable[..., Postgres]


@pytest.fixture
def make_postgres() -> Iterator[MakePostgres]:
    """Return a function that starts a server with these attributes, which the test may kill and pause."""
    made: list[Postgres] = []

    def make(**attributes: Any) -> Postgres:
        server = Postgres(_folder())
        made.append(server)
        for name, value in attributes.items():
            setattr(server, name, value)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()
        shutil.rmtree(server.folder)
