"""The client of Docker, against a real Docker Engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.clients.docker.client import Docker, DockerRefused, endpoint_url
from remediator.clients.docker.container_spec import check_privileges, successor_spec
from remediator.clients.docker.models import demultiplex
from remediator.clients.endpoints import Endpoint
from remediator.errors import BadAnswer, InputError, TargetError, TimedOut, Unreachable
from tests.support.fake_servers import Authority, Serve, listener, peer, reply
from tests.support.servers import until
from tests.support.servers.docker import Engine

real = pytest.mark.docker


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Docker]]:
    """Return a function that makes clients. They are closed after the test."""
    made: list[Docker] = []

    def make(url: str, **settings: Any) -> Docker:
        made.append(Docker(Endpoint.model_validate({"url": url, **settings})))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def client(docker_engine: Engine, connect: Callable[..., Docker]) -> Docker:
    return connect(endpoint_url(docker_engine.host, tls=False))


@real
async def test_containers_are_found_by_their_labels(client: Docker, docker_engine: Engine) -> None:
    """The client finds running and stopped containers with all given labels.

    No label is an error, and does not mean all containers.
    """
    one = docker_engine.run("--label=part=a")
    two = docker_engine.run("--label=part=b")
    docker_engine.cli("stop", "--time=0", two)
    found = await client.containers(docker_engine.labels)
    assert {(each.id, each.state) for each in found} == {(one, "running"), (two, "exited")}
    assert [each.id for each in await client.containers({**docker_engine.labels, "part": "b"})] == [two]
    assert [each.id for each in await client.containers(docker_engine.labels, all_=False)] == [one]
    assert found[0].name == docker_engine.inspect(found[0].id, "{{.Name}}").removeprefix("/")
    with pytest.raises(InputError, match="labels"):
        await client.containers({})


@real
async def test_the_exit_of_a_container_is_reported(client: Docker, docker_engine: Engine) -> None:
    """The result has exit code, times, number of restarts and health."""
    failed = docker_engine.run("--restart=on-failure:2 --- exit 3")
    until(lambda: docker_engine.inspect(failed, "{{.RestartCount}} {{.State.Status}}") == "2 exited", "restarts")
    container = await client.container(failed)
    assert (container.state.exit_code, container.restart_count, container.state.running) == (3, 2, False)
    lately = datetime.now(UTC) - timedelta(minutes=1)
    assert container.state.started_at > lately and container.state.finished_at > lately
    sick = docker_engine.run("--health-cmd=false --health-interval=100ms --health-retries=1")
    until(lambda: docker_engine.inspect(sick, "{{.State.Health.Status}}") == "unhealthy", "unhealthy")
    health = (await client.container(sick)).state.health
    assert health is not None and health.status == "unhealthy"
    assert (await client.container(sick)).labels["image"] == "one"


@real
async def test_a_container_that_ran_out_of_memory_has_oom_killed_set(client: Docker, docker_engine: Engine) -> None:
    """A container that ran out of memory has OOMKilled set and exit code 137."""
    hog = docker_engine.run("--memory=16m --memory-swap=16m --- tail /dev/zero")
    docker_engine.until_state(hog, "exited")
    state = (await client.container(hog)).state
    assert state.oom_killed and state.exit_code == 137


@real
async def test_start_stop_and_restart_change_it_once(client: Docker, docker_engine: Engine) -> None:
    """If the container already has the requested state, the call reports that it changed nothing."""
    container = docker_engine.run()
    before = await client.container(container)
    assert await client.start(container) is False
    await client.restart(container, stop_timeout=0, expected=before.pin)
    after = await client.container(container)
    assert after.state.running and after.state.started_at > before.state.started_at
    assert await client.stop(container, stop_timeout=0, expected=after.pin) is True
    assert await client.stop(container, stop_timeout=0) is False
    assert await client.start(container) is True


@real
@pytest.mark.promise(3)
async def test_a_container_that_was_replaced_since_the_plan_is_left_alone(
    client: Docker, docker_engine: Engine
) -> None:
    """A container that was restarted or removed after planning is not changed."""
    container = docker_engine.run()
    planned = (await client.container(container)).pin
    docker_engine.cli("restart", "--time=0", container)
    now = await client.container(container)
    for change in (client.restart, client.stop):
        with pytest.raises(TargetError, match="nothing was changed"):
            await change(container, expected=planned)
    assert (await client.container(container)).pin == now.pin
    docker_engine.cli("rm", "--force", container)
    with pytest.raises(TargetError, match="does not exist any more; nothing was changed"):
        await client.restart(container, expected=now.pin)


@real
@pytest.mark.promise(3)
async def test_a_restart_that_exceeds_the_timeout_is_unknown_and_continues(
    docker_engine: Engine, connect: Callable[..., Docker]
) -> None:
    """If the client stops waiting, the outcome is unknown, and the Engine still restarts the container."""
    container = docker_engine.run("--- trap '' TERM; while true; do sleep 0.1; done")
    started = docker_engine.inspect(container, "{{.State.StartedAt}}")
    hasty = connect(docker_engine.host, timeout="50ms")
    await hasty.containers({"remediator.test": "none"})
    with pytest.raises(TimedOut):
        await hasty.restart(container, stop_timeout=0)
    until(lambda: docker_engine.inspect(container, "{{.State.StartedAt}}") != started, "the restart")
    docker_engine.until_state(container, "running")


@real
async def test_a_restart_by_docker_itself_keeps_the_pin(client: Docker, docker_engine: Engine) -> None:
    """A container that crashed since the plan can be changed: Docker restarted it, and no other user did."""
    container = docker_engine.run("--restart=always --- while ! [ -e /crash ]; do sleep 0.05; done; exit 3")
    planned = (await client.container(container)).pin
    docker_engine.cli("exec", container, "sh", "-c", ": > /crash")
    until(lambda: docker_engine.inspect(container, "{{.RestartCount}}") >= "2", "a crash loop")
    assert (await client.container(container)).pin != planned
    await client.stop(container, stop_timeout=0, expected=planned)
    docker_engine.until_state(container, "exited")


@real
@pytest.mark.promise(3)
async def test_a_restart_by_another_user_after_a_crash_loop_is_refused(client: Docker, docker_engine: Engine) -> None:
    """The pin of a container that Docker restarted twice does not cover a restart by another user."""
    crash_twice = "[ -e /b ] && exec sleep 1000; [ -e /a ] && : > /b; : > /a; exit 3"
    container = docker_engine.run(f"--restart=always --- {crash_twice}")
    until(lambda: docker_engine.inspect(container, "{{.RestartCount}} {{.State.Running}}") == "2 true", "two crashes")
    planned = (await client.container(container)).pin
    docker_engine.cli("restart", "--time=0", container)
    with pytest.raises(TargetError, match="was restarted after planning; nothing was changed"):
        await client.stop(container, expected=planned)
    assert (await client.container(container)).state.running


@real
async def test_logs_are_separated_by_stream(client: Docker, docker_engine: Engine) -> None:
    """Logs have both streams, may hold bytes that are not text, and have one stream for a terminal."""
    container = docker_engine.run("--- echo out; echo err >&2; echo -e '\\xff'; exit 1")
    docker_engine.until_state(container, "exited")
    logs = await client.logs(container)
    assert (logs.stdout, logs.stderr, logs.cut) == ("out\n\ufffd\n", "err\n", False)
    assert sorted(logs.text.split()) == ["err", "out", "\ufffd"]
    terminal = docker_engine.run("--tty --- echo out; echo err >&2")
    docker_engine.until_state(terminal, "exited")
    assert (await client.logs(terminal)).stdout == "out\r\nerr\r\n"


@real
async def test_long_logs_keep_their_last_lines(client: Docker, docker_engine: Engine) -> None:
    """The client returns as many of the last lines as fit, and states how much it left out."""
    container = docker_engine.run("--- i=0; while test $i -lt 2000; do echo line $i; i=$((i+1)); done")
    docker_engine.until_state(container, "exited")
    assert (await client.logs(container, 3)).stdout == "line 1997\nline 1998\nline 1999\n"
    short = await client.logs(container, 2000, max_bytes=2000)
    assert short.stdout.endswith("line 1999\n") and 10 < len(short.stdout.splitlines()) < 200
    assert (await client.logs(container, 1, max_bytes=10)).cut


@real
async def test_stats_and_events(client: Docker, docker_engine: Engine) -> None:
    """The client reads memory, processes and CPU time, and the events of a container with their times."""
    begun = datetime.now(UTC) - timedelta(seconds=1)
    container = docker_engine.run("--memory=64m --- true; sleep 1000")
    stats = await client.stats(container)
    assert stats.memory_limit == 64 * 1024 * 1024 and 0 < stats.memory < stats.memory_limit
    assert stats.processes >= 1 and stats.cpu_seconds >= 0
    assert abs(stats.at - datetime.now(UTC)) < timedelta(minutes=1)
    docker_engine.cli("kill", container)
    docker_engine.until_state(container, "exited")
    events = await client.events(begun, datetime.now(UTC), docker_engine.labels)
    assert [each.action for each in events][:2] == ["create", "start"]
    died = next(each for each in events if each.action == "die")
    assert died.id == container and died.attributes["exitCode"] == "137"
    assert begun < died.at < datetime.now(UTC) + timedelta(seconds=1)
    assert await client.events(begun, datetime.now(UTC), {"remediator.test": "other"}) == ()


@real
async def test_images_are_those_on_the_host(client: Docker, docker_engine: Engine) -> None:
    """The client finds images by name and pattern. A missing image is refused."""
    other = docker_engine.build("2")
    repository = docker_engine.image.removesuffix(":1")
    found = await client.images(reference=f"{repository}:*")
    assert {tag for each in found for tag in each.repo_tags or ()} == {docker_engine.image, other}
    image = await client.image(other)
    assert image.tags == (other,) and image.id in {each.id for each in found}
    with pytest.raises(DockerRefused) as refused:
        await client.image("remediator-test/none:1")
    assert refused.value.status == 404


@real
async def test_a_container_is_made_again_from_another_image(client: Docker, docker_engine: Engine) -> None:
    """Name, networks, data, limits and own settings are kept. Defaults of the old image become those of the new one."""
    newer = docker_engine.build("2", 'CMD ["sleep", "2000"]', "ENV FROM_IMAGE=two", "ENV MORE=x", "LABEL image=two")
    token = docker_engine.token
    for network in (f"front-{token}", f"back-{token}"):
        docker_engine.cli("network", "create", "--label", f"remediator.test={token}", network)
    docker_engine.cli("volume", "create", "--label", f"remediator.test={token}", f"data-{token}")
    flags = f"--name=web-{token} --network=front-{token} --network-alias=web --env=OWN=1 --label=own=1 --memory=64m "
    flags += f"--restart=unless-stopped --volume=data-{token}:/named --volume=/anonymous --read-only"
    old = docker_engine.run(flags)
    docker_engine.cli("network", "connect", "--alias", "db-client", f"back-{token}", old)
    docker_engine.cli("exec", old, "sh", "-c", "echo kept > /named/x; echo kept > /anonymous/x")
    before = await client.container(old)
    plan = successor_spec(await client.document(old), await client.image_document(before.image), newer)
    await client.stop(old, stop_timeout=0)
    await client.rename(old, f"web-{token}-old")
    new = await client.create(f"web-{token}", plan.body)
    for network, settings in plan.more_networks.items():
        await client.connect(network, new, settings)
    await client.start(new)
    await client.remove(old)
    after = await client.container(new)
    assert after.name == f"/web-{token}" and after.config.image == newer and after.state.running
    assert after.labels["own"] == "1" and after.labels["image"] == "two"
    shown = docker_engine.inspect(new, "{{.Config.Env}} {{.Config.Cmd}} {{.HostConfig.RestartPolicy.Name}}")
    assert "OWN=1" in shown and "FROM_IMAGE=two" in shown and "FROM_IMAGE=one" not in shown
    assert "[sleep 2000] unless-stopped" in shown
    assert docker_engine.inspect(new, "{{.HostConfig.Memory}} {{.HostConfig.ReadonlyRootfs}}") == "67108864 true"
    for network, alias in ((f"front-{token}", "web"), (f"back-{token}", "db-client")):
        assert alias in docker_engine.inspect(new, f'{{{{(index .NetworkSettings.Networks "{network}").Aliases}}}}')
    assert docker_engine.cli("exec", new, "cat", "/named/x", "/anonymous/x") == "kept\nkept"
    assert docker_engine.inspect(new, "{{.Config.Hostname}}") == new[:12]


@real
async def test_a_used_name_and_a_running_container_are_refused(client: Docker, docker_engine: Engine) -> None:
    """Refused are a name in use, the removal of a running container, and a missing container."""
    one = docker_engine.run(f"--name=one-{docker_engine.token}")
    two = docker_engine.run()
    for call, status in (
        (client.rename(two, f"one-{docker_engine.token}"), 409),
        (client.remove(one), 409),
        (client.container("none"), 404),
        (client.restart("none"), 404),
        (client.logs("none"), 404),
    ):
        with pytest.raises(DockerRefused) as refused:
            await call
        assert refused.value.status == status


@real
async def test_over_tcp_with_a_client_certificate(
    docker_engine: Engine, connect: Callable[..., Docker], tmp_path: Path
) -> None:
    """A remote Engine answers with our client certificate. Without it, nothing is sent."""
    if not docker_engine.host.startswith("unix://"):
        pytest.skip("needs an Engine on a unix socket to put TLS in front of")
    authority = Authority(tmp_path)
    certificate, key = authority.issue("engine", "127.0.0.1")
    mine, my_key = authority.issue("remediator")
    relay = _relay(docker_engine.host.removeprefix("unix://"))
    async with listener(relay, authority.server_context(certificate, key, clients=True)) as port:
        url = endpoint_url(f"tcp://127.0.0.1:{port}", tls=True)
        tls = {"ca_file": authority.ca_file}
        trusted = connect(url, tls={**tls, "cert_file": mine, "key_file": my_key})
        assert await trusted.containers({"remediator.test": "none"}) == ()
        with pytest.raises((Unreachable, TimedOut)):
            await connect(url, tls=tls).containers({"remediator.test": "none"})


def _relay(socket: str) -> Serve:
    """Copy bytes between a connection and a unix socket, in both directions."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_unix_connection(socket)
        try:
            await asyncio.gather(pump(reader, here), pump(there, writer))
        finally:
            here.close()

    return serve


def version(text: str) -> Any:
    return reply(200, b"OK", f"api-version: {text}")


@pytest.mark.parametrize(("offered", "spoken"), [("1.40", "1.40"), ("1.41", "1.41"), ("1.52", "1.51"), ("2.0", "1.51")])
async def test_the_newest_common_api_version_is_used(connect: Callable[..., Docker], offered: str, spoken: str) -> None:
    """Client and Engine use the newest API version that both support."""
    async with peer(version(offered)) as server:
        with pytest.raises(BadAnswer):
            await connect(server.url).container("x")
        assert server.requests[1].startswith(f"GET /v{spoken}/containers/x/json ".encode())


@pytest.mark.parametrize(("offered", "error"), [("1.39", DockerRefused), ("", BadAnswer), ("new", BadAnswer)])
async def test_an_old_engine_or_another_server_is_named(
    connect: Callable[..., Docker], offered: str, error: type[Exception]
) -> None:
    """If the server is too old or not an Engine, the error says so before any other call."""
    async with peer(version(offered)) as server:
        with pytest.raises(error):
            await connect(server.url).restart("x")
        assert len(server.requests) == 1


async def test_a_403_of_a_socket_proxy_is_a_refusal(connect: Callable[..., Docker]) -> None:
    """A 403 with HTML from a socket proxy is a refusal."""
    async with peer(reply(403, b"<html>Forbidden</html>")) as server:
        with pytest.raises(DockerRefused, match="Forbidden") as refused:
            await connect(server.url).containers({"remediator.test": "none"})
        assert refused.value.status == 403


@pytest.mark.promise(8)
@pytest.mark.parametrize("name", ["", "../info", "a/b", "a?x=1", "-a", "a b", "a\n", "é"])
async def test_a_name_cannot_become_another_call(connect: Callable[..., Docker], name: str) -> None:
    """A name that could change the URL is refused, and nothing is sent."""
    async with peer(version("1.41")) as server:
        client = connect(server.url)
        calls = (
            client.container(name),
            client.restart(name),
            client.create(name, {}),
            client.image(name.replace("/", "..")),
        )
        for call in calls:
            with pytest.raises(InputError):
                await call
        assert server.requests == []


@pytest.mark.parametrize(
    "host",
    [
        {"Privileged": True},
        {"CapAdd": ["SYS_ADMIN"]},
        {"Devices": [{"PathOnHost": "/dev/sda"}]},
        {"PidMode": "host"},
        {"IpcMode": "host"},
        {"UTSMode": "host"},
        {"UsernsMode": "host"},
        {"SecurityOpt": ["seccomp=unconfined"]},
        {"Binds": ["/:/host"]},
        {"Binds": ["/etc/:/x:ro"]},
        {"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]},
        {"Mounts": [{"Type": "bind", "Source": "/proc", "Target": "/x"}]},
    ],
)
async def test_a_privileged_container_is_not_created(connect: Callable[..., Docker], host: Any) -> None:
    """A privileged container is refused in every form, and nothing is sent."""
    with pytest.raises(InputError, match="are not created"):
        check_privileges({"HostConfig": host})
    async with peer(version("1.41")) as server:
        with pytest.raises(InputError):
            await connect(server.url).create("x", {"HostConfig": host})
        assert server.requests == []


def test_ordinary_containers_are_not_refused() -> None:
    """Volumes, folders of the container, limits and dropped capabilities are accepted."""
    host = {"Binds": ["data:/data", "/srv/app:/app"], "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}
    check_privileges({"HostConfig": {**host, "Mounts": [{"Type": "volume", "Target": "/x"}]}})
    check_privileges({})


def test_addresses_as_docker_host_has_them() -> None:
    """The usual forms of DOCKER_HOST are accepted. ssh is not supported."""
    assert endpoint_url("unix:///run/docker.sock", tls=False) == "unix:///run/docker.sock"
    assert endpoint_url("tcp://engine:2376", tls=True) == "https://engine:2376"
    assert endpoint_url("tcp://engine:2375", tls=False) == "http://engine:2375"
    for strange in ("ssh://me@host", "engine:2375", "tcp://", ""):
        with pytest.raises(InputError):
            endpoint_url(strange, tls=False)


def test_a_truncated_stream_is_read_up_to_its_end() -> None:
    """Of a truncated stream, a partial header is dropped and a partial chunk is returned."""
    whole = bytes([1, 0, 0, 0, 0, 0, 0, 2]) + b"ab" + bytes([2, 0, 0, 0, 0, 0, 0, 3]) + b"cde"
    assert demultiplex(whole) == [("stdout", b"ab"), ("stderr", b"cde")]
    assert demultiplex(whole[:-1]) == [("stdout", b"ab"), ("stderr", b"cd")]
    assert demultiplex(whole[:14]) == [("stdout", b"ab")]
    assert demultiplex(b"") == []


MINIMAL: dict[str, Any] = {
    "Id": "0123456789abcdef",
    "Config": {"Hostname": "0123456789ab", "Env": ["A=1"], "Cmd": ["serve"], "Labels": None, "Entrypoint": ["own"]},
    "HostConfig": {"NetworkMode": "default", "Binds": ["/anonymous"], "Mounts": [{"Type": "volume", "Target": "/m"}]},
    "NetworkSettings": {"Networks": {"bridge": {"Aliases": None}}},
    "Mounts": [
        {"Type": "volume", "Name": "v1", "Destination": "/anonymous", "RW": True},
        {"Type": "volume", "Name": "v2", "Destination": "/m", "RW": False},
    ],
}


def test_volumes_without_a_name_are_kept() -> None:
    """The new container has the same anonymous volumes, however they were declared."""
    body = successor_spec(MINIMAL, {"Config": {"Cmd": ["serve"]}}, "app:2").body
    assert body["HostConfig"]["Binds"] == ["v1:/anonymous", "v2:/m:ro"]
    assert body["HostConfig"]["Mounts"] == []
    assert body["Image"] == "app:2" and "Hostname" not in body
    assert body["NetworkingConfig"] == {"EndpointsConfig": {}}


def test_a_command_is_kept_with_its_own_entrypoint() -> None:
    """The command is kept with its own entrypoint, because Docker drops the image's command then."""
    assert successor_spec(MINIMAL, {"Config": {"Cmd": ["serve"]}}, "app:2").body["Cmd"] == ["serve"]


@pytest.mark.parametrize("missing", ["Id", "Config", "HostConfig", "NetworkSettings"])
def test_a_description_without_a_required_key_is_a_bad_answer(missing: str) -> None:
    """A description without a required key is a BadAnswer. The client does not invent a value."""
    broken = {key: value for key, value in MINIMAL.items() if key != missing}
    with pytest.raises(BadAnswer, match=missing):
        successor_spec(broken, {}, "app:2")


async def test_a_dead_engine_is_unreachable(connect: Callable[..., Docker], tmp_path: Path) -> None:
    """Without a socket, the call is Unreachable."""
    with pytest.raises(Unreachable):
        await connect(f"unix://{tmp_path}/none.sock").restart("x")
