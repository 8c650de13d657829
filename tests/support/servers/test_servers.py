"""The servers for tests behave as documented. Tests that use them depend on this."""

from __future__ import annotations

import socket
from pathlib import Path

import psycopg
import pytest

from tests.support.servers import Server, accepts, require, until
from tests.support.servers.alertmanager import Alertmanager
from tests.support.servers.postgres import MakePostgres, Postgres
from tests.support.servers.redis import Redis

SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])


def test_each_test_has_a_database_of_its_own(postgres: Postgres, postgres_url: str) -> None:
    """The database of a test is empty and can be written."""
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert found == (0,)
        connection.execute("CREATE TABLE left_over (x int)")
    other = postgres.database()
    with psycopg.connect(postgres.url(other, tcp=True)) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT * FROM left_over")
    postgres.drop(other)


def test_a_killed_postgres_keeps_what_was_committed(make_postgres: MakePostgres) -> None:
    """A durable server has all commits after kill -9 and a new start."""
    server = make_postgres(durable=True)
    assert server.sql("SHOW fsync") == "on"
    server.sql("CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)")
    server.kill()
    assert not accepts(("127.0.0.1", server.port))
    server.start()
    assert server.sql("SELECT x FROM kept") == "7"
    server.stop()
    server.start()


def test_a_paused_postgres_answers_no_client(make_postgres: MakePostgres) -> None:
    """A paused server answers no client, on existing connections either. After it resumes, all get answers."""
    server = make_postgres()
    connection = psycopg.pq.PGconn.connect(server.url("postgres", tcp=True).encode())
    server.pause()
    connection.send_query(b"SELECT 1")
    with socket.create_connection(("127.0.0.1", server.port)) as stranger:
        stranger.settimeout(0.3)
        stranger.sendall(SSL_REQUEST)
        with pytest.raises(TimeoutError):
            stranger.recv(1)
    connection.consume_input()
    assert connection.is_busy()
    server.resume()
    assert connection.get_result() is not None
    connection.finish()


def test_a_server_that_ends_while_it_starts_shows_its_log(tmp_path: Path) -> None:
    """The failure of the test shows the log of the server."""
    server = Alertmanager(tmp_path / "broken")
    server.configuration = "nonsense: true\n"
    with pytest.raises(AssertionError, match="nonsense"):
        server.start()


def test_a_restart_uses_the_same_port(redis_server: Redis) -> None:
    """A server keeps its port, so clients need no change."""
    port, pid = redis_server.port, redis_server.pid
    redis_server.kill()
    redis_server.start()
    assert (redis_server.port, redis_server.ask("PING")) == (port, "PONG")
    assert redis_server.pid != pid


def test_nothing_is_left_running(tmp_path: Path) -> None:
    """After a stop, the process is gone, also of a paused server."""

    class Sleeper(Server):
        def command(self) -> list[str]:
            return [require("sleep"), "1000"]

        def ready(self) -> bool:
            return True

    server = Sleeper(tmp_path / "sleeper")
    server.start()
    pid = server.pid
    server.pause()
    server.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_an_absent_program_skips_here_and_fails_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a program, a test is skipped. With REQUIRE_ALL=1 it fails."""
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        require("no-such-program")
    monkeypatch.setenv("REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        require("no-such-program")


def test_a_wait_that_times_out_names_its_condition() -> None:
    """After the timeout, the error names the condition that did not hold."""
    until(lambda: True, "at once")
    with pytest.raises(AssertionError, match=r"the impossible: not within 0.1 s"):
        until(lambda: False, "the impossible", 0.1)
