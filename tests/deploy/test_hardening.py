"""The shipped Compose files, manifests and images follow the usual hardening rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml

from tests.deploy.test_compose import files
from tests.deploy.test_kubernetes import FOLDER, of_kind
from tests.support.servers import DEADLINE, require, until
from tests.support.servers.postgres import Postgres
from tests.support.servers.remediator import ROOT

OVERLAYS = (("docker-compose.yml",), ("docker-compose.yml", "docker-compose.prod.yml"))
ENDS_ALONE = ("remediator_migrate", "remediator_grant", "remediator_keys")
"""Services that perform one task and end."""
DOCUMENTATION = (ROOT / "docs/deployment.md").read_text()
OLDEST = {
    "apps/v1": (1, 9),
    "autoscaling/v2": (1, 23),
    "batch/v1": (1, 21),
    "networking.k8s.io/v1": (1, 19),
    "policy/v1": (1, 21),
    "rbac.authorization.k8s.io/v1": (1, 8),
    "v1": (1, 0),
}
"""The Kubernetes version that first has CronJob, PodDisruptionBudget and the other kinds in this API version."""


def templates() -> list[tuple[str, dict[str, Any]]]:
    """Return the pods of all workloads, with the name of their workload."""
    jobs = [each["spec"]["jobTemplate"] for each in of_kind("CronJob")]
    workloads = [*of_kind("Deployment"), *of_kind("StatefulSet")]
    found = [(each["metadata"]["name"], each["spec"]["template"]["spec"]) for each in workloads]
    return found + [("postgres-backup", each["spec"]["template"]["spec"]) for each in jobs]


@pytest.mark.parametrize("names", OVERLAYS, ids=["development", "production"])
def test_every_container_is_bounded_and_watched(names: tuple[str, ...]) -> None:
    """Every container has limits for processes, memory, CPU and logs, and a health check."""
    for service, body in files(*names).items():
        assert body["pids_limit"] <= 512, service
        assert {"max-size", "max-file"} <= body["logging"]["options"].keys(), service
        if service not in ENDS_ALONE:
            assert {"cpus", "memory"} <= body["deploy"]["resources"]["limits"].keys(), service
            assert body["healthcheck"]["test"] and body["restart"] == "unless-stopped", service


def test_images_have_one_version_everywhere() -> None:
    """Every tag is a full version and not *latest*, and Compose and Kubernetes use the same tags."""
    compose = {body["image"] for body in files(*OVERLAYS[1]).values()}
    pods = {each["image"] for _, pod in templates() for each in pod["containers"]}
    tags: dict[str, set[str]] = {}
    for image in compose | pods:
        name, _, tag = image.partition("@")[0].partition(":")
        if name.startswith(("remediator", "${")):  # the versions of our images are in variables and kustomizations
            continue
        assert re.match(r"v?\d+\.\d+(\.\d+)?", tag), image
        tags.setdefault(name, set()).add(tag)
    assert all(len(found) == 1 for found in tags.values()), tags
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^ARG REDIS_IMAGE=redis:(\S+?)(?:@\S+)?$", dockerfile, re.MULTILINE) == list(tags["redis"])
    assert "make pin-images" in DOCUMENTATION


@pytest.mark.parametrize("path", ["Dockerfile", "app/Dockerfile"])
def test_our_images_have_labels_and_a_version(path: str) -> None:
    """Our images have the labels of the Open Container Initiative, with the version of the package."""
    text = (ROOT / path).read_text()
    for name in ("title", "description", "version", "licenses"):
        assert f"org.opencontainers.image.{name}=" in text
    version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    if path == "Dockerfile":
        assert f"ARG VERSION={version}\n" in text and 'image.version="${VERSION}"' in text
        assert "REMEDIATOR_CONFIG=/etc/remediator/remediator.yaml" in text


def test_a_database_stops_and_backs_up_in_time() -> None:
    """A database has more than the ten seconds of Compose to stop, because a killed server must recover first."""
    services = files(*OVERLAYS[1])
    assert services["postgres"]["stop_grace_period"] == "60s"
    assert services["redis"]["stop_grace_period"] == "20s"
    (database,) = of_kind("StatefulSet")
    assert database["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60
    (backup,) = of_kind("CronJob")
    assert backup["spec"]["schedule"] and backup["spec"]["concurrencyPolicy"] == "Forbid"
    assert "postgres_backups:/var/lib/postgresql/data" in services["postgres_backup"]["volumes"]


def test_production_runs_two_replicas_behind_one_address() -> None:
    """The proxy of the console finds both replicas by their name."""
    services = files(*OVERLAYS[1])
    assert services["remediator"]["deploy"]["replicas"] == 2 and "ports" not in services["remediator"]
    assert services["console"]["ports"] and "remediator" in services["console"]["depends_on"]
    assert "set $remediator remediator:8095" in (ROOT / "deploy/compose/console.conf").read_text()


def test_pods_start_slowly_end_gently_and_stay_available() -> None:
    """Slow pods have a startup probe, serving pods wait before they stop, and each pair has a disruption budget."""
    for name, pod in templates():
        container = pod["containers"][0]
        if name in ("remediator", "app", "postgres", "redis"):
            assert "startupProbe" in container and "readinessProbe" in container, name
        if name in ("remediator", "app"):
            assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "sleep", name
            seconds = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            assert pod["terminationGracePeriodSeconds"] >= seconds + 15, name
    pairs = {each["metadata"]["name"] for each in of_kind("Deployment") if each["spec"]["replicas"] > 1}
    assert pairs == {each["metadata"]["name"] for each in of_kind("PodDisruptionBudget")} == {"remediator", "app"}


def test_manifests_fit_the_documented_version_of_kubernetes() -> None:
    """Each API version exists in the oldest documented Kubernetes, and kubectl is the only tool."""
    oldest = tuple(map(int, re.findall(r"You need Kubernetes (\d+)\.(\d+) or newer", DOCUMENTATION)[0]))
    for path in FOLDER.rglob("*.yaml"):
        if path.name in (
            "admission.yaml",
            "monitoring.yaml",
            "kustomization.yaml",
            "inventory.yaml",
            "remediator.yaml",
        ):
            continue
        for each in yaml.safe_load_all(path.read_text()):
            assert OLDEST[each["apiVersion"]] <= oldest, (path, each["kind"])
    install = re.findall(r"### Install\n+```\n(.*?)```", DOCUMENTATION, re.DOTALL)[0]
    programs = {line.split("|")[0].split()[0] for line in install.splitlines() if not line.startswith("CHAT_URL")}
    assert programs <= {"kubectl", "deploy/kubernetes/rules.sh"}, programs


def test_the_documentation_has_tls_examples_for_nginx_and_ingress() -> None:
    """There is an example of TLS for nginx and one for an Ingress."""
    assert "ssl_certificate " in DOCUMENTATION and "kind: Ingress" in DOCUMENTATION


def test_dumps_are_checked_and_the_oldest_removed(postgres: Postgres, tmp_path: Path) -> None:
    """The dump script of Compose writes dumps that pg_restore reads, and never keeps more than its limit."""
    require("pg_dump")
    name = postgres.database()
    server = sqlalchemy.make_url(postgres.url(name))
    (tmp_path / "password").write_text("none is needed")
    environment = {
        "PATH": "/usr/lib/postgresql/15/bin:/usr/bin:/bin",
        "PGHOST": str(server.host or server.query["host"]),
        "PGPORT": str(server.port or server.query.get("port", "5432")),
        "PGUSER": str(server.username),
        "PGDATABASE": name,
        "PASSWORD_FILE": str(tmp_path / "password"),
        "FOLDER": str(tmp_path),
        "EVERY": "1",
        "KEEP": "2",
    }
    argv = ["bash", str(ROOT / "deploy/compose/backup.sh")]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as script:
        try:
            assert script.stdout is not None
            lines = [script.stdout.readline() for _ in range(4)]
            until(lambda: len(list(tmp_path.glob("*.dump"))) <= 2, "old dumps removed")
        finally:
            script.terminate()
        assert script.wait(DEADLINE) == 0
    assert all(line.startswith("backup written: ") for line in lines), lines
    dumps = sorted(tmp_path.glob("*.dump"))
    assert 1 <= len(dumps) <= 3
    for dump in dumps:
        subprocess.run(["pg_restore", "--list", dump], check=True, capture_output=True)
    postgres.drop(name)


def test_a_dump_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Without a server, the error names the time of the next attempt, and no file remains."""
    require("pg_dump")
    (tmp_path / "password").write_text("x")
    environment = {
        "PATH": "/usr/lib/postgresql/15/bin:/usr/bin:/bin",
        "PGHOST": str(tmp_path),
        "PASSWORD_FILE": str(tmp_path / "password"),
        "FOLDER": str(tmp_path),
        "EVERY": "60",
    }
    argv = ["bash", str(ROOT / "deploy/compose/backup.sh")]
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as script:
        try:
            assert script.stderr is not None
            said = next(line for line in script.stderr if line.startswith("backup failed"))
        finally:
            script.terminate()
        assert script.wait(DEADLINE) == 0
    assert said == "backup failed, the next try is in 60\n"
    assert list(tmp_path.glob("*.dump*")) == []
