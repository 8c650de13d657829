"""The proxy in front of a real Engine socket forwards the requests of the platform and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.docker import DockerPlatform
from remediator.playbooks.inventory import Service
from tests.support.servers import DEADLINE, Server
from tests.support.servers.docker import LABEL, Engine
from tests.support.servers.remediator import ROOT

pytestmark = pytest.mark.docker


class Proxy(Server):
    """The proxy as a separate process."""

    def __init__(self, folder: Path, context: Engine, *, read_only: bool) -> None:
        super().__init__(folder)
        self._settings = {
            "DOCKER_SOCKET": context.host.removeprefix("unix://"),
            "ALLOWED_LABEL": LABEL,
            "LISTEN": f"127.0.0.1:{self.port}",
            "READ_ONLY": "1" if read_only else "0",
        }

    @property
    def url(self) -> str:
        """Return the URL of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self._settings}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "remediator.clients.docker.socket_proxy"]


@pytest.fixture(params=[False, True], ids=["changes", "read-only"])
def proxy(request: pytest.FixtureRequest, docker_engine: Engine, tmp_path: Path) -> Iterator[Proxy]:
    """Return a started proxy, once as the remediator uses it and once read-only."""
    if not docker_engine.host.startswith("unix://"):
        pytest.skip("the proxy stands before a unix socket")
    made = Proxy(tmp_path, docker_engine, read_only=request.param)
    made.start()
    yield made
    made.stop()


def serving(context: Engine) -> str:
    """Start a container of the service ``web``, and return its ID."""
    return context.run(f"--name={context.token}_web", "--stop-signal=KILL", "--label=web=yes")


@pytest.mark.parametrize("proxy", [False], indirect=True)
async def test_the_proxy_allows_the_calls_of_the_platform(docker_engine: Engine, proxy: Proxy) -> None:
    """Status, logs, restart, creation and removal of a second container, and rollback work through the proxy."""
    old = docker_engine.build("one", 'CMD ["sleep", "1001"]')
    new = docker_engine.build("two", 'CMD ["sleep", "1002"]')
    docker_engine.run(f"--name={docker_engine.token}_web", "--stop-signal=KILL", "--label=web=yes", image=new)
    binding = {"kind": "docker", "url": proxy.url, "labels": {LABEL: docker_engine.token, "web": "yes"}}
    service = Service.model_validate({"name": "web", "platform": binding, "instances": 1})
    platform = DockerPlatform()
    try:
        assert await platform.logs(service, 10) == ""
        await platform.restart(service, (await platform.status(service)).pin, 1)
        await platform.scale(service, (await platform.status(service)).pin, 2)
        assert (await platform.status(service)).facts["replicas"] == 2
        await platform.scale(service, (await platform.status(service)).pin, 1)
        before = docker_engine.cli("image", "inspect", "--format", "{{.Id}}", old)
        assert before in {release.id for release in await platform.releases(service)}
        await platform.rollback(service, (await platform.status(service)).pin, before)
        assert (await platform.status(service)).state is State.RUNNING
    finally:
        await platform.aclose()
    assert docker_engine.inspect(f"{docker_engine.token}_web", "{{.Image}}") == before


async def test_the_proxy_refuses_all_other_calls(docker_engine: Engine, proxy: Proxy) -> None:
    """The proxy refuses other containers, exec, other forms of creation, images, volumes and secrets."""
    mine = serving(docker_engine)
    other = docker_engine.cli("create", docker_engine.image)
    try:
        for method, path, body in _forbidden(docker_engine, mine, other):
            answer = httpx.request(method, proxy.url + path, json=body, timeout=DEADLINE)
            assert answer.status_code in (403, 404), (method, path, answer.text)
            assert "Engine" not in answer.text and answer.headers.get("server") != "Docker", "it was forwarded"
    finally:
        docker_engine.cli("rm", "--force", other)
    assert docker_engine.inspect(mine, "{{.State.Running}}") == "true"


def _forbidden(context: Engine, mine: str, other: str) -> list[tuple[str, str, Any]]:
    privileged = {"Image": context.image, "Labels": {LABEL: context.token}, "HostConfig": {"Privileged": True}}
    mounting = {"Image": context.image, "Labels": {LABEL: context.token}, "HostConfig": {"Binds": ["/:/host"]}}
    return [
        ("GET", "/containers/json", None),
        ("GET", f"/containers/{other}/json", None),
        ("POST", f"/containers/{other}/restart", None),
        ("DELETE", f"/containers/{other}", None),
        ("DELETE", f"/containers/{mine}?force=1", None),
        ("DELETE", f"/containers/{mine}?v=true", None),
        ("POST", f"/containers/{mine}/exec", {"Cmd": ["sh"]}),
        ("POST", f"/containers/{mine}/kill", None),
        ("POST", f"/containers/{mine}/update", {"Memory": 0}),
        ("GET", f"/containers/{mine}/archive?path=/", None),
        ("GET", f"/containers/{mine}/../{other}/json", None),
        ("POST", "/containers/create", privileged),
        ("POST", "/containers/create", mounting),
        ("POST", "/containers/create", {"Image": context.image}),
        ("POST", "/networks/host/connect", {"Container": mine}),
        ("POST", "/networks/create", {"Name": "x"}),
        ("POST", "/images/create?fromImage=busybox", None),
        ("DELETE", f"/images/{context.image}", None),
        ("GET", "/volumes", None),
        ("GET", "/info", None),
        ("GET", "/events", None),
        ("POST", "/v1.41/build", None),
        ("POST", "/v1.41/containers/prune", None),
    ]


async def test_a_container_without_the_label_is_as_if_it_were_not_there(docker_engine: Engine, proxy: Proxy) -> None:
    """The answer for a container without the label equals that for a missing one, so clients learn nothing."""
    other = docker_engine.cli("create", docker_engine.image)
    try:
        answers = [httpx.get(f"{proxy.url}/containers/{each}/json", timeout=DEADLINE) for each in (other, "f" * 64)]
    finally:
        docker_engine.cli("rm", "--force", other)
    assert [each.status_code for each in answers] == [404, 404]
    assert answers[0].text == answers[1].text.replace("f" * 64, other)


async def test_rights_are_asked_through_the_proxy(docker_engine: Engine, proxy: Proxy) -> None:
    """The platform detects that the read-only proxy denies changes. The other proxy denies nothing."""
    mine = serving(docker_engine)
    begun = docker_engine.inspect(mine, "{{.State.StartedAt}}")
    read_only = proxy.environment()["READ_ONLY"] == "1"
    binding = {"kind": "docker", "url": proxy.url, "labels": {LABEL: docker_engine.token, "web": "yes"}}
    service = Service.model_validate({"name": "web", "platform": binding, "instances": 1})
    platform = DockerPlatform()
    try:
        assert await platform.missing_rights(service, "service.logs") == ()
        for action in ("service.restart", "service.rollback", "service.scale"):
            assert bool(await platform.missing_rights(service, action)) is read_only, action
    finally:
        await platform.aclose()
    assert docker_engine.inspect(mine, "{{.State.StartedAt}}") == begun


@pytest.mark.parametrize("proxy", [True], indirect=True)
async def test_the_read_only_proxy_changes_nothing(docker_engine: Engine, proxy: Proxy) -> None:
    """The read-only proxy shows the container, and refuses to restart it."""
    mine = serving(docker_engine)
    assert httpx.get(f"{proxy.url}/containers/{mine}/json", timeout=DEADLINE).status_code == 200
    for verb in ("restart", "stop", "start", "rename?name=x"):
        assert httpx.post(f"{proxy.url}/containers/{mine}/{verb}", timeout=DEADLINE).status_code == 403
    assert docker_engine.inspect(mine, "{{.State.Running}}") == "true"
