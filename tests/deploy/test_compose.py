"""The Compose files: permissions, start order and restrictions of every container."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from remediator.clients.docker import container_metrics
from remediator.config import Config
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load_config, read
from remediator.runtime.metrics import Metrics
from tests.alerting.test_rules import run
from tests.support.servers import require
from tests.support.servers.remediator import ROOT

COMPOSE = ROOT / "deploy/compose"
DASHBOARDS = sorted((COMPOSE / "grafana/dashboards").glob("*.json"))
FOREIGN = ("up", "ALERTS", "http_", "cache_", "app_", "redis_", "node_")
"""Prefixes of metrics of Prometheus, the app and the exporters. Other metrics are ours or of container_metrics."""


def files(*names: str) -> dict[str, Any]:
    """Return the services of the files. A later file overrides an earlier one."""
    services: dict[str, Any] = {}
    for name in names:
        for service, body in yaml.safe_load((ROOT / name).read_text())["services"].items():
            services[service] = {**services.get(service, {}), **body}
    return services


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.prod.yml"])
def test_every_container_is_restricted(name: str) -> None:
    """Every container has a non-root user, a read-only root, limits, a pinned image and no capabilities."""
    for service, body in files("docker-compose.yml", name).items():
        assert body.get("privileged") is None and body.get("network_mode") is None, service
        assert body["read_only"] is True and body["cap_drop"] == ["ALL"], service
        assert body["security_opt"] == ["no-new-privileges:true"], service
        assert body["pids_limit"] and body["logging"]["options"]["max-size"], service
        image = body["image"]
        assert re.search(r":(\$\{\w+:-)?v?[0-9]", image) or image.startswith("${APP_IMAGE:?"), image
        if not image.startswith(("remediator", "${APP_IMAGE")):  # our images set USER in their Dockerfiles
            assert not str(body["user"]).startswith(("0", "root")), service
        if service not in ("remediator_migrate", "remediator_grant", "remediator_keys"):  # these end after their task
            assert "memory" in body["deploy"]["resources"]["limits"], service
            assert body["healthcheck"]["test"], service


@pytest.mark.parametrize("path", ["Dockerfile", "app/Dockerfile"])
def test_our_images_do_not_run_as_root(path: str) -> None:
    """The last USER of each Dockerfile is a number, which proves that it is not root. The base image is pinned."""
    text = (ROOT / path).read_text()
    assert re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)[-1] != "0"
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-", text, re.MULTILINE)


def test_the_package_has_all_of_its_files() -> None:
    """The package includes its files that are not Python: templates, styles and the marker of types."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["remediator"]
    package = ROOT / "remediator"
    packed = {path for pattern in wanted for path in package.glob(pattern)}
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there and there <= packed, there - packed


def test_only_the_proxies_reach_the_engine() -> None:
    """Only two containers have the socket, each in a network with its clients. One of them is read-only."""
    services = files("docker-compose.yml")
    holders = {name for name, body in services.items() if "docker.sock" in json.dumps(body.get("volumes", []))}
    assert holders == {"socket_proxy", "socket_proxy_read"}
    asks = {
        net: {name for name, body in services.items() if net in body["networks"]} for net in ("socket", "socket_read")
    }
    assert asks == {
        "socket": {"socket_proxy", "remediator"},
        "socket_read": {"socket_proxy_read", "container_metrics"},
    }
    assert services["socket_proxy_read"]["environment"]["READ_ONLY"] == "1"


def test_published_ports_are_on_loopback() -> None:
    """No port of the stack is open to other hosts."""
    published = [port for body in files("docker-compose.yml").values() for port in body.get("ports", ())]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_services_wait_for_healthy_dependencies() -> None:
    """Every depends_on has a condition and names existing services."""
    services = files("docker-compose.yml", "docker-compose.prod.yml")
    waits = {name: body["depends_on"] for name, body in services.items() if "depends_on" in body}
    assert {"app", "nginx", "alertmanager", "grafana", "remediator"} <= waits.keys()
    for name, conditions in waits.items():
        for other, how in conditions.items():
            assert other in services and how["condition"] in ("service_healthy", "service_completed_successfully"), name


def test_no_secret_is_in_a_file_of_the_stack() -> None:
    """Secrets are files in a folder that is never committed, and are never in the environment."""
    for name in ("docker-compose.yml", "docker-compose.prod.yml"):
        document = yaml.safe_load((ROOT / name).read_text())
        assert all(each["file"].startswith("./deploy/compose/secrets/") for each in document["secrets"].values())
        for body in document["services"].values():
            for key, value in (body.get("environment") or {}).items():
                assert not re.search("PASSWORD|TOKEN|SECRET", key) or str(value).startswith("/run/secrets/"), key
    assert "/deploy/compose/secrets/" in (ROOT / ".gitignore").read_text()


@pytest.mark.parametrize("overlay", [(), ("docker-compose.prod.yml",)])
def test_compose_accepts_the_files(overlay: tuple[str, ...]) -> None:
    """Compose accepts the base file alone and with the overlay."""
    flags = [part for name in ("docker-compose.yml", *overlay) for part in ("-f", str(ROOT / name))]
    argv = [require("docker-compose"), "-p", "checked", *flags, "config", "-q"]
    environment = {**os.environ, "APP_IMAGE": "registry.example.com/app:1.0", "DOCKER_HOST": "unix:///nowhere"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["remediator.yaml", "remediator.prod.yaml"])
def test_the_remediator_accepts_its_settings(name: str) -> None:
    """Settings and inventory load, and each of their services is in the Compose file with the label of the platform."""
    assert load_config(COMPOSE / name, Config).environment in ("compose", "production")
    services = files("docker-compose.yml")
    for service in read(COMPOSE / "inventory.yaml", Inventory).services:
        assert services[service]["labels"] == {"remediator.service": service}


def test_prometheus_accepts_its_settings(tmp_path: Path) -> None:
    """promtool accepts the settings and the rules."""
    (tmp_path / "alerting").mkdir()
    (tmp_path / "alerting/rules.yml").write_text((ROOT / "alerting/rules.yml").read_text())
    (tmp_path / "prometheus.yml").write_text((COMPOSE / "prometheus.yml").read_text())
    done = run("promtool", "check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_query_existing_metrics(path: Path, tmp_path: Path) -> None:
    """Each query of a dashboard is valid PromQL, uses the provisioned data source, and names existing metrics."""
    board = json.loads(path.read_text())
    provisioned = yaml.safe_load((COMPOSE / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    sources = {each["uid"] for each in provisioned["datasources"]}
    asked = []
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] in sources and panel["title"]
        asked += [target["expr"] for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    checked = run("promtool", "check", "rules", str(tmp_path / "rules.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    exposed = _exposed()
    for name in re.findall(r"\b(up|ALERTS|[a-z]+(?:_[a-z]+)+)\b(?=[{\[\s]|$)", " ".join(asked)):
        assert name.startswith(FOREIGN) or name.removesuffix("_bucket") in exposed, name


def _exposed() -> set[str]:
    text = Metrics().render().decode()
    ours = {
        sample for family in text_string_to_metric_families(text) for sample in (family.name, f"{family.name}_total")
    }
    theirs = {family.name for family in container_metrics.Snapshot(()).collect()}
    return ours | theirs | {f"{name}_total" for name in theirs}


def test_the_dashboards_are_in_the_provisioned_folder() -> None:
    """The provisioning names the folder that Compose mounts."""
    provider = yaml.safe_load((COMPOSE / "grafana/provisioning/dashboards/files.yaml").read_text())["providers"][0]
    mounts = files("docker-compose.yml")["grafana"]["volumes"]
    assert f"./deploy/compose/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert len(DASHBOARDS) == 2
