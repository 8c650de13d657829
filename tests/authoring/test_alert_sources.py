"""explain, playbook tests, backtests, the doctor and the check of the settings support alert sources."""

from __future__ import annotations

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.authoring.backtest import Event, History
from remediator.authoring.backtest.replay import replay
from remediator.authoring.doctor.base import Examination, Result
from remediator.authoring.doctor.sources import Sources
from remediator.authoring.testing.runner import run
from remediator.config import Config
from remediator.core.identity import People
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load, load_config
from tests.support import commands
from tests.support.servers import grafana

PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: restart-web
summary: Restart web.
match: {alertname: WebDown}
mode: auto
target: web
conclude: [{id: down, when: "true", cause: Web is down.}]
steps: [{id: restart, action: service.restart, for: down}]
verify: {settle: 1s, within: 1m, checks: [{check: service.running}]}
escalate: {to: [ops], message: Web is not well.}
"""
TEST = """\
apiVersion: remediator/v1
kind: PlaybookTest
playbook: restart-web
given: {checks: {service.running: [{answer: fail}, {answer: ok, after: service.restart}]}}
tests:
  - name: Grafana has the alert
    alerts: [{labels: {alertname: WebDown}, source: grafana}]
    expect: {guards: {still_firing: allow}, steps: {restart: ok}, outcome: succeeded}
  - name: Zabbix cannot be asked, so a person is
    alerts: [{labels: {alertname: WebDown}, source: zabbix, confirmed: false}]
    expect: {guards: {still_firing: unknown}, steps: {}, outcome: awaiting_approval}
  - name: the person approves
    alerts: [{labels: {alertname: WebDown}, source: zabbix, confirmed: false}]
    people: [{decide: approve}]
    expect: {steps: {restart: ok}, outcome: succeeded}
  - name: the alert ends before anyone decides
    alerts: [{labels: {alertname: WebDown}, source: zabbix, confirmed: false, until: 1m}]
    expect: {steps: {}}
"""
SETTINGS: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Config",
    "state": "state",
    "playbooks": ["playbooks"],
    "inventory": "inventory.yaml",
    "sources": {
        "zabbix": {
            "kind": "json",
            "token_file": "zabbix",
            "mapping": {
                "status": 'body.value == "0" ? "resolved" : "firing"',
                "labels": {"alertname": "body.name", "service": '"web"'},
            },
        }
    },
}
INVENTORY = """\
apiVersion: remediator/v1
kind: Inventory
services: {web: {platform: {kind: supervisor, url: "unix:///nonexistent.sock", program: web}}}
"""
BODY = {"value": "1", "name": "WebDown"}


def write(folder: Path, **sources: Any) -> Path:
    """Write an installation and return its settings file."""
    (folder / "playbooks").mkdir()
    (folder / "playbooks" / "restart-web.yaml").write_text(PLAYBOOK)
    (folder / "inventory.yaml").write_text(INVENTORY)
    (folder / "zabbix").write_text("the-token-of-zabbix")
    (folder / "api").write_text(grafana.TOKEN)
    for name in ("zabbix", "api"):
        (folder / name).chmod(0o600)
    settings = {**SETTINGS, "sources": {**SETTINGS["sources"], **sources}}
    (folder / "remediator.yaml").write_text(yaml.safe_dump(settings))
    return folder / "remediator.yaml"


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.remediator(*arguments, folder=folder, environment={})


@pytest.mark.process
def test_explain_maps_a_body_of_a_source(tmp_path: Path) -> None:
    """The output states that the alert cannot be confirmed.

    For an unmappable body or an unknown source, the output states the reason.
    """
    write(tmp_path)
    (tmp_path / "body.json").write_text(json.dumps(BODY))
    done = call(tmp_path, "explain", "--alert", "body.json", "--source", "zabbix", "--format", "json")
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert found["labels"] == {"alertname": "WebDown", "service": "web"}
    assert found["playbooks"][0]["matches"]
    (tmp_path / "bad.json").write_text("{}")
    bad = call(tmp_path, "explain", "--alert", "bad.json", "--source", "zabbix")
    assert (bad.returncode, "there is no 'name'" in bad.stderr) == (2, True), bad.stderr
    unknown = call(tmp_path, "explain", "--alert", "body.json", "--source", "nagios")
    assert "unknown source 'nagios'; known: alertmanager, zabbix" in unknown.stderr


def test_a_playbook_test_has_alerts_of_sources(tmp_path: Path) -> None:
    """For a source with an API, the run acts at once.

    For another source, the run asks a person, and does nothing after the alert has ended.
    """
    (tmp_path / "restart-web.yaml").write_text(PLAYBOOK)
    (tmp_path / "restart-web.test.yaml").write_text(TEST)
    report = run(tmp_path / "restart-web.test.yaml", Registry())
    assert not report.errors
    assert [str(item) for test in report.tests for item in test.diagnostics] == []
    assert len(report.tests) == 4


def test_a_backtest_maps_stored_bodies_with_their_source(tmp_path: Path) -> None:
    """Stored bodies from Zabbix predict a run. Bodies of a source that was removed predict nothing."""
    config = load_config(write(tmp_path), Config)
    registry = Registry.for_settings(config)
    loaded = load(config.playbooks, config.inventory, registry.catalogue())
    start = datetime(2026, 1, 1, tzinfo=UTC)
    body = json.dumps(BODY).encode()
    events = (Event(start, body, "zabbix"), Event(start + timedelta(minutes=1), body, "removed"))
    result = replay(History(start, start + timedelta(hours=1), events, "stored notifications"), loaded, config)
    assert [(item.playbook, item.target) for item in result.runs] == [("restart-web", "web")]
    assert result.episodes == 1


def examined(settings: Path) -> list[tuple[str, str, str]]:
    config = load_config(settings, Config)
    registry = Registry.for_settings(config)
    loaded = load(config.playbooks, config.inventory, registry.catalogue())
    about = Examination(settings, config, registry, loaded, People(), datetime.now(UTC))

    async def results() -> list[Result]:
        return [each async for each in Sources().run(about)]

    return [(each.level.value, each.subject, each.text) for each in asyncio.run(results())]


def test_the_doctor_asks_each_source(tmp_path: Path) -> None:
    """The doctor accepts Grafana with the right token only, and warns about a source without an API."""
    with grafana.grafana() as running:
        running.fire(alertname="WebDown")
        api = {"url": running.url, "token_file": "api"}
        right = {"kind": "grafana", "token_file": "zabbix", "api": api}
        wrong = {**right, "api": {"url": running.url, "token_file": "zabbix"}}
        found = {name: (level, text) for level, name, text in examined(write(tmp_path, good=right, bad=wrong))}
    assert found["good"] == ("ok", "alerts arrive at /api/v1/alerts/good; 1 alerts have not ended there")
    assert found["bad"][0] == "failed" and "401" in found["bad"][1]
    assert found["zabbix"][0] == "warning" and "has no API" in found["zabbix"][1]


@pytest.mark.process
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"mapping": {"status": "body.x = 1", "labels": {"alertname": "body.n"}}}, "write == to compare"),
        ({"mapping": {"status": "body.x"}}, "missing key 'labels'"),
        ({"mapping": {"status": "body.x", "labels": {"job": "body.n"}}}, "must have alertname"),
        ({"kind": "nagios"}, "unknown kind of source 'nagios'"),
        ({"api": {"url": "http://x"}}, "unknown key 'api'"),
        ({"token_file": None}, "authentication is required: set token_file, tokens, basic or hmac"),
        ({"hmac": {"secret_files": [], "header": "X"}}, "at least 1 item"),
        ({"hmac": {"secret_files": ["zabbix"], "header": "X Y"}}, "header"),
    ],
)
def test_wrong_settings_of_a_source_are_reported_with_their_place(
    tmp_path: Path, changes: dict[str, Any], where: str
) -> None:
    """The check of the settings and the start of the service report a wrong setting with its place."""
    given = {key: value for key, value in {**SETTINGS["sources"]["zabbix"], **changes}.items() if value is not None}
    write(tmp_path, zabbix=given)
    done = call(tmp_path, "config", "check")
    assert done.returncode == 2
    assert where in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    place = next(line for line in done.stderr.splitlines() if line.startswith("remediator.yaml:"))
    assert place.split(":")[1].isdigit() and place.split(":")[2].isdigit()
    if "mapping" in changes:
        assert where in call(tmp_path, "serve").stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sources": {"alertmanager": {"kind": "json", "token_file": "zabbix"}}}, "give this source another name"),
        ({"watchdog": {"source": "nagios"}}, "unknown source 'nagios'"),
        ({"sources": {"Big Name": {"kind": "json", "token_file": "zabbix"}}}, "Big Name"),
    ],
)
def test_names_of_sources_are_checked(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    """A reserved name is an error, and so is a Watchdog that comes from an unknown source."""
    path = write(tmp_path)
    path.write_text(yaml.safe_dump({**SETTINGS, **changes}))
    done = call(tmp_path, "config", "check")
    assert done.returncode == 2 and why in done.stderr, done.stderr
