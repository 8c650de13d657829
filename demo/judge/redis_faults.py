"""Real faults of Redis."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import redis as redis_client

from demo.faults import disk_aof, disk_backups, redis_hung, redis_killed
from demo.judge.scene import Scene
from demo.stack import volume

_BLOCKED = 120
_EVICTING = {"maxmemory-policy": "allkeys-lru"}
_BIG_KEYS, _BIG_VALUE = 2000, 2048
_DELAY_OF_A_KEY = 13_000
"""Microseconds per key. The big keys and those of the judgement take about 40 s to load."""


def serves(scene: Scene) -> str | None:
    """Return proof that Redis accepts writes and the app is ready."""
    return scene.probe.redis_serves()


def killed(scene: Scene) -> None:
    """Kill Redis, a second after the last write, so that its append-only file is complete."""
    time.sleep(1.5)
    redis_killed.inject(scene.probe)


def hung(scene: Scene) -> None:
    """Stop Redis, so that it accepts connections and does not answer."""
    time.sleep(1.5)
    redis_hung.inject(scene.probe)


def slow_loading(scene: Scene) -> None:
    """Make the next load of the data set take 40 s."""
    # While it loads, Redis answers only between two intervals of this many bytes. With a delay for each key and small
    # values, that would take seconds; a real load reads the default of 2 MB in milliseconds.
    scene.redis_conf(f"key-load-delay {_DELAY_OF_A_KEY}", "loading-process-events-interval-bytes 1024")
    with scene.redis() as client:
        client.mset({f"big:{number}": os.urandom(_BIG_VALUE) for number in range(_BIG_KEYS)})
        client.execute_command("BGREWRITEAOF")
        scene.wait(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the rewritten append-only file")


def restarted_outside(scene: Scene) -> None:
    """Restart Redis as a person does, with a slow load."""
    scene.supervisor.call("stopProcess", "redis")
    scene.supervisor.call("startProcess", "redis", False)
    scene.fire("RedisDown", service="redis")


def rotate_password(scene: Scene) -> None:
    """Change the password on the server only."""
    with scene.redis() as client:
        client.config_set("requirepass", "rotated-on-the-server")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    scene.password = "rotated-on-the-server"


def wrong_password_of_app(scene: Scene) -> None:
    """Give only the app a wrong password."""
    scene.variable("SHOP_REDIS_PASSWORD", "of-the-app-only")


def our_password_gone(scene: Scene) -> None:
    """Move the remediator's password file away, because root can read a file of any mode."""
    path = scene.settings.state / "redis.password"
    scene.password = path.read_text()
    path.rename(path.with_suffix(".moved"))
    scene.cleanup.callback(path.with_suffix(".moved").rename, path)
    scene.fire("RedisDown", service="redis")


def leak_clients(scene: Scene) -> None:
    """Use all connections of Redis for idle clients."""
    with scene.redis() as client:
        client.config_set("maxclients", 50)
    for _ in range(60):
        connection = socket.create_connection(("127.0.0.1", scene.settings.ports.redis))
        scene.cleanup.callback(connection.close)
    time.sleep(0.5)
    with suppress(redis_client.RedisError), scene.redis(seconds=1) as client:
        client.ping()


def without_append_only_file(scene: Scene) -> None:
    """Make snapshots the only persistence."""
    with scene.redis() as client:
        client.config_set("appendonly", "no")
        client.save()


def disk_filled_by_others(scene: Scene) -> None:
    """Fill the disk of Redis with files of another program, until its snapshot fails.

    Prometheus does not scrape the disk before that, so the diagnosis is about the complete fault and not about its
    beginning.
    """
    scene.kill("prometheus", signal.SIGSTOP)
    try:
        other_files(scene, percent=99.9)
        with scene.redis() as client:
            client.set("judge:unsaved", os.urandom(volume.MEBIBYTE))
            with suppress(redis_client.RedisError):
                client.bgsave()
            scene.wait(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the failed snapshot")
    finally:
        scene.kill("prometheus", signal.SIGCONT)


def other_files(scene: Scene, percent: float = 95) -> None:
    """Fill the disk of Redis with files of another program."""
    folder = volume.folder(scene.settings) / "exports"
    folder.mkdir(exist_ok=True)
    for number in range(200):
        if disk_backups.percent(scene.probe) >= percent:
            break
        with suppress(OSError), (folder / f"export-{number:03}.csv").open("wb") as file:
            file.write(os.urandom(volume.MEBIBYTE))
            file.flush()
            os.fsync(file.fileno())


def others_files_gone(scene: Scene) -> str | None:
    """Return a sentence if files of another program were removed."""
    left = list((volume.folder(scene.settings) / "exports").glob("*.csv"))
    return None if left else "the files of another program were removed"


def unsaved_lost(scene: Scene) -> str | None:
    """Return a sentence if the value that was never saved is lost."""
    with scene.redis() as client:
        return None if client.exists("judge:unsaved") else "the value that was never saved is lost"


def fork_fails(scene: Scene) -> None:
    """Move Redis into a cgroup that allows no further process, and start a save."""
    group = pids_controller() / "remediator-judge"
    group.mkdir()
    pid = scene.probe.pid("redis")

    def leave() -> None:
        for each in group.joinpath("cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(each)
        group.rmdir()

    scene.cleanup.callback(leave)
    (group / "cgroup.procs").write_text(str(pid))
    current = int((group / "pids.current").read_text())
    (group / "pids.max").write_text(str(current))
    with scene.redis() as client:
        with suppress(redis_client.RedisError):
            client.bgsave()
        scene.wait(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the failed fork")
    scene.fire("RedisDown", service="redis")


def pids_controller() -> Path:
    """Return the folder of the pids controller in either version of cgroups."""
    first = Path("/sys/fs/cgroup/pids")
    return first if first.is_dir() else Path("/sys/fs/cgroup")


def needs_pids_controller(_: Scene) -> str | None:
    """Return what is missing for a limit of processes."""
    folder = pids_controller()
    usable = os.access(folder, os.W_OK) and ((folder / "pids.max").exists() or folder.name == "pids")
    return None if usable and os.geteuid() == 0 else "root and a pids cgroup that can be written"


def out_of_memory(scene: Scene) -> None:
    """Make Redis reach its memory limit with no key to evict."""
    with scene.redis() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.set("judge:big", b"x" * volume.MEBIBYTE)
        client.config_set("maxmemory", "1mb")


def replica_of_nobody(scene: Scene) -> None:
    """Make Redis a replica of an address where nothing listens."""
    with scene.redis() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")


def corrupt_append_only_file(scene: Scene) -> None:
    """Damage the end of the append-only file and kill Redis."""
    time.sleep(1.5)
    last = max(
        (volume.folder(scene.settings) / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime
    )
    with last.open("ab") as file:
        file.write(b"\r\nnot a command at all\r\n" * 20)
    scene.kill("redis", signal.SIGKILL)


def corrupt_snapshot(scene: Scene) -> None:
    """Damage the snapshot and kill Redis."""
    path = volume.folder(scene.settings) / "dump.rdb"
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 64):
        content[at] ^= 0xFF
    scene.kill("redis", signal.SIGKILL)
    path.write_bytes(content)


def snapshots_only(scene: Scene) -> None:
    """Make snapshots the only persistence, also after the next start."""
    without_append_only_file(scene)
    conf = scene.settings.state / "redis/redis.conf"
    conf.write_text(conf.read_text().replace("appendonly yes", "appendonly no"))
    shutil.rmtree(volume.folder(scene.settings) / "appendonlydir", ignore_errors=True)


def bad_configuration(scene: Scene) -> None:
    """Misspell a setting and kill Redis, so that it cannot start."""
    time.sleep(1.5)
    scene.redis_conf("maxmemory-polcy allkeys-lru")
    scene.kill("redis", signal.SIGKILL)


def port_taken(scene: Scene) -> None:
    """Make another program take the port of Redis when Redis ends."""
    time.sleep(1.5)
    waiting = scene.listener(scene.settings.ports.redis)
    scene.noted["other"] = waiting
    scene.kill("redis", signal.SIGKILL)


def unreachable_from_here(scene: Scene) -> None:
    """Give only the remediator an address of Redis where nothing listens. App and exporter have the right one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scene.inventory(lambda services: services["redis"]["redis"].update(port=port))
    scene.fire("RedisDown", service="redis")


def tls_with_other_authority(scene: Scene) -> None:
    """Make Redis serve TLS with a certificate of an authority that the remediator does not know."""
    folder, port = scene.settings.state / "tls", scene.settings.ports.redis + 1000
    folder.mkdir(exist_ok=True)
    for name in ("ours", "theirs"):
        subprocess.run(
            ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")),
            check=True, capture_output=True,
        )  # fmt: skip
    with scene.redis() as client:
        client.config_set("tls-cert-file", str(folder / "theirs.crt"))
        client.config_set("tls-key-file", str(folder / "theirs.key"))
        client.config_set("tls-ca-cert-file", str(folder / "theirs.crt"))
        client.config_set("tls-auth-clients", "no")
        client.config_set("tls-port", port)
    tls = {"ca_file": str(folder / "ours.crt")}
    scene.inventory(lambda services: services["redis"]["redis"].update(port=port, tls=tls))
    scene.fire("RedisDown", service="redis")


def old_backups(scene: Scene) -> None:
    """Fill the disk of Redis with its old backups."""
    disk_backups.inject(scene.probe)


def append_only_file(scene: Scene) -> None:
    """Fill the disk of Redis with its append-only file."""
    disk_aof.inject(scene.probe)


def needs_small_disk(scene: Scene) -> str | None:
    """Return what is missing for a full disk."""
    return disk_backups.needs(scene.probe)


def newest_backup_gone(scene: Scene) -> str | None:
    """Return a sentence if fewer than two backups are left."""
    left = len(list((volume.folder(scene.settings) / "backups").glob("*.rdb")))
    return None if left >= 2 else f"{left} backups are left"


def disk_of_other_host(scene: Scene) -> None:
    """Send the alert of another host, whose disk is full."""
    scene.fire("RedisDiskFull", service="redis", instance="10.20.30.40:9100", mountpoint="/var/lib/redis")


def allow_debug_commands(scene: Scene) -> None:
    """Allow DEBUG SLEEP, a command that is slow for a known time."""
    scene.redis_conf("enable-debug-command yes")
    scene.restart("redis")
    scene.wait(scene.probe.redis_serves, "Redis")


def slow_command(scene: Scene) -> None:
    """Run a command that blocks Redis for two minutes, longer than the remedy waits for its end."""

    def block() -> None:
        with suppress(redis_client.RedisError, OSError), scene.redis(seconds=130) as client:
            client.execute_command("DEBUG", "SLEEP", str(_BLOCKED))

    threading.Thread(target=block, daemon=True).start()


def evictions(scene: Scene) -> None:
    """Make Redis evict keys all the time."""
    with scene.redis() as client:
        for name, value in _EVICTING.items():
            client.config_set(name, value)
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 500_000)
    code = (
        "import os,redis,sys\nc=redis.Redis(port=int(sys.argv[1]),password=sys.argv[2])\nn=0\n"
        "while True: n+=1; c.set(f'evict:{n}', os.urandom(2000)); __import__('time').sleep(.002)"
    )
    scene.process(sys.executable, "-c", code, str(scene.settings.ports.redis), scene.settings.secret("redis.password"))
    scene.wait(lambda: _evicted(scene) > 100, "evictions", 150)
    scene.fire("CacheHitRatioLow", service="app")


def _evicted(scene: Scene) -> int:
    with scene.redis() as client:
        return int(client.info("stats")["evicted_keys"])


def flushed(scene: Scene) -> str | None:
    """Return a sentence if all keys were removed or the eviction policy was changed."""
    with scene.redis() as client:
        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        if removed := used & {"flushall", "flushdb"}:
            return f"keys were removed by {', '.join(sorted(removed))}"
        return None if client.config_get("maxmemory-policy") == _EVICTING else "the policy was changed"
