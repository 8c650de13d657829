"""PostgreSQL on a unix socket and a TCP port, in a temporary folder of its own."""

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

import pytest

from tests.support.servers import DEADLINE, Server, require, until

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

    def program(self, name: str) -> str:
        """The newest installed of PostgreSQL's own programs of that name."""
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
        """Run a statement as superuser; its rows, one a line, columns with ``|`` between them."""
        place = ("-h", str(self.data), "-p", str(self.port), "-U", "postgres", "-d", database)
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *place, "-c", statement).strip()

    def ready(self) -> bool:
        if not (self.data / f".s.PGSQL.{self.port}").exists():
            return False
        try:
            return self.sql("SELECT 1") == "1"
        except AssertionError:
            return False

    def url(self, database: str, *, tcp: bool = False) -> str:
        """Where a database is, for libpq; over the unix socket unless told otherwise."""
        if tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
        return f"postgresql://postgres@/{database}?host={self.data}&port={self.port}"

    def database(self) -> str:
        """The name of a new and empty database."""
        name = f"test_{next(_names)}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def drop(self, database: str) -> None:
        """Drop a database, throwing out whoever is connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def children(self) -> list[int]:
        """Its background and client processes."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def stop(self) -> None:
        """End it without waiting for its clients, but with a checkpoint."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(DEADLINE)
        self._process = None

    def kill(self) -> None:
        """kill -9 of all its processes, and wait until they are gone."""
        if self._process is None:
            return
        children = self.children() if self._process.poll() is None else []
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in children:
            _send(pid, signal.SIGKILL)
        until(lambda: not any(_alive(pid) for pid in children), "PostgreSQL's processes gone")

    def _signal(self, number: signal.Signals) -> None:
        super()._signal(number)
        if self._process is not None and self._process.poll() is None:
            for pid in self.children():
                _send(pid, number)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _folder() -> Path:
    """Not pytest's: those are closed to the user that PostgreSQL has to run as, and too long for a socket."""
    return Path(tempfile.mkdtemp(prefix="pg-"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server that all tests share; each has its own database in it. Do not stop it."""
    server = Postgres(_folder())
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.folder)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """Where a new and empty database is, for libpq."""
    name = postgres.database()
    yield postgres.url(name)
    postgres.drop(name)


MakePostgres = Callable[..., Postgres]


@pytest.fixture
def make_postgres() -> Iterator[MakePostgres]:
    """Make a server of the test's own, to be killed and paused, with these attributes, and start it."""
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
