"""``remediator playbook new`` writes a playbook that works at once and cannot do harm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from remediator.cli.main import cli
from remediator.extensions.registry import Registry
from tests.support import commands

pytestmark = pytest.mark.process

INVENTORY = """\
apiVersion: remediator/v1
kind: Inventory
services:
  redis:
    platform: {kind: supervisor, url: "unix:///run/supervisor.sock", program: redis}
    redis: {host: 127.0.0.1, port: 6379}
  shop:
    platform: {kind: supervisor, url: "unix:///run/supervisor.sock", program: shop}
    http: {url: "http://127.0.0.1:8000", ready: /readyz}
  worker:
    platform: {kind: supervisor, url: "unix:///run/supervisor.sock", program: worker}
    alerts_as: {job: worker}
  api:
    platform: {kind: kubernetes, namespace: shop, deployment: api}
    alert_label_values: {pod: ["api-*"]}
  everything:
    platform: {kind: docker, project: shop}
    redis: {host: 127.0.0.1, port: 6379}
    app_server: {pid_file: /run/app.pid}
    disk: {path: /var/lib/redis}
    backups: {path: /var/backups/redis}
    nginx: {include: /etc/nginx/limits.conf, pid_file: /run/nginx.pid}
    argocd: {namespace: argocd, application: shop}
    flux: {namespace: flux-system, kind: Kustomization, name: shop}
    github: {repository: example/shop, token_file: /run/secrets/github}
    elasticache: {replication_group: shop, region: eu-central-1}
    postgres:
      host: 127.0.0.1
      database: shop
      statements:
        retry-jobs: {update: public.jobs, set: {state: waiting}, where: "state = 'failed'", max_rows: 10}
  workload:
    platform: {kind: kubernetes, namespace: shop, deployment: shop}
    http: {url: "http://shop.example.com", ready: /readyz}
    jobs: {reindex: {manifest: job.yaml}}
"""
JOB = """\
apiVersion: batch/v1
kind: Job
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: shop}]}}}
"""
SETTINGS = """\
apiVersion: remediator/v1
kind: Config
state: state
playbooks: [p]
inventory: inventory.yaml
channels: {infrastructure: {kind: log}}
commands:
  queue-length: {argv: [/bin/true], read_only: true}
  fill-cache: {argv: [/bin/true, "{shop}"], parameters: {shop: "[a-z]{2,10}"}}
requests:
  disable-checkout: {url: "https://flags.example.com/api/checkout/disable"}
"""
RULES = """\
groups:
  - name: shop
    rules:
      - {alert: ShopDown, expr: 'up{job="shop"} == 0', labels: {service: shop}}
      - {alert: CacheSlow, expr: 'redis_slow > 1', labels: {service: redis}}
      - {alert: WorkerDown, expr: 'up{job="worker"} == 0', labels: {job: worker}}
      - {alert: ApiDown, expr: 'kube_pod_status_ready{pod=~"api-.*"} == 0', labels: {pod: "{{ $labels.pod }}"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a project with an inventory and rules."""
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "alerting").mkdir()
    (tmp_path / "alerting" / "rules.yml").write_text(RULES)
    return tmp_path


def remediator(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return commands.remediator(*arguments, folder=folder, environment={})


@pytest.mark.parametrize(
    ("name", "target", "matcher"),
    [
        ("shop-down", "shop", 'service="shop"'),
        ("cache-slow", "redis", 'service="redis"'),
        ("worker-down", "worker", 'job="worker"'),
        ("api-down", "api", 'pod=~"api-.*"'),
    ],
)
def test_a_new_playbook_passes_lint_and_its_test(folder: Path, name: str, target: str, matcher: str) -> None:
    """The new playbook names target, causes and positive facts. Lint and its test pass, in mode auto too."""
    made = remediator(folder, "playbook", "new", name, "--target", target)
    assert made.returncode == 0, made.stderr
    text = (folder / "playbooks" / f"{name}.yaml").read_text()
    assert f"target: {target}\n" in text
    assert f"matchers: ['{matcher}']" in text
    assert "    for: [" in text
    assert "mode: shadow" in text
    assert ".ok" not in text.split("conclude:")[1].split("verify:")[0]
    (folder / "playbooks" / f"{name}.yaml").write_text(text.replace("mode: shadow", "mode: auto"))

    checked = remediator(folder, "lint", "playbooks", "--format", "json")
    found = {item["rule"] for item in json.loads(checked.stdout)["findings"]}
    assert found <= ({"weak-proof"} if target in ("worker", "api") else set()), checked.stdout  # these have no probe
    tested = remediator(folder, "test", "playbooks")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_an_existing_playbook_is_not_overwritten(folder: Path) -> None:
    """The command refuses to overwrite a playbook, and the file is unchanged."""
    path = folder / "playbooks" / "shop-down.yaml"
    path.parent.mkdir()
    path.write_text("mine")

    made = remediator(folder, "playbook", "new", "shop-down")

    assert made.returncode == 2
    assert "already exists" in made.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Shop Down"], "is not a valid name"),
        (["other"], "the target is not known"),
        (["x", "--target", "redsi"], "did you mean 'redis'"),
    ],
)
def test_missing_values_are_reported(folder: Path, arguments: list[str], said: str) -> None:
    """An invalid name, an unknown target or a misspelled service is an error with exit status 2."""
    made = remediator(folder, "playbook", "new", *arguments)
    assert made.returncode == 2
    assert said in made.stderr


MUTATING = sorted(action.name for action in Registry().actions if action.mutates)


@pytest.mark.long
@pytest.mark.parametrize("action", MUTATING)
def test_every_action_can_be_the_remedy_of_a_new_playbook(folder: Path, action: str) -> None:
    """With ``--action`` and any mutating action, lint has no findings and the tests pass."""
    target = "workload" if action.startswith(("pod.", "job.")) else "everything"
    (folder / "remediator.yaml").write_text(SETTINGS)
    arguments = [
        "playbook",
        "new",
        "it-broke",
        "--target",
        target,
        "--action",
        action,
        "--output-dir",
        str(folder / "p"),
    ]
    rules = (folder / "alerting/rules.yml").read_text()
    (folder / "alerting/rules.yml").write_text(
        rules + f"      - {{alert: ItBroke, expr: up, labels: {{service: {target}}}}}\n"
    )
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    linted = CliRunner().invoke(cli, ["lint", str(folder / "p")])
    assert linted.exit_code == 0, linted.output
    assert "never-acts" not in linted.output and "unknown-" not in linted.output, linted.output
    tested = CliRunner().invoke(cli, ["test", str(folder / "p")])
    assert tested.exit_code == 0, tested.output


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("service.restrt", "did you mean 'service.restart'"),
        ("service.logs", "only reads"),
        ("service.scale", "not possible on shop: the platform supervisor of shop does not support it"),
        ("redis.bgsave", "not possible on shop: the inventory does not set redis and disk for shop"),
        ("command.run", "the settings have no commands that change something; declare one first"),
        ("http.request", "the settings have no requests that change something; declare one first"),
    ],
)
def test_a_wrong_action_is_named(folder: Path, action: str, says: str) -> None:
    """The error names the wrong action, and nothing is written."""
    head = SETTINGS.partition("commands:")[0]
    (folder / "remediator.yaml").write_text(head)
    done = CliRunner().invoke(
        cli, ["playbook", "new", "it-broke", "--target", "shop", "--action", action, "--output-dir", str(folder / "p")]
    )
    assert says in str(done.exception)
    assert not (folder / "p").exists()
