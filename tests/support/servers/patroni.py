"""Two PostgreSQL servers under Patroni, with etcd, and HAProxy in front of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from demo import proc
from tests.support.servers import Server, free_port, require, until
from tests.support.servers.postgres import Postgres

_HAPROXY = """\
global
  maxconn 200
defaults
  mode tcp
  timeout connect 2s
  timeout client 5m
  timeout server 5m
listen postgres
  bind 127.0.0.1:{port}
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


class Etcd(Server):
    """The store in which Patroni records the primary."""

    def command(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        argv = [require("etcd"), "--data-dir", str(self.folder / "data"), "--enable-v2=true", "--unsafe-no-fsync"]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        return [
            *argv,
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            f"default={peer}",
        ]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "ETCD_UNSUPPORTED_ARCH": ""}


class Member(Server):
    """One server with its Patroni."""

    def __init__(self, folder: Path, name: str, etcd: Etcd, synchronous: bool) -> None:
        super().__init__(folder)
        self.name, self.etcd, self.synchronous = name, etcd, synchronous
        self.rest = free_port()
        self.folder.chmod(0o755)
        if self.user():
            shutil.chown(self.folder, "postgres", "postgres")

    def user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None

    def environment(self) -> Mapping[str, str]:
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "LC_ALL": "C"}

    def command(self) -> list[str]:
        binaries = str(Path(Postgres(self.folder / "unused").program("postgres")).resolve().parent)
        login = {"username": "postgres", "password": "secret"}
        settings: dict[str, Any] = {
            "scope": "test",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            "etcd3": {"host": f"127.0.0.1:{self.etcd.port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "maximum_lag_on_failover": 16 * 1024 * 1024,
                    "synchronous_mode": self.synchronous,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 100, "wal_log_hints": "on"},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.folder / "data"),
                "bin_dir": binaries,
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    "superuser": login,
                    "replication": {**login, "username": "replicator"},
                    "rewind": login,
                },
                "parameters": {"unix_socket_directories": str(self.folder), "shared_buffers": "16MB"},
                "pg_hba": [
                    "local all all trust",
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
            },
        }
        conf = self.folder / "patroni.yaml"
        conf.write_text(yaml.safe_dump(settings))
        conf.chmod(0o644)
        return [require("patroni"), str(conf)]

    def status(self) -> dict[str, Any]:
        """Return what Patroni reports about this server, empty if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/patroni", timeout=2) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            return dict(json.load(error))
        except (OSError, ValueError):
            return {}

    def ready(self) -> bool:
        return self.status().get("state") == "running"

    def is_primary(self) -> bool:
        """Return whether Patroni reports this server as primary and it accepts writes."""
        return self.status().get("role") == "master" and self.sql("SELECT pg_is_in_recovery()") == "f"

    def sql(self, statement: str) -> str:
        """Run a statement on this server. Return its first column, one row a line, empty if it does not answer."""
        return psql(self.port, statement, "postgres")

    def processes(self) -> list[int]:
        """Return the processes of the server and of Patroni with all their children."""
        found = [self.pid] if self._process is not None else []
        with suppress(OSError, ValueError):
            found.append(int((self.folder / "data/postmaster.pid").read_text().splitlines()[0]))
        return [*found, *(child for parent in found for child in proc.children(parent))]

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all processes of this server."""
        _signal(self.processes(), number)

    def continue_server(self) -> None:
        """Resume a frozen server, but not Patroni: the server continues with the statements of its clients."""
        postmaster = int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
        _signal([postmaster, *proc.children(postmaster)], signal.SIGCONT)

    def stop_receiving(self) -> Callable[[], None]:
        """Freeze the process of a standby that receives the log, so that it lags. Return a function that ends it."""
        postmaster = int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
        (receiver,) = (pid for pid in proc.children(postmaster) if "walreceiver" in proc.command_line(pid))
        os.kill(receiver, signal.SIGSTOP)

        def end() -> None:
            for number in (signal.SIGTERM, signal.SIGCONT):  # ends before it reads newer data
                os.kill(receiver, number)

        return end

    def kill(self) -> None:
        """Kill all processes of the host with kill -9."""
        if self._process is None:
            return
        self.signal_all(signal.SIGKILL)
        super().kill()


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class HaProxy(Server):
    """HAProxy, which sends connections to the primary, and ends them when the primary changes."""

    def __init__(self, folder: Path, members: list[Member]) -> None:
        super().__init__(folder)
        self.members = members

    def command(self) -> list[str]:
        servers = "\n".join(f"  server {one.name} 127.0.0.1:{one.port} check port {one.rest}" for one in self.members)
        conf = self.folder / "haproxy.cfg"
        conf.write_text(_HAPROXY.format(port=self.port, servers=servers))
        return [require("haproxy"), "-db", "-f", str(conf)]


def psql(port: int, statement: str, database: str) -> str:
    """Run a statement. Return its first column, one row a line, empty if the server does not answer."""
    argv = [require("psql"), "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-d", database]
    done = subprocess.run([*argv, "-c", statement], capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip()


class Cluster:
    """etcd, two members and HAProxy."""

    def __init__(self, *, synchronous: bool) -> None:
        for program in ("patroni", "etcd", "haproxy"):
            require(program)
        self.folder = Path(tempfile.mkdtemp(prefix="patroni-"))
        self.folder.chmod(0o755)
        self.etcd = Etcd(self.folder / "etcd")
        self.members = [Member(self.folder / name, name, self.etcd, synchronous) for name in ("one", "two")]
        self.haproxy = HaProxy(self.folder / "haproxy", self.members)
        self.synchronous = synchronous

    def start(self) -> None:
        """Start everything. The standby is connected, and synchronous if configured."""
        self.etcd.start()
        self.members[0].start()
        until(lambda: self.members[0].status().get("role") == "master", "one is the primary")
        self.members[1].start()
        self.wait_for_standby()
        self.haproxy.start()
        # before its first checks, HAProxy sends every second connection to the standby
        until(self.leads_to_the_primary, "HAProxy sends connections to the primary only")

    def leads_to_the_primary(self) -> bool:
        """Return whether HAProxy sends connections to the primary only."""
        return all(self.sql("SELECT pg_is_in_recovery()") == "f" for _ in range(4))

    def wait_for_standby(self) -> None:
        """Wait until the standby streams."""
        wanted = "sync" if self.synchronous else "async"
        until(
            lambda: self.sql("SELECT sync_state FROM pg_stat_replication", direct=True) == wanted, "a standby streams"
        )

    def wait_for_replay(self) -> None:
        """Wait until the standby has replayed everything."""
        same = "SELECT pg_current_wal_lsn() = replay_lsn FROM pg_stat_replication"
        until(lambda: self.sql(same, direct=True) == "t", "the standby has everything")

    def has_failed_over(self, before: Member) -> bool:
        """Return whether another member is the primary and its promotion is complete."""
        return any(one is not before and one.is_primary() for one in self.members)

    def stop(self) -> None:
        """Stop and remove everything."""
        self.haproxy.kill()
        for member in self.members:
            member.signal_all(signal.SIGCONT)
            member.kill()
        self.etcd.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def primary(self) -> Member:
        """Return the member that is the primary now."""
        return next(one for one in self.members if one.status().get("role") == "master")

    @property
    def standby(self) -> Member:
        """Return the other member."""
        primary = self.primary
        return next(one for one in self.members if one is not primary)

    def sql(self, statement: str, database: str = "postgres", *, direct: bool = False) -> str:
        """Run a statement on the primary. Return its first column, one row a line, empty if it does not answer."""
        return psql(self.primary.port if direct else self.haproxy.port, statement, database)

    def url(self, database: str, *, through: str) -> str:
        """Return the URL of a database through ``haproxy``, or with both ``hosts``."""
        if through == "haproxy":
            return f"postgresql://postgres@127.0.0.1:{self.haproxy.port}/{database}"
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.members)
        return f"postgresql://postgres@{hosts}/{database}"

    def switch_over(self) -> None:
        """Make the standby the primary, as an operator would."""
        body = json.dumps({"leader": self.primary.name, "candidate": self.standby.name}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.primary.rest}/switchover", body)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
