"""Real faults of a real Redis, handled by the shipped playbooks in the production engine.

Each test causes a fault, sends the alert, and asserts the cause, the reaction and effects that must not happen: no
restart, no lost key, no changed setting.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis

from tests.support.redis_bench import KEYS, Bench, Untouched, both, causes, refusal, said, started
from tests.support.servers import free_port, until
from tests.support.servers.supervisord import Supervisord

pytestmark = [pytest.mark.process, pytest.mark.long]


def test_a_killed_redis_is_started_once_and_keeps_its_keys(bench: Bench) -> None:
    """A killed Redis is started once, keeps all its keys, and is verified."""
    bench.kill()
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"down"}, "succeeded", 2)
    with bench.client() as client:
        assert client.dbsize() == KEYS


@pytest.mark.parametrize("how", ["supervisorctl stop", "SHUTDOWN"])
def test_stopped_by_an_operator(bench: Bench, how: str) -> None:
    """Redis stays stopped, and a person is asked, because the operator may still work on it."""
    if how == "SHUTDOWN":
        with bench.client() as client:
            client.shutdown()
        until(lambda: bench.control("getProcessInfo")["pid"] == 0, "Redis has ended")
    else:
        bench.control("stopProcess")
    starts = bench.starts
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"stopped"}, "awaiting_approval", starts)


def test_a_hung_redis_is_restarted(bench: Bench) -> None:
    """The cause is a stopped process, not the network, and Redis is restarted."""
    os.kill(int(bench.control("getProcessInfo")["pid"]), signal.SIGSTOP)
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"silent"}, "succeeded", 2)


def test_hung_with_a_full_queue(tmp_path: Path) -> None:
    """With a full accept queue, the cause is still not the network, and a person decides because of the cost."""
    settings = ("appendonly yes", "appendfsync always", 'save ""', "tcp-backlog 1")
    for bench in started(Bench(tmp_path, *settings)):
        os.kill(int(bench.control("getProcessInfo")["pid"]), signal.SIGSTOP)
        with ExitStack() as waiting:

            def is_full(held: ExitStack = waiting, port: int = bench.port) -> bool:
                try:
                    held.enter_context(socket.create_connection(("127.0.0.1", port), 0.5))
                except TimeoutError:
                    return True
                return False

            until(is_full, "the queue is full")
            run = bench.judge()
        assert (causes(run), run["status"], bench.starts) == ({"silent"}, "awaiting_approval", 1)
        assert any("out of reach" in item["summary"] for item in run["evidence"] if item["name"] == "ping")


def test_a_busy_redis_is_waited_for(bench: Bench) -> None:
    """The run waits for the end of a command that blocks Redis, and does not restart Redis."""
    bench.control("stopProcess")
    with bench.configuration.open("a") as file:
        file.write("enable-debug-command local\n")
    bench.control("startProcess")
    before = Untouched(bench)

    def block() -> None:
        with suppress(redis.RedisError), bench.client(60) as client:
            # longer than the diagnosis on a busy machine, shorter than the diagnosis and the wait together
            client.execute_command("DEBUG", "SLEEP", "30")

    blocked = threading.Thread(target=block)
    blocked.start()
    until(lambda: not answers(bench), "Redis is blocked")
    run = bench.judge()
    blocked.join()
    assert (causes(run), run["status"]) == ({"slow-command"}, "succeeded")
    assert any("sleeping" in item["summary"] for item in run["evidence"] if item["name"] == "process")
    before.check()


def answers(bench: Bench) -> bool:
    """Return whether Redis answers within half a second."""
    try:
        with bench.client(0.5) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def test_a_rotated_password_is_named_as_the_cause(bench: Bench) -> None:
    """The cause is the rejected password; a restart would undo the rotation."""
    before = Untouched(bench)
    secret = bench.folder / "password"
    secret.write_text("of-yesterday")
    bench.remediator.stop()
    bench.binding["password_file"] = str(secret)
    with bench.client() as client:
        client.config_set("requirepass", "of-today")
    bench.password = "of-today"
    bench.start_remediator()
    run = bench.judge()
    assert (causes(run), run["status"]) == ({"wrong-password"}, "escalated")
    before.check()


@both("bench")
def test_no_password_given(bench: Bench) -> None:
    """Redis answers NOAUTH, and the cause is the missing password in the inventory."""
    before = Untouched(bench)
    with bench.client() as client:
        client.config_set("requirepass", "of-today")
    bench.password = "of-today"
    run = bench.judge()
    assert (causes(run), run["status"]) == ({"no-password"}, "escalated")
    before.check()


def test_our_password_file_is_gone(bench: Bench) -> None:
    """A missing password file of remediator proves nothing about Redis, which is not changed."""
    before = Untouched(bench)
    bench.remediator.stop()
    bench.binding["password_file"] = str(bench.folder / "gone")
    bench.start_remediator()
    run = bench.judge()
    assert (causes(run), run["status"]) == ({"our-credentials"}, "escalated")
    before.check()


@both("bench")
def test_too_many_clients(bench: Bench) -> None:
    """The diagnosis has the addresses of the clients from the kernel, because Redis rejects remediator too."""
    before = Untouched(bench)
    with bench.client() as client:
        client.config_set("maxclients", 20)

    def leak() -> bool:
        bench.calls.enter_context(socket.create_connection(("127.0.0.1", bench.port)))
        return "max number of clients" in refusal(bench) and "max number of clients" in refusal(bench)

    until(leak, "Redis rejects clients")
    run = bench.judge("RedisConnectionErrors")
    assert (causes(run), run["status"]) == ({"too-many-clients"}, "escalated")
    assert re.search(r"\d+ from 127.0.0.1 \(idle \d+ to \d+ s\)", said(run, "clients"))
    bench.calls.close()
    until(lambda: refusal(bench) == "", "there is room again")
    before.check()


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False


def test_idle_connections_near_the_limit_are_closed(bench: Bench) -> None:
    """While Redis still accepts remediator, at most 20 connections that have been idle for long are closed, and nothing
    else."""
    bench.remediator.stop()
    bench.change("redis-connection-errors", "clients", idle_over="2s")
    bench.change("redis-connection-errors", "close-idle", idle_over="2s")
    bench.start_remediator()
    before = Untouched(bench)
    with bench.client() as client:
        client.config_set("maxclients", 30)
        idle = [bench.calls.enter_context(socket.create_connection(("127.0.0.1", bench.port))) for _ in range(27)]
        until(lambda: sum(int(each["idle"]) > 3 for each in client.client_list()) >= 27, "they are idle")
        run = bench.judge("RedisConnectionErrors")
        assert (causes(run), run["status"]) == ({"no-room"}, "succeeded"), run["detail"]
        assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("redis.client_kill", "ok")]
        assert 0 < sum(map(_is_closed, idle)) <= 20
    before.check()


@both("bench")
def test_out_of_memory(bench: Bench) -> None:
    """With OOM and noeviction, the limit, the policy and the biggest keys are reported; nothing is evicted or
    restarted."""
    with bench.client() as client:
        client.set("big:list", "x" * 300_000)
        client.config_set("maxmemory", "1mb")
    before = Untouched(bench)
    run = bench.judge("RedisConnectionErrors")
    assert (causes(run), run["status"]) == ({"out-of-memory"}, "escalated")
    told = said(run, "itself")
    assert "policy noeviction" in told and "big:list" in told
    before.check()


def test_read_only_replica(bench: Bench) -> None:
    """A read-only replica answers PING, so only a write shows the fault; the master is named."""
    other = Supervisord(bench.folder / "other")
    master = free_port()
    other.program("master", f"redis-server --port {master} --save ''", "autostart=true")
    other.start()
    bench.calls.callback(other.stop)
    with bench.client() as client:
        client.replicaof("127.0.0.1", master)
    starts = bench.starts
    run = bench.judge("RedisConnectionErrors")
    assert (causes(run), run["status"], bench.starts) == ({"read-only"}, "escalated", starts)
    assert f"replica of 127.0.0.1:{master}" in said(run, "itself")


@pytest.mark.parametrize("alert", ["RedisDown", "RedisDiskFull"])
def test_disk_full_by_others(folder: Path, alert: str) -> None:
    """MISCONF: Redis is not restarted, because only its memory has the newest data."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    made = Bench(folder, "appendonly no", 'save "3600 1"')
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(made.data)], check=True)
    made.calls.callback(subprocess.run, ["umount", "-l", str(made.data)], check=False)
    for bench in started(made):
        with bench.client() as client:
            client.mset({f"precious:{number}": os.urandom(500) for number in range(2000)})
            with suppress(OSError):
                (bench.data / "export.csv").write_bytes(b"x" * 4_000_000)
            client.bgsave()
            until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the save failed")
        before = Untouched(bench)
        run = bench.judge(alert)
        assert run["status"] == "escalated"
        expected = {"cannot-persist", "disk-full", "cannot-save"} if alert == "RedisDown" else {"cannot-persist"}
        assert causes(run) - {"other-files"} == expected
        name = "itself" if alert == "RedisDown" else "data"
        assert re.search(r"the last snapshot failed, \d{4} changes are in no snapshot", said(run, name))
        if alert == "RedisDiskFull":
            assert "export.csv" in said(run, "use") and "other-files" in causes(run)
        assert (bench.data / "export.csv").exists()
        before.check()


def corrupt_aof(bench: Bench) -> None:
    """Append garbage to the newest append-only file of a killed Redis."""
    bench.kill()
    newest = sorted(bench.data.glob("appendonlydir/*.incr.aof"))[-1]
    with newest.open("ab") as file:
        file.write(b"this is no command\n")


def corrupt_rdb(bench: Bench) -> None:
    """Flip bytes in the snapshot of a killed Redis."""
    with bench.client() as client:
        client.save()
    bench.kill()
    snapshot = bench.data / "dump.rdb"
    data = bytearray(snapshot.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 8):
        data[at] ^= 0xFF
    snapshot.write_bytes(data)


@both("snapshots")
def test_a_corrupt_snapshot_has_the_cause_corrupt_data(snapshots: Bench) -> None:
    """A corrupt snapshot has the same cause as a corrupt append-only file."""
    judge_corrupt(snapshots, corrupt_rdb)


@both("bench")
def test_corrupt_data_is_named_after_one_failed_start(bench: Bench) -> None:
    """The cause comes from the log of the failed start. Redis is started once, and an old disk error is not the
    cause."""
    judge_corrupt(bench, corrupt_aof)


def judge_corrupt(bench: Bench, make: Callable[[Bench], None]) -> None:
    """Corrupt the data, send the alert, and assert the cause."""
    log = next(bench.supervisord.folder.glob("redis-stdout*"))
    with log.open("a") as file:  # an earlier incident of another process
        file.write("99:M 28 Nov 2020 16:00:00.000 # Write error saving DB on disk: No space left on device\n")
    make(bench)
    starts = bench.starts
    run = bench.judge()
    assert run["status"] == "escalated", (run["detail"], run["steps"])
    assert causes(run) == {"down", "corrupt-data"} and bench.starts == starts + 1
    assert run["steps"][0]["outcome"] == "failed"


def test_a_backup_is_offered_for_corrupt_data(bench: Bench) -> None:
    """After the failed start, a person is asked about the newest complete backup, and sees the loss."""
    with bench.client() as client:
        client.save()
    backups = bench.folder / "backups"
    backups.mkdir()
    shutil.copyfile(bench.data / "dump.rdb", backups / "dump-1.rdb")
    (backups / "dump-2.rdb").write_bytes((bench.data / "dump.rdb").read_bytes()[:-20])  # newer, but incomplete
    corrupt_aof(bench)
    starts = bench.starts
    run = bench.judge()
    assert (run["status"], bench.starts) == ("awaiting_approval", starts + 1)
    assert causes(run) == {"down", "corrupt-data"}
    assert "copy dump-1.rdb" in str(run) and "All data written after" in str(run)
    assert not list(bench.data.glob("before-restore-*"))


@both("bench")
def test_a_bad_configuration_is_named_after_one_failed_start(bench: Bench) -> None:
    """The line and the reason are reported, after at most one failed start."""
    with bench.configuration.open("a") as file:
        file.write("maxmemory-polcy allkeys-lru\n")
    bench.kill()
    run = bench.judge()
    assert run["status"] == "escalated" and "bad-configuration" in causes(run) and bench.starts <= 3
    assert "maxmemory-polcy" in said(run, "logs")


@both("bench")
def test_the_process_that_uses_the_port_is_named_and_not_changed(bench: Bench) -> None:
    """The process that uses the port is named and not changed."""
    bench.kill()
    argv = [sys.executable, "-m", "http.server", str(bench.port), "--bind", "127.0.0.1"]
    other = bench.calls.enter_context(subprocess.Popen(argv))
    bench.calls.callback(other.kill)
    until(lambda: "HTTP" in reply(bench.port), "the other server answers")
    with suppress(Exception):
        bench.control("startProcess")
    run = bench.judge()
    assert run["status"] == "escalated" and causes(run) == {"port-taken"}
    assert f"process {other.pid}" in said(run, "process")
    assert other.poll() is None


def reply(port: int) -> str:
    """Return the beginning of the answer of an HTTP server; empty without an answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return str(connection.recv(100), "ascii", "replace")
    except OSError:
        return ""


def test_out_of_reach_from_here_only(bench: Bench) -> None:
    """Only the connection of remediator is broken; the exporter reaches Redis, so nothing is changed."""
    before = Untouched(bench)
    bench.remediator.stop()
    bench.binding["port"] = free_port()
    bench.start_remediator()
    run = bench.judge()
    assert (causes(run), run["status"]) == ({"out-of-reach"}, "escalated")
    assert any("exporter reaches Redis" in item["summary"] for item in run["evidence"])
    before.check()
