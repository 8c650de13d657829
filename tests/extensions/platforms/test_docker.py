"""The Docker platform on a real Docker Engine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.clients.docker.client import DockerRefused
from remediator.clients.docker.replace import ADDED, NEW, REPLACES, UNDONE
from remediator.core.outcome import Outcome
from remediator.core.release import Release, ReleaseMemory, Verdict, previous
from remediator.errors import BadAnswer, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.actions.service_restart import RestartParameters, ServiceRestart
from remediator.extensions.actions.service_rollback import RollbackParameters, ServiceRollback
from remediator.extensions.actions.service_scale import ServiceScale
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import Reason, State
from remediator.extensions.platforms.docker import DockerPlatform
from remediator.playbooks.inventory import Service
from tests.support.fake_servers import engine_with_proxy, peer, reply
from tests.support.rollback_history import RollbackHistory
from tests.support.servers import until
from tests.support.servers.docker import Engine
from tests.support.servers.unanswered import deaf

real = pytest.mark.docker


@pytest.fixture
async def platform() -> AsyncIterator[DockerPlatform]:
    """Return the platform, and close it after the test."""
    platform = DockerPlatform()
    yield platform
    await platform.aclose()


def bound_to(url: str) -> Service:
    """Return the service ``web`` on the Engine at this URL."""
    return Service.model_validate({"name": "web", "platform": {"kind": "docker", "url": url, "project": "p"}})


def bound(context: Engine, *, instances: int = 1, url: str = "", **binding: Any) -> Service:
    """Return the service ``web`` of the Compose project of the test."""
    platform = {"kind": "docker", "url": url or context.host, "project": context.token, **binding}
    return Service.model_validate({"name": "web", "platform": platform, "instances": instances})


def compose(context: Engine, *arguments: str, number: int = 1, image: str = "") -> str:
    """Create a container as Compose does, and return its ID."""
    labels = {"project": context.token, "service": "web", "container-number": str(number), "oneoff": "False"}
    flags = " ".join(f"--label=com.docker.compose.{name}={value}" for name, value in labels.items())
    quick = "--stop-signal=KILL"  # process 1 of a container ignores TERM by default
    return context.run(f"--name={context.token}_web_{number}", quick, flags, *arguments, image=image)


def names(context: Engine) -> set[str]:
    """Return the names of all containers of the test, without its token."""
    template = "{{.Names}}"
    listed = context.cli("ps", "--all", "--filter", f"label=remediator.test={context.token}", "--format", template)
    return {name.removeprefix(f"{context.token}_") for name in listed.split()}


@real
async def test_a_running_service_is_described(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The status has all instances by name, the number of healthy ones, and the state of each."""
    compose(docker_engine)
    compose(docker_engine, number=2)
    status = await platform.status(bound(docker_engine, instances=2))
    assert (status.state, status.instances, status.healthy) == (State.RUNNING, 2, 2)
    assert "web_1 is running" in status.summary and "web_2 is running" in status.summary
    assert status.facts["replicas"] == 2 and status.facts["owner"] is None
    assert [each["image"] for each in status.facts["containers"]] == [docker_engine.image] * 2


@real
async def test_an_instance_that_is_missing_shows(platform: DockerPlatform, docker_engine: Engine) -> None:
    """If one of two instances runs, the state is mixed, and the summary has both numbers."""
    compose(docker_engine)
    status = await platform.status(bound(docker_engine, instances=2))
    assert (status.state, status.instances, status.healthy) == (State.MIXED, 2, 1)
    assert "1 of 2 missing" in status.summary


@real
async def test_the_exit_code_is_reported(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The status has the exit code, and reports that the memory limit was exceeded."""
    container = compose(docker_engine, "--memory=16m --memory-swap=16m --- tail /dev/zero")
    docker_engine.until_state(container, "exited")
    status = await platform.status(bound(docker_engine))
    assert status.state is State.EXITED and status.healthy == 0
    assert "exit code 137, out of memory" in status.summary
    assert status.facts["containers"][0]["oom_killed"] is True


@real
async def test_a_crash_loop_is_one_while_it_runs_and_while_it_waits(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """A container that Docker keeps restarting is in a crash loop, both while it runs and while it waits."""
    container = compose(docker_engine, "--restart=always --- echo started; sleep 0.3; exit 3")
    until(lambda: int(docker_engine.inspect(container, "{{.RestartCount}}")) >= 3, "restarts")
    seen = set()
    for _ in range(20):
        status = await platform.status(bound(docker_engine))
        assert status.state is State.CRASH_LOOP, status.summary
        seen.add(status.facts["containers"][0]["status"])
        await asyncio.sleep(0.1)
    assert seen == {"running", "restarting"}
    assert "restarted" in status.summary


@real
async def test_an_instance_is_ready_only_after_its_health_check_passed(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """An instance is starting until its first health check, and not healthy after a failed one."""
    check = "--health-interval=200ms --health-retries=1 --health-timeout=1s"
    container = compose(docker_engine, "--health-cmd=false", check)
    assert (await platform.status(bound(docker_engine))).state is State.STARTING
    until(lambda: docker_engine.inspect(container, "{{.State.Health.Status}}") == "unhealthy", "unhealthy")
    status = await platform.status(bound(docker_engine))
    assert (status.state, status.healthy) == (State.RUNNING, 0) and "unhealthy" in status.summary


@real
async def test_a_paused_container_does_not_run(platform: DockerPlatform, docker_engine: Engine) -> None:
    """A paused container does not count as running, and a restart resumes it."""
    container = compose(docker_engine)
    docker_engine.cli("pause", container)
    service = bound(docker_engine)
    status = await platform.status(service)
    assert (status.state, status.healthy) == (State.STOPPED, 0)
    await platform.restart(service, status.pin, 1)
    assert (await platform.status(service)).state is State.RUNNING


@real
@pytest.mark.parametrize(
    ("policy", "state"),
    [("always", State.STOPPED), ("unless-stopped", State.STOPPED), ("no", State.EXITED), ("on-failure", State.EXITED)],
)
async def test_a_container_that_an_operator_stopped(
    platform: DockerPlatform, docker_engine: Engine, policy: str, state: State
) -> None:
    """With this restart policy, Docker would have restarted the container after any other end. With another policy it
    is unknown."""
    container = compose(docker_engine, f"--restart={policy} --- sleep 1000")
    docker_engine.cli("stop", "--time=0", container)
    docker_engine.until_state(container, "exited")
    assert (await platform.status(bound(docker_engine))).state is state


@real
async def test_none_or_too_many_is_an_error(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The platform never picks one of several containers; a one-off container of ``docker compose run`` does not
    count."""
    service = bound(docker_engine)
    with pytest.raises(TargetError, match="not found; correct the inventory"):
        await platform.status(service)
    compose(docker_engine)
    one_off = "--label=com.docker.compose.oneoff=True --label=com.docker.compose.service=web"
    docker_engine.run(one_off, f"--label=com.docker.compose.project={docker_engine.token}")
    pin = (await platform.status(service)).pin
    compose(docker_engine, number=2)
    for call in (platform.status(service), platform.restart(service, pin, 1), platform.releases(service)):
        with pytest.raises(TargetError, match=r"expected 1, found .*web_1, .*web_2"):
            await call


@real
async def test_a_container_without_compose_is_found_by_its_labels(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """A container without Compose is found by its labels."""
    docker_engine.run("--label=part=cache")
    service = bound(docker_engine, project=None, labels={**docker_engine.labels, "part": "cache"})
    assert (await platform.status(service)).state is State.RUNNING


@pytest.mark.parametrize("binding", [{}, {"labels": {}}, {"service": "web"}, {"service": "web", "labels": {"a": "b"}}])
def test_a_binding_without_a_selection_is_refused(binding: dict[str, Any]) -> None:
    """A binding without a project and labels, or with a service but no project, is refused."""
    with pytest.raises(ValidationError):
        Service.model_validate({"platform": {"kind": "docker", **binding}})


@real
async def test_logs_of_now_and_of_before(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The lines since the last start are separate from the lines of the earlier instance, which show why that ended."""
    shell = "if [ -e /again ]; then echo second; sleep 1000; fi; echo first; echo bad >&2; touch /again; exit 1"
    shell = shell.replace("touch /again", "echo > /again")
    container = compose(docker_engine, f"--restart=on-failure --- {shell}")
    until(lambda: "second" in docker_engine.cli("logs", container), "the second start")
    before = await platform.logs(bound(docker_engine), 10, previous=True)
    assert "first" in before and "bad" in before and "second" not in before
    assert "second" in await platform.logs(bound(docker_engine), 1)


@real
async def test_logs_of_several_instances_name_the_instance(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The lines of each instance are listed under its name."""
    one = compose(docker_engine, "--- echo from one; sleep 1000")
    two = compose(docker_engine, "--- echo from two; sleep 1000", number=2)
    until(lambda: "from" in docker_engine.cli("logs", one) and "from" in docker_engine.cli("logs", two), "logs")
    text = await platform.logs(bound(docker_engine, instances=2), 5)
    assert re.search(r"_web_1]\n\S+Z from one\n.*_web_2]\n\S+Z from two", text, re.DOTALL), text


@real
async def test_a_restart_restarts_every_instance(platform: DockerPlatform, docker_engine: Engine) -> None:
    """A restart starts the same containers again, also a stopped one."""
    ids = {compose(docker_engine), compose(docker_engine, number=2)}
    docker_engine.cli("stop", "--time=0", f"{docker_engine.token}_web_2")
    service = bound(docker_engine, instances=2)
    before = await platform.status(service)
    assert before.state is State.MIXED
    assert "restart one container after the other, each with 1 s to stop" in platform.describe_restart(service, 1)
    await platform.restart(service, before.pin, 1)
    after = await platform.status(service)
    assert after.state is State.RUNNING and set(after.pin["containers"]) == ids
    assert all(after.pin["containers"][each] != before.pin["containers"][each] for each in ids)


@real
@pytest.mark.promise(3)
async def test_a_target_that_another_user_changed_is_refused(platform: DockerPlatform, docker_engine: Engine) -> None:
    """If another client restarted or replaced the container after planning, every change is refused."""
    container = compose(docker_engine)
    service = bound(docker_engine)
    image = docker_engine.build("2", 'CMD ["sleep", "1000"]')
    to = docker_engine.cli("inspect", "--format", "{{.Id}}", image)
    planned = (await platform.status(service)).pin
    docker_engine.cli("restart", "--time=0", container)
    started = docker_engine.inspect(container, "{{.State.StartedAt}}")
    calls: list[Callable[[], Any]] = [
        lambda: platform.restart(service, planned, 1),
        lambda: platform.scale(service, planned, 2),
        lambda: platform.rollback(service, planned, to),
    ]
    for call in calls:
        with pytest.raises(TargetError, match=r"restarted after planning|other containers than when the plan was made"):
            await call()
    docker_engine.cli("rm", "--force", container)
    compose(docker_engine)
    for call in calls:
        with pytest.raises(TargetError, match=r"restarted after planning|other containers than when the plan was made"):
            await call()
    assert started != "" and names(docker_engine) == {"web_1"}


@real
async def test_a_container_that_is_killed_at_its_memory_limit_has_this_reason(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """The reason is a fact that playbooks can read, with the same name on all platforms."""
    container = compose(docker_engine, "--memory=16m --memory-swap=16m --- exec tail /dev/zero")
    docker_engine.until_state(container, "exited")
    status = await platform.status(bound(docker_engine))
    assert status.reasons == (Reason.OUT_OF_MEMORY,) and "out of memory, limit 16.0 MiB" in status.summary


@real
async def test_restarts_by_docker_do_not_outdate_the_plan(platform: DockerPlatform, docker_engine: Engine) -> None:
    """Docker starts a container in a crash loop again and again; this does not make the plan outdated."""
    container = compose(docker_engine, "--restart=always --- sleep 0.2; exit 3")
    until(lambda: int(docker_engine.inspect(container, "{{.RestartCount}}")) >= 1, "a restart")
    service = bound(docker_engine)
    planned = (await platform.status(service)).pin
    count = int(docker_engine.inspect(container, "{{.RestartCount}}"))
    until(lambda: int(docker_engine.inspect(container, "{{.RestartCount}}")) > count, "another restart")
    begun = docker_engine.inspect(container, "{{.State.StartedAt}}")
    await platform.restart(service, planned, 1)
    assert docker_engine.inspect(container, "{{.State.StartedAt}}") != begun


@real
@pytest.mark.promise(3)
async def test_a_restart_with_a_lost_answer_is_observed_as_done(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """The call times out after it took effect: the observation answers yes, so the call is not repeated."""
    container = compose(docker_engine)
    direct = bound(docker_engine)
    async with deaf(docker_engine.host) as (url, withheld):
        service = bound(docker_engine, url=url, timeout="2s")
        action = ServiceRestart(ClientSet(platforms={"docker": platform}))
        parameters = RestartParameters.model_validate({"stop_timeout": "1s"})
        since = datetime.now(UTC)
        call = await action.plan(direct, parameters)
        with pytest.raises(TimedOut):
            await action.execute(service, parameters, call)
        assert len(withheld) == 1
        seen = await action.observe(direct, parameters, call, since)
    assert seen.happened is EffectStatus.YES, seen.summary
    assert docker_engine.inspect(container, "{{.State.Status}}") == "running"


@real
@pytest.mark.promise(3)
@pytest.mark.parametrize("lost", [b"/start", b"/create"])
async def test_a_scaling_with_a_lost_answer_is_observed_as_done(
    platform: DockerPlatform, docker_engine: Engine, lost: bytes
) -> None:
    """A container was added and the answer was lost: the observation answers yes, so the call is not repeated.

    After half of the call, the observation answers no, and a second call leads to two containers, not three.
    """
    compose(docker_engine)
    direct = bound(docker_engine)
    action = ServiceScale(ClientSet(platforms={"docker": platform}))
    parameters = action.Parameters.model_validate({"replicas": 2})
    async with deaf(docker_engine.host, lambda request: lost in request.split(b"\r\n", 1)[0]) as (url, withheld):
        service, since = bound(docker_engine, url=url, timeout="2s"), datetime.now(UTC)
        call = await action.plan(direct, parameters)
        with pytest.raises(TimedOut):
            await action.execute(service, parameters, call)
        assert len(withheld) == 1
    seen = await action.observe(direct, parameters, call, since)
    assert seen.happened is (EffectStatus.YES if lost == b"/start" else EffectStatus.NO), seen.summary
    if seen.happened is EffectStatus.NO:
        await action.execute(direct, parameters, await action.plan(direct, parameters))
    assert (await platform.status(direct)).healthy == 2
    assert len(names(docker_engine)) == 2


@real
async def test_a_restart_that_did_not_arrive_is_observed_as_not_done(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """If the start time is the same as in the plan, the observation answers no."""
    compose(docker_engine)
    service = bound(docker_engine)
    action = ServiceRestart(ClientSet(platforms={"docker": platform}))
    call = await action.plan(service, RestartParameters())
    seen = await action.observe(service, RestartParameters(), call, datetime.now(UTC))
    assert seen.happened is EffectStatus.NO


@real
async def test_scaling_up_clones_containers_and_scaling_down_removes_them(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """New containers have the same image, settings, limits, networks and named volumes; the oldest containers stay."""
    docker_engine.cli("network", "create", f"--label=remediator.test={docker_engine.token}", f"n{docker_engine.token}")
    first = compose(
        docker_engine,
        f"--network=n{docker_engine.token} --network-alias=web --memory=32m --env=A=1 --restart=unless-stopped"
        f" --volume=v{docker_engine.token}:/data --volume=/scratch",
    )
    service = bound(docker_engine)
    assert "until 3 exist" in platform.describe_scale(service, 3)
    await platform.scale(service, (await platform.status(service)).pin, 3)
    status = await platform.status(service)
    assert (status.state, status.instances, status.healthy) == (State.RUNNING, 3, 3)
    assert names(docker_engine) == {"web_1", "web_2", "web_3"}
    twin = f"{docker_engine.token}_web_3"
    for template in (
        "{{.Config.Image}} {{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NetworkMode}}",
        "{{range .Config.Env}}{{.}} {{end}}",
        "{{range .NetworkSettings.Networks}}{{(index .Aliases 0)}}{{end}}",
    ):
        assert docker_engine.inspect(twin, template) == docker_engine.inspect(first, template)
    mounts = '{{range .Mounts}}{{if eq .Destination "%s"}}{{.Name}}{{end}}{{end}}'
    assert docker_engine.inspect(twin, mounts % "/data") == f"v{docker_engine.token}"
    assert docker_engine.inspect(twin, mounts % "/scratch") != docker_engine.inspect(first, mounts % "/scratch")
    assert docker_engine.inspect(twin, f'{{{{index .Config.Labels "{ADDED}"}}}}') == "scale"

    await platform.scale(service, status.pin, 1)
    assert names(docker_engine) == {"web_1"}
    assert list((await platform.status(service)).pin["containers"]) == [first]


@real
async def test_what_can_only_be_there_once_is_not_scaled(platform: DockerPlatform, docker_engine: Engine) -> None:
    """A container with a host port is not scaled, and scaling below one is refused."""
    compose(docker_engine, "--publish=127.0.0.1:0:80 --publish=127.0.0.1:39999:81")
    service = bound(docker_engine)
    pin = (await platform.status(service)).pin
    with pytest.raises(TargetError, match="publishes a port"):
        await platform.scale(service, pin, 2)
    with pytest.raises(TargetError, match="below one"):
        await platform.scale(service, pin, 0)
    assert names(docker_engine) == {"web_1"}


def image_id(context: Engine, name: str) -> str:
    """Return the ID of an image."""
    return context.cli("inspect", "--format", "{{.Id}}", name)


@real
async def test_a_rollback_keeps_everything_but_the_image(platform: DockerPlatform, docker_engine: Engine) -> None:
    """Each instance is replaced, and keeps its networks, aliases, volumes, settings and name; no old container is
    left."""
    good, bad = docker_engine.image, docker_engine.build("2", 'CMD ["false"]', "ENV RELEASE=bad")
    docker_engine.cli("network", "create", f"--label=remediator.test={docker_engine.token}", f"n{docker_engine.token}")
    flags = (
        f"--network=n{docker_engine.token} --network-alias=web --env=A=1 --restart=unless-stopped --volume=/data"
        f" --read-only --cap-drop=ALL --user=1000:1000"
    )
    old = [compose(docker_engine, flags, number=number, image=bad) for number in (1, 2)]
    service = bound(docker_engine, instances=2)
    until(lambda: docker_engine.inspect(old[0], "{{.RestartCount}}") >= "3", "a crash loop")
    before = await platform.status(service)
    assert before.state is State.CRASH_LOOP
    kept = (
        "{{range .Mounts}}{{.Name}}{{end}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}"
        " {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NetworkMode}}"
    )
    volumes = docker_engine.inspect(old[0], kept)
    releases = await platform.releases(service)
    assert {each.id: each.current for each in releases} == {
        image_id(docker_engine, good): False,
        image_id(docker_engine, bad): True,
    }
    to = image_id(docker_engine, good)
    assert "create each container again" in platform.describe_rollback(service, to)

    await platform.rollback(service, before.pin, to)

    status = await platform.status(service)
    assert status.state is State.RUNNING, status.summary
    assert names(docker_engine) == {"web_1", "web_2"}
    assert {each["image"] for each in status.facts["containers"]} == {good}
    new = f"{docker_engine.token}_web_1"
    assert docker_engine.inspect(new, kept) == volumes
    environment = docker_engine.inspect(new, "{{.Config.Env}}")
    assert "A=1" in environment and "FROM_IMAGE=one" in environment and "RELEASE" not in environment
    assert "web" in docker_engine.inspect(new, "{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}")
    after = {each.id: each for each in await platform.releases(service)}
    assert after[to].current and after[image_id(docker_engine, bad)].facts["redo"] is True
    assert docker_engine.inspect(new, f'{{{{index .Config.Labels "{UNDONE}"}}}}') == image_id(docker_engine, bad)


@real
@pytest.mark.promise(8)
async def test_a_plan_made_between_two_crashes_stays_valid(platform: DockerPlatform, docker_engine: Engine) -> None:
    """Docker counts the next restart before it waits; this is not a restart by another client."""
    container = compose(docker_engine, "--restart=always", "--- sleep 0.2; exit 1")
    service = bound(docker_engine)
    waits = "{{.State.Restarting}} {{.RestartCount}}"
    until(lambda: docker_engine.inspect(container, waits) in ("true 3", "true 4", "true 5"), "it waits")
    pin = (await platform.status(service)).pin
    begun = docker_engine.inspect(container, "{{.State.StartedAt}}")
    until(lambda: docker_engine.inspect(container, "{{.State.StartedAt}}") != begun, "it was started again")
    begun = docker_engine.inspect(container, "{{.State.StartedAt}}")
    await platform.restart(service, pin, 1)
    assert docker_engine.inspect(container, "{{.State.StartedAt}}") != begun


@real
@pytest.mark.promise(8)
async def test_a_crash_between_plan_and_approval_does_not_change_the_plan(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """Further crashes during the approval do not change the plan; a restart by another client does."""
    good, bad = docker_engine.image, docker_engine.build("2", 'CMD ["false"]')
    container = compose(docker_engine, "--restart=always", image=bad)
    service = bound(docker_engine)
    restarts = "{{.RestartCount}}"
    until(lambda: int(docker_engine.inspect(container, restarts)) >= 2, "a crash loop")
    action = ServiceRollback(ClientSet(platforms={"docker": platform}))
    call = await action.plan(service, RollbackParameters())
    count = docker_engine.inspect(container, restarts)
    until(lambda: docker_engine.inspect(container, restarts) != count, "one more crash")
    again = await action.plan(service, RollbackParameters())

    assert again.pin != call.pin and again.comparable() == call.comparable()
    done = await action.execute(service, RollbackParameters(), call)
    assert (done.outcome, done.output["to"]) == (Outcome.OK, image_id(docker_engine, good))


@real
async def test_releases_of_the_same_second_are_in_their_order(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The Engine lists times in whole seconds; the order of two releases within one second is known."""
    built = [docker_engine.build(str(number), f"ENV RELEASE={number}") for number in range(2, 8)]
    compose(docker_engine, "--- sleep 1000", image=built[-1])
    releases = await platform.releases(bound(docker_engine))
    assert [each.facts["tags"] for each in releases] == [[name] for name in [*reversed(built), docker_engine.image]]
    assert not any(each.facts.get("tied") for each in releases)


async def test_releases_with_the_same_age_are_not_chosen() -> None:
    """Reproducible builds have the same date: the order is unknown, so a person decides."""
    day = datetime(1980, 1, 1, tzinfo=UTC)
    now, before, other = (
        Release(id=name, created_at=day, current=name == "now", facts=facts)
        for name, facts in (("now", {"tied": True}), ("before", {"tied": True}), ("other", {}))
    )
    with pytest.raises(
        TargetError, match=r"several releases have the same age, so the release before now .* is unknown"
    ):
        previous("web", [now, before, other], ReleaseMemory())
    assert previous("web", [replace(now, facts={}), other, before], ReleaseMemory()) == (replace(now, facts={}), other)
    with pytest.raises(TargetError, match="several releases have the same age"):
        previous("web", [replace(now, facts={}), before, other], ReleaseMemory())


@real
async def test_a_rollback_needs_a_recorded_release(platform: DockerPlatform, docker_engine: Engine) -> None:
    """An unknown image name, a missing image and the running image are refused, and nothing is changed."""
    container = compose(docker_engine)
    service = bound(docker_engine)
    pin = (await platform.status(service)).pin
    docker_engine.cli("tag", docker_engine.image, f"other/{docker_engine.token}:1")
    try:
        for to in ("sha256:" + "0" * 64, "local/busybox:1", ""):
            with pytest.raises(TargetError, match="is not an image of"):
                await platform.rollback(service, pin, to)
        with pytest.raises(TargetError, match="already"):
            await platform.rollback(service, pin, image_id(docker_engine, docker_engine.image))
    finally:
        docker_engine.cli("rmi", f"other/{docker_engine.token}:1")
    assert list((await platform.status(service)).pin["containers"]) == [container]


@real
async def test_if_the_new_one_cannot_start_the_old_one_runs_again(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """If the container of the earlier image cannot start, the rollback leaves the old container running."""
    broken = docker_engine.build("2", 'CMD ["/not/there"]')
    container = compose(docker_engine)
    service = bound(docker_engine)
    with pytest.raises(DockerRefused):
        await platform.rollback(service, (await platform.status(service)).pin, image_id(docker_engine, broken))
    assert names(docker_engine) == {"web_1"}
    status = await platform.status(service)
    assert status.state is State.RUNNING and list(status.pin["containers"]) == [container]


@real
@pytest.mark.promise(3)
@pytest.mark.parametrize("silent_after", [b"/create", b"/stop", b"/start", b"DELETE", b"/rename"])
async def test_an_interrupted_rollback_is_observed_and_can_be_finished(
    platform: DockerPlatform, docker_engine: Engine, silent_after: bytes
) -> None:
    """After an interruption at any call, the observation distinguishes old and new containers, and a second rollback
    succeeds."""
    good, bad = docker_engine.image, docker_engine.build("2", 'CMD ["sleep", "1000"]')
    compose(docker_engine, image=bad)
    direct, to = bound(docker_engine), image_id(docker_engine, good)
    pin = (await platform.status(direct)).pin
    async with deaf(docker_engine.host, lambda request: silent_after in request.split(b"\r\n")[0]) as (url, withheld):
        with pytest.raises(TimedOut):
            await platform.rollback(bound(docker_engine, url=url, timeout="2s"), pin, to)
        assert len(withheld) == 1
    current = next(each for each in await platform.releases(direct) if each.current)
    took_effect = silent_after in (b"/start", b"DELETE", b"/rename")
    assert (current.id == to) is took_effect
    status = await platform.status(direct)
    assert status.state is (State.EXITED if silent_after == b"/stop" else State.RUNNING)
    if took_effect:
        await platform.rollback(direct, status.pin, image_id(docker_engine, bad))
    else:
        await platform.rollback(direct, status.pin, to)
    assert names(docker_engine) == {"web_1"}
    assert (await platform.status(direct)).state is State.RUNNING


@real
async def test_a_privileged_container_is_not_recreated(platform: DockerPlatform, docker_engine: Engine) -> None:
    """A privileged container may be restarted, but is neither copied nor recreated."""
    other = docker_engine.build("2", 'CMD ["sleep", "1000"]')
    compose(docker_engine, "--pid=host")
    service = bound(docker_engine)
    pin = (await platform.status(service)).pin
    with pytest.raises(TargetError, match="PidMode=host are not created"):
        await platform.rollback(service, pin, image_id(docker_engine, other))
    with pytest.raises(TargetError, match="PidMode=host are not created"):
        await platform.scale(service, pin, 2)
    assert names(docker_engine) == {"web_1"}


@real
async def test_containers_of_an_orchestrator_have_an_owner(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The guard ``managed_by`` names the manager that would revert a change."""
    compose(docker_engine, "--label=com.docker.swarm.service.name=shop_web")
    assert (await platform.status(bound(docker_engine))).facts["owner"] == {"kind": "swarm", "name": "shop_web"}


async def test_bindings_of_other_platforms_are_refused(platform: DockerPlatform) -> None:
    """A service of another platform is refused with an error."""
    service = Service.model_validate({"name": "x", "platform": {"kind": "systemd", "unit": "x.service"}})
    with pytest.raises(TargetError, match="does not run on Docker"):
        await platform.status(service)


def far(url: str) -> Service:
    """Return a service on an Engine that fails."""
    platform = {"kind": "docker", "url": url, "project": "p", "timeout": "300ms"}
    return Service.model_validate({"name": "web", "platform": platform})


async def test_an_engine_that_is_down_or_closed_is_unreachable(platform: DockerPlatform, tmp_path: Path) -> None:
    """If the socket is missing or not accessible, the error is :class:`Unreachable`."""
    with pytest.raises(Unreachable):
        await platform.status(far(f"unix://{tmp_path}/none.sock"))


async def test_an_invalid_answer_of_the_engine_is_a_bad_answer(platform: DockerPlatform) -> None:
    """An answer that is not HTTP, not JSON or not a list is a :class:`BadAnswer`."""
    version = "api-version: 1.41"
    for body in (b"<html>", b"{}", b"[{}]", b'[{"Id": 1}]'):
        async with peer(reply(200, body, version)) as server:
            with pytest.raises(BadAnswer):
                await platform.status(far(server.url))


async def test_a_call_that_a_proxy_forbids_is_refused(platform: DockerPlatform) -> None:
    """A 403 raises :class:`Refused` with the text of the proxy."""
    async with peer(reply(403, b"not allowed here")) as server:
        with pytest.raises(DockerRefused, match="not allowed here"):
            await platform.status(far(server.url))


@pytest.mark.parametrize(
    ("status", "missing"), [(404, ()), (403, ("call POST /containers/{id}/restart",)), (405, ("call POST",))]
)
async def test_missing_rights_are_asked_without_a_change(
    platform: DockerPlatform, status: int, missing: tuple[str, ...]
) -> None:
    """An allowed call for a container that does not exist gives 404; a proxy that denies the call gives 403 or 405."""
    async with peer(engine_with_proxy(status)) as server:
        found = await platform.missing_rights(far(server.url), "service.restart")
        assert len(found) == len(missing) and all(map(str.startswith, found, missing))
        asked = server.requests[-1].split()
    assert asked[0] == b"POST" and re.fullmatch(rb"/v1\.41/containers/[0-9a-f]{64}/restart", asked[1])


async def test_an_engine_that_fails_leaves_rights_unknown(platform: DockerPlatform) -> None:
    """A 500 neither proves nor denies a right, so the right is unknown."""
    async with peer(engine_with_proxy(500)) as server:
        with pytest.raises(DockerRefused, match="500"):
            await platform.missing_rights(far(server.url), "service.rollback")


async def test_a_slow_engine_times_out(platform: DockerPlatform) -> None:
    """The timeout of the binding limits each answer."""

    async def slow(_: bytes, writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed()

    async with peer(slow) as server:
        with pytest.raises(TimedOut, match=r"0\.3 s"):
            await platform.status(far(server.url))


def test_labels_of_containers_do_not_change() -> None:
    """A newer version understands the containers that an older version made."""
    words = (REPLACES, UNDONE, ADDED, NEW)
    assert words == ("remediator.replaces", "remediator.undone", "remediator.added", ".remediator-new")


def deploy(context: Engine, image: str) -> None:
    """Replace the container by one of another image, as Compose does; the labels of the old container are lost."""
    for container in context.cli("ps", "--all", "--quiet", f"--filter=label=remediator.test={context.token}").split():
        context.cli("rm", "--force", container)
    compose(context, "--restart=always", image=image)


@real
@pytest.mark.promise(12)
async def test_every_bad_release_is_rolled_back_to_the_last_good_one(
    platform: DockerPlatform, docker_engine: Engine
) -> None:
    """Bad releases are deployed one at a time: three new ones, the first one again, and one with an older build.

    Each rollback restores the good release.
    """
    service = bound(docker_engine)
    older = docker_engine.build("older", 'CMD ["false"]', "ENV RELEASE=older")
    good = docker_engine.build("good", 'CMD ["sleep", "1000"]')
    bad = [docker_engine.build(f"bad-{number}", 'CMD ["false"]', f"ENV RELEASE={number}") for number in range(3)]
    history = RollbackHistory(ServiceRollback(ClientSet(platforms={"docker": platform})), service)
    for image in (*bad, bad[0], older):
        deploy(docker_engine, image)
        if image == older:
            history.verdicts[image_id(docker_engine, docker_engine.image)] = Verdict.BAD  # no older release is usable
        call = await history.roll_back()
        assert call.arguments["to"] == image_id(docker_engine, good), image
        assert docker_engine.inspect(f"{docker_engine.token}_web_1", "{{.Config.Image}}") == good


@real
async def test_a_release_is_named_by_tag_version_and_commit(platform: DockerPlatform, docker_engine: Engine) -> None:
    """The name of a release has the tag, version and commit, not the digest of the image."""
    labels = ("version=1.4.2", "revision=0123456789abcdef")
    image = docker_engine.build("named", *(f"LABEL org.opencontainers.image.{each}" for each in labels))
    compose(docker_engine, "--- sleep 1000", image=image)

    named = next(each for each in await platform.releases(bound(docker_engine)) if each.current)

    assert named.name == f"{image} version 1.4.2 commit 0123456789ab"


@real
@pytest.mark.promise(7)
async def test_a_restarted_container_has_another_identity(platform: DockerPlatform, docker_engine: Engine) -> None:
    """After a restart, ``lives`` has another value for the instance. The container runs for a second each time."""
    container = compose(docker_engine, "--restart=always", "--- sleep 1; exit 1")
    first = (await platform.status(bound(docker_engine))).lives
    until(lambda: docker_engine.inspect(container, "{{.RestartCount}}") != "0", "it was started again")

    again = (await platform.status(bound(docker_engine))).lives

    assert set(first) == set(again) == {container} and first != again
