"""Each discoverer on its real source: files, HTTP, Prometheus, a cluster, a Docker Engine, and the JSON of Ansible."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.http_server import QuietHandler, serve
from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus as PrometheusClient
from remediator.errors import BadAnswer, ConfigurationError, InputError, Refused, RemediatorError, Unreachable
from remediator.extensions.clientset import ClientSet
from remediator.extensions.discoverers import BUILTIN
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory
from remediator.runtime.discovery import FAILED, look_up
from remediator.runtime.live_inventory import LiveInventory
from tests.support.servers import DEADLINE, free_port
from tests.support.servers.docker import Engine
from tests.support.servers.kubernetes import Cluster
from tests.support.servers.prometheus import Prometheus

REST = {
    "name": "${name}",
    "allow": {"names": ["*"], "labels": {"name": ["*"]}, "targets": 100},
    "template": {"platform": {"kind": "systemd", "unit": "nginx.service"}},
}


def inventory(base: Path, **settings: Any) -> Inventory:
    """Return an inventory with one discovery."""
    content = {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {}, "discover": {"x": REST | settings}}
    return Inventory.model_validate(content, context={"base": base})


async def find(base: Path, clients: ClientSet | None = None, **settings: Any) -> list[dict[str, str]]:
    """Return the sorted targets that a discoverer finds with these settings."""
    discovery = inventory(base, **settings).discover["x"]
    found = await Registry().make_discoverers(clients or ClientSet())[discovery.kind].find(discovery)
    return sorted((dict(each) for each in found), key=lambda each: sorted(each.items()))


def test_every_kind_of_the_inventory_has_a_discoverer() -> None:
    """The kinds of discovery in the inventory and the discoverers are the same."""
    kinds = {"prometheus_targets", "file_sd", "http_sd", "kubernetes", "docker_labels", "ansible_inventory"}
    assert {each.kind for each in BUILTIN} == kinds


async def test_files_are_read_as_prometheus_reads_them(tmp_path: Path) -> None:
    """JSON and YAML files and patterns are read, relative to the inventory; addresses may omit the port or be IPv6."""
    (tmp_path / "a.json").write_text('[{"targets": ["web-1:9100", "[fe80::1]:9100"], "labels": {"job": "node"}}]')
    (tmp_path / "b.yaml").write_text("- targets: [web-2]\n  labels: {job: node}\n")
    found = await find(tmp_path, kind="file_sd", files=["*.json", "b.yaml"])
    assert found == [
        {"__address__": "[fe80::1]:9100", "__host__": "fe80::1", "__port__": "9100", "job": "node"},
        {"__address__": "web-1:9100", "__host__": "web-1", "__port__": "9100", "job": "node"},
        {"__address__": "web-2", "__host__": "web-2", "job": "node"},
    ]


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", '[{"targets": "web"}]', '[{"targets": []}', "- targets: [1]", "&a [*a]", "\x00", "\xff"],
)
async def test_a_file_that_is_wrong_gives_no_targets_at_all(tmp_path: Path, content: str) -> None:
    """After an error, no targets are returned, because the missing ones would look removed."""
    (tmp_path / "good.json").write_text('[{"targets": ["web-1"]}]')
    for name in ("wrong.json", "wrong.yaml"):
        (tmp_path / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(InputError, match=r"expected \[{"):
            await find(tmp_path, kind="file_sd", files=["good.json", name])


async def test_a_source_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """A missing file, a folder instead of a file, and a server that does not answer are errors, not an empty set of
    targets."""
    with pytest.raises(InputError, match="no such file"):
        await find(tmp_path, kind="file_sd", files=["*.json"])
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        await find(tmp_path, kind="file_sd", files=["folder.json"])
    with pytest.raises(ConfigurationError, match="no Prometheus is known"):
        await find(tmp_path, kind="prometheus_targets")
    nowhere = {"url": f"http://127.0.0.1:{free_port()}"}
    for kind in ("http_sd", "prometheus_targets"):
        with pytest.raises(Unreachable):
            await find(tmp_path, kind=kind, server=nowhere)


async def test_a_hung_discovery_ends_at_its_timeout(tmp_path: Path) -> None:
    """A discovery that hangs ends at its timeout with a problem, and the targets do not change."""

    class Hangs(QuietHandler):
        def do_GET(self) -> None:
            self.rfile.read(1)

    with serve(Hangs) as url:
        slow = {"url": url, "timeout": "5s"}
        live = LiveInventory(inventory(tmp_path, kind="http_sd", server=slow, timeout="300ms"))
        discovery = live.written.discover["x"]
        outcome = await look_up(live, "x", discovery, Registry().make_discoverers(ClientSet())["http_sd"])
    assert (outcome.limit, outcome.targets) == (FAILED, None)
    assert "0.3 s" in outcome.problem


async def test_an_http_server_is_asked_with_its_credentials(tmp_path: Path) -> None:
    """The request has the whole URL and the credentials; a redirect and an answer in another format are errors."""
    (tmp_path / "token").write_text("opensesame")
    answers = {
        "/targets": (200, b'[{"targets": ["web-1:80"], "labels": {"team": "shop"}}]'),
        "/html": (200, b"<html>"),
        "/moved": (302, b""),
    }

    class Source(QuietHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == "Bearer opensesame"
            status, body = answers[self.path] if allowed else (401, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    async def ask(path: str, **more: str) -> list[dict[str, str]]:
        return await find(tmp_path, kind="http_sd", server={"url": f"{url}{path}", **more})

    with serve(Source) as url:
        found = await ask("/targets", token_file="token")
        assert found == [{"__address__": "web-1:80", "__host__": "web-1", "__port__": "80", "team": "shop"}]
        with pytest.raises(BadAnswer):
            await ask("/html", token_file="token")
        for refused in (ask("/moved", token_file="token"), ask("/targets")):
            with pytest.raises(Refused):
                await refused


async def test_targets_of_a_real_prometheus(tmp_path: Path, make_prometheus: Callable[..., Prometheus]) -> None:
    """Targets have the labels of their series, whether they are up or down."""
    nowhere = free_port()
    scrape = (
        "scrape_configs: [{job_name: node, static_configs: "
        f"[{{targets: ['SELF', '127.0.0.1:{nowhere}'], labels: {{team: shop}}}}]}}]"
    )
    server = make_prometheus(configuration=scrape)
    here, down = f"127.0.0.1:{server.port}", f"127.0.0.1:{nowhere}"
    async with asyncio.timeout(DEADLINE):  # Prometheus has no targets in its first seconds
        while not (own := await find(tmp_path, kind="prometheus_targets", server={"url": server.url})):
            await asyncio.sleep(0.1)
    client = PrometheusClient(Endpoint(url=server.url))
    try:
        shared = await find(tmp_path, ClientSet(prometheus=client), kind="prometheus_targets")
    finally:
        await client.aclose()
    assert own == shared
    assert {each["instance"] for each in own} == {each["__address__"] for each in own} == {here, down}
    assert {(each["job"], each["team"], each["__host__"]) for each in own} == {("node", "shop", "127.0.0.1")}


@pytest.mark.docker
async def test_containers_of_a_real_engine(tmp_path: Path, docker_engine: Engine) -> None:
    """The instances of a Compose service are one target. Stopped containers count, one-off containers do not."""
    token = docker_engine.token
    for number in (1, 2):
        labels = {"project": token, "service": "web", "container-number": str(number), "oneoff": "False"}
        flags = " ".join(f"--label=com.docker.compose.{name}={value}" for name, value in labels.items())
        docker_engine.run(f"--name={token}_web_{number}", flags, "--label=team=shop", f"--label=nr={number}")
    oneoff = " ".join(
        f"--label=com.docker.compose.{name}={value}"
        for name, value in {"project": token, "service": "web", "oneoff": "True"}.items()
    )
    docker_engine.run(f"--name={token}_web_run", oneoff, "--label=team=shop")
    docker_engine.run(f"--name={token}_alone", "--label=team=shop")
    docker_engine.cli("kill", f"{token}_alone")
    found = await find(
        tmp_path, kind="docker_labels", url=docker_engine.host, labels={"team": "shop", "remediator.test": token}
    )
    targets = {each["name"]: each for each in found}
    assert targets.keys() == {"web", f"{token}_alone"}
    web = targets["web"]
    assert (web["project"], web["service"], web["instances"], web["label.team"]) == (token, "web", "2", "shop")
    assert "label.nr" not in web and "project" not in targets[f"{token}_alone"]


@pytest.mark.kubernetes
async def test_workloads_of_a_real_cluster(tmp_path: Path, cluster: Cluster) -> None:
    """Workloads are selected by kind and labels in the named namespaces only; a missing right is an error."""
    cluster.deploy("web", "sleep 1000", replicas=0)
    cluster.deploy("queue", "sleep 1000", kind="StatefulSet", replicas=0, serviceName="queue")
    cluster.deploy("other", "sleep 1000", replicas=0)
    never = {"nodeSelector": {"nowhere": "true"}}
    cluster.deploy("agent", "sleep 1000", kind="DaemonSet")
    cluster.kubectl("patch", "daemonset", "agent", "--patch", json.dumps({"spec": {"template": {"spec": never}}}))
    for each in ("deployment/web", "statefulset/queue", "daemonset/agent"):
        cluster.kubectl("label", each, "team=shop")
    where = {"namespaces": [cluster.namespace], "selector": {"team": "shop"}, "kubeconfig": str(cluster.kubeconfig)}

    async def look(*kinds: str) -> set[tuple[str, str, str]]:
        found = await find(tmp_path, kind="kubernetes", kinds=list(kinds), **where)
        return {(each["kind"], each["name"], each["label.app"]) for each in found}

    assert await look("Deployment") == {("Deployment", "web", "web")}
    assert await look("StatefulSet", "DaemonSet") == {
        ("StatefulSet", "queue", "queue"),
        ("DaemonSet", "agent", "agent"),
    }
    where["namespaces"] = ["default"]
    assert await look("Deployment", "StatefulSet", "DaemonSet") == set()
    token = cluster.account("blind", {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    limited = tmp_path / "kubeconfig"
    shutil.copy(cluster.kubeconfig, limited)
    kubectl = ["kubectl", f"--kubeconfig={limited}", "config"]
    subprocess.run([*kubectl, "set-credentials", "blind", f"--token={token}"], check=True, capture_output=True)
    subprocess.run([*kubectl, "set-context", "--current", "--user=blind"], check=True, capture_output=True)
    where |= {"namespaces": [cluster.namespace], "kubeconfig": str(limited)}
    with pytest.raises(RemediatorError, match=r"(?i)forbidden"):
        await look("Deployment")


ANSIBLE = """
all:
  children:
    web:
      hosts:
        web-1:
          {ansible_host: 10.0.0.1, ansible_port: 2222, ansible_user: deploy, ansible_password: secret, spare: false}
        web-2: {}
    cache: {hosts: {redis-1: {tags: [a, b]}}}
    shop: {children: {web: {}, cache: {}}}
"""
LISTED = {
    "_meta": {
        "hostvars": {
            "redis-1": {"tags": ["a", "b"]},
            "web-1": {
                "ansible_host": "10.0.0.1",
                "ansible_password": "secret",
                "ansible_port": 2222,
                "ansible_user": "deploy",
                "spare": False,
            },
        }
    },
    "all": {"children": ["ungrouped", "shop"]},
    "shop": {"children": ["web", "cache"]},
    "cache": {"hosts": ["redis-1"]},
    "web": {"hosts": ["web-1", "web-2"]},
}
"""The output of ansible-inventory 2.14 for :data:`ANSIBLE`."""


def _listed(folder: Path, *, real: bool) -> None:
    """Write the output of ``ansible-inventory --list`` to a file, and return its path."""
    output = json.dumps(LISTED)
    if real:
        program = shutil.which("ansible-inventory") or pytest.skip("needs the ansible-inventory command")
        (folder / "hosts.yml").write_text(ANSIBLE)
        argv = [program, "-i", str(folder / "hosts.yml"), "--list"]
        output = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    (folder / "listed.json").write_text(output)


@pytest.mark.parametrize("real", [True, False], ids=["of the program", "documented"])
async def test_hosts_of_an_ansible_inventory(tmp_path: Path, real: bool) -> None:
    """Hosts of a group and its child groups are found, with Ansible's address and with variables that are single
    values."""
    _listed(tmp_path, real=real)
    found = await find(tmp_path, kind="ansible_inventory", file="listed.json", groups=["shop"])
    hosts = {each["name"]: each for each in found}
    assert hosts.keys() == {"web-1", "web-2", "redis-1"}
    one = hosts["web-1"]
    assert (one["__host__"], one["__port__"], one["__address__"]) == ("10.0.0.1", "2222", "10.0.0.1:2222")
    assert (one["var.ansible_user"], one["var.spare"]) == ("deploy", "false")
    assert hosts["web-2"]["__host__"] == "web-2" and "var.tags" not in hosts["redis-1"]
    assert {each["name"] for each in await find(tmp_path, kind="ansible_inventory", file="listed.json", groups=["web"])}
    with pytest.raises(InputError, match="unknown group 'wep'; did you mean 'web'"):
        await find(tmp_path, kind="ansible_inventory", file="listed.json", groups=["wep"])


async def test_only_labels_of_the_allow_list_are_kept(tmp_path: Path) -> None:
    """Only allowed labels are kept, so a password in the variables of a host does not reach the store."""
    _listed(tmp_path, real=False)
    live = LiveInventory(inventory(tmp_path, kind="ansible_inventory", file="listed.json", groups=["web"]))
    discovery = live.written.discover["x"]
    outcome = await look_up(live, "x", discovery, Registry().make_discoverers(ClientSet())["ansible_inventory"])
    assert outcome.targets is not None
    assert (outcome.targets.labels, outcome.targets.rows) == (("name",), (("web-1",), ("web-2",)))


@pytest.mark.parametrize("content", ["", "[]", '{"web": {"hosts": "web-1"}}', '{"web": 1}'])
async def test_an_ansible_inventory_that_is_wrong_is_an_error(tmp_path: Path, content: str) -> None:
    """Invalid JSON, for example the error message of a failed program, is an error."""
    (tmp_path / "listed.json").write_text(content)
    with pytest.raises(InputError, match="expected the output of ansible-inventory --list"):
        await find(tmp_path, kind="ansible_inventory", file="listed.json", groups=["web"])
