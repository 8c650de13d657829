"""Real faults around Redis: certificates, protected mode, Sentinel, replicas, scripts, evictions, disks and Valkey."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.support.fake_servers import Authority
from tests.support.redis_bench import KEYS, Bench, Exporter, Untouched, causes, said, started
from tests.support.servers import free_port, until
from tests.support.servers.redis import MakeRedis, Sentinel
from tests.support.servers.redis import Redis as Server
from tests.support.servers.supervisord import Supervisord

pytestmark = [pytest.mark.process, pytest.mark.long]

CGROUP = Path("/sys/fs/cgroup/pids") if Path("/sys/fs/cgroup/pids").is_dir() else Path("/sys/fs/cgroup")


@pytest.fixture
def valkey(folder: Path) -> Iterator[Bench]:
    """Start a bench with Valkey instead of Redis."""
    yield from started(Bench(folder, server="valkey-server"))


def test_a_killed_valkey(valkey: Bench) -> None:
    """A killed Valkey is started once, like Redis."""
    valkey.kill()
    run = valkey.judge()
    assert (causes(run), run["status"], valkey.starts) == ({"down"}, "succeeded", 2)
    with valkey.client() as client:
        assert client.dbsize() == KEYS


def test_a_certificate_that_is_not_trusted(folder: Path) -> None:
    """The TLS handshake fails, so the state of Redis is unknown, and Redis is not restarted."""
    (folder / "ours").mkdir(parents=True)
    (folder / "theirs").mkdir()
    theirs, port = Authority(folder / "theirs"), free_port()
    certificate, key = theirs.issue("server", "127.0.0.1")
    settings = (f"tls-port {port}", f"tls-cert-file {certificate}", f"tls-key-file {key}")
    made = Bench(folder, *settings, f"tls-ca-cert-file {theirs.ca_file}", "tls-auth-clients no")
    made.binding = {"host": "127.0.0.1", "port": port, "tls": {"ca_file": str(Authority(folder / "ours").ca_file)}}
    for bench in started(made):
        before = Untouched(bench)
        run = bench.judge()
        assert (causes(run), run["status"]) == ({"not-trusted"}, "escalated")
        assert "certificate verify failed" in said(run, "ping")
        before.check()


def test_protected_mode_is_named_as_the_cause(folder: Path) -> None:
    """The cause is protected mode: without a password, Redis refuses other hosts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("needs an address that is not a loopback address")
        address = probe.getsockname()[0]
    made = Bench(folder, "bind 0.0.0.0", "protected-mode yes")
    made.binding = {"host": address, "port": made.port}
    for bench in started(made):
        before = Untouched(bench)
        run = bench.judge()
        assert (causes(run), run["status"]) == ({"protected-mode"}, "escalated")
        before.check()


def test_a_fork_that_fails(folder: Path) -> None:
    """Redis reports MISCONF because of a process limit: the cause is named, and Redis is not restarted."""
    if os.geteuid() != 0 or not os.access(CGROUP, os.W_OK) or CGROUP.name != "pids":
        pytest.skip("needs root and a pids cgroup that can be written")
    for bench in started(Bench(folder, "appendonly no", 'save "3600 1"')):
        with bench.client() as client:
            client.set("unsaved", "1")
            group = CGROUP / f"test-{bench.port}"
            group.mkdir()
            try:
                (group / "cgroup.procs").write_text(str(bench.control("getProcessInfo")["pid"]))
                (group / "pids.max").write_text((group / "pids.current").read_text())
                with suppress(redis.RedisError):
                    client.bgsave()
                until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the fork failed")
                before = Untouched(bench)
                run = bench.judge()
                before.check()
            finally:
                for pid in (group / "cgroup.procs").read_text().split():
                    (CGROUP / "cgroup.procs").write_text(pid)
                group.rmdir()
        assert (causes(run), run["status"]) == ({"cannot-fork", "cannot-persist", "cannot-save"}, "escalated")


def test_a_script_that_does_not_end(bench: Bench) -> None:
    """Redis answers BUSY: the script is named, and Redis is not restarted."""
    before = Untouched(bench)
    with bench.client() as client:
        client.config_set("busy-reply-threshold", 100)

    def block() -> None:
        with suppress(redis.RedisError), bench.client(60) as client:
            client.eval("while true do end", 0)

    blocked = threading.Thread(target=block)
    blocked.start()
    try:
        until(lambda: "BUSY" in refusal(bench), "Redis is busy")
        run = bench.judge()
    finally:
        with bench.client() as client:
            client.script_kill()
        blocked.join()
    assert (causes(run), run["status"]) == ({"script"}, "escalated")
    before.check()


def refusal(bench: Bench) -> str:
    """Return the error with which Redis refuses a PING; empty if it answers."""
    try:
        with bench.client() as client:
            client.ping()
    except redis.RedisError as error:
        return str(error)
    return ""


def test_a_replica_without_its_master(bench: Bench) -> None:
    """MASTERDOWN: the cause is the master, so the replica is not changed."""
    with bench.client() as client:
        client.config_set("replica-serve-stale-data", "no")
        client.replicaof("127.0.0.1", free_port())
    starts = bench.starts
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"master-link-down", "read-only"}, "escalated", starts)


def test_evictions_are_reported_and_nothing_is_flushed(bench: Bench) -> None:
    """The rate of evictions and the hit ratio are reported; nothing is flushed."""
    with bench.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "2mb")
        before = Untouched(bench)
        stop = threading.Event()

        def write() -> None:
            with bench.client() as writer:
                number = 0
                while not stop.is_set():
                    number += 1
                    writer.set(f"page:{number}", "x" * 4000)
                    writer.get(f"page:{number - 900}")

        writing = threading.Thread(target=write)
        writing.start()
        until(lambda: client.info("stats")["evicted_keys"] > 100, "keys are evicted")
        try:
            run = bench.judge("CacheHitRatioLow")
        finally:
            stop.set()
            writing.join()
        assert run["status"] == "escalated" and "evictions" in causes(run)
        assert "keys are evicted per second, hit ratio" in said(run, "itself")
        assert client.dbsize() > 0 and bench.starts == 1
        assert client.config_get("maxmemory")["maxmemory"] == str(2 * 2**20), before


def test_the_append_only_file_fills_the_disk(folder: Path) -> None:
    """The append-only file is rewritten; no key is lost, and persistence stays on."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    made = Bench(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(made.data)], check=True)
    made.calls.callback(subprocess.run, ["umount", "-l", str(made.data)], check=False)
    for bench in started(made):
        with bench.client() as client:
            while percent(bench) < 90:
                client.set("counter", os.urandom(2**17))
            client.delete("counter")
        before = Untouched(bench)
        run = bench.judge("RedisDiskFull")
        assert (causes(run), run["status"]) == ({"append-only-file"}, "succeeded")
        assert [step["action"] for step in run["steps"]] == ["redis.bgrewriteaof"]
        assert percent(bench) < 50
        before.check()


def percent(bench: Bench) -> float:
    """Return the usage of the disk of Redis in percent."""
    found = os.statvfs(bench.data)
    return 100 * (1 - found.f_bavail / found.f_blocks)


def test_the_disk_of_another_host(bench: Bench) -> None:
    """The alert is about the disk of another host: nothing is changed, and both hosts are named."""
    before = Untouched(bench)
    run = bench.judge("RedisDiskFull", instance="10.20.30.40:9100")
    assert (run["status"], run["steps"]) == ("escalated", [])
    assert "10.20.30.40:9100" in str(run)
    before.check()


def test_a_failover_of_sentinel(folder: Path, make_redis: MakeRedis) -> None:
    """The old master is not restarted; the run waits, and is verified on the new master."""
    made = Bench(folder)
    sentinels: list[Server] = []
    with ExitStack() as stack:
        made.binding = {"sentinel": {"master": "main", "sentinels": []}}
        replica = make_redis(f"replicaof 127.0.0.1 {made.port}")
        other = Exporter(folder / "exporter-of-replica", replica.port)
        other.start()
        stack.callback(other.stop)
        made.targets.append(other.port)
        master = Server(folder / "master-address", made.port)
        made.start_redis()
        sentinels += [make_redis(kind=Sentinel, master=master) for _ in range(3)]
        addresses = [{"host": "127.0.0.1", "port": each.port} for each in sentinels]
        made.binding["sentinel"]["sentinels"] = addresses
        for bench in started(made):
            until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "the replica follows")
            for each in sentinels:
                until(partial(knows, each, replica), "the Sentinels know the replica")
            with bench.client() as client:
                assert client.wait(1, 5000) == 1
            os.kill(int(bench.control("getProcessInfo")["pid"]), signal.SIGKILL)
            run = bench.judge()
            assert bench.starts == 1
            if run["reason"] != "not_needed":  # the Sentinels may be faster than the first check
                assert (causes(run), run["status"]) == ({"failover"}, "succeeded"), run
                assert f"127.0.0.1:{replica.port} serves" in said(run, "wait")
            assert replica.ask("DBSIZE") == str(KEYS)


def knows(sentinel: Server, replica: Server) -> bool:
    """Return whether a Sentinel knows a replica."""
    return str(replica.port) in sentinel.ask("SENTINEL", "REPLICAS", "main")


def test_being_shut_down(bench: Bench) -> None:
    """A shutdown that waits for a replica is not mistaken for a hung Redis."""
    other = Supervisord(bench.folder / "other")
    other.program("replica", f"redis-server --port {free_port()} --replicaof 127.0.0.1 {bench.port}", "autostart=true")
    other.start()
    bench.calls.callback(other.stop)
    with bench.client() as client:
        until(lambda: bool(client.info("replication")["connected_slaves"]), "a replica")
        until(lambda: client.info("replication")["slave0"]["state"] == "online", "it follows")
        client.config_set("shutdown-timeout", "120")
        stopped = other.children()[0]
        os.kill(stopped, signal.SIGSTOP)
        client.set("not-replicated", "1")
    starts = bench.starts
    os.kill(int(bench.control("getProcessInfo")["pid"]), signal.SIGTERM)
    time.sleep(1)
    run = bench.judge()
    assert (causes(run), run["status"], bench.starts) == ({"shutting-down"}, "escalated", starts)


def test_a_cluster_node_is_not_restarted(folder: Path) -> None:
    """A node of Redis Cluster is not supported, so it is not restarted."""
    for bench in started_without_keys(Bench(folder, "cluster-enabled yes", "appendonly no")):
        run = bench.judge()
        assert (causes(run), run["status"], bench.starts) == ({"wrong-server"}, "escalated", 1)


def started_without_keys(made: Bench) -> Iterator[Bench]:
    """Start a bench whose Redis accepts no keys."""
    try:
        with suppress(redis.RedisError):
            made.start()
        yield made
    finally:
        made.stop()
