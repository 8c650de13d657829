"""What a package brings is known everywhere once the settings name it; what is wrong with it is told by name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from remediator.extensions.plugins import PluginError
from remediator.extensions.registry import Registry
from tests.support.servers.remediator import ROOT, Remediator

PACKAGE = "remediator-example"
OFF = ("min_healthy", "still_firing", "dependency", "got_worse")


def broken(site: Path, entry_points: str, code: str = "") -> str:
    """Install a package with these entry points into a folder; its name."""
    about = site / "broken_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    (site / "broken_plugin.py").write_text(code)
    return "broken-plugin"


def test_what_is_installed_but_not_named_is_not_loaded(installed: Path) -> None:
    """A plugin is code: being installed is not enough, and none of it is imported."""
    registry.load(())

    assert "example.drain" not in Registry().catalogue().actions
    assert "remediator_example" not in sys.modules


def test_what_is_named_is_known_with_its_parameters(installed: Path) -> None:
    """The catalogue that schema, lint, explain and test go by has the plugin's names and models."""
    registry.load([PACKAGE])

    known = Registry().catalogue()
    assert list(known.actions["example.drain"].model_fields) == ["folder"]
    assert "example.drained" in known.checks
    assert known.traits["example.drain"].idempotent
    assert "example" in {notifier.kind for notifier in Registry().notifiers}


@pytest.mark.parametrize(
    ("entry_points", "code", "because"),
    [
        ("", "", "so it is no plugin"),
        ("[remediator.verbs]\na = broken_plugin:A", "", "there is no such group"),
        (
            "[remediator.extensions.actions]\na = broken_plugin:A",
            "raise OSError('no disk')",
            "cannot be imported: OSError: no disk",
        ),
        (
            "[remediator.extensions.actions]\na = broken_plugin:A",
            "raise SystemExit(7)",
            "cannot be imported: SystemExit: 7",
        ),
        ("[remediator.extensions.actions]\na = broken_plugin:A", "", "cannot be imported: AttributeError"),
        (
            "[remediator.extensions.actions]\na = broken_plugin:A",
            "A = 1",
            "not a class derived from remediator.extensions.actions.Action",
        ),
        (
            "[remediator.extensions.actions]\na = broken_plugin:A",
            "from remediator.extensions.actions.base import Action\nclass A(Action):\n    name = 'a'",
            "A lacks execute, plan",
        ),
        (
            "[remediator.extensions.guards]\na = broken_plugin:A",
            "from remediator.extensions.guards.base import Guard\nclass A(Guard):\n    name = 'b'",
            "A.name is 'b', not the name of the entry point",
        ),
        (
            "[remediator.extensions.guards]\nbudget = broken_plugin:A",
            "from remediator.extensions.guards.base import Guard\nclass A(Guard):\n    name = 'budget'",
            "remediator has one of this name already",
        ),
        ("[remediator.extensions.witnesses]\nmine = broken_plugin:A", "A = 1", "not a function that makes a notary"),
        (
            "[remediator.extensions.witnesses]\nfile = broken_plugin:A",
            "A = dict",
            "remediator has one of this name already",
        ),
    ],
)
def test_a_broken_plugin_is_told_by_name(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str, code: str, because: str
) -> None:
    """The error names the package and the reason, and what was there before stays."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = broken(tmp_path, entry_points, code)
    registry.load([PACKAGE])

    with pytest.raises(PluginError, match="broken-plugin") as error:
        registry.load([PACKAGE, name])

    assert because in str(error.value)
    assert "example.drain" in Registry().catalogue().actions


def test_two_packages_may_not_have_the_same_name(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second to bring a name is refused, and the first is named."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = broken(
        tmp_path,
        "[remediator.extensions.actions]\nexample.drain = broken_plugin:Drain",
        "from remediator_example.drain import Drain",
    )

    with pytest.raises(PluginError, match=f"{name}: entry point example.drain .*: {PACKAGE} has one"):
        registry.load([PACKAGE, name])


class Drained(Remediator):
    """A remediator whose one playbook is made of the plugin's words."""

    def __init__(self, folder: Path, site: Path) -> None:
        super().__init__(folder)
        self.site = site
        self.pool = folder / "pool"
        self.pool.mkdir(parents=True)
        where = {"folder": str(self.pool)}
        self.playbooks = [
            {
                "apiVersion": "remediator/v1",
                "kind": "Playbook",
                "name": "app-slow",
                "summary": "Take it out of its pool.",
                "match": {"alertname": "AppSlow"},
                "mode": "auto",
                "target": "app",
                "guards": {"off": [{"guard": name, "reason": "nobody to ask in this test"} for name in OFF]},
                "steps": [{"id": "drain", "action": "example.drain", "with": dict(where)}],
                "verify": {
                    "settle": "0s",
                    "within": "30s",
                    "checks": [{"check": "example.drained", "with": dict(where)}],
                },
                "escalate": {"to": ["page"], "message": "still slow"},
            }
        ]
        platform = {"kind": "supervisor", "url": "unix:///nowhere.sock", "program": "app"}
        self.inventory["services"] = {"app": {"platform": platform, "owner": "page"}}
        self.settings["plugins"] = [PACKAGE]
        self.settings["channels"] = {"page": {"kind": "example", "path": str(folder / "page.html")}}
        self.settings["approvals"] = {"channels": ["page"]}

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.site)])}

    def tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the remediator."""
        argv = [sys.executable, "-m", "remediator", *arguments]
        environment = dict(self.environment())
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, cwd=self.folder)


@pytest.fixture
def drained(tmp_path: Path, site: Path) -> Iterator[Drained]:
    """It, not started."""
    made = Drained(tmp_path / "remediator", site)
    made.write()
    yield made
    made.stop()


def test_a_service_acts_and_proves_by_a_plugin(drained: Drained) -> None:
    """An alert ends in the plugin's action, proved by the plugin's check."""
    drained.start()

    assert drained.post(drained.notification("firing", alertname="AppSlow"))[0] == 200

    run = drained.wait_for("succeeded")
    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("example.drain", "ok")]
    assert (drained.pool / "app").exists()


@pytest.fixture
def careless(tmp_path: Path, site: Path) -> Iterator[Drained]:
    """The same, installed for itself, with a mistake in the planning of its action."""
    own = tmp_path / "site"
    shutil.copytree(site, own)
    source = own / "remediator_example/drain.py"
    text = re.sub(
        r"(async def plan\(.*?-> PlannedCall:\n)", r'\1        {}["mistake"]\n', source.read_text(), flags=re.S
    )
    assert "mistake" in text
    source.write_text(text)
    made = Drained(tmp_path / "remediator", own)
    made.write()
    yield made
    made.stop()


def test_a_mistake_in_a_plugin_keeps_no_alert_from_people(careless: Drained) -> None:
    """Its action cannot be planned: the run ends with people, who read why, and is not tried for ever unseen."""
    careless.start()
    careless.post(careless.notification("firing", alertname="AppSlow"))

    run = careless.wait_for("escalated")
    assert run["reason"] == "no_plan"
    assert careless.audit_has("a defect: KeyError: 'mistake'")


def test_a_broken_plugin_ends_the_start_with_a_sentence(drained: Drained) -> None:
    """The service does not start without what its settings name, and says so without a traceback."""
    drained.settings["plugins"] = ["remediator-missing"]
    drained.write()

    told = drained.tool("serve", "--config", str(drained.config))

    assert told.returncode != 0
    assert "plugins: remediator-missing: there is no such package installed" in told.stderr
    assert "Traceback" not in told.stderr


def test_schema_and_lint_know_what_the_settings_name(drained: Drained) -> None:
    """With the settings file the plugin's parameters are known; without it they are not."""
    wrong = yaml.safe_load((drained.folder / "playbooks/app-slow.yaml").read_text())
    wrong["steps"][0]["with"] = {"folders": "pool"}
    (drained.folder / "playbooks/app-slow.yaml").write_text(yaml.safe_dump(wrong))

    assert "example.drain" in drained.tool("schema", "playbook", "--config", str(drained.config)).stdout
    assert "example.drain" not in drained.tool("schema", "playbook").stdout
    assert "folders" in drained.tool("lint", "playbooks", "--config", str(drained.config)).stdout
