"""``remediator explain`` compares the alert with the target: it shows both values and their relation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import commands

pytestmark = pytest.mark.process

FILES = {
    "remediator.yaml": """\
apiVersion: remediator/v1
kind: Config
state: state
playbooks: [playbooks]
inventory: inventory.yaml
""",
    "inventory.yaml": """\
apiVersion: remediator/v1
kind: Inventory
services:
  redis:
    platform: {kind: supervisor, url: "unix:///run/none.sock", program: redis}
    redis: {host: 127.0.0.1, port: 6379}
    alert_label_values: {instance: ["10.0.0.5:9100"]}
""",
    "playbooks/redis-disk.yaml": """\
apiVersion: remediator/v1
kind: Playbook
name: redis-disk
match: {alertname: RedisDiskFull}
target: redis
steps: [{id: rewrite, action: redis.bgrewriteaof}]
""",
}


def explain(folder: Path, labels: dict[str, str], *more: str, about: str = "") -> str:
    """Return what ``explain`` prints for an alert with these labels."""
    (folder / "playbooks").mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text + (about if name.startswith("playbooks/") else ""))
    (folder / "alert.json").write_text(json.dumps({"alertname": "RedisDiskFull", **labels}))
    argv = ("explain", "--config", "remediator.yaml", "--alert", "alert.json", *more)
    done = commands.remediator(*argv, folder=folder, environment={})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_alert_of_another_host_shows_both_sides(tmp_path: Path) -> None:
    """The output has the label, both values and the relation. The next step is an escalation, as in the service."""
    shown = explain(tmp_path, {"instance": "10.20.30.40:9100"})
    assert "about    instance: alert '10.20.30.40:9100', target '10.0.0.5:9100': different" in shown
    assert "about    other: the alert has instance='10.20.30.40:9100'; redis has instance='10.0.0.5:9100'" in shown
    assert "plan     none: the alert is about something else" in shown
    assert "next     escalate: the alert has instance='10.20.30.40:9100'" in shown


@pytest.mark.parametrize(
    ("labels", "relation", "said"),
    [
        ({"instance": "10.0.0.5:9100"}, "about", "instance: alert '10.0.0.5:9100', target '10.0.0.5:9100': same"),
        (
            {},
            "unknown",
            "no label of the alert (alertname='RedisDiskFull') names redis, which has instance",
        ),
    ],
)
def test_the_relation_is_shown(tmp_path: Path, labels: dict[str, str], relation: str, said: str) -> None:
    """The output states whether the alert is about the target or has no identifying label."""
    shown = explain(tmp_path, labels)
    assert f"about    {relation}: " in shown
    assert said in shown


def test_an_alert_without_a_label_is_escalated_not_asked_about(tmp_path: Path) -> None:
    """An alert without an identifying label is escalated, and no approval is offered."""
    shown = explain(tmp_path, {})
    assert "plan     none: no label of the alert names a target" in shown
    assert "next     escalate: no label of the alert" in shown


def test_a_playbook_for_any_alert_says_why(tmp_path: Path) -> None:
    """The output, in text and JSON, shows the reason of ``about: {any: …}`` beside the comparison."""
    about = "about: {any: there is one host only}\n"
    other = {"instance": "10.20.30.40:9100"}
    assert "about    any label is accepted: there is one host only" in explain(tmp_path, other, about=about)
    data = json.loads(explain(tmp_path, other, "--format", "json", about=about))
    found = data[0]["playbooks"][0]["about"]
    assert (found["relation"], found["any"]) == ("other", "there is one host only")
    assert found["labels"] == [
        {"label": "instance", "alert": "10.20.30.40:9100", "service": "'10.0.0.5:9100'", "same": False}
    ]
