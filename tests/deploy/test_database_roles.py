"""With the database roles of the installations, the service can append to the audit log but not change it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml

from remediator.storage.url import open_engine, parse_postgresql_url
from tests.deploy.test_compose import files
from tests.deploy.test_kubernetes import FOLDER, of_kind
from tests.support import commands
from tests.support.servers.postgres import Postgres
from tests.support.servers.remediator import ROOT

PRODUCTION = ("docker-compose.yml", "docker-compose.prod.yml")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    """Return a server after its first start: the shipped script has created database and roles."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # the folders of pytest are closed to the user of PostgreSQL
    server = Postgres(folder)
    server.start()
    try:
        for name in ("owner", "service"):
            (tmp_path / name).write_text(f"it's {name}")
        environment = {
            "PATH": f"{Path(server.program('psql')).parent}:/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "OWNER_PASSWORD_FILE": str(tmp_path / "owner"),
            "SERVICE_PASSWORD_FILE": str(tmp_path / "service"),
        }
        subprocess.run(["bash", FOLDER / "remediator/create-database.sh"], env=environment, check=True)
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def url(server: Postgres, role: str) -> str:
    """Return the URL of the database for a role, as in the secrets."""
    return f"postgresql://{role}@127.0.0.1:{server.port}/remediator"


def shipped_commands() -> list[list[str]]:
    """Return the commands of the init containers in Kubernetes, which Compose runs once."""
    (deployment,) = [each for each in of_kind("Deployment") if each["metadata"]["name"] == "remediator"]
    found: list[list[str]] = [each["args"] for each in deployment["spec"]["template"]["spec"]["initContainers"]]
    services = files(*PRODUCTION)
    once = [services[name]["command"] for name in ("remediator_migrate", "remediator_grant")]
    assert [each[:-1] for each in once] == [each[:-1] for each in found]  # the paths of the secrets differ
    return found


def test_the_service_cannot_change_the_audit_log(server: Postgres, tmp_path: Path) -> None:
    """After four replicas ran the shipped commands at once, PostgreSQL refuses every statement against entries."""
    (tmp_path / "owner-url").write_text(url(server, "remediator_owner"))
    config = tmp_path / "remediator.yaml"
    settings = yaml.safe_load((FOLDER / "remediator/remediator.yaml").read_text())
    config.write_text(yaml.safe_dump(settings))
    for words in shipped_commands():
        argv = (*words[:-1], str(tmp_path / "owner-url"), "--config", str(config))
        with ThreadPoolExecutor(4) as replicas:
            done = list(replicas.map(lambda _, argv=argv: commands.remediator(*argv), range(4)))  # type: ignore[misc]
        assert all(each.returncode == 0 for each in done), [each.stderr for each in done]
    engine = open_engine(parse_postgresql_url(url(server, "remediator_service")))
    with engine.connect() as connection:
        for statement in ("SELECT count(*) FROM audit", "SELECT count(*) FROM runs"):
            assert connection.exec_driver_sql(statement).scalar_one() == 0
    for statement in (
        "UPDATE audit SET seq = 0",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "CREATE TABLE other (id int)",
        "SET ROLE remediator_owner",
    ):
        with engine.connect() as connection, pytest.raises(sqlalchemy.exc.DBAPIError, match=r"permission|owner"):
            connection.exec_driver_sql(statement)
    rows = server.sql(
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname ~ '^remediator'"
    )
    assert sorted(rows.splitlines()) == ["remediator_owner|f|f|f", "remediator_service|f|f|f"]


def test_only_migrations_and_backups_know_the_owner() -> None:
    """In both overlays, neither a container of remediator nor its URL has the owner's password."""
    services = files(*PRODUCTION)
    owners = {name for name, body in services.items() if any("owner" in str(each) for each in body.get("secrets", ()))}
    assert owners == {"postgres", "postgres_backup", "remediator_migrate", "remediator_grant"}
    assert "postgres_url" in services["remediator"]["secrets"]
    (deployment,) = [each for each in of_kind("Deployment") if each["metadata"]["name"] == "remediator"]
    pod = deployment["spec"]["template"]["spec"]
    for each in pod["initContainers"]:
        assert "owner" in _mounted(each) and "secrets" not in _mounted(each), each["name"]
    (container,) = pod["containers"]
    assert "secrets" in _mounted(container) and "owner" not in _mounted(container)
    for script in ("deploy/compose/secrets.sh", "deploy/kubernetes/secrets.sh"):
        text = (ROOT / script).read_text()
        assert "postgresql://remediator_service:$" in text and "postgresql://remediator_owner:$" in text, script


def _mounted(container: dict[str, Any]) -> set[str]:
    return {each["name"] for each in container["volumeMounts"]}
