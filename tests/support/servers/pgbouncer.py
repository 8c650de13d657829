"""PgBouncer in front of a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from tests.support.servers import Server, require
from tests.support.servers.postgres import Postgres

_CONF = """\
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = {round_robin}
query_wait_timeout = 5
"""


class PgBouncer(Server):
    """A pooler in one of its modes: session, transaction or statement."""

    def __init__(self, folder: Path, server: Postgres, mode: str, size: int = 20, *, round_robin: bool = False) -> None:
        super().__init__(folder)
        self.server, self.mode, self.size, self.round_robin = server, mode, size, round_robin

    def command(self) -> list[str]:
        for folder in (self.folder, *self.folder.parents):
            if folder.stat().st_mode & 0o5 != 0o5:
                folder.chmod(folder.stat().st_mode | 0o5)  # it refuses to run as root
        (self.folder / "users").write_text('"postgres" ""\n"app" ""\n')
        conf = self.folder / "pgbouncer.ini"
        conf.write_text(
            _CONF.format(
                host=self.server.data,
                server_port=self.server.port,
                port=self.port,
                folder=self.folder,
                mode=self.mode,
                size=self.size,
                round_robin=int(self.round_robin),
            )
        )
        return [require("pgbouncer"), str(conf)]

    def user(self) -> str | None:
        return self.server.user()

    def url(self, database: str) -> str:
        """Return the URL of a database through this pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"
