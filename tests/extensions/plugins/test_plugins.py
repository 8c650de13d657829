"""A plugin that the settings name is available everywhere; an unusable one is refused by name."""

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
OFF = ("min_healthy", "still_firing", "dependency", "regression")


def broken(site: Path, entry_points: str, code: str = "") -> str:
    """Install a package with these entry points into a folder, and return its name."""
    about = site / "broken_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    (site / "broken_plugin.py").write_text(code)
    return "broken-plugin"


def test_an_installed_plugin_that_the_settings_do_not_name_is_not_imported(installed: Path) -> None:
    """Installing a plugin does not run its code; the settings must name it."""
    assert "example.drain" not in Registry.load(()).catalogue().actions
    assert "remediator_example" not in sys.modules


def test_a_named_plugin_is_in_the_catalogue(installed: Path) -> None:
    """The catalogue for schema, lint, explain and test has the plugin's names and models."""
    registry = Registry.load([PACKAGE])

    known = registry.catalogue()
    assert list(known.actions["example.drain"].model_fields) == ["folder"]
    assert "example.drained" in known.checks
    assert known.traits["example.drain"].idempotent
    assert "example" in {notifier.kind for notifier in registry.notifiers}


@pytest.mark.parametrize(
    ("entry_points", "code", "because"),
    [
        ("", "", "is not a plugin: it has no entry point in remediator.actions, remediator.checks"),
        (
            "[remediator.verbs]\na = broken_plugin:A",
            "",
            "unknown group; known: actions, checks, guards, notifiers, witnesses",
        ),
        (
            "[remediator.actions]\na = broken_plugin:A",
            "raise OSError('no disk')",
            "cannot import broken_plugin:A: OSError: no disk",
        ),
        (
            "[remediator.actions]\na = broken_plugin:A",
            "raise SystemExit(7)",
            "cannot import broken_plugin:A: SystemExit: 7",
        ),
        ("[remediator.actions]\na = broken_plugin:A", "", "cannot import broken_plugin:A: AttributeError"),
        (
            "[remediator.actions]\na = broken_plugin:A",
            "A = 1",
            "it is not a subclass of remediator.plugin_api.Action",
        ),
        (
            "[remediator.actions]\na = broken_plugin:A",
            "from remediator.plugin_api import Action\nclass A(Action):\n    name = 'a'",
            "A does not implement execute, plan",
        ),
        (
            "[remediator.guards]\na = broken_plugin:A",
            "from remediator.plugin_api import Guard\nclass A(Guard):\n    name = 'b'",
            "A.name is 'b'; it must equal the name of the entry point",
        ),
        (
            "[remediator.guards]\nrate_limit = broken_plugin:A",
            "from remediator.plugin_api import Guard\nclass A(Guard):\n    name = 'rate_limit'",
            "remediator already has this name",
        ),
        ("[remediator.witnesses]\nmine = broken_plugin:A", "A = 1", "it is not a remediator.plugin_api.WitnessFactory"),
        (
            "[remediator.witnesses]\nfile = broken_plugin:A",
            "from remediator.plugin_api import Settings, WitnessFactory\nA = WitnessFactory(Settings, dict)",
            "remediator already has this name",
        ),
    ],
)
def test_an_unusable_plugin_is_rejected_with_a_reason(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str, code: str, because: str
) -> None:
    """The error names the package and the reason."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = broken(tmp_path, entry_points, code)

    with pytest.raises(PluginError, match="broken-plugin") as error:
        Registry.load([PACKAGE, name])

    assert because in str(error.value)


def test_two_packages_cannot_use_the_same_name(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second package is rejected, and the error names the first."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = broken(
        tmp_path,
        "[remediator.actions]\nexample.drain = broken_plugin:Drain",
        "from remediator_example.drain import Drain",
    )

    with pytest.raises(PluginError, match=f"{name}: entry point 'example.drain' .*: {PACKAGE} already has this name"):
        Registry.load([PACKAGE, name])


class Drained(Remediator):
    """A remediator with one playbook that uses the plugin."""

    forked = False

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
                "summary": "Drain the service from its pool.",
                "match": {"alertname": "AppSlow"},
                "mode": "auto",
                "target": "app",
                "guards": {"off": [{"guard": name, "reason": "not part of this test"} for name in OFF]},
                "conclude": [{"id": "slow", "when": "true", "cause": "The service is slow."}],
                "steps": [{"id": "drain", "for": "slow", "action": "example.drain", "with": dict(where)}],
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
        """Run a command of remediator."""
        argv = [sys.executable, "-m", "remediator", *arguments]
        environment = dict(self.environment())
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, cwd=self.folder)


@pytest.fixture
def drained(tmp_path: Path, site: Path) -> Iterator[Drained]:
    """Return a remediator that is not started."""
    made = Drained(tmp_path / "remediator", site)
    made.write()
    yield made
    made.stop()


def test_a_service_acts_and_verifies_with_a_plugin(drained: Drained) -> None:
    """An alert leads to the plugin's action, and the plugin's check verifies it."""
    drained.start()

    assert drained.post(drained.notification("firing", alertname="AppSlow", service="app"))[0] == 200

    run = drained.wait_for("succeeded")
    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("example.drain", "ok")]
    assert (drained.pool / "app").exists()


@pytest.fixture
def careless(tmp_path: Path, site: Path) -> Iterator[Drained]:
    """Return a remediator whose plugin raises an exception while it plans."""
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


def test_a_run_with_a_faulty_plugin_is_escalated(careless: Drained) -> None:
    """The run is escalated with the reason, and is not retried forever."""
    careless.start()
    careless.post(careless.notification("firing", alertname="AppSlow", service="app"))

    run = careless.wait_for("escalated")
    assert run["reason"] == "no_plan"
    assert careless.audit_has("internal error: KeyError: 'mistake'")


def test_the_service_does_not_start_without_a_named_plugin(drained: Drained) -> None:
    """The error is one line without a traceback."""
    drained.settings["plugins"] = ["remediator-missing"]
    drained.write()

    result = drained.tool("serve", "--config", str(drained.config))

    assert result.returncode != 0
    assert "plugins: 'remediator-missing' is not installed; install it" in result.stderr
    assert "Traceback" not in result.stderr


def test_schema_and_lint_know_the_named_plugin(drained: Drained) -> None:
    """``schema`` and ``lint`` know the parameters of the plugin only with the settings file."""
    wrong = yaml.safe_load((drained.folder / "playbooks/app-slow.yaml").read_text())
    wrong["steps"][0]["with"] = {"folders": "pool"}
    (drained.folder / "playbooks/app-slow.yaml").write_text(yaml.safe_dump(wrong))

    assert "example.drain" in drained.tool("playbook", "schema", "playbook", "--config", str(drained.config)).stdout
    assert "example.drain" not in drained.tool("playbook", "schema", "playbook").stdout
    assert "folders" in drained.tool("lint", "playbooks", "--config", str(drained.config)).stdout
