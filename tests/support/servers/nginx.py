"""nginx in front of a server of the test, with the included file that the remediator may write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import DEADLINE, Server, require, until

_CONF = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  {temporary}
  limit_req_zone $binary_remote_addr zone=tight:1m rate=1r/s;
  limit_req_status 429;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      include {folder}/rules/*.conf;
      root {folder}/www;
    }}
  }}
}}
"""


class Nginx(Server):
    """nginx that serves a file."""

    def command(self) -> list[str]:
        (self.folder / "rules").mkdir(exist_ok=True)
        (self.folder / "www").mkdir(exist_ok=True)
        (self.folder / "www/index.html").write_text("hello")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        self.config.write_text(_CONF.format(folder=self.folder, port=self.port, temporary=temporary))
        for folder in (self.folder, *self.folder.parents):
            if folder.stat().st_mode & 0o5 != 0o5:
                folder.chmod(folder.stat().st_mode | 0o5)  # if the master of nginx is root, its workers run as nobody
        return [require("nginx"), "-p", str(self.folder), "-c", str(self.config), "-e", "stderr"]

    def start(self) -> None:
        """Start nginx, and wait for its pid file, which it writes after its first answers."""
        super().start()
        pid = self.folder / "nginx.pid"
        until(lambda: pid.exists() and pid.read_text().strip().isdigit(), "its pid")

    @property
    def config(self) -> Path:
        return self.folder / "nginx.conf"

    @property
    def rules(self) -> Path:
        """Return the file that the remediator may write."""
        return self.folder / "rules/remediator.conf"

    def statuses(self, count: int) -> list[int]:
        """Send this number of requests at once, and return their statuses, 0 for a connection that a reload ended."""
        with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
            return [self._status(client) for _ in range(count)]

    def _status(self, client: httpx.Client) -> int:
        try:
            return client.get(f"http://127.0.0.1:{self.port}/").status_code
        except httpx.TransportError:
            return 0


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """Return a running nginx."""
    server = Nginx(tmp_path / "nginx")
    server.start()
    yield server
    server.stop()
