"""The client of Redis, against real Redis servers in good and bad states."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.clients.redis.client import READABLE, WRITABLE, Redis
from remediator.clients.redis.connection import (
    RedisBadAnswer,
    RedisEndpoint,
    RedisRefused,
    RedisState,
    RedisTimedOut,
    RedisUnreachable,
)
from remediator.clients.redis.models import Info, shown
from remediator.errors import InputError, TargetError
from tests.support.fake_servers import Authority, listener
from tests.support.servers import free_port, until
from tests.support.servers.redis import MakeRedis
from tests.support.servers.redis import Redis as Server


def client_of(server: Server, **settings: Any) -> Redis:
    """Return a client with the server's password and a short timeout."""
    if server.password is not None and "password_file" not in settings:
        (server.folder / "secret").write_text(server.password + "\n")
        settings["password_file"] = server.folder / "secret"
    return Redis(RedisEndpoint.model_validate({"port": server.port, "timeout": "500ms", **settings}))


async def test_a_healthy_redis_has_version_and_role(redis_server: Server) -> None:
    """A healthy Redis has state, version, role and the duration of a PING."""
    health = await client_of(redis_server).health()
    assert health.ok and health.state is RedisState.SERVING
    assert health.role == "master" and health.version[0].isdigit()
    assert health.latency is not None and health.latency > timedelta(0)
    assert await client_of(redis_server).ping() > timedelta(0)


async def test_a_unix_socket_is_accepted(redis_server: Server) -> None:
    """The client connects to a Unix socket in place of host and port."""
    assert (await client_of(redis_server, port=1, socket=redis_server.socket).health()).ok


async def test_tls_with_a_client_certificate(make_redis: MakeRedis, tmp_path: Path) -> None:
    """With the right CA and our certificate the client connects. Without them nothing is sent."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "127.0.0.1")
    mine, my_key = authority.issue("remediator")
    port = free_port()
    make_redis(
        f"tls-port {port}",
        f"tls-cert-file {certificate}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {authority.ca_file}",
    )
    tls = {"ca_file": authority.ca_file, "cert_file": mine, "key_file": my_key}

    async def state(**tls: Any) -> RedisState:
        endpoint = RedisEndpoint.model_validate({"port": port, "tls": tls})
        return (await Redis(endpoint).health()).state

    assert await state(**tls) is RedisState.SERVING
    assert await state(insecure_skip_verify=True, cert_file=mine, key_file=my_key) is RedisState.SERVING
    assert await state(cert_file=mine, key_file=my_key) is RedisState.UNTRUSTED
    assert await state(ca_file=authority.ca_file) in (RedisState.UNTRUSTED, RedisState.UNREACHABLE)
    assert await state(ca_file=tmp_path / "missing") is RedisState.UNASKED
    (tmp_path / "no certificate").write_text("x")
    assert await state(ca_file=tmp_path / "no certificate") is RedisState.UNASKED


def filled(server: Server, keys: int) -> None:
    server.ask("EVAL", f"for i=1,{keys} do redis.call('SET', 'key:'..i, i) end", "0")


@pytest.mark.promise(7)
class TestStates:
    """Each kind of failure has its own state."""

    async def test_a_killed_server_has_the_state_down(self, redis_server: Server) -> None:
        """After kill -9, the connection is refused and the state is DOWN."""
        client = client_of(redis_server)
        redis_server.kill()
        assert (await client.health()).state is RedisState.DOWN
        with pytest.raises(RedisUnreachable):
            await client.bgsave()

    async def test_socket_that_is_gone(self, tmp_path: Path) -> None:
        """A missing socket means DOWN, because no process listens."""
        assert (await Redis(RedisEndpoint(socket=tmp_path / "none")).health()).state is RedisState.DOWN

    async def test_down_at_every_address(self) -> None:
        """If no process listens on any address of the name, the state is DOWN."""
        assert (await Redis(RedisEndpoint(host="localhost", port=free_port())).health()).state is RedisState.DOWN

    async def test_out_of_reach(self) -> None:
        """An unknown name or a host that drops connections does not prove that Redis is down."""
        assert (await Redis(RedisEndpoint(host="256.0.0.1")).health()).state is RedisState.UNREACHABLE
        with socket.socket() as full, socket.socket() as first, socket.socket() as second:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for each in (first, second):
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            endpoint = RedisEndpoint(port=full.getsockname()[1], timeout=timedelta(milliseconds=200))
            assert (await Redis(endpoint).health()).state is RedisState.UNREACHABLE

    async def test_without_its_password_file_the_client_asks_nothing(
        self, redis_server: Server, tmp_path: Path
    ) -> None:
        """If our password file is missing, the state is UNASKED and says nothing about Redis."""
        client = client_of(redis_server, password_file=tmp_path / "none")
        assert (await client.health()).state is RedisState.UNASKED

    async def test_a_stopped_server_has_the_state_silent(self, redis_server: Server) -> None:
        """After SIGSTOP, the kernel accepts connections but nothing answers: SILENT, and no command was sent."""
        client = client_of(redis_server)
        redis_server.pause()
        assert (await client.health()).state is RedisState.SILENT
        with pytest.raises(RedisUnreachable):
            await client.bgsave()
        redis_server.resume()
        assert (await client.health()).ok

    async def test_a_server_blocked_by_a_command_has_the_state_silent(self, make_redis: MakeRedis) -> None:
        """During a slow command, which delays all clients, the state is SILENT."""
        server = make_redis("enable-debug-command local")
        argv = ["redis-cli", "-p", str(server.port), "DEBUG", "SLEEP", "0.8"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL):
            until(lambda: _silent(server.port), "Redis blocked")
            assert (await client_of(server, timeout="200ms").health()).state is RedisState.SILENT

    @pytest.mark.parametrize("password", [None, "opensesame"])
    async def test_a_loading_server_has_the_state_loading(
        self, make_redis: MakeRedis, tmp_path: Path, password: str | None
    ) -> None:
        """While Redis loads its file, the state is LOADING with the progress, with and without a password."""
        server = make_redis(password=password)
        settings: dict[str, Any] = {}
        if password is not None:
            settings["password_file"] = tmp_path / "secret"
            settings["password_file"].write_text(password)
        filled(server, 3000)
        server.ask("SAVE")
        server.kill()
        with (server.folder / "redis.conf").open("a") as file:
            file.write("key-load-delay 1000\nloading-process-events-interval-bytes 1024\n")
        server.start()
        health = await client_of(server, **settings).health()
        assert health.state is RedisState.LOADING and "% loaded" in health.detail

    @pytest.mark.parametrize(("given", "state"), [(None, RedisState.NO_PASSWORD), ("guess", RedisState.WRONG_PASSWORD)])
    async def test_missing_and_wrong_passwords_have_their_states(
        self, redis_server: Server, tmp_path: Path, given: str | None, state: RedisState
    ) -> None:
        """A missing password and a wrong password have different states, and neither means that Redis is down."""
        redis_server.password, settings = None, {}
        if given:
            (tmp_path / "given").write_text(given)
            settings = {"password_file": tmp_path / "given"}
        health = await client_of(redis_server, **settings).health()
        assert health.state is state
        assert "opensesame" not in health.detail and "guess" not in health.detail

    async def test_an_unneeded_password(self, make_redis: MakeRedis, tmp_path: Path) -> None:
        """If Redis has lost its password, the client reports the wrong configuration and does not continue."""
        (tmp_path / "secret").write_text("opensesame")
        server = make_redis()
        assert (await client_of(server, password_file=tmp_path / "secret").health()).state is RedisState.WRONG_PASSWORD

    async def test_an_acl_user_can_do_only_what_it_may(self, make_redis: MakeRedis, tmp_path: Path) -> None:
        """An ACL user can do only what its permissions allow."""
        server = make_redis("user watcher on >opensesame +ping +info")
        (tmp_path / "secret").write_text("opensesame")
        client = client_of(server, username="watcher", password_file=tmp_path / "secret")
        assert (await client.health()).ok
        assert await client.info("server")
        with pytest.raises(RedisRefused) as refused:
            await client.config_set("maxmemory", "1mb")
        assert refused.value.state is RedisState.NO_PERMISSION

    async def test_read_only_replica_and_lost_master(self, make_redis: MakeRedis) -> None:
        """A replica answers PING but refuses the write test. A replica that must not serve stale data reports this."""
        master = make_redis()
        replica = make_redis(f"replicaof 127.0.0.1 {master.port}", "replica-serve-stale-data no")
        until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "replica in sync")
        client = client_of(replica)
        await _refused_write(client, RedisState.READ_ONLY)
        role = await client.role()
        assert (role.name, role.master, role.link) == ("slave", ("127.0.0.1", master.port), "connected")
        until(lambda: "state=online" in master.ask("INFO", "replication"), "the master counts it")
        assert (await client_of(master).role()).replicas == 1
        master.kill()
        until(lambda: "master_link_status:down" in replica.ask("INFO", "replication"), "link down")
        with pytest.raises(RedisRefused) as refused:
            await client.big_keys()
        assert refused.value.state is RedisState.MASTER_DOWN

    async def test_a_full_server_has_the_state_out_of_memory(self, make_redis: MakeRedis) -> None:
        """If maxmemory is reached and no key can be evicted, the state is OUT_OF_MEMORY."""
        server = make_redis("maxmemory 100kb", "maxmemory-policy noeviction")
        assert (await client_of(server).health()).ok
        await _refused_write(client_of(server), RedisState.OUT_OF_MEMORY)
        assert server.ask("DBSIZE").strip() == "0", "the refused write left a key"

    async def test_snapshots_that_fail(self, make_redis: MakeRedis) -> None:
        """If the disk refuses snapshots, Redis refuses writes, and the state is CANNOT_PERSIST."""
        server = make_redis("save 3600 1000000")
        (server.folder / "dump.rdb" / "in the way").mkdir(parents=True)
        server.ask("BGSAVE")
        until(lambda: "rdb_last_bgsave_status:err" in server.ask("INFO", "persistence"), "failed snapshot")
        await _refused_write(client_of(server), RedisState.CANNOT_PERSIST)
        assert server.ask("DBSIZE").strip() == "0", "the refused write left a key"

    async def test_a_script_that_does_not_end(self, make_redis: MakeRedis) -> None:
        """While a script blocks all other clients, the state is BUSY."""
        server = make_redis("busy-reply-threshold 50")
        argv = ["redis-cli", "-p", str(server.port), "EVAL", "while true do end", "0"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            until(lambda: "BUSY" in server.ask("GET", "x"), "busy")
            assert (await client_of(server).health()).state is RedisState.BUSY
            server.ask("SCRIPT", "KILL")

    async def test_too_few_replicas(self, make_redis: MakeRedis) -> None:
        """If too few replicas are connected, Redis refuses writes, and the state is TOO_FEW_REPLICAS."""
        server = make_redis("min-replicas-to-write 1")
        await _refused_write(client_of(server), RedisState.TOO_FEW_REPLICAS)
        assert server.ask("DBSIZE").strip() == "0", "the refused write left a key"

    async def test_too_many_clients(self, make_redis: MakeRedis) -> None:
        """If maxclients is reached, the state is TOO_MANY_CLIENTS and not DOWN."""
        server = make_redis("maxclients 1")
        with socket.create_connection(("127.0.0.1", server.port)) as taken:
            taken.sendall(b"PING\r\n")
            assert taken.recv(10) == b"+PONG\r\n"
            assert (await client_of(server).health()).state is RedisState.TOO_MANY_CLIENTS

    async def test_a_cluster_node_is_refused(self, make_redis: MakeRedis) -> None:
        """The client refuses every call to a node of Redis Cluster and names the cluster."""
        server = make_redis("cluster-enabled yes", f"cluster-port {free_port()}")  # the default is too high
        with pytest.raises(RedisRefused, match="Redis Cluster, which is not supported") as refused:
            await client_of(server).ping()
        assert refused.value.state is RedisState.CLUSTER

    @pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH\r\n", b"*-7\r\n", b"$x\r\n", b":1\r\n", b"*1\r\n+a\r\n"])
    async def test_another_protocol_is_confused(self, greeting: bytes) -> None:
        """Another protocol, or invalid answers of Redis, give the state CONFUSED."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(greeting * 3)
            await writer.drain()
            await reader.read()

        async with listener(serve) as port:
            endpoint = RedisEndpoint(port=port, timeout=timedelta(seconds=1))
            assert (await Redis(endpoint).health()).state is RedisState.CONFUSED


def _silent(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port)) as probe:
        probe.settimeout(0.05)
        probe.sendall(b"PING\r\n")
        try:
            return probe.recv(10) == b""
        except TimeoutError:
            return True


async def _refused_write(client: Redis, state: RedisState) -> None:
    with pytest.raises(RedisRefused) as refused:
        await client.write_test("t")
    assert refused.value.state is state


@pytest.mark.promise(7)
async def test_a_write_test_writes_reads_and_leaves_nothing(redis_server: Server) -> None:
    """The write test uses its own key, never an existing one, reads it back, and deletes it."""
    client = client_of(redis_server)
    assert await client.write_test("run-1") > timedelta(0)
    assert redis_server.ask("DBSIZE") == "0"
    redis_server.ask("SET", "remediator:write-test:run-1", "mine")
    with pytest.raises(RedisBadAnswer, match="already"):
        await client.write_test("run-1")
    assert redis_server.ask("GET", "remediator:write-test:run-1") == "mine"


async def test_info_is_read_by_name_and_type(redis_server: Server) -> None:
    """INFO has sections, numbers and flags. A missing field or one of another type is a BadAnswer."""
    info = await client_of(redis_server).info("persistence", "memory", "server")
    assert info.flag("loading") is False
    assert info.integer("used_memory") > 0
    assert info.number("mem_fragmentation_ratio") > 0
    assert info.text("rdb_last_bgsave_status") == "ok"
    for broken in (
        lambda: info.text("nonsense"),
        lambda: info.integer("redis_version"),
        lambda: Info().flag("loading"),
    ):
        with pytest.raises(RedisBadAnswer):
            broken()


async def test_config_is_changed_with_its_old_value_kept(redis_server: Server) -> None:
    """The result has the old and the new value. A rewrite saves the new value in the file."""
    client = client_of(redis_server)
    change = await client.config_set("maxmemory-policy", "allkeys-lru")
    assert (change.old, change.new) == ("noeviction", "allkeys-lru")
    assert await client.config_get("maxmemory-policy") == "allkeys-lru"
    assert "allkeys-lru" not in (redis_server.folder / "redis.conf").read_text()
    await client.config_rewrite()
    assert "allkeys-lru" in (redis_server.folder / "redis.conf").read_text()
    with pytest.raises(RedisRefused):
        await client.config_set("maxmemory-policy", "whatever")


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "name", ["dir", "dbfilename", "requirepass", "replicaof", "MAXMEMORY", "logfile", "bind", "*", ""]
)
async def test_config_set_of_anything_else_is_not_even_sent(name: str) -> None:
    """The client never sets paths, passwords or topology. No server runs in this test, so nothing could be sent."""
    client = Redis(RedisEndpoint(port=free_port()))
    with pytest.raises(InputError, match="not allowed"):
        await client.config_set(name, "x")


@pytest.mark.promise(11)
@pytest.mark.parametrize("name", ["requirepass", "masterauth", "tls-key-file-pass", "*", "*pass*"])
async def test_config_get_reads_no_secrets(name: str) -> None:
    """The client refuses to read a secret parameter or a pattern."""
    with pytest.raises(InputError, match="not allowed"):
        await Redis(RedisEndpoint(port=free_port())).config_get(name)


async def test_every_allowed_parameter_exists(redis_server: Server) -> None:
    """Every allowed parameter exists, and each writable one can be set to its current value."""
    client = client_of(redis_server)
    for name in sorted(READABLE):
        value = await client.config_get(name)
        if name in WRITABLE - {"activedefrag"}:
            assert (await client.config_set(name, value)).new == value


async def test_a_started_snapshot_or_rewrite_is_reported(redis_server: Server) -> None:
    """The reply states that a snapshot or rewrite started, and INFO shows its end."""
    client = client_of(redis_server)
    assert "started" in await client.bgsave()
    until(lambda: "rdb_bgsave_in_progress:0" in redis_server.ask("INFO", "persistence"), "snapshot")
    assert "started" in await client.bgrewriteaof()
    until(lambda: "aof_rewrite_in_progress:0" in redis_server.ask("INFO", "persistence"), "rewrite")
    await client.memory_purge()


@pytest.mark.promise(3)
async def test_a_server_that_was_restarted_since_the_plan_is_left_alone(redis_server: Server) -> None:
    """If the run ID differs from the planned one, no operation changes anything."""
    client = client_of(redis_server)
    planned = await client.run_id()
    await client.memory_purge(expected=planned)
    redis_server.kill()
    redis_server.start()
    changes: tuple[Callable[[], Any], ...] = (
        lambda: client.config_set("maxmemory", "1mb", expected=planned),
        lambda: client.config_rewrite(expected=planned),
        lambda: client.bgsave(expected=planned),
        lambda: client.bgrewriteaof(expected=planned),
        lambda: client.memory_purge(expected=planned),
        lambda: client.kill_client(1, expected=planned),
    )
    for change in changes:
        with pytest.raises(TargetError, match="nothing was changed"):
            await change()
    assert await client.config_get("maxmemory") == "0"


@pytest.mark.promise(11)
@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("session:vK5CiWqw707ygGyKlRGSJlqUjzeDoJUDWiUoQA9Avno", "session:…"),
        ("session:7", "session:…"),
        ("app:auth_token:user:5", "app:auth_token:…:…"),
        ("cart:3f2504e0-4f89-11d3-9a0c-0305e82c3301:items", "cart:…:items"),
        ("cache/9f86d081884c7d659a2feaa0c55ad015", "cache/…"),
        ("Zx81kLmNqRsTuVwX0123", "…"),
        ("item:17", "item:17"),
        ("{user1000}.following", "{user1000}.following"),
        ("metrics:requests:2026-11-23", "metrics:requests:2026-11-23"),
        ("feature_flags_for_checkout", "feature_flags_for_checkout"),
    ],
)
def test_credentials_in_keys_are_hidden(key: str, told: str) -> None:
    """A session ID is a credential, so it is hidden from chats, pages and the audit log."""
    assert shown(key.encode()) == told


async def test_big_keys_and_slow_commands_hide_sessions(make_redis: MakeRedis) -> None:
    """In big keys and slow commands, a credential in the name of a key is hidden."""
    server = make_redis("slowlog-log-slower-than 0")
    secret = "vK5CiWqw707ygGyKlRGSJlqUjzeDoJUDWiUoQA9Avno"
    server.ask("SET", f"session:{secret}", "x" * 1000)
    client = client_of(server)
    found = [each.name for each in (await client.big_keys()).keys]
    slow = [each.command for each in await client.slowlog()]
    assert found == ["session:…"] and "SET session:…" in slow
    assert secret not in repr((found, slow))


async def test_big_keys_are_found_within_limits(redis_server: Server) -> None:
    """The biggest keys come first. The search stops at its limit and reports this. Unusual names are shown as data."""
    filled(redis_server, 1000)
    redis_server.ask("SETRANGE", "big", "100000", "x")
    redis_server.ask("EVAL", "redis.call('SETRANGE', '\\255\\0'..string.rep('n', 500), 200000, 'x')", "0")
    client = client_of(redis_server)
    found = await client.big_keys(top=2)
    assert found.complete and found.scanned == 1002
    assert found.keys[0].name.startswith("\\xff\x00nnn") and len(found.keys[0].name) <= 201
    assert found.keys[1].name == "big" and found.keys[1].size > 100_000
    part = await client.big_keys(limit=50)
    assert not part.complete and 50 <= part.scanned < 1000
    assert not (await client.big_keys(within=timedelta(0))).complete
    assert int(redis_server.ask("MEMORY", "USAGE", "big")) == found.keys[1].size


@pytest.mark.promise(11)
async def test_the_slow_log_shows_commands_and_keys_but_no_values(make_redis: MakeRedis) -> None:
    """The slow log shows commands and keys, but no values, which may be secrets."""
    server = make_redis("slowlog-log-slower-than 0", "latency-monitor-threshold 1")
    server.ask("SET", "item:1", "s3cret")
    slow = await client_of(server).slowlog()
    entry = next(each for each in slow if each.command.startswith("SET"))
    assert entry.command == "SET item:1"
    assert abs(datetime.now(UTC) - entry.at) < timedelta(minutes=1) and entry.took >= timedelta(0)
    assert "s3cret" not in str(slow)


async def test_the_latency_monitor_names_causes(make_redis: MakeRedis) -> None:
    """A slow command leaves an event with its duration in the latency monitor."""
    server = make_redis("latency-monitor-threshold 1", "enable-debug-command local")
    assert await client_of(server).latency() == ()
    server.ask("DEBUG", "SLEEP", "0.05")
    (event,) = await client_of(server).latency()
    assert event.cause == "command" and event.worst >= timedelta(milliseconds=50)


async def test_a_client_is_found_and_disconnected(redis_server: Server) -> None:
    """The client with this ID is disconnected, and no other client."""
    client = client_of(redis_server)
    with socket.create_connection(("127.0.0.1", redis_server.port)) as hog:
        hog.sendall(b"AUTH opensesame\r\nCLIENT SETNAME hog\r\n")
        until(lambda: "name=hog" in redis_server.ask("CLIENT", "LIST"), "the hog's name")
        (found,) = [each for each in await client.clients() if each.name == "hog"]
        assert found.address == f"127.0.0.1:{hog.getsockname()[1]}"
        assert found.user == "default" and found.memory > 0 and found.age >= timedelta(0)
        assert await client.kill_client(found.id) is True
        assert await client.kill_client(found.id) is False
        hog.settimeout(60)
        assert hog.recv(100) in (b"+OK\r\n+OK\r\n", b"+OK\r\n")


@pytest.mark.promise(3)
async def test_a_command_that_was_sent_and_not_answered_is_unknown() -> None:
    """If Redis dies after a command was sent, a change is unknown and a read is not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"-ERR unknown command 'HELLO'\r\n")
        await writer.drain()
        await reader.read(1000)

    async with listener(serve) as port:
        client = Redis(RedisEndpoint(port=port))
        with pytest.raises(RedisTimedOut):
            await client.bgsave()
        with pytest.raises(RedisUnreachable):
            await client.ping()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 0}, "port"),
        ({"username": "x"}, "needs password_file"),
        ({"tls": {"server_name": "x"}}, "not supported here: set host to the name in the certificate"),
        ({"tls": {}, "socket": "/x"}, "does not work with a unix socket"),
        ({"password": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], message: str) -> None:
    """A wrong setting, such as a password in the file itself, is an error that names it."""
    with pytest.raises(ValidationError, match=message):
        RedisEndpoint.model_validate(settings)
