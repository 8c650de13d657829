"""A real failover by Sentinel: the Redis of the stack with two replicas and three Sentinels."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import redis as redis_client
import yaml

from demo.judge.scene import Scene
from demo.stack.programs import find

MASTER = "main"
_DOWN_AFTER = 15_000
"""Milliseconds after which the Sentinels declare the master down: longer than the alert takes to fire and arrive."""


def with_sentinels(scene: Scene) -> None:
    """Add two replicas with an exporter each and three Sentinels, and configure the remediator to ask the Sentinels."""
    folder, password = scene.settings.state / "failover", scene.settings.secret("redis.password")
    folder.mkdir(exist_ok=True)
    master, ports = scene.settings.ports.redis, list(_free_ports(7))
    replicas, exporters, sentinels = ports[:2], ports[2:4], ports[4:]
    with scene.redis() as client:
        client.config_set("masterauth", password)  # the old master needs this when it returns as a replica
    shared = (f"requirepass {password}", f"masterauth {password}", f"replicaof 127.0.0.1 {master}", "appendonly yes")
    for port, exporter in zip(replicas, exporters, strict=True):
        _server(scene, folder / f"replica-{port}", port, *shared)
        address = (f"-redis.addr=redis://127.0.0.1:{port}", f"-redis.password={password}")
        program = find("prometheus-redis-exporter") or "prometheus-redis-exporter"
        scene.process(program, f"-web.listen-address=127.0.0.1:{exporter}", *address, "-connection-timeout=800ms")
    watch = (
        f"sentinel monitor {MASTER} 127.0.0.1 {master} 2",
        f"sentinel auth-pass {MASTER} {password}",
        f"sentinel down-after-milliseconds {MASTER} {_DOWN_AFTER}",
        f"sentinel failover-timeout {MASTER} 10000",
    )
    for port in sentinels:
        _server(scene, folder / f"sentinel-{port}", port, *watch, sentinel=True)
    scene.noted["sentinels"] = sentinels
    scene.wait(lambda: _synchronous(scene), "two replicas")
    scene.wait(lambda: all(_knows(port) for port in sentinels), "the Sentinels to know each other and the replicas")
    _scrape(scene, exporters)
    asked = {"master": MASTER, "sentinels": [{"host": "127.0.0.1", "port": port} for port in sentinels]}
    found = {"sentinel": asked, "password_file": "../redis.password"}
    scene.inventory(lambda services: services["redis"].update(redis=found))


def kill_master(scene: Scene) -> None:
    """Kill the master, after both replicas have all its writes."""
    scene.wait(lambda: _synchronous(scene), "two replicas with all writes")
    scene.kill("redis", signal.SIGKILL)


def serves_on_new_master(scene: Scene) -> str | None:
    """Return proof that the Sentinels name another master, which accepts writes and whose keys are counted."""
    port = _master(scene)
    if port in (None, scene.settings.ports.redis):
        return None
    scene.redis_port = port
    with suppress(redis_client.RedisError), scene.redis() as client:
        client.set("judge:failover", "1", ex=10)
        return "the Sentinels name a new master, and it accepted a write"
    return None


def _free_ports(count: int) -> Iterator[int]:
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        held = [holder]
        while len(held) < count:
            another = socket.socket()
            another.bind(("127.0.0.1", 0))
            held.append(another)
        ports = [each.getsockname()[1] for each in held]
        for each in held:
            each.close()
    yield from ports


def _server(scene: Scene, folder: Path, port: int, *lines: str, sentinel: bool = False) -> None:
    folder.mkdir()
    conf = folder / "redis.conf"
    conf.write_text("\n".join((f"port {port}", "bind 127.0.0.1", f'dir "{folder}"', *lines)) + "\n")
    conf.chmod(0o600)  # the file contains the password
    mode = ("--sentinel",) if sentinel else ()
    scene.process(find("redis-server") or "redis-server", str(conf), *mode)


def _synchronous(scene: Scene) -> bool:
    with suppress(redis_client.RedisError), scene.redis() as client:
        return int(client.wait(2, 2000)) == 2
    return False


def _sentinel(port: int) -> redis_client.Redis:
    return redis_client.Redis(port=port, socket_timeout=2, socket_connect_timeout=2)


def _knows(port: int) -> bool:
    with suppress(redis_client.RedisError), _sentinel(port) as client:
        state = client.sentinel_master(MASTER)
        return int(state["num-slaves"]) == 2 and int(state["num-other-sentinels"]) == 2
    return False


def _master(scene: Scene) -> int | None:
    """Return the port of the master that the first Sentinel names, or None if it does not answer."""
    with suppress(redis_client.RedisError), _sentinel(scene.noted["sentinels"][0]) as client:
        address = client.sentinel_get_master_addr_by_name(MASTER)
        return None if address is None else int(address[1])
    return None


def _scrape(scene: Scene, exporters: list[int]) -> None:
    """Make Prometheus scrape the exporters of the replicas too, and wait for the first scrape."""
    path = scene.settings.state / "prometheus/prometheus.yml"
    content = yaml.safe_load(path.read_text())
    job = next(each for each in content["scrape_configs"] if each["job_name"] == "redis-exporter")
    job["static_configs"][0]["targets"] += [f"127.0.0.1:{port}" for port in exporters]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    scene.kill("prometheus", signal.SIGHUP)
    time.sleep(1)  # Prometheus shows the new targets only after the reload
    scene.wait(scene.probe.targets_up, "all targets of Prometheus to be up")
